"""The three ladders of waiting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.core.backoff import pause_delay_ms, probe_delay_ms, retry_delay_ms


@pytest.mark.parametrize(
    ("attempt", "longest"), [(1, 1_000), (2, 2_000), (3, 4_000), (6, 32_000), (7, 60_000)]
)
def test_retry_doubles_to_a_minute(attempt: int, longest: int) -> None:
    """The longest wait doubles with each try, from 1 s to 60 s."""
    assert retry_delay_ms(attempt, 0.999999) == pytest.approx(longest, abs=1)
    assert retry_delay_ms(attempt, 0.5) == longest // 2
    assert retry_delay_ms(attempt, 0.0) == 0


@given(attempt=st.integers(-3, 10**9), rand=st.floats(0, 1, exclude_max=True))
def test_retry_stays_in_bounds(attempt: int, rand: float) -> None:
    """No count, however large, waits longer than the cap or less than nothing."""
    assert 0 <= retry_delay_ms(attempt, rand) < 60_000


@pytest.mark.parametrize(
    ("level", "pause", "probe"),
    [
        (0, 5_000, 5_000),
        (1, 10_000, 10_000),
        (5, 160_000, 160_000),
        (6, 320_000, 300_000),
        (9, 2_560_000, 300_000),
        (10, 3_600_000, 300_000),
        (10**9, 3_600_000, 300_000),
    ],
)
def test_pause_and_probe_double_to_their_caps(level: int, pause: int, probe: int) -> None:
    """Pauses without a hint double from 5 s to 1 h, probes to 5 min."""
    assert (pause_delay_ms(level), probe_delay_ms(level)) == (pause, probe)
