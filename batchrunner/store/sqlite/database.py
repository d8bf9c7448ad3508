"""One database file, as the store's functions use it.

Promises: a file that is opened is ours and has the current schema; everything beside it is readable
by its owner alone; every writing transaction is ``BEGIN IMMEDIATE`` under the OS write lock; a clean
close of the last connection leaves one file. Refuses: other programs' databases, newer schemas,
network file systems, SQLite before 3.35.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from pathlib import Path
from typing import cast

import sqlalchemy as sa

from batchrunner.clock import Clock
from batchrunner.errors import UsageError
from batchrunner.models import RunId
from batchrunner.store.database import Patience, Queue, Writer
from batchrunner.store.driver import Connection, Lock, driver
from batchrunner.store.faults import translated
from batchrunner.store.seen import go_on_from
from batchrunner.store.sqlite.building import (
    build,
    check_sqlite,
    has_content,
    missing,
    refuse_network,
    refuse_no_folder,
    settle_standing,
)
from batchrunner.store.sqlite.connecting import (
    closing_under_lock,
    connect,
    engine_of,
    write_lock,
)
from batchrunner.store.sqlite.copies import copies
from batchrunner.store.sqlite.locks import (
    FileLock,
    ProcessLock,
    is_alive,
    is_part,
    process_lock_files,
    sender_lock_path,
)
from batchrunner.store.sqlite.shrink import refuse_full, shrink
from batchrunner.store.workers import NO_WORKERS, Workers

__all__ = ["FileDatabase", "FileSession", "no_queue"]


def no_queue(path: Path) -> UsageError:
    """Return what is said to workers of a file."""
    return UsageError(
        f"Workers share a queue on PostgreSQL; {path} is a file, from which one process sends.",
        fix="Send what it has with `batchrunner resume --all`, or name a server:"
        " --db postgresql+asyncpg://HOST/DATABASE?user=USER",
    )


class FileDatabase:
    """An existing, current database; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Wrap the path of a database known to be good; use :meth:`open`."""
        self.path = path
        self._reader = engine_of(lambda: connect(path, query_only=True), "BEGIN")
        self._writer = engine_of(lambda: connect(path), "BEGIN IMMEDIATE")

    @classmethod
    def open(
        cls, path: Path, *, create: bool, upgraded: Callable[[Path], None] = lambda _copy: None
    ) -> FileDatabase:
        """Open the database at ``path``; build it first where there is none and ``create`` is true.

        An older schema is upgraded after a copy beside it, which ``upgraded`` is told of. Raises
        :class:`NoDatabaseError`, :class:`BusyError` (an upgrade while a process runs on it),
        :class:`DatabaseError`.
        """
        check_sqlite()
        path = Path(os.path.abspath(path))  # noqa: PTH100 -- resolve() would move the locks of a linked file
        if path.is_symlink():
            # Locks must stand beside the one real file, whatever it is called here.
            path = path.resolve()
        with translated(path):
            if not has_content(path):
                if not create:
                    raise missing(path)
                refuse_no_folder(path)
                refuse_network(path)
                build(path)
            else:
                refuse_network(path)
            copy = settle_standing(path, create=create)
        if copy is not None:
            upgraded(copy)
        return cls(path)

    @property
    def name(self) -> str:
        """The database as a person is told of it."""
        return str(self.path)

    @property
    def log(self) -> Path | None:
        """The file that a checkpoint empties; ``None``: there is none."""
        return self.path.with_name(f"{self.path.name}-wal")

    def is_part(self, path: Path) -> bool:
        """Return whether a file is the database, or belongs to it."""
        return is_part(self.path, path)

    def is_gone(self) -> bool:
        """Return whether somebody has taken the file away since it was opened."""
        return not self.path.exists()

    def copies(self, uids: Collection[str]) -> list[Path]:
        """Return the copies of the database that still have one of these runs."""
        with self.read() as connection:
            return copies(connection, self.path, uids)

    def n_bytes(self) -> int:
        """Return how large it is."""
        return self.path.stat().st_size

    def translating(self) -> AbstractContextManager[None]:
        """Turn the errors of a driver and of the system into ours, within the context."""
        return translated(self.path)

    # --- who is on it

    def sender_lock(self) -> Lock:
        """Return the lock of whoever sends, not yet taken."""
        return FileLock(sender_lock_path(self.path))

    def queue(self) -> Queue:
        """Return what workers share. Raises :class:`UsageError`: a file has one sender."""
        raise no_queue(self.path)

    def clock(self, connection: Connection, *, is_alone: bool) -> Clock:
        """Return this machine's clocks, which go on from where former processes were."""
        return go_on_from(driver(connection), is_alone=is_alone)

    def is_sent_from(self) -> bool:
        """Return whether a process holds the sender lock now."""
        return is_alive(sender_lock_path(self.path))

    def process_lock(self) -> Lock:
        """Take a lock of this process's own, for its life."""
        return ProcessLock.create(self.path)

    def is_alive(self, name: str) -> bool:
        """Return whether the process whose own lock has this name lives."""
        return is_alive(self.path.with_name(name))

    def regain_process_locks(self) -> None:
        """Only a death takes a file's."""

    def who_is_alive(self) -> Callable[[str], bool]:
        """Return what tells of each name whether its process lives."""
        return self.is_alive

    def sweep_locks(self) -> None:
        """Remove what dead processes left of their locks."""
        for path in process_lock_files(self.path):
            lock = FileLock(path)
            if lock.try_acquire():
                lock.release(unlink=True)

    def workers(self, _connection: Connection, _runs: Collection[RunId]) -> Workers:
        """A file has none."""
        return NO_WORKERS

    # --- transactions

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that can't write, in one read transaction (one snapshot)."""
        with translated(self.path), closing_under_lock(self.path, self._reader) as connection:
            snapshot = connection.begin()
            try:
                yield connection
            finally:
                # Not a commit: that would fail where the file is damaged, and hide what was read.
                snapshot.rollback()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection in one short writing transaction, committed at the end.

        Rolled back where the block raises. The OS write lock is held from before the transaction
        until after the close.
        """
        with (
            translated(self.path),
            write_lock(self.path),
            self._writer.connect() as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def session(self) -> Iterator[FileSession]:
        """Give a connection for a series of writing transactions, each under the write lock."""
        with translated(self.path), closing_under_lock(self.path, self._writer) as connection:
            yield FileSession(connection, self.path)

    def writer(self, _patience: Patience | None = None) -> AbstractAsyncContextManager[Writer]:
        """Open the holder's connection; only the process with the sender lock may. A file is never away."""
        from batchrunner.store.sqlite.writer import open_writer  # noqa: PLC0415 (no view writes so)

        return open_writer(self.path, lambda: connect(self.path, any_thread=True))


