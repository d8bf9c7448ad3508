"""A database file that a copy is put into: under another name until it is whole."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from batchrunner.errors import UsageError
from batchrunner.store.faults import translated
from batchrunner.store.schema import Standing
from batchrunner.store.sqlite.building import (
    build,
    check_sqlite,
    refuse_network,
    refuse_no_folder,
    standing_of,
    sync,
)
from batchrunner.store.sqlite.database import FileDatabase
from batchrunner.store.sqlite.discard import discard_unused
from batchrunner.store.sqlite.locks import FileLock

__all__ = ["receiving_file"]

#: The file is nobody's until it has its name, and thrown away where it does not get it: no journal,
#: no waiting for the disk but at the end. The rest is as for any database.
_PRAGMAS: Final = ("journal_mode = OFF", "synchronous = OFF", "cache_size = -32768")
#: What may lie there of a copy that was broken off.
_ENDINGS: Final = ("", "-journal", "-wal", "-shm")


@contextmanager
def receiving_file(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection to a new file, which gets the name ``path`` at the end of the context."""
    check_sqlite()
    path = Path(os.path.abspath(path))  # noqa: PTH100 -- a link must not be followed
    partial = path.with_name(f"{path.name}.copy.partial")
    lock = FileLock(path.with_name(f"{path.name}.copy.partial-lock"))
    with translated(path):
        refuse_no_folder(path)
        refuse_network(path)
        if not lock.try_acquire():
            raise UsageError(
                f"Another process is just copying to {path}.", fix="Name another file."
            )
        try:
            _refuse_used(path)
            _remove(partial)
            build(partial)
            connection = sqlite3.connect(partial, isolation_level=None)
            try:
                for pragma in _PRAGMAS:
                    connection.execute(f"PRAGMA {pragma}")
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            finally:
                connection.close()
            sync(partial)
            try:
                # A link fails where the name was taken meanwhile; a rename would replace it.
                os.link(partial, path)
            except FileExistsError as error:
                raise _used(path) from error
            sync(path.parent)
        finally:
            with suppress(OSError):
                _remove(partial)
            lock.release(unlink=True)


def _refuse_used(path: Path) -> None:
    """Take an empty database away; refuse one that holds anything, and any other file."""
    if not os.path.lexists(path):
        return
    if path.is_symlink() or not path.is_file():
        raise _used(path)
    if path.stat().st_size:
        try:
            is_free = standing_of(path) is Standing.CURRENT and discard_unused(FileDatabase(path))
        except sqlite3.DatabaseError:
            is_free = False
        if not is_free:
            raise _used(path)
    path.unlink(missing_ok=True)


def _used(path: Path) -> UsageError:
    return UsageError(
        f"{path} exists, and a copy never overwrites.", fix="Name a file that does not exist yet."
    )


def _remove(partial: Path) -> None:
    for ending in _ENDINGS:
        partial.with_name(f"{partial.name}{ending}").unlink(missing_ok=True)
