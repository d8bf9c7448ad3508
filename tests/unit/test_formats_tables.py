"""CSV and TSV: rows in, JSON lines out, and every way in which a row is none."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.errors import InputError
from batchrunner.formats import sources
from batchrunner.formats.sources import RawLine, open_lines

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)


def rows(tmp_path: Path, data: bytes, name: str = "rows.csv") -> list[RawLine]:
    """Read the rows of one file."""
    path = tmp_path / name
    path.write_bytes(data)
    return list(open_lines([str(path)]))


def objects(read: list[RawLine]) -> list[dict[str, str]]:
    """Return what rows say, all of them good."""
    assert all(line.is_row and line.reason is None for line in read)
    return [json.loads(line.data) for line in read]


def test_cells_and_line_numbers(tmp_path: Path) -> None:
    """Quoted cells hold anything; a row is counted by its first line, blank and empty rows too."""
    data = b'\xef\xbb\xbfid,text\r\n1,plain\r\n2,"a\r\nb ""q"", c"\r\n\r\n,\r\n3,\xc3\xa9\r\n'
    read = rows(tmp_path, data)
    assert objects(read) == [
        {"id": "1", "text": "plain"},
        {"id": "2", "text": 'a\r\nb "q", c'},
        {"id": "3", "text": "é"},
    ]
    assert [line.line for line in read] == [2, 3, 7]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("r.csv", b"a,b\n1,2 x\n"),
        ("r.CSV", b"a;b\n1;2 x\n"),
        ("r.tsv", b"a\tb\n1\t2 x\n"),
        ("r.csv", b'"a";"b"\n1;"2 x"\n'),
        ("r.csv", b"\xef\xbb\xbfsep=;\r\na;b\r\n1;2 x\r\n"),
        ("r.csv", b'"sep=|"\na|b\n1|2 x\n'),
        ("r.tsv.gz", gzip.compress(b"a\tb\n1\t2 x\n")),
    ],
    ids=["commas", "semicolons", "tabs", "quotes", "said", "said in quotes", "packed"],
)
def test_what_separates_cells(tmp_path: Path, name: str, data: bytes) -> None:
    """The ending tells a table, and the heading whether it is one of semicolons."""
    assert objects(rows(tmp_path, data, name)) == [{"a": "1", "b": "2 x"}]


def test_separators_within_quotes_are_text(tmp_path: Path) -> None:
    """A comma in a name of the heading does not make a table of semicolons one of commas."""
    data = b'"id";"prompt, text";"a ""b"", c"\n1;x, y;z\n'
    assert objects(rows(tmp_path, data)) == [{"id": "1", "prompt, text": "x, y", 'a "b", c': "z"}]


def test_numbers_go_on_over_files(tmp_path: Path) -> None:
    """Lines are counted over the whole input, headings and lines within cells included."""
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text('a\n"x\ny"\n')
    second.write_text("a\nz\n")
    read = list(open_lines([str(first), str(second)]))
    assert [(line.line, line.overall) for line in read] == [(2, 2), (2, 5)]


@pytest.mark.parametrize(
    ("data", "is_row", "line"),
    [(b'\n\n{"a":"1"}\n', True, 3), (b"\na,b\n1,2\n", True, 3), (b"a\tb\n1\t2\n", True, 2)],
    ids=["json", "csv", "tsv"],
)
def test_standard_input_is_told_by_its_first_line(data: bytes, is_row: bool, line: int) -> None:
    """Rows on standard input may be JSON, CSV or TSV, and are counted from its first line."""
    (raw,) = open_lines(["-"], stdin=io.BytesIO(data), are_rows=True)
    assert (raw.is_row, raw.line) == (is_row, line)
    assert json.loads(raw.data)["a"] == "1"


FAULTS = {
    "short": (b"1", "1 cell"),
    "long": (b"1,2,3", "3 cells"),
    "bytes": (b"\xff,2", "not UTF-8"),
    "after a quote": (b'"a"b,2', "quote"),
    "open quote": (b'"a,2', "never closed"),
    "lone CR": (b"a\rb,2", "carriage return"),
}


@pytest.mark.parametrize("why", FAULTS)
def test_each_bad_row_is_told(tmp_path: Path, why: str) -> None:
    """A row that is none comes out with its line and the reason, and the rows before it are good."""
    bad, said = FAULTS[why]
    good, fault, *_ = rows(tmp_path, b"a,b\n1,2\n" + bad + b"\n3,4\n")
    assert good.reason is None
    assert fault.line == 3
    assert said in (fault.reason or "")


def test_rows_after_a_bad_one_are_read(tmp_path: Path) -> None:
    """One bad row does not hide the faults, or the rows, after it."""
    read = rows(tmp_path, b'a,b\n1\n"x"y,2\n3,4\n5\n')
    assert [line.reason is None for line in read] == [False, False, True, False]


def test_cells_without_a_heading(tmp_path: Path) -> None:
    """An empty column is left out; a value in it is a fault."""
    good, bad = rows(tmp_path, b"a,,\n1,,\n1,,x\n")
    assert json.loads(good.data) == {"a": "1"}
    assert bad.reason == "cell 3 stands under no heading"


@pytest.mark.parametrize(
    ("heading", "said"),
    [(b"a,a", "twice"), (b"a\xff,b", "UTF-8"), (b'"a', "never closed")],
    ids=["twice", "not UTF-8", "open quote"],
)
def test_a_heading_that_is_none(tmp_path: Path, heading: bytes, said: str) -> None:
    """A file whose heading can't be meant is refused as a whole."""
    with pytest.raises(InputError, match=said):
        rows(tmp_path, heading + b"\n1,2\n")


