"""Values as words for a person: harmless strings, times, durations, counts.

Names, keys and provider messages come from outside. Nothing of them may move the cursor, change
a terminal's title or reorder a line, so that all of them pass :func:`printable`.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from typing import Final

from batchrunner.core.dollars import as_dollars

#: What may not reach a terminal: C0, DEL and C1 controls, bidirectional overrides and isolates,
#: line and paragraph separators, zero-width marks, marks of annotations, unseen tags, lone
#: surrogates. Joiners stay: scripts need them.
_HARMFUL: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_BLANKS: Final = re.compile(r"[\t\n\r\v\f\x85\u2028\u2029]+")

#: Unit → seconds, largest first.
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))

_SIZES: Final = ("B", "kB", "MB", "GB")


def printable(text: str, *, limit: int | None = None) -> str:
    """Return one line without anything a terminal would obey; ``limit`` cuts it, with an ellipsis."""
    line = _HARMFUL.sub(_escaped, _BLANKS.sub(" ", text))
    if limit is not None and len(line) > limit:
        return line[: max(limit - 1, 0)] + "…"
    return line


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def printable_block(text: str) -> str:
    """Return many lines, each printable; tabs become spaces."""
    return "\n".join(printable(line) for line in text.expandtabs(4).split("\n"))


def rfc3339(ms: float | None) -> str | None:
    """Return epoch milliseconds as RFC 3339 in UTC with milliseconds; ``None`` stays."""
    if ms is None:
        return None
    seconds, millis = divmod(int(ms), 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{millis:03d}Z"


def clock_time(ms: float) -> str:
    """Return the local time of day of an instant."""
    return f"{_local(ms):%H:%M:%S}"


def local_time(ms: float, now_ms: float) -> str:
    """Return an instant in local time; the day is said where it is not today."""
    at, today = _local(ms), _local(now_ms)
    if at.date() == today.date():
        return f"{at:%H:%M:%S}"
    return f"{at:%a %d %b %H:%M}" if at.year == today.year else f"{at:%Y-%m-%d %H:%M}"


def _local(ms: float) -> datetime:
    at = datetime.fromtimestamp(ms / 1000.0, UTC)
    try:
        return at.astimezone()
    except ValueError:
        # A TZ of a day or more from UTC, which the C library takes and Python does not.
        return at


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: ``35s``, ``3m 20s``, ``2d 3h``."""
    left = max(0, round(seconds))
    for index, (name, size) in enumerate(_UNITS):
        if left >= size:
            words = f"{left // size}{name}"
            if index + 1 < len(_UNITS):
                smaller, small = _UNITS[index + 1]
                rest = left % size // small
                words += f" {rest}{smaller}" if rest else ""
            return words
    return "0s"


def when(until_ms: float, now_ms: float) -> str:
    """Return an instant to come as local time with the countdown: ``07:00:00 (in 5h 12m)``."""
    return f"{local_time(until_ms, now_ms)} (in {duration((until_ms - now_ms) / 1000.0)})"


def number(value: float | None) -> str:
    """Return a number with thousands separators; ``-`` for unknown."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


def dollars(value: float) -> str:
    """Return ``$12.34``, or a sum below a dollar to a hundredth of a cent, and to its first digits."""
    return f"${value:,.2f}" if value >= 1 else as_dollars(value)


def plural(n: int, noun: str) -> str:
    """Return ``1 job``, ``2 jobs``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def size(n_bytes: float) -> str:
    """Return an amount of bytes in its largest unit: ``512 B``, ``1.4 MB``."""
    left, units = float(n_bytes), iter(_SIZES)
    unit = next(units)
    while left >= 1024 and unit != _SIZES[-1]:
        left, unit = left / 1024, next(units)
    return f"{left:,.1f} {unit}" if left < 10 and unit != "B" else f"{left:,.0f} {unit}"


def width(text: str) -> int:
    """Return how many columns a printable line takes in a terminal."""
    if text.isascii():
        return len(text)
    return sum(_columns(char) for char in text)


def _columns(char: str) -> int:
    if unicodedata.combining(char) or char in "\u200c\u200d\ufe0e\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def clipped(text: str, columns: int) -> str:
    """Return ``text`` cut to ``columns`` of a terminal, with an ellipsis where it was cut."""
    if width(text) <= columns:
        return text
    taken, used = [], 1
    for char in text:
        used += _columns(char)
        if used > columns:
            break
        taken.append(char)
    return "".join(taken) + "…"
