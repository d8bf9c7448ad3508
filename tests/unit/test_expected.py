"""What answers have to be: schemas of any draft, nothing fetched, and no text that breaks the check."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.core.expected import ANY, CUT_SAYS, UNMET_SAYS, Expected

LABEL = {"type": "object", "required": ["label"], "properties": {"label": {"type": "string"}}}


def unmet(schema: Any, answer: Any, finish_reason: str | None = None) -> str | None:
    """Hold an answer (text, or a value as JSON) to a schema."""
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return Expected(json.dumps(schema)).unmet(text, finish_reason)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (LABEL, {"label": "x"}, {"label": 1}),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]}, ["x"], [1]),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True}, 2, 1),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "null"}}}, None, 1),
        ({"$id": "http://schemas.example/a", "$ref": "#/$defs/n", "$defs": {"n": {"const": 1}}}, 1, 2),
        ({"properties": {"$ref": {"type": "string"}}}, {"$ref": "x"}, {"$ref": 1}),
        ({"enum": ["é"]}, '"\\u00e9"', '"e"'),
        ({"items": {"$id": "http://schemas.example/q", "$ref": "#/$defs/n", "$defs": {"n": {"const": 1}}}}, [1], [2]),
        ({"const": {"$ref": "nowhere"}}, {"$ref": "nowhere"}, 1),
        ({"$dynamicRef": "#n", "$defs": {"n": {"$dynamicAnchor": "n", "type": "null"}}}, None, 1),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "$dynamicRef": "#n", "type": "null"}, None, 1),
        ({"uniqueItems": True}, [1], [1, 1]),
    ],
    ids=["2020-12", "draft 7", "draft 4", "own part", "with $id", "field called $ref", "escapes", "$id inside",
         "$ref as data", "$dynamicRef", "a word of another draft", "only unique"],
)  # fmt: skip
def test_schemas(schema: Any, good: Any, bad: Any) -> None:
    """A schema means what its draft says, and refers to its own parts."""
    assert unmet(schema, good) is None
    assert (unmet(schema, bad) or "").startswith(UNMET_SAYS)


def test_any_json() -> None:
    """Without a schema any JSON will do, and false lets none pass."""
    expected = Expected(ANY)
    assert expected.unmet("[1]") is None
    assert expected.unmet("1 2") is not None
    assert "no text" in (expected.unmet(None) or "")
    assert Expected("false").unmet("1") is not None


@pytest.mark.parametrize("word", ["max_tokens", "length", "MAX_TOKENS", "max_output_tokens"])
def test_an_answer_that_was_cut(word: str) -> None:
    """Where it was cut the message says so: asking again for the same would be in vain."""
    assert (unmet(LABEL, '{"label": "x', word) or "").startswith(CUT_SAYS)


def test_messages_are_short_and_name_the_place() -> None:
    """The place and what is wrong there are told, not a megabyte of answer."""
    said = unmet(
        {"properties": {"a": {"items": {"type": "string"}}}}, {"a": ["x", {"y": "z" * 10**6}]}
    )
    assert said is not None
    assert "a.1:" in said
    assert "is not of type 'string'" in said
    assert len(said) <= 400


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", '{"label": 1}', '{"type": "nothing"}', '{"$ref": "file:///etc/hostname"}',
     '{"type": "array", "items": {"$ref": "https://127.0.0.1:9/x"}}', "[" * 100_000,
     '{"$ref": "#"}', '{"allOf": [{"$ref": "#"}]}', '{"anyOf": [{"type": "string"}, {"not": {"$ref": "#"}}]}',
     '{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}'],
)  # fmt: skip
def test_what_is_no_schema(text: str) -> None:
    """What can't be a schema is refused with a reason, and nothing is fetched to find out."""
    with pytest.raises(ValueError) as refused:
        Expected(text)
    assert len(str(refused.value)) < 700


def test_a_schema_may_be_found_again_in_what_it_holds() -> None:
    """Trees and lists of themselves are schemas: each step goes into a part of the value."""
    tree = {
        "type": "object",
        "properties": {"left": {"$ref": "#"}, "more": {"items": {"$ref": "#"}}},
    }
    assert unmet(tree, '{"left": {"left": {}}, "more": [{}]}') is None
    assert unmet(tree, '{"left": {"left": 3}}') is not None


def test_an_answer_that_the_library_trips_over() -> None:
    """A number too large to be divided is unmet, with the reason, and breaks nothing."""
    said = unmet({"multipleOf": 0.1}, "1" + "0" * 400)
    assert (said or "").startswith(f"{UNMET_SAYS}: checking it failed: OverflowError")


@given(st.text(max_size=30) | st.builds(json.dumps, st.recursive(st.none() | st.text(), st.lists)))
def test_any_text_is_judged(text: str) -> None:
    """Whatever a model writes is met or not; it never breaks the check."""
    said = Expected(json.dumps(LABEL)).unmet(text)
    assert said is None or said.startswith(UNMET_SAYS)
