"""Rows as CSV: the columns of CONTRACT §3, then one column a metadata field; or those chosen.

UTF-8, lines end in ``\\n``, quoted where needed. Strings are raw, nested values compact JSON, what
is unknown is empty. For a spreadsheet (:class:`.spreadsheets.Cells`) a byte order mark comes first.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from batchrunner.formats.columns import Column, Parts, as_text
from batchrunner.formats.rows import COLUMNS, Exported, rfc3339
from batchrunner.formats.spreadsheets import Cells
from batchrunner.views import JobView

__all__ = ["chosen_csv_rows", "csv_rows"]

_BOM = "\ufeff"


class _Line:
    """Takes what the csv module writes: one whole row a call."""

    text = ""

    def write(self, text: str) -> None:
        self.text = text

    def take(self) -> bytes:
        # The writer is told CR LF, or it would leave a lone CR in a cell without quotes.
        return self.text.removesuffix("\r\n").encode() + b"\n"


def csv_rows(rows: Iterable[Exported], metadata_names: Sequence[str]) -> Iterator[bytes]:
    """Yield the heading, then one line a row; ``metadata_names`` in the order of their columns."""
    line = _Line()
    write = csv.writer(line, lineterminator="\r\n").writerow
    write((*COLUMNS, *[f"metadata.{name}" for name in metadata_names]))
    yield line.take()
    for row in rows:
        cells = _cells(row.job)
        if metadata_names:
            metadata = msgspec.json.decode(row.job.metadata) if row.job.metadata else {}
            cells += [as_text(metadata.get(name)) for name in metadata_names]
        write(cells)
        yield line.take()


def chosen_csv_rows(
    rows: Iterable[Exported], columns: Sequence[Column], cells: Cells | None
) -> Iterator[bytes]:
    """Yield the heading, then one line a row of ``columns``; ``cells``: as a spreadsheet wants it."""
    line = _Line()
    write = csv.writer(line, lineterminator="\r\n").writerow
    text_of = str if cells is None else cells.harmless
    write([text_of(column.heading) for column in columns])
    # What is no text is harmless as it is.
    plain = [_dollars if column.heading == "cost_usd" else as_text for column in columns]
    yield (_BOM.encode() if cells is not None else b"") + line.take()
    for row in rows:
        parts = Parts(row)
        values = [column.value(parts) for column in columns]
        write([
            text_of(value) if isinstance(value, str) else as_plain(value)
            for value, as_plain in zip(values, plain, strict=True)
        ])  # fmt: skip
        yield line.take()


def _cells(job: JobView) -> list[Any]:
    return [
        job.key,
        job.status,
        job.attempts,
        job.http_status,
        job.error_kind,
        job.error_message,
        job.model,
        job.output_text,
        job.finish_reason,
        job.input_tokens,
        job.output_tokens,
        _dollars(job.cost_usd),
        job.latency_ms,
        job.request_id,
        None if job.started_at is None else rfc3339(job.started_at),
        None if job.finished_at is None else rfc3339(job.finished_at),
    ]


def _dollars(cost: float | None) -> str:
    """Return an amount without an exponent, which spreadsheets and databases misread."""
    if cost is None:
        return ""
    text = repr(float(cost))
    return f"{cost:.12f}".rstrip("0").rstrip(".") if "e" in text else text
