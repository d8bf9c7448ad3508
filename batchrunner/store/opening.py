"""Opens a database wherever it is: a file, or a schema on a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from batchrunner.errors import UsageError
from batchrunner.places import Place
from batchrunner.store.database import Database
from batchrunner.store.inspection import DatabaseFacts, inspect, open_current
from batchrunner.store.sqlite.database import FileDatabase

if TYPE_CHECKING:
    from batchrunner.store.postgres.database import PgDatabase

__all__ = ["inspect_at", "open_database", "open_if_current", "reaching"]


def open_database(
    place: Place, *, create: bool, upgraded: Callable[[Path], None] = lambda _copy: None
) -> Database:
    """Open the database at ``place``; build it first where there is none and ``create`` is true.

    An older schema is upgraded; ``upgraded`` is told of the copy of a file. Raises
    :class:`~batchrunner.errors.DatabaseError`, and :class:`UsageError` where the driver is missing.
    """
    if isinstance(place, Path):
        return FileDatabase.open(place, create=create, upgraded=upgraded)
    return _driven().open_at(place, create=create)


def open_if_current(place: Place) -> Database | None:
    """Return the database, ``None`` where there is none that can be used as it stands."""
    if isinstance(place, Path):
        return open_current(place)
    return _driven().open_if_current(place)


def inspect_at(place: Place, *, within_s: float) -> DatabaseFacts | None:
    """Look at the database at ``place`` without changing it; ``None`` where there is none."""
    if isinstance(place, Path):
        return inspect(place, within_s=within_s)
    return _driven().inspect(place)


def _driven() -> type[PgDatabase]:
    with reaching():
        from batchrunner.store.postgres.database import PgDatabase  # noqa: PLC0415 (an extra)
    return PgDatabase


@contextmanager
def reaching() -> Iterator[None]:
    """Say within the context what to install where PostgreSQL's driver is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise UsageError(
            "PostgreSQL is reached with asyncpg, which is not installed.",
            fix="Install it: pip install 'batchrunner[postgres]'.",
        ) from error
