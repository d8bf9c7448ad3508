"""Parquet and Excel: what is written is read back by the formats' own readers."""

from __future__ import annotations

import errno
import gc
import io
import json
import os
import sys
import tempfile
import tracemalloc
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchrunner.errors import UsageError
from batchrunner.formats import parquet_rows, xlsx_rows
from batchrunner.formats.export import COLUMNS, format_of, write_rows
from batchrunner.formats.rows import ExportRow
from batchrunner.formats.spreadsheets import LONGEST, Cells
from batchrunner.models import Shape
from batchrunner.providers import profile
from batchrunner.views import JobView

UGLY = 'a\x00\x0b\r\nb\ufffe "q" _x0041_ é \U0001f600'


def row(n: int = 0, **job: Any) -> ExportRow:
    """Return a row."""
    view = JobView(**{"key": f"k{n}", "status": "completed", "attempts": 1, **job})
    return ExportRow(job=view, request=None, response=None, shape=Shape.BODY)


FULL = row(
    output_text=UGLY, input_tokens=3, cost_usd=0.0000025, started_at=1_795_409_645_006,
    metadata=b'{"row":7,"id":1234567890123456789,"yes":true,"deep":{"er":[1]},"f":"=1+1"}',
)  # fmt: skip
NAMES = ("row", "id", "yes", "deep", "f")


def written(kind: str, *rows: ExportRow, columns: tuple[str, ...] = (), cells: Any = None) -> bytes:
    """Return an export into what can't be sought in, as a pipe can't."""
    out = _Pipe()
    n = write_rows(
        iter(rows), kind, out, profile=profile("anthropic"), metadata_names=NAMES, columns=columns, cells=cells
    )  # fmt: skip
    assert n == len(rows)
    assert not out.closed
    return bytes(out.data)


class _Pipe(io.RawIOBase):
    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.data += data
        return len(data)


def parquet(data: bytes) -> pa.Table:
    """Read a table."""
    return pq.read_table(io.BytesIO(data))


def sheet(data: bytes) -> list[list[Any]]:
    """Read the first sheet."""
    book = openpyxl.load_workbook(io.BytesIO(data))
    return [[cell.value for cell in row] for row in book.worksheets[0].rows]


def test_parquet_columns_and_types() -> None:
    """Numbers, amounts and instants by their types, all else text as in CSV, unknown null."""
    table = parquet(written("parquet", FULL, row(1, status="pending", attempts=0)))
    assert table.column_names == [*COLUMNS, *(f"metadata.{name}" for name in NAMES)]
    first, second = table.to_pylist()
    assert (first["output_text"], first["input_tokens"], first["cost_usd"]) == (UGLY, 3, 0.0000025)
    assert first["started_at"] == datetime(2026, 11, 23, 4, 54, 5, 6000, tzinfo=UTC)
    assert (first["metadata.row"], first["metadata.deep"]) == ("7", '{"er":[1]}')
    assert set(second.values()) == {None, "k1", "pending", 0}


def test_parquet_goes_by_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group ends with so many rows or characters; none is lost, none is larger."""
    monkeypatch.setattr(parquet_rows, "_GROUP_ROWS", 10)
    data = written("parquet", *[row(n) for n in range(25)], columns=("key",))
    file = pq.ParquetFile(io.BytesIO(data))
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [10, 10, 5]
    assert file.read()["key"].to_pylist() == [f"k{n}" for n in range(25)]
    monkeypatch.setattr(parquet_rows, "_GROUP_CHARS", 1_000)
    data = written("parquet", *[row(n, output_text="x" * 600) for n in range(5)])
    assert pq.ParquetFile(io.BytesIO(data)).num_row_groups == 3


@pytest.mark.parametrize("kind", ["parquet", "xlsx"])
def test_nothing_is_a_heading(kind: str) -> None:
    """An export without jobs still has its columns."""
    data = written(kind, columns=("key", "row"))
    read = parquet(data).column_names if kind == "parquet" else sheet(data)[0]
    assert read == ["key", "row"]


def test_excel_cells() -> None:
    """Numbers are numbers, long ones keep their digits as text, nothing is a formula."""
    names = ("key", "output_text", "cost_usd", "started_at", *NAMES)
    heading, first = sheet(written("xlsx", FULL, columns=names))
    assert heading == list(names)
    assert first[0] == "k0"
    assert first[2:] == [
        0.0000025, "2026-11-23T04:54:05.006Z", 7, "1234567890123456789", True, '{"er":[1]}', "=1+1",
    ]  # fmt: skip
    book = openpyxl.load_workbook(io.BytesIO(written("xlsx", FULL, columns=names)))
    assert {cell.data_type for cell in book.worksheets[0][2]} <= {"s", "inlineStr", "n", "b"}
    # openpyxl leaves what stands for control characters as it is written.
    text = openpyxl.utils.escape.unescape(first[1])
    assert text.replace("\ufffe", "").startswith("a\x00\x0b")
    assert text.endswith('"q" _x0041_ é \U0001f600')


def test_excel_cuts_long_cells() -> None:
    """A cell longer than Excel holds is cut, and counted."""
    cells = Cells()
    rows = sheet(
        written("xlsx", row(output_text="y" * 40_000), columns=("output_text",), cells=cells)
    )
    assert len(rows[1][0]) == LONGEST
    assert cells.n_cut == 1


def test_excel_goes_on_in_another_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one sheet can't hold is in the next, under the same heading."""
    monkeypatch.setattr(xlsx_rows, "_ROWS", 3)
    data = written("xlsx", *[row(n) for n in range(5)], columns=("key",))
    book = openpyxl.load_workbook(io.BytesIO(data))
    read = [[cell.value for cell in page["A"]] for page in book.worksheets]
    assert read == [["key", "k0", "k1"], ["key", "k2", "k3"], ["key", "k4"]]


