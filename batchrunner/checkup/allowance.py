"""The ledger's word on requests that no job makes: admitted and booked, or left out.

A request of ``doctor`` or of the model advice is a send like any other to the provider, so it passes
the account's limits and pauses, and counts. It is asked for where the connection stands and not a
byte of the request is written, so that whatever is wrong with the way there is found even where
nothing may be sent.

A process that sends keeps the ledger in its memory, and nobody else can book beside it: where the
account has a limit, a request is left out while one does; without a limit it goes, and is counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from batchrunner.checkup.probes import Stopwatch
from batchrunner.clock import Clock, wall_ms
from batchrunner.core.admission import LATE_MS, Blocked, Grant, Ledger
from batchrunner.engine.scopes import Scopes
from batchrunner.errors import DatabaseError
from batchrunner.models import RunId, ScopeId
from batchrunner.store import errands, scopes
from batchrunner.store.cycle import run_cycle
from batchrunner.store.database import Database
from batchrunner.store.driver import DriverConnection
from batchrunner.store.limits import limits_of_account
from batchrunner.store.records import Cycle
from batchrunner.store.rescue import MAX_LATE_MS
from batchrunner.store.runs import driver
from batchrunner.transport import Aborted

__all__ = ["Allowance", "Errand"]

#: A minute's limit of 3 gives a slot every 20 s; nobody waits longer than this for an answer.
PATIENCE_S: Final = 25.0
#: So long after a crash what was in flight may be booked earlier than it went (milliseconds).
_ORPHANS_MS: Final = 60_000 + MAX_LATE_MS
#: How far ahead a request is booked: at first, and each time that turned out to be too little.
_LEADS_MS: Final = (50.0, 150.0, 400.0, 1_000.0, 2_000.0, 4_000.0)
_BESIDE: Final = (
    "another process sends with this account's limits now and uses them;"
    " batchrunner status shows how it fares"
)


@dataclass(slots=True, kw_only=True)
class Errand:
    """One request that no job makes; the ticket that the transport shows at the gate."""

    #: The model it asks for, which decides the pool; ``None``: none, such as a list.
    model: str | None = None
    #: The run it is made for, where one is behind it.
    run: RunId | None = None
    #: Why it was not let go; empty: it was.
    refusal: str = ""
    is_booked: bool = False
    #: How long it had to wait for its turn.
    waited_ms: float = 0.0


@dataclass(slots=True)
class _Booked:
    """A request with its instant."""

    db: Database
    ledger: Ledger
    scopes: Scopes
    clock: Clock
    grant: Grant

    async def await_instant(self) -> str:
        """Wait until it may go; return why it may not after all, empty where it may."""
        ledger, clock = self.ledger, self.clock
        for lead_ms in _LEADS_MS[1:]:
            now = clock.now()
            wait_ms = max(self.grant.instant - now, ledger.may_send(self.grant, now))
            if wait_ms > 0:
                await asyncio.sleep(wait_ms / 1000.0)
            if clock.now() - self.grant.instant <= LATE_MS:
                ledger.sent(self.grant, clock.now())
                return ""
            # The commit, or the machine, took longer than that: its slot is gone.
            moved = ledger.rebook(self.grant, clock.now() + lead_ms, clock.wall() + lead_ms)
            with self.db.write() as connection:
                _store(driver(connection), ledger, self.scopes, clock)
            if isinstance(moved, Blocked):
                return _words(moved)
            self.grant = moved
        return "this machine is too busy to keep to an instant; ask again later"


class Allowance:
    """Books errands of one account, one at a time."""

    def __init__(
        self,
        db: Database | None,
        *,
        provider: str,
        account_key: str,
        day_zone: str,
        pool_of: Callable[[str, str], str],
        makes_account: bool = False,
        account: ScopeId | None = None,
        patience_s: float = PATIENCE_S,
        turn: asyncio.Lock | None = None,
    ) -> None:
        """Take the account by its id or its key; ``makes_account``: also one not used here before.

        ``turn`` is shared by all of a process that book in the same database.

        Without a database, and for an account that it does not know, nothing is asked and nothing booked.
        """
        self._db = db
        self._provider = provider
        #: Whose limits these are.
        self.key = account_key
        self._zone = day_zone
        self._pool_of = pool_of
        self._makes_account = makes_account
        self._account = account
        self._patience_ms = patience_s * 1000.0
        self._turn = asyncio.Lock() if turn is None else turn

    async def gate(self, errand: Errand) -> None:
        """Wait until the errand may go, and book it. Raises :class:`Aborted` where it may not."""
        if self._db is None:
            return
        watch = Stopwatch()
        async with self._turn:
            try:
                errand.refusal = await self._turn_of(self._db, errand)
            except DatabaseError as error:
                errand.refusal = f"the database that counts requests can't be used: {error.message}"
        errand.waited_ms += watch.ms
        self._patience_ms = max(0.0, self._patience_ms - watch.ms)
        if errand.refusal:
            raise Aborted

    async def _turn_of(self, db: Database, errand: Errand) -> str:
        """Return why the errand may not go; empty once it may."""
        lock = db.sender_lock()
        with db.translating():
            is_free = lock.try_acquire()
        if not is_free:
            return await asyncio.to_thread(self._count_beside, db, errand)
        try:
            booked = await asyncio.to_thread(self._book, db, errand)
            if isinstance(booked, str):
                return booked
            errand.is_booked = True
            return await booked.await_instant()
        finally:
            lock.release(unlink=True)

    def _book(self, db: Database, errand: Errand) -> str | _Booked:
        """Book an errand at the first instant that its scopes admit, or return why there is none."""
        with db.write() as connection:
            conn = driver(connection)
            account = self._account_of(conn)
            if account is None:
                return ""
            clock = db.clock(connection, is_alone=True)
            orphan_at = errands.last_orphan_at(conn)
            if orphan_at is not None and clock.now() - orphan_at < _ORPHANS_MS:
                return "a process died a moment ago with requests in flight; ask again in a minute"
            ledger = Ledger()
            scopes = Scopes(ledger, clock, lambda _notice: None)
            scopes.load(conn, account, self._zone)
            pool = self._pool(conn, account, errand.model)
            if pool is not None:
                scopes.load(conn, pool, self._zone)
            # Booked a little ahead, so that the commit is over by then.
            now, wall = clock.now() + _LEADS_MS[0], clock.wall() + _LEADS_MS[0]
            grant = ledger.reserve(account, pool, now, wall, self._patience_ms)
            if isinstance(grant, Blocked):
                return _words(grant)
            errands.count_request(
                conn, account=account, model=errand.model, run=errand.run, wall=wall_ms()
            )
            _store(conn, ledger, scopes, clock)
        return _Booked(db, ledger, scopes, clock, grant)

    def _account_of(self, conn: DriverConnection) -> ScopeId | None:
        if self._account is None:
            self._account = errands.known_account(conn, self._provider, self.key)
        if self._account is None and self._makes_account:
            self._account = scopes.scope_id(
                conn, kind="account", provider=self._provider, key=self.key, parent_id=None
            )
        return self._account

    def _pool(self, conn: DriverConnection, account: ScopeId, model: str | None) -> ScopeId | None:
        if model is None:
            return None
        return scopes.scope_id(
            conn,
            kind="pool",
            provider=self._provider,
            key=self._pool_of(self._provider, model),
            parent_id=account,
        )

    def _count_beside(self, db: Database, errand: Errand) -> str:
        """Count an errand while another process sends, or return why it may not go."""
        with db.write() as connection:
            conn = driver(connection)
            account, wall = self._account_of(conn), wall_ms()
            if account is None:
                return ""
            views = limits_of_account(connection, account, wall, lambda _provider: self._zone)
            if any(view.value is not None for view in views):
                return _BESIDE
            errands.count_request(
                conn, account=account, model=errand.model, run=errand.run, wall=wall
            )
            for scope in filter(None, (account, self._pool(conn, account, errand.model))):
                errands.count_beside(conn, scope=scope, wall=wall)
        errand.is_booked = True
        return ""


def _store(conn: DriverConnection, ledger: Ledger, scopes: Scopes, clock: Clock) -> None:
    run_cycle(
        conn,
        Cycle(
            wall=int(clock.wall()),
            now=int(clock.now()),
            usage=ledger.take_dirty(),
            scopes=scopes.take_changed(),
        ),
    )


def _words(blocked: Blocked) -> str:
    reason = blocked.reason.value.replace("_", " ")
    if blocked.until_wall is None:
        return f"the account's limits admit no request at all ({reason})"
    at = datetime.fromtimestamp(blocked.until_wall / 1000, UTC)
    return f"the account's limits admit no request before {at:%Y-%m-%d %H:%M:%S} UTC ({reason})"
