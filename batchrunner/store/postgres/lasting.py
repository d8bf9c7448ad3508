"""The connection that writes, made anew where its server went away.

Whoever sends holds a lock by this connection (:mod:`.locks`): with the connection the lock is lost, and
both are taken again together. What became of a COMMIT that nobody answered is looked up, never guessed:
each transaction writes its number beside what it does, and the session that sent it is ended before
that number is read.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from batchrunner.errors import AwayError, DatabaseError
from batchrunner.store.database import Patience
from batchrunner.store.postgres.connection import PgConnection
from batchrunner.store.postgres.faults import translated
from batchrunner.store.postgres.locks import PgLock

if TYPE_CHECKING:
    from batchrunner.store.postgres.database import PgDatabase

__all__ = ["TURN_S", "Lasting", "Stored"]

#: A transaction of whoever sends is given up after so many seconds, whatever it waits for.
TURN_S: Final = 60.0
#: A transaction that the server took back for others' sake is tried again so often.
_TRIES: Final = 100


class Stored(NamedTuple):
    """What a transaction returned that was committed though its server did not say so."""

    value: Any


class Lasting:
    """The connection of a writer, and the lock it holds, if it holds one."""

    def __init__(
        self,
        db: PgDatabase,
        connection: PgConnection,
        lock: PgLock | None,
        patience: Patience | None,
    ) -> None:
        """Take the open connection; without ``patience`` nothing is made anew."""
        self._db = db
        self._connection = connection
        self._lock = lock
        self._patience = patience if lock is not None else None
        #: How often the server was away.
        self.n_losses = 0
        self._n_commits = 0
        self._n_tries = 0
        #: The number of the commit that is under way, and what its transaction returned.
        self._under_way: tuple[int, Stored] | None = None
        #: Why nothing is tried any more.
        self._given_up: DatabaseError | None = None

    @property
    def driver(self) -> PgConnection:
        """The connection as it is now."""
        return self._connection

    def forget(self) -> None:
        """Know of no commit under way: that of a caller who was cancelled is nobody's any more."""
        self._under_way = None

    def commit(self, value: Any) -> None:
        """Commit, with what tells whether it was; on the portal's thread."""
        if self._patience is None or self._lock is None:
            self._connection.execute("COMMIT")
            return
        self._n_commits += 1
        self._under_way = self._n_commits, Stored(value)
        self._connection.control(f"{self._lock.stamp(self._n_commits)}; COMMIT")
        self._under_way = None
        self._n_tries = 0

    def give_up(self) -> None:
        """Break the connection off: what waits for it fails."""
        self._connection.raw.terminate()

    async def back(self, error: AwayError) -> Stored | None:
        """Wait until the server is back; return what was stored, ``None``: it was not.

        Raises ``error``, or what came after it, where nobody waits any longer.
        """
        if self._given_up is not None:
            raise self._given_up
        if error.is_connected and self._n_tries < _TRIES:
            self._n_tries += 1
            return None
        under_way, self._under_way = self._under_way, None
        try:
            number = await self._regained(error)
        except DatabaseError as given_up:
            self._given_up = given_up
            raise
        self.n_losses += 1
        return under_way[1] if under_way is not None and under_way[0] == number else None

    async def _regained(self, error: AwayError) -> int | None:
        """Have connection and lock again; return the number of the last commit that was stored."""
        if self._patience is None:
            raise error
        self.give_up()
        while True:
            await self._patience.wait(error)
            try:
                with translated(self._db.place):
                    number = await self._db.run(self._regain, self.give_up, TURN_S)
            except AwayError as again:
                error = again
            except asyncio.CancelledError:
                # It may be back: that is for the next one to see.
                self.give_up()
                raise
            else:
                self._patience.over()
                return number

    def _regain(self) -> int | None:
        assert self._lock is not None
        assert self._patience is not None
        self._connection = self._lock.regain()
        self._db.regain_process_locks()
        self._connection.execute("BEGIN IMMEDIATE")
        number = self._lock.stamped(self._connection)
        self._patience.returned(self._connection)
        self._connection.execute("COMMIT")
        return number
