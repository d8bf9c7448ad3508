"""Reading files: what they are packed in, how lines are counted, what is said where they fail."""

from __future__ import annotations

import gzip
import io
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.errors import InputError, UsageError
from batchrunner.formats import sources
from batchrunner.formats.sources import RawLine, open_lines

TEXT = b'\xef\xbb\xbf{"a":1}\r\n\n  \n{"b":2}\n{"c":3}'


def _zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": _zst}


@pytest.mark.parametrize("ending", PACKERS)
def test_lines_and_numbers(tmp_path: Path, ending: str) -> None:
    """Blank lines are left out but counted, in the file and over the whole input."""
    path = tmp_path / f"jobs.jsonl{ending}"
    path.write_bytes(PACKERS[ending](TEXT))
    second = tmp_path / "more.jsonl"
    second.write_bytes(b"\n{}\n")
    lines = list(open_lines([str(path), str(second)]))
    assert lines == [
        RawLine(str(path), 1, 1, b'{"a":1}'),
        RawLine(str(path), 4, 4, b'{"b":2}'),
        RawLine(str(path), 5, 5, b'{"c":3}'),
        RawLine(str(second), 2, 7, b"{}"),
    ]


@pytest.mark.parametrize("ending", PACKERS)
def test_packed_standard_input_is_told_by_its_first_bytes(ending: str) -> None:
    """What comes on standard input needs no name to be unpacked, and stays open."""
    stdin = io.BytesIO(PACKERS[ending](TEXT))
    lines = list(open_lines(["-"], stdin=stdin))
    assert [line.data for line in lines] == [b'{"a":1}', b'{"b":2}', b'{"c":3}']
    assert {line.file for line in lines} == {"-"}
    assert not stdin.closed


def test_a_pipe_that_gives_byte_by_byte_is_read_whole() -> None:
    """A slow pipe loses nothing, whatever sizes it hands out."""
    reader, writer = os.pipe()

    def write() -> None:
        with os.fdopen(writer, "wb", buffering=0) as pipe:
            for byte in gzip.compress(b'{"a":1}\n{"b":2}\n'):
                pipe.write(bytes([byte]))

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reader, "rb") as stdin:
        lines = [line.data for line in open_lines(["-"], stdin=stdin)]
    thread.join()
    assert lines == [b'{"a":1}', b'{"b":2}']


@given(
    data=st.lists(st.sampled_from([b"x", b"{}", b"\n", b"\r\n", b" ", b"\xc3\xa9"])).map(b"".join),
    block=st.integers(1, 7),
)
def test_blocks_cut_anywhere(data: bytes, block: int) -> None:
    """Lines are the same wherever the blocks they came in were cut."""
    blocks = (data[at : at + block] for at in range(0, len(data), block))
    pieces = data.split(b"\n")
    if not pieces[-1]:
        pieces.pop()
    assert list(sources._lines("f", blocks)) == pieces


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_truncated_archives_are_refused(tmp_path: Path, ending: str) -> None:
    """Half an archive is an error that names the file, never a shorter input."""
    path = tmp_path / f"jobs.jsonl{ending}"
    packed = PACKERS[ending](b"\n".join(b'{"n":%d}' % n for n in range(5000)))
    path.write_bytes(packed[: len(packed) * 2 // 3])
    with pytest.raises(InputError, match=r"jobs\.jsonl.*ends too early") as caught:
        list(open_lines([str(path)]))
    assert caught.value.fix


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_damaged_archives_are_refused(tmp_path: Path, ending: str) -> None:
    """A flipped byte inside an archive is an error that names the file."""
    path = tmp_path / f"jobs.jsonl{ending}"
    packed = bytearray(PACKERS[ending](b"\n".join(b'{"n":%d}' % n for n in range(5000))))
    packed[4:40] = bytes(36)
    path.write_bytes(packed)
    with pytest.raises(InputError, match=r"jobs\.jsonl.* can't be unpacked"):
        list(open_lines([str(path)]))


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_several_frames_are_one_file(tmp_path: Path, ending: str) -> None:
    """Archives that were appended to each other are read to the end."""
    path = tmp_path / f"jobs.jsonl{ending}"
    path.write_bytes(PACKERS[ending](b"{}\n") + PACKERS[ending](b"[]\n"))
    assert [line.data for line in open_lines([str(path)])] == [b"{}", b"[]"]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_a_name_that_lies_is_said(tmp_path: Path, ending: str) -> None:
    """A plain file with an archive's ending is refused with that reason."""
    path = tmp_path / f"jobs.jsonl{ending}"
    path.write_bytes(b"{}\n")
    with pytest.raises(InputError, match="as its name says"):
        list(open_lines([str(path)]))


def test_files_are_looked_at_before_anything_is_read(tmp_path: Path) -> None:
    """A missing second file is said before a line of the first one is taken."""
    first = tmp_path / "a.jsonl"
    first.write_bytes(b"{}\n")
    with pytest.raises(InputError, match=r"b\.jsonl: there is no such file"):
        open_lines([str(first), str(tmp_path / "b.jsonl")])
    with pytest.raises(InputError, match="is a directory"):
        open_lines([str(tmp_path)])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    """A file that may not be read is named with the reason."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{}\n")
    path.chmod(0)
    with pytest.raises(InputError, match=r"a\.jsonl can't be read: Permission denied"):
        list(open_lines([str(path)]))


def test_standard_input_once() -> None:
    """Standard input can't be read twice, and that is said."""
    with pytest.raises(UsageError, match="once"):
        open_lines(["-", "-"])


def test_utf_16_is_said(tmp_path: Path) -> None:
    """A UTF-16 file is one error that says so, not one a line."""
    path = tmp_path / "a.jsonl"
    path.write_bytes("{}\n".encode("utf-16"))
    with pytest.raises(InputError, match="UTF-16"):
        list(open_lines([str(path)]))


def test_zstd_without_a_library_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can unpack zstd the error is the command that mends it."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    path = tmp_path / "jobs.zst"
    path.write_bytes(_zst(b"{}\n"))
    with pytest.raises(InputError) as caught:
        list(open_lines([str(path)]))
    assert caught.value.fix == "pip install 'batchrunner[zstd]'"


@pytest.mark.parametrize("ending", PACKERS)
def test_an_endless_line_takes_no_memory(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line over the bound comes out cut one byte above it, and the next line is whole."""
    monkeypatch.setattr(sources, "MAX_LINE", 100_000)
    path = tmp_path / f"jobs.jsonl{ending}"
    path.write_bytes(PACKERS[ending](b"x" * 3_000_000 + b"\n{}\n"))
    lines = list(open_lines([str(path)]))
    assert [len(line.data) for line in lines] == [100_001, 2]
    assert lines[1].line == 2
