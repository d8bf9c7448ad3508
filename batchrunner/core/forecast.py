"""When so many jobs will have been sent: limits laid out over days.

Jobs flow: as fast as the slowest speed lets them, and no more of them in a day than its cap has room
for (:mod:`batchrunner.core.bounds`). A day of a zone begins anew at its midnight; of a rolling one, places
come free a day after they were taken, those taken before included. What comes out is a curve, jobs
against time, from which days and the end are read. Jobs are told in fractions inside it, so that a
limit of tokens is one of jobs of so many tokens each.

Instants are epoch milliseconds on the wall clock. It is held against a simulation that sends job
by job (``tests/property/test_forecast.py``).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import floor, inf
from typing import Final, NamedTuple

from batchrunner.core.bounds import Bounds, DayCap, Speed
from batchrunner.core.caps import DAY_MS, ROLLING
from batchrunner.core.days import day_start, next_reset

__all__ = ["DayPlan", "Forecast", "Point", "forecast"]

#: Nobody plans further ahead; what would take longer has no end.
HORIZON_MS: Final = 5 * 366 * DAY_MS
#: Faster than anything, and still a number.
_MOST_PER_MS: Final = 100.0
#: What used places of a rolling day are gathered into: half hours.
_GATHERED_MS: Final = DAY_MS // 48
#: Less of a job is none.
_TINY: Final = 1e-6


class Point(NamedTuple):
    """So many jobs by then; straight lines lead from one to the next."""

    at: float
    n: float


class DayPlan(NamedTuple):
    """What is sent on one day."""

    #: When the day begins, and when the next does.
    begins: int
    ends: int
    n: int
    #: When the first and the last of them go.
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How a number of jobs goes out."""

    n: int
    curve: tuple[Point, ...]

    @property
    def last_at(self) -> float | None:
        """When the last job goes; ``None``: never, or too far off to be told."""
        return self._sent_at(self.n - 1) if self.n else self.curve[0].at

    def days(self, zone: str) -> list[DayPlan]:
        """Return the days of a zone on which something is sent."""
        plans: list[DayPlan] = []
        begins, sent = day_start(self.curve[0].at, zone), 0
        while sent < self.n and begins <= self.curve[-1].at:
            ends = next_reset(begins, zone)
            by_then = self._sent_by(ends)
            if by_then > sent:
                first, last = self._sent_at(sent), self._sent_at(by_then - 1)
                assert first is not None
                assert last is not None
                plans.append(DayPlan(begins, ends, by_then - sent, int(first), int(last)))
                sent = by_then
            begins = ends
        return plans

    def _sent_by(self, at: float) -> int:
        """Return how many jobs are sent before an instant: those that have begun to flow."""
        return min(self.n, max(0, floor(_by(self.curve, at) - _TINY) + 1))

    def _sent_at(self, k: int) -> float | None:
        """Return when the job after ``k`` others begins to flow."""
        n = k + _TINY
        index = bisect_left(self.curve, n, key=lambda point: point.n)
        if index == len(self.curve):
            return None
        if index == 0:
            return self.curve[0].at
        before, after = self.curve[index - 1], self.curve[index]
        return before.at + (after.at - before.at) * (n - before.n) / (after.n - before.n)


def forecast(account: Bounds, pools: Sequence[tuple[int, Bounds]], *, now: float) -> Forecast:
    """Return how jobs go out that have one account.

    Args:
        account: what bounds all of them together.
        pools: how many there are of each pool, and what bounds these alone.
        now: when they may begin.
    """
    n = sum(n for n, _ in pools)
    if len(pools) == 1:
        # What bounds the same jobs is best taken together.
        (_, pool), *_ = pools
        both = Bounds(speeds=(*account.speeds, *pool.speeds), days=(*account.days, *pool.days))
        return Forecast(n=n, curve=_curve(n, both, now))
    # None is faster than its account, nor the account than all of them.
    together = sum((pool.per_ms for _, pool in pools), 0.0)
    all_jobs = replace(account, speeds=(*account.speeds, Speed("", together)))
    curves = [
        _curve(n_pool, replace(pool, speeds=(*account.speeds, *pool.speeds)), now)
        for n_pool, pool in pools
    ]
    return Forecast(n=n, curve=_lower(_curve(n, all_jobs, now), _sum(curves)))


def _curve(n: float, bounds: Bounds, now: float) -> tuple[Point, ...]:
    """Return how ``n`` jobs flow, from ``now`` until all are through or nothing moves any more."""
    speed = min(bounds.per_ms, _MOST_PER_MS)
    meters: list[_Day | _Rolling] = [
        (_Rolling if cap.zone == ROLLING else _Day)(cap, now) for cap in bounds.days
    ]
    at, done = now, 0.0
    points = [Point(at, done)]
    ends = now + HORIZON_MS
    while n - done > _TINY / 2 and at < ends:
        flow = max(0.0, min([speed, *(meter.lets() for meter in meters)]))
        left = (n - done) / flow if flow > 0 else inf
        span = min([left, *(meter.holds_for(at, flow) for meter in meters)])
        if span == inf:
            break
        # A flow that no day cuts would go on for centuries, of which no calendar knows.
        span = min(span, ends - at)
        at, done = at + span, (n if span == left else done + flow * span)
        for meter in meters:
            meter.pass_on(at, span, flow)
        points.append(Point(at, done))
    return tuple(points)


