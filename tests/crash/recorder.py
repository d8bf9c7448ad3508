"""Everything SQLite writes and syncs, in order: ``python -m tests.crash.recorder TRACE BYTES WORDS…``.

Runs batchrunner with a VFS of its own in front of SQLite's: files behave as ever, and each write,
truncation, sync and deletion becomes a record of ``TRACE``. Whoever plays the trace back up to some
record has what the disk was told by then, and knows which of it was only told, not promised.

The holder empties its log once that has ``BYTES``, so that a short run does it in its middle too.
It needs SQLite as a shared library, since it takes the functions from there (:data:`LIBRARY`).
"""

from __future__ import annotations

import ctypes
import os
import sqlite3
import struct
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

__all__ = ["LIBRARY", "Record", "records"]


class Record(NamedTuple):
    """One thing that the disk was told."""

    #: ``write``, ``truncate``, ``sync``, ``delete``; ``mark`` is a named point of the program.
    what: str
    #: ``time.monotonic`` at its end.
    at: float
    #: The file's name without its folder; a mark's own.
    name: str
    #: Where it is written, or the size that is left; of a deletion, whether the folder was synced.
    offset: int
    content: bytes


_HEAD: Final = struct.Struct("<BdqHI")
_WHAT: Final = ("write", "truncate", "sync", "delete", "mark")


def records(trace: Path) -> Iterator[Record]:
    """Read a trace; a last record that is cut off was never made."""
    blob = trace.read_bytes()
    at = 0
    while at + _HEAD.size <= len(blob):
        what, when, offset, n_name, n_content = _HEAD.unpack_from(blob, at)
        at += _HEAD.size
        name = blob[at : at + n_name].decode()
        content = blob[at + n_name : at + n_name + n_content]
        at += n_name + n_content
        if at <= len(blob):
            yield Record(_WHAT[what], when, name, offset, content)


def _loaded() -> str | None:
    """Return the path of the SQLite library that Python uses; ``None`` where it has its own inside."""
    sqlite3.sqlite_version  # noqa: B018 (loaded by the import)
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    paths = {line.split()[-1] for line in lines if "libsqlite3" in line}
    return min(paths, default=None)


#: Where SQLite's functions are; ``None`` where nothing can be recorded.
LIBRARY: Final = _loaded()

_File = ctypes.c_void_p
_WRITE = ctypes.CFUNCTYPE(ctypes.c_int, _File, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_TRUNCATE = ctypes.CFUNCTYPE(ctypes.c_int, _File, ctypes.c_int64)
_SYNC = ctypes.CFUNCTYPE(ctypes.c_int, _File, ctypes.c_int)
_OPEN = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, _File, ctypes.c_int, ctypes.c_void_p
)
_DELETE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)


class _Methods(ctypes.Structure):
    """``sqlite3_io_methods``, up to its third version."""

    _fields_ = [
        ("iVersion", ctypes.c_int),
        *((name, ctypes.c_void_p) for name in (
            "xClose", "xRead", "xWrite", "xTruncate", "xSync", "xFileSize", "xLock", "xUnlock",
            "xCheckReservedLock", "xFileControl", "xSectorSize", "xDeviceCharacteristics",
            "xShmMap", "xShmLock", "xShmBarrier", "xShmUnmap", "xFetch", "xUnfetch",
        )),
    ]  # fmt: skip


class _Vfs(ctypes.Structure):
    """``sqlite3_vfs``, up to its third version."""

    _fields_ = [
        ("iVersion", ctypes.c_int), ("szOsFile", ctypes.c_int), ("mxPathname", ctypes.c_int),
        ("pNext", ctypes.c_void_p), ("zName", ctypes.c_char_p), ("pAppData", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in (
            "xOpen", "xDelete", "xAccess", "xFullPathname", "xDlOpen", "xDlError", "xDlSym",
            "xDlClose", "xRandomness", "xSleep", "xCurrentTime", "xGetLastError",
            "xCurrentTimeInt64", "xSetSystemCall", "xGetSystemCall", "xNextSystemCall",
        )),
    ]  # fmt: skip


