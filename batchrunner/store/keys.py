"""Keys of an input that is not stored: which of them were seen, and where.

They are kept in a temporary file of their own, which is gone with its connection, so that an input
may be larger than memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from batchrunner.models import JobLine, LineFault

__all__ = ["SeenKeys"]


class SeenKeys:
    """The keys of one input; use :meth:`opened`."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        """Take the connection to keep them in."""
        self._conn = conn
        conn.execute("CREATE TABLE seen (key TEXT PRIMARY KEY, file TEXT, line INT) WITHOUT ROWID")

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[SeenKeys]:
        """Keep keys while the context lasts."""
        # No name: a file in the system's temporary folder, made once memory is too little for it.
        conn = sqlite3.connect("", isolation_level=None)
        try:
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -16000"):
                conn.execute(f"PRAGMA {pragma}")
            conn.execute("BEGIN")
            yield cls(conn)
        finally:
            conn.close()

    def add(self, job: JobLine) -> LineFault | None:
        """Take a job's key; return what is wrong with it where another has it."""
        row = (job.key, job.file, job.line)
        if self._conn.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", row).rowcount:
            return None
        file, line = self._conn.execute(
            "SELECT file, line FROM seen WHERE key = ?", (job.key,)
        ).fetchone()
        reason = f"the key {job.key!r} is already used by {file}:{line}"
        return LineFault(file=job.file, line=job.line, reason=reason)
