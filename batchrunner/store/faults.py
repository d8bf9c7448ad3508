"""What SQLite's and the file system's errors mean for a person.

The one place where ``sqlite3``, SQLAlchemy and ``OSError`` are turned into
:class:`~batchrunner.errors.DatabaseError`. A broken constraint is left alone: it is the caller's
subject (a duplicate key) or a defect.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from sqlalchemy.exc import DBAPIError

from batchrunner.errors import DatabaseError

__all__ = ["DiskFullError", "database_error", "translated"]


class DiskFullError(DatabaseError):
    """The disk or the quota is full; the transaction was rolled back."""

    default_kind = "disk_full"


class _Meaning(NamedTuple):
    error: type[DatabaseError]
    what: str
    fix: str


_LOCKED: Final = _Meaning(
    DatabaseError,
    "is locked by another kind of program",
    "Close the program that has it open (an SQLite browser, a backup tool) and try again.",
)
_READ_ONLY: Final = _Meaning(
    DatabaseError,
    "can't be written",
    "Make the file and its directory writable, or choose another place with --db.",
)
_CANT_OPEN: Final = _Meaning(
    DatabaseError,
    "can't be opened",
    "Look at the permissions of the file and of its directory: both must be writable.",
)
_DAMAGED: Final = _Meaning(
    DatabaseError,
    "is damaged",
    "Run `batchrunner db check`, and go back to a backup if it finds problems.",
)
_FULL: Final = _Meaning(
    DiskFullError,
    "can't grow: the disk is full",
    "Free some space and give the same command again; everything committed is safe.",
)
_IO: Final = _Meaning(
    DatabaseError,
    "can't be read or written: the disk reports an error",
    "Look at the disk's health (its lines in `dmesg`, `smartctl -H`); where it is sound again give the"
    " same command. What was committed before stays: `batchrunner db check`.",
)
_TOO_MANY: Final = _Meaning(
    DatabaseError,
    "can't be opened: this process has as many files open as it may",
    "Allow more (`ulimit -n 1024`), then give the same command again.",
)

#: Primary result codes of SQLite (https://sqlite.org/rescode.html).
_BY_CODE: Final = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: _CANT_OPEN,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _Meaning(
        DatabaseError, "is not a batchrunner database", "Choose another file with --db."
    ),
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: _IO,
}

_BY_ERRNO: Final = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _CANT_OPEN,
    errno.EPERM: _CANT_OPEN,
    errno.ENOENT: _Meaning(
        DatabaseError,
        "can't be created: its directory does not exist",
        "Make the directory, or choose another place with --db.",
    ),
    errno.ENOTDIR: _CANT_OPEN,
    errno.EMFILE: _TOO_MANY,
    errno.ENFILE: _TOO_MANY,
    errno.EFBIG: _FULL,
}


def database_error(error: BaseException, path: Path) -> DatabaseError | None:
    """Return the error to raise for a driver's or the system's; ``None``: not the database's fault."""
    if isinstance(error, DBAPIError):
        error = error.orig or error
    if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
        return None
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", 0)
        meaning = _BY_CODE.get(code & 0xFF)
        if meaning is _CANT_OPEN and _no_file_is_left():
            # SQLite keeps the system's reason to itself.
            meaning = _TOO_MANY
    elif isinstance(error, OSError):
        meaning = _BY_ERRNO.get(error.errno or 0, _IO)
    else:
        return None
    if meaning is None:
        # SQLITE_ERROR is a wrong statement, and so a defect; it must not look like a sick disk.
        return None
    return meaning.error(f"The database {path} {meaning.what} ({error}).", fix=meaning.fix)


def _no_file_is_left() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    return False


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the errors of a block into :class:`DatabaseError`; others pass as they are."""
    try:
        yield
    except (sqlite3.Error, DBAPIError, OSError) as error:
        translation = database_error(error, path)
        if translation is None:
            raise
        raise translation from error
