"""Waits and limits told by headers and texts, in every form that is in use."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.core.headers import LearnedLimit, learn_limits, parse_wait, server_date

#: 2026-08-25T00:00:00Z
NOW = 1_787_616_000_000
DATE = "Tue, 25 Aug 2026 00:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "wait_ms"),
    [
        ("5", 5_000),
        ("0", 0),
        ("1.5", 1_500),
        (" 7 ", 7_000),
        ("20ms", 20),
        ("6m0s", 360_000),
        ("6m 11.52s", 371_520),
        ("1h2m3s", 3_723_000),
        ("23h18m29.144s", 83_909_144),
        ("156h14m36.7s", 562_476_700),
        ("1500us", 2),
        ("1500µs", 2),
        ("37 seconds", 37_000),
        ("2 minutes", 120_000),
        ("1d", 86_400_000),
        ("2026-08-25T00:01:00Z", 60_000),
        ("2026-08-25T02:01:00+02:00", 60_000),
        ("2026-08-25T00:00:00.250Z", 250),
        ("2026-08-24T00:00:00Z", 0),
        ("Tue, 25 Aug 2026 00:01:00 GMT", 60_000),
        ("Mon, 24 Aug 2026 00:01:00 GMT", 0),
        ("1787616060", 60_000),
        ("1787616060000", 60_000),
        ("1600000000", 0),
    ],
)
def test_retry_after_is_read_in_every_form(value: str, wait_ms: int) -> None:
    """Seconds, durations, dates and epochs all give the same kind of instant; past ones are now."""
    assert parse_wait({"retry-after": value}, "", now_wall_ms=NOW) == NOW + wait_ms


@pytest.mark.parametrize(
    "value",
    [
        "-1",
        "-5s",
        "nan",
        "inf",
        "1e9",
        "",
        " ",
        "soon",
        "12x",
        "5m nonsense",
        "9" * 18,
        "9" * 400,
        "2026-13-45T00:00:00Z",
        "Tue, 99 Aug 2026 00:00:00 GMT",
        "0x10",
        "٣",
        "1,5",
    ],
)
def test_garbage_is_no_hint(value: str) -> None:
    """Negative, absurd and malformed values are passed over, not guessed at."""
    assert parse_wait({"retry-after": value}, "", now_wall_ms=NOW) is None


@pytest.mark.parametrize(
    ("text", "wait_ms"),
    [
        ("Please try again in 6m11.52s. Visit", 371_520),
        ("Please retry in 20.04466179s.", 20_045),
        ("Please retry after 37 seconds", 37_000),
        ("on requests per day (RPD): Limit 200. Please try again in 7m12s.", 432_000),
        ('{"error":{"message":"Try again in 43.2s"}}', 43_200),
        ("You will regain access on 2026-09-01 at 00:00 UTC.", 7 * 86_400_000),
        ("You will regain access on 2026-09-01.", 7 * 86_400_000),
        ("Out of call volume quota. Quota will be replenished in 00:54:20.", 3_260_000),
        ('{"metadata":{"headers":{"X-RateLimit-Reset":"1787616030000"}}}', 30_000),
        ('{"metadata":{"headers":{"X-RateLimit-Reset":"1500000000000"}}}', 0),
        ('{"details":[{"retryDelay":"18.4s"}]}', 18_400),
        ('{"retryDelay": "290.9ms"}', 291),
        ('{"retry_delay": {"seconds": "123", "nanos": 500000000}}', 123_500),
        ('{"retryDelay": {"seconds": 5}}', 5_000),
        ('{"retryDelay": "1.5s", "message": "retry in 9s"}', 1_500),
    ],
)
def test_a_body_can_hold_the_hint(text: str, wait_ms: int) -> None:
    """RetryInfo and the providers' sentences are read where no header says it."""
    assert parse_wait({}, text, now_wall_ms=NOW) == NOW + wait_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "try again later",
        "retry after a while",
        '{"retryDelay": {"seconds": "-1"}}',
        '{"retryDelay": "x"}',
        "in 5 seconds",
        "try again in 5 attempts",
    ],
)
def test_words_without_a_time_are_no_hint(text: str) -> None:
    """Prose that names no time gives no instant."""
    assert parse_wait({}, text, now_wall_ms=NOW) is None


