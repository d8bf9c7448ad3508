"""Headers of any server: instants within the calendar or nothing, limits of at least 1, in no time."""

from __future__ import annotations

from typing import Final

from hypothesis import example, given
from hypothesis import strategies as st

from batchrunner.core.credentials import Secrets
from batchrunner.core.headers import (
    instant_of,
    learn_limits,
    parse_wait,
    server_date,
)
from batchrunner.core.said import kept_headers, said
from batchrunner.core.skew import clock_skew_ms, skew_words
from tests.fuzz.effort import fuzzed, within
from tests.fuzz.foreign import repeated, texts

NOW: Final = 1_787_616_000_000
#: 9999-12-31, which every calendar has.
LATEST: Final = 253_402_214_400_000

NAMES: Final = st.sampled_from(
    ["date", "retry-after", "retry-after-ms", "ratelimit", "ratelimit-policy", "ratelimit-remaining", "ratelimit-reset",
     "x-ratelimit-reset", "x-ratelimit-remaining", "x-ratelimit-limit", "x-ratelimit-limit-requests",
     "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "x-ratelimit-limit-req-minute",
     "anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining",
     "anthropic-ratelimit-requests-reset", "anthropic-ratelimit-input-tokens-limit"]
)  # fmt: skip
WORDS: Final = (
    "6m0s", "1d", "2h", "30s", "120ms", "1us", "µs", "3 minutes", "0", "1", "60", "1.5", "-1", "1787616060",
    "1787616060000", "99999999999999999999", "Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 99 Oct 99999 07:28:00 GMT",
    "2026-08-25T00:00:00Z", "2026-08-25", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "24:00:00",
    "100;w=60", '"day";q=100;w=86400', "q=", "t=", "r=", "w=", ";", ",", "=", " ", '"', "GMT", "-0000", "+2400",
)  # fmt: skip
VALUES: Final = st.one_of(
    st.sampled_from(WORDS), texts(*WORDS, surrogates=True), repeated(*WORDS), st.integers().map(str)
)
HEADERS: Final = st.dictionaries(NAMES, VALUES, max_size=6)
BODIES: Final = st.one_of(
    texts("retryDelay", '"retryDelay": "', "try again in ", "retry after ", "wait for ", "regain access on ",
          "replenished in 00:54:20", '"x-ratelimit-reset": "', '{"seconds": "', '"nanos": ', "}", *WORDS),
    repeated("retry in 1", '"retryDelay": "', '"retryDelay": {', "regain access on ", "1 ", "try again in 6m"),
)  # fmt: skip


@fuzzed(200)
@given(HEADERS, BODIES)
@example({"ratelimit-policy": "a," + " " * 3000 + "="}, "")
@example({"ratelimit": '"' + " ;" * 3000}, "")
def test_a_wait_is_an_instant_of_the_calendar_or_none(headers: dict[str, str], body: str) -> None:
    """No header and no text makes the reading raise, or a wait that no clock reaches."""
    with within():
        found = parse_wait(headers, body, now_wall_ms=NOW)
    assert found is None or (isinstance(found, int) and NOW <= found <= LATEST)


@fuzzed(120)
@given(HEADERS, st.sampled_from(["rpm", "rpd", None]))
@example({"ratelimit-policy": "a," + " " * 3000 + "="}, None)
def test_what_is_learned_is_a_limit(headers: dict[str, str], limit: str | None) -> None:
    """A limit that is learned from headers is a whole number from 1 that the database can hold."""
    with within():
        learned = learn_limits(headers, now_wall_ms=NOW, requests_limit=limit)  # type: ignore[arg-type]
    for one in learned:
        assert one.limit in {"rpm", "rpd", "tpm", "itpm", "otpm", "tpd"}
        assert 1 <= one.value < 2**63
        assert one.remaining is None or 0 <= one.remaining < 2**63
        assert one.reset_at is None or NOW <= one.reset_at <= LATEST


@fuzzed(120)
@given(HEADERS)
def test_what_a_provider_says_of_its_limits_is_kept_bounded(headers: dict[str, str]) -> None:
    """What is kept of headers is short, whatever they hold, and is read again without a fault."""
    with within():
        kept = kept_headers(headers, Secrets(["sk-ant-not-a-secret"]))
        told = said(kept, at_wall=NOW)
    assert sum(len(name) + len(value) for name, value in kept.items()) < 40 * 300
    for one in told:
        assert one.resets_at is None or one.resets_at <= LATEST


@fuzzed(120)
@given(VALUES, VALUES)
def test_clocks_are_compared_with_any_date(date: str, reset: str) -> None:
    """A ``Date`` of any form gives an instant or none, and a difference that words exist for."""
    with within():
        at = server_date({"date": date})
        skew = clock_skew_ms({"date": date}, wall=NOW)
        found = instant_of(reset, {"date": date}, NOW)
    assert at is None or isinstance(at, int)
    assert skew is None or isinstance(skew_words(skew), str)
    assert found is None or found <= LATEST
