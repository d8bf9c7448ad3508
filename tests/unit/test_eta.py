"""When a run should be done, told from its pace, its limits and what it waits for."""

from __future__ import annotations

from dataclasses import replace

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


def test_several_days_are_laid_out_with_what_is_left_of_today() -> None:
    """With 4 of 10 left today, 25 jobs take two more whole days, and one of the third."""
    midnight = NOW + 15 * HOUR
    limits = [RPM, limit("rpd", 10, 4)]
    assert eta(25, None, limits, wall=NOW) == midnight + 48 * HOUR + 1_000
    assert eta(24, None, limits, wall=NOW) == midnight + 24 * HOUR + 10_000


def test_two_daily_limits_hold_together() -> None:
    """Of two that hold at once, it is the tighter one on each day that counts."""
    tighter = replace(limit("rpd", 5, 5), zone="Asia/Tokyo")
    ends = eta(15, None, [RPM, limit("rpd", 10, 1), tighter], wall=NOW)
    # One now, five at UTC's midnight, five at Tokyo's (15:00), and four at its next: UTC's is full by then.
    assert ends == NOW + (6 + 2 * 24) * HOUR + 4_000


def test_a_rolling_day_that_is_full_goes_on_a_day_later() -> None:
    """Where nothing is left of the last 24 hours, the rest goes on a day from now at the latest."""
    rolling = replace(limit("rpd", 10, 0), zone="rolling")
    assert eta(5, None, [RPM, rolling], wall=NOW) == NOW + 24 * HOUR + 5_000


def test_an_end_in_decades_is_not_told() -> None:
    """A million jobs at one a day have no date."""
    assert eta(1_000_000, None, [RPM, limit("rpd", 1, 1)], wall=NOW) is None
