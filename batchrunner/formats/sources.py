"""Bytes of job files, line by line or row by row: plain, gzip, zstd, or standard input.

Blank lines are skipped but counted, a byte order mark and CR before LF are taken off. What a file
holds is told by its first bytes, so that a compressed stream on standard input works too. A file
that can't be read or unpacked raises :class:`~batchrunner.errors.InputError`, naming the file, why,
and what to do. A single line is held to :data:`MAX_LINE` bytes: what is longer comes out cut at one
byte more, which a reader takes for a fault, so that no input can take all memory. CSV and TSV are
told by their endings, and come out as the JSON lines that say the same (:mod:`.tables`).
"""

from __future__ import annotations

import gzip
import importlib
import io
import os
import select
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

from batchrunner.errors import InputError, UsageError
from batchrunner.formats.tables import records, separators_of

__all__ = ["MAX_LINE", "STDIN", "RawLine", "open_lines"]

#: The path that stands for standard input.
STDIN: Final = "-"
#: The longest line that is read, in bytes.
MAX_LINE: Final = 64 * 1024 * 1024

_BLOCK: Final = 1024 * 1024
#: zstd can unpack 128 KB from a few bytes, and hands out all at once what one piece gives.
_ZSTD_PIECE: Final = 1024

#: How often it is looked whether to go on where nothing comes, in seconds.
_TICK_S: Final = 0.1

_BOM: Final = b"\xef\xbb\xbf"
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_HEAD: Final = 4


class RawLine(NamedTuple):
    """One line that is not blank."""

    #: The path as it was given; ``-`` for standard input.
    file: str
    #: Counted from 1 within ``file``, blank lines included.
    line: int
    #: Counted from 1 over the whole input, blank lines included.
    overall: int
    #: Without line end and byte order mark; of CSV and TSV the row as JSON.
    data: bytes
    #: Whether it is data to make a prompt of.
    is_row: bool = False
    #: Why it can become no job, where that is known already.
    reason: str | None = None
    #: Lines after it that went with it and may be rows of their own.
    n_swallowed: int = 0


def _go_on() -> None:
    """Let the reading go on."""


def open_lines(
    paths: Sequence[str],
    *,
    stdin: BinaryIO | None = None,
    tick: Callable[[], None] = _go_on,
    are_rows: bool = False,
) -> Iterator[RawLine]:
    """Return the lines of all ``paths``, one after the other.

    Whether each file is there is looked at before the first line is read. ``tick`` is called for
    each block and while nothing comes; what it raises ends the reading. ``are_rows``: JSON lines
    are data to make prompts of, too, and standard input may be CSV.

    Raises :class:`~batchrunner.errors.InputError`, also while iterating, where a file can't be
    read or unpacked, and :class:`~batchrunner.errors.UsageError` where ``-`` is named twice.
    """
    if list(paths).count(STDIN) > 1:
        raise UsageError("standard input (-) can be read once", fix="name - once")
    for path in paths:
        if path != STDIN:
            _look_at(path)
    return _lines_of_all(paths, stdin, tick, are_rows)


def _look_at(path: str) -> None:
    try:
        if Path(path).is_dir():
            raise InputError(f"{path} is a directory", fix="name the files in it")
        Path(path).stat()
    except FileNotFoundError:
        raise InputError(
            f"{path}: there is no such file", fix="check the path; - reads standard input"
        ) from None
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"{path} can't be read: {reason}", fix="check its permissions")


def _lines_of_all(
    paths: Sequence[str], stdin: BinaryIO | None, tick: Callable[[], None], are_rows: bool
) -> Iterator[RawLine]:
    before = 0
    for path in paths:
        separators, whole = _told(path, _lines(path, _blocks(path, stdin, tick)), are_rows)
        lines = _Counted(whole)
        if separators is None:
            for line in lines:
                data = _cut(line)
                if data and not data.isspace():
                    yield RawLine(path, lines.n, before + lines.n, data, are_rows)
        else:
            for record in records(lines, separators, file=path, longest=MAX_LINE):
                yield RawLine(
                    path, record.line, before + record.line, record.data, True, record.reason,
                    record.n_swallowed,
                )  # fmt: skip
        before += lines.n


class _Counted:
    """Lines, and how many there were so far."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self.n = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = next(self._lines)
        self.n += 1
        return line


def _told(path: str, lines: Iterator[bytes], are_rows: bool) -> tuple[str | None, Iterator[bytes]]:
    """Return what separates a file's cells (``None``: JSON lines), and its lines, none lost."""
    if path != STDIN or not are_rows:
        return separators_of(path), lines
    # What is blank is counted, not kept: there may be any number.
    n_blank, first = 0, b""
    for first in lines:
        if first and not first.isspace():
            break
        n_blank, first = n_blank + 1, b""  # noqa: PLW2901
    head = [first] if first else []
    return separators_of(path, first), chain(repeat(b"", n_blank), head, lines)


