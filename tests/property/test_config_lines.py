"""Lines of configuration keys, for documents that nobody thought of."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.config.located import NotTomlError, Path, read_toml

KEYS = st.sampled_from(["a", "b", '"x y"', "'q.r'", "c.d", '"[z]"'])
VALUES = st.sampled_from(
    ["1", '"t"', "'''\nk = 1\n[no]\n'''", '"""\\\n  x # y"""', "[\n 1, # ]\n\n 2]", "{ i = 1, j = {} }",
     "1979-05-27T07:32:00Z", "true", "[ { m = 1 } ]"]
)  # fmt: skip
BLANKS = st.sampled_from(["", "# a comment = 1", "   ", "\t# [x]"])
HEADERS = st.sampled_from(["[t]", "[t.u]", "[[l]]", "[l.v]", "[[l.w]]", '["p q"]', "[ t . s ]"])
LINES = st.lists(
    st.one_of(st.tuples(KEYS, VALUES).map(lambda pair: f"{pair[0]} = {pair[1]}"), BLANKS, HEADERS),
    max_size=12,
)


def paths_of(value: Any, prefix: Path = ()) -> set[Path]:
    """Return the path of every key that is not within a list."""
    if isinstance(value, dict):
        inner = {path for key, item in value.items() for path in paths_of(item, (*prefix, key))}
        return inner | ({prefix} if prefix else set())
    return {prefix}


@given(LINES, st.sampled_from(["\n", "\r\n"]))
def test_every_key_is_found_where_its_statement_begins(lines: list[str], ending: str) -> None:
    """Each key has a line, and a key is written on it; what is no TOML is refused with a line."""
    text = ending.join("\n".join(lines).split("\n"))
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        with pytest.raises(NotTomlError) as raised:
            read_toml(text)
        assert 1 <= raised.value.line <= max(1, len(text.splitlines()))
        return
    toml = read_toml(text)
    assert toml.values == values
    written = text.replace("\r\n", "\n").split("\n")
    for path in paths_of(values):
        line = written[toml.lines[path] - 1]
        (name,) = [part for part in path if isinstance(part, str)][-1:]
        assert name.split(".")[0] in line