class _Day:
    """What a calendar day has room for, as time goes on."""

    __slots__ = ("_cap", "_resets_at", "_room")

    def __init__(self, cap: DayCap, now: float) -> None:
        began = day_start(now, cap.zone)
        self._cap = cap
        self._room = cap.n - sum(n for at, n in cap.used if at >= began)
        self._resets_at = next_reset(now, cap.zone)

    def lets(self) -> float:
        """Return how fast jobs may flow."""
        return inf if self._room > _TINY else 0.0

    def holds_for(self, at: float, flow: float) -> float:
        """Return for how long that stays so."""
        if self._cap.n <= 0:
            return inf
        resets_in = self._resets_at - at
        return min(resets_in, self._room / flow) if flow > 0 else resets_in

    def pass_on(self, at: float, span: float, flow: float) -> None:
        """Let time pass until ``at``."""
        self._room -= flow * span
        if at >= self._resets_at:
            self._room = self._cap.n
            self._resets_at = next_reset(at, self._cap.zone)


class _Flow(NamedTuple):
    """What frees places of a rolling day: from when, until when, how fast; or some at once."""

    begins: float
    ends: float
    per_ms: float
    at_once: float = 0.0


class _Rolling:
    """What the last 24 hours have room for, as time goes on."""

    __slots__ = ("_frees", "_is_none", "_room", "_speed")

    def __init__(self, cap: DayCap, now: float) -> None:
        gathered: dict[float, float] = {}
        for at, n in cap.used:
            frees_at = min(at, now) + DAY_MS
            if frees_at > now:
                later = now + -(-(frees_at - now) // _GATHERED_MS) * _GATHERED_MS
                gathered[later] = gathered.get(later, 0.0) + n
        self._frees = deque(_Flow(at, at, 0.0, n) for at, n in sorted(gathered.items()))
        self._room = cap.n - sum(gathered.values())
        #: How fast places come free now.
        self._speed = 0.0
        self._is_none = cap.n <= 0

    def lets(self) -> float:
        """Return how fast jobs may flow."""
        if self._is_none:
            return 0.0
        return inf if self._room > _TINY else self._speed

    def holds_for(self, at: float, flow: float) -> float:
        """Return for how long that stays so."""
        if self._is_none:
            return inf
        change = inf
        if self._frees:
            first = self._frees[0]
            change = (first.begins if first.begins > at else first.ends) - at
        drain = flow - self._speed
        return min(change, self._room / drain) if drain > 0 and self._room > _TINY else change

    def pass_on(self, at: float, span: float, flow: float) -> None:
        """Let time pass until ``at``."""
        self._room += (self._speed - flow) * span
        if flow > 0:
            self._frees.append(_Flow(at - span + DAY_MS, at + DAY_MS, flow))
        while self._frees and self._frees[0].ends <= at:
            self._room += self._frees.popleft().at_once
        first = self._frees[0] if self._frees else None
        self._speed = first.per_ms if first is not None and first.begins <= at else 0.0


def _by(curve: Sequence[Point], at: float) -> float:
    """Return how many jobs are through by an instant."""
    index = bisect_right(curve, at, key=lambda point: point.at)
    if index == 0:
        return curve[0].n
    if index == len(curve):
        return curve[-1].n
    before, after = curve[index - 1], curve[index]
    return before.n + (after.n - before.n) * (at - before.at) / (after.at - before.at)


def _sum(curves: Sequence[Sequence[Point]]) -> tuple[Point, ...]:
    ats = sorted({point.at for curve in curves for point in curve})
    return tuple(Point(at, sum(_by(curve, at) for curve in curves)) for at in ats)


def _lower(one: Sequence[Point], other: Sequence[Point]) -> tuple[Point, ...]:
    """Return the lower of two curves at each instant."""
    ats = sorted({point.at for curve in (one, other) for point in curve})
    both = [(at, _by(one, at), _by(other, at)) for at in ats]
    points = [Point(both[0][0], min(both[0][1:]))]
    for (at, a, b), (then, a_then, b_then) in pairwise(both):
        if (a - b) * (a_then - b_then) < 0:
            share = (a - b) / ((a - b) - (a_then - b_then))
            points.append(Point(at + (then - at) * share, a + (a_then - a) * share))
        points.append(Point(then, min(a_then, b_then)))
    return tuple(points)
