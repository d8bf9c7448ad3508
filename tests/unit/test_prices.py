"""What an answer costs: the arithmetic, against the table's own, and what a person says of prices."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from genai_prices import Usage as TableUsage
from genai_prices import calc_price

from batchrunner.core.prices import Price, Rates, as_said, cost, saved, worst
from batchrunner.models import Usage
from batchrunner.providers import profile
from batchrunner.providers.pricing import TABLES, listed_price

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
WALL = AT.timestamp() * 1000
PLAIN = Price(rates=Rates(3.0, 15.0, 0.3, 3.75, 6.0))
#: A request that asks for nothing dearer than usual.
PLAINLY = {"is_dearer": False, "caches": False}

ANSWERS = {
    "plain": Usage(input_tokens=1_234, output_tokens=567),
    "cached": Usage(
        input_tokens=10_000, output_tokens=1, cache_read_tokens=7_000, cache_write_tokens=2_000
    ),
    "for an hour": Usage(
        input_tokens=5_000, output_tokens=9, cache_write_tokens=4_000, cache_write_1h_tokens=1_500
    ),
    "long": Usage(input_tokens=250_000, output_tokens=3_000, cache_read_tokens=1_000),
    "at the edge": Usage(input_tokens=200_000, output_tokens=3_000),
    "batch": Usage(input_tokens=4_000, output_tokens=500, tier="batch"),
    "nothing answered": Usage(input_tokens=12),
}
MODELS = [
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-opus-4-6"),
    ("anthropic", "claude-haiku-4-5-20251001"),
    ("openai", "gpt-5-mini"),
    ("openai", "text-embedding-3-small"),
    ("gemini", "models/gemini-2.5-pro"),
    ("mistral", "mistral-large-latest"),
    ("openrouter", "anthropic/claude-sonnet-4.5"),
    ("deepseek", "deepseek-chat"),
]


@pytest.mark.parametrize(("provider", "model"), MODELS)
@pytest.mark.parametrize("usage", ANSWERS.values(), ids=ANSWERS)
def test_costs_are_those_of_the_table(provider: str, model: str, usage: Usage) -> None:
    """Caches, long inputs and batches cost what the table's own arithmetic makes of them."""
    listed = listed_price(provider, [model], wall=WALL)
    assert listed.price is not None
    tokens = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
    }
    theirs = calc_price(
        TableUsage(**{name: n for name, n in tokens.items() if n}),
        model.removeprefix("models/"),
        provider_id=TABLES[provider],
        genai_request_timestamp=AT,
        price_context={"processing": usage.tier} if usage.tier else None,
    )
    if usage.output_tokens and listed.price.rates.output is None:
        # What they take for free may only be unknown.
        assert cost(listed.price, usage) is None
        return
    assert cost(listed.price, usage) == pytest.approx(float(theirs.total_price), rel=1e-12)


def test_a_price_that_changes_with_the_hour_is_looked_up_again() -> None:
    """A night's price does not go on by day; a price without dates holds for good."""
    night = listed_price("deepseek", ["deepseek-chat"], wall=WALL)
    fixed = listed_price("openai", ["gpt-5-mini"], wall=WALL)
    assert WALL < night.until <= WALL + 900_000
    assert fixed.until == float("inf")


@pytest.mark.parametrize(
    ("provider", "model"),
    [("anthropic", "claude-x"), ("simulator", "sim-1"), ("acme", "gpt-5-mini"), ("http", "")],
)
def test_what_nobody_lists_has_no_price(provider: str, model: str) -> None:
    """Neither a model that the table lacks nor a provider that it does not know is guessed."""
    assert listed_price(provider, [model], wall=WALL).price is None


@pytest.mark.parametrize(
    "usage",
    [
        Usage(output_tokens=5),
        Usage(),
    ],
)
def test_unknown_usage_costs_an_unknown_sum(usage: Usage) -> None:
    """Where the answer does not say what it read, the cost is unknown, not 0."""
    assert cost(PLAIN, usage) is None


def test_a_price_that_is_missing_makes_the_cost_unknown() -> None:
    """Only where a token of that kind was used."""
    only_input = as_said({"input": 2.0, "output": None}, None)
    assert only_input is not None
    assert cost(only_input, Usage(input_tokens=1_000_000)) == 2.0
    assert cost(only_input, Usage(input_tokens=1_000_000, output_tokens=1)) is None
    only_output = as_said({"output": 2.0}, None)
    assert only_output is not None
    assert cost(only_output, Usage(input_tokens=1, output_tokens=1)) is None


