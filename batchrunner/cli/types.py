"""Words a person types as option values, turned into numbers, or refused with what would do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

import click

from batchrunner.models import ErrorKind, JobState
from batchrunner.options import LimitValue

_UNIT_S: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
_DURATION: Final = re.compile(
    "".join(rf"(?:(?P<{unit}>\d+(?:\.\d+)?){unit})?" for unit in _UNIT_S), re.ASCII
)
_SECONDS: Final = re.compile(r"\d+(?:\.\d*)?|\.\d+", re.ASCII)

_SIZE: Final = re.compile(r"(?P<n>\d+(?:\.\d+)?)\s*(?P<unit>[kmg]?)i?b?", re.ASCII | re.IGNORECASE)
_UNIT_BYTES: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}

#: Typed as literals, which a checked string is not.
_LIMIT_WORDS: Final[dict[str, Literal["none", "auto"]]] = {"none": "none", "auto": "auto"}
_PERCENT: Final = re.compile(r"(\d+(?:\.\d+)?)%", re.ASCII)


def parse_duration(text: str) -> float | None:
    """Return seconds for ``90``, ``0.5``, ``90s``, ``2h30m``, ``3d``; ``None`` for anything else."""
    words = text.strip().lower()
    if _SECONDS.fullmatch(words):
        return float(words)
    match = _DURATION.fullmatch(words)
    if not words or match is None:
        return None
    return sum(float(n) * _UNIT_S[unit] for unit, n in match.groupdict().items() if n)


if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:  # generic in newer releases of click only
    _ParamType = click.ParamType


class _Type(_ParamType):
    """A type that converts words only: values set by a default pass as they are."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what the words mean, or refuse them."""
        return self.read(value, param, ctx) if isinstance(value, str) else value

    def read(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value of ``text``: the words themselves, where a type has nothing to add."""
        return text

    def refuse(
        self, text: str, wanted: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> NoReturn:
        """End with a usage error that shows what was typed and what would do."""
        self.fail(f"'{text}' is no {self.name.lower()}: {wanted}", param, ctx)


class Duration(_Type):
    """Seconds as a float."""

    name = "DURATION"

    def __init__(self, *, zero: bool = False) -> None:
        """Allow 0 where it means something."""
        self.zero = zero

    def read(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        seconds = parse_duration(text)
        if seconds is None:
            self.refuse(text, "write 90, 90s, 2h30m or 3d", param, ctx)
        if seconds == 0 and not self.zero:
            self.refuse(text, "it must be more than 0", param, ctx)
        return seconds


class Size(_Type):
    """Bytes; ``MB`` is 1024 * 1024, with or without the ``i``."""

    name = "SIZE"

    def read(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return bytes."""
        match = _SIZE.fullmatch(text.strip())
        n_bytes = int(float(match["n"]) * _UNIT_BYTES[match["unit"].lower()]) if match else 0
        if n_bytes < 1:
            self.refuse(text, "write 500KB, 32MB or 1GB", param, ctx)
        return n_bytes


class Limit(_Type):
    """A limit: a number from 1, ``none`` or ``auto``."""

    name = "LIMIT"

    def read(
        self, text: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> LimitValue:
        """Return the number or the word."""
        word = text.strip().lower()
        if word in _LIMIT_WORDS:
            return _LIMIT_WORDS[word]
        if not (word.isascii() and word.isdigit() and int(word) > 0):
            self.refuse(text, "write a whole number from 1, none or auto", param, ctx)
        return int(word)


class Concurrency(_Type):
    """A number from 1, or ``auto``."""

    name = "CONCURRENCY"

    def read(
        self, text: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Literal["auto"]:
        """Return the number or the word."""
        word = text.strip().lower()
        if word == "auto":
            return "auto"
        if not (word.isascii() and word.isdigit() and int(word) > 0):
            self.refuse(text, "write a whole number from 1, or auto", param, ctx)
        return int(word)


class MaxFailures(_Type):
    """``N`` or ``P%``, kept as words."""

    name = "NUMBER OF FAILURES"

    def read(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the words, checked."""
        word = text.strip()
        percent = _PERCENT.fullmatch(word)
        if percent is None and not (word.isascii() and word.isdigit()):
            self.refuse(text, "write a number of jobs (20) or a share (5%)", param, ctx)
        if percent is not None and float(percent[1]) > 100:
            self.refuse(text, "a share is at most 100%", param, ctx)
        return word


class Header(_Type):
    """``NAME: VALUE``, with ``${VAR}`` left as it is."""

    name = "HEADER"

    def read(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the header, checked for its form alone."""
        name, colon, _value = text.partition(":")
        if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name.strip()):
            self.refuse(text, "write 'NAME: VALUE'", param, ctx)
        if any(char in text for char in "\r\n\0"):
            self.refuse(text.encode("unicode_escape").decode(), "it must be one line", param, ctx)
        return text


class TextOrFile(_Type):
    """A text, or ``@FILE`` that holds it."""

    name = "TEXT"

    def read(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the text."""
        return self.from_file(text[1:], param, ctx) if text.startswith("@") else text

    def from_file(self, name: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return what the file holds, as UTF-8 without a byte-order mark."""
        try:
            return Path(name).read_text(encoding="utf-8-sig")
        except OSError as error:
            self.fail(f"cannot read {name}: {error.strerror}", param, ctx)
        except UnicodeDecodeError:
            self.fail(f"cannot read {name}: it is not UTF-8", param, ctx)


class FieldValue(TextOrFile):
    """``FIELD=VALUE`` → (dotted field, JSON text); a VALUE that is no JSON is a string."""

    name = "FIELD=VALUE"

    def read(  # type: ignore[override]  # a pair, where the base returns the text alone
        self, text: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return the pair."""
        import msgspec  # noqa: PLC0415 (only --set needs it)

        field, equals, value = text.partition("=")
        if not equals or not all(field.split(".")):
            self.refuse(text, "write max_tokens=500 or a.b=text", param, ctx)
        value = super().read(value, param, ctx)
        try:
            msgspec.json.decode(value.encode())
        except (msgspec.DecodeError, UnicodeError):
            return field, msgspec.json.encode(value).decode()
        return field, value


STATUS: Final = click.Choice([state.value for state in JobState], case_sensitive=False)
ERROR_KIND: Final = click.Choice([kind.value for kind in ErrorKind], case_sensitive=False)
