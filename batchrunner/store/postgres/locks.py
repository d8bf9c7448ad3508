"""Locks of sessions: the server drops one when its connection ends, as a kernel does for a file.

A lock is two numbers, the schema's and its own; who holds one is told by ``pg_locks``. Each is held
by a connection of its own. The sender's is the connection that writes its cycles: whoever has lost
that lock can't commit any more.
"""

from __future__ import annotations

import secrets
import zlib
from typing import TYPE_CHECKING, Final

from batchrunner.store.postgres.faults import translated

if TYPE_CHECKING:
    from batchrunner.store.postgres.connection import PgConnection
    from batchrunner.store.postgres.database import PgDatabase

__all__ = ["MIGRATING", "SENDING", "WRITING", "PgLock", "class_of", "new_number"]

#: Who sends; who writes, for the length of a transaction; who migrates.
SENDING: Final = 1
WRITING: Final = 2
MIGRATING: Final = 3
#: Numbers of processes' own locks are above.
_PROCESSES: Final = 1_000


def class_of(schema: str) -> int:
    """Return the first number of a schema's locks (four bytes, signed)."""
    number = zlib.crc32(f"batchrunner.{schema}".encode())
    return number - (1 << 32) if number >= 1 << 31 else number


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
                shared = "" if self._worker is None else "_shared"
                (is_ours,) = connection.execute(
                    f"SELECT pg_try_advisory_lock{shared}(CAST(? AS int), CAST(? AS int))",
                    self._key,
                ).fetchone() or (False,)
                if self._worker is not None:
                    connection.control(f"SET batchrunner.worker = '{self._worker}'")
            except BaseException:
                self._db.disconnect(connection)
                raise
        if not is_ours:
            self._db.disconnect(connection)
            return False
        self.connection = connection
        return True

    def release(self, *, unlink: bool = False) -> None:  # noqa: ARG002 -- files have something to unlink
        """Give it up, with its connection; does nothing where it is not held."""
        if self.connection is not None:
            connection, self.connection = self.connection, None
            self._db.disconnect(connection)

    @property
    def _key(self) -> tuple[int, int]:
        return class_of(self._db.place.schema), self._number
