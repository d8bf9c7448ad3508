"""The forecast says what a simulation does that sends job by job, with the same limits."""

from __future__ import annotations

from datetime import datetime
from math import ceil
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.core.bounds import Bounds, DayCap, Speed
from batchrunner.core.caps import DAY_MS
from batchrunner.core.days import day_start, next_reset
from batchrunner.core.forecast import Forecast, forecast

#: 2026-11-23 09:00 UTC.
NOW = 1_795_424_400_000
HOUR = 3_600_000
ZONES = ("UTC", "America/Los_Angeles", "Asia/Kathmandu", "rolling")


def ms(text: str, zone: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def simulated(n: int, bounds: Bounds, now: int) -> list[float]:
    """Send job by job, each at the first instant that every limit admits."""
    interval = 1 / bounds.per_ms
    sends: list[float] = []
    t = float(now)
    while len(sends) < n:
        t = max(t, sends[-1] + interval) if sends else t
        start = t
        for cap in bounds.days:
            t = _admitted(cap, [at for at, _ in cap.used] + sends, t)
        if t == start:
            sends.append(t)
    return sends


def _admitted(cap: DayCap, sends: list[float], t: float) -> float:
    while True:
        since = t - DAY_MS if cap.zone == "rolling" else day_start(t, cap.zone) - 1
        within = [at for at in sends if at > since]
        if len(within) < cap.n:
            return t
        t = min(within) + DAY_MS if cap.zone == "rolling" else next_reset(t, cap.zone)


def sent(n: int, *bounds: Speed | DayCap, now: int = NOW) -> Forecast:
    return forecast(
        Bounds(
            speeds=tuple(bound for bound in bounds if isinstance(bound, Speed)),
            days=tuple(bound for bound in bounds if isinstance(bound, DayCap)),
        ),
        [(n, Bounds())],
        now=now,
    )


def rpm(n: float) -> Speed:
    return Speed("rpm", n / 60_000)


@settings(deadline=None)
@given(
    n=st.integers(1, 120),
    minutes=st.integers(1, 90),
    cap=st.integers(1, 40),
    zone=st.sampled_from(ZONES),
    used=st.lists(st.integers(0, 47), max_size=30),
    second=st.none() | st.integers(1, 40),
    now=st.integers(NOW, NOW + 300 * DAY_MS),
)
def test_the_end_is_that_of_sending_one_by_one(
    n: int, minutes: int, cap: int, zone: str, used: list[int], second: int | None, now: int
) -> None:
    """Whatever the pace, the days and what is used: the last job goes when the simulation says."""
    interval = minutes * 60_000
    taken = tuple((float(now - half * HOUR // 2), 1.0) for half in used)
    days = [DayCap("rpd", cap, zone, taken)]
    if second is not None:
        days.append(DayCap("tpd", second, "Europe/Berlin"))
    bounds = Bounds(speeds=(Speed("rpm", 1 / interval),), days=tuple(days))
    told = forecast(bounds, [(n, Bounds())], now=now)
    real = simulated(n, bounds, now)
    assert told.last_at is not None
    # Used places are gathered by half hours, and a job that flows is not one that is sent.
    slack = HOUR // 2 + 2 * interval if zone == "rolling" else interval
    assert abs(told.last_at - real[-1]) <= slack + 1
    calendar = "UTC" if zone == "rolling" else zone
    assert sum(day.n for day in told.days(calendar)) == n
    for day in told.days(calendar):
        assert day.begins <= day.first <= day.last <= day.ends


def test_a_daily_cap_is_laid_out_by_its_zone() -> None:
    """2,500 jobs at 1,000 a day of Los Angeles go on three of its days, each from its midnight."""
    told = sent(2500, rpm(600), DayCap("rpd", 1000, "America/Los_Angeles"))
    days = told.days("America/Los_Angeles")
    assert [day.n for day in days] == [1000, 1000, 500]
    assert days[1].first == days[1].begins == ms("2026-11-24T00:00", "America/Los_Angeles")
    assert told.last_at == pytest.approx(days[2].begins + 499 * 100, abs=2)


def test_what_is_used_today_is_left_out_of_today() -> None:
    """With 990 of 1,000 used, ten go today and the rest after midnight; yesterday's use is over."""
    used = ((float(NOW - HOUR), 990.0), (float(NOW - 20 * HOUR), 500.0))
    days = sent(500, rpm(600), DayCap("rpd", 1000, "UTC", used)).days("UTC")
    assert [day.n for day in days] == [10, 490]


def test_a_rolling_day_frees_what_was_taken_a_day_later() -> None:
    """Where the last 24 hours are full, the next goes when their first request is a day old."""
    used = ((float(NOW - 20 * HOUR), 10.0),)
    told = sent(15, rpm(60), DayCap("rpd", 10, "rolling", used))
    days = told.days("UTC")
    assert days[0].first == NOW + 4 * HOUR
    assert told.last_at == pytest.approx(NOW + 28 * HOUR + 4_000, abs=2_000)


@pytest.mark.parametrize(("night", "hours"), [("2027-03-28", 23), ("2027-10-31", 25)])
def test_days_of_a_changed_clock_are_as_long_as_they_are(night: str, hours: int) -> None:
    """Where the clocks change, the day's jobs wait for a midnight that is 23 or 25 hours off."""
    begins = ms(f"{night}T00:00", "Europe/Berlin")
    told = sent(20, rpm(60), DayCap("rpd", 10, "Europe/Berlin"), now=begins)
    assert [day.n for day in told.days("Europe/Berlin")] == [10, 10]
    assert told.last_at == pytest.approx(begins + hours * HOUR + 9_000, abs=2)


@pytest.mark.parametrize(
    "nothing", [rpm(0), DayCap("rpd", 0, "UTC"), DayCap("rpd", 0, "rolling")], ids=str
)
def test_a_limit_of_nothing_has_no_end(nothing: Speed | DayCap) -> None:
    """A limit of 0 lets nothing through, ever."""
    told = sent(5, rpm(60), nothing)
    assert told.last_at is None
    assert told.days("UTC") == []


def test_what_would_take_centuries_is_not_told() -> None:
    """A job a day for a million jobs is no date."""
    assert sent(1_000_000, DayCap("rpd", 1, "UTC")).last_at is None


@pytest.mark.parametrize("gap_ms", [HOUR, 100 * 24 * HOUR], ids=["decades", "millennia"])
def test_a_slow_pace_has_no_end_beyond_the_horizon(gap_ms: float) -> None:
    """Without a day's cap too: no end is told, and the days that are told end with the fifth year."""
    told = sent(1_000_000, Speed("min_interval", 1 / gap_ms))
    assert told.last_at is None
    assert len(told.days("UTC")) <= 5 * 366 + 1


def test_without_limits_all_go_at_once() -> None:
    """Nothing bounds them: the last goes as the first."""
    assert sent(1000).last_at == pytest.approx(NOW, abs=20)
    assert sent(0, rpm(1)).last_at == NOW


def test_pools_go_beside_one_another_under_their_account() -> None:
    """Each pool has its own speed, all of them share the account's day."""
    slow, fast = Bounds(speeds=(rpm(1),)), Bounds(speeds=(rpm(60),))
    told = forecast(Bounds(), [(60, fast), (30, slow)], now=NOW)
    assert told.last_at == pytest.approx(NOW + 29 * 60_000, abs=60_000)
    day = Bounds(days=(DayCap("rpd", 50, "UTC"),))
    told = forecast(day, [(60, fast), (30, slow)], now=NOW)
    assert [plan.n for plan in told.days("UTC")] == [50, 40]


@settings(deadline=None)
@given(n=st.integers(1, 300), cap=st.integers(1, 50), factor=st.floats(1.0, 5.0))
def test_more_of_a_limit_is_never_later(n: int, cap: int, factor: float) -> None:
    """Raising a limit, or dropping it, brings the end no further off."""
    bounds = Bounds(speeds=(rpm(2),), days=(DayCap("rpd", cap, "UTC"),))
    ends = [
        forecast(other, [(n, Bounds())], now=NOW).last_at
        for other in (bounds, bounds.times("rpd", factor), bounds.times("rpd", float("inf")))
    ]
    assert None not in ends
    assert ends == sorted(ends, reverse=True, key=lambda end: ceil(end or 0))
    assert bounds.names == {"rpm", "rpd"}
