"""What is said about a line: why it is refused, what is odd about it, and how it begins.

Lines come from strangers: what is shown of one is printable, without secrets, and short.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from batchrunner.core.credentials import redact
from batchrunner.formats.sources import RawLine
from batchrunner.models import LineFault

__all__ = ["Notes", "RefusedLineError", "SecretLineError", "excerpt", "fault_of", "printable"]

_EXCERPT: Final = 80
_MAX_WARNINGS: Final = 20


class RefusedLineError(Exception):
    """One line can't become a job; the text is the reason, for a person."""


class SecretLineError(RefusedLineError):
    """One line holds a literal credential: nothing of the line is shown."""


def excerpt(data: bytes) -> str:
    """Return the start of a line: printable, without secrets, at most 80 characters."""
    return printable(data[: 8 * _EXCERPT].decode("utf-8", "replace"))


def printable(text: str) -> str:
    """Return text out of a line, fit for a message in the same way."""
    # Redacted before it is cut: half a secret has no telling form.
    text = redact(text[: 8 * _EXCERPT], ())
    text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return text if len(text) <= _EXCERPT else text[: _EXCERPT - 1] + "…"


def fault_of(raw: RawLine, reason: str, *, is_secret: bool = False) -> LineFault:
    """Return what is said of one line; ``is_secret``: without showing any of it."""
    if is_secret:
        return LineFault(file=raw.file, line=raw.line, reason=reason, is_secret=True)
    return LineFault(file=raw.file, line=raw.line, reason=reason, excerpt=excerpt(raw.data))


@dataclass(slots=True, kw_only=True)
class Notes:
    """What reading a whole input brought to light besides jobs; filled while lines are read."""

    #: Jobs whose key is ``line-N``.
    n_generated: int = 0
    #: The first 20 warnings; the lines they are about were taken.
    warnings: list[LineFault] = field(default_factory=list)
    n_warnings: int = 0

    def warn(self, raw: RawLine, reason: str, named: str = "") -> None:
        """Count one warning, and keep it while there are few; ``named`` comes out of the line."""
        self.n_warnings += 1
        if self.n_warnings <= _MAX_WARNINGS:
            self.warnings.append(fault_of(raw, reason.format(printable(named))))
