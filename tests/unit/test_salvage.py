"""Answers that are nearly of their provider's form: what fits is read, and only then looked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchrunner.core.classify import Answer
from batchrunner.models import Usage
from batchrunner.providers import anthropic, gemini, openai, openrouter, profile, salvage

ODD_COUNTS: list[tuple[str, dict[str, Any], Usage]] = [
    (
        "openai",
        {
            "model": "m", "choices": [{"finish_reason": "stop"}], "service_tier": "flex",
            "usage": {
                "prompt_tokens": 12.0, "completion_tokens": "3",
                "prompt_tokens_details": {"cached_tokens": 4.0, "cache_write_tokens": {}},
            },
        },
        Usage(
            model="m", finish_reason="stop", input_tokens=12, output_tokens=3, cache_read_tokens=4,
            tier="flex",
        ),
    ),
    (
        "openrouter",
        {"model": 7, "choices": [3, {"finish_reason": "stop"}], "usage": {"prompt_tokens": 1.5, "completion_tokens": 3}},
        Usage(finish_reason="stop", output_tokens=3),
    ),
    ("mistral", {"choices": [{"finish_reason": "stop"}], "usage": 5}, Usage(finish_reason="stop")),
    (
        "anthropic",
        {
            "type": "message", "model": "m", "stop_reason": "end_turn",
            "usage": {
                "input_tokens": 5.0, "output_tokens": [], "cache_read_input_tokens": 2,
                "cache_creation": {"ephemeral_1h_input_tokens": 3.0},
            },
        },
        Usage(
            model="m", finish_reason="end_turn", input_tokens=7, cache_read_tokens=2,
            cache_write_1h_tokens=3,
        ),
    ),
    (
        "gemini",
        {
            "candidates": [{"finishReason": "STOP", "content": {"parts": [{"text": "x", "thought": 0}]}}],
            "usageMetadata": {"promptTokenCount": 5.0, "candidatesTokenCount": "two"},
        },
        Usage(finish_reason="STOP", input_tokens=5),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "body", "usage"), ODD_COUNTS)
def test_one_odd_field_costs_itself_alone(
    provider: str, body: dict[str, Any], usage: Usage
) -> None:
    """A count in floats or text is a count; what can't be one does not take the rest with it."""
    data = json.dumps(body).encode()
    assert profile(provider).read(data, "") == Answer(usage, False)
    assert (
        profile(provider)
        .read(json.dumps({**body, "error": {"message": "x"}}).encode(), "")
        .is_error
    )


def test_the_text_beside_an_odd_count() -> None:
    """The answer's text is there whatever its counts are."""
    (body,) = [body for name, body, _ in ODD_COUNTS if name == "gemini"]
    assert profile("gemini").output_text(json.dumps(body).encode(), None) == "x"


def test_a_long_list_with_something_odd_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Millions of small things, one of them odd, leave the rest of the answer."""
    monkeypatch.setattr(salvage, "_LONGEST_LIST", 100)
    body = {"choices": [{}] * 100 + [3], "usage": {"prompt_tokens": 3.0}, "model": "m"}
    assert profile("openai").usage(json.dumps(body).encode()) == Usage(model="m", input_tokens=3)


def test_an_answer_as_promised_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is salvaged of an answer that has the form that it should have."""
    for module in (openai, anthropic, gemini, openrouter):
        monkeypatch.delattr(module, "salvage")
    usage = {"prompt_tokens": 1, "input_tokens": 1}
    for name in ("openai", "anthropic", "openrouter"):
        assert profile(name).usage(json.dumps({"usage": usage}).encode()).input_tokens == 1
    body = b'{"usageMetadata": {"promptTokenCount": 1}}'
    assert profile("gemini").usage(body).input_tokens == 1
