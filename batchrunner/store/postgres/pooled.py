"""Connections and locks behind a pooler that gives a client another session for each transaction.

No session is ours there: what one is told goes with each transaction (``SET LOCAL``), statements have no
names (asyncpg's, without its cache, have none), and a lock is a row with a lease in place of a session's.
A lease is kept by a beat, and by each transaction of whoever sends; where the row is gone, others have
taken it, and the transaction fails before it has done anything. Both kinds of locks see each other: who
takes a lease asks for the session's lock too, for the length of that transaction, and the other way
round. It holds behind a pooler of whole sessions as well.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from batchrunner.store.postgres.connection import PgConnection, PgCursor
from batchrunner.store.postgres.locks import PgLock
from batchrunner.store.sharing import LEASE_MS, LIVES, NOW

if TYPE_CHECKING:
    from batchrunner.store.postgres.database import PgDatabase
    from batchrunner.store.postgres.portal import Portal

__all__ = ["STATEMENTS", "Beats", "LeaseLock", "PooledConnection", "is_refused_by_pooler"]

#: How each statement goes, wherever it is told: statements are short, so that compiling them costs more
#: than it saves; they wait for others' turns, so that what a role or a database allows them is not asked.
STATEMENTS: Final = {"jit": "off", "statement_timeout": "0", "lock_timeout": "0"}

_SET: Final = re.compile(r"SET (\w+(?:\.\w+)?) = (.+)")
#: How often a lease is kept, whatever its process does (seconds).
_BEAT_S: Final = 10.0
_KEEP: Final = f"UPDATE lease SET until_at = {NOW} + {LEASE_MS} WHERE holder IN (SELECT value FROM json_each(?))"  # noqa: S608 (constants)
#: Others' leases of the same lock that keep one out; of those that are over nothing is left. A process's
#: own is nobody else's to ask for: where that was killed, it goes after a day.
_OVER: Final = (
    f"DELETE FROM lease WHERE (number = ? AND NOT {LIVES}) OR until_at < {NOW} - 86400000"  # noqa: S608 (constants)
)
_OTHERS: Final = "SELECT 1 FROM lease WHERE number = ? AND (is_shared = 0 OR ? = 0) AND holder != ?"
_TAKE: Final = (
    "INSERT INTO lease (holder, number, is_shared, until_at)"  # noqa: S608 (constants)
    f" VALUES (?, ?, ?, {NOW} + {LEASE_MS})"
)


def is_refused_by_pooler(error: asyncpg.PostgresError) -> bool:
    """Return whether a pooler refused what sessions are told at their beginning."""
    return "startup parameter" in str(error)


class PooledConnection(PgConnection):
    """A connection whose every transaction may be on another session."""

    def __init__(
        self, raw: asyncpg.Connection, portal: Portal, begins: Mapping[str, str], schema: str
    ) -> None:
        """Wrap asyncpg's connection to the pooler."""
        super().__init__(raw, portal, begins)
        self._told = {"search_path": f'"{schema}"', **STATEMENTS}
        #: What each writing transaction begins with: whether this process still has its place.
        self.fence = ""

    @property
    def _prologue(self) -> str:
        return "; ".join(f"SET LOCAL {name} = {value}" for name, value in self._told.items())

    async def begun(self) -> None:
        """Tell a transaction that asyncpg began what a session would know."""
        await self.raw.execute(self._prologue)

    async def say(self, words: str) -> None:
        """Execute words that belong to a transaction; what a session is told is kept for each."""
        if found := _SET.fullmatch(words):
            self._told[found[1]] = found[2]
            return
        if "BEGIN;" in words:
            words = words.replace("BEGIN;", f"BEGIN; {self._prologue};", 1)
            words = f"{words}; {self.fence}" if self.fence else words
        await super().say(words)

    async def execute_async(self, sql: str, parameters: Sequence[Any] = ()) -> PgCursor:
        """As :meth:`execute`, on the portal's thread; in a transaction of its own where there is none."""
        if not parameters and self.is_control(sql):
            return await super().execute_async(sql)
        async with self._in_one():
            return await super().execute_async(sql, parameters)

    async def _execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        async with self._in_one():
            await super()._execute_many(sql, rows)

    @asynccontextmanager
    async def _in_one(self) -> AsyncIterator[None]:
        if self.raw.is_in_transaction():
            yield
            return
        async with self.raw.transaction():
            await self.begun()
            yield


