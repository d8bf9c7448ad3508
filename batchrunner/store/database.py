"""What the store asks of a database, whatever it lies in: a file, or a schema on a server.

:class:`batchrunner.store.sqlite.database.FileDatabase` and
:class:`batchrunner.store.postgres.database.PgDatabase` are databases;
:mod:`batchrunner.store.opening` opens one at its place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Literal, Protocol, TypeVar

from batchrunner.clock import Clock
from batchrunner.errors import AwayError
from batchrunner.models import RunId
from batchrunner.store.driver import Connection, DriverConnection, Lock
from batchrunner.store.workers import Workers

__all__ = [
    "CheckpointMode",
    "Database",
    "Patience",
    "Queue",
    "SharedWriter",
    "WriteSession",
    "Writer",
    "nothing",
]

T = TypeVar("T")
CheckpointMode = Literal["PASSIVE", "TRUNCATE"]


def nothing() -> None:
    """Have nothing to do before a transaction."""


class Patience(Protocol):
    """How a process waits for a server that is away."""

    async def wait(self, error: AwayError) -> None:
        """Sleep until it is worth another try; raise ``error`` where it was waited for long enough."""
        ...

    def returned(self, conn: DriverConnection) -> None:
        """Be again what this process was to others: called in the first transaction after it."""
        ...

    def over(self) -> None:
        """Know that the server is back."""
        ...


class Writer(Protocol):
    """What the holder writes through; calls are executed one after another, in order.

    Where a server goes away they wait for it (:class:`Patience`) and try again.
    """

    @property
    def n_losses(self) -> int:
        """How often a server was away, and has to be learned anew."""
        ...

    @property
    def packs(self) -> bool:
        """Whether a cycle's rows go as statements of many values (:func:`.cycle.prepare`)."""
        ...

    async def transact(
        self,
        function: Callable[[DriverConnection], T],
        *,
        before: Callable[[], None] = nothing,
        once: bool = False,
    ) -> T:
        """Run ``function`` in one writing transaction and return its value once committed.

        ``before`` is called on the same thread, while nothing is locked yet. ``once``: raise
        :class:`LostTurnError` where it was not committed and the server is back from having been away,
        instead of trying again; so it is in a turn.
        Rolled back on any exception. A cancelled caller breaks no transaction off.
        Raises :class:`DatabaseError` (``DiskFullError`` where space ran out).
        """
        ...

    async def compute(
        self, function: Callable[[DriverConnection], T], *, beside: bool = False
    ) -> T:
        """As :meth:`transact`, but ``function`` runs here, on the caller's thread.

        ``beside``: other workers' turns may go on meanwhile, and other tasks of this thread, since it only
        reads, or makes what is not there.
        """
        ...

    async def query(self, function: Callable[[DriverConnection], T]) -> T:
        """Run ``function``, which only reads."""
        ...

    async def data_version(self) -> int:
        """Return a number that changes whenever another connection has committed."""
        ...

    async def checkpoint(self, mode: CheckpointMode = "PASSIVE") -> bool:
        """Copy the log into the database, where there is one; return whether all of it was."""
        ...

    async def settle(self) -> None:
        """Wait until everything handed over so far has been executed."""
        ...


class SharedWriter(Writer, Protocol):
    """What a worker writes through, beside others."""

    def turn(
        self, begin: Callable[[DriverConnection], T], *, before: Callable[[], None] = nothing
    ) -> AbstractAsyncContextManager[T]:
        """Give what ``begin`` returns in a transaction that the next one of this task goes on with.

        Turns of others go on beside it; whoever writes otherwise waits. Where the block raises, what
        ``begin`` wrote is rolled back; where it has no transaction, it is committed at the end.
        ``before`` is as in :meth:`transact`.
        """
        ...


class Queue(Protocol):
    """A database that many workers send from."""

    def worker_lock(self, process_id: int, /) -> Lock:
        """Return the lock that workers hold together, which keeps a single sender out, not yet taken."""
        ...

    def writer(self, patience: Patience | None = None) -> AbstractAsyncContextManager[SharedWriter]:
        """Open the connection of the worker that holds the lock; as :meth:`Database.writer`."""
        ...


