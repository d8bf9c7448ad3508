"""Copies of a database file that are known of, so that a prune can name them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection
from pathlib import Path
from typing import Final
from urllib.parse import quote

from batchrunner.store.database import Database
from batchrunner.store.driver import Connection, driver
from batchrunner.store.schema import APPLICATION_ID

__all__ = ["copies", "remember_copy"]

#: How every SQLite file begins, and where its application id stands.
_MAGIC: Final = b"SQLite format 3\x00"
_ID_AT: Final = slice(68, 72)
#: Prefix in ``meta`` of the copies that were made elsewhere.
_COPY: Final = "copy."


def remember_copy(db: Database, path: Path, *, now_ms: int) -> None:
    """Note that a copy was made there, so that a prune can name it."""
    with db.write() as connection:
        driver(connection).execute(
            "INSERT INTO meta (key, value) VALUES (?, ?)"
            " ON CONFLICT DO UPDATE SET value = excluded.value",
            (f"{_COPY}{path}", str(now_ms)),
        )


def copies(connection: Connection, path: Path, uids: Collection[str]) -> list[Path]:
    """Return the copies of the database at ``path`` that still have one of these runs.

    Known are those beside it, whoever made them, and those that ``db backup`` made anywhere.
    """
    noted = connection.exec_driver_sql(
        "SELECT substr(key, ?) FROM meta WHERE substr(key, 1, ?) = ?",
        (len(_COPY) + 1, len(_COPY), _COPY),
    ).scalars()
    known = {*map(Path, noted), *path.parent.iterdir()} - {path}
    return sorted(path for path in known if _is_ours(path) and _has_any(path, uids))


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
