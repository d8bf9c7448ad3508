"""The simulator's limits hold, each in its own way."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.providers.simulator.config import SimulatorConfig, WindowKind
from batchrunner.providers.simulator.windows import (
    CalendarDay,
    FixedWindow,
    SlidingWindow,
    TokenBucket,
    Window,
    day_window,
    minute_window,
)

START = 1_790_000_000.0


def admitted(window: Window, instants: list[float]) -> list[float]:
    """Return the instants at which a request was let in."""
    taken = []
    for now in instants:
        if window.standing(now).remaining >= 1:
            window.take()
            taken.append(now)
    return taken


gaps = st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=120)


@given(gaps, st.integers(1, 12))
def test_sliding_window_holds_in_any_minute(steps: list[float], limit: int) -> None:
    """However requests arrive, no stretch of the length holds more than the limit."""
    now, instants = START, []
    for step in steps:
        now += step
        instants.append(now)
    taken = admitted(SlidingWindow(limit, 10.0), instants)
    for first in taken:
        assert sum(first <= t < first + 10.0 for t in taken) <= limit


def test_sliding_window_names_the_moment_it_opens() -> None:
    """A full window opens when its oldest request is one length old, and not before."""
    window = SlidingWindow(2, 60.0)
    admitted(window, [START, START + 10])
    standing = window.standing(START + 20)
    assert standing == (2, 0, START + 70, START + 60)
    assert window.standing(START + 59.9).remaining == 0
    assert window.standing(START + 60).remaining == 1


def test_fixed_window_lets_two_allowances_through_around_a_tick() -> None:
    """A fixed window starts anew at the tick, which is what tells it from a sliding one."""
    tick = START - START % 60 + 60
    instants = [tick - 0.1] * 5 + [tick + 0.1] * 5
    assert len(admitted(FixedWindow(3, 60.0), instants)) == 6
    assert len(admitted(SlidingWindow(3, 60.0), instants)) == 3


@pytest.mark.parametrize(("limit", "burst"), [(60, 2), (600, 10), (6000, 100)])
def test_bucket_admits_a_sixtieth_at_once(limit: int, burst: int) -> None:
    """A bucket takes N/60 at once, at least two, and refills at the minute's rate."""
    window = TokenBucket(limit, 60.0)
    assert len(admitted(window, [START] * 200)) == burst
    standing = window.standing(START)
    assert standing.free_at == pytest.approx(START + 60 / limit)
    assert len(admitted(window, [standing.free_at])) == 1
    assert len(admitted(window, [START + 60] * 200)) == burst


def test_calendar_day_ends_at_the_zones_midnight_even_when_clocks_change() -> None:
    """The day of a zone that leaves summer time has 25 hours, and the cap lasts for all of them."""
    zone = ZoneInfo("America/Los_Angeles")
    morning = datetime(2026, 11, 1, 0, 30, tzinfo=zone).timestamp()
    window = CalendarDay(1, zone)
    assert admitted(window, [morning, morning + 24 * 3600]) == [morning]
    midnight = datetime(2026, 11, 2, 8, tzinfo=UTC).timestamp()
    assert window.standing(morning + 24 * 3600).free_at == midnight
    assert window.standing(midnight).remaining == 1


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"day_resets": "UTC"}, CalendarDay),
        ({"day_resets": "rolling"}, SlidingWindow),
        ({"day_resets": "rolling", "day_s": 5.0}, SlidingWindow),
        ({"day_s": 5.0}, FixedWindow),
    ],
    ids=["zone", "rolling", "short-rolling", "short-zone"],
)
def test_day_is_what_the_configuration_says(options: dict[str, object], kind: type) -> None:
    """Each way to end a day has its window."""
    assert type(day_window(SimulatorConfig(rpd=3, **options))) is kind  # type: ignore[arg-type]


def test_every_kind_of_window_can_be_chosen() -> None:
    """No kind is left without a window, and no limit means no window."""
    kinds = {type(minute_window(SimulatorConfig(rpm=9, window=kind))) for kind in WindowKind}
    assert kinds == {SlidingWindow, FixedWindow, TokenBucket}
    assert minute_window(SimulatorConfig()) is None
    assert day_window(SimulatorConfig()) is None


@pytest.mark.parametrize(
    "options",
    [{"rpm": 0}, {"rpd": -1}, {"minute_s": 0}, {"latency_s": -1}, {"rate_500": -0.1}, {"rate_500": 0.6, "rate_529": 0.6}],
    ids=str,
)  # fmt: skip
def test_nonsense_is_refused(options: dict[str, float]) -> None:
    """A configuration that can't be simulated is refused when it is made."""
    with pytest.raises(ValueError, match=r"must be|can't be"):
        SimulatorConfig(**options)  # type: ignore[arg-type]