def _lines(path: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Cut blocks into lines; the parts of an unfinished one wait, bounded, for its end."""
    parts: list[bytes] = []
    waiting = 0
    first = True
    for block in blocks:
        if first:
            first = False
            if block.startswith(_UTF_16):
                raise InputError(
                    f"{path} is UTF-16, not UTF-8", fix="convert it: iconv -f UTF-16 -t UTF-8"
                )
            block = block.removeprefix(_BOM)  # noqa: PLW2901
        head, *rest = block.split(b"\n")
        if waiting <= MAX_LINE:
            parts.append(head)
            waiting += len(head)
        if not rest:
            continue
        yield b"".join(parts)
        *whole, tail = rest
        yield from whole
        parts, waiting = [tail], len(tail)
    if waiting:
        yield b"".join(parts)


def _cut(data: bytes) -> bytes:
    return data.removesuffix(b"\r")[: MAX_LINE + 1]


def _blocks(path: str, stdin: BinaryIO | None, tick: Callable[[], None]) -> Iterator[bytes]:
    """Yield a file's unpacked bytes; every fault of reading becomes an InputError here."""
    try:
        if path == STDIN:
            yield from _ticking(path, stdin or sys.stdin.buffer, tick)
        else:
            with Path(path).open("rb") as file:
                yield from _ticking(path, file, tick)
    except EOFError as error:
        raise _damaged(path, "it ends too early") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(path, str(error)) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _ticking(path: str, file: BinaryIO, tick: Callable[[], None]) -> Iterator[bytes]:
    # A few bytes of an archive may unpack to hours of blank lines, so that each block counts.
    for block in _unpacked(path, io.BufferedReader(_Ticking(file, tick), _BLOCK)):
        tick()
        yield block


def _damaged(path: str, why: str) -> InputError:
    return InputError(
        f"{path} can't be unpacked: {why}", fix="make it again, or submit the unpacked file"
    )


def _unpacked(path: str, file: BinaryIO) -> Iterator[bytes]:
    head = file.read(_HEAD)
    # A byte order mark is one byte short of the head, so that it never straddles two blocks.
    whole = io.BufferedReader(_Rejoined(head, file), _BLOCK)
    if head.startswith(_GZIP):
        with gzip.GzipFile(fileobj=whole) as unzipped:
            yield from iter(lambda: unzipped.read(_BLOCK), b"")
    elif head.startswith(_ZSTD):
        yield from _zstd_blocks(path, whole)
    elif path.endswith((".gz", ".zst")):
        raise InputError(
            f"{path} is not a {'gzip' if path.endswith('.gz') else 'zstd'} file, as its name says",
            fix="rename it if it is plain text, or make it again",
        )
    else:
        yield from iter(lambda: whole.read(_BLOCK), b"")


def _zstd_blocks(path: str, file: BinaryIO) -> Iterator[bytes]:
    new_frame, faults = _zstd(path)
    frame = new_frame()
    # Checked at the end: the library itself says nothing about a frame that stops half-way.
    ended = False
    out: list[bytes] = []
    size = 0
    try:
        while piece := file.read(_ZSTD_PIECE):
            while piece:
                if ended:
                    frame, ended = new_frame(), False
                data = frame.decompress(piece)
                ended = frame.eof
                piece = frame.unused_data if ended else b""
                out.append(data)
                size += len(data)
            if size >= _BLOCK:
                yield b"".join(out)
                out, size = [], 0
    except faults as error:
        raise _damaged(path, str(error)) from error
    if not ended:
        raise EOFError
    if size:
        yield b"".join(out)


def _zstd(path: str) -> tuple[Callable[[], Any], type[Exception]]:
    """Return a maker of frame readers, and what they raise, from the library that is there."""
    # Both are looked up by name: neither is there on every Python.
    try:
        if sys.version_info >= (3, 14):
            own = importlib.import_module("compression.zstd")
            return own.ZstdDecompressor, own.ZstdError
        library = importlib.import_module("zstandard")
    except ImportError:
        raise InputError(
            f"{path} is packed with zstd, which this installation can't unpack",
            fix="pip install 'batchrunner[zstd]'",
        ) from None
    return library.ZstdDecompressor().decompressobj, library.ZstdError


class _Ticking(io.RawIOBase):
    """A stream that calls ``tick`` while it waits: nobody may type on, and Ctrl-C must be seen."""

    def __init__(self, file: BinaryIO, tick: Callable[[], None]) -> None:
        super().__init__()
        self._file = file
        self._tick = tick
        try:
            self._descriptor: int | None = file.fileno()
        except (OSError, AttributeError):
            self._descriptor = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._tick()
        if self._descriptor is None:
            data = self._file.read(len(buffer))
            buffer[: len(data)] = data
            return len(data)
        while not select.select([self._descriptor], [], [], _TICK_S)[0]:
            self._tick()
        return os.readv(self._descriptor, [buffer])


class _Rejoined(io.RawIOBase):
    """A stream whose first bytes were read to see what it is; leaves ``rest`` open."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        super().__init__()
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._head or self._rest.read(len(buffer))
        self._head = b""
        buffer[: len(data)] = data
        return len(data)
