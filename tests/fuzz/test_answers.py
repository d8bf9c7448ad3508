"""Answers of any server: always a decision that can be stored, whatever was sent."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchrunner.checkup.listing import read_listing
from batchrunner.cli.screens import pretty_body
from batchrunner.cli.shapes import body as shown_body
from batchrunner.core.classify import classify
from batchrunner.core.credentials import Secrets, one_line, redact
from batchrunner.models import ErrorKind, Reply, Verdict
from batchrunner.providers import NAMES, profile
from tests.fuzz.effort import fuzzed, within
from tests.fuzz.foreign import bytes_like, json_values, repeated, texts
from tests.unit.provider_replies import REPLIES

NOW: Final = 1_787_616_000_000
SUCCESSES: Final = (
    {"type": "message", "model": "m", "stop_reason": "end_turn", "content": [{"type": "text", "text": "hi"}], "usage": {"input_tokens": 1, "output_tokens": 2}},
    {"model": "m", "choices": [{"finish_reason": "stop", "message": {"content": "hi"}}], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
    {"model": "m", "status": "completed", "output": [{"content": [{"type": "output_text", "text": "hi"}]}], "usage": {"input_tokens": 1}},
    {"data": [{"embedding": [0.5, 1]}]},
    {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 1}},
)  # fmt: skip
FIELDS: Final = (
    "error", "message", "type", "code", "status", "details", "detail", "metadata", "reason", "usage", "model",
    "input_tokens", "output_tokens", "prompt_tokens", "content", "text", "choices", "candidates", "parts",
    "embedding", "data", "output", "stop_reason", "finish_reason", "usageMetadata", "promptTokenCount", "id",
)  # fmt: skip
SAMPLES: Final = (*SUCCESSES, *(row[3] for row in REPLIES))
BODIES: Final = st.one_of(
    bytes_like(*SAMPLES),
    json_values(*FIELDS).map(msgspec.json.encode),
    json_values(*FIELDS).map(lambda value: msgspec.json.encode({"error": value})),
    repeated("<title", "<?xml", "<html>", "quota ", "reached your specified ", "temperature ").map(str.encode),
)  # fmt: skip
STATUSES: Final = st.one_of(
    st.sampled_from([200, 200, 200, 201, 204, 301, 307, 400, 401, 402, 403, 404, 407, 408, 413, 429, 500, 503, 529]),
    st.integers(100, 999),
)  # fmt: skip
HEADERS: Final = st.dictionaries(
    st.sampled_from(["retry-after", "x-should-retry", "location", "date", "content-type", "anthropic-ratelimit-requests-reset"]),
    texts("6m0s", "true", "https://", "0", "html", "2026-01-01T00:00:00Z"),
    max_size=3,
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@fuzzed(50)
@given(STATUSES, HEADERS, BODIES)
@example(200, {}, b'{"error":{"code":"\xc2\xb2"}}')
@example(200, {}, b'{"error":{"code":"' + b"4" * 5000 + b'"}}')
@example(200, {}, b'{"type":"message","usage":{"input_tokens":' + b"9" * 30 + b"}}")
@example(200, {}, b'{"choices":[],"usage":{"prompt_tokens":-5}}')
@example(500, {}, b" " * 30_000 + b"x")
@example(500, {}, b"<html>" + b"<title" * 20_000)
@example(200, {}, b'{"model":"' + b"m" * 100_000 + b'"}')
def test_every_answer_is_a_decision_that_can_be_stored(
    name: str, status: int, headers: dict[str, str], body: bytes
) -> None:
    """No answer makes the reading raise; counts are those of tokens, and messages one harmless line."""
    with within():
        decision = classify(
            Reply(status=status, headers=headers, body=body),
            profile(name),
            url="https://api.example/v1/messages",
            now_wall=NOW,
        )
    assert isinstance(decision.verdict, Verdict)
    assert (decision.kind is None) == (decision.verdict is Verdict.COMPLETE)
    assert decision.kind is None or decision.kind in ErrorKind
    assert len(decision.message) <= 500
    assert decision.message.isprintable()
    for at in (decision.retry_at, decision.reset_at):
        assert at is None or NOW <= at < 2**53
    if decision.usage is not None:
        usage = decision.usage
        for count in (usage.input_tokens, usage.output_tokens):
            assert count is None or 0 <= count <= 10**10
        for text in (usage.model, usage.finish_reason):
            assert text is None or len(text.encode()) <= 4 * 200


@pytest.mark.parametrize("name", NAMES)
@fuzzed(40)
@given(BODIES)
def test_an_answers_text_is_text(name: str, body: bytes) -> None:
    """Whatever is stored, an export gets text or nothing out of it, and each view shows it harmless."""
    with within():
        text = profile(name).output_text(body, None)
        shown = pretty_body(body)
        value = shown_body(body)
    assert text is None or text.encode().decode() == text
    assert set(shown).isdisjoint("\x00\x1b\x7f\x9b\u202e\u2066")
    # As part of one JSON object it must leave that object whole.
    msgspec.json.decode(msgspec.json.encode({"response": value}), type=dict[str, msgspec.Raw])


LISTS: Final = (
    {"data": [{"id": "m-1", "deprecated_at": "2026-01-01"}], "has_more": True},
    {"models": [{"name": "models/m", "retired_at": 1787616000, "lifecycle": "deprecated"}]},
    ["m-1", {"id": "m-2", "active": False}],
)


@fuzzed(120)
@given(
    st.one_of(
        bytes_like(*LISTS),
        json_values("data", "models", "id", "name", "deprecated_at", "status").map(
            msgspec.json.encode
        ),
    ),
    texts("m-1", "m-2", "-latest", max_size=3),
)
def test_a_list_of_models_is_one_or_none(body: bytes, wanted: str) -> None:
    """Any body is a list of named models or none, and any name can be looked for in it."""
    with within():
        listing = read_listing(body)
        if listing is None:
            return
        listing.find(wanted)
        near = listing.near(wanted)
    assert all(model.name for model in listing.models)
    assert set(near) <= {model.name for model in listing.models}


SECRET: Final = "s3cr3t/with+signs="


@fuzzed(150)
@given(
    st.one_of(
        texts(SECRET, "sk-ant-", "Bearer ", "cookie: ", "?key=", "://a:b@", "eyJ", "x-api-key", "=", max_size=20),
        repeated("cookie: a;", "; a=b", "\\\\", "\\u005c", "://", "@a", "eyJ.", "sk-ant-", "%25", "&amp;", "Bearer "),
    )
)  # fmt: skip
def test_a_line_of_foreign_text_is_short_and_harmless(text: str) -> None:
    """A message made of any text is one printable line without the secret, in no time."""
    secrets = Secrets([SECRET])
    with within():
        line = one_line(text, secrets)
        redacted = redact(text, secrets)
        cleaned = secrets.hide_bytes(text.encode())
    assert len(line) <= 500
    assert line.isprintable()
    assert all(SECRET not in found for found in (line, redacted, cleaned.decode()))


def test_no_sample_is_left_out() -> None:
    """The samples that are changed are those of every provider's own replies."""
    kinds: set[Any] = {row[0] for row in REPLIES}
    assert len(kinds) >= 8
