"""A schema of a PostgreSQL database: opened, checked, made or upgraded, and connected to.

Promises what :class:`~batchrunner.store.sqlite.database.FileDatabase` does, by other means: one transaction
writes at a time (an advisory lock that is its first statement), a reader has one snapshot, a
process's locks go with it. Refuses newer schemas, and schemas that are another program's.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg

from batchrunner.clock import Clock
from batchrunner.errors import BusyError, DatabaseError, NoDatabaseError
from batchrunner.models import RunId
from batchrunner.places import Server
from batchrunner.store import workers
from batchrunner.store.database import Patience, Queue, SharedWriter, WriteSession
from batchrunner.store.driver import Connection, Lock, driver
from batchrunner.store.inspection import DatabaseFacts, holder_of
from batchrunner.store.postgres.connection import PgConnection, PgReading
from batchrunner.store.postgres.dialling import Dial
from batchrunner.store.postgres.faults import translated
from batchrunner.store.postgres.lasting import Lasting
from batchrunner.store.postgres.locks import (
    MIGRATING,
    SENDING,
    WRITING,
    PgLock,
    begins,
    class_of,
    new_number,
)
from batchrunner.store.postgres.pooled import (
    Beats,
    LeaseLock,
    PooledConnection,
)
from batchrunner.store.postgres.portal import Portal
from batchrunner.store.postgres.schema import migrate, standing
from batchrunner.store.postgres.session import PgSession, written
from batchrunner.store.postgres.writer import PgWriter
from batchrunner.store.runs import all_runs
from batchrunner.store.schema import Standing
from batchrunner.store.server_clock import ServerClock
from batchrunner.store.sharing import LIVES
from batchrunner.store.workers import Workers

__all__ = ["PgDatabase"]

T = TypeVar("T")

#: How long a connection may take to be closed (seconds).
_CLOSE_S: Final = 2.0
#: Idle connections that are kept for the next read or short write.
_SPARE: Final = 2
_SIZE: Final = """
    SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ? AND c.relkind = 'r'"""
_HELD: Final = """
    SELECT objid::bigint FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 2 AND granted AND classid::bigint = ?
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""

_LEASED: Final = f"UNION SELECT number FROM lease WHERE {LIVES}"  # noqa: S608 (constants)
_HAS_LEASES: Final = "SELECT to_regclass('lease') IS NOT NULL"


