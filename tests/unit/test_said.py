"""What a provider's headers say of its limits is kept bounded, and read in each family's form."""

from __future__ import annotations

import pytest

from batchrunner.core.credentials import Secrets
from batchrunner.core.said import Said, kept_headers, said

AT = 1_764_000_000_000


@pytest.mark.parametrize(
    ("headers", "want"),
    [
        (
            {
                "anthropic-ratelimit-input-tokens-limit": "30000",
                "anthropic-ratelimit-input-tokens-remaining": "29000",
                "anthropic-ratelimit-input-tokens-reset": "2025-11-24T16:00:30Z",
            },
            Said("input-tokens", "30000", "29000", AT + 30_000),
        ),
        (
            {
                "x-ratelimit-limit-requests": "500",
                "x-ratelimit-remaining-requests": "499",
                "x-ratelimit-reset-requests": "2m52.8s",
            },
            Said("requests", "500", "499", AT + 172_800),
        ),
        (
            {"x-ratelimit-limit-req-minute": "60", "x-ratelimit-remaining-req-minute": "59"},
            Said("req-minute", "60", "59", None),
        ),
        (
            {"x-ratelimit-limit": "20", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "17"},
            Said("requests", "20", "0", AT + 17_000),
        ),
    ],
    ids=["anthropic", "openai", "mistral", "bare"],
)
def test_each_family_is_read(headers: dict[str, str], want: Said) -> None:
    """Limit, what is left and when it is whole again come out of each family's headers."""
    assert said(headers, at_wall=AT) == [want]


def test_a_reset_alone_tells_of_no_limit() -> None:
    """Headers without a limit or a remainder make no row."""
    assert said({"x-ratelimit-reset-requests": "1s"}, at_wall=AT) == []


def test_only_headers_about_limits_are_kept_and_bounded() -> None:
    """No other header is kept, no name twice, and no value without end."""
    headers = {f"X-RateLimit-Limit-{n}": "9" * 5000 for n in range(200)}
    kept = kept_headers({"Set-Cookie": "secret", "Date": "today", **headers}, Secrets())
    assert len(kept) == 40
    assert "set-cookie" not in kept
    assert kept["date"] == "today"
    assert max(map(len, kept.values())) == 200
