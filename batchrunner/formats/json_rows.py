"""Rows as JSON lines: the CSV's names, ``metadata`` as an object, and the whole ``response``.

Unknown is ``null``. ``response`` is the stored answer as JSON, or as a string where it is no JSON.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from batchrunner.formats.columns import Column, Parts
from batchrunner.formats.rows import COLUMNS, Exported, ExportRules, answer, rfc3339

__all__ = ["chosen_json_row", "json_row"]

_INSTANTS = frozenset(("started_at", "finished_at"))


def chosen_json_row(row: Exported, columns: Sequence[Column]) -> bytes:
    """Return the chosen columns of a row as one line of JSON, without its end."""
    parts = Parts(row)
    return msgspec.json.encode({column.heading: column.value(parts) for column in columns})


def json_row(row: Exported, _rules: ExportRules) -> bytes:
    """Return one row as one line of JSON, without its end."""
    job = row.job
    fields: dict[str, object] = {}
    for name in COLUMNS:
        value = getattr(job, name)
        fields[name] = rfc3339(value) if value is not None and name in _INSTANTS else value
    fields["metadata"] = msgspec.Raw(job.metadata) if job.metadata else {}
    fields["response"] = answer(row.response)
    return msgspec.json.encode(fields)
