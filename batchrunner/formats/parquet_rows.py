"""Rows as Parquet, a group at a time: numbers and instants of CONTRACT §3's columns by their types.

Every other column is text, as in CSV, nested values compact JSON: the type of a column must be known
before its first row, and what metadata and answers hold may differ from row to row. What is unknown
is null. Imported only where Parquet is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from batchrunner.failpoints import hit
from batchrunner.formats.columns import Column, Parts, as_text
from batchrunner.formats.rows import Exported

__all__ = ["write_parquet"]

#: A group ends with the row that reaches either.
_GROUP_ROWS: Final = 20_000
_GROUP_CHARS: Final = 16 * 1024 * 1024

_INSTANT: Final = pa.timestamp("ms", tz="UTC")
#: Columns that are no text. What is said of one holds under its own name alone.
_TYPES: Final = {
    **dict.fromkeys(
        ("attempts", "http_status", "input_tokens", "output_tokens", "latency_ms"), pa.int64()
    ),
    "cost_usd": pa.float64(),
    "started_at": _INSTANT,
    "finished_at": _INSTANT,
}


class _Sink:
    """What a Parquet writer asks of a file; a pipe can't tell its place, and stays open."""

    closed = False

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._n = 0

    def write(self, data: Any) -> int:
        self._out.write(data)
        self._n += memoryview(data).nbytes
        return memoryview(data).nbytes

    def tell(self) -> int:
        return self._n

    def flush(self) -> None:
        """Leave that to whoever opened the file."""

    def close(self) -> None:
        """Leave that, too."""


def write_parquet(rows: Iterable[Exported], columns: Sequence[Column], out: BinaryIO) -> None:
    """Write rows; at most a group of them is in memory."""
    fields = [(column.heading, _TYPES.get(column.heading, pa.string())) for column in columns]
    schema = pa.schema(fields)
    values: list[list[Any]] = [[] for _ in columns]
    n_chars = 0
    with pq.ParquetWriter(_Sink(out), schema) as writer:

        def flush() -> None:
            hit("export.rows")
            arrays = [pa.array(v, type=f.type) for v, f in zip(values, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            for column in values:
                column.clear()

        for row in rows:
            parts = Parts(row)
            for column, into in zip(columns, values, strict=True):
                value = _value(column, parts)
                n_chars += len(value) if isinstance(value, str) else 8
                into.append(value)
            if n_chars >= _GROUP_CHARS or len(values[0]) >= _GROUP_ROWS:
                flush()
                n_chars = 0
        if values[0]:
            flush()


def _value(column: Column, parts: Parts) -> Any:
    kind = _TYPES.get(column.heading)
    if kind is not None:
        return getattr(parts.job, column.heading)
    value = column.value(parts)
    return None if value is None else as_text(value)
