"""Which start a request shares with others, told from the request alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchrunner.core.caching import AUTOMATIC, KEPT_MS, Found, family_of, kept_ms, start_of
from batchrunner.providers.anthropic import CACHING

MARK = {"cache_control": {"type": "ephemeral"}}
#: About 2,700 tokens.
LONG = "the quick brown fox jumps over the lazy dog; " * 300
SHORT = "be brief"


def text(words: str, *, marked: bool = False) -> dict[str, Any]:
    return {"type": "text", "text": words, **(MARK if marked else {})}


def claude(system: str, *questions: Any, marked: bool = True, **fields: Any) -> bytes:
    messages = [{"role": "user", "content": question} for question in questions]
    body = {"max_tokens": 9, "system": [text(system, marked=marked)], "messages": messages}
    return json.dumps({**body, **fields}).encode()


def gpt(system: str, *questions: Any, **fields: Any) -> bytes:
    messages = [{"role": "system", "content": system}]
    messages += [{"role": "user", "content": question} for question in questions]
    return json.dumps({"messages": messages, **fields}).encode()


def of_claude(body: bytes, model: str = "claude-sonnet-4-5") -> int:
    return start_of(body, model, CACHING).number


def of_others(body: bytes) -> int:
    return start_of(body, "gpt-5", AUTOMATIC).number


def test_what_is_marked_alike_starts_alike() -> None:
    """Whatever follows the mark, and whatever is no part of what a model reads."""
    one = of_claude(claude(LONG, "first?"))
    assert one
    assert of_claude(claude(LONG, "second?", temperature=0.5)) == one
    assert of_claude(claude(LONG + "!", "first?")) != one
    assert of_claude(claude(LONG, "first?", tools=[{"name": "look"}])) != one


def test_questions_about_one_document_lie_together_within_a_system() -> None:
    """With two marks the family is the first's, the start the last's."""
    starts = [
        of_claude(claude(LONG, [text(document, marked=True), text(question)]))
        for document in ("one ", "two ")
        for question in ("why?", "when?")
    ]
    assert starts[0] == starts[1] != starts[2] == starts[3]
    assert len({family_of(start) for start in starts}) == 1
    assert family_of(of_claude(claude(SHORT + LONG, "why?"))) != family_of(starts[0])


@pytest.mark.parametrize(
    ("model", "is_kept"),
    [
        ("claude-sonnet-4-5", True),
        ("claude-3-5-haiku-20241022", True),
        ("claude-haiku-4-5-20251001", False),
        ("anthropic/claude-opus-4.6", False),
    ],
)
def test_each_model_keeps_from_a_length_of_its_own(model: str, is_kept: bool) -> None:
    """1,024 tokens of most, 2,048 or 4,096 of some."""
    start = start_of(claude(LONG, "why?"), model, CACHING)
    assert start.found is (Found.KEPT if is_kept else Found.SHORT)
    assert bool(start.number) is is_kept


def test_without_a_mark_claude_keeps_nothing() -> None:
    """And that is told apart from a start that is too short."""
    assert start_of(claude(LONG, "why?", marked=False), "", CACHING) == (0, Found.UNMARKED)
    assert start_of(claude(SHORT, "why?"), "", CACHING) == (0, Found.SHORT)


def test_a_mark_on_the_whole_request_is_one_on_its_end() -> None:
    """So that only the same request again shares its start."""
    whole = [of_claude(claude(LONG, q, marked=False, **MARK)) for q in ("why?", "when?", "why?")]
    assert whole[0] == whole[2] != whole[1]


def test_others_keep_long_starts_by_themselves() -> None:
    """A shared system prompt, or the shared beginning of one text."""
    one = of_others(gpt(LONG, "why?"))
    assert one
    assert of_others(gpt(LONG, "when?", temperature=0)) == one
    assert of_others(gpt("x" + LONG, "why?")) != one
    assert of_others(gpt(SHORT, "why?")) == 0
    prompts = [of_others(gpt(SHORT, LONG + row)) for row in ("row one", "row two")]
    assert prompts[0] == prompts[1] != 0


def test_others_keep_the_longest_start_there_is() -> None:
    """All but the last part: documents of one system prompt are a family."""
    starts = [
        of_others(gpt(LONG, [text(document), text(question)]))
        for document in (LONG + "one", LONG + "two")
        for question in ("why?", "when?")
    ]
    assert starts[0] == starts[1] != starts[2] == starts[3]
    assert family_of(starts[0]) == family_of(starts[2])


def test_gemini_and_responses_are_read_in_their_own_fields() -> None:
    """`systemInstruction` and `contents`, `instructions` and `input`."""
    gemini = [
        of_others(
            json.dumps(
                {
                    "contents": [{"role": "user", "parts": [{"text": question}]}],
                    "systemInstruction": {"parts": [{"text": LONG}]},
                }
            ).encode()
        )
        for question in ("why?", "when?")
    ]
    assert gemini[0] == gemini[1] != 0
    responses = [
        of_others(json.dumps({"instructions": LONG, "input": question}).encode())
        for question in ("why?", "when?")
    ]
    assert responses[0] == responses[1] != 0


@pytest.mark.parametrize(
    "body", [b"", b"no json", b"[1]", b"{}", b'{"messages": 7}', b'{"messages": [null, []]}']
)
def test_what_is_no_request_has_no_start(body: bytes) -> None:
    """Never an error: it is sent as it is."""
    assert of_others(body) == 0
    assert of_claude(body) == 0


def test_what_is_kept_for_an_hour_says_so() -> None:
    """Five minutes else, counted from the last read."""
    assert kept_ms(claude(LONG, "why?")) == KEPT_MS
    hour = {"type": "ephemeral", "ttl": "1h"}
    assert kept_ms(claude(LONG, "why?", cache_control=hour)) == 12 * KEPT_MS
    assert kept_ms(gpt(LONG, "why?", prompt_cache_retention="24h")) > KEPT_MS
