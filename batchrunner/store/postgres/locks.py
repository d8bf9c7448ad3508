"""Locks of sessions: the server drops one when its connection ends, as a kernel does for a file.

A lock is two numbers, the schema's and its own; who holds one is told by ``pg_locks``. Each is held
by a connection of its own. The sender's is the connection that writes its cycles: whoever has lost
that lock can't commit any more. Who takes it again after a loss (:meth:`PgLock.regain`) first ends the
session that had it, and sees whether anybody else was in its place meanwhile.
"""

from __future__ import annotations

import secrets
import time
import zlib
from typing import TYPE_CHECKING, Final

from batchrunner.errors import AwayError, ReplacedError
from batchrunner.store.postgres.faults import translated
from batchrunner.store.sharing import LIVES, is_any_left

if TYPE_CHECKING:
    from batchrunner.store.postgres.connection import PgConnection
    from batchrunner.store.postgres.database import PgDatabase

__all__ = ["MIGRATING", "SENDING", "WRITING", "PgLock", "begins", "class_of", "new_number"]

#: Who sends; who writes, for the length of a transaction; who migrates.
SENDING: Final = 1
WRITING: Final = 2
MIGRATING: Final = 3
#: Numbers of processes' own locks are above.
_PROCESSES: Final = 1_000
#: Whoever hangs in a writing transaction (stopped, asleep) holds up all others: that session is ended
#: after so long. Less than a worker's lease: all that wait for it would seem to be dead.
_HANGS: Final = "SET LOCAL idle_in_transaction_session_timeout = '15s'"
#: A worker that hangs in its turn: it is idle there for as long as planning takes, and after so long others
#: may take it for dead.
_HANGS_IN_TURN: Final = "SET LOCAL idle_in_transaction_session_timeout = '5s'"
#: Which session a connection is.
_SESSION: Final = (
    "SELECT pid, CAST(backend_start AS text) FROM pg_stat_activity WHERE pid = pg_backend_pid()"
)
_END: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE pid = ? AND CAST(backend_start AS text) = ?"
)
#: Leases of a lock that keep a session from having it.
_LEASED: Final = f"SELECT 1 FROM lease WHERE number = ? AND (is_shared = 0 OR ? = 0) AND {LIVES}"  # noqa: S608 (constants)
#: How long a session may take to end (seconds).
_END_S: Final = 5.0
#: Who sent alone last: nobody else has since, where it is still the same.
_ALONE: Final = (
    "INSERT INTO meta (key, value) VALUES ('sender', ?)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)


def class_of(schema: str) -> int:
    """Return the first number of a schema's locks (four bytes, signed)."""
    number = zlib.crc32(f"batchrunner.{schema}".encode())
    return number - (1 << 32) if number >= 1 << 31 else number


def begins(schema: str) -> dict[str, str]:
    """Return how a transaction begins that is alone, and one that goes beside its like."""
    lock = f"({class_of(schema)}, {WRITING})"
    return {
        "BEGIN IMMEDIATE": f"BEGIN; {_HANGS}; SELECT pg_advisory_xact_lock{lock}",
        "BEGIN SHARED": f"BEGIN; {_HANGS_IN_TURN}; SELECT pg_advisory_xact_lock_shared{lock}",
    }


def new_number() -> int:
    """Return a number for a process's own lock."""
    return _PROCESSES + secrets.randbelow((1 << 31) - _PROCESSES)


class PgLock:
    """A lock of a session; has the shape of :class:`~batchrunner.store.driver.Lock`."""

    def __init__(self, db: PgDatabase, number: int, *, worker: int | None = None) -> None:
        """Remember which; nothing is asked yet.

        ``worker``: it is held together with other workers, and what its connection claims is theirs.
        """
        self._worker = worker
        self._db = db
        self._number = number
        #: The connection that holds it.
        self.connection: PgConnection | None = None
        #: The session that holds or held it.
        self._session: tuple[int, str] | None = None
        #: What tells this holder of the sender's lock from others.
        self._token = secrets.token_hex(8)

    @property
    def name(self) -> str:
        """What others on the database call this lock."""
        return str(self._number)

    @property
    def is_held(self) -> bool:
        """Whether this instance holds it."""
        return self.connection is not None

    def try_acquire(self) -> bool:
        """Take the lock if it is free; return whether this instance holds it now."""
        if self.connection is not None:
            raise RuntimeError(f"lock {self._number} is already held by this object")
        with translated(self._db.place):
            connection = self._db.connect()
            try:
                is_ours = self._is_taken(connection)
                if is_ours and self._is_sole:
                    # Workers whose connections broke have lost it too, and come back for it.
                    is_ours = not is_any_left(connection, self._db.is_alive)
                if is_ours and self._is_sole:
                    connection.execute(_ALONE, (self._stored(0),))
                if not is_ours:
                    self._give_back(connection)
            except BaseException:
                self._give_back(connection)
                raise
        if not is_ours:
            return False
        self.connection = connection
        return True

    @property
    def _is_sole(self) -> bool:
        """Whether it is the lock of the one that sends alone."""
        return self._number == SENDING and self._worker is None

    def _is_taken(self, connection: PgConnection) -> bool:
        """Try to take it with a connection."""
        shared = "" if self._worker is None else "_shared"
        (is_ours,) = connection.execute(
            f"SELECT pg_try_advisory_lock{shared}(CAST(? AS int), CAST(? AS int))",
            self._key,
        ).fetchone() or (False,)
        if is_ours and self._number == SENDING:
            # Who comes by a pooler has a lease instead.
            is_shared = int(self._worker is not None)
            is_ours = connection.execute(_LEASED, (SENDING, is_shared)).fetchone() is None
        if is_ours:
            self._session = connection.execute(_SESSION).fetchone()
        self._tell(connection)
        return bool(is_ours)

    def _tell(self, connection: PgConnection) -> None:
        """Tell a connection whose it is."""
        if self._worker is not None:
            connection.control(f"SET batchrunner.worker = '{self._worker}'")

    def regain(self) -> PgConnection:
        """Take it again with a new connection, in the place of one that broke; within the portal.

        Raises :class:`AwayError` where that may be possible later, :class:`ReplacedError` where another
        process sends alone in this one's place.
        """
        with translated(self._db.place):
            return self._regain()

    def _regain(self) -> PgConnection:
        if self.connection is not None:
            self._db.abandon(self.connection)
            self.connection = None
        connection = self._db.connect()
        try:
            if self._session is not None:
                self._end(connection, *self._session)
            if not self._is_taken(connection):
                if self._is_sole:
                    raise _replaced()
                raise AwayError(
                    f"The database {self._db.place} is back, and one process sends on it alone.",
                    fix="Workers go on when it has ended.",
                )
        except BaseException:
            self._db.abandon(connection)
            raise
        self.connection = connection
        return connection

    def _end(self, connection: PgConnection, pid: int, began: str) -> None:
        """End the session that had it, so that what it was about to do is done or never will be."""
        ends = time.monotonic() + _END_S
        while connection.execute(_END, (pid, began)).fetchone() is not None:
            if time.monotonic() > ends:
                raise AwayError(
                    f"The database {self._db.place} is back, and still has this process's former session.",
                    fix=f"As its owner or a superuser: SELECT pg_terminate_backend({pid});",
                )
            connection.execute("SELECT pg_sleep(0.02)")

    def stamp(self, n: int) -> str:
        """Return the statement that notes the holder's n-th commit, in its transaction."""
        if self._worker is not None:
            return f"UPDATE process SET commits = {n} WHERE id = {self._worker}"  # noqa: S608 (numbers)
        return f"UPDATE meta SET value = '{self._stored(n)}' WHERE key = 'sender'"  # noqa: S608 (hex and a number)

    def stamped(self, connection: PgConnection) -> int | None:
        """Return the number of the last commit that is stored; ``None``: others took this worker for dead.

        Raises :class:`ReplacedError` where another has sent alone since.
        """
        if self._worker is not None:
            row = connection.execute(
                "SELECT commits FROM process WHERE id = ?", (self._worker,)
            ).fetchone()
            return None if row is None else int(row[0] or 0)
        row = connection.execute("SELECT value FROM meta WHERE key = 'sender'").fetchone()
        token, _, n = str(row[0] if row else "").partition(" ")
        if token != self._token:
            raise _replaced()
        return int(n)

    def _stored(self, n: int) -> str:
        return f"{self._token} {n}"

    def release(self, *, unlink: bool = False) -> None:  # noqa: ARG002 -- files have something to unlink
        """Give it up, with its connection; does nothing where it is not held."""
        if self.connection is not None:
            connection, self.connection = self.connection, None
            self._give_back(connection)

    def _give_back(self, connection: PgConnection) -> None:
        """Have a connection hold it no more."""
        self._db.disconnect(connection)

    @property
    def _key(self) -> tuple[int, int]:
        return class_of(self._db.place.schema), self._number


def _replaced() -> ReplacedError:
    return ReplacedError(
        "Another process has gone on with this one's work while the database could not be reached.",
        fix="Follow it with: batchrunner resume",
    )
