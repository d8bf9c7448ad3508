"""Connections to a database file: what each is told, and the OS lock under which they write and close.

SQLite before 3.51.3 can lose a reset of the log when two connections write or checkpoint at once;
so no connection checkpoints by itself, and every close, since the last one checkpoints, happens
under the write lock. Readers are opened for writing with ``query_only``: a read-only connection
that closes last would leave the log's two files behind.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from batchrunner.errors import BusyError
from batchrunner.store.sqlite.locks import FileLock, held_by_this_thread, write_lock_path

__all__ = ["PRAGMAS", "apply_pragmas", "closing_under_lock", "connect", "engine_of", "write_lock"]

#: What every connection is told, in this order.
PRAGMAS: Final = (
    # How long a statement waits for another connection's transaction, in ms.
    ("busy_timeout", "10000"),
    # Readers and the writer don't wait for each other.
    ("journal_mode", "WAL"),
    # A commit is on the disk when it returns: an answer that was counted is never lost.
    ("synchronous", "FULL"),
    # Rows that belong together go together.
    ("foreign_keys", "ON"),
    # Checkpoints are made by the holder, under the write lock (see above).
    ("wal_autocheckpoint", "0"),
    # An emptied log does not keep its largest size.
    ("journal_size_limit", "16777216"),
    # Sorting happens in memory: nothing of a request is written outside the database.
    ("temp_store", "MEMORY"),
    # 32 MB of pages; SQLite's default of 2 MB thrashes on the index of a million keys.
    ("cache_size", "-32768"),
)

#: How long a short write waits for others' short writes, in seconds.
_WRITE_LOCK_WAIT_S: Final = 60.0


def engine_of(connect: Callable[[], sqlite3.Connection], begin: str) -> sa.Engine:
    """Return an engine whose transactions begin with ``begin``; nothing is pooled."""
    engine = sa.create_engine("sqlite+pysqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def connect(
    path: Path, *, query_only: bool = False, any_thread: bool = False
) -> sqlite3.Connection:
    """Connect to the file, which must be there."""
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=not any_thread,
    )
    try:
        apply_pragmas(connection)
        if query_only:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def apply_pragmas(connection: Any) -> None:
    """Tell a fresh driver connection everything in :data:`PRAGMAS`."""
    for name, value in PRAGMAS:
        connection.execute(f"PRAGMA {name} = {value}")


@contextmanager
def write_lock(path: Path) -> Iterator[None]:
    """Hold the OS write lock of the database at ``path``."""
    lock = FileLock(write_lock_path(path))
    if not lock.acquire(_WRITE_LOCK_WAIT_S):
        raise BusyError(
            f"Another process has been writing to {path} for a minute.",
            fix="Wait until it is done, or stop it, and try again.",
        )
    try:
        yield
    finally:
        lock.release(unlink=True)


@contextmanager
def closing_under_lock(path: Path, engine: sa.Engine) -> Iterator[sa.Connection]:
    """Give a connection that is closed under the write lock."""
    connection = engine.connect()
    try:
        yield connection
    finally:
        # Within a write of this thread another connection stays open, so that this close is not
        # the last and copies nothing; waiting for our own lock would never end.
        nested = held_by_this_thread(write_lock_path(path))
        with nullcontext() if nested else write_lock(path):
            connection.close()
