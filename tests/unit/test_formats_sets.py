"""``--set``: what a value is, where it goes, and what can't be set."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrunner.errors import UsageError
from batchrunner.formats.sets import apply_sets, model_of, parse_set


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_tokens=8192", ("max_tokens", "8192")),
        ("model=claude-x", ("model", '"claude-x"')),
        ('model="claude-x"', ("model", '"claude-x"')),
        ("a.b=null", ("a.b", "null")),
        ('a={"b": [1]}', ("a", '{"b":[1]}')),
        ("system=a=b", ("system", '"a=b"')),
        ("system=", ("system", '""')),
        ("stream=false", ("stream", "false")),
    ],
)
def test_values(text: str, expected: tuple[str, str]) -> None:
    """A value is JSON where it parses, else a string; only the first = divides."""
    assert parse_set(text) == expected


def test_value_from_a_file(tmp_path: Path) -> None:
    """@FILE is read, and is JSON or a string like any value."""
    path = tmp_path / "v"
    path.write_text('{"a": 1}')
    assert parse_set(f"tools=@{path}") == ("tools", '{"a":1}')
    path.write_text("line\nline é", encoding="utf-8")
    assert parse_set(f"system=@{path}") == ("system", '"line\\nline é"')
    with pytest.raises(UsageError, match="can't be read"):
        parse_set(f"system=@{tmp_path}/none")


@pytest.mark.parametrize("text", ["model", "=x", "a..b=1", ".a=1", "stream=true"])
def test_refused(text: str) -> None:
    """No field, an empty step, or streaming is a usage error."""
    with pytest.raises(UsageError):
        parse_set(text)


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ([], b'{"a": {"b":1}, "l":[1,{"x":2}]}'),
        ([("a", "5")], b'{"a":5,"l":[1,{"x":2}]}'),
        ([("a.b", "5"), ("a.c.d", "6")], b'{"a":{"b":5,"c":{"d":6}},"l":[1,{"x":2}]}'),
        ([("l.1.x", "5"), ("l.0", "6")], b'{"a":{"b":1},"l":[6,{"x":5}]}'),
        ([("n", '"\xc3"')], '{"a":{"b":1},"l":[1,{"x":2}],"n":"\xc3"}'.encode()),
    ],
)
def test_apply(sets: list[tuple[str, str]], expected: bytes) -> None:
    """Fields are replaced in their place, missing objects are made, the rest stays."""
    assert apply_sets(b'{"a": {"b":1}, "l":[1,{"x":2}]}', sets) == expected


@pytest.mark.parametrize(
    ("body", "field"),
    [(b'{"l":[1]}', "l.1"), (b'{"l":[1]}', "l.x.y"), (b'{"a":1}', "a.b"), (b"[]", "a"), (b"", "a")],
)
def test_a_way_that_is_not_there(body: bytes, field: str) -> None:
    """A path through something that is no object, or a body that is none, is a usage error."""
    with pytest.raises(UsageError, match="--set"):
        apply_sets(body, [(field, "1")])


def test_model_of() -> None:
    """The model a body names is found, and its absence too."""
    assert model_of(b'{"model":"m","x":[1]}') == "m"
    for body in (b"", b"[]", b"{}", b'{"model":5}', b"{"):
        assert model_of(body) is None
