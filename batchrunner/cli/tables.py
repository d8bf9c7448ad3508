"""Tables and lists of facts as aligned text.

On a terminal a line never passes its width: the one wide column gives way. Into a pipe nothing
is cut. Rows are written as they come: widths follow the first hundred, so that a million jobs
need no memory.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final, NamedTuple

import click

from batchrunner.cli.text import clipped, width

_SAMPLE: Final = 100
_GAP: Final = "  "
#: The least a wide column keeps on a narrow terminal.
_LEAST: Final = 12


class Column(NamedTuple):
    """One column of a table."""

    title: str
    right: bool = False
    #: Columns it takes at most on a terminal; ``None``: as wide as its widest cell.
    most: int | None = None


def terminal_width() -> int | None:
    """Return the columns of the terminal on stdout; ``None`` where stdout is none."""
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout.isatty() else None


def write_table(columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> int:
    """Print a heading and the rows; the last column takes what is left. Returns how many rows.

    Cells must be printable already. Nothing is printed where there are no rows.
    """
    lines = iter(rows)
    sample = list(islice(lines, _SAMPLE))
    if not sample:
        return 0
    widths = _widths(columns, sample, terminal_width())
    click.echo(_line(columns, widths, [column.title for column in columns]))
    n_rows = 0
    for n_rows, row in enumerate(chain(sample, lines), start=1):  # noqa: B007 (the count is kept)
        click.echo(_line(columns, widths, row))
    return n_rows


def _widths(
    columns: Sequence[Column], sample: Sequence[Sequence[str]], total: int | None
) -> list[int | None]:
    """Return each column's width; ``None``: not cut."""
    natural = [
        max(width(column.title), *(width(row[index]) for row in sample))
        for index, column in enumerate(columns)
    ]
    if total is None:
        # What is aligned to the right keeps its width; any other last column needs none.
        return [*natural[:-1], natural[-1] if columns[-1].right else None]
    kept: list[int | None] = [
        min(wide, column.most or wide) for wide, column in zip(natural, columns, strict=True)
    ]
    if columns[-1].right:
        return kept
    used = sum(wide or 0 for wide in kept[:-1]) + len(_GAP) * (len(columns) - 1)
    kept[-1] = max(_LEAST, total - used)
    return kept


def _line(columns: Sequence[Column], widths: Sequence[int | None], cells: Sequence[str]) -> str:
    is_cut = sys.stdout.isatty()
    parts = []
    for column, wide, cell in zip(columns, widths, cells, strict=True):
        if wide is None:
            parts.append(cell)
            continue
        text = clipped(cell, wide) if is_cut else cell
        blank = " " * (wide - width(text))
        parts.append(blank + text if column.right else text + blank)
    return _GAP.join(parts).rstrip()


def write_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print ``name  value`` lines with the values in one column; empty values are left out."""
    told = [(name, value) for name, value in facts if value]
    indent = max((len(name) for name, _ in told), default=0) + len(_GAP)
    last = None
    for name, value in told:
        label = name if name != last else ""
        last = name
        for line in _wrapped(value, indent):
            click.echo(f"{label:<{indent}}{line}")
            label = ""


def _wrapped(value: str, indent: int) -> Iterator[str]:
    total = terminal_width()
    if total is None:
        yield value
        return
    yield from textwrap.wrap(
        value, max(20, total - indent), break_long_words=False, break_on_hyphens=False
    )
