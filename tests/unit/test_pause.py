"""What 429s, successes and clocks make of a pause."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batchrunner.core.pause import (
    NO_PAUSE,
    PauseState,
    begin,
    is_own_refusal,
    lift,
    on_rate_limited,
    on_success,
    remaining_ms,
)
from batchrunner.models import WaitingReason

NOW = 1_700_000_000_000.0
#: The wall is an hour ahead of steady time, so that a mix-up shows.
WALL = NOW + 3_600_000.0


def limited(
    pause: PauseState,
    *,
    after: float = 0.0,
    sent: float = 0.0,
    hint: float | None = None,
    rand: float = 0.0,
) -> PauseState:
    """A 429 that came ``after`` ms, to a request ``sent`` ms after NOW, hinting ms from receipt."""
    return on_rate_limited(
        pause,
        sent_at=NOW + sent,
        now=NOW + after,
        received_wall=WALL + after,
        hint_until_wall=None if hint is None else int(WALL + after + hint),
        rand=rand,
    )


def left(pause: PauseState, after: float = 0.0, step: float = 0.0) -> float:
    return remaining_ms(pause, now=NOW + after, wall=WALL + after + step)


def test_no_pause_lets_everybody_send() -> None:
    """A scope that never was paused has nothing to wait for."""
    assert left(NO_PAUSE) == 0


def test_unhinted_pauses_double_to_an_hour() -> None:
    """Each 429 that names no time, to a request sent after the last pause, doubles it."""
    pause, after, lengths = NO_PAUSE, 0.0, []
    for _ in range(12):
        pause = limited(pause, after=after, sent=after)
        lengths.append(round(left(pause, after) / 1000))
        after += left(pause, after) + 10
    assert lengths == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]
    assert pause.generation == 12


def test_429_sent_before_the_pause_changes_nothing() -> None:
    """A hundred requests in flight that all meet a 429 raise the backoff once."""
    first = limited(NO_PAUSE, after=100, sent=0)
    assert limited(first, after=150, sent=20) is first
    late = limited(first, after=90_000, sent=20)
    assert late is first


def test_429_sent_before_the_pause_counts_with_a_later_hint() -> None:
    """Its own time, anchored at receipt, lengthens the pause and leaves the backoff alone."""
    first = limited(NO_PAUSE, after=100, sent=0)
    longer = limited(first, after=200, sent=0, hint=60_000)
    assert left(longer, 200) == pytest.approx(60_000, abs=2)
    assert longer.level == first.level
    assert longer.generation == first.generation + 1
    assert limited(longer, after=300, sent=0, hint=1_000).until == longer.until


def test_hint_is_kept_to_and_does_not_raise_the_backoff() -> None:
    """A time the server named is waited for, never cut short."""
    pause = limited(NO_PAUSE, hint=7_200_000)
    assert left(pause) >= 7_200_000 - 1
    assert left(pause) <= 7_200_002
    assert pause.level == 0


def test_hint_that_has_passed_is_none() -> None:
    """A server that says *at once* and goes on refusing is backed off from."""
    assert left(limited(NO_PAUSE, hint=-5_000)) == pytest.approx(5_000, abs=2)


@pytest.mark.parametrize("hint", [None, 90_000.0])
def test_wake_up_is_spread_upwards_only(hint: float | None) -> None:
    """Processes that wait for the same time do not come back at the same instant."""
    soonest, latest = limited(NO_PAUSE, hint=hint), limited(NO_PAUSE, hint=hint, rand=0.999)
    assert left(soonest) >= (hint or 5_000) - 1
    assert 100 < left(latest) - left(soonest) <= 2_000


def test_success_after_the_pause_resets_the_backoff() -> None:
    """Only a success that was sent after the pause began counts."""
    pause = limited(NO_PAUSE, after=100, sent=0)
    assert on_success(pause, sent_at=NOW + 50) is pause
    calm = on_success(pause, sent_at=NOW + 6_000)
    assert calm.level == 0
    assert on_success(calm, sent_at=NOW + 7_000) is calm


def test_pause_follows_the_wall() -> None:
    """A clock set forward past the end ends the pause; one set back an hour does not stretch it."""
    pause = limited(NO_PAUSE, hint=60_000)
    assert left(pause, after=10_000) == pytest.approx(50_000, abs=2)
    assert left(pause, after=10_000, step=3_600_000) == 0
    assert left(pause, after=10_000, step=-3_600_000) == pytest.approx(50_000, abs=2)
    assert left(pause, after=60_002, step=-3_600_000) == 0


def test_loaded_pause_lasts_at_most_its_length() -> None:
    """A process that finds a pause under a clock set back waits no longer than it was set for."""
    stored = replace(limited(NO_PAUSE, hint=60_000), known_at=NOW + 1_000)
    assert left(stored, after=1_000, step=-86_400_000) == pytest.approx(60_000, abs=2)


def test_shorter_pause_does_not_replace_a_longer_one() -> None:
    """What lasts longest holds, and sleepers are not woken for nothing."""
    day = begin(
        NO_PAUSE,
        until=int(WALL) + 3_600_000,
        reason=WaitingReason.DAILY_LIMIT,
        detail="day",
        now=NOW,
        wall=WALL,
    )
    after = limited(day, after=100, sent=100, hint=5_000)
    assert (after.until, after.reason, after.generation) == (day.until, day.reason, day.generation)


def test_lift_ends_a_pause_and_tells_sleepers() -> None:
    """A lifted pause is over at once, and its generation says so."""
    pause = limited(NO_PAUSE, hint=60_000)
    lifted = lift(pause)
    assert left(lifted) == 0
    assert lifted.generation == pause.generation + 1
    assert lift(lifted) is lifted


@pytest.mark.parametrize(
    ("n", "successes", "refusals", "own"),
    [
        pytest.param(3, 10_000, 0, False, id="three may be chance"),
        pytest.param(4, 100, 0, True, id="four while a hundred succeeded"),
        pytest.param(4, 4, 0, False, id="four while four succeeded"),
        pytest.param(7, 7, 0, True, id="each time the only one"),
        pytest.param(12, 100, 100, False, id="one of two each time"),
        pytest.param(25, 100, 100, True, id="one of two, much too often"),
        pytest.param(100, 0, 100, False, id="nobody is served"),
    ],
)
def test_a_refusal_is_a_jobs_own_where_luck_does_not_explain_it(
    n: int, successes: int, refusals: int, own: bool
) -> None:
    """How often a job may be refused before it is charged depends on how the others fare."""
    assert is_own_refusal(n, successes=successes, refusals=refusals) is own