def test_counting_tokens_is_free() -> None:
    """What a count endpoint answers is no usage."""
    body = json.dumps({"input_tokens": 2_000_000}).encode()
    counted = profile("anthropic").usage(body)
    assert counted.input_tokens == 2_000_000
    assert cost(PLAIN, counted) == 0.0


def test_what_a_person_says_comes_before_the_table() -> None:
    """Each rate for itself; for batches half of it; an hour's cache in the table's proportion."""
    said = as_said({"input": 2.0, "output": 8.0, "cache_write": 3.0}, PLAIN)
    assert said is not None
    assert said.rates == Rates(2.0, 8.0, 0.3, 3.0, pytest.approx(4.8))
    n = 1_000_000
    assert cost(said, Usage(input_tokens=n, output_tokens=n)) == pytest.approx(10.0)
    assert cost(said, Usage(input_tokens=n, output_tokens=n, tier="batch")) == pytest.approx(5.0)
    assert cost(said, Usage(input_tokens=n, cache_read_tokens=n)) == pytest.approx(0.3)


def test_what_is_dearer_than_usual_stays_as_much_dearer() -> None:
    """A contract's price for a model makes neither priority nor fast as cheap as the rest."""
    fast = Price(rates=Rates(6.0, 45.0, 0.6, 7.5, 12.0))
    said = as_said({"input": 2.0, "output": 8.0}, replace(PLAIN, tiers={"fast": fast}))
    assert said is not None
    n = 1_000_000
    assert cost(said, Usage(input_tokens=n, tier="fast")) == pytest.approx(4.0)
    assert cost(said, Usage(input_tokens=0, output_tokens=n, tier="fast")) == pytest.approx(24.0)
    assert worst([said], n, n, is_dearer=True, caches=False) == pytest.approx(28.0)
    # What the table wants for it stands where nothing was said.
    assert said.tiers["fast"].rates.cache_read == 0.6


def test_priority_of_the_table_is_dearer_beside_a_price_that_was_said() -> None:
    """Saying the table's own prices changes nothing."""
    listed = listed_price("openai", ["gpt-5.1"], wall=WALL).price
    assert listed is not None
    said = as_said({"input": listed.rates.input, "output": listed.rates.output}, listed)
    assert said is not None
    usage = Usage(input_tokens=1_000, output_tokens=1_000, tier="priority")
    assert cost(said, usage) == pytest.approx(cost(listed, usage))
    assert cost(said, usage) != cost(said, Usage(input_tokens=1_000, output_tokens=1_000))


@pytest.mark.parametrize("listed", [None, PLAIN], ids=["not in the table", "no flex in the table"])
def test_cached_tokens_of_flex_are_halved_too(listed: Price | None) -> None:
    """Reading the cache never costs more than not reading it, processed however."""
    said = as_said({"input": 0.4, "output": 8.0}, listed)
    assert said is not None
    n = 1_000_000
    for tier in (None, "flex", "batch"):
        plain = cost(said, Usage(input_tokens=n, tier=tier))
        cached = cost(said, Usage(input_tokens=n, cache_read_tokens=n, tier=tier))
        assert plain is not None
        assert cached is not None
        assert cached <= plain


