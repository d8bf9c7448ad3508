"""When a run should be done, told from its pace, its limits and what it waits for."""

from __future__ import annotations

from batchrunner.core.pace import eta
from batchrunner.models import Waiting, WaitingReason
from batchrunner.views import LimitView

#: 2026-11-23 09:00 UTC.
NOW = 1_795_424_400_000
MINUTE = 60_000
HOUR = 60 * MINUTE


def limit(name: str, value: int, remaining: int) -> LimitView:
    return LimitView(
        scope="a", limit=name, value=value, source="flag", used=value - remaining,
        remaining=remaining, resets_at=None, zone="UTC" if name == "rpd" else None,
    )  # fmt: skip


def wait(reason: WaitingReason, until: int | None) -> Waiting:
    return Waiting(reason=reason, until=until, detail="")


RPM = limit("rpm", 60, 60)


def test_jobs_are_told_at_the_pace_of_the_minute() -> None:
    """120 jobs at 60 a minute are done in two minutes."""
    assert eta(120, None, [RPM], wall=NOW) == NOW + 2 * MINUTE


def test_nothing_is_done_before_a_pause_is_over() -> None:
    """While the provider has the run wait, it is done the same time after the wait."""
    paused = wait(WaitingReason.RATE_LIMITED, NOW + 7 * MINUTE)
    assert eta(120, None, [RPM], wall=NOW, waiting=paused) == NOW + 9 * MINUTE


def test_a_days_wait_is_not_counted_twice() -> None:
    """A day that is used up delays the rest to the next one, not to the one after it."""
    midnight = NOW + 15 * HOUR
    spent = wait(WaitingReason.DAILY_LIMIT, midnight)
    limits = [RPM, limit("rpd", 10, 0)]
    assert eta(5, None, limits, wall=NOW, waiting=spent) == midnight + 5_000


def test_the_end_of_an_outage_is_not_guessed() -> None:
    """Where one request at a time is tried until one succeeds, nobody knows when that is."""
    for reason in (WaitingReason.OVERLOADED, WaitingReason.NETWORK, WaitingReason.PROXY):
        assert eta(120, 60.0, [RPM], wall=NOW, waiting=wait(reason, NOW + 5_000)) is None
