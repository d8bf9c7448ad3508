"""What a spreadsheet can take in a cell: no text that it would run, and 32,767 characters.

Cells come from models and strangers: one that begins like a formula would be one.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["LONGEST", "Cells"]

#: UTF-16 units that a cell of Excel holds.
LONGEST: Final = 32_767

_FORMULA: Final = re.compile(r"[=+\-@]")
_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")


class Cells:
    """Makes texts fit for cells, and counts what it had to cut."""

    def __init__(self) -> None:
        """Begin with none cut."""
        self.n_cut = 0

    def harmless(self, text: str) -> str:
        """Return a text that a spreadsheet shows, whatever it begins with; numbers stay numbers."""
        if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
            text = f"'{text}"
        return self.short(text)

    def short(self, text: str) -> str:
        """Return a text cut to what a cell holds."""
        if len(text) <= LONGEST // 2:
            return text
        units = text.encode("utf-16-le")
        if len(units) <= 2 * LONGEST:
            return text
        self.n_cut += 1
        # Half a character at the cut is left out.
        return units[: 2 * LONGEST].decode("utf-16-le", "ignore")
