"""Who may send, and when: the ledger of what was used, and the limits asked of it.

The ledger stores what was used, never what follows from a limit; so changed limits, several runs
and restarts need no conversion. A send passes two scopes, its account and its model's pool, and
:meth:`Ledger.reserve` books it in both or in none.

A send at t is admitted if for each limit the sends in slots that end after t - T - 250 ms, bookings
in the future included, plus one are no more than N; and so are their tokens, with what is reserved for
it until its answer tells (:meth:`Ledger.correct`). A send may therefore go up to
:data:`LATE_MS` after its instant as it is; a later one asks :meth:`Ledger.rebook` first.

Two times, both epoch ms: ``now`` is steady (minute windows, pacing, intervals), ``wall`` is the
calendar's (days, pauses). See :mod:`batchrunner.clock`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from typing import Final, NamedTuple

from batchrunner.core.caps import DAILY, METERS, MIN_INTERVAL, Cap, Limit, effective_caps
from batchrunner.core.counting import NO_TOKENS, Charge
from batchrunner.core.scope import LATE_MS, PAUSE, LimitUse, ScopeLedger
from batchrunner.core.slots import FOREVER
from batchrunner.core.token_use import DAY_GRAIN, MINUTE_GRAIN, SlotRow
from batchrunner.models import ScopeId, WaitingReason

__all__ = [
    "LATE_MS",
    "PAUSE",
    "REBOOK_HORIZON_MS",
    "Blocked",
    "Cap",
    "DirtySlot",
    "Grant",
    "Ledger",
    "Limit",
    "LimitUse",
    "ScopeLedger",
    "SlotRow",
    "effective_caps",
]

#: How far ahead a late send may be moved.
REBOOK_HORIZON_MS: Final = 5_000.0

#: What a person is told a wait for a cap of our own is.
_REASONS: Final = {
    **dict.fromkeys(METERS, WaitingReason.RATE_LIMITED),
    **dict.fromkeys(DAILY, WaitingReason.DAILY_LIMIT),
    MIN_INTERVAL: WaitingReason.RATE_LIMITED,
}


class DirtySlot(NamedTuple):
    """A row of ``usage_slot`` to be upserted; ``n`` is the whole count, not a difference."""

    scope_id: ScopeId
    unit: str
    grain: int
    slot: int
    n: int


class Grant(NamedTuple):
    """Permission for one send, booked in its scopes."""

    #: When to send: steady, ms.
    instant: float
    account: ScopeId
    pool: ScopeId | None
    #: Slots it is booked in.
    minute_slot: int
    day_slot: int
    #: ``(next_send_at, planned_at)`` of each scope before, so that the last grant can be undone.
    before: tuple[tuple[float, float], ...] = ()
    #: Moved by :meth:`Ledger.rebook`, which has paced its real send.
    moved: bool = False
    #: What it takes of the tokens, as booked.
    charge: Charge = NO_TOKENS


class Blocked(NamedTuple):
    """No permission within the horizon; nothing is booked."""

    #: When to look again, an estimate (steady ms); ``None``: only a change of limits can help.
    until: float | None
    #: The same on the wall.
    until_wall: int | None
    reason: WaitingReason
    #: The name of a limit, or ``pause``.
    limit: str
    scope: ScopeId


class Ledger:
    """All scopes, and the operation on two of them."""

    def __init__(self, scopes: Iterable[ScopeLedger] = ()) -> None:
        """Take the scopes; more may be added later."""
        self.scopes: dict[ScopeId, ScopeLedger] = {scope.id: scope for scope in scopes}
        #: Is told of each scope that is added, before anything is booked in it.
        self.added: Callable[[ScopeLedger], None] = _ignore
        #: Grows whenever limits change: a grant given under others must be asked for anew.
        self.version = 0
        #: Tokens that were told where no limit asks for them, by account, pool and slots.
        self._told: dict[tuple[ScopeId, ScopeId | None, int, int], Charge] = {}

    def __getitem__(self, scope_id: ScopeId) -> ScopeLedger:
        """Return a scope."""
        return self.scopes[scope_id]

    def __contains__(self, scope_id: ScopeId) -> bool:
        """Return whether the scope is known."""
        return scope_id in self.scopes

    def add(self, scope: ScopeLedger) -> None:
        """Add a scope, or put it in the place of the one with its id."""
        self.scopes[scope.id] = scope
        self.added(scope)

    def _chain(self, account: ScopeId, pool: ScopeId | None) -> tuple[ScopeLedger, ...]:
        if pool is None:
            return (self.scopes[account],)
        return self.scopes[account], self.scopes[pool]

    def reserve(
        self,
        account: ScopeId,
        pool: ScopeId | None,
        now: float,
        wall: float,
        horizon_ms: float,
        *,
        charge: Charge = NO_TOKENS,
    ) -> Grant | Blocked:
        """Book one send at the earliest instant that both scopes admit, at most ``horizon_ms`` ahead.

        ``charge`` is reserved of the tokens.

        Returns:
            The grant, or ``Blocked``, and then nothing has changed.
        """
        return self._place(account, pool, now, wall, horizon_ms, charge=charge, late_ms=None)

    def counts_tokens(self, account: ScopeId, pool: ScopeId | None) -> bool:
        """Whether a send of these must say what it takes of the tokens."""
        return any(scope.tokens.is_limited for scope in self._chain(account, pool))

    def reserve_free(
        self, account: ScopeId, pool: ScopeId | None, now: float, wall: float, n: int
    ) -> Grant | None:
        """Book ``n`` sends at once where neither scope has a limit or a pause.

        Returns:
            One grant that stands for each of them, or ``None``: ask :meth:`reserve`.
        """
        chain = self._chain(account, pool)
        if any(scope.limits or scope.pause.until is not None for scope in chain):
            return None
        minute_slot, day_slot = int(now // MINUTE_GRAIN), int(wall // DAY_GRAIN)
        before = tuple((scope.next_send_at, scope.planned_at) for scope in chain)
        for scope in chain:
            scope.minute.add(minute_slot, n)
            scope.day.add(day_slot, n)
            scope.sweep(now, wall)
        return Grant(now, account, pool, minute_slot, day_slot, before)

    def _place(
        self,
        account: ScopeId,
        pool: ScopeId | None,
        now: float,
        wall: float,
        horizon_ms: float,
        *,
        charge: Charge,
        late_ms: float | None,
    ) -> Grant | Blocked:
        chain = self._chain(account, pool)
        last, moved = now + horizon_ms, late_ms is not None
        t = now
        while True:
            start = t
            for scope in chain:
                t, moved_by = scope.earliest(t, now=now, wall=wall, late_ms=late_ms, charge=charge)
                if t > last:
                    return _blocked(t, now, wall, moved_by, scope)
            # Two scopes may move each other on; once neither does, both admit it.
            if t == start:
                break
        minute_slot, day_slot = int(t // MINUTE_GRAIN), int((t + wall - now) // DAY_GRAIN)
        before = tuple((scope.next_send_at, scope.planned_at) for scope in chain)
        for scope in chain:
            scope.book(t, minute_slot, day_slot, charge, moved=moved)
            scope.sweep(now, wall)
        return Grant(t, account, pool, minute_slot, day_slot, before, moved, charge)

    def release(self, grant: Grant) -> None:
        """Give back a grant that was not sent, once. Pacing stays unless it was the last grant."""
        for scope, before in zip(self._chain(grant.account, grant.pool), grant.before, strict=True):
            scope.unbook(grant.minute_slot, grant.day_slot, grant.charge)
            if not grant.moved:
                scope.undo_plan(grant.instant, before)

    def rebook(
        self, grant: Grant, now: float, wall: float, charge: Charge | None = None
    ) -> Grant | Blocked:
        """Move a late send to now, or to the next instant within some seconds that is free.

        ``charge`` is what it takes of the tokens by now; ``None``: what it did.

        Its own booking does not count. With ``Blocked`` its usage has been given back and the send
        must not go. It has been paced once and does not queue again behind what is planned by now.
        """
        for scope in self._chain(grant.account, grant.pool):
            scope.unbook(grant.minute_slot, grant.day_slot, grant.charge)
        late_ms = now - grant.instant
        return self._place(
            grant.account,
            grant.pool,
            now,
            wall,
            REBOOK_HORIZON_MS,
            charge=grant.charge if charge is None else charge,
            late_ms=late_ms,
        )

    def larger_than(self, grant: Grant) -> Limit | None:
        """Return a token limit that a send alone is larger than."""
        for scope in self._chain(grant.account, grant.pool):
            if (limit := scope.tokens.larger_than(grant.charge)) is not None:
                return limit
        return None

    def correct(self, grant: Grant, charge: Charge) -> None:
        """Have a send count what it took of the tokens, in place of what was reserved for it, once."""
        if grant.charge == charge:
            return
        off = Charge(charge.input - grant.charge.input, charge.output - grant.charge.output)
        if grant.charge == NO_TOKENS and not self.counts_tokens(grant.account, grant.pool):
            # Nobody asks for it now: booked with others of its slots.
            where = grant.account, grant.pool, grant.minute_slot, grant.day_slot
            told = self._told.get(where, NO_TOKENS)
            self._told[where] = Charge(told.input + off.input, told.output + off.output)
            return
        for scope in self._chain(grant.account, grant.pool):
            scope.tokens.book(grant.minute_slot, grant.day_slot, off)

    def book_told(self) -> None:
        """Book the tokens that no limit asked for when they were told: one may from now on."""
        told, self._told = self._told, {}
        for (account, pool, minute_slot, day_slot), charge in told.items():
            for scope in self._chain(account, pool):
                scope.tokens.book(minute_slot, day_slot, charge)

    def may_send(self, grant: Grant, now: float) -> float:
        """Return how long (ms) the send must still wait for those before it; 0: send, and say so.

        ``min_interval`` holds between real sends, and after a stall the real sends are paced anew.
        Others may go during the wait: ask again after it (and rebook, if it is late by then), and
        call :meth:`sent` in the same step in which this returned 0.
        """
        return max(
            scope.wait_ms(now, moved=grant.moved)
            for scope in self._chain(grant.account, grant.pool)
        )

    def sent(self, grant: Grant, at: float) -> None:
        """Note that the send really went at ``at`` (steady)."""
        for scope in self._chain(grant.account, grant.pool):
            scope.went(at, moved=grant.moved)

    def unstored(self) -> set[ScopeId]:
        """Return the scopes that have slots to upsert."""
        self.book_told()
        return {
            scope.id
            for scope in self.scopes.values()
            if any(slots.dirty for _, slots in scope.stored_slots())
        }

    def take_dirty(self, of: Container[ScopeId] | None = None) -> list[DirtySlot]:
        """Return the slots to upsert, and take them as stored; see :meth:`put_back`.

        ``of``: the scopes that are stored now; ``None``: all.
        """
        self.book_told()
        return [
            DirtySlot(scope.id, unit, slots.grain, slot, n)
            for scope in self.scopes.values()
            if of is None or scope.id in of
            for unit, slots in scope.stored_slots()
            if slots.dirty
            for slot, n in slots.take_dirty()
        ]

    def put_back(self, rows: Iterable[DirtySlot]) -> None:
        """Mark the slots of these rows dirty again, because their commit failed."""
        for row in rows:
            for unit, slots in self.scopes[row.scope_id].stored_slots():
                if (unit, slots.grain) == (row.unit, row.grain) and row.slot in slots.counts:
                    slots.dirty.add(row.slot)


def _ignore(_scope: ScopeLedger) -> None:
    """Nobody shares the ledger."""


def _blocked(t: float, now: float, wall: float, moved_by: str, scope: ScopeLedger) -> Blocked:
    reason = _REASONS.get(moved_by) or scope.pause.reason or WaitingReason.RATE_LIMITED
    if t == FOREVER:
        return Blocked(None, None, reason, moved_by, scope.id)
    return Blocked(t, int(t + wall - now) + 1, reason, moved_by, scope.id)