class PgDatabase:
    """An existing, current schema; safe to use from several threads."""

    def __init__(self, place: Server) -> None:
        """Start the thread of its connections; use :meth:`open_at`."""
        self.place = place
        self._portal = Portal()
        self._connections: set[PgConnection] = set()
        self._spare: list[PgConnection] = []
        self._guard = threading.Lock()
        self._sender: PgLock | None = None
        self._own_locks: list[PgLock] = []
        self._dial = Dial(place)
        self._has_leases = False
        self.beats = Beats(self._executed)
        self._clock: ServerClock | None = None
        self.close = weakref.finalize(self, _close, self._portal, self._connections)

    @classmethod
    def open_at(cls, place: Server, *, create: bool) -> PgDatabase:
        """Open the schema at ``place``; build it first where there is none and ``create`` is true.

        An older one is upgraded, in one transaction. Raises :class:`NoDatabaseError`, :class:`BusyError` (an upgrade while a process runs on it),
        :class:`DatabaseError`.
        """
        db = cls(place)
        try:
            with translated(place):
                db._settle_standing(create=create)
        except BaseException:
            db.close()
            raise
        return db

    @classmethod
    def open_if_current(cls, place: Server) -> PgDatabase | None:
        """Return the database; ``None`` where there is none that can be used as it stands."""
        db = cls(place)
        with translated(place):
            found = db._standing()
        if found is Standing.CURRENT:
            return db
        db.close()
        return None

    @classmethod
    def inspect(cls, place: Server) -> DatabaseFacts | None:
        """Look at the schema without changing it; ``None`` where there is none."""
        db = cls(place)
        try:
            with translated(place), db._borrowed() as connection:
                found = standing(connection, place.schema)
                (n_bytes,) = connection.execute(_SIZE, (place.schema,)).fetchone() or (0,)
            if found is Standing.EMPTY:
                return None
            facts = DatabaseFacts(standing=found, n_bytes=n_bytes, wal_bytes=0, network=None)
            if found is not Standing.CURRENT:
                return facts
            with db.read() as reading:
                return replace(
                    facts,
                    is_sent_from=db.is_sent_from(),
                    holder=holder_of(reading, db),
                    n_runs=len(all_runs(reading)),
                )
        finally:
            db.close()

    @property
    def name(self) -> str:
        """The database as a person is told of it."""
        return str(self.place)

    @property
    def log(self) -> Path | None:
        """The server looks after its own."""
        return None

    def is_part(self, _path: Path) -> bool:
        """No file is."""
        return False

    def is_gone(self) -> bool:
        """Nobody takes a schema away for being unused."""
        return False

    def copies(self, _uids: Collection[str]) -> list[Path]:
        """Nothing is known of what ``pg_dump`` made."""
        return []

    def n_bytes(self) -> int:
        """Return how large it is."""
        with translated(self.place), self._borrowed() as connection:
            (n,) = connection.execute(_SIZE, (self.place.schema,)).fetchone() or (0,)
        return int(n)

    def translating(self) -> contextlib.AbstractContextManager[None]:
        """Turn the errors of the driver and of the system into ours, within the context."""
        return translated(self.place)

    # --- connections

    def connect(self) -> PgConnection:
        """Make a connection; whoever has it gives it to :meth:`disconnect`."""
        raw, schema = self._portal.call(self._dial()), self.place.schema
        connection = (
            PooledConnection(raw, self._portal, begins(schema), schema)
            if self._dial.is_pooled
            else PgConnection(raw, self._portal, begins(schema))
        )
        with self._guard:
            self._connections.add(connection)
        return connection

    def abandon(self, connection: PgConnection) -> None:
        """Break off a connection that may hang."""
        with self._guard:
            self._connections.discard(connection)
        self._portal.call(_aborted(connection.raw))

    def run(
        self, function: Callable[[], T], expired: Callable[[], None], within_s: float
    ) -> Coroutine[Any, Any, T]:
        """Run a function that uses connections, as :meth:`.Portal.run` does."""
        return self._portal.run(function, within_s=within_s, expired=expired)

    def disconnect(self, connection: PgConnection) -> None:
        """Close a connection, and with it whatever it held."""
        with self._guard:
            self._connections.discard(connection)
        with contextlib.suppress(Exception):
            self._portal.call(_closed(connection.raw))

    def _executed(self, sql: str, parameters: Sequence[Any]) -> None:
        with self._borrowed() as connection:
            connection.execute(sql, parameters)

    @contextmanager
    def _borrowed(self) -> Iterator[PgConnection]:
        """Lend a connection for one transaction; one that broke is not lent again."""
        with self._guard:
            connection = self._spare.pop() if self._spare else None
        if connection is None or connection.raw.is_closed():
            connection = self.connect()
        try:
            yield connection
        except BaseException:
            # Its transaction may still be open.
            self.disconnect(connection)
            raise
        with self._guard:
            is_kept = len(self._spare) < _SPARE
            if is_kept:
                self._spare.append(connection)
        if not is_kept:
            self.disconnect(connection)

    # --- who is on it

    def sender_lock(self) -> Lock:
        """Return the lock of whoever sends, not yet taken."""
        self._sender = self._lock(SENDING)
        return self._sender

    def clock(self, connection: Connection, *, is_alone: bool) -> Clock:
        """Return the server's clock, which the writer reads again and again."""
        self._clock = ServerClock(driver(connection), is_alone=is_alone)
        return self._clock

    def queue(self) -> Queue:
        """Return what workers share."""
        return self

    def worker_lock(self, process_id: int) -> Lock:
        """Return the lock that workers hold together, which keeps a single sender out, not yet taken."""
        self._sender = self._lock(SENDING, worker=process_id)
        return self._sender

    def is_sent_from(self) -> bool:
        """Return whether a process holds the sender lock now."""
        return SENDING in self._held()

    def process_lock(self) -> Lock:
        """Take a lock of this process's own, for its life."""
        lock = self._lock(new_number())
        while not lock.try_acquire():
            lock = self._lock(new_number())
        self._own_locks.append(lock)
        return lock

    def _lock(self, number: int, *, worker: int | None = None) -> PgLock:
        if self._dial.is_pooled is None:
            with translated(self.place), self._borrowed():
                pass
        return (LeaseLock if self._dial.is_pooled else PgLock)(self, number, worker=worker)

    def regain_process_locks(self) -> None:
        """Take the locks of this process's own again that went with their connections."""
        for lock in self._own_locks:
            if lock.connection is not None and lock.connection.raw.is_closed():
                lock.regain()

    def is_alive(self, name: str) -> bool:
        """Return whether the process whose own lock has this name lives."""
        return self.who_is_alive()(name)

    def who_is_alive(self) -> Callable[[str], bool]:
        """Return :meth:`is_alive` as of now: a worker asks for all others once a second."""
        held = self._held()
        return lambda name: name.isdigit() and int(name) in held

    def is_anybody_on_it(self) -> bool:
        """Return whether a process is attached, this one included."""
        return bool(self._held() - {WRITING, MIGRATING})

    def sweep_locks(self) -> None:
        """Dead processes leave none."""

    def workers(self, connection: Connection, runs: Collection[RunId]) -> Workers:
        """Return who drains the schema as a queue, and what each has of these runs."""
        return workers.load(driver(connection), runs, self.who_is_alive)

    def _held(self) -> set[int]:
        schema = class_of(self.place.schema) % (1 << 32)
        with translated(self.place), self._borrowed() as connection:
            if not self._has_leases:
                # A schema that is not made, or not brought up to date, yet.
                (self._has_leases,) = connection.execute(_HAS_LEASES).fetchone() or (False,)
            statement = f"{_HELD} {_LEASED}" if self._has_leases else _HELD
            return {row[0] for row in connection.execute(statement, (schema,))}

    # --- transactions

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection that can't write, in one read transaction (one snapshot)."""
        with translated(self.place), self._borrowed() as connection:
            # asyncpg's own, since only in such a one it reads in parts.
            snapshot = connection.raw.transaction(isolation="repeatable_read", readonly=True)
            self._portal.call(snapshot.start())
            self._portal.call(connection.begun())
            yield PgReading(connection, is_streaming=True)
            self._portal.call(snapshot.rollback())

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection in one short writing transaction, committed at the end."""
        with translated(self.place), self._borrowed() as connection, written(connection):
            yield PgReading(connection)

    @contextmanager
    def session(self) -> Iterator[WriteSession]:
        """Give a connection for a series of writing transactions, one writer at a time in each."""
        with translated(self.place), self._borrowed() as connection:
            session = PgSession(connection, self.place)
            try:
                yield session
            finally:
                if not connection.raw.is_closed():
                    session.insist()

    def writer(self, patience: Patience | None = None) -> AbstractAsyncContextManager[SharedWriter]:
        """Open the holder's connection: that which holds the sender lock."""
        return self._open_writer(patience)

    @asynccontextmanager
    async def _open_writer(self, patience: Patience | None) -> AsyncIterator[SharedWriter]:
        lock = self._sender
        held = lock.connection if lock is not None else None
        connection = self.connect() if held is None else held
        lasting = Lasting(self, connection, None if held is None else lock, patience)
        writer = PgWriter(lasting, self._portal, self.place, self._clock)
        try:
            yield writer
        finally:
            with contextlib.suppress(DatabaseError):
                await writer.settle()
            if held is None:
                self.disconnect(connection)

    # --- the schema

    def _standing(self) -> Standing:
        with self._borrowed() as connection:
            return standing(connection, self.place.schema)

    def _settle_standing(self, *, create: bool) -> None:
        match self._standing():
            case Standing.CURRENT:
                return
            case Standing.EMPTY if create:
                pass
            case Standing.OLDER:
                if self.is_anybody_on_it():
                    if self._standing() is Standing.CURRENT:
                        # Who is on it has just upgraded it.
                        return
                    raise BusyError(
                        f"The database {self.place} has an older schema and a process is running on it.",
                        fix="Stop it, or wait until it is done; the next command upgrades the database.",
                    )
            case Standing.NEWER:
                raise DatabaseError(
                    f"The database {self.place} was written by a newer version of batchrunner.",
                    fix="Install that version or a later one, or name another schema with ?schema=NAME.",
                )
            case Standing.EMPTY:
                raise NoDatabaseError(
                    f"There is nothing of batchrunner at {self.place}.",
                    fix="Name another place with --db, or begin here with `batchrunner submit FILE`.",
                )
            case Standing.FOREIGN:
                raise DatabaseError(
                    f"The schema {self.place.schema} at {self.place} is another program's.",
                    fix="Name another one in the address: ?schema=NAME.",
                )
        self._portal.call(migrate(self._dial, self.place.schema))


async def _aborted(raw: asyncpg.Connection) -> None:
    raw.terminate()


async def _closed(raw: asyncpg.Connection) -> None:
    try:
        await raw.close(timeout=_CLOSE_S)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        raw.terminate()


def _close(portal: Portal, connections: set[PgConnection]) -> None:
    """End what is connected, then the thread; with the process at the latest."""
    for connection in list(connections):
        with contextlib.suppress(Exception):
            portal.call(_closed(connection.raw))
    connections.clear()
    portal.close()