class WriteSession(Protocol):
    """One connection that writes in several short transactions."""

    def transaction(self) -> AbstractContextManager[Connection]:
        """Run a block as one transaction, no other writing meanwhile."""
        ...

    def relax(self) -> None:
        """Have commits be durable together with the first one after :meth:`insist`."""
        ...

    def insist(self) -> None:
        """Have each commit be durable when it returns, as it is unless :meth:`relax` was called."""
        ...

    def overwrite(self) -> None:
        """Have what is deleted be overwritten from now on, where that is ours to say."""
        ...

    def refuse_full(self, n_doomed: int) -> None:
        """Raise :class:`DiskFullError` where :meth:`shrink` has no room, ``n_doomed`` bytes being deleted."""
        ...

    def shrink(self) -> bool:
        """Give back the room of what was deleted; return whether that is done."""
        ...

    def relieve(self) -> bool:
        """Copy the log into the database if nobody sends; return whether that is done with."""
        ...

    def checkpoint(self) -> None:
        """Copy the log into the database; only while the caller holds the sender lock."""
        ...


class Database(Protocol):
    """An existing, current database; safe to use from several threads."""

    @property
    def name(self) -> str:
        """The database as a person is told of it."""
        ...

    @property
    def log(self) -> Path | None:
        """The file that a checkpoint empties; ``None``: there is none."""
        ...

    def is_part(self, path: Path) -> bool:
        """Return whether a file is the database, or belongs to it."""
        ...

    def is_gone(self) -> bool:
        """Return whether somebody has taken it away since it was opened."""
        ...

    def copies(self, uids: Collection[str]) -> list[Path]:
        """Return the copies that are known of and still have one of these runs."""
        ...

    def n_bytes(self) -> int:
        """Return how large it is."""
        ...

    def translating(self) -> AbstractContextManager[None]:
        """Turn the errors of a driver and of the system into ours, within the context."""
        ...

    def clock(self, connection: Connection, *, is_alone: bool) -> Clock:
        """Return the clock of whoever sends from it, in a writing transaction.

        ``is_alone`` is false where another process may be sending.
        """
        ...

    def queue(self) -> Queue:
        """Return what workers share. Raises :class:`UsageError` where it has one sender."""
        ...

    def sender_lock(self) -> Lock:
        """Return the lock of whoever sends, not yet taken."""
        ...

    def is_sent_from(self) -> bool:
        """Return whether a process holds the sender lock now."""
        ...

    def process_lock(self) -> Lock:
        """Take a lock of this process's own, for its life."""
        ...

    def is_alive(self, name: str) -> bool:
        """Return whether the process whose own lock has this name lives."""
        ...

    def regain_process_locks(self) -> None:
        """Take the locks of this process's own again that a server has dropped with its connections."""
        ...

    def who_is_alive(self) -> Callable[[str], bool]:
        """Return :meth:`is_alive` as of now: many are asked for at the price of one."""
        ...

    def sweep_locks(self) -> None:
        """Remove what dead processes left of their locks."""
        ...

    def workers(self, connection: Connection, runs: Collection[RunId]) -> Workers:
        """Return who drains the database as a queue, and what each has of these runs."""
        ...

    def read(self) -> AbstractContextManager[Connection]:
        """Give a connection that can't write, in one read transaction (one snapshot)."""
        ...

    def write(self) -> AbstractContextManager[Connection]:
        """Give a connection in one short writing transaction, committed at the end.

        Rolled back where the block raises.
        """
        ...

    def session(self) -> AbstractContextManager[WriteSession]:
        """Give a connection for a series of writing transactions."""
        ...

    def writer(self, patience: Patience | None = None) -> AbstractAsyncContextManager[Writer]:
        """Open the holder's connection; only the process with the sender lock may.

        ``patience``: who waits where a server goes away; ``None``: nobody, it is an error at once.
        """
        ...
