"""Where a copy of a database is put: an empty place, which nobody sees anything in before it is whole."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from batchrunner.places import Place
from batchrunner.store.driver import DriverConnection
from batchrunner.store.opening import reaching
from batchrunner.store.sqlite.receiving import receiving_file

__all__ = ["receiving"]


def receiving(place: Place) -> AbstractContextManager[DriverConnection]:
    """Give a connection to a current, empty database; at the end of the context it is at ``place``, whole.

    Where the context raises, nothing is. Raises :class:`~batchrunner.errors.UsageError` where
    something is there already, :class:`~batchrunner.errors.DatabaseError` where it can't be made.
    """
    if isinstance(place, Path):
        return receiving_file(place)
    with reaching():
        from batchrunner.store.postgres.receiving import receiving_schema  # noqa: PLC0415 (an extra)
    return receiving_schema(place)
