"""The most that a request may take: a bound on money is only as good as this is high."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchrunner.core.ceiling import ceiling, most_of
from batchrunner.core.prices import Price, Rates
from batchrunner.core.tokens import estimate
from batchrunner.providers.pricing import listed_price

#: A dollar a token sent; answers cost nothing.
SENT = Price(rates=Rates(1e6, 0.0, 1e6, 1e6, 1e6))
#: A dollar a token answered.
GOT = Price(rates=Rates(0.0, 1e6, 0.0, 0.0, 0.0))
WINDOW = 200_000


def body(*content: Any, **fields: Any) -> bytes:
    """Return a request that shows this to the model."""
    messages = [{"role": "user", "content": list(content)}]
    return json.dumps({"max_tokens": 10, "messages": messages} | fields).encode()


@pytest.mark.parametrize(
    "request_",
    [
        body({"type": "image", "source": {"type": "file", "file_id": "file_1"}}),
        body({"type": "document", "source": {"type": "url", "url": "https://a.example/a.pdf"}}),
        body({"type": "document", "source": {"type": "base64", "data": "JVBERi" * 9}}),
        body({"type": "file", "file": {"file_id": "f"}}),
        body({"type": "container_upload", "file_id": "f"}),
        body({"type": "text", "text": "hi"}, previous_response_id="resp_1"),
        body({"type": "tool_result", "content": [{"type": "input_file", "file_url": "https://x"}]}),
        body(prompt={"id": "pmpt_1"}),
        body(contents=[{"parts": [{"fileData": {"mimeType": "application/pdf", "fileUri": "x"}}]}]),
    ],
)
def test_what_lies_elsewhere_is_as_long_as_the_window(request_: bytes) -> None:
    """A file's id says nothing of its length: the model's window bounds it, and without one nothing does."""
    known = Price(rates=SENT.rates, window=WINDOW)
    assert most_of((known,), request_, provider="groq").dollars == WINDOW
    unknown = most_of((SENT,), request_, provider="groq", model="m")
    assert unknown.dollars is None
    assert 'context_window in [prices."m"]' in unknown.why


def test_answers_about_files_teach_nothing() -> None:
    """Another file may be longer: their usage is no bound for the next, nor for plain text."""
    known = Price(rates=SENT.rates, window=WINDOW)
    shown = body({"type": "document", "source": {"type": "file", "file_id": "f"}})
    assert most_of((known,), shown, 40.0).estimated == 0
    image = body({"type": "image", "source": {"type": "url", "url": "https://a.example/a.png"}})
    assert most_of((known,), image, provider="anthropic").estimated == 0
    assert most_of((known,), body({"type": "text", "text": "hi"})).estimated > 0


@pytest.mark.parametrize(
    ("provider", "most"), [("anthropic", 6_000), ("openai", 51_000), ("groq", WINDOW)]
)
def test_an_image_is_as_large_as_its_provider_lets_it_be(provider: str, most: int) -> None:
    """Its bytes are no text; who scales images down has a most of tokens, others the window."""
    known = Price(rates=SENT.rates, window=WINDOW)
    shown = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 300_000}}
    dollars = most_of((known,), body(shown), provider=provider).dollars
    assert dollars is not None
    assert 0.8 * most < dollars <= most


@pytest.mark.parametrize(
    "text",
    ["Zq9xK4vB7mTt0p" * 300, "\x00\x01\x02" * 500, "ꙮ𒀀🏴" * 400, "{}[]()<>|~^" * 300, "x" * 40_000],
    ids=["base64", "control", "rare", "signs", "plain"],
)
def test_text_is_no_more_tokens_than_bytes(text: str) -> None:
    """However a vocabulary cuts it, a token is a byte at least."""
    request = body({"type": "text", "text": text})
    dollars = most_of((SENT,), request).dollars
    assert dollars is not None
    assert dollars >= len(text.encode())
    assert dollars >= 1.5 * estimate(request).input


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]"),
        ({"tools": [{"name": "mine"}, {"type": "code_interpreter"}]}, "tools[1]"),
        ({"tools": [{"functionDeclarations": []}, {"google_search": {}}]}, "google_search"),
        ({"mcp_servers": [{"url": "https://a.example"}]}, "mcp_servers"),
        ({"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
        ({"plugins": [{"id": "web"}]}, "plugins"),
        ({"models": ["a", "b"]}, "models"),
        ({"model": "openai/gpt-4o:online"}, ":online"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"generationConfig": {"responseModalities": ["IMAGE"]}}, "responseModalities"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"messages": [{"content": [{"type": "input_audio", "input_audio": {}}]}]}, "messages[0]"),
        (
            {"contents": [{"parts": [{"inlineData": {"mimeType": "audio/wav", "data": "x"}}]}]},
            "contents[0].parts[0].inlineData",
        ),
    ],
)
def test_what_the_provider_adds_is_refused(fields: dict[str, Any], names: str) -> None:
    """Searches, tools that it runs, sound and other models: no sum is the most, and the field is named."""
    found = most_of((SENT,), body(**fields))
    assert found.dollars is None
    assert names in found.why


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}]},
        {"tools": [{"type": "bash_20250124", "name": "bash"}]},
        {"tools": [{"functionDeclarations": [{"name": "f"}]}]},
        {"modalities": ["text"]},
        {"messages": [{"content": [{"type": "tool_use", "input": {"url": "https://a.example"}}]}]},
        {"contents": [{"parts": [{"functionCall": {"args": {"url": "https://a.example"}}}]}]},
    ],
)
def test_tools_of_the_callers_own_are_text(fields: dict[str, Any]) -> None:
    """What is called by name and answered by the caller costs what it says."""
    found = ceiling("anthropic", "m", body(**fields))
    assert (found.elsewhere, found.endless) == ("", "")
    assert found.input < 3_000


@pytest.mark.parametrize(
    ("provider", "fields", "most"),
    [
        ("openai", {"n": 3}, 30),
        ("openai", {"n": 3.0}, 30),
        ("openai", {"max_completion_tokens": 40}, 40),
        ("mistral", {"max_completion_tokens": 40}, 10),
        ("deepseek", {"max_tokens": None, "max_completion_tokens": 40}, None),
        ("anthropic", {"thinking": {"type": "enabled", "budget_tokens": 50}}, 60),
        ("anthropic", {"thinking": {"type": "enabled", "budget_tokens": 5}}, 10),
        ("gemini", {}, None),
        ("gemini", {"generationConfig": {"maxOutputTokens": 7, "candidateCount": 2}}, 14),
        (
            "gemini",
            {"generationConfig": {"maxOutputTokens": 7, "thinkingConfig": {"thinkingBudget": 5}}},
            12,
        ),
        ("openai", {"prediction": {"content": "x" * 80}}, 104),
        ("openai", {"max_tokens": None}, None),
    ],
)
def test_answers_are_bounded_by_what_their_provider_reads(
    provider: str, fields: dict[str, Any], most: int | None
) -> None:
    """All answers together, with thought beyond them; a bound that the provider passes over is none."""
    assert ceiling(provider, "m", body(**fields)).output == most


@pytest.mark.parametrize(
    ("provider", "fields", "is_dearer"),
    [
        ("anthropic", {}, False),
        ("anthropic", {"speed": "fast"}, True),
        ("anthropic", {"service_tier": "standard_only"}, False),
        ("openai", {}, True),
        ("openai", {"service_tier": "default"}, False),
        ("openai", {"service_tier": "flex"}, False),
        ("openai", {"service_tier": "priority"}, True),
    ],
)
def test_a_project_may_ask_for_the_dearer_way(
    provider: str, fields: dict[str, Any], is_dearer: bool
) -> None:
    """OpenAI's projects have a tier of their own, which holds where a request names none."""
    assert ceiling(provider, "m", body(**fields)).is_dearer is is_dearer


def test_the_cache_is_written_where_nothing_marks_it() -> None:
    """Only Anthropic's needs a mark, which JSON may also write as an escape."""
    assert not ceiling("anthropic", "m", body()).caches
    assert ceiling("anthropic", "m", body(cache_control={"type": "ephemeral"})).caches
    assert ceiling("anthropic", "m", body().replace(b"role", b"cache_\\u0063ontrol")).caches
    assert ceiling("openai", "m", body()).caches


def test_windows_are_the_tables() -> None:
    """What the table knows of a model's window is taken; one that has dearer input beyond it is longer."""

    def window(model: str) -> int | None:
        price = listed_price("anthropic", [model], wall=1_790_000_000_000).price
        assert price is not None
        return price.window

    assert window("claude-haiku-4-5") == 200_000
    assert window("claude-sonnet-4-5") == 2**20


def test_vectors_are_no_answer() -> None:
    """Embeddings cost what is sent."""
    assert ceiling("openai", "text-embedding-3-small", b'{"input": ["a", "b"]}').output == 0
    assert ceiling("openai", "m", b"[]").output is None
    assert most_of((GOT,), b'{"input": "a", "model": "text-embedding-3-small"}').dollars == 0.0