class _Recorder:
    """SQLite's own VFS with a pen: same files, same locks, and a record of what is written."""

    def __init__(self, trace: Path) -> None:
        assert LIBRARY is not None
        self._library = ctypes.CDLL(LIBRARY)
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        #: Names of open files by the address of their ``sqlite3_file``.
        self._names: dict[int, str] = {}
        #: Methods by the address of those they stand before.
        self._methods: dict[int, _Methods] = {}
        self._kept: list[Any] = []

    def install(self) -> None:
        """Become the way every later connection of this process reaches its files."""
        find = self._library.sqlite3_vfs_find
        find.restype = ctypes.POINTER(_Vfs)
        own = find(None).contents
        mine = _Vfs.from_buffer_copy(own)
        mine.pNext = None
        mine.zName = b"recorded"
        opened, deleted = _OPEN(own.xOpen), _DELETE(own.xDelete)

        def on_open(vfs: int, path: int, file: int, flags: int, out: int) -> int:
            code = opened(vfs, path, file, flags, out)
            if code == 0 and path:
                # An address is used again: the latest file has it.
                self._names[file] = Path(os.fsdecode(ctypes.string_at(path))).name
                slot = ctypes.c_void_p.from_address(file)
                if slot.value is not None:
                    slot.value = ctypes.addressof(self._watched(slot.value))
            return code

        def on_delete(vfs: int, path: bytes, sync_folder: int) -> int:
            code = deleted(vfs, path, sync_folder)
            if code == 0:
                self.put("delete", Path(os.fsdecode(path)).name, sync_folder)
            return code

        mine.xOpen = self._pointer(_OPEN(on_open))
        mine.xDelete = self._pointer(_DELETE(on_delete))
        self._kept.append(mine)
        if self._library.sqlite3_vfs_register(ctypes.byref(mine), 1) != 0:
            raise RuntimeError("SQLite took no VFS")

    def put(self, what: str, name: str, offset: int = 0, content: bytes = b"") -> None:
        """Append a record, whole or not at all."""
        tag = name.encode()
        head = _HEAD.pack(_WHAT.index(what), time.monotonic(), offset, len(tag), len(content))
        os.write(self._trace, head + tag + content)

    def _watched(self, methods: int) -> _Methods:
        """Return methods that do what those at this address do, and note it."""
        if (found := self._methods.get(methods)) is not None:
            return found
        own = _Methods.from_address(methods)
        mine = _Methods.from_buffer_copy(own)
        written, cut, synced = _WRITE(own.xWrite), _TRUNCATE(own.xTruncate), _SYNC(own.xSync)

        def on_write(file: int, data: int, n: int, offset: int) -> int:
            code = written(file, data, n, offset)
            self.put("write", self._names[file], offset, ctypes.string_at(data, n))
            return code

        def on_truncate(file: int, size: int) -> int:
            code = cut(file, size)
            self.put("truncate", self._names[file], size)
            return code

        def on_sync(file: int, flags: int) -> int:
            code = synced(file, flags)
            if code == 0:
                self.put("sync", self._names[file])
            return code

        mine.xWrite = self._pointer(_WRITE(on_write))
        mine.xTruncate = self._pointer(_TRUNCATE(on_truncate))
        mine.xSync = self._pointer(_SYNC(on_sync))
        self._methods[methods] = mine
        return mine

    def _pointer(self, function: Any) -> int | None:
        """Return a callback's address, and keep it alive."""
        self._kept.append(function)
        return ctypes.cast(function, ctypes.c_void_p).value


def _marking(put: Callable[[str, str], None]) -> None:
    """Have each named point of the program be a record as well."""
    from batchrunner import failpoints  # noqa: PLC0415 (the files come first)

    # Before any module takes its name from there.
    vars(failpoints)["hit"] = lambda name: put("mark", name)


def main() -> None:
    """Record a command."""
    trace, log_bytes, *words = sys.argv[1:]
    recorder = _Recorder(Path(trace))
    recorder.install()
    _marking(recorder.put)
    from batchrunner.__main__ import main as program  # noqa: PLC0415
    from batchrunner.engine import holder  # noqa: PLC0415 (after the marks are in place)

    vars(holder)["CHECKPOINT_BYTES"] = int(log_bytes)
    sys.argv = ["batchrunner", *words]
    program()


if __name__ == "__main__":
    main()
