"""One database file: opened, checked, created or upgraded, and connected to.

Promises: a file that is opened is ours and has the current schema; everything beside it is readable
by its owner alone; every writing transaction is ``BEGIN IMMEDIATE`` under the OS write lock; a clean
close of the last connection leaves one file. Refuses: other programs' databases, newer schemas,
network file systems, SQLite before 3.35.

SQLite before 3.51.3 can lose a reset of the log when two connections write or checkpoint at once;
so no connection checkpoints by itself, and every close, since the last one checkpoints, happens
under the write lock. Readers are opened for writing with ``query_only``: a read-only connection
that closes last would leave the log's two files behind.
"""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    contextmanager,
    nullcontext,
)
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from batchrunner.errors import BusyError, DatabaseError, NoDatabaseError, UsageError
from batchrunner.failpoints import hit
from batchrunner.store import schema
from batchrunner.store.driver import Connection, Lock
from batchrunner.store.faults import DiskFullError, translated
from batchrunner.store.filesystem import network_file_system
from batchrunner.store.locks import (
    FileLock,
    ProcessLock,
    held_by_this_thread,
    is_alive,
    process_lock_files,
    sender_lock_path,
    write_lock_path,
)
from batchrunner.store.schema import Standing

if TYPE_CHECKING:
    from batchrunner.store.writer import Writer

__all__ = ["Database", "DiskFullError"]

#: ``RETURNING`` is 3.35's.
OLDEST_SQLITE: Final = (3, 35, 0)

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

#: One page of the smallest size; no crash leaves less, but nothing at all.
_SMALLEST_FILE: Final = 512

#: How long a short write waits for others' short writes, in seconds.
_WRITE_LOCK_WAIT_S: Final = 60.0


class Database:
    """An existing, current database; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Wrap the path of a database known to be good; use :meth:`open`."""
        self.path = path
        self._reader = _engine(lambda: _connect(path, query_only=True), "BEGIN")
        self._writer = _engine(lambda: _connect(path), "BEGIN IMMEDIATE")

    @classmethod
    def open(
        cls, path: Path, *, create: bool, upgraded: Callable[[Path], None] = lambda _copy: None
    ) -> Database:
        """Open the database at ``path``; build it first where there is none and ``create`` is true.

        An older schema is upgraded after a copy beside it, which ``upgraded`` is told of. Raises
        :class:`NoDatabaseError`, :class:`BusyError` (an upgrade while a process runs on it),
        :class:`DatabaseError`.
        """
        _check_sqlite()
        path = Path(os.path.abspath(path))  # noqa: PTH100 -- resolve() would move the locks of a linked file
        if path.is_symlink():
            # Locks must stand beside the one real file, whatever it is called here.
            path = path.resolve()
        with translated(path):
            if not _has_content(path):
                if not create:
                    raise _missing(path)
                _refuse_no_folder(path)
                _refuse_network(path)
                _build(path)
            else:
                _refuse_network(path)
            copy = _settle_standing(path, create=create)
        if copy is not None:
            upgraded(copy)
        return cls(path)

    @property
    def name(self) -> str:
        """The database as a person is told of it."""
        return str(self.path)

    @property
    def is_file(self) -> bool:
        """Whether this is a file, which can be copied and shrunk."""
        return True

    @property
    def log(self) -> Path | None:
        """The file that a checkpoint empties; ``None``: there is none."""
        return self.path.with_name(f"{self.path.name}-wal")

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

    def worker_lock(self, _process_id: int) -> Lock:
        """Return the lock that workers hold together. Raises :class:`UsageError`: a file has one sender."""
        raise UsageError(
            f"Workers share a queue on PostgreSQL; {self.path} is a file, from which one process sends.",
            fix="Send what it has with `batchrunner resume --all`, or name a server:"
            " --db postgresql+asyncpg://HOST/DATABASE?user=USER",
        )

    def is_sent_from(self) -> bool:
        """Return whether a process holds the sender lock now."""
        return is_alive(sender_lock_path(self.path))

    def process_lock(self) -> Lock:
        """Take a lock of this process's own, for its life."""
        return ProcessLock.create(self.path)

    def is_alive(self, name: str) -> bool:
        """Return whether the process whose own lock has this name lives."""
        return is_alive(self.path.with_name(name))

    def sweep_locks(self) -> None:
        """Remove what dead processes left of their locks."""
        for path in process_lock_files(self.path):
            lock = FileLock(path)
            if lock.try_acquire():
                lock.release(unlink=True)

    # --- transactions

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that can't write, in one read transaction (one snapshot)."""
        with translated(self.path), _closing_under_lock(self.path, self._reader) as connection:
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
    def session(self) -> Iterator[WriteSession]:
        """Give a connection for a series of writing transactions, each under the write lock."""
        with translated(self.path), _closing_under_lock(self.path, self._writer) as connection:
            yield WriteSession(connection, self.path)

    def writer(self) -> AbstractAsyncContextManager[Writer]:
        """Open the holder's connection; only the process with the sender lock may."""
        from batchrunner.store.writer import open_writer  # noqa: PLC0415 (no view writes so)

        return open_writer(self.path, lambda: _connect(self.path, any_thread=True))


class WriteSession:
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

    def vacuum(self) -> bool:
        """A file is rewritten without its gaps (:func:`batchrunner.store.shrink.shrink`)."""
        return False

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
def _closing_under_lock(path: Path, engine: sa.Engine) -> Iterator[sa.Connection]:
    connection = engine.connect()
    try:
        yield connection
    finally:
        # Within a write of this thread another connection stays open, so that this close is not
        # the last and copies nothing; waiting for our own lock would never end.
        nested = held_by_this_thread(write_lock_path(path))
        with nullcontext() if nested else write_lock(path):
            connection.close()