def test_without_a_table_cached_tokens_cost_what_others_do() -> None:
    """Where only input and output are said, the cache is neither free nor unknown."""
    said = as_said({"input": 2.0, "output": 8.0}, None)
    assert said is not None
    n = 1_000_000
    usage = Usage(input_tokens=n, cache_read_tokens=n // 2, cache_write_tokens=n // 4)
    assert cost(said, usage) == pytest.approx(2.0)


@pytest.mark.parametrize(
    "usage",
    [
        Usage(input_tokens=10, cache_read_tokens=10_000),
        Usage(input_tokens=10, cache_read_tokens=-5, cache_write_tokens=10**9),
        Usage(input_tokens=10, cache_write_tokens=5, cache_write_1h_tokens=10**9),
    ],
)
def test_a_lying_answer_costs_no_more_than_its_input(usage: Usage) -> None:
    """More cached tokens than input are taken for the input; none lowers a cost below 0."""
    dollars = cost(PLAIN, usage)
    assert dollars is not None
    assert 0 <= dollars <= 10 * 6.0e-6


@pytest.mark.parametrize(
    ("provider", "body", "usage"),
    [
        (
            "anthropic",
            {
                "model": "m",
                "usage": {
                    "input_tokens": 5,
                    "output_tokens": 7,
                    "cache_read_input_tokens": 100,
                    "cache_creation_input_tokens": 40,
                    "cache_creation": {
                        "ephemeral_5m_input_tokens": 10,
                        "ephemeral_1h_input_tokens": 30,
                    },
                    "service_tier": "batch",
                },
            },
            Usage(
                model="m", input_tokens=145, output_tokens=7, cache_read_tokens=100,
                cache_write_tokens=40, cache_write_1h_tokens=30, tier="batch",
            ),
        ),
        (
            "anthropic",
            {
                "usage": {
                    "input_tokens": 5, "output_tokens": 7, "cache_creation": "none",
                    "service_tier": {"x": 1}, "speed": "fast",
                }
            },
            Usage(input_tokens=5, output_tokens=7, tier="fast"),
        ),
        (
            "openai",
            {
                "model": "m",
                "service_tier": "flex",
                "usage": {
                    "prompt_tokens": 9, "completion_tokens": 3,
                    "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
                },
            },
            Usage(
                model="m", input_tokens=9, output_tokens=3, cache_read_tokens=4,
                cache_write_tokens=2, tier="flex",
            ),
        ),
        (
            "openai",
            {"service_tier": ["default"], "usage": {"input_tokens": 9, "output_tokens": 3}},
            Usage(input_tokens=9, output_tokens=3),
        ),
    ],
)  # fmt: skip
def test_caches_and_tiers_are_read(provider: str, body: Any, usage: Usage) -> None:
    """What was written to a cache, for how long, and how it was processed; odd forms harm nothing."""
    assert profile(provider).usage(json.dumps(body).encode()) == usage


@pytest.mark.parametrize(
    ("asks", "n_input", "dollars"),
    [
        ({}, 1_000_000, 3.0),
        ({"caches": True}, 1_000_000, 6.0),
        ({"is_dearer": True}, 1_000_000, 30.0),
        ({}, 2_000_000, 12.0),
    ],
    ids=["plain", "writes to the cache", "asks for priority", "long"],
)
def test_the_worst_case_is_the_dearest_way(
    asks: dict[str, bool], n_input: int, dollars: float
) -> None:
    """What a request asks for and how long it is decide which of a model's rates may be the one."""
    priority = Price(rates=PLAIN.rates._replace(input=30.0))
    long = ((1_500_000, PLAIN.rates._replace(input=6.0)),)
    price = Price(rates=PLAIN.rates, steps=long, tiers={"priority": priority})
    assert worst([price], n_input, 0, **{**PLAINLY, **asks}) == pytest.approx(dollars)


def test_the_worst_case_of_what_changes_with_the_hour_is_the_dearest_hour() -> None:
    """A night's price binds nobody by day, and an unknown one no sum at all."""
    night, day = Price(rates=PLAIN.rates._replace(output=1.0)), PLAIN
    assert worst([night, day], 0, 1_000_000, **PLAINLY) == pytest.approx(15.0)
    assert worst([], 0, 1, **PLAINLY) is None
    assert worst([Price(rates=PLAIN.rates._replace(output=None))], 0, 1, **PLAINLY) is None
    listed = listed_price("deepseek", ["deepseek-chat"], wall=WALL)
    assert len(set(map(repr, listed.all_day))) > 1


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(input_tokens=10_000, output_tokens=5, cache_read_tokens=8_000), 8_000 * 2.7e-6),
        (Usage(input_tokens=10_000, output_tokens=5, cache_write_tokens=8_000), -8_000 * 0.75e-6),
        (
            Usage(
                input_tokens=9_000, output_tokens=5, cache_read_tokens=1_000,
                cache_write_tokens=4_000, cache_write_1h_tokens=4_000,
            ),
            1_000 * 2.7e-6 - 4_000 * 3e-6,
        ),
        (Usage(input_tokens=10_000, output_tokens=5), 0.0),
    ],
    ids=["read", "written", "both, for an hour", "neither"],
)  # fmt: skip
def test_what_the_cache_saved_is_the_difference_to_no_cache(usage: Usage, dollars: float) -> None:
    """Reading saves, writing costs; both are told against the price of plain input."""
    assert saved(PLAIN, usage) == pytest.approx(dollars)


def test_what_the_cache_saved_without_a_price_is_unknown() -> None:
    """Never 0."""
    unknown = Price(rates=Rates(3.0, 15.0, None, None, None))
    assert saved(unknown, Usage(input_tokens=10, output_tokens=1, cache_read_tokens=5)) is None
