"""Words a person types or writes as values, turned into numbers, or refused with what would do.

One reader a kind of value, for the command line and for configuration files alike: a pure function
that raises :class:`ValueError` with a sentence.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

_UNIT_S: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
_DURATION: Final = re.compile(
    "".join(rf"(?:(?P<{unit}>\d+(?:\.\d+)?){unit})?" for unit in _UNIT_S), re.ASCII
)
_SECONDS: Final = re.compile(r"\d+(?:\.\d*)?|\.\d+", re.ASCII)

#: Nobody waits longer than a hundred years, nor has a disk for more than an exabyte.
_LONGEST_S: Final = 100 * 365.25 * 86_400.0
_LARGEST: Final = 1024**6

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?)i?b?", re.ASCII | re.IGNORECASE)
_UNIT_BYTES: Final = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}

_COUNT: Final = re.compile(r"0*[1-9]\d{0,11}", re.ASCII)
_WHOLE: Final = re.compile(r"[+-]?0*\d{1,12}", re.ASCII)
#: The largest whole number of a count or a priority.
MOST: Final = 10**12 - 1
_DOLLARS: Final = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)
_FAILURES: Final = re.compile(r"\d{1,12}|(?P<percent>\d{1,3}(?:\.\d+)?)%", re.ASCII)
#: What takes tags back.
NO_TAGS: Final = "none"
_TAG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:=/-]{0,62}", re.ASCII)
#: A header's name, RFC 9110 §5.1.
_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*:[^\r\n\0]*", re.ASCII)
#: Typed as literals, which a checked string is not.
_LIMIT_WORDS: Final[dict[str, Literal["none", "auto"]]] = {"none": "none", "auto": "auto"}


def read_duration(text: str) -> float:
    """Return seconds for ``90``, ``0.5``, ``90s``, ``2h30m``, ``3d``; 0 is allowed."""
    words = text.strip().lower()
    match = _DURATION.fullmatch(words)
    if _SECONDS.fullmatch(words):
        seconds = float(words)
    elif words and match is not None:
        seconds = sum(float(n) * _UNIT_S[unit] for unit, n in match.groupdict().items() if n)
    else:
        raise ValueError(f"'{text}' is no duration: write 90, 90s, 2h30m or 3d")
    if seconds > _LONGEST_S:
        raise ValueError(f"'{_cut(text)}' is longer than a hundred years")
    return seconds


def read_positive_duration(text: str) -> float:
    """Return seconds; 0 is refused."""
    seconds = read_duration(text)
    if seconds == 0:
        raise ValueError(f"'{text}' is too short: it must be more than 0")
    return seconds


def read_since(text: str) -> date:
    """Return a day of ``2026-11-01``, or the UTC day that lies ``7d`` (or ``36h``) back."""
    word = text.strip()
    try:
        return date.fromisoformat(word)
    except ValueError:
        pass
    try:
        back = timedelta(seconds=read_positive_duration(word))
        return (datetime.now(UTC) - back).date()
    except (ValueError, OverflowError):
        raise ValueError(
            f"'{_cut(text)}' is no day: write one as 2026-11-01, or how far back as 7d or 36h"
        ) from None


def read_size(text: str) -> int:
    """Return bytes; ``MB`` is 1024 * 1024, with or without the ``i``."""
    match = _SIZE.fullmatch(text.strip())
    n_bytes = float(match[1]) * _UNIT_BYTES[match[2].lower()] if match else 0.0
    if not 1 <= n_bytes <= _LARGEST:
        raise ValueError(f"'{_cut(text)}' is no size: write 500KB, 32MB or 1GB")
    return int(n_bytes)


def read_count(text: str) -> int:
    """Return a whole number from 1."""
    if not _COUNT.fullmatch(text.strip()):
        raise ValueError(f"'{_cut(text)}' is no whole number from 1 to {MOST:,}")
    return int(text)


def read_priority(text: str) -> int:
    """Return a whole number; a negative one is a priority too."""
    if not _WHOLE.fullmatch(text.strip()):
        raise ValueError(f"'{_cut(text)}' is no whole number from {-MOST:,} to {MOST:,}")
    return int(text)


def read_limit(text: str) -> int | Literal["none", "auto"]:
    """Return a number from 1, ``none`` or ``auto``."""
    word = text.strip().lower()
    if word in _LIMIT_WORDS:
        return _LIMIT_WORDS[word]
    if not _COUNT.fullmatch(word):
        raise ValueError(
            f"'{_cut(text)}' is no limit: write a whole number from 1 to {MOST:,}, none or auto"
        )
    return int(word)


def read_concurrency(text: str) -> int | Literal["auto"]:
    """Return a number from 1, or ``auto``."""
    word = text.strip().lower()
    if word == "auto":
        return "auto"
    if not _COUNT.fullmatch(word):
        raise ValueError(
            f"'{_cut(text)}' is no concurrency: write a whole number from 1 to {MOST:,}, or auto"
        )
    return int(word)


def read_dollars(text: str) -> float:
    """Return a sum of money above 0, 0 for ``none``; a leading ``$`` may stand there."""
    word = text.strip().removeprefix("$")
    if word == "none":
        return 0.0
    if not _DOLLARS.fullmatch(word) or float(word) <= 0:
        raise ValueError(f"'{text}' is no sum in dollars: write 5 or 0.50, or none")
    return float(word)


def read_max_failures(text: str) -> str:
    """Return ``N`` or ``P%`` as typed, checked."""
    word = text.strip()
    match = _FAILURES.fullmatch(word)
    if match is None or float(match["percent"] or 0) > 100:
        raise ValueError(f"'{text}' is neither a number of jobs (20) nor a share (5%)")
    return word


def read_header(text: str) -> str:
    """Return ``NAME: VALUE`` as typed, checked for its form alone; ``${VAR}`` stays."""
    if not _HEADER.fullmatch(text):
        raise ValueError("a header is one line of the form 'NAME: VALUE'")
    return text


def read_text(text: str) -> str:
    """Return the text, or what the file of ``@FILE`` holds (UTF-8, a byte-order mark dropped)."""
    if not text.startswith("@"):
        return text
    name = text[1:]
    try:
        return Path(name).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot read {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot read {name}: it is not UTF-8") from error
    except ValueError as error:
        raise ValueError(f"cannot read {name!r}: that is no path") from error


def read_schema(text: str) -> str:
    """Return the JSON text of a schema: what was typed, or what that file holds; ``none``: empty."""
    word = text.strip()
    if not word:
        raise ValueError("no schema is named: write its file, the schema itself, or none")
    if word.lower() == "none":
        return ""
    return word if word == "true" or word.startswith("{") else read_text(f"@{text}").strip()


def read_field(text: str) -> tuple[str, str]:
    """Return (dotted field, JSON text) of ``FIELD=VALUE``; a VALUE that is no JSON is a string."""
    import msgspec  # noqa: PLC0415 (only --set needs it)

    field, equals, words = text.partition("=")
    if not equals or not all(field.split(".")):
        raise ValueError(f"'{text}' sets nothing: write max_tokens=500 or a.b=text")
    value = read_text(words)
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError):
        pass
    except RecursionError:
        raise ValueError(f"the value of {_cut(field)} is nested too deeply") from None
    else:
        return field, value
    try:
        return field, msgspec.json.encode(value).decode()
    except UnicodeError:
        raise ValueError(f"the value of {_cut(field)} is not UTF-8") from None


def _cut(text: str) -> str:
    """Return what was typed as far as a message needs it."""
    return text if len(text) <= 40 else f"{text[:39]}…"


def read_tags(text: str) -> tuple[str, ...]:
    """Return the tags of ``eu,big``; ``none`` alone is that word."""
    tags = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    for tag in tags:
        if not _TAG.fullmatch(tag):
            raise ValueError(
                f"'{_cut(tag)}' is no tag: write letters, digits and ._:=/- like eu,big"
            )
    return tags
