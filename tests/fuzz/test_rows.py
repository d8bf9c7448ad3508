"""Tables, templates and schemas of strangers: each row is one or a fault, and nothing goes on for ever."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from batchrunner.core.expected import UNMET_SAYS, Expected
from batchrunner.errors import InputError, UsageError
from batchrunner.formats.faults import RefusedLineError
from batchrunner.formats.tables import records
from batchrunner.formats.template import load_template
from tests.fuzz.effort import fuzzed, within
from tests.fuzz.foreign import bytes_like, json_values, mutated, texts

TABLES: Final = (
    b'id,prompt,max_tokens\n1,"say ""hi"", then\nstop",7\n2,b,\n',
    b"id\tprompt\n1\ta\n\n2\tb",
    b'sep=;\r\n"id";"a,b"\r\n1;"x;y"\r\n',
    b'a,b\n1,"never closed\n2,x\n3,y\n',
)
LONGEST: Final = 200

TEMPLATES: Final = (
    b"Say {{ name }}{% for x in tags %}, {{ x | upper }}{% endfor %}.",
    b'{% if row["a b"] %}{{ row["a b"] | tojson(indent=2) }}{% else %}{{ name * 3 }}{% endif %}',
    b"{% set t = name | default('x') %}{{ t ~ n }}{{ '%s' | format(n) }}{{ name.center(9) }}",
    b"{% macro m(a, b=1) %}{{ a ** b }}{% endmacro %}{{ m(n, 2) }}{{ tags | join(', ') }}",
)
ROWS: Final = st.fixed_dictionaries(
    {"name": texts(max_size=3), "n": st.integers(-9, 9), "a b": json_values(), "tags": json_values()}
)  # fmt: skip

SCHEMAS: Final = (
    {"type": "object", "properties": {"label": {"enum": ["a", "b"]}}, "required": ["label"]},
    {"$ref": "#/$defs/n", "$defs": {"n": {"items": {"$ref": "#"}, "type": "array"}}},
    {"$schema": "http://json-schema.org/draft-07/schema#", "minimum": 1, "maxLength": 3},
    {"$dynamicRef": "#n", "$defs": {"n": {"$dynamicAnchor": "n", "type": "null"}}},
    {"anyOf": [{"const": 1}, {"uniqueItems": True, "contains": {"multipleOf": 2}}]},
)
WORDS: Final = (
    "$ref", "$defs", "$id", "$schema", "$dynamicRef", "$anchor", "type", "properties", "items", "enum", "const", "anyOf",
    "not", "minimum", "multipleOf", "required", "object", "array", "null", "#", "#/$defs/n", "label", "additionalProperties",
)  # fmt: skip


@fuzzed()
@given(bytes_like(*TABLES), st.sampled_from([",;", "\t", ",\t;"]))
@example(b'a\n"' + b"x\n" * 300, ",;")
@example(b"a\n" + b"x" * 300 + b"\nb", ",;")
def test_each_row_is_fields_or_a_reason(data: bytes, separators: str) -> None:
    """Rows stand in order of their lines; each is a JSON object of texts, or says why it is none."""
    lines = data.split(b"\n")
    seen = 1
    try:
        with within():
            found = list(records(iter(lines), separators, file="t.csv", longest=LONGEST))
    except InputError as error:
        assert str(error)
        return
    for record in found:
        assert seen < record.line <= len(lines)
        seen = record.line
        assert 0 <= record.n_swallowed <= len(lines) - record.line
        if record.reason is None:
            row = msgspec.json.decode(record.data, type=dict[str, str])
            assert row
            assert all(row)
        else:
            assert len(record.reason) < 300


@fuzzed(150)
@given(bytes_like(*TEMPLATES), ROWS)
@example(b"{{ name.__class__.__mro__ }}{{ ''.format_map(row) }}", {"name": "x"})
@example(b"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", {})
@example(b"{{ 9 ** 9 ** 9 ** 9 }}", {})
@example(b"{{" + b"(" * 3_000, {})
def test_a_template_makes_text_or_refuses_the_row(source: bytes, row: dict[str, Any]) -> None:
    """What is no template is told before any row; a row gets its text, or a sentence, within a bound."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.j2")
        path.write_bytes(source)
        try:
            with within(5.0):
                fill = load_template(str(path))
        except UsageError as error:
            assert error.fix
            return
    try:
        with within(5.0):
            assert isinstance(fill(row), str)
    except RefusedLineError as error:
        assert str(error)


@fuzzed(150)
@given(
    st.one_of(bytes_like(*SCHEMAS), json_values(*WORDS).map(msgspec.json.encode)),
    st.one_of(mutated([b'{"label": "a"}', b"```json\n[1, 2]\n```"]), json_values("label").map(msgspec.json.encode)),
)  # fmt: skip
@example(b'{"$ref": "#"}', b"1")
@example(b'{"items": {"$ref": "#"}}', b"[" * 3_000 + b"]" * 3_000)
@example(b'{"items": {"$ref": "#"}}', b"[" * 400 + b"]" * 400)
@example(b'{"$ref": "http://127.0.0.1:9/never-asked"}', b"1")
def test_an_answer_meets_a_schema_or_is_told_why_not(schema: bytes, answer: bytes) -> None:
    """A schema is read or refused with a reason, fetches nothing, and any answer is judged by it."""
    try:
        with within(5.0):
            expected = Expected(schema.decode("utf-8", "replace"))
    except ValueError as error:
        assert str(error)
        return
    with within(5.0):
        why = expected.unmet(answer.decode("utf-8", "replace"))
    assert why is None or (why.startswith(UNMET_SAYS) and len(why) <= 400)
