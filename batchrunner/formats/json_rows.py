"""Rows as JSON lines: the CSV's names, ``metadata`` as an object, and the whole ``response``.

Unknown is ``null``. ``response`` is the stored answer as JSON, or as a string where it is no JSON.
"""

from __future__ import annotations

import msgspec

from batchrunner.formats.rows import COLUMNS, Exported, ExportRules, answer, rfc3339

__all__ = ["json_row"]

_INSTANTS = frozenset(("started_at", "finished_at"))


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
