"""What a request counts to each provider's token limits, before its answer and after."""

from __future__ import annotations

import pytest

from batchrunner.core.admission import Cap, ScopeLedger
from batchrunner.core.counting import (
    TOTAL_IS_INPUT,
    Charge,
    Counting,
    UpFront,
    after_answer,
    reservation,
)
from batchrunner.core.slots import GUARD_MS
from batchrunner.core.tokens import Estimate, Seen
from batchrunner.models import ScopeId
from batchrunner.providers.registry import NAMES, Providers

#: A model that takes what is estimated, and answers with 100 tokens: the error is worn off.
SEEN = Seen(n=1e6, estimated=1e8, input=1e8, output=1e8)
ASKED = Estimate(1_000, 4_096)
NOW = 1_790_000_000_000.0


def counting(provider: str) -> Counting:
    return Providers().profile(provider).counting


@pytest.mark.parametrize(
    ("provider", "reserved", "counted"),
    [
        # max_tokens does not count; what was read from the cache is no input.
        ("anthropic", Charge(1_000, 100), Charge(600, 50)),
        # The larger of max_tokens and the input, whatever the answer left of it.
        ("openai", Charge(1_000, 3_096), Charge(900, 3_196)),
        # Their sum.
        ("azure", Charge(1_000, 4_096), Charge(900, 4_196)),
        ("groq", Charge(1_000, 100), Charge(600, 50)),
        ("gemini", Charge(1_000, 100), Charge(900, 50)),
        ("mistral", Charge(1_000, 100), Charge(900, 50)),
    ],
)
def test_each_provider_counts_in_its_own_way(
    provider: str, reserved: Charge, counted: Charge
) -> None:
    """A request of 1,000 tokens and 4,096 at most; its answer took 900, of them 300 cached, and 50."""
    how = counting(provider)
    assert reservation(ASKED, SEEN, how) == reserved
    assert after_answer(reserved, how, input=900, output=50, cached=300) == counted


@pytest.mark.parametrize(
    ("model", "counted"),
    [
        ("claude-3-5-haiku-20241022", 900),
        ("claude-3-5-haiku-latest", 900),
        ("anthropic.claude-3-5-haiku-20241022-v1:0", 900),
        ("claude-haiku-3-5", 900),
        ("claude-haiku-4-5-20251001", 600),
        ("claude-3-haiku-20240307", 600),
        ("claude-3-5-sonnet-20241022", 600),
        ("claude-opus-4-6", 600),
    ],
)
def test_of_one_of_claudes_models_what_was_read_counts(model: str, counted: int) -> None:
    """Haiku 3.5 is the exception that Anthropic names."""
    how = counting("anthropic")
    took = after_answer(Charge(0, 0), how, input=900, output=50, cached=300, model=model)
    assert took == Charge(counted, 50)


def test_up_front_charges_grow_with_what_was_used_after_all() -> None:
    """Where a bound was charged up front and more was used, the more counts."""
    how = Counting(up_front=UpFront.LARGER)
    assert sum(after_answer(Charge(10, 90), how, input=200, output=40)) == 240


def test_what_an_answer_does_not_say_stays_reserved() -> None:
    """An answer without usage leaves the reservation as it is."""
    assert after_answer(Charge(10, 90), Counting(), input=None, output=None) == Charge(10, 90)


def test_a_gateway_counts_what_is_used() -> None:
    """At an address that is not the provider's own nothing is charged up front."""
    openai = Providers().profile("openai")
    assert openai.counting_at("https://api.openai.com/v1").up_front is UpFront.LARGER
    assert openai.counting_at("http://127.0.0.1:4000/v1") == Counting()


def test_views_know_whose_total_is_the_input() -> None:
    """The table for views names exactly the providers whose profiles say so."""
    assert {name for name in NAMES if not counting(name).total_has_output} == TOTAL_IS_INPUT


POOL = ScopeId(2)


def others(pool: ScopeLedger, name: str, used: int, **when: int | None) -> None:
    pool.allow_for_others(
        name, used, sent_at=NOW, sent_wall=NOW, now=NOW, wall=NOW, free_at=when.get("free_at")
    )


def used_of(pool: ScopeLedger, name: str, *, after_ms: float = 0.0) -> int:
    at = NOW + after_ms
    (use,) = (use for use in pool.uses(now=at, wall=at) if use.limit.name == name)
    assert use.used is not None
    return use.used


@pytest.mark.parametrize("name", ["rpm", "itpm", "otpm", "tpm"])
def test_what_others_used_counts_until_the_provider_is_whole_again(name: str) -> None:
    """Beyond what is ours it counts, once, until the time that the headers give."""
    pool = ScopeLedger(POOL, caps=[Cap(name, 1_000, None, "header")])
    pool.book(NOW, int(NOW // 250), int(NOW // 60_000), Charge(100, 100), moved=False)
    ours = {"rpm": 1, "itpm": 100, "otpm": 100, "tpm": 200}[name]
    others(pool, name, ours)
    assert used_of(pool, name) == ours
    for _ in range(3):
        others(pool, name, 700, free_at=int(NOW) + 20_000)
    assert used_of(pool, name) == 700
    assert used_of(pool, name, after_ms=19_000) == 700
    assert used_of(pool, name, after_ms=20_000 + GUARD_MS + 250) == ours


def test_a_rounded_count_of_tokens_is_ours() -> None:
    """Counts rounded to a thousand do not make others of what is rounding."""
    pool = ScopeLedger(POOL, caps=[Cap("itpm", 100_000, None, "header")])
    others(pool, "itpm", 1_000)
    assert used_of(pool, "itpm") == 0


def test_a_rolling_day_comes_back_little_by_little() -> None:
    """Of a bucket that refills all day, half of what others took is back after half the time."""
    pool = ScopeLedger(POOL, caps=[Cap("rpd", 1_000, "rolling", "header")])
    day = 86_400_000
    others(pool, "rpd", 800, free_at=int(NOW) + day * 8 // 10)
    assert used_of(pool, "rpd") == 800
    half = used_of(pool, "rpd", after_ms=day * 0.4)
    assert 300 <= half <= 450
    assert used_of(pool, "rpd", after_ms=day * 0.81) == 0
