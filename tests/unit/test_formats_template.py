"""Templates: what stands in a prompt, and what a row that lacks something is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchrunner.errors import UsageError
from batchrunner.formats.faults import RefusedLineError
from batchrunner.formats.template import load_template

Render = Callable[[str, dict[str, Any]], str]


@pytest.fixture
def render(tmp_path: Path) -> Render:
    """Fill a template with a row."""

    def render(source: str, row: dict[str, Any]) -> str:
        path = tmp_path / "t.j2"
        path.write_text(source)
        return load_template(str(path))(row)

    return render


@pytest.mark.parametrize(
    ("source", "row", "text"),
    [
        ("Hi {{ name }}.\n", {"name": "Bo & Co <x>"}, "Hi Bo & Co <x>."),
        ('{{ row["a b"] }}', {"a b": "x"}, "x"),
        ("{{ row }}", {"row": 1, "b": "é"}, '{"row":1,"b":"é"}'),
        ("{{ n }} {{ f }} {{ yes }}|{{ no }}", {"n": 3, "f": 1.5, "yes": True, "no": None}, "3 1.5 true|"),
        ("{{ a }} {{ a | tojson }}", {"a": {"x": ["<é"]}}, '{"x":["<é"]} {"x":["<é"]}'),
        ("{{ a | tojson(indent=2) }}", {"a": {"x": ["<é"]}}, '{\n  "x": [\n    "<é"\n  ]\n}'),
        ("{{ a.items }}", {"a": {"items": "mine"}}, "mine"),
        ("{{ a.b.0 }}", {"a": {"b": ["x"]}}, "x"),
        ("{% for k, v in row.items() %}{{ k }}={{ v }};{% endfor %}", {"a": "1", "b": 2}, "a=1;b=2;"),
        ("{{ x | default('none') }}{% if y is defined %}!{% endif %}", {}, "none"),
        ("{{ a }}", {"a": "{{ b }}", "b": "secret"}, "{{ b }}"),
    ],
    ids=["text", "any name", "whole row", "values", "json", "json in lines", "field before method", "path", "loop", "asked", "once"],
)  # fmt: skip
def test_what_stands_in_a_prompt(
    render: Render, source: str, row: dict[str, Any], text: str
) -> None:
    """Text as it is, other values as JSON, null as nothing; a row's text is never a template."""
    assert render(source, row) == text


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ nam }}", "`nam`, and this row has no such field"),
        ('{{ row["a b"] }}', "`a b`, and this row has no such field"),
        ("{{ row.nam }}", "`nam`, and this row has no such field"),
        ("{{ a.b }}", "`b` of a value that has none"),
        ("{% if nam %}x{% endif %}", "`nam`"),
        ("{% for x in nam %}x{% endfor %}", "`nam`"),
        ("{{ a.keys }}", "a function is no value"),
        ("{{ a.__class__ }}", "unsafe"),
        ("{{ row.clear() }}", "unsafe"),
        ("{% include 'other' %}", "fails"),
        ("{{ 1 / 0 }}", "division"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "too big"),
        ("{{ 'x' * 10 ** 15 }}", "longer than 64 MB"),
        ("{{ 5 | wordwrap(20) }}", "no attribute"),
        ("{{ 'x' | dictsort }}", "no attribute"),
        ("{{ 'x' | xmlattr }}", "no attribute"),
        ("{{ cycler() }}", "at least one item"),
        ("{{ a | tojson(indent=10**9) }}", "from 1 to 32"),
    ],
)
def test_a_row_that_can_not_fill_it(render: Render, source: str, said: str) -> None:
    """A missing field, a forbidden step and a failing one are faults of the row that say which."""
    with pytest.raises(RefusedLineError) as refused:
        render(source, {"a": {}})
    assert said.lower() in str(refused.value).lower()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("a\n{% if %}", "line 2"),
        ("{{ a | nothing }}", "nothing"),
        ("{{ [1] | random }}", "random"),
        ("{% for x in a %}" * 30 + "{% endfor %}" * 30, "nested blocks"),
    ],
    ids=["syntax", "filter", "dice", "nested"],
)
def test_a_file_that_is_no_template(render: Render, source: str, said: str) -> None:
    """What is wrong with a template is told before any row is read, with its line."""
    with pytest.raises(UsageError, match=said):
        render(source, {"a": 1})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A template that can't be read is named."""
    with pytest.raises(UsageError, match="No such file"):
        load_template(str(tmp_path / "none.j2"))
