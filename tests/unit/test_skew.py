"""A wrong clock is told from a server's Date, and only a wrong one."""

from __future__ import annotations

import pytest

from batchrunner.core.skew import clock_skew_ms, skew_words

DATE = "Mon, 23 Nov 2026 08:00:00 GMT"
AT = 1_795_420_800_000


@pytest.mark.parametrize(
    ("wall", "words"),
    [
        (AT, ""),
        (AT + 119_000, ""),
        (AT - 119_000, ""),
        (AT + 300_000, "5 min ahead of the server's"),
        (AT - 300_000, "5 min behind the server's"),
        (AT + 86_400_000, "24 h ahead of the server's"),
    ],
)
def test_a_clock_that_is_off_is_told(wall: int, words: str) -> None:
    """Beyond two minutes the sentence says how far, which way, and what to do."""
    skew = clock_skew_ms({"date": DATE}, wall=wall)
    assert skew == wall - AT
    said = skew_words(skew)
    assert words in said
    assert bool(said) == bool(words)
    assert not said or "timedatectl" in said


@pytest.mark.parametrize("headers", [{}, {"date": "yesterday"}, {"date": ""}])
def test_a_server_that_does_not_say_tells_nothing(headers: dict[str, str]) -> None:
    """Without a Date that can be read there is no skew."""
    assert clock_skew_ms(headers, wall=AT) is None
