"""Rewriting a database without its gaps, what that takes, and which copies of it are known.

SQLite writes the file anew into a temporary one, and from there into the log; only then is it cut.
The temporary file lies beside the database, so that one disk needs the room and nothing of a
request is written elsewhere; SQLite unlinks it as soon as it is open.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from batchrunner.store.database import Database, WriteSession, write_lock
from batchrunner.store.faults import DiskFullError, translated
from batchrunner.store.runs import driver
from batchrunner.store.schema import APPLICATION_ID

__all__ = ["copies", "log_size", "refuse_full", "remember_copy", "shrink"]

#: Where SQLite makes temporary files.
_VARIABLE: Final = "SQLITE_TMPDIR"
#: How long a reader is waited for; everybody else waits meanwhile.
_READER_MS: Final = 2_000
#: Room beside what is computed: the log's frames, the pages of a chunk.
_SLACK: Final = 1024 * 1024
#: How every SQLite file begins, and where its application id stands.
_MAGIC: Final = b"SQLite format 3\x00"
_ID_AT: Final = slice(68, 72)
_MB: Final = 1024 * 1024
#: Prefix in ``meta`` of the copies that were made elsewhere.
_COPY: Final = "copy."


def log_size(log: Path) -> int:
    """Return how large the log is, in bytes."""
    try:
        return log.stat().st_size
    except FileNotFoundError:
        return 0


def refuse_full(session: WriteSession, path: Path, *, n_doomed: int) -> None:
    """Raise :class:`DiskFullError` where the file can't be rewritten without ``n_doomed`` bytes.

    It is there three times for a moment: as it was, in the temporary file, and in the log.
    """
    conn = session.driver()
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


def shrink(session: WriteSession, path: Path) -> bool:
    """Rewrite the file without gaps; return whether it is cut.

    It is not where another program goes on reading it: what that one sees must stay.
    """
    conn = session.driver()
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


def remember_copy(db: Database, path: Path, *, now_ms: int) -> None:
    """Note that a copy was made there, so that a prune can name it."""
    with db.write() as connection:
        driver(connection).execute(
            "INSERT INTO meta (key, value) VALUES (?, ?)"
            " ON CONFLICT DO UPDATE SET value = excluded.value",
            (f"{_COPY}{path}", str(now_ms)),
        )


def copies(db: Database, uids: Collection[str]) -> list[Path]:
    """Return the copies of the database that still have one of these runs.

    Known are those beside it, whoever made them, and those that ``db backup`` made anywhere.
    """
    with db.read() as connection:
        noted = connection.exec_driver_sql(
            "SELECT substr(key, ?) FROM meta WHERE substr(key, 1, ?) = ?",
            (len(_COPY) + 1, len(_COPY), _COPY),
        ).scalars()
        known = {Path(path) for path in noted}
    known.update(db.path.parent.iterdir())
    return sorted(path for path in known - {db.path} if _is_ours(path) and _has_any(path, uids))


def _is_ours(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(100)
    except OSError:
        return False
    return head.startswith(_MAGIC) and int.from_bytes(head[_ID_AT]) == APPLICATION_ID


def _has_any(path: Path, uids: Collection[str]) -> bool:
    """Tell whether a copy has one of the runs; one that can't be read may have."""
    # Not a lock is taken on it, nor a file made beside it.
    with contextlib.closing(
        sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)
    ) as connection:
        try:
            rows = connection.execute("SELECT uid FROM run")
            return any(uid in uids for (uid,) in rows)
        except sqlite3.Error:
            return True
