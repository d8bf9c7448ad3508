"""A database file on its way to be used: checked, made, brought to the current schema, copied."""

from __future__ import annotations

import os
import shlex
import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from batchrunner.errors import BusyError, DatabaseError, NoDatabaseError
from batchrunner.failpoints import hit
from batchrunner.store import schema
from batchrunner.store.schema import Standing
from batchrunner.store.sqlite.connecting import connect, engine_of, write_lock
from batchrunner.store.sqlite.filesystem import network_file_system
from batchrunner.store.sqlite.locks import (
    FileLock,
    is_alive,
    process_lock_files,
    sender_lock_path,
)

__all__ = [
    "build",
    "check_sqlite",
    "copy_database",
    "has_content",
    "missing",
    "refuse_network",
    "refuse_no_folder",
    "settle_standing",
    "standing_of",
    "sync",
]

#: ``RETURNING`` is 3.35's.
OLDEST_SQLITE: Final = (3, 35, 0)

#: One page of the smallest size; no crash leaves less, but nothing at all.
_SMALLEST_FILE: Final = 512


def check_sqlite() -> None:
    """Refuse a SQLite that is too old."""
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise DatabaseError(
            f"This Python has SQLite {sqlite3.sqlite_version}; batchrunner needs {oldest} or newer.",
            fix="Use a newer Python, or one built with a newer SQLite.",
        )


def refuse_network(path: Path) -> None:
    """Refuse a place where locks can't be trusted."""
    kind = network_file_system(path.parent)
    if kind is not None:
        raise DatabaseError(
            f"The database {path} lies on a network file system ({kind}), where locks can't be trusted.",
            fix="Choose a place on a local disk with --db.",
        )


def refuse_no_folder(path: Path) -> None:
    """Refuse a place in a folder that is not there."""
    folder = path.parent
    if not folder.is_dir():
        is_file = folder.exists()
        raise NoDatabaseError(
            f"The database {path} can't be made: "
            + (f"{folder} is no folder." if is_file else f"there is no folder {folder}."),
            fix="Name another place with --db."
            if is_file
            else f"Make it first: mkdir -p {shlex.quote(str(folder))}; or name another place with --db.",
        )


def has_content(path: Path) -> bool:
    """Return whether there is more than an empty file; refuse what can be none of ours."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if path.is_dir():
        raise DatabaseError(f"{path} is a directory.", fix="Name a file with --db.")
    if 0 < found.st_size < _SMALLEST_FILE:
        # SQLite would take so short a file for an empty one, and write over it.
        raise DatabaseError(
            f"The file {path} is not a batchrunner database.", fix="Choose another file with --db."
        )
    return found.st_size > 0


def build(path: Path) -> None:
    """Make the file, private from its first moment, and let the migrations fill it."""
    with write_lock(path):
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            if has_content(path):
                return
        hit("create.made")
        _migrate(path)


def _migrate(path: Path, point: str = "create.migrated") -> None:
    engine = engine_of(lambda: connect(path), "BEGIN IMMEDIATE")
    with engine.connect() as connection, connection.begin():
        schema.migrate(connection)
        hit(point)


def standing_of(path: Path) -> Standing:
    """Tell what an existing file with content is; nothing in it changes."""
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)
    try:
        connection.execute("PRAGMA busy_timeout = 10000")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        return schema.standing(connection)
    finally:
        with write_lock(path):
            connection.close()


def settle_standing(path: Path, *, create: bool) -> Path | None:
    """Bring the database to the current schema, or say why it can't be used.

    Returns the copy of an older one, ``None`` where nothing was upgraded.
    """
    match standing_of(path):
        case Standing.CURRENT:
            return None
        case Standing.EMPTY if create:
            with write_lock(path):
                _migrate(path)
            return None
        case Standing.OLDER:
            return _upgrade(path)
        case Standing.NEWER:
            raise DatabaseError(
                f"The database {path} was written by a newer version of batchrunner.",
                fix="Install that version or a later one, or choose another file with --db.",
            )
        case Standing.EMPTY:
            # Whoever made the file died before anything was in it.
            raise missing(path)
        case Standing.FOREIGN:
            raise DatabaseError(
                f"The file {path} is another program's database.",
                fix="Choose another file with --db.",
            )


def _upgrade(path: Path) -> Path | None:
    """Bring an older schema up to date; return the copy made before, ``None`` if it was current."""
    sender = FileLock(sender_lock_path(path))
    if not sender.try_acquire():
        raise _busy(path)
    try:
        with write_lock(path):
            if any(is_alive(file) for file in process_lock_files(path)):
                raise _busy(path)
            return _copy_and_migrate(path)
    finally:
        sender.release(unlink=True)


def _copy_and_migrate(path: Path) -> Path | None:
    connection = connect(path)
    try:
        if schema.standing(connection) is not Standing.OLDER:
            return None
        (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        copy = _free_path(path.with_name(f"{path.name}.before-{schema.REVISIONS[-1]}-{version}"))
        # Under another name until it is whole: a copy that was broken off must not look like one.
        partial = path.with_name(f"{path.name}.upgrade.partial")
        for left in (partial, partial.with_name(f"{partial.name}-journal")):
            left.unlink(missing_ok=True)
        copy_database(connection, partial)
        partial.rename(copy)
        sync(copy.parent)
    finally:
        connection.close()
    hit("upgrade.copied")
    _migrate(path, "upgrade.migrated")
    return copy


def _free_path(path: Path) -> Path:
    candidate, number = path, 1
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def copy_database(source: sqlite3.Connection, destination: Path) -> None:
    """Copy a database as it stands now into a new file that only its owner can read."""
    os.close(os.open(destination, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    target = sqlite3.connect(destination)
    try:
        source.backup(target)
        # One file, whoever opens it next.
        target.execute("PRAGMA journal_mode = DELETE")
    except BaseException:
        destination.unlink()
        raise
    finally:
        target.close()


def sync(path: Path) -> None:
    """Have a file, or the names in a directory, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def missing(path: Path) -> NoDatabaseError:
    """Return what is said where there is none."""
    return NoDatabaseError(
        f"There is no database at {path}.",
        fix="Name one with --db, or make one with `batchrunner submit FILE`.",
    )


def _busy(path: Path) -> BusyError:
    return BusyError(
        f"The database {path} has an older schema and a process is running on it.",
        fix="Stop that process, or wait until it is done; the next command upgrades the database.",
    )
