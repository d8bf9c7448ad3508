"""Rows of data into prompt lines: the text is a template's, and every field comes back as metadata.

Of a row's own fields ``model``, ``max_tokens``, ``system`` and the key mean what they mean in a
prompt line; an empty cell leaves them out. Without a template a row's ``prompt`` is the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from batchrunner.errors import InputError
from batchrunner.formats.faults import RefusedLineError, printable

__all__ = ["Rows", "keyed", "line_of_row"]

Line = dict[str, Any]

#: Where the key stands, unless ``--key`` names another field.
_KEYS: Final = ("custom_id", "id")
#: Fields of a line that say what is sent: as the key they stay where they are.
_OF_REQUESTS: Final = frozenset(
    [
        "params",
        "url",
        "method",
        "headers",
        "body",
        "prompt",
        "system",
        "model",
        "max_tokens",
        "metadata",
        "messages",
        "input",
        "contents",
    ]
)
#: Columns that are named where one is missing.
_NAMED: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """How rows become prompts."""

    #: Row → text; raises :class:`RefusedLineError`. ``None``: its ``prompt``.
    template: Callable[[Mapping[str, Any]], str] | None = None
    #: Which field is the key; ``None``: ``custom_id``, else ``id``.
    key: str | None = None


def line_of_row(row: Mapping[str, Any], rows: Rows, *, file: str) -> Line:
    """Return the prompt line that a row makes.

    Raises :class:`~batchrunner.errors.InputError` where there is no template and no such column:
    that is one mistake, not one a row.
    """
    if rows.template is not None:
        text = rows.template(row)
    elif "prompt" in row:
        text = str(row["prompt"])
    else:
        raise InputError(
            f"{file} has no column `prompt`; it has {_named(row)}. Nothing was stored.",
            fix="name the column with the text `prompt`, or make the text of others:"
            " --template FILE",
        )
    if not text or text.isspace():
        raise RefusedLineError("the prompt is empty")
    line: Line = {"prompt": text}
    for name in ("model", "system"):
        if row.get(name) not in (None, ""):
            line[name] = row[name]
    if row.get("max_tokens") not in (None, ""):
        line["max_tokens"] = _number(row["max_tokens"])
    key = rows.key or next((name for name in _KEYS if name in row), None)
    if key is not None:
        line["id"] = _key_of(row, key)
    return {**line, "metadata": row}


def keyed(line: Line, field: str) -> Line:
    """Return a line of requests with one of its fields, or of its ``metadata``, as the key."""
    metadata = line.get("metadata")
    if field in line:
        key = _key_of(line, field)
    elif isinstance(metadata, dict):
        key = _key_of(metadata, field)
    else:
        raise _no_key(field)
    dropped = _KEYS if field in _OF_REQUESTS else (*_KEYS, field)
    return {**{name: value for name, value in line.items() if name not in dropped}, "id": key}


def _key_of(fields: Mapping[str, Any], name: str) -> str:
    if name not in fields:
        raise _no_key(name)
    key = fields[name]
    if isinstance(key, str) and key:
        return key
    if type(key) in (int, float):
        return str(key)
    raise RefusedLineError(f"the key `{printable(name)}` is not a string or a number, or empty")


def _no_key(name: str) -> RefusedLineError:
    return RefusedLineError(f"there is no `{printable(name)}`, which --key names")


def _number(value: object) -> object:
    """Return a cell's number; what is none is refused with the line."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else value


def _named(row: Mapping[str, Any]) -> str:
    names = [f"`{printable(name)}`" for name in row]
    more = [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return ", ".join([*names[:_NAMED], *more]) or "none"
