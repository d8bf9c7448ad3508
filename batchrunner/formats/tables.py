"""Rows of CSV and TSV: each a JSON object of its cells by the names of the heading.

RFC 4180 in UTF-8: cells may be quoted, and then hold separators, line ends and doubled quotes. All
cells are text. A row of empty cells is a blank line. What is no row comes out with the reason, so
that all faults of a file are told at once; a heading that is none raises
:class:`~batchrunner.errors.InputError`. A row is held to a bound, so that a quote that is never
closed does not take all memory.
"""

from __future__ import annotations

import csv
import os.path
import re
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from batchrunner.errors import InputError

__all__ = ["Record", "records", "separators_of"]

#: Ending of a file → what may separate its cells, the likeliest first.
_SEPARATORS: Final = {".csv": ",;", ".tsv": "\t", ".tab": "\t"}
#: What separates them on standard input, which has no ending.
_ANY: Final = ",\t;"
_PACKED: Final = (".gz", ".zst")
#: The line before the heading with which Excel is told what separates cells.
_SAYS_SEPARATOR: Final = re.compile(r'"?sep=([^"\r\n])"?\s*', re.IGNORECASE)
#: A cell in quotes, in which separators are text.
_QUOTED: Final = re.compile(r'(?:^|(?<=[,;\t]))"(?:[^"]|"")*"?')

#: How the csv module's words begin → ours.
_SAID: Final = (
    ("unexpected end of data", "a quote is opened and never closed"),
    ("field larger than", "a cell is too long; is a quote never closed?"),
    ("new-line character", "a carriage return stands alone, outside quotes; end lines with LF"),
    ("'", "after a closing quote comes more text; write a quote within quotes twice"),
)


class Record(NamedTuple):
    """One row that is not blank."""

    #: Of its first line, counted from 1.
    line: int
    #: A JSON object; for what is no row, how it begins.
    data: bytes
    #: Why it is no row.
    reason: str | None
    #: Lines after the first that went with it, for a quote that is out of place: they may be rows.
    n_swallowed: int = 0


def separators_of(path: str, first: bytes | None = None) -> str | None:
    """Return what may separate a file's cells; ``None``: it holds JSON lines.

    ``first`` is the first line of what has no name, and may hold either.
    """
    if first is not None:
        return None if first.lstrip().startswith(b"{") else _ANY
    base, ending = os.path.splitext(path.lower())  # noqa: PTH122 (it may be no path)
    if ending in _PACKED:
        ending = os.path.splitext(base)[1]  # noqa: PTH122
    return _SEPARATORS.get(ending)


def records(
    lines: Iterator[bytes], separators: str, *, file: str, longest: int
) -> Iterator[Record]:
    """Yield the rows of a file's ``lines`` (without LF); ``longest``: bytes a row may have."""
    # The module's own bound is 128 KB a cell, for the whole process; ours is that of all lines.
    csv.field_size_limit(longest)
    feed = _Feed(lines, longest)
    names: list[str] | None = None
    for row in feed.rows(separators):
        if isinstance(row, Record):
            if names is None:
                raise InputError(
                    f"{file}: the heading can't be read: {row.reason}", fix="mend its first line"
                )
            yield row
            continue
        if names is None:
            names = _heading(row.cells, file)
        elif any(cell and not cell.isspace() for cell in row.cells):
            yield _record(names, row)


def _record(names: list[str], row: _Row) -> Record:
    cells = row.cells
    reason = None
    if len(cells) != len(names):
        reason = f"it has {_cells(len(cells))}, and the heading {len(names)}"
    elif "" in names and (at := _unnamed(names, cells)):
        reason = f"cell {at} stands under no heading"
    if reason is None:
        fields = {name: cell for name, cell in zip(names, cells, strict=True) if name}
        try:
            return Record(row.line, msgspec.json.encode(fields), None)
        except UnicodeEncodeError:
            reason = "not UTF-8: save the table as CSV UTF-8"
    text = row.separator.join(cells).encode("utf-8", "surrogateescape")
    return Record(row.line, text, reason + _lines(row.line, row.last))


def _lines(first: int, last: int) -> str:
    return "" if first == last else f" (lines {first} to {last})"


def _cells(n: int) -> str:
    return f"{n} cell" if n == 1 else f"{n} cells"


def _unnamed(names: list[str], cells: list[str]) -> int:
    """Return which cell has a value but no name; 0: none."""
    pairs = enumerate(zip(names, cells, strict=True), start=1)
    return next((at for at, (name, cell) in pairs if cell and not name), 0)


def _heading(cells: list[str], file: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{file}: the heading is not UTF-8", fix="save it as CSV UTF-8, or convert it: iconv"
        ) from None
    twice = next((name for name, n in Counter(names).items() if name and n > 1), None)
    if twice is not None:
        raise InputError(
            f"{file}: the heading names the column {twice!r} twice", fix="rename one of them"
        )
    return names


class _Row(NamedTuple):
    """The cells of one row, and where it stands."""

    cells: list[str]
    line: int
    last: int
    separator: str


class _TooLongError(Exception):
    """A row is longer than the bound."""


class _Feed:
    """Hands lines to the csv module, and knows where the row that it reads began."""

    def __init__(self, lines: Iterator[bytes], longest: int) -> None:
        self._lines = lines
        self._longest = longest
        self._n = 0
        self._size = 0
        self._first = b""

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        data = next(self._lines)
        self._n += 1
        self._size += len(data) + 1
        self._first = self._first or data
        if self._size > self._longest:
            raise _TooLongError
        # Undone where the row is made, which then knows that it is not UTF-8.
        return data.decode("utf-8", "surrogateescape") + "\n"

    def rows(self, separators: str) -> Iterator[_Row | Record]:
        """Yield the rows, or why there is none; empty lines left out."""
        separator = None
        try:
            heading = self._text()
            if heading is not None and (said := _SAYS_SEPARATOR.fullmatch(heading)):
                separator, heading = said[1], self._text()
        except _TooLongError:
            yield self._none(self._n, self._too_long())
            return
        if heading is None:
            return
        if separator is None:
            bare = _QUOTED.sub("", heading)
            separator = max(separators, key=bare.count)
        pending = [heading]
        reader = csv.reader(
            iter(lambda: pending.pop() if pending else next(self, None), None),
            delimiter=separator,
            strict=True,
        )
        line = self._n
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield self._none(line, _said(error))
            except _TooLongError:
                yield self._none(line, self._too_long())
                if self._n > line:
                    # A quote is open, and where it should have ended nobody knows.
                    return
            else:
                if cells:
                    yield _Row(cells, line, self._n, separator)
            self._begin()
            line = self._n + 1

    def _text(self) -> str | None:
        """Return the next line that is not blank; ``None``: there is none."""
        for line in self:
            if line.strip():
                return line
            self._begin()
        return None

    def _begin(self) -> None:
        self._size, self._first = 0, b""

    def _none(self, line: int, reason: str) -> Record:
        return Record(line, self._first[:1024], reason + _lines(line, self._n), self._n - line)

    def _too_long(self) -> str:
        return f"longer than {self._longest // 2**20} MB; is a quote never closed?"


def _said(error: csv.Error) -> str:
    text = str(error)
    return next((ours for start, ours in _SAID if text.startswith(start)), f"not CSV: {text}")
