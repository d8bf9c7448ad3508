"""Results as CSV, JSON lines, a provider's batch results, or the jobs' own input lines.

One row a job, in the order given, success and failure alike; streaming, in constant memory. What a
row of each format looks like is said in the module of that format: :mod:`.csv_rows`,
:mod:`.json_rows`, :mod:`.batch_rows`, :mod:`.input_rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from batchrunner.errors import UsageError
from batchrunner.failpoints import hit
from batchrunner.formats.batch_rows import anthropic_row, openai_row
from batchrunner.formats.csv_rows import csv_rows
from batchrunner.formats.input_rows import input_row
from batchrunner.formats.json_rows import json_row
from batchrunner.formats.rows import COLUMNS, Exported, ExportRow, ExportRules, rfc3339

__all__ = [
    "COLUMNS",
    "FORMATS",
    "ExportRow",
    "ExportRules",
    "Exported",
    "format_of",
    "rfc3339",
    "write_rows",
]

#: Bytes gathered before they are written.
_BLOCK: Final = 256 * 1024

_LINE_FORMATS: Final[Mapping[str, Callable[[Exported, ExportRules], bytes]]] = {
    "jsonl": json_row,
    "openai": openai_row,
    "anthropic": anthropic_row,
    "input": input_row,
}
FORMATS: Final = ("csv", *_LINE_FORMATS)
_ENDINGS: Final = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}


def format_of(path: Path | str | None, name: str | None) -> str:
    """Return the format to write: the one named, else the one the ending tells, else CSV on stdout.

    Raises :class:`~batchrunner.errors.UsageError` for a name or an ending that says nothing.
    """
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


def write_rows(
    rows: Iterable[Exported],
    format: str,  # noqa: A002
    out: BinaryIO,
    *,
    profile: ExportRules,
    metadata_names: Sequence[str] = (),
) -> int:
    """Write rows in one of :data:`FORMATS`, and return how many there were; ``out`` stays open.

    ``metadata_names`` are the CSV's metadata columns, in order; the other formats need none.
    """
    n_rows = 0

    def counted() -> Iterator[Exported]:
        nonlocal n_rows
        for n_rows, row in enumerate(rows, start=1):  # noqa: B007
            yield row

    if format == "csv":
        lines = csv_rows(counted(), metadata_names)
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