def test_excel_is_written_row_by_row() -> None:
    """Rows wait on the disk, not in memory, for the workbook's end."""

    def rows() -> Iterator[ExportRow]:
        for n in range(400):
            yield row(n, output_text=str(n) * 5_000)

    tracemalloc.start()
    try:
        write_rows(rows(), "xlsx", io.BytesIO(), profile=profile("anthropic"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_500_000


def test_excel_holds_so_many_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """More columns than a sheet has are refused with what to do."""
    monkeypatch.setattr(xlsx_rows, "_COLUMNS", 3)
    with pytest.raises(UsageError, match="4 columns") as refused:
        written("xlsx", columns=("a", "b", "c", "d"))
    assert "--columns" in refused.value.fix


@pytest.mark.parametrize("kind", ["parquet", "xlsx"])
def test_an_export_that_breaks_off_leaves_nothing_behind(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes wrong in the middle goes up as it is, and no temporary file stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def rows() -> Iterator[ExportRow]:
        yield FULL
        raise KeyError("gone")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(KeyError):
            write_rows(rows(), kind, io.BytesIO(), profile=profile("anthropic"), columns=("key",))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EPIPE, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize("can_seek", [True, False], ids=["file", "pipe"])
@pytest.mark.parametrize("n_taken", [0, 2_000])
def test_a_workbook_that_its_output_does_not_take(
    code: int, can_seek: bool, n_taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the output says goes up as it is, and is not laid to temporary files; nothing is told later."""
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)

    class Full(io.BytesIO):
        def tell(self) -> int:
            if not can_seek:
                raise OSError(errno.ESPIPE, "Illegal seek")
            return super().tell()

        def write(self, data: Any) -> int:
            if len(self.getvalue()) + len(data) > n_taken:
                raise OSError(code, os.strerror(code))
            return super().write(data)

    with pytest.raises(OSError, match=os.strerror(code)) as raised:
        write_rows(iter([FULL]), "xlsx", Full(), profile=profile("anthropic"), columns=("key",))
    assert raised.value.errno == code
    del raised
    gc.collect()
    assert unraisable == []


def test_full_temporary_files_are_not_laid_to_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rows can't wait for the workbook's end, the message names the folder to make room in."""

    def fill(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(xlsx_rows, "_fill", fill)
    with pytest.raises(UsageError, match="can't be written: No space left on device") as refused:
        written("xlsx", FULL)
    assert "TMPDIR" in refused.value.fix


@pytest.mark.parametrize(("kind", "library"), [("parquet", "pyarrow"), ("xlsx", "xlsxwriter")])
def test_a_library_that_is_not_there(
    kind: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A format whose extra is missing is refused at once, with the command that installs it."""
    assert format_of(f"out.{kind}", None) == kind
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=library) as refused:
        format_of(f"out.{kind}", None)
    assert refused.value.fix == f"pip install 'batchrunner[{kind}]'"


def test_the_same_values_in_every_table() -> None:
    """CSV, JSON lines and Parquet say the same of a row."""
    names = ("key", "output_text", "metadata.deep", "metadata.f")
    (from_parquet,) = parquet(written("parquet", FULL, columns=names)).to_pylist()
    from_json = json.loads(written("jsonl", FULL, columns=names))
    assert json.loads(from_parquet.pop("metadata.deep")) == from_json.pop("metadata.deep")
    assert from_parquet == from_json
