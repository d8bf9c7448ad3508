"""Three ways in which servers count requests, and a sender on a fake clock to try them with.

The servers share nothing with the program: each says of a list of arrival times how many it refuses.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count, cycle
from typing import Final

from batchrunner.core.admission import LATE_MS, Blocked, Grant, Ledger
from batchrunner.models import ScopeId

MINUTE: Final = 60_000.0
#: The account that :func:`drive` sends for.
ACCOUNT: Final = ScopeId(1)


def refused_by_sliding_window(arrivals: Sequence[float], n: int, window: float = MINUTE) -> int:
    """Count the requests that find n others in the window before them."""
    inside: deque[float] = deque()
    refused = 0
    for t in arrivals:
        while inside and inside[0] <= t - window:
            inside.popleft()
        if len(inside) >= n:
            refused += 1
        else:
            inside.append(t)
    return refused


def refused_by_fixed_window(arrivals: Sequence[float], n: int, window: float = MINUTE) -> int:
    """Count refusals by windows on a grid, at the worst of sixty phases of the grid."""
    worst = 0
    for phase in range(60):
        seen: dict[int, int] = {}
        for t in arrivals:
            index = int((t - phase * window / 60) // window)
            seen[index] = seen.get(index, 0) + 1
        worst = max(worst, sum(max(0, k - n) for k in seen.values()))
    return worst


def refused_by_token_bucket(arrivals: Sequence[float], n: int, window: float = MINUTE) -> int:
    """Count refusals by a bucket that refills evenly and holds a second's worth, at least 2."""
    capacity = max(2.0, n / 60)
    tokens, last, refused = capacity, arrivals[0] if arrivals else 0.0, 0
    for t in arrivals:
        tokens = min(capacity, tokens + (t - last) * n / window)
        last = t
        if tokens < 1:
            refused += 1
        else:
            tokens -= 1
    return refused


SERVERS: Final[dict[str, Callable[[Sequence[float], int], int]]] = {
    "sliding": refused_by_sliding_window,
    "fixed": refused_by_fixed_window,
    "bucket": refused_by_token_bucket,
}


def most_in_a_window(arrivals: Sequence[float], window: float) -> int:
    """Return the most arrivals that any half-open window holds."""
    return max((bisect_left(arrivals, t + window) - i for i, t in enumerate(arrivals)), default=0)


def drive(
    ledger: Ledger,
    pools: Sequence[ScopeId | None],
    *,
    start: float,
    end: float,
    lateness: Callable[[], float],
    skew: float = 0.0,
    horizon: float = 1_000.0,
    commit: Callable[[], None] = lambda: None,
) -> list[float]:
    """Send as much as the ledger lets through from ``start`` to ``end``; return the real instants.

    Work always waits, for the pools in turn. Each send is late by what ``lateness`` returns; one that
    its booking does not cover asks to be rebooked, as the engine's gate does. ``commit`` is called
    before anything goes that was booked. At ``end`` the sender is killed.
    """
    sends: list[float] = []
    order = count()
    queue: list[tuple[float, int, Grant]] = []
    turns = cycle(pools)
    now = start
    while now < end:
        idle, look = 0, end
        while idle < len(pools):
            plan = ledger.reserve(ACCOUNT, next(turns), now, now + skew, horizon)
            if isinstance(plan, Blocked):
                idle += 1
                if plan.until is not None:
                    look = min(look, max(plan.until - horizon, now + 1))
                continue
            idle = 0
            heapq.heappush(queue, (plan.instant + lateness(), next(order), plan))
        commit()
        while queue and queue[0][0] <= look:
            t, _, grant = heapq.heappop(queue)
            if t >= end:
                break
            if t - grant.instant > LATE_MS:
                moved = ledger.rebook(grant, t, t + skew)
                commit()
                if isinstance(moved, Grant):
                    heapq.heappush(queue, (moved.instant, next(order), moved))
                continue
            if wait := ledger.may_send(grant, t):
                heapq.heappush(queue, (t + wait, next(order), grant))
                continue
            ledger.sent(grant, t)
            sends.append(t)
        now = look
    return sends
