"""A disk that fails SQLite at the n-th call: the same files and locks, and now and then an error.

It stands before SQLite's own VFS like :mod:`tests.crash.recorder` does, and needs SQLite as a shared
library too (``tests.crash.recorder.LIBRARY``). What it counts are the calls of one sort; those of
other sorts, and of other files, pass.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.crash.recorder import _OPEN, _SYNC, _TRUNCATE, _WRITE, LIBRARY, _Methods, _Vfs

__all__ = ["CODES", "Sickness", "install"]

#: What SQLite is told (https://sqlite.org/rescode.html), by what it asked for and what is wrong.
CODES: Final = {
    ("read", "io"): 266,
    ("write", "io"): 778,
    ("write", "full"): 13,
    ("sync", "io"): 1034,
    ("truncate", "io"): 1546,
    ("open", "io"): 14,
}
_READ: Final = _WRITE
#: The method that each sort of call is, and its signature.
_SORTS: Final = {
    "read": ("xRead", _READ),
    "write": ("xWrite", _WRITE),
    "truncate": ("xTruncate", _TRUNCATE),
    "sync": ("xSync", _SYNC),
}


class Sickness(NamedTuple):
    """Which calls fail, and how."""

    #: ``read``, ``write``, ``sync``, ``truncate``, ``open``.
    what: str
    #: ``io`` or ``full``.
    how: str
    #: The first call that fails, from 1.
    first: int
    #: How many fail from there on.
    times: int
    #: Only files with this ending count.
    ending: str = ""
    #: Fails only once this file is there, if one is named.
    when: str = ""
    #: Where the first failure is noted, so that a test knows that there was one.
    noted: str = ""


class _Disk:
    def __init__(self, sickness: Sickness) -> None:
        assert LIBRARY is not None
        self._library = ctypes.CDLL(LIBRARY)
        self._sickness = sickness
        self._n = 0
        self._names: dict[int, str] = {}
        self._methods: dict[int, _Methods] = {}
        self._kept: list[Any] = []

    def _fails(self, name: str) -> bool:
        """Count a call on a file; return whether it fails."""
        sickness = self._sickness
        if not name.endswith(sickness.ending):
            return False
        if sickness.when and not Path(sickness.when).exists():
            return False
        self._n += 1
        fails = sickness.first <= self._n < sickness.first + sickness.times
        if fails and sickness.noted:
            Path(sickness.noted).touch()
        return fails

    def install(self) -> None:
        """Become the way every later connection of this process reaches its files."""
        find = self._library.sqlite3_vfs_find
        find.restype = ctypes.POINTER(_Vfs)
        own = find(None).contents
        mine = _Vfs.from_buffer_copy(own)
        mine.pNext = None
        mine.zName = b"sick"
        opened = _OPEN(own.xOpen)

        def on_open(vfs: int, path: int, file: int, flags: int, out: int) -> int:
            name = Path(os.fsdecode(ctypes.string_at(path))).name if path else ""
            if self._sickness.what == "open" and path and self._fails(name):
                ctypes.c_void_p.from_address(file).value = None
                return CODES["open", self._sickness.how]
            code = opened(vfs, path, file, flags, out)
            if code == 0 and path:
                self._names[file] = name
                slot = ctypes.c_void_p.from_address(file)
                if slot.value is not None:
                    slot.value = ctypes.addressof(self._sick(slot.value))
            return code

        mine.xOpen = self._pointer(_OPEN(on_open))
        self._kept.append(mine)
        if self._library.sqlite3_vfs_register(ctypes.byref(mine), 1) != 0:
            raise RuntimeError("SQLite took no VFS")

    def _sick(self, methods: int) -> _Methods:
        """Return methods that do what those at this address do, or fail."""
        if (found := self._methods.get(methods)) is not None:
            return found
        mine = _Methods.from_buffer_copy(_Methods.from_address(methods))
        self._methods[methods] = mine
        if (sort := _SORTS.get(self._sickness.what)) is not None:
            name, signature = sort
            whole = signature(getattr(_Methods.from_address(methods), name))
            code = CODES[self._sickness.what, self._sickness.how]

            def called(file: int, *rest: Any) -> int:
                return code if self._fails(self._names[file]) else whole(file, *rest)

            setattr(mine, name, self._pointer(signature(called)))
        return mine

    def _pointer(self, function: Callable[..., Any]) -> int | None:
        """Return a callback's address, and keep it alive."""
        self._kept.append(function)
        return ctypes.cast(function, ctypes.c_void_p).value  # type: ignore[arg-type]


_installed: list[_Disk] = []


def install(sickness: Sickness) -> None:
    """Make this process's disk sick."""
    disk = _Disk(sickness)
    disk.install()
    _installed.append(disk)
