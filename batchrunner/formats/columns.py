"""``--columns``: any part of a job, its request or its answer, as a column of an export.

A name is one of CONTRACT §3's columns, ``input_text``, ``request``, ``response``, ``output_json``
(the answer's text, read as JSON) or ``metadata``; a dotted path into one of these, where a number
steps into a list; ``metadata.*``, each field in first-seen order; or a field of the metadata. The
heading is what was typed. What a row does not have is unknown, and so empty.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec

from batchrunner.core.jsontext import json_of
from batchrunner.errors import UsageError
from batchrunner.formats.input_text import input_text
from batchrunner.formats.rows import COLUMNS, Exported, rfc3339
from batchrunner.views import JobView

__all__ = [
    "NAMES",
    "Column",
    "Parts",
    "as_text",
    "named_metadata",
    "needs_text",
    "parse_columns",
    "resolve",
]

_ALL_METADATA: Final = "metadata.*"


class Parts:
    """What a row holds, each part read at most once."""

    __slots__ = ("_read", "_row")

    def __init__(self, row: Exported) -> None:
        """Take a row; nothing is read yet."""
        self._row = row
        self._read: dict[str, Any] = {}

    @property
    def job(self) -> JobView:
        """The job itself, with numbers and instants as they are."""
        return self._row.job

    def __getitem__(self, name: str) -> Any:
        """Return one part; ``None`` where it is unknown."""
        if name not in self._read:
            self._read[name] = _READERS[name](self._row)
        return self._read[name]


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, and what stands in it."""

    heading: str
    value: Callable[[Parts], Any]


def parse_columns(text: str) -> tuple[str, ...]:
    """Return the names that were typed, separated by commas; ``"a,b"`` is one name.

    Raises :class:`~batchrunner.errors.UsageError` for what can be no list of columns.
    """
    try:
        (names,) = csv.reader([text], strict=True, skipinitialspace=True)
    except (csv.Error, ValueError):
        names = []
    names = [name.strip() for name in names]
    fix = "for example --columns key,output_text,output_json.label,metadata.*"
    if not names or not all(names):
        raise UsageError(f"--columns {text!r} is no list of names", fix=fix)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"--columns names {twice!r} twice", fix="leave one out")
    starred = next((name for name in names if name != _ALL_METADATA and name.endswith(".*")), None)
    if starred is not None:
        raise UsageError(
            f"--columns {starred}: a star stands for the fields of metadata alone",
            fix=f"{_ALL_METADATA}, or {starred.removesuffix('.*')} whole",
        )
    return tuple(names)


def needs_text(names: Sequence[str]) -> bool:
    """Whether one of the columns is made of the answer's text."""
    return any(name.partition(".")[0] in ("output_text", "output_json") for name in names)


def named_metadata(names: Sequence[str]) -> list[str] | None:
    """Return the names that can only be fields of metadata; ``None``: nothing is metadata."""
    bare = [name for name in names if name.partition(".")[0] not in _READERS]
    return bare if bare or _ALL_METADATA in names else None


def resolve(names: Sequence[str], metadata_names: Sequence[str]) -> list[Column]:
    """Return the columns of the names that were typed."""
    columns: list[Column] = []
    for name in names:
        if name == _ALL_METADATA:
            columns += [
                Column(heading, partial(_metadata, path=field))
                for field in metadata_names
                if (heading := f"metadata.{field}") not in names
            ]
        else:
            columns.append(Column(name, _value_of(name)))
    return columns


def as_text(value: Any) -> str:
    """Return a value as it stands in a cell: text as it is, the rest as compact JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _value_of(name: str) -> Callable[[Parts], Any]:
    head, _, path = name.partition(".")
    if name in _READERS:
        return partial(_part, name=name)
    if head == "metadata":
        return partial(_metadata, path=path)
    if head in _READERS:
        return partial(_within, name=head, path=path.split("."))
    return partial(_metadata, path=name)


def _part(parts: Parts, name: str) -> Any:
    return parts[name]


def _within(parts: Parts, name: str, path: Sequence[str]) -> Any:
    return _walk(parts[name], path)


def _metadata(parts: Parts, path: str) -> Any:
    fields = parts["metadata"]
    if fields is None:
        return None
    # A name may have dots in it.
    return fields[path] if path in fields else _walk(fields, path.split("."))


def _walk(value: Any, path: Sequence[str]) -> Any:
    for name in path:
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


def _decoded(body: bytes | None) -> Any:
    if not body:
        return None
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return body.decode("utf-8", "replace")


def _output_json(row: Exported) -> Any:
    try:
        return None if row.job.output_text is None else json_of(row.job.output_text)
    except ValueError:
        return None


def _column(name: str) -> Callable[[Exported], Any]:
    def value(row: Exported) -> Any:
        found = getattr(row.job, name)
        return rfc3339(found) if found is not None and name.endswith("_at") else found

    return value


_READERS: Final[Mapping[str, Callable[[Exported], Any]]] = {
    **{name: _column(name) for name in COLUMNS},
    "input_text": lambda row: input_text(row.request),
    "request": lambda row: _decoded(row.request),
    "response": lambda row: _decoded(row.response),
    "output_json": _output_json,
    "metadata": lambda row: _decoded(row.job.metadata) or None,
}
#: What is no field of the metadata.
NAMES: Final = tuple(_READERS)
