"""The holder's one writing connection: whole transactions as single hops to its thread.

SQLAlchemy and aiosqlite own the connection and its thread; a transaction is one function that runs
on that thread with the plain driver, since a hop a statement would cost more than the statements
(eight to ten hops a transaction, measured). A cancelled awaiter never cancels a commit.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar, cast

import aiosqlite
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from batchrunner.failpoints import hit
from batchrunner.store.database import CheckpointMode, nothing
from batchrunner.store.driver import DriverConnection
from batchrunner.store.faults import translated
from batchrunner.store.sqlite.locks import FileLock, write_lock_path

__all__ = ["FileWriter", "ThreadConnection", "open_writer"]

T = TypeVar("T")

#: How long a checkpoint that empties the log waits for readers, in milliseconds.
_TRUNCATE_WAIT_MS: Final = 1000
#: How long closing waits for another process's short write, in seconds.
_CLOSE_WAIT_S: Final = 30.0


class ThreadConnection(aiosqlite.Connection):
    """An aiosqlite connection that also runs whole functions on its thread."""

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Call ``function`` with the driver's connection on the connection's thread: one hop."""
        execute: Callable[..., Awaitable[T]] = self._execute
        return await execute(function, self._conn)

    @property
    def driver(self) -> sqlite3.Connection:
        """The driver's connection, for a caller that keeps the thread from using it meanwhile."""
        return self._conn


class FileWriter:
    """What the holder writes through; calls are executed one after another, in order."""

    #: Whether a cycle's rows go as statements of many values (:func:`.cycle.prepare`).
    packs: ClassVar[bool] = True

    def __init__(self, connection: ThreadConnection, path: Path) -> None:
        """Wrap an open connection to the database at ``path``."""
        self._connection = connection
        self._path = path
        #: One transaction at a time.
        self._turn = asyncio.Lock()

    @property
    def n_losses(self) -> int:
        """A file is never away."""
        return 0

    async def transact(
        self,
        function: Callable[[DriverConnection], T],
        *,
        before: Callable[[], None] = nothing,
        once: bool = False,  # noqa: ARG002 -- a file is never away
    ) -> T:
        """Run ``function`` in one ``BEGIN IMMEDIATE`` transaction and return its value once committed.

        ``before`` is called on the same thread, while nothing is locked yet.
        Rolled back on any exception. A cancelled caller leaves the transaction to end by itself.
        Raises :class:`DatabaseError` (``DiskFullError`` where space ran out).
        """

        def transaction(connection: sqlite3.Connection) -> T:
            before()
            connection.execute("BEGIN IMMEDIATE")
            try:
                value = function(connection)
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise
            return value

        async with self._turn:
            return await self._run(transaction)

    async def compute(
        self,
        function: Callable[[DriverConnection], T],
        *,
        beside: bool = False,  # noqa: ARG002 -- a file has one sender
    ) -> T:
        """As :meth:`transact`, but ``function`` runs here, on the caller's thread.

        What waits for others or for the disk (``BEGIN IMMEDIATE``, ``COMMIT``) still runs on the
        connection's thread. What only computes costs less here, since each step of a statement on
        another thread hands the interpreter lock to and fro (a quarter of a drain's time,
        measured); and it may touch what belongs to the event loop. For functions of a few
        milliseconds.
        """
        async with self._turn:
            try:
                await self._run(_begin)
                with translated(self._path):
                    value = function(self._connection.driver)
                await self._run(_commit)
            except BaseException:
                # Behind whatever a cancelled caller has left under way.
                await self._run(_roll_back)
                raise
            return value

    async def query(self, function: Callable[[DriverConnection], T]) -> T:
        """Run ``function``, which only reads, on the connection's thread."""
        return await self._run(function)

    async def data_version(self) -> int:
        """Return a number that changes whenever another connection has committed."""
        return await self._run(
            lambda connection: int(connection.execute("PRAGMA data_version").fetchone()[0])
        )

    async def checkpoint(self, mode: CheckpointMode = "PASSIVE") -> bool:
        """Copy the log into the database under the write lock; return whether all of it was.

        ``PASSIVE`` does nothing while another process writes; ``TRUNCATE`` waits, and empties the log.
        """
        return await self._run(lambda connection: _checkpoint(connection, self._path, mode))

    async def settle(self) -> None:
        """Wait until everything handed over so far has been executed."""
        await self._run(lambda _: None)

    async def _run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``function`` on the connection's thread, which it reaches before this first suspends.

        Neither a task nor a shield around it: each would cost a turn of a loop that is busy with a
        hundred answers (measured: a third of the time from claim to claim). A cancelled caller
        takes only its own future along; the thread executes what was handed to it.
        """
        with translated(self._path):
            return await self._connection.run(function)


@asynccontextmanager
async def open_writer(
    path: Path, connect: Callable[[], sqlite3.Connection]
) -> AsyncIterator[FileWriter]:
    """Open the writing connection; at the end empty the log and close, under the write lock."""

    async def create() -> ThreadConnection:
        connection = ThreadConnection(connect, iter_chunk_size=64)
        # An interpreter that dies by an exception must not wait for this thread.
        connection._thread.daemon = True  # noqa: SLF001 -- as SQLAlchemy itself does
        await connection
        return connection

    engine = create_async_engine(
        "sqlite+aiosqlite://", async_creator=create, poolclass=NullPool, echo=False
    )

    @event.listens_for(engine.sync_engine, "begin")
    def _begin_at_once(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    with translated(path):
        held = engine.connect()
        await held.start()
    lock = FileLock(write_lock_path(path))
    try:
        raw = await held.get_raw_connection()
        thread = cast("ThreadConnection", raw.driver_connection)
        writer = FileWriter(thread, path)
        try:
            yield writer
        finally:
            await writer.settle()
            # What could not be emptied is there for the next process.
            with suppress(sqlite3.Error, OSError):
                await thread.run(lambda connection: _close_log(connection, lock))
    finally:
        await held.close()
        await engine.dispose()
        lock.release(unlink=True)


def _begin(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")


def _commit(connection: sqlite3.Connection) -> None:
    connection.execute("COMMIT")


def _roll_back(connection: sqlite3.Connection) -> None:
    # A full disk may have rolled it back already.
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _checkpoint(connection: sqlite3.Connection, path: Path, mode: CheckpointMode) -> bool:
    lock = FileLock(write_lock_path(path))
    if not (lock.try_acquire() if mode == "PASSIVE" else lock.acquire(_CLOSE_WAIT_S)):
        return False
    try:
        return _run_checkpoint(connection, mode)
    finally:
        lock.release(unlink=True)


def _run_checkpoint(connection: sqlite3.Connection, mode: CheckpointMode) -> bool:
    if mode == "PASSIVE":
        busy, in_log, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    else:
        (timeout,) = connection.execute("PRAGMA busy_timeout").fetchone()
        connection.execute(f"PRAGMA busy_timeout = {_TRUNCATE_WAIT_MS}")
        try:
            busy, in_log, copied = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.execute(f"PRAGMA busy_timeout = {int(timeout)}")
    return not busy and in_log == copied


def _close_log(connection: sqlite3.Connection, lock: FileLock) -> None:
    lock.acquire(_CLOSE_WAIT_S)
    if connection.in_transaction:
        connection.execute("ROLLBACK")
    hit("close.before")
    _run_checkpoint(connection, "TRUNCATE")
    hit("close.emptied")