def test_the_most_explicit_source_wins() -> None:
    """retry-after-ms before Retry-After before the body before the RateLimit field."""
    headers = {"retry-after-ms": "100", "retry-after": "5", "ratelimit": '"a";r=0;t=30'}
    assert parse_wait(headers, "try again in 9s", now_wall_ms=NOW) == NOW + 100
    del headers["retry-after-ms"]
    assert parse_wait(headers, "try again in 9s", now_wall_ms=NOW) == NOW + 5_000
    del headers["retry-after"]
    assert parse_wait(headers, "try again in 9s", now_wall_ms=NOW) == NOW + 9_000
    assert parse_wait(headers, "", now_wall_ms=NOW) == NOW + 30_000


def test_a_bad_header_leaves_the_word_to_the_next_source() -> None:
    """An unreadable Retry-After does not hide the sentence in the body."""
    assert parse_wait({"retry-after": "soon"}, "try again in 9s", now_wall_ms=NOW) == NOW + 9_000


def test_a_date_is_measured_by_the_servers_own_clock() -> None:
    """With a Date header a wrong local clock does not change the wait."""
    headers = {"retry-after": "Tue, 25 Aug 2026 00:01:00 GMT", "date": DATE}
    an_hour_ahead = NOW + 3_600_000
    assert parse_wait(headers, "", now_wall_ms=an_hour_ahead) == an_hour_ahead + 60_000


@pytest.mark.parametrize("reset", ["30", "1787616030", "1787616030000"])
def test_reset_of_a_spent_allowance_is_told_by_magnitude(reset: str) -> None:
    """X-RateLimit-Reset is delta seconds, epoch seconds or epoch ms, and counts only at zero."""
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}
    assert parse_wait(headers, "", now_wall_ms=NOW) == NOW + 30_000
    assert parse_wait({**headers, "x-ratelimit-remaining": "3"}, "", now_wall_ms=NOW) is None


@given(st.text(max_size=60), st.text(max_size=120))
def test_nothing_a_server_sends_raises(value: str, text: str) -> None:
    """Any header value and any text give an instant that is not in the past, or none."""
    names = ["retry-after", "retry-after-ms", "date", "ratelimit", "ratelimit-policy"]
    names += ["anthropic-ratelimit-requests-limit", "x-ratelimit-limit-requests"]
    headers = dict.fromkeys(names, value)
    at = parse_wait(headers, f"try again in {text} retryDelay: {text}", now_wall_ms=NOW)
    assert at is None or at >= NOW
    learn_limits(headers, now_wall_ms=NOW)


def test_server_date_reads_the_date_header() -> None:
    """The Date header in epoch ms; nothing where it is missing or malformed."""
    assert server_date({"date": DATE}) == NOW
    assert server_date({}) is None
    assert server_date({"date": "yesterday"}) is None


def test_anthropics_request_limit_is_the_minutes() -> None:
    """anthropic-ratelimit-requests-* gives rpm with remaining and reset."""
    headers = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-requests-reset": "2026-08-25T00:00:01Z",
    }
    learned = [LearnedLimit("rpm", 50, 49, NOW + 1000)]
    assert learn_limits(headers, now_wall_ms=NOW) == learned


@pytest.mark.parametrize(
    ("limit", "remaining", "reset", "expected"),
    [
        ("500", "499", "120ms", "rpm"),
        ("10000", "9998", "12ms", "rpm"),
        ("60", "0", "1m0s", "rpm"),
        ("200", "199", "7m12s", "rpd"),
        ("2000", "1999", "43.2s", "rpd"),
        ("50", "0", "24h0m0s", "rpd"),
        ("14400", "14399", "6s", "rpd"),
        # Counted in whole minutes: 60 s are no day's share of 60, nor of 6000.
        ("60", "59", "60s", None),
        ("6000", "5999", "60s", None),
        ("60", "20", "59s", "rpm"),
        # An hour's.
        ("100", "10", "16m40s", None),
        ("500", "500", "0s", None),
        ("500", "500", "120ms", None),
        ("500", "499", "", None),
        ("500", "", "120ms", None),
        ("0", "0", "1s", None),
        ("-1", "-1", "1", None),
        ("many", "1", "1s", None),
    ],
)
def test_openais_request_limit_is_told_by_its_refill(
    limit: str, remaining: str, reset: str, expected: str | None
) -> None:
    """The time until the bucket is full tells the minute's from the day's; unclear is unknown."""
    headers = {
        "x-ratelimit-limit-requests": limit,
        "x-ratelimit-remaining-requests": remaining,
        "x-ratelimit-reset-requests": reset,
    }
    learned = learn_limits(headers, now_wall_ms=NOW)
    assert [found.limit for found in learned] == ([] if expected is None else [expected])
    assert all(found.value == int(limit) for found in learned)


