"""What a configuration's values may be: how each is read, and how a schema describes it.

Words mean what they mean on the command line (:mod:`batchrunner.values`); numbers may be written as
numbers. A reader raises :class:`ValueError` with a sentence, or one of our own errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from batchrunner.checking import VARIABLE, check_base_url
from batchrunner.core.caps import ROLLING
from batchrunner.core.credentials import redact
from batchrunner.core.days import check_zone
from batchrunner.core.expected import ANY, Expected
from batchrunner.formats.faults import RefusedLineError
from batchrunner.formats.requests import check_headers
from batchrunner.places import place_of
from batchrunner.transport.proxies import UnusableProxyError, read_proxies, without_password
from batchrunner.values import (
    MOST,
    read_concurrency,
    read_count,
    read_dollars,
    read_duration,
    read_limit,
    read_max_failures,
    read_positive_duration,
    read_priority,
    read_size,
)

__all__ = ["Form", "Json", "wrong_type"]

Json = dict[str, Any]

_DURATION: Final = r"^(?=.*\d)\s*((\d+(\.\d*)?|\.\d+)|(\d+(\.\d+)?[dD])?(\d+(\.\d+)?[hH])?(\d+(\.\d+)?[mM])?(\d+(\.\d+)?[sS])?)\s*$"
_KINDS: Final[tuple[tuple[type, str], ...]] = (
    (bool, "a truth value"),
    (int, "a number"),
    (float, "a number"),
    (str, "a text"),
    (list, "a list"),
    (dict, "a table"),
)


class Form(NamedTuple):
    """One kind of value."""

    #: What may be written, for a message: "a whole number from 1".
    words: str
    #: (value as TOML has it, folder of its file) → the value; ``TypeError`` for another kind.
    read: Callable[[Any, Path], Any]
    schema: Json


def wrong_type(value: object) -> str:
    """Return what kind of value this is, in words; never the value, which may be a secret."""
    return next((words for kind, words in _KINDS if isinstance(value, kind)), "a date or time")


def _one_of(value: Any, *kinds: type) -> Any:
    """Return the value if it is of these kinds; TOML's truth values are no numbers."""
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise TypeError
    return value


def _text(value: Any, _folder: Path) -> str:
    if not _one_of(value, str).strip():
        raise ValueError("it is empty; write something or leave the key out")
    return str(value)


def _whole(value: Any, _folder: Path) -> int:
    return read_priority(str(_one_of(value, int)))


def _count(value: Any, _folder: Path) -> int:
    return read_count(str(_one_of(value, int)))


def _truth(value: Any, _folder: Path) -> bool:
    return bool(_one_of(value, bool))


def _spoken(read: Callable[[str], Any], *kinds: type) -> Callable[[Any, Path], Any]:
    """Return a reader of the command line's words, for values that may be numbers as well."""
    return lambda value, _folder: read(_plain(_one_of(value, str, *kinds)))


def _plain(value: str | float) -> str:
    return f"{value:f}" if isinstance(value, float) else str(value)


def _path(value: Any, folder: Path) -> str:
    """Return an absolute path; a relative one is relative to the file it is written in."""
    text = _text(value, folder)
    if redact(text) != text:
        raise ValueError("it is no path but a key; put the key alone into a file, and name that")
    return str(folder / Path(text).expanduser())


def _place(value: Any, folder: Path) -> str:
    """Return an absolute path, or an address that holds no password."""
    text = _text(value, folder)
    place = place_of(text)
    if isinstance(place, Path):
        return _path(value, folder)
    if place.has_password:
        raise ValueError("it holds a password; set PGPASSWORD, or keep it in ~/.pgpass")
    return text


def _system(value: Any, folder: Path) -> str:
    """Return the text, or ``@`` and the file's absolute path: it is read when a file is submitted."""
    text = _text(value, folder)
    return f"@{_path(text[1:], folder)}" if text.startswith("@") else text


def _expected(value: Any, folder: Path) -> str:
    """Return a schema's JSON text, ``@`` and its file's absolute path, or nothing for ``none``."""
    if isinstance(value, bool):
        return ANY if value else ""
    text = _text(value, folder).strip()
    if text.lower() == "none":
        return ""
    if text != ANY and not text.startswith("{"):
        return f"@{_path(text.removeprefix('@'), folder)}"
    return Expected(text).text


def _zone(value: Any, folder: Path) -> str:
    zone = _text(value, folder)
    if zone != ROLLING:
        check_zone(zone)
    return zone


def _texts(value: Any, folder: Path) -> tuple[str, ...]:
    if isinstance(value, str):
        return (_text(value, folder),)
    found = tuple(_text(item, folder) for item in _one_of(value, list))
    if not found:
        raise ValueError("the list is empty")
    return found


