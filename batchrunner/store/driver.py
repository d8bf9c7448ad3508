"""What the store asks of a connection: a few methods that two drivers have.

``sqlite3.Connection`` is a :class:`DriverConnection` as it stands;
:class:`batchrunner.store.postgres.connection.PgConnection` is the other. The engine only hands one
from the writer to the statements. Statements are written in what both databases understand;
:mod:`batchrunner.store.postgres.dialect` has what is spelled differently.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, Final, Protocol, cast

import sqlalchemy as sa

__all__ = [
    "DUPLICATE",
    "Connection",
    "Cursor",
    "DriverConnection",
    "DuplicateError",
    "Lock",
    "driver",
]


class Cursor(Protocol):
    """What a statement brought."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""
        ...

    def fetchone(self) -> Any:
        """Return the next row, ``None`` where there is none."""
        ...

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        ...

    def __iter__(self) -> Iterator[Any]:
        """Yield the rows that are left."""
        ...


class DriverConnection(Protocol):
    """A driver's connection; ``?`` and ``?1`` stand for parameters."""

    def execute(self, sql: str, parameters: Any = ..., /) -> Cursor:
        """Execute a statement."""
        ...

    def executemany(self, sql: str, parameters: Any, /) -> object:
        """Execute a statement for each row of parameters."""
        ...


class Connection(Protocol):
    """What views ask of a connection; SQLAlchemy's has it."""

    @property
    def connection(self) -> Any:
        """Has the driver's connection as ``driver_connection``."""
        ...

    def execute(self, statement: Any, /) -> sa.Result[*tuple[Any, ...]]:
        """Execute a statement that SQLAlchemy made."""
        ...

    def exec_driver_sql(
        self, statement: str, parameters: Any = ..., /
    ) -> sa.Result[*tuple[Any, ...]]:
        """Execute a text."""
        ...

    def scalars(self, statement: Any, /) -> sa.ScalarResult[Any]:
        """Execute a statement and return the first column."""
        ...

    def scalar(self, statement: Any, /) -> Any:
        """Execute a statement and return the first value, ``None`` where there is none."""
        ...


class Lock(Protocol):
    """Held by one process at a time, and given up by its death."""

    @property
    def name(self) -> str:
        """What others on the database call this lock."""
        ...

    @property
    def is_held(self) -> bool:
        """Whether this instance holds it."""
        ...

    def try_acquire(self) -> bool:
        """Take the lock if it is free; return whether this instance holds it now."""
        ...

    def release(self, *, unlink: bool = False) -> None:
        """Give it up; does nothing where it is not held."""
        ...


class DuplicateError(Exception):
    """A row has a key that another has (of a driver without a class of its own for that)."""


#: What drivers raise for a key that is taken.
DUPLICATE: Final = (sqlite3.IntegrityError, DuplicateError)


def driver(connection: Connection) -> DriverConnection:
    """Return the plain driver's connection, for statements that run a million times."""
    return cast("DriverConnection", connection.connection.driver_connection)