@pytest.mark.parametrize("whose", ["rpm", "rpd"])
def test_a_provider_may_say_whose_its_request_limit_is(whose: Literal["rpm", "rpd"]) -> None:
    """Where the header always means the minute or the day, its refill is not asked."""
    headers = {"x-ratelimit-limit-requests": "14400", "x-ratelimit-remaining-requests": "14399"}
    learned = learn_limits(headers, now_wall_ms=NOW, requests_limit=whose)
    assert learned == [LearnedLimit(whose, 14400, 14399, None)]
    assert learn_limits(headers, now_wall_ms=NOW) == []
    unknown = {**headers, "x-ratelimit-limit-requests": "-1"}
    assert learn_limits(unknown, now_wall_ms=NOW, requests_limit=whose) == []


def test_mistrals_request_limit_is_the_minutes() -> None:
    """x-ratelimit-limit-req-minute gives rpm; it names no reset."""
    headers = {
        "x-ratelimit-limit-req-minute": "720",
        "x-ratelimit-remaining-req-minute": "717",
        "x-ratelimit-limit-tokens-minute": "5000000",
        "x-ratelimit-remaining-tokens-minute": "4999000",
    }
    assert learn_limits(headers, now_wall_ms=NOW) == [
        LearnedLimit("rpm", 720, 717, None),
        LearnedLimit("tpm", 5_000_000, 4_999_000, None),
    ]


def anthropic_tokens(*names: str) -> dict[str, str]:
    return {
        f"anthropic-ratelimit-{name}-{field}": value
        for name in names
        for field, value in (
            ("limit", "30000"),
            ("remaining", "29000"),
            ("reset", "2026-08-25T00:00:02Z"),
        )
    }


@pytest.mark.parametrize(
    ("names", "limits"),
    [
        (("input-tokens", "output-tokens", "tokens"), ["itpm", "otpm"]),
        (("input-tokens",), ["itpm"]),
        (("tokens",), ["tpm"]),
    ],
)
def test_anthropics_token_limits_are_the_minutes(names: tuple[str, ...], limits: list[str]) -> None:
    """Input and output have limits of their own; ``tokens`` beside them is one of them again."""
    learned = learn_limits(anthropic_tokens(*names), now_wall_ms=NOW)
    assert learned == [LearnedLimit(limit, 30_000, 29_000, NOW + 2_000) for limit in limits]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("whose", "reset", "expected"),
    [("tpm", "6m0s", "tpm"), (None, "1s", "tpm"), (None, "14m24s", "tpd"), (None, "", None)],
)
def test_openais_token_limit_is_the_minutes_or_told_by_its_refill(
    whose: Literal["tpm"] | None, reset: str, expected: str | None
) -> None:
    """Where the provider says so it is the minute's; elsewhere its refill tells, or nothing."""
    headers = {
        "x-ratelimit-limit-tokens": "30000",
        "x-ratelimit-remaining-tokens": "29500" if reset == "1s" else "29700",
        "x-ratelimit-reset-tokens": reset,
    }
    learned = learn_limits(headers, now_wall_ms=NOW, tokens_limit=whose)
    assert [limit.limit for limit in learned] == ([expected] if expected else [])


def test_the_draft_policy_gives_minute_and_day() -> None:
    """RateLimit-Policy items with w=60 and w=86400 are learned, others and other units are not."""
    headers = {
        "ratelimit-policy": '"burst";q=100;w=60,"daily";q=1000;w=86400,"hour";q=9;w=3600,'
        '"bytes";q=5;w=60;qu="content-bytes"',
        "ratelimit": '"burst";r=50;t=30',
    }
    assert learn_limits(headers, now_wall_ms=NOW) == [
        LearnedLimit("rpm", 100, 50, NOW + 30_000),
        LearnedLimit("rpd", 1000, None, None),
    ]
    old = {"ratelimit-policy": "100;w=60"}
    assert learn_limits(old, now_wall_ms=NOW) == [LearnedLimit("rpm", 100, None, None)]


def test_no_headers_teach_nothing() -> None:
    """An answer without limit headers leaves limits unknown."""
    assert learn_limits({"content-type": "application/json"}, now_wall_ms=NOW) == []