class FileSession:
    """One connection that writes in several short transactions."""

    def __init__(self, connection: sa.Connection, path: Path) -> None:
        """Wrap an open connection."""
        self._connection = connection
        self._path = path

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Run a block as one transaction under the write lock."""
        with translated(self._path), write_lock(self._path), self._connection.begin():
            yield self._connection

    def driver(self) -> sqlite3.Connection:
        """Return the driver's connection, for what must stand outside a transaction."""
        return cast("sqlite3.Connection", self._connection.connection.driver_connection)

    def relax(self) -> None:
        """Have commits be durable together with the first one after :meth:`insist`."""
        self.driver().execute("PRAGMA synchronous = NORMAL")

    def insist(self) -> None:
        """Have each commit be durable when it returns, as it is unless :meth:`relax` was called."""
        self.driver().execute("PRAGMA synchronous = FULL")

    def overwrite(self) -> None:
        """Have what is deleted be overwritten with zeros from now on."""
        self.driver().execute("PRAGMA secure_delete = ON")

    def refuse_full(self, n_doomed: int) -> None:
        """Raise :class:`DiskFullError` where the disk has no room for :meth:`shrink` without so many bytes."""
        refuse_full(self.driver(), self._path, n_doomed=n_doomed)

    def shrink(self) -> bool:
        """Rewrite the file without gaps; return whether it is cut."""
        return shrink(self.driver(), self._path)

    def relieve(self) -> bool:
        """Copy the log into the database if nobody sends; return whether that is done with."""
        # Without the sender's lock a holder might commit at the same time (see above).
        sender = FileLock(sender_lock_path(self._path))
        if not sender.try_acquire():
            return False
        try:
            self.checkpoint()
        finally:
            sender.release(unlink=True)
        return True

    def checkpoint(self) -> None:
        """Copy the log into the database; only while the caller holds the sender lock."""
        with translated(self._path), write_lock(self._path):
            self.driver().execute("PRAGMA wal_checkpoint(PASSIVE)")