def test_a_quote_that_is_never_closed_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row is held to the bound of all lines, however many lines it has."""
    monkeypatch.setattr(sources, "MAX_LINE", 10_000)
    *_, last = rows(tmp_path, b'a\n1\n"' + b"x\n" * 1_000_000)
    assert last.line == 3
    assert "never closed" in (last.reason or "")
    assert len(last.data) <= 1024
    assert last.n_swallowed > 1000


def test_rows_after_one_that_is_too_long_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line over the bound is one fault, and the next line is a row again."""
    monkeypatch.setattr(sources, "MAX_LINE", 10_000)
    good, bad, *after = rows(tmp_path, b"a\n1\n" + b"x" * 20_000 + b"\n" + b"2\n" * 9)
    assert (good.reason, bad.line, bad.n_swallowed) == (None, 3, 0)
    assert "longer than" in (bad.reason or "")
    assert [json.loads(row.data)["a"] for row in after] == ["2"] * 9


@pytest.mark.parametrize("before", [b"", b"\n" * 20_000], ids=["alone", "after blank lines"])
def test_a_heading_that_is_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    """A first line over the bound is told as the heading's fault; blank lines before it are none."""
    monkeypatch.setattr(sources, "MAX_LINE", 10_000)
    with pytest.raises(InputError, match="heading can't be read: longer than"):
        rows(tmp_path, before + b"x" * 20_000 + b"\n1\n")
    assert len(rows(tmp_path, before + b"a\n1\n")) == 1


@pytest.mark.parametrize(
    ("data", "line", "n_swallowed", "lines"),
    [
        (b'1,2\n2,"oops\n3,x\n4,x\n', 3, 2, "(lines 3 to 5)"),
        (b'1,2\n2,"oops\n3,"x"\n4,x\n', 3, 1, "(lines 3 to 4)"),
        (b'1,"2\n2",3\n', 2, 0, "(lines 2 to 3)"),
        (b'1,2\n2,"oops', 3, 0, ""),
    ],
    ids=["never closed", "closed by another's", "balanced", "the last line"],
)
def test_a_row_tells_the_lines_that_went_with_it(
    tmp_path: Path, data: bytes, line: int, n_swallowed: int, lines: str
) -> None:
    """Where a quote swallowed lines, the fault names them, and says whether they may be rows."""
    (bad,) = [row for row in rows(tmp_path, b"a,b\n" + data) if row.reason is not None]
    assert (bad.line, bad.n_swallowed) == (line, n_swallowed)
    assert bad.reason is not None
    assert bad.reason.endswith(lines or "closed")


@given(table=st.lists(st.tuples(TEXT, TEXT), max_size=5))
def test_what_the_csv_module_writes_is_read_back(table: list[tuple[str, str]]) -> None:
    """Whatever text a spreadsheet holds, its cells come back."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerows([("a", "b"), *table])
    stdin = io.BytesIO(out.getvalue().encode())
    read = list(open_lines(["-"], stdin=stdin, are_rows=True))
    kept = [row for row in table if any(cell and not cell.isspace() for cell in row)]
    assert [tuple(json.loads(line.data).values()) for line in read] == kept
