"""How far this machine's clock is off, told from a server's ``Date``.

Minutes are measured without the wall clock; but a day's limit resets by it, and certificates are
valid by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from batchrunner.core.headers import server_date

__all__ = ["clock_skew_ms", "skew_words"]

#: ``Date`` counts whole seconds and may be a slow answer's; a clock this far off is wrong.
TOLERANCE_MS: Final = 120_000


def clock_skew_ms(headers: Mapping[str, str], *, wall: int) -> int | None:
    """Return how far the clock that reads ``wall`` is ahead of the server's (negative: behind).

    ``None`` where the server does not say. ``headers`` have lower-case names.
    """
    date = server_date(headers)
    return None if date is None else wall - date


def skew_words(skew_ms: int) -> str:
    """Return a sentence on a wrong clock; empty within the tolerance."""
    if abs(skew_ms) <= TOLERANCE_MS:
        return ""
    minutes = round(abs(skew_ms) / 60_000)
    off = f"{minutes:,} min" if minutes < 180 else f"{minutes / 60:,.0f} h"
    return (
        f"This machine's clock is {off} {'ahead of' if skew_ms > 0 else 'behind'} the server's; daily limits"
        " and resets follow it. Set it: sudo timedatectl set-ntp true"
        " (macOS: sudo sntp -sS time.apple.com)"
    )
