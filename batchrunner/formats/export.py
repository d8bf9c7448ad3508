"""Results as tables, JSON lines, a provider's batch results, or the jobs' own input lines.

One row a job, in the order given, success and failure alike; streaming, in constant memory. What a
row of each format looks like is said in the module of that format: :mod:`.csv_rows`,
:mod:`.json_rows`, :mod:`.batch_rows`, :mod:`.input_rows`, :mod:`.parquet_rows`, :mod:`.xlsx_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, Final

from batchrunner.errors import UsageError
from batchrunner.failpoints import hit
from batchrunner.formats.batch_rows import anthropic_row, openai_row
from batchrunner.formats.columns import Column, resolve
from batchrunner.formats.csv_rows import chosen_csv_rows, csv_rows
from batchrunner.formats.input_rows import input_row
from batchrunner.formats.json_rows import chosen_json_row, json_row
from batchrunner.formats.rows import COLUMNS, Exported, ExportRow, ExportRules, rfc3339
from batchrunner.formats.spreadsheets import Cells

__all__ = [
    "COLUMNS",
    "FORMATS",
    "ExportRow",
    "ExportRules",
    "Exported",
    "check_choice",
    "format_of",
    "rfc3339",
    "write_rows",
]

#: What tables hold where nobody chooses.
_DEFAULT: Final = (*COLUMNS, "metadata.*")
#: Bytes gathered before they are written.
_BLOCK: Final = 256 * 1024

_LINE_FORMATS: Final[Mapping[str, Callable[[Exported, ExportRules], bytes]]] = {
    "jsonl": json_row,
    "openai": openai_row,
    "anthropic": anthropic_row,
    "input": input_row,
}
#: Format → the library that writes it, and the extra of this package that brings it.
_LIBRARIES: Final = {"parquet": ("pyarrow", "parquet"), "xlsx": ("xlsxwriter", "xlsx")}
FORMATS: Final = ("csv", *_LINE_FORMATS, *_LIBRARIES)
#: Tables: a column a field of the metadata, unless others are chosen.
TABLES: Final = ("csv", *_LIBRARIES)
#: Formats whose columns can be chosen.
WITH_COLUMNS: Final = (*TABLES, "jsonl")
_FOR_EXCEL: Final = ("csv", "xlsx")
_ENDINGS: Final = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
}


def format_of(path: Path | str | None, name: str | None) -> str:
    """Return the format to write: the one named, else the one the ending tells, else CSV on stdout.

    Raises :class:`~batchrunner.errors.UsageError` for a name or an ending that says nothing, and
    where the library that writes the format is not there.
    """
    found = _format_of(path, name)
    library, extra = _LIBRARIES.get(found, ("", ""))
    if library and find_spec(library) is None:
        raise UsageError(
            f"-f {found} needs {library}, which is not installed",
            fix=f"pip install 'batchrunner[{extra}]'",
        )
    return found


def _format_of(path: Path | str | None, name: str | None) -> str:
    if name is not None:
        if name in FORMATS:
            return name
        raise UsageError(f"there is no export format {name!r}", fix=f"one of {', '.join(FORMATS)}")
    if path is None or str(path) == "-":
        return "csv"
    try:
        return _ENDINGS[Path(path).suffix.lower()]
    except KeyError:
        raise UsageError(
            f"{path}: the ending does not tell a format",
            fix=f"end it in {' or '.join(_ENDINGS)}, or export with -f {'|'.join(FORMATS)}",
        ) from None


def _write_table(
    rows: Iterable[Exported],
    format: str,  # noqa: A002
    out: BinaryIO,
    columns: Sequence[Column],
    cells: Cells | None,
) -> None:
    if format == "parquet":
        from batchrunner.formats.parquet_rows import write_parquet  # noqa: PLC0415 (an extra)

        write_parquet(rows, columns, out)
    else:
        from batchrunner.formats.xlsx_rows import write_xlsx  # noqa: PLC0415 (an extra)

        write_xlsx(rows, columns, out, cells or Cells())


def check_choice(format: str, columns: Sequence[str], *, excel: bool) -> None:  # noqa: A002
    """Refuse ``--columns`` and ``--excel`` for a format that has none of them."""
    for option, is_said, formats in (
        ("--columns", bool(columns), WITH_COLUMNS),
        ("--excel", excel, _FOR_EXCEL),
    ):
        if is_said and format not in formats:
            raise UsageError(
                f"{option} means nothing to -f {format}",
                fix=f"leave it out, or export with -f {'|'.join(formats)}",
            )


def write_rows(
    rows: Iterable[Exported],
    format: str,  # noqa: A002
    out: BinaryIO,
    *,
    profile: ExportRules,
    metadata_names: Sequence[str] = (),
    columns: Sequence[str] = (),
    cells: Cells | None = None,
) -> int:
    """Write rows in one of :data:`FORMATS`, and return how many there were; ``out`` stays open.

    ``metadata_names`` are the metadata columns, in order. ``columns`` are those typed; none: all of
    the format. ``cells`` makes a CSV fit for a spreadsheet, and counts what it cut.
    """
    n_rows = 0

    def counted() -> Iterator[Exported]:
        nonlocal n_rows
        for n_rows, row in enumerate(rows, start=1):  # noqa: B007
            yield row

    chosen = resolve(columns or _DEFAULT, metadata_names)
    if format in _LIBRARIES:
        _write_table(counted(), format, out, chosen, cells)
        return n_rows
    lines: Iterator[bytes]
    if format == "csv" and not columns and cells is None:
        lines = csv_rows(counted(), metadata_names)
    elif format == "csv":
        lines = chosen_csv_rows(counted(), chosen, cells)
    elif columns:
        lines = (chosen_json_row(row, chosen) + b"\n" for row in counted())
    else:
        line_of = _LINE_FORMATS[format]
        lines = (line_of(row, profile) + b"\n" for row in counted())
    gathered: list[bytes] = []
    size = 0
    for line in lines:
        gathered.append(line)
        size += len(line)
        if size >= _BLOCK:
            hit("export.rows")
            out.write(b"".join(gathered))
            gathered, size = [], 0
    hit("export.rows")
    out.write(b"".join(gathered))
    return n_rows
