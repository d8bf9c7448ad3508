"""Rows as an Excel workbook, row by row: numbers as numbers, all else as text that is no formula.

What a sheet can't hold goes on in the next one, under the same heading. Whole numbers of more digits
than Excel keeps are text. Imported only where a workbook is written.
"""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

from xlsxwriter import Workbook
from xlsxwriter.exceptions import XlsxWriterException

from batchrunner.errors import UsageError
from batchrunner.failpoints import hit
from batchrunner.formats.columns import Column, Parts, as_text
from batchrunner.formats.rows import Exported
from batchrunner.formats.spreadsheets import Cells

__all__ = ["write_xlsx"]

#: What a sheet holds, heading included.
_ROWS: Final = 1_048_576
_COLUMNS: Final = 16_384
#: Whole numbers from here on lose their last digits.
_EXACT: Final = 10**15

_HOW: Final = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_numbers": False,
    "strings_to_urls": False,
}


def write_xlsx(
    rows: Iterable[Exported], columns: Sequence[Column], out: BinaryIO, cells: Cells
) -> None:
    """Write rows; sheets wait in temporary files for their end. ``cells`` counts what it cuts."""
    if len(columns) > _COLUMNS:
        raise UsageError(
            f"There are {len(columns):,} columns, and a sheet of Excel holds {_COLUMNS:,}.",
            fix="Choose some with --columns, or export with -f csv.",
        )
    watched = _Watched(out)
    # A folder of our own, so that no answers are left behind where the writing breaks off.
    with tempfile.TemporaryDirectory(prefix="batchrunner-xlsx-") as folder:
        book = Workbook(watched, {**_HOW, "tmpdir": folder})
        try:
            _fill(book, rows, columns, cells)
            hit("export.rows")
            book.close()
        except (XlsxWriterException, OSError) as error:
            if watched.fault is not None:
                raise watched.fault from None
            raise UsageError(
                f"The workbook can't be written: {_why(error)}.",
                fix="Make room in the folder of temporary files (TMPDIR), or export with -f csv.",
            ) from error
        finally:
            watched.is_over = True
            _let_go(book)


class _Watched:
    """The output, which knows when it was that which took no more, and not the temporary files.

    The library's archive ends itself once it is forgotten, wherever it was broken off: what it
    writes after the end goes nowhere.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._at = 0
        #: Why it takes no more.
        self.fault: OSError | None = None
        self.is_over = False

    def write(self, data: bytes) -> int:
        with self._noted():
            if not self.is_over:
                self._out.write(data)
            self._at += len(data)
        return len(data)

    def flush(self) -> None:
        with self._noted():
            if not self.is_over:
                self._out.flush()

    def tell(self) -> int:
        with self._noted():
            self._at = self._at if self.is_over else self._out.tell()
        return self._at

    def seek(self, place: int) -> int:
        with self._noted():
            self._at = place if self.is_over else self._out.seek(place)
        return self._at

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # A pipe has no places to tell or to seek, and needs none.
            if error.errno not in (None, errno.ESPIPE):
                self.fault, self.is_over = error, True
            raise


def _why(error: Exception) -> str:
    # The library hands on what the system said as an argument of its own.
    said = next((part for part in error.args if isinstance(part, OSError)), error)
    return getattr(said, "strerror", None) or str(said)


def _let_go(book: Any) -> None:
    """Close the files of a workbook that was broken off, which the library leaves open."""
    book.fileclosed = True
    for sheet in book.worksheets():
        sheet.row_data_fh.close()


def _fill(book: Any, rows: Iterable[Exported], columns: Sequence[Column], cells: Cells) -> None:
    bold = book.add_format({"bold": True})
    sheet: Any = None
    at = _ROWS
    for row in rows:
        if at >= _ROWS:
            sheet, at = _sheet(book, columns, cells, bold), 1
        parts = Parts(row)
        for place, column in enumerate(columns):
            _write(sheet, at, place, column.value(parts), cells)
        at += 1
    if sheet is None:
        _sheet(book, columns, cells, bold)


def _sheet(book: Any, columns: Sequence[Column], cells: Cells, bold: Any) -> Any:
    sheet = book.add_worksheet()
    sheet.freeze_panes(1, 0)
    for place, column in enumerate(columns):
        sheet.write_string(0, place, cells.short(column.heading), bold)
    return sheet


def _write(sheet: Any, row: int, place: int, value: Any, cells: Cells) -> None:
    if value is None or value == "":
        return
    if isinstance(value, bool):
        sheet.write_boolean(row, place, value)
    elif isinstance(value, float) or (isinstance(value, int) and abs(value) < _EXACT):
        sheet.write_number(row, place, value)
    else:
        sheet.write_string(row, place, cells.short(as_text(value)))
