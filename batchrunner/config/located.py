"""TOML with the line of every key, so that a fault can be pointed at.

The standard reader tells no lines. A document is therefore read twice: once whole, which is what
counts, and once statement by statement, to see which key begins on which line. Both readings are
:mod:`tomllib`'s own, so that nothing here has to know what a string or an array looks like.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

__all__ = ["NotTomlError", "Path", "Toml", "read_toml"]

#: A place in a document: keys, and positions in arrays of tables.
Path = tuple[str | int, ...]

_NUMBER: Final = re.compile(r"[0-9_]*")
_PLACE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


class NotTomlError(ValueError):
    """The text is no TOML; says where the reading stopped."""

    def __init__(self, reason: str, line: int) -> None:
        """Take what is wrong, in words, and the line it is on."""
        super().__init__(reason)
        self.line = line


class Toml(NamedTuple):
    """A document's values, and where each of its keys begins."""

    values: Mapping[str, Any]
    lines: Mapping[Path, int]

    def line_of(self, path: Path) -> int:
        """Return the line of a key, or of the nearest table around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def read_toml(text: str) -> Toml:
    """Return the values of a document with their lines.

    :raises NotTomlError: it is none.
    """
    text = text.replace("\r\n", "\n")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _not_toml(str(error), text) from None
    except RecursionError:
        raise NotTomlError("nested too deeply", 1) from None
    except ValueError:
        # Python reads no number of thousands of digits.
        raise NotTomlError("a number is too long", _line_of_number(text)) from None
    return Toml(values, dict(_located(text)))


def _line_of_number(text: str) -> int:
    longest = max(_NUMBER.finditer(text), key=lambda found: len(found[0]))
    return text.count("\n", 0, longest.start()) + 1


def _not_toml(message: str, text: str) -> NotTomlError:
    # As TOML counts them: other signs that end a line elsewhere end none here.
    last = max(1, text.count("\n") + 1 - text.endswith("\n"))
    place = _PLACE.search(message)
    reason = message[: place.start()] if place else message
    if place and place[1]:
        line = min(int(place[1]), last)
        return NotTomlError(f"this is no TOML: {reason} (column {place[2]})", line)
    return NotTomlError(f"this is no TOML: {reason} (at the end of the file)", last)


def _located(text: str) -> Iterator[tuple[Path, int]]:
    seen: set[Path] = set()
    counts: dict[Path, int] = {}
    table: Path = ()
    for first, chunk in _statements(text):
        found = tomllib.loads(chunk)
        if chunk.lstrip().startswith("["):
            keys = _keys_of_header(found)
            if chunk.lstrip().startswith("[["):
                where = _inside(keys[:-1], counts) + keys[-1:]
                counts[where] = counts.get(where, 0) + 1
            table = _inside(keys, counts)
            paths: list[Path] = [table[: n + 1] for n in range(len(table))]
        else:
            paths = [table + path for path in _paths_in(found)]
        for path in paths:
            if path not in seen:
                seen.add(path)
                yield path, first


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield each statement with the line it begins on: what is not whole yet can't be read."""
    chunk, first = "", 1
    for number, line in enumerate(text.split("\n"), start=1):
        chunk = f"{chunk}\n{line}" if chunk else line
        if not chunk.strip():
            chunk = ""
        if not chunk:
            continue
        if "\n" not in chunk:
            first = number
        try:
            tomllib.loads(chunk)
        except tomllib.TOMLDecodeError:
            continue
        yield first, chunk
        chunk = ""


def _keys_of_header(found: Mapping[str, Any]) -> Path:
    keys: list[str] = []
    value: Any = found
    while value:
        ((key, value),) = value.items()
        keys.append(key)
        if isinstance(value, list):
            break
    return tuple(keys)


def _inside(keys: Path, counts: Mapping[Path, int]) -> Path:
    """Return the path of a header's table: in the latest one where an array of tables is named."""
    path: Path = ()
    for key in keys:
        path = (*path, key)
        if path in counts:
            path = (*path, counts[path] - 1)
    return path


def _paths_in(value: Mapping[str, Any], prefix: Path = ()) -> Iterator[Path]:
    for key, inner in value.items():
        yield (*prefix, key)
        if isinstance(inner, dict):
            yield from _paths_in(inner, (*prefix, key))
