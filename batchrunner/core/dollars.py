"""Sums of money as words: what is known and not nothing is never shown as nothing."""

from __future__ import annotations

from math import floor, log10
from typing import Final

__all__ = ["as_bound", "as_dollars"]

#: A hundredth of a cent is told; of what is less, two digits are.
_PLACES: Final = 4
_DIGITS: Final = 2


def as_dollars(value: float) -> str:
    """Return ``$12.3400``, or of a tiny sum its first digits: ``$0.000017``."""
    if not 0 < value < 10**-_PLACES:
        return f"${value:,.{_PLACES}f}"
    return f"${value:.{min(_DIGITS - 1 - floor(log10(value)), 20)}f}"


def as_bound(value: float) -> str:
    """Return a sum that a person wrote: ``$5.00``, but ``$0.0030`` where cents would tell another."""
    return f"${value:,.2f}" if round(value, 2) == value else as_dollars(value)