class LeaseLock(PgLock):
    """A lock as a row with a lease."""

    def __init__(self, db: PgDatabase, number: int, *, worker: int | None = None) -> None:
        """Remember which; nothing is asked yet."""
        super().__init__(db, number, worker=worker)
        self._holder = secrets.randbelow(1 << 62)
        self._is_shared = int(worker is not None)
        self._has_row = False

    def _is_taken(self, connection: PgConnection) -> bool:
        assert isinstance(connection, PooledConnection)
        self._tell(connection)
        theirs = (self._number, self._is_shared, self._holder)
        if connection.execute(f"{_OTHERS} AND {LIVES}", theirs).fetchone():
            # Nobody who sends is kept waiting for one that only looks whether it is free.
            return False
        # One after another: what a former transaction of this process was about to do is done by then, too.
        connection.execute("BEGIN IMMEDIATE")
        try:
            is_ours = self._is_leased(connection)
        except BaseException:
            with contextlib.suppress(Exception):
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
        if is_ours:
            self._has_row = True
            connection.fence = f"SELECT keep_lease({self._holder})"
            self._db.beats.add(self._holder)
        return is_ours

    def _is_leased(self, connection: PgConnection) -> bool:
        if connection.execute(_KEEP, (json.dumps([self._holder]),)).rowcount:
            return True
        kind = "_shared" * self._is_shared
        (is_free,) = connection.execute(
            f"SELECT pg_try_advisory_xact_lock{kind}(CAST(? AS int), CAST(? AS int))",
            self._key,
        ).fetchone() or (False,)
        if not is_free:
            return False
        connection.execute(_OVER, (self._number,))
        theirs = (self._number, self._is_shared, self._holder)
        if connection.execute(_OTHERS, theirs).fetchone():
            return False
        connection.execute(_TAKE, (self._holder, self._number, self._is_shared))
        return True

    def _give_back(self, connection: PgConnection) -> None:
        self._db.beats.remove(self._holder)
        if self._has_row:
            self._has_row = False
            # What can't be given back is over by itself.
            with contextlib.suppress(Exception):
                connection.execute("DELETE FROM lease WHERE holder = ?", (self._holder,))
        super()._give_back(connection)


class Beats:
    """Keeps the leases of a process, on a thread that lives as long as there are any."""

    def __init__(self, execute: Callable[[str, Sequence[Any]], None]) -> None:
        """Take the method that executes a statement, of an owner that this keeps alive no longer."""
        self._execute = weakref.WeakMethod(execute)
        self._holders: set[int] = set()
        self._guard = threading.Lock()
        self._ends = threading.Event()

    def add(self, holder: int) -> None:
        """Keep a lease from now on."""
        with self._guard:
            is_first = not self._holders
            self._holders.add(holder)
            if is_first:
                self._ends = threading.Event()
                threading.Thread(
                    target=self._beat, args=(self._ends,), name="leases", daemon=True
                ).start()

    def remove(self, holder: int) -> None:
        """Keep it no more."""
        with self._guard:
            self._holders.discard(holder)
            if not self._holders:
                self._ends.set()

    def _beat(self, ends: threading.Event) -> None:
        while not ends.wait(_BEAT_S):
            with self._guard:
                holders = sorted(self._holders)
            execute = self._execute()
            if execute is None:
                return
            # A server that is away is tried again with the next beat.
            with contextlib.suppress(Exception):
                execute(_KEEP, (json.dumps(holders),))
            del execute
