"""Bars of text: a chart that fits any width and needs no colour.

Each line has its number, so that nothing is told by a length alone. Bars are blocks, eighths of one
at their ends; where the terminal or the pipe takes no such signs they are ``#``.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

import click

from batchrunner.cli.text import clipped, width

_BLOCK: Final = "█"
#: Eighths of a block, from none to seven.
_EIGHTHS: Final = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
_ASCII: Final = "#"
_GAP: Final = "  "
#: A bar is given at least and at most so many columns; a label at most half of what numbers leave.
_LEAST: Final = 4
_MOST: Final = 60


class Bar(NamedTuple):
    """One line of a chart."""

    label: str
    #: ``None``: not known.
    value: float | None
    #: The value in words.
    words: str
    #: What the label is where there is no room for it; empty: it is cut.
    short: str = ""


def bar(share: float, columns: int) -> str:
    """Return a bar of that share (0 to 1) of so many columns; the least share above 0 is seen."""
    if not has_blocks():
        n = round(share * columns)
        return _ASCII * max(n, 1 if share > 0 else 0)
    eighths = round(share * columns * 8)
    eighths = max(eighths, 1 if share > 0 else 0)
    return _BLOCK * (eighths // 8) + _EIGHTHS[eighths % 8]


def has_blocks() -> bool:
    """Whether blocks can be written to stdout and shown there."""
    if os.environ.get("TERM") == "dumb":
        return False
    try:
        (_BLOCK + "".join(_EIGHTHS)).encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def write_bars(title: str, lines: Sequence[Bar]) -> None:
    """Print a chart with a heading; labels and words must be printable already."""
    if not lines:
        return
    total = max(shutil.get_terminal_size((80, 24)).columns, 1)
    words = max(len(line.words) for line in lines)
    most = max((total - words) // 2, 5)
    if any(width(line.label) > most for line in lines):
        lines = [line._replace(label=line.short or line.label) for line in lines]
    label = min(max(width(line.label) for line in lines), most)
    room = min(max(total - label - words - 2 * len(_GAP), _LEAST), _MOST)
    largest = max((line.value or 0.0 for line in lines), default=0.0)
    click.echo(title)
    for line in lines:
        name = clipped(line.label, label)
        drawn = bar((line.value or 0.0) / largest, room) if largest > 0 else ""
        blank = " " * (label - width(name))
        click.echo(f"{name}{blank}{_GAP}{line.words:>{words}}{_GAP}{drawn}".rstrip())
