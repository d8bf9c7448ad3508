"""Where the time of a live run goes: what holds it back now, and the sums until they are stored.

The holder asks once a loop, never once a job. The time between two loops belongs to what the first
one found; the sums are stored with a cycle each second, with the run's end, and now and then in a
long wait, so that a crash loses no more of them than that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from batchrunner.core.admission import Blocked
from batchrunner.core.caps import METERS, MIN_INTERVAL, RPM
from batchrunner.core.pause import remaining_ms
from batchrunner.core.time_use import OUTAGE, RETRY, SENDING, STALLED, WAITS, kind_of
from batchrunner.store.records import TimeSum

if TYPE_CHECKING:
    from batchrunner.engine.live import LiveRun

#: Longer without a loop the machine slept, or the disk stood still (ms): loops are 250 ms apart.
STALL_MS: Final = 10_000.0
#: A permission for later than this (ms) waits for a limit's pace, not for the next loop.
_AHEAD_MS: Final = 50.0
_MS_A_DAY: Final = 86_400_000
_LIMITS: Final = frozenset({*METERS, MIN_INTERVAL})


class TimeUse:
    """The time of one run since it was last stored."""

    __slots__ = ("_sums", "cause", "since", "stored_at")

    def __init__(self, now: float) -> None:
        """Begin at ``now`` (steady ms)."""
        #: What its time goes into since ``since``.
        self.cause = SENDING
        self.since = self.stored_at = now
        self._sums: dict[tuple[int, str], float] = {}

    def turn(self, cause: str, now: float, wall: float) -> None:
        """Count the time until now, and say what it goes into from now on."""
        elapsed = now - self.since
        if elapsed > 0.0:
            key = (int(wall // _MS_A_DAY), self.cause if elapsed < STALL_MS else STALLED)
            self._sums[key] = self._sums.get(key, 0.0) + elapsed
            self.since = now
        self.cause = cause

    def take(self, run: LiveRun, now: float, wall: float) -> list[TimeSum]:
        """Return what is to be stored, up to ``now``, and hold it no more."""
        self.turn(self.cause, now, wall)
        sums, self._sums = self._sums, {}
        self.stored_at = now
        return [
            TimeSum(run.id, day, run.account.id, cause, ms) for (day, cause), ms in sums.items()
        ]


def cause_of(run: LiveRun, now: float, wall: float) -> str:
    """Return what keeps the run's next request from going out, after the last plan."""
    if run.streak.is_outage:
        return OUTAGE
    if run.is_stopping:
        # What is in flight is waited for; nothing new is asked for any more.
        return SENDING
    return _limit_of(run, now, wall) or (RETRY if _is_backing_off(run, now) else SENDING)


def _limit_of(run: LiveRun, now: float, wall: float) -> str | None:
    """Return the limit, the pause or the budget that holds the run back."""
    blocked = _blocked(run, now)
    if blocked is not None:
        return blocked.limit if blocked.limit in _LIMITS else blocked.reason.value
    if run.waiting is not None and not run.outstanding:
        return run.waiting.reason.value
    if run.outstanding <= run.in_flight or run.in_flight >= run.in_flight_bound():
        return None
    return _held_until_planned(run, now, wall)


def _is_backing_off(run: LiveRun, now: float) -> bool:
    """Whether all that is left to send has failed before, and is not due yet."""
    if run.outstanding or not run.counts.pending:
        return False
    lanes = [lane for model_id, lane in run.lanes.items() if model_id not in run.holds]
    return not any(lane.is_ready(now) for lane in lanes) and any(
        lane.next_due is not None for lane in lanes
    )


def _blocked(run: LiveRun, now: float) -> Blocked | None:
    """Return what holds every lane back that has a job to send; the first to be over."""
    first: Blocked | None = None
    for model_id, lane in run.lanes.items():
        if model_id in run.holds:
            continue
        blocked = lane.blocked
        if blocked is None:
            if lane.is_ready(now):
                return None
        elif first is None or _ends(blocked) < _ends(first):
            first = blocked
    return first


def _ends(blocked: Blocked) -> float:
    return float("inf") if blocked.until is None else blocked.until


def _held_until_planned(run: LiveRun, now: float, wall: float) -> str | None:
    """Return what the claims that no sender has sent yet wait for: their instants lie ahead."""
    scopes = {run.account, *(lane.pool for lane in run.lanes.values())}
    ahead = [scope for scope in scopes if scope.planned_at > now + _AHEAD_MS]
    if not ahead:
        return None
    for scope in scopes:
        if scope.pause.reason is not None and remaining_ms(scope.pause, now=now, wall=wall) > 0:
            return scope.pause.reason.value
    if not run.in_flight and kind_of(run.times.cause) in WAITS:
        # The last second of a wait, in which what comes after it is claimed.
        return run.times.cause
    names = {limit.name for scope in ahead for limit in scope.limits}
    return next((name for name in (MIN_INTERVAL, RPM) if name in names), None)
