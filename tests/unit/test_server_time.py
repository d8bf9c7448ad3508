"""What readings of a server's clock tell: the narrowest most, less with time, and a clock that was set."""

from __future__ import annotations

import pytest

from batchrunner.core.server_time import Reading, estimate_of, refined, step_of

#: The server is 1,000 ms ahead of the ticks.
WIDE = Reading(100.0, 1_170.0, 200.0)
NARROW = Reading(300.0, 1_301.0, 302.0)


def test_a_reading_tells_the_offset_within_its_width() -> None:
    """The server's time lies between the two ticks: half their distance is what it may be off."""
    found = estimate_of(WIDE)
    assert (found.offset, found.error, found.at) == (1_020.0, 50.0, 200.0)


def test_the_narrower_one_counts() -> None:
    """A wide reading changes nothing of what a narrow one told, and gives way to one."""
    narrow = estimate_of(NARROW)
    assert refined(estimate_of(WIDE), NARROW) == narrow
    assert refined(narrow, Reading(400.0, 1_470.0, 500.0)) == narrow


def test_what_is_long_ago_gives_way_to_a_wider_one() -> None:
    """Clocks drift: after four minutes a reading of 200 ms tells more than one of 2 ms."""
    late = Reading(240_000.0, 241_050.0, 240_200.0)
    assert refined(estimate_of(NARROW), late) == estimate_of(late)


@pytest.mark.parametrize("step", [3_600_000.0, -3_600_000.0, 60.0, -60.0])
def test_a_clock_that_was_set_is_noticed(step: float) -> None:
    """Ahead or back, by an hour or by little more than readings may differ."""
    later = Reading(1_000.0, 2_001.0 + step, 1_002.0)
    assert step_of(estimate_of(NARROW), later) == step


def test_a_slow_answer_is_no_step() -> None:
    """What the way may have taken is not held against the clock."""
    assert step_of(estimate_of(NARROW), Reading(1_000.0, 2_400.0, 1_401.0)) == 0.0
