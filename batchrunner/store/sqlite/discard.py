"""Takes a database away again that was made for a call which stored nothing in it.

Only where nothing is lost: no run, no account, no other process on it. A process that has opened
the file and not yet said so finds it gone, and makes it anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from batchrunner.store.driver import driver
from batchrunner.store.faults import translated
from batchrunner.store.sqlite.connecting import write_lock
from batchrunner.store.sqlite.database import FileDatabase
from batchrunner.store.sqlite.locks import FileLock, process_lock_files, sender_lock_path

__all__ = ["discard_unused"]

#: A row in one of these is something that somebody would miss.
_TABLES: Final = ("run", "process", "scope")
#: SQLite's own files; the database goes last, as what names the others.
_ENDINGS: Final = ("-wal", "-shm", "")


def discard_unused(db: FileDatabase) -> bool:
    """Remove the database's files if nothing was stored in it and nobody is on it; return whether."""
    lock = FileLock(sender_lock_path(db.path))
    with translated(db.path):
        if not lock.try_acquire():
            return False
        try:
            with write_lock(db.path):
                if list(process_lock_files(db.path)) or _holds_anything(db):
                    return False
                for ending in _ENDINGS:
                    Path(f"{db.path}{ending}").unlink(missing_ok=True)
                return True
        finally:
            lock.release(unlink=True)


def _holds_anything(db: FileDatabase) -> bool:
    with db.read() as connection:
        conn = driver(connection)
        return any(
            conn.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()  # noqa: S608 (constants)
            for table in _TABLES
        )
