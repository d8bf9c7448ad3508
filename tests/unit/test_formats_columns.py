"""Chosen columns: what a name stands for, in CSV and JSON lines, and cells fit for a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from batchrunner.core.jsontext import json_of
from batchrunner.errors import UsageError
from batchrunner.formats.columns import parse_columns
from batchrunner.formats.export import COLUMNS, check_choice, write_rows
from batchrunner.formats.input_text import input_text
from batchrunner.formats.rows import ExportRow
from batchrunner.formats.spreadsheets import LONGEST, Cells
from batchrunner.models import Shape
from batchrunner.providers import profile
from batchrunner.views import JobView

RESPONSE = {"content": [{"text": "x"}, {"text": "y"}], "usage": {"output_tokens": 3}}
METADATA = {"row": 7, "a.b": "dotted", "deep": {"er": [1, 2]}, "row 2": None}
DONE = ExportRow(
    job=JobView(
        key="k", status="completed", attempts=1, cost_usd=0.0000025, started_at=1_795_409_645_006,
        output_text='```json\n{"label": "spam", "n": {"x": [true]}}\n```',
        metadata=json.dumps(METADATA).encode(),
    ),
    request=b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}',
    response=json.dumps(RESPONSE).encode(),
    shape=Shape.BODY,
)  # fmt: skip
PENDING = ExportRow(
    job=JobView(key="p", status="pending", attempts=0),
    request=None,
    response=None,
    shape=Shape.BODY,
)


def table(kind: str, *columns: str, cells: Cells | None = None) -> bytes:
    """Return an export of one row done and one pending."""
    out = io.BytesIO()
    rows = iter([DONE, PENDING])
    n = write_rows(
        rows, kind, out, profile=profile("anthropic"), metadata_names=list(METADATA),
        columns=columns, cells=cells,
    )  # fmt: skip
    assert n == 2
    return out.getvalue()


VALUES: dict[str, Any] = {
    "key": "k",
    "started_at": "2026-11-23T04:54:05.006Z",
    "input_text": "Hi",
    "request": json.loads(DONE.request or b""),
    "request.messages.0.role": "user",
    "response": RESPONSE,
    "response.content.1.text": "y",
    "response.content.2.text": None,
    "response.usage": {"output_tokens": 3},
    "output_json.label": "spam",
    "output_json.n.x.0": True,
    "output_json.nothing.here": None,
    "metadata.row": 7,
    "metadata.a.b": "dotted",
    "metadata.deep.er.1": 2,
    "metadata": METADATA,
    "row": 7,
    "a.b": "dotted",
    "deep.er": [1, 2],
    "unheard": None,
    "key.of": None,
}


def test_what_names_stand_for() -> None:
    """Columns, parts, paths, metadata by either name: values as they are, unknown null."""
    first, second = map(json.loads, table("jsonl", *VALUES).splitlines())
    assert first == VALUES
    assert list(first) == list(VALUES)
    assert second == {**dict.fromkeys(VALUES), "key": "p"}


def test_the_same_in_csv() -> None:
    """Headings are what was typed; text as it is, the rest as compact JSON, unknown empty."""
    names = ["row", "output_json.n", "cost_usd", "response.usage.output_tokens", "unheard"]
    read = list(csv.reader(io.StringIO(table("csv", *names).decode(), newline="")))
    assert read == [names, ["7", '{"x":[true]}', "0.0000025", "3", ""], [""] * 5]


@pytest.mark.parametrize("cells", [None, Cells()], ids=["csv", "excel"])
def test_numbers_of_answers_are_not_rounded(cells: Cells | None) -> None:
    """A small number comes back as it was, as in every other format; only dollars have no exponent."""
    names = ["output_json.p", "output_json.q", "tiny", "cost_usd"]
    small = ExportRow(
        job=JobView(
            key="k", status="completed", attempts=1, cost_usd=0.0000025,
            output_text='{"p": 1.23456789e-05, "q": -3.2e-14}', metadata=b'{"tiny": 1e-300}',
        ),
        request=None, response=None, shape=Shape.BODY,
    )  # fmt: skip
    out = io.BytesIO()
    write_rows(
        iter([small]), "csv", out, profile=profile("anthropic"), metadata_names=[],
        columns=names, cells=cells,
    )  # fmt: skip
    *numbers, cost = next(csv.reader(out.getvalue().decode().splitlines()[1:]))
    assert [float(number) for number in numbers] == [1.23456789e-05, -3.2e-14, 1e-300]
    assert cost == "0.0000025"


def test_all_metadata() -> None:
    """metadata.* is every field, but for those that have a column of their own."""
    heading, *_ = table("csv", "metadata.deep", "metadata.*", "key").decode().splitlines()
    assert heading == "metadata.deep,metadata.row,metadata.a.b,metadata.row 2,key"


def test_all_columns_typed_are_the_default() -> None:
    """Typing every column gives the bytes that come without --columns."""
    assert table("csv", *COLUMNS, "metadata.*") == table("csv")


@pytest.mark.parametrize(
    ("typed", "names"),
    [("key, model", ("key", "model")), ('"a,b",key', ("a,b", "key")), ("key", ("key",))],
)
def test_lists_of_names(typed: str, names: tuple[str, ...]) -> None:
    """Names stand between commas; one with a comma in quotes."""
    assert parse_columns(typed) == names


@pytest.mark.parametrize("typed", ["", "key,", ",", "key,key", "response.*", '"key'])
def test_what_is_no_list(typed: str) -> None:
    """An empty name, one named twice and a star that means nothing are refused with an example."""
    with pytest.raises(UsageError) as refused:
        parse_columns(typed)
    assert "--columns" in refused.value.message
    assert refused.value.fix


@pytest.mark.parametrize("kind", ["openai", "anthropic", "input"])
def test_formats_without_columns(kind: str) -> None:
    """A provider's own lines have no columns to choose."""
    with pytest.raises(UsageError, match="--columns"):
        check_choice(kind, ("key",), excel=False)
    with pytest.raises(UsageError, match="--excel"):
        check_choice(kind, (), excel=True)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "a"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {}]}]}, "a"),
        ({"contents": [{"parts": [{"text": "a"}, {"text": "b"}]}]}, "a\nb"),
        ({"input": "a"}, "a"),
        ({"input": ["a", "b"]}, "a\nb"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]}, "a"),
        ({"messages": [{"role": "system", "content": "a"}]}, None),
        ({"q": "x"}, '{"q":"x"}'),
    ],
)  # fmt: skip
def test_what_was_asked(body: Any, text: str | None) -> None:
    """The last message of the user, or the input, of every endpoint's form; else the body."""
    assert input_text(json.dumps(body, separators=(",", ":")).encode()) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (' {"a": 1}\n', {"a": 1}),
        ("```json\n[1]\n```", [1]),
        ("```\n1\n```", 1),
        ("Here it is: {}", ValueError),
        ("```json\n{}\n``` and more", ValueError),
        ("", ValueError),
        ("NaN", ValueError),
        ("[" * 100_000, ValueError),
    ],
    ids=["plain", "fenced", "bare fence", "prose", "more", "empty", "no JSON", "deep"],
)
def test_json_of_an_answer(text: str, value: Any) -> None:
    """An answer is JSON if it is nothing but JSON, or one fenced block of it."""
    if value is ValueError:
        with pytest.raises(ValueError):
            json_of(text)
    else:
        assert json_of(text) == value


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"), ("+cmd|x", "'+cmd|x"), ("-2+3", "'-2+3"), ("@SUM(A1)", "'@SUM(A1)"), ("-", "'-"),
        ("-2", "-2"), ("+3.5e-7", "+3.5e-7"), ("-.5", "-.5"), ("a=b", "a=b"), ("", ""),
    ],
)  # fmt: skip
def test_cells_that_are_no_formulas(text: str, cell: str) -> None:
    """What a spreadsheet would run is quoted; numbers and other text stay."""
    assert Cells().harmless(text) == cell


@pytest.mark.parametrize("char", ["x", "é", "\U0001f600"], ids=["narrow", "wide", "pair"])
def test_long_cells_are_cut_and_counted(char: str) -> None:
    """A cell holds 32,767 UTF-16 units; one more is cut, between characters, and counted."""
    width = len(char.encode("utf-16-le")) // 2
    fits = char * (LONGEST // width)
    cells = Cells()
    assert cells.short(fits) == fits
    assert cells.n_cut == 0
    assert cells.short(fits + char) == fits
    assert cells.n_cut == 1


def test_csv_for_a_spreadsheet() -> None:
    """A byte order mark first, and harmless headings too."""
    text = table("csv", "key", "=x", cells=Cells()).decode("utf-8-sig")
    assert table("csv", "key", cells=Cells()).startswith(b"\xef\xbb\xbf")
    assert text.splitlines()[0] == "key,'=x"
