"""When a run should be done: its pace, and the days that its daily limit makes of it."""

from __future__ import annotations

from collections.abc import Sequence

from batchrunner.core.days import next_reset
from batchrunner.models import Waiting, WaitingReason
from batchrunner.views import LimitView

_DAY_MS = 86_400_000
#: Waits after which requests are admitted again.
_HAVE_AN_END = frozenset(
    {WaitingReason.RATE_LIMITED, WaitingReason.DAILY_LIMIT, WaitingReason.SPEND_LIMIT}
)


def eta(
    n_left: int,
    per_minute: float | None,
    limits: Sequence[LimitView],
    *,
    wall: int,
    waiting: Waiting | None = None,
) -> int | None:
    """Return when ``n_left`` jobs should be done (wall ms), or ``None`` where nobody can tell.

    That is where no pace is known, and in an outage, whose waits are no promise. What waits for a
    limit goes on when the wait is over, not before. A daily limit that the work does not fit into lays it out over days: what is left of today,
    whole days, and the rest of the last one at the minute's pace.
    """
    if n_left == 0:
        return wall
    rates = [limit.value for limit in limits if limit.limit == "rpm" and limit.value]
    if per_minute is not None:
        rates.append(per_minute)
    if not rates:
        return None
    if waiting is not None and waiting.reason not in _HAVE_AN_END:
        return None
    pace_ms = 60_000.0 / min(rates)
    begins = max(wall, waiting.until or wall) if waiting is not None else wall
    ends = begins + n_left * pace_ms
    for limit in limits:
        if limit.limit == "rpd" and limit.value and limit.remaining is not None:
            ends = max(ends, _over_days(n_left, limit, pace_ms, wall))
    return int(ends)


def _over_days(n_left: int, limit: LimitView, pace_ms: float, wall: int) -> float:
    assert limit.value is not None
    assert limit.remaining is not None
    today = min(n_left, limit.remaining)
    rest = n_left - today
    if rest <= 0:
        return wall + n_left * pace_ms
    if limit.zone == "rolling":
        # Places of a rolling day come free as they were taken, a day later at the earliest.
        days, last = divmod(rest - 1, int(limit.value))
        return wall + (days + 1) * _DAY_MS + (last + 1) * pace_ms
    at: float = wall
    while rest > 0:
        at = next_reset(at, limit.zone or "UTC")
        n = min(rest, int(limit.value))
        rest -= n
        if rest == 0:
            at += n * pace_ms
    return at
