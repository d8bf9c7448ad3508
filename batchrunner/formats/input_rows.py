"""Rows as input lines: each job's own line, in its own form, with its key.

Submitting them again, to the same provider, makes the same jobs (:class:`~.identity.Digest`). Where
a line's own form can't say the request any more (after ``--set``), the batch form does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from batchrunner.formats.bodies import endpoint_of, prompt_of_body
from batchrunner.formats.rows import Exported, ExportRules
from batchrunner.models import Shape

__all__ = ["input_row"]

Line = dict[str, Any]

#: Fields of a bare line that are the line's own, so that a body's can't stand there.
_OWN_FIELDS: Final = frozenset(("custom_id", "id", "metadata", "params", "url", "prompt"))


def input_row(row: Exported, rules: ExportRules) -> bytes:
    """Return one job as an input line, without its end."""
    line = _MAKERS[row.shape](row, rules)
    if line is None:
        path = rules.default_path_for(_body(row))
        make = _params if row.url is None and path == "/v1/messages" else _url
        line = make(row, rules)
    if row.job.metadata:
        line["metadata"] = msgspec.Raw(row.job.metadata)
    return msgspec.json.encode(line)


def _body(row: Exported) -> Any:
    return msgspec.json.decode(row.request) if row.request else {}


def _raw(row: Exported) -> msgspec.Raw:
    return msgspec.Raw(row.request or b"{}")


def _params(row: Exported, _rules: ExportRules) -> Line:
    return {"custom_id": row.job.key, "params": _raw(row)}


def _url(row: Exported, rules: ExportRules) -> Line:
    body = _body(row)
    path = row.url or rules.default_path_for(body) or ""
    line: Line = {
        "custom_id": row.job.key,
        "method": row.method or "POST",
        "url": rules.show_path(path, body) if isinstance(body, dict) else path,
    }
    if row.headers:
        line["headers"] = msgspec.Raw(row.headers)
    if row.request:
        line["body"] = _raw(row)
    return line


def _prompt(row: Exported, rules: ExportRules) -> Line | None:
    body = _body(row)
    path = row.url or rules.default_path_for(body) or ""
    fields = prompt_of_body(endpoint_of(path), body)
    return None if fields is None else {"id": row.job.key, **fields}


def _bare(row: Exported, rules: ExportRules) -> Line | None:
    body = _body(row)
    path = row.url or rules.default_path_for(body)
    if not _OWN_FIELDS.isdisjoint(body) or rules.default_path_for(body) != path:
        return None
    return {"custom_id": row.job.key, **body}


_MAKERS: Final[Mapping[Shape, Callable[[Exported, ExportRules], Line | None]]] = {
    Shape.ANTHROPIC_BATCH: _params,
    Shape.OPENAI_BATCH: _url,
    Shape.PROMPT: _prompt,
    Shape.BODY: _bare,
}