def _base_urls(value: Any, folder: Path) -> str | tuple[str, ...]:
    found = _texts(value, folder)
    for url in found:
        check_base_url(url)
        if redact(url) != url:
            raise ValueError("it holds a credential; send it as a header with ${VAR}")
    return found if len(found) > 1 else found[0]


def _proxies(value: Any, folder: Path) -> tuple[str, ...]:
    """Return proxies with ``${VAR}`` unfilled; a password as it is would lie about in the file."""
    found = _texts(value, folder)
    if any(without_password(text) != text for text in found):
        raise ValueError(
            "it holds a password; write http://USER:${VAR}@HOST:PORT and set VAR in the environment"
        )
    filled = {name: "x" for text in found for name in VARIABLE.findall(text)}
    try:
        read_proxies(found, filled, source="the configuration")
    except UnusableProxyError as error:
        raise ValueError(f"{error} {error.fix}") from None
    return found


def _headers(value: Any, _folder: Path) -> tuple[str, ...]:
    table: Mapping[str, Any] = _one_of(value, dict)
    found = []
    for name, text in table.items():
        if not isinstance(text, str):
            raise ValueError(f"the value of {name} must be a text")
        found.append(f"{name}: {text}")
    try:
        check_headers(dict(table))
    except RefusedLineError as refused:
        raise ValueError(str(refused)) from None
    return tuple(found)


_TEXT: Final[Json] = {"type": "string", "pattern": r"\S"}
_SPAN: Final[Json] = {
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": _DURATION}]
}
_LIST: Final[Json] = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}

TEXT: Final = Form("a text", _text, _TEXT)
NUMBER: Final = Form(
    "a whole number", _whole, {"type": "integer", "minimum": -MOST, "maximum": MOST}
)
COUNT: Final = Form(
    "a whole number from 1", _count, {"type": "integer", "minimum": 1, "maximum": MOST}
)
TRUTH: Final = Form("true or false", _truth, {"type": "boolean"})
PATH: Final = Form("a path", _path, _TEXT)
PLACE: Final = Form("a path, or the address of a PostgreSQL server", _place, _TEXT)
SYSTEM: Final = Form('a text, or "@FILE"', _system, _TEXT)
ZONE: Final = Form('a zone such as "America/Los_Angeles", or "rolling"', _zone, _TEXT)
BASE_URLS: Final = Form("an address, or a list of them", _base_urls, _LIST)
LIMIT: Final = Form(
    'a whole number from 1, "none" or "auto"',
    _spoken(read_limit, int),
    {
        "anyOf": [
            {"type": "integer", "minimum": 1},
            {"type": "string", "pattern": r"^\s*(0*[1-9]\d{0,11}|[nN][oO][nN][eE]|[aA][uU][tT][oO])\s*$"},
        ]
    },
)  # fmt: skip
CONCURRENCY: Final = Form(
    'a whole number from 1, or "auto"',
    _spoken(read_concurrency, int),
    {
        "anyOf": [
            {"type": "integer", "minimum": 1},
            {"type": "string", "pattern": r"^\s*(0*[1-9]\d{0,11}|[aA][uU][tT][oO])\s*$"},
        ]
    },
)
DURATION: Final = Form(
    'a duration: seconds, or "90s", "2h30m", "3d"',
    _spoken(read_positive_duration, int, float),
    {
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 0},
            {"type": "string", "pattern": _DURATION},
        ]
    },
)
DURATION_OR_ZERO: Final = Form(
    'a duration: seconds, or "90s", "2h30m", "3d"',
    _spoken(read_duration, int, float),
    _SPAN,
)
DOLLARS: Final = Form(
    'a sum in dollars above 0, or "none"',
    _spoken(read_dollars, int, float),
    {
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 0},
            {"type": "string", "pattern": r"^\s*(\$?\d{1,9}(\.\d{1,9})?|none)\s*$"},
        ]
    },
)
EXPECTED: Final = Form(
    "true, false, a JSON Schema as text, or a file that holds one",
    _expected,
    {"anyOf": [{"type": "boolean"}, _TEXT]},
)
SIZE: Final = Form(
    'a size such as "32MB"',
    _spoken(read_size, int),
    {
        "anyOf": [
            {"type": "integer", "minimum": 1},
            {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*[kmgKMG]?[iI]?[bB]?\s*$"},
        ]
    },
)
FAILURES: Final = Form(
    'a number of jobs, or a share such as "5%"',
    _spoken(read_max_failures, int),
    {
        "anyOf": [
            {"type": "integer", "minimum": 0},
            {"type": "string", "pattern": r"^\s*(\d{1,12}|\d{1,3}(\.\d+)?%)\s*$"},
        ]
    },
)
PROXIES: Final = Form('an address, a list of them, or "none"', _proxies, _LIST)
HEADERS: Final = Form(
    "a table of texts",
    _headers,
    {"type": "object", "additionalProperties": {"type": "string"}},
)
