"""Rewriting a database without its gaps, and what that takes.

SQLite writes the file anew into a temporary one, and from there into the log; only then is it cut.
The temporary file lies beside the database, so that one disk needs the room and nothing of a
request is written elsewhere; SQLite unlinks it as soon as it is open.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from batchrunner.store.faults import DiskFullError, translated
from batchrunner.store.sqlite.connecting import write_lock

__all__ = ["log_size", "refuse_full", "shrink"]

#: Where SQLite makes temporary files.
_VARIABLE: Final = "SQLITE_TMPDIR"
#: How long a reader is waited for; everybody else waits meanwhile.
_READER_MS: Final = 2_000
#: Room beside what is computed: the log's frames, the pages of a chunk.
_SLACK: Final = 1024 * 1024
_MB: Final = 1024 * 1024


def log_size(log: Path) -> int:
    """Return how large the log is, in bytes."""
    try:
        return log.stat().st_size
    except FileNotFoundError:
        return 0


def refuse_full(conn: sqlite3.Connection, path: Path, *, n_doomed: int) -> None:
    """Raise :class:`DiskFullError` where the file can't be rewritten without ``n_doomed`` bytes.

    It is there three times for a moment: as it was, in the temporary file, and in the log.
    """
    pages, gaps, size = (
        conn.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    needed = 2 * max(0, (pages - gaps) * size - n_doomed) + _SLACK
    free = shutil.disk_usage(path.parent).free
    if free < needed:
        raise DiskFullError(
            f"Pruning {path} takes {needed // _MB:,} MB of its disk for a while, and"
            f" {free // _MB:,} MB are free; nothing was pruned.",
            fix="Free some space; or copy the database to a larger disk with"
            " `batchrunner db backup FILE`, and prune the copy with --db FILE.",
        )


def shrink(conn: sqlite3.Connection, path: Path) -> bool:
    """Rewrite the file without gaps; return whether it is cut.

    It is not where another program goes on reading it: what that one sees must stay.
    """
    with translated(path), write_lock(path), _temporary_files_in(path.parent):
        # First what was overwritten reaches the file: its end is given back to the disk as it is.
        conn.execute(f"PRAGMA busy_timeout = {_READER_MS}")
        if not _empty_log(conn):
            return False
        conn.execute("PRAGMA temp_store = FILE")
        conn.execute("VACUUM")
        return _empty_log(conn)


def _empty_log(conn: sqlite3.Connection) -> bool:
    (busy, _, _) = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy


@contextlib.contextmanager
def _temporary_files_in(folder: Path) -> Iterator[None]:
    """Have SQLite make its temporary files there."""
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = os.fspath(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = before
