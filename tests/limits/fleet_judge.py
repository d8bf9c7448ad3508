"""The judge of workers on one queue: from the provider's log, its clock, and the rows of the database.

It shares no code with the product. Each finding is a sentence:

over    No minute holds more requests than ``rpm``, nor more tokens than ``itpm``, by the provider's own
        clock and count, with no allowance; no 24 hours, and no day of the zone, more than ``rpd``.
used    Of what the limit allows in the whole minutes from the first request to the last while work waited
        at least :data:`BAR` is used, what deaths may have wasted included: the permissions of a
        second each (a lease, for whoever froze), and the time that the server was away.
once    Each job that was answered is completed by one row of the send log and no more; every request
        that arrived is a row; what came again without an answer stored is marked as possibly executed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import accumulate
from typing import Final
from zoneinfo import ZoneInfo

from tests.limits.counting_server import Seen
from tests.limits.fleet import SCHEMA, Fleet, Happened

__all__ = ["BAR", "Limits", "Verdict", "judge"]

BAR: Final = 0.98
MINUTE: Final = 60.0
#: A worker plans a second ahead; what it had planned when it died is lost.
_AHEAD_S: Final = 1.0
#: So long after the server was told to stop all send again (seconds).
_AWAY_S: Final = 10.0

_SENDS: Final = f"""
    SELECT j.key, count(s.job_id), coalesce(sum(s.maybe_executed), 0),
           count(*) FILTER (WHERE s.outcome = 'completed'),
           count(*) FILTER (WHERE s.http_status IS NOT NULL AND s.maybe_executed = 0), max(j.state)
    FROM {SCHEMA}.job j LEFT JOIN {SCHEMA}.send s ON j.id = s.job_id GROUP BY j.key"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What was told to all; ``None``: there is no such limit."""

    rpm: int | None = None
    itpm: int | None = None
    rpd: int | None = None
    zone: str = "rolling"


@dataclass(slots=True)
class Verdict:
    """What was found, and the numbers behind it."""

    problems: list[str] = field(default_factory=list)
    n_seen: int = 0
    #: The most in any minute: requests, tokens.
    most: int = 0
    most_tokens: int = 0
    #: Whole minutes judged, and the shares used in them.
    minutes: int = 0
    used: float | None = None
    tokens_used: float | None = None
    #: The share of the limit that deaths may have wasted, at most.
    wasted: float = 0.0
    #: Jobs that came more than once, and rows that are marked.
    doubled: int = 0
    marked: int = 0
    #: Requests by day of the zone.
    days: dict[date, int] = field(default_factory=dict)


def judge(fleet: Fleet, limits: Limits, *, is_all_done: bool = False) -> Verdict:
    """Judge what a fleet did; ``is_all_done``: every job had to be answered."""
    seen = sorted(fleet.api.seen())
    verdict = Verdict(problems=list(fleet.problems), n_seen=len(seen))
    _over(verdict, seen, limits)
    _days(verdict, seen, limits)
    _used(verdict, seen, limits, fleet.happened)
    _once(verdict, seen, fleet)
    if is_all_done and (left := fleet.n_left()):
        verdict.problems.append(f"once: {left} jobs are not over")
    return verdict


def _over(verdict: Verdict, seen: Sequence[Seen], limits: Limits) -> None:
    times = [one.mono for one in seen]
    sums = [0, *accumulate(one.tokens for one in seen)]
    for first, at in enumerate(times):
        end = bisect_left(times, at + MINUTE)
        verdict.most = max(verdict.most, end - first)
        verdict.most_tokens = max(verdict.most_tokens, sums[end] - sums[first])
    for name, n, limit in (
        ("requests", verdict.most, limits.rpm),
        ("tokens", verdict.most_tokens, limits.itpm),
    ):
        if limit is not None and n > limit:
            verdict.problems.append(f"over: {n} {name} in a minute of {limit}")


def _days(verdict: Verdict, seen: Sequence[Seen], limits: Limits) -> None:
    if limits.rpd is None:
        return
    if limits.zone == "rolling":
        # No story takes a day.
        if len(seen) > limits.rpd:
            verdict.problems.append(f"over: {len(seen)} in a rolling day of {limits.rpd}")
        return
    zone = ZoneInfo(limits.zone)
    verdict.days = dict(Counter(datetime.fromtimestamp(one.wall, zone).date() for one in seen))
    for day, n in verdict.days.items():
        if n > limits.rpd:
            verdict.problems.append(f"over: {n} on {day} ({limits.zone}) of {limits.rpd}")


def _used(
    verdict: Verdict, seen: Sequence[Seen], limits: Limits, happened: Sequence[Happened]
) -> None:
    if len(seen) < 2 or limits.rpd is not None:
        return
    first, last = seen[0].mono, seen[-1].mono
    verdict.minutes = n_minutes = int((last - first) / MINUTE)
    if not n_minutes:
        return
    inside = seen[: bisect_right([one.mono for one in seen], first + n_minutes * MINUTE)]
    n_deaths = sum(one.act in ("kill", "freeze") for one in happened)
    away_s = sum(one.act == "restart" for one in happened) * _AWAY_S

    def wasted(a_minute: int, a_send: int) -> float:
        """Return the share of a limit that deaths may have wasted, at most."""
        of_all = n_deaths * (a_minute / MINUTE * _AHEAD_S + a_send) + a_minute / MINUTE * away_s
        return of_all / (a_minute * n_minutes)

    if limits.rpm is not None:
        verdict.wasted = wasted(limits.rpm, 1)
        verdict.used = len(inside) / (limits.rpm * n_minutes)
        if verdict.used + verdict.wasted < BAR:
            verdict.problems.append(f"used: {verdict.used:.4f} of the minutes' requests")
    if limits.itpm is not None:
        verdict.tokens_used = sum(one.tokens for one in inside) / (limits.itpm * n_minutes)
        if limits.rpm is None:
            verdict.wasted = wasted(limits.itpm, max(one.tokens for one in inside))
            if verdict.tokens_used + verdict.wasted < BAR:
                verdict.problems.append(f"used: {verdict.tokens_used:.4f} of the minutes' tokens")


def _once(verdict: Verdict, seen: Sequence[Seen], fleet: Fleet) -> None:
    arrived = Counter(one.key for one in seen)
    rows = {row[0]: row[1:] for row in fleet.server.execute(_SENDS)}
    for key in sorted(arrived | Counter(dict.fromkeys(rows, 0))):
        n_rows, n_marked, n_completed, n_answered, state = rows.get(key, (0, 0, 0, 0, None))
        n = arrived.get(key, 0)
        verdict.doubled += n > 1
        verdict.marked += int(n_marked)
        if state == "running":
            # Whoever had it died last: the next to come marks it.
            n_rows, n_marked = n_rows + 1, n_marked + 1
        if n > n_rows:
            verdict.problems.append(f"once: {key} arrived {n} times, the log has {n_rows} rows")
        elif n > n_answered + n_marked:
            verdict.problems.append(
                f"once: {key} arrived {n} times: {n_answered} answered, {n_marked} marked"
            )
        if n_completed != (state == "completed"):
            verdict.problems.append(f"once: {key} is {state}, completed by {n_completed} rows")
    if len(verdict.problems) > 20:
        verdict.problems[20:] = ["… and more"]
