"""When a run should be done: its pace, and the days that its daily limit makes of it."""

from __future__ import annotations

from collections.abc import Sequence

from batchrunner.core.bounds import Bounds, DayCap, Speed
from batchrunner.core.caps import RPD
from batchrunner.core.forecast import forecast
from batchrunner.models import Waiting, WaitingReason
from batchrunner.views import LimitView

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
    limit goes on when the wait is over, not before. Daily limits lay it out over days, as a plan does
    (:mod:`batchrunner.core.forecast`).
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
    # Places of a rolling day are taken to come free a day from now: later than they will.
    days = tuple(
        DayCap(
            limit.limit, limit.value, limit.zone or "UTC", ((wall, limit.value - limit.remaining),)
        )
        for limit in limits
        if limit.limit == RPD and limit.value and limit.remaining is not None
    )
    bounds = Bounds(speeds=(Speed("", 1 / pace_ms),), days=days)
    last_at = forecast(bounds, [(n_left, Bounds())], now=begins).last_at
    return None if last_at is None else int(last_at + pace_ms)
