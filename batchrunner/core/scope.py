"""The ledger of one scope, an account or a pool: its usage, caps, pace and pause.

Nothing here books by itself: :class:`batchrunner.core.admission.Ledger` asks two scopes when a send
may go, and books it in both. Two paces are kept. The *planned* one (``next_send_at``, stored)
spreads permissions; the *real* one follows the sends as they go, so that a stall does not end in
a burst.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from batchrunner.core.caps import (
    DAY_MS,
    METERS,
    MIN_INTERVAL,
    MINUTE_MS,
    REQUESTS,
    ROLLING,
    RPD,
    RPM,
    TOKEN_LIMITS,
    Cap,
    Limit,
    Pace,
    effective_caps,
    pace_of,
)
from batchrunner.core.counting import NO_TOKENS, Charge
from batchrunner.core.days import day_start
from batchrunner.core.pause import NO_PAUSE, PauseState, remaining_ms
from batchrunner.core.slots import FOREVER, GUARD_MS, Day, Slots, Window
from batchrunner.core.token_use import DAY_GRAIN, MINUTE_GRAIN, SlotRow, TokenUse, Used
from batchrunner.models import ScopeId

#: A send this late is still covered by its booking: a quarter of the guard, the rest is the wire's.
LATE_MS: Final = GUARD_MS / 4
#: Real sends may run so much ahead of the pace after a stall; more would be a burst to the server.
CATCH_UP_MS: Final = 500.0
#: From so much on the plan is put off by what the real sends run ahead.
DEBT_MS: Final = 150.0

KEEP_MINUTE_MS: Final = 3 * MINUTE_MS
KEEP_DAY_MS: Final = 50 * 3_600_000
#: Old slots are dropped about so often.
_SWEEP_MS: Final = 15_000

#: A provider's count of tokens may be rounded, to a thousand, and guessed: so far it is ours.
_TOLERANCE: Final = 0.02
#: What others used of a rolling day comes back in so many parts.
_PARTS: Final = 16

#: What moved an instant where no limit did.
PAUSE: Final = "pause"


class LimitUse(NamedTuple):
    """One limit in force and what is used of it, for views."""

    limit: Limit
    used: int | None
    remaining: int | None
    #: Wall ms: the next reset of a calendar day, else when the next place becomes free if none is.
    resets_at: int | None


class ScopeLedger:
    """The ledger of one scope: usage, caps, pacing and pause.

    ``next_send_at``, ``last_send_at`` and :attr:`pause` mirror the columns of the row ``scope``;
    :attr:`changed` says whether the first two did since it was last set to ``False``.
    """

    __slots__ = (
        "_days",
        "_forever",
        "_free",
        "_interval",
        "_pace",
        "_paid_until",
        "_put_off_until",
        "_rolling",
        "_swept_at",
        "_windows",
        "changed",
        "day",
        "id",
        "last_send_at",
        "limits",
        "minute",
        "next_send_at",
        "pause",
        "planned_at",
        "tokens",
    )

    def __init__(
        self,
        scope_id: ScopeId,
        *,
        caps: Iterable[Cap] = (),
        slots: Iterable[SlotRow] = (),
        next_send_at: float = 0.0,
        last_send_at: float = 0.0,
        pause: PauseState = NO_PAUSE,
        default_zone: str = "UTC",
        total_has_output: bool = True,
    ) -> None:
        """Load a scope from its rows; a new one needs none."""
        slots = list(slots)
        by_grain: dict[int, list[tuple[int, int]]] = {MINUTE_GRAIN: [], DAY_GRAIN: []}
        for row in slots:
            if row.unit == REQUESTS:
                by_grain[row.grain].append((row.slot, row.n))
        self.id = scope_id
        self.minute = Slots(MINUTE_GRAIN, by_grain[MINUTE_GRAIN])
        self.day = Slots(DAY_GRAIN, by_grain[DAY_GRAIN])
        self.tokens = TokenUse(slots, total_has_output=total_has_output)
        self.next_send_at = next_send_at
        self.last_send_at = last_send_at
        #: The latest instant that was granted: later sends keep the interval from it.
        self.planned_at = last_send_at
        self.pause = pause
        self.changed = False
        #: The pace of the real sends: what ``next_send_at`` is to the planned ones.
        self._paid_until = 0.0
        #: Sends from here on are planned with the last lead of the real ones taken off.
        self._put_off_until = 0.0
        self._swept_at = 0.0
        self.limits: tuple[Limit, ...] = ()
        self.set_caps(caps, default_zone)

    def set_caps(self, caps: Iterable[Cap], default_zone: str = "UTC") -> None:
        """Put these caps in force, in place of all former ones."""
        self.limits = effective_caps(caps, default_zone)
        self._windows: list[tuple[str, Window]] = []
        self._rolling: list[tuple[str, Window]] = []
        self._days: list[tuple[str, Day]] = []
        self._pace: Pace | None = None
        self._interval = 0.0
        self._forever = ""
        for limit in self.limits:
            self._put(limit)
        self.tokens.set_limits(
            limit for limit in self.limits if limit.name in TOKEN_LIMITS and limit.n > 0
        )
        self.minute.watch(window for _, window in self._windows)
        self.day.watch([*(w for _, w in self._rolling), *(d for _, d in self._days)])
        self._free = not self.limits
        self._trim_pacing()

    def _trim_pacing(self) -> None:
        """Take back what a former, slower pace has put off.

        Pacing is never more than one interval and the slack ahead of the last booking.
        """
        self._paid_until = self._put_off_until = 0.0
        if self._pace is None:
            return  # kept: the caps of a scope may come after its row
        booked = (self.minute.newest + 1) * MINUTE_GRAIN if self.minute.counts else 0.0
        ahead = self._pace.interval_ms + self._pace.slack_ms
        self.next_send_at = min(self.next_send_at, max(booked, self.last_send_at) + ahead)

    def _put(self, limit: Limit) -> None:
        name, n = limit.name, limit.n
        if name == MIN_INTERVAL:
            self._interval = n
        elif n <= 0:
            self._forever = name
        elif name == RPM:
            self._windows.append((name, Window(self.minute, int(n), MINUTE_MS)))
            self._pace = pace_of(int(n), MINUTE_MS)
        elif name == RPD and limit.zone == ROLLING:
            self._rolling.append((name, Window(self.day, int(n), DAY_MS)))
        elif name == RPD:
            self._days.append((name, Day(self.day, int(n), limit.zone or "UTC")))

    @property
    def stored_last_send_at(self) -> float:
        """What to store as ``last_send_at``: the latest send, or one that may still go.

        A crash hides whether a planned send went; its instant is committed before it goes, and it may
        go a little later.
        """
        if self.planned_at <= self.last_send_at:
            return self.last_send_at
        return self.planned_at + LATE_MS

    def earliest(
        self,
        t: float,
        *,
        now: float,
        wall: float,
        late_ms: float | None,
        charge: Charge = NO_TOKENS,
    ) -> tuple[float, str]:
        """Return the first instant from ``t`` on that this scope admits, and what moved it last.

        ``late_ms`` is how long ago a send was planned that is to be moved; ``None``: a new one.
        ``charge`` is what it takes of the tokens.
        """
        pause = self.pause
        moved_by = ""
        if pause.until is not None:
            ends = now + remaining_ms(pause, now=now, wall=wall)
            if ends > t:
                t, moved_by = ends, PAUSE
        if self._free:
            return t, moved_by
        if self._forever:
            return FOREVER, self._forever
        at, by = self._after_minute(t, late_ms)
        if not self.tokens.is_limited:
            at, by_day = self._after_day(at, wall - now, late_ms)
            return at, by_day or by or moved_by
        at, by_tokens = self.tokens.after_minute(at, late_ms, charge)
        at, by_day = self._after_day(at, wall - now, late_ms)
        skew = wall - now
        on_wall, by_tokens_day = self.tokens.after_day(at + skew, late_ms, charge)
        return (
            max(at, on_wall - skew) if by_tokens_day else at,
            by_tokens_day or by_day or by_tokens or by or moved_by,
        )

    def _after_minute(self, t: float, late_ms: float | None) -> tuple[float, str]:
        """Move ``t`` to where the pace, the windows and the interval admit it, all on steady time."""
        moved_by = ""
        is_new = late_ms is None
        if pace := self._pace:
            free = self.next_send_at - pace.slack_ms if is_new else self._paid_until - CATCH_UP_MS
            if free > t:
                t, moved_by = free, RPM
        for name, window in self._windows:
            free = window.earliest(t) if late_ms is None else window.earliest_moved(t, late_ms)
            if free > t:
                t, moved_by = free, name
        if self._interval:
            before = max(self.planned_at, self.last_send_at) if is_new else self.last_send_at
            if before + self._interval > t:
                t, moved_by = before + self._interval, MIN_INTERVAL
        return t, moved_by

    def _after_day(self, t: float, skew: float, late_ms: float | None) -> tuple[float, str]:
        """Move ``t`` to where the days admit it; they are on wall time, ``skew`` ahead of steady."""
        moved_by = ""
        for name, rolling in self._rolling:
            at = t + skew
            free = rolling.earliest(at) if late_ms is None else rolling.earliest_moved(at, late_ms)
            if free > at:
                t, moved_by = free - skew, name
        # Last, since a calendar day alone can refuse an instant after one that it admits.
        for name, day in self._days:
            if (free := day.earliest(t + skew)) > t + skew:
                t, moved_by = free - skew, name
        return t, moved_by

    def wait_ms(self, now: float, *, moved: bool) -> float:
        """Return how long a send must still wait so that the real sends keep interval and pace."""
        wait = 0.0
        if self._interval:
            wait = self.last_send_at + self._interval - now
        if self._pace and not moved:
            wait = max(wait, self._paid_until - CATCH_UP_MS - now)
        return max(0.0, wait)

    def book(
        self,
        t: float,
        minute_slot: int,
        day_slot: int,
        charge: Charge = NO_TOKENS,
        *,
        moved: bool,
    ) -> None:
        """Count one send at ``t``, which :meth:`earliest` admitted."""
        self.minute.add(minute_slot, 1)
        self.day.add(day_slot, 1)
        self.tokens.book(minute_slot, day_slot, charge)
        self.planned_at = max(self.planned_at, t)
        self.changed = True
        if pace := self._pace:
            if moved:
                self._pay(t, pace)
            else:
                self.next_send_at = max(self.next_send_at, t) + pace.interval_ms

    def _pay(self, at: float, pace: Pace) -> None:
        """Pace a real send at ``at``, and put the plan off by what the sends run ahead.

        Late sends join those that were planned for now. A server that refills evenly has lost what
        was not sent in time, so what is sent now is missing later.
        """
        ahead = max(0.0, self._paid_until - at)
        self._paid_until = at + ahead + pace.interval_ms
        if ahead > DEBT_MS and at > self._put_off_until:
            self.next_send_at += ahead
            self._put_off_until = self.next_send_at

    def count(self, now: float, wall: float, n: int) -> None:
        """Count ``n`` sends that went out as another scope's."""
        self.minute.add(int(now // MINUTE_GRAIN), n)
        self.day.add(int(wall // DAY_GRAIN), n)
        self.last_send_at = max(self.last_send_at, now)
        self.changed = True

    def unbook(self, minute_slot: int, day_slot: int, charge: Charge = NO_TOKENS) -> None:
        """Take one send out of its slots."""
        self.minute.add(minute_slot, -1)
        self.day.add(day_slot, -1)
        self.tokens.book(minute_slot, day_slot, charge, -1)

    def adopt(self, row: SlotRow, before: int) -> None:
        """Take a stored slot that others may have changed; ``before``: what was stored when last seen.

        What is booked here and not stored yet counts on.
        """
        by = row.n - before
        if not by:
            return
        if row.unit != REQUESTS:
            self.tokens.adopt(row.unit, row.grain, row.slot, by)
        else:
            (self.minute if row.grain == MINUTE_GRAIN else self.day).adopt(row.slot, by)

    def adopt_pace(self, next_send_at: float, last_send_at: float) -> None:
        """Take the stored pace where others have planned further on."""
        self.next_send_at = max(self.next_send_at, next_send_at)
        self.last_send_at = max(self.last_send_at, last_send_at)
        self.planned_at = max(self.planned_at, last_send_at)

    def stored_slots(self) -> Iterator[tuple[str, Slots]]:
        """Yield the slots that are stored, with their unit."""
        yield REQUESTS, self.minute
        yield REQUESTS, self.day
        yield from self.tokens.stored()

    def undo_plan(self, t: float, before: tuple[float, float]) -> None:
        """Put pacing back if the plan at ``t`` was the last one."""
        paced = before[0] if not self._pace else max(before[0], t) + self._pace.interval_ms
        if self.planned_at == t and self.next_send_at == paced:
            self.next_send_at, self.planned_at = before

    def went(self, at: float, *, moved: bool) -> None:
        """Note the instant of a real send."""
        self.last_send_at = max(self.last_send_at, at)
        self.changed = True
        if self._pace and not moved:
            self._pay(at, self._pace)

    def allow_for_others(
        self,
        name: str,
        used: int,
        *,
        sent_at: float,
        sent_wall: float,
        now: float,
        wall: float,
        free_at: int | None,
    ) -> None:
        """Count what a provider says is used of a limit beyond what went out from here.

        ``used`` was so when it took a request that was sent at ``sent_at``; all that may have counted
        then is ours, what was planned since included. It counts until ``free_at`` (wall), when the
        provider's own count is whole again; a day that rolls gets it back little by little.
        """
        unit, window_ms = METERS[name]
        is_day = window_ms == DAY_MS
        limit = next(limit for limit in self.limits if limit.name == name)
        is_rolling = is_day and limit.zone == ROLLING
        slots = self.tokens.slots(unit, window_ms) if unit != REQUESTS else None
        slots = slots or (self.day if is_day else self.minute)
        begins: float = sent_wall if is_day else sent_at
        begins = (
            day_start(begins, limit.zone or "UTC")
            if is_day and not is_rolling
            else (begins - window_ms - GUARD_MS)
        )
        excess = used - slots.since(int(begins // slots.grain))
        if excess <= (_TOLERANCE * limit.n if unit != REQUESTS else 0):
            return
        at = wall if is_day else now
        counted = at
        if free_at is not None and not (is_day and not is_rolling):
            counted = min(at, at - window_ms + max(0.0, free_at - wall))
        parts = _PARTS if is_rolling else 1
        for i in range(parts):
            share = excess * (i + 1) // parts - excess * i // parts
            instant = at - window_ms + (counted - at + window_ms) * (i + 1) / parts
            self._count_others(unit, int(instant // slots.grain), share, is_day=is_day)

    def _count_others(self, unit: str, slot: int, n: int, *, is_day: bool) -> None:
        if unit == REQUESTS:
            (self.day if is_day else self.minute).add(slot, n)
        else:
            self.tokens.count_others(unit, slot, n, DAY_GRAIN if is_day else MINUTE_GRAIN)

    def sweep(self, now: float, wall: float) -> None:
        """Drop usage that no limit looks at any more."""
        if now - self._swept_at < _SWEEP_MS:
            return
        self._swept_at = now
        minute = int((now - KEEP_MINUTE_MS) // MINUTE_GRAIN)
        # The earlier clock: a wall that ran ahead for a while must not lose a day's counts.
        day = int((min(now, wall) - KEEP_DAY_MS) // DAY_GRAIN)
        self.minute.forget_before(minute)
        self.day.forget_before(day)
        self.tokens.forget_before(minute, day)

    def uses(self, *, now: float, wall: float) -> Sequence[LimitUse]:
        """Return every limit in force with what is used of it."""
        counters = self.tokens.uses(now, wall)
        for name, window in self._windows:
            free_at = window.earliest(now) + wall - now
            counters[name] = Used(window.used(now), int(free_at), is_calendar=False)
        for name, rolling in self._rolling:
            counters[name] = Used(
                rolling.used(wall), int(rolling.earliest(wall)), is_calendar=False
            )
        for name, day in self._days:
            counters[name] = Used(day.used(wall), day.resets_at(wall), is_calendar=True)
        uses = []
        for limit in self.limits:
            counter = counters.get(limit.name)
            if counter is None:
                uses.append(LimitUse(limit, None, None, None))
                continue
            remaining = max(0, int(limit.n) - counter.used)
            is_shown = counter.is_calendar or not remaining
            uses.append(
                LimitUse(limit, counter.used, remaining, counter.resets_at if is_shown else None)
            )
        return uses
