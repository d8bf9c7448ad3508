"""Values and foreign texts as words of an HTML page."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html import escape
from typing import Final

from batchrunner.core.dollars import as_dollars

__all__ = ["count", "dollars", "foreign", "harmless", "instant", "millis", "share_of", "stretch"]

#: Controls, overrides of direction, marks that can't be seen, lone surrogates; joiners stay.
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
#: A message that is longer is cut.
_LONGEST: Final = 600
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def harmless(text: str) -> str:
    """Return foreign text, escaped, harmless and bounded."""
    if len(text) > _LONGEST:
        text = text[: _LONGEST - 1] + "…"
    return escape(_UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def foreign(text: str) -> str:
    """Return foreign text that changes nothing of the line it stands in."""
    return f"<bdi>{harmless(text)}</bdi>"


def instant(ms: float) -> str:
    """Return an instant in UTC, to the second."""
    return f"{datetime.fromtimestamp(ms / 1000.0, UTC):%Y-%m-%d %H:%M:%S}"


def stretch(seconds: float) -> str:
    """Return a duration in its two largest units."""
    if 0 < seconds < 10 and seconds != int(seconds):
        return f"{seconds:.1f} s"
    left = round(seconds)
    for place, (name, size) in enumerate(_UNITS[:-1]):
        if left >= size:
            smaller, small = _UNITS[place + 1]
            rest = left % size // small
            return f"{left // size} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{left} s"


def millis(ms: float) -> str:
    """Return a time in milliseconds, from a second on in its largest units."""
    return f"{ms:,.0f} ms" if ms < 1000 else stretch(ms / 1000.0)


def count(value: float | None) -> str:
    """Return a number with thousands separators."""
    if value is None:
        return "unknown"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def share_of(n: int, total: int) -> str:
    """Return a share of a total as words behind a name; empty of nothing."""
    return f" · {100.0 * n / total:.3g} %" if total else ""


def dollars(usd: float) -> str:
    """Return an amount of money."""
    return f"${usd:,.2f}" if usd >= 1 or usd == 0 else as_dollars(usd)
