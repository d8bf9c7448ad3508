"""Which failures have the same cause: their messages, less what differs from one job to the next."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["cause_of"]

#: What stands for one job's own: what is quoted, addresses, and words with a digit in them (ids,
#: counts, positions).
_OWN: Final = re.compile(
    r"\"[^\"]{0,200}\"|`[^`]{0,200}`|“[^”]{0,200}”|(?<![A-Za-z0-9])'[^']{0,200}'"
    r"|\b[a-z]+://\S+"
    r"|[A-Za-z_]*\d[\w.:-]*"
)
_PLACE: Final = "…"


def cause_of(message: str) -> str:
    """Return a message with its own part of each job left out; alike ones have one cause."""
    return _OWN.sub(_PLACE, message)