def _engine(connect: Callable[[], sqlite3.Connection], begin: str) -> sa.Engine:
    engine = sa.create_engine("sqlite+pysqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _connect(
    path: Path, *, query_only: bool = False, any_thread: bool = False
) -> sqlite3.Connection:
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


def _check_sqlite() -> None:
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise DatabaseError(
            f"This Python has SQLite {sqlite3.sqlite_version}; batchrunner needs {oldest} or newer.",
            fix="Use a newer Python, or one built with a newer SQLite.",
        )


def _refuse_network(path: Path) -> None:
    kind = network_file_system(path.parent)
    if kind is not None:
        raise DatabaseError(
            f"The database {path} lies on a network file system ({kind}), where locks can't be trusted.",
            fix="Choose a place on a local disk with --db.",
        )


def _refuse_no_folder(path: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        is_file = folder.exists()
        raise NoDatabaseError(
            f"The database {path} can't be made: "
            + (f"{folder} is no folder." if is_file else f"there is no folder {folder}."),
            fix="Name another place with --db."
            if is_file
            else f"Make it first: mkdir -p {shlex.quote(str(folder))}; or name another place with --db.",
        )


def _has_content(path: Path) -> bool:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if path.is_dir():
        raise DatabaseError(f"{path} is a directory.", fix="Name a file with --db.")
    if 0 < found.st_size < _SMALLEST_FILE:
        # SQLite would take so short a file for an empty one, and write over it.
        raise DatabaseError(
            f"The file {path} is not a batchrunner database.", fix="Choose another file with --db."
        )
    return found.st_size > 0


def _build(path: Path) -> None:
    """Make the file, private from its first moment, and let the migrations fill it."""
    with write_lock(path):
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            if _has_content(path):
                return
        hit("create.made")
        _migrate(path)


def _migrate(path: Path, point: str = "create.migrated") -> None:
    engine = _engine(lambda: _connect(path), "BEGIN IMMEDIATE")
    with engine.connect() as connection, connection.begin():
        schema.migrate(connection)
        hit(point)


def standing_of(path: Path) -> Standing:
    """Tell what an existing file with content is; nothing in it changes."""
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)
    try:
        connection.execute("PRAGMA busy_timeout = 10000")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        return schema.standing(connection)
    finally:
        with write_lock(path):
            connection.close()


def _settle_standing(path: Path, *, create: bool) -> Path | None:
    """Bring the database to the current schema, or say why it can't be used.

    Returns the copy of an older one, ``None`` where nothing was upgraded.
    """
    match standing_of(path):
        case Standing.CURRENT:
            return None
        case Standing.EMPTY if create:
            with write_lock(path):
                _migrate(path)
            return None
        case Standing.OLDER:
            return _upgrade(path)
        case Standing.NEWER:
            raise DatabaseError(
                f"The database {path} was written by a newer version of batchrunner.",
                fix="Install that version or a later one, or choose another file with --db.",
            )
        case Standing.EMPTY:
            # Whoever made the file died before anything was in it.
            raise _missing(path)
        case Standing.FOREIGN:
            raise DatabaseError(
                f"The file {path} is another program's database.",
                fix="Choose another file with --db.",
            )


def _upgrade(path: Path) -> Path | None:
    """Bring an older schema up to date; return the copy made before, ``None`` if it was current."""
    sender = FileLock(sender_lock_path(path))
    if not sender.try_acquire():
        raise _busy(path)
    try:
        with write_lock(path):
            if any(is_alive(file) for file in process_lock_files(path)):
                raise _busy(path)
            return _copy_and_migrate(path)
    finally:
        sender.release(unlink=True)


def _copy_and_migrate(path: Path) -> Path | None:
    connection = _connect(path)
    try:
        if schema.standing(connection) is not Standing.OLDER:
            return None
        (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        copy = _free_path(path.with_name(f"{path.name}.before-{schema.REVISIONS[-1]}-{version}"))
        # Under another name until it is whole: a copy that was broken off must not look like one.
        partial = path.with_name(f"{path.name}.upgrade.partial")
        for left in (partial, partial.with_name(f"{partial.name}-journal")):
            left.unlink(missing_ok=True)
        copy_database(connection, partial)
        partial.rename(copy)
        sync(copy.parent)
    finally:
        connection.close()
    hit("upgrade.copied")
    _migrate(path, "upgrade.migrated")
    return copy


def _free_path(path: Path) -> Path:
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def copy_database(source: sqlite3.Connection, destination: Path) -> None:
    """Copy a database as it stands now into a new file that only its owner can read."""
    os.close(os.open(destination, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    target = sqlite3.connect(destination)
    try:
        source.backup(target)
        # One file, whoever opens it next.
        target.execute("PRAGMA journal_mode = DELETE")
    except BaseException:
        destination.unlink()
        raise
    finally:
        target.close()


def sync(path: Path) -> None:
    """Have a file, or the names in a directory, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _missing(path: Path) -> NoDatabaseError:
    return NoDatabaseError(
        f"There is no database at {path}.",
        fix="Name one with --db, or make one with `batchrunner submit FILE`.",
    )


def _busy(path: Path) -> BusyError:
    return BusyError(
        f"The database {path} has an older schema and a process is running on it.",
        fix="Stop that process, or wait until it is done; the next command upgrades the database.",
    )
