"""Looking after the database file: ``db check``, ``db backup``."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final, cast

from batchrunner.errors import DatabaseError, UsageError
from batchrunner.failpoints import hit
from batchrunner.store.codecs import GONE, DamagedBodyError, Part, plain_body
from batchrunner.store.database import Database
from batchrunner.store.driver import DriverConnection
from batchrunner.store.faults import translated
from batchrunner.store.runs import driver
from batchrunner.store.sqlite.building import copy_database, sync
from batchrunner.store.sqlite.copies import remember_copy
from batchrunner.store.sqlite.database import FileDatabase
from batchrunner.store.sqlite.locks import FileLock

__all__ = ["backup", "check", "someone_sends"]

#: Problems of one sort that are listed one by one.
_LISTED: Final = 20

#: Rows that must not be there, each with the sentence that describes one of them.
_INVARIANTS: Final = (
    (
        """SELECT j.id, r.name, j.key FROM job j JOIN run r ON r.id = j.run_id
           LEFT JOIN payload p ON p.job_id = j.id WHERE p.job_id IS NULL LIMIT {limit}""",
        "job {2!r} of run {1} has no request",
    ),
    (
        """SELECT p.job_id FROM payload p LEFT JOIN job j ON j.id = p.job_id
           WHERE j.id IS NULL LIMIT {limit}""",
        "request {0} belongs to no job",
    ),
    (
        """SELECT j.id, r.name, j.key FROM job j JOIN run r ON r.id = j.run_id
           WHERE j.run_id != j.id >> 32 LIMIT {limit}""",
        "job {2!r} of run {1} stands outside its run",
    ),
    (
        """SELECT j.id, r.name, j.key FROM job j JOIN run r ON r.id = j.run_id
           LEFT JOIN response a ON a.job_id = j.id
           WHERE j.state = 'completed' AND a.job_id IS NULL LIMIT {limit}""",
        "job {2!r} of run {1} is completed and has no answer",
    ),
)
_COUNTERS: Final = ("pending", "running", "completed", "failed", "cancelled")


def check(db: Database) -> list[str]:
    """Return the problems of a database, in sentences; an empty list: none.

    Reads everything, in one snapshot, so that a run that is being drained shows no false problem.
    """
    with db.read() as connection:
        return list(_problems(driver(connection)))


def _problems(conn: DriverConnection) -> Iterator[str]:
    try:
        if isinstance(conn, sqlite3.Connection):
            yield from _of_the_file(conn)
        for statement, sentence in _INVARIANTS:
            for row in conn.execute(statement.format(limit=_LISTED)):
                yield sentence.format(*row)
        yield from islice(_unreadable(conn), _LISTED)
        yield from _wrong_counters(conn)
    except sqlite3.DatabaseError as error:
        yield f"the file is damaged: {error}"


def _of_the_file(conn: sqlite3.Connection) -> Iterator[str]:
    """Look at what only a file of SQLite has; a server sees to its own."""
    for (problem,) in conn.execute(f"PRAGMA integrity_check({_LISTED})"):
        if problem != "ok":
            yield f"the file is damaged: {problem}"
    for table, row, parent, _ in conn.execute("PRAGMA foreign_key_check").fetchmany(_LISTED):
        yield f"row {row} of {table} points to a row of {parent} that is not there"


def _unreadable(conn: DriverConnection) -> Iterator[str]:
    """Read every compressed body back."""
    codecs = dict(conn.execute("SELECT id, bytes FROM dictionary"))
    parts: tuple[Part, ...] = ("request", "response")
    for part, table in zip(parts, ("payload", "response"), strict=True):
        for name, key, codec, body in conn.execute(
            f"SELECT r.name, j.key, b.codec, b.body FROM {table} b JOIN job j ON j.id = b.job_id"  # noqa: S608 (constants)
            " JOIN run r ON r.id = j.run_id WHERE b.codec IS NOT NULL AND b.codec != ?",
            (GONE,),
        ):
            try:
                plain_body(codecs, codec, body, part=part, key=key)
            except DamagedBodyError as error:
                yield f"run {name}: {error.message}"


def _wrong_counters(conn: DriverConnection) -> Iterator[str]:
    counted: dict[int, dict[str, int]] = {}
    for run_id, state, n in conn.execute(
        "SELECT run_id, state, count(*) FROM job GROUP BY run_id, state"
    ):
        counted.setdefault(run_id, {})[state] = n
    for run_id, name, *stored in conn.execute(
        "SELECT id, name, n_pending, n_running, n_completed, n_failed, n_cancelled FROM run"
        " WHERE state != 'loading'"
    ):
        found = counted.get(run_id, {})
        for state, n in zip(_COUNTERS, stored, strict=True):
            if found.get(state, 0) != n:
                yield f"run {name} counts {n} jobs {state}, and has {found.get(state, 0)}"


def backup(db: Database, destination: Path, *, now_ms: int) -> None:
    """Copy the database as it stands to a new file, whole or not at all; at any time.

    Raises :class:`UsageError` where the file exists, :class:`DatabaseError` where it can't be made.
    """
    if not isinstance(db, FileDatabase):
        raise UsageError(
            "A backup is a copy of a file; this database is on a server.",
            fix="Use PostgreSQL's own: pg_dump --schema NAME --format custom --file FILE DATABASE",
        )
    destination = Path(os.path.abspath(destination))  # noqa: PTH100 -- a link must not be followed
    if db.is_part(destination):
        raise UsageError(
            f"{destination} is the database's own, there or to come; a backup there would be taken for it.",
            fix="Name another file.",
        )
    if os.path.lexists(destination):
        raise UsageError(f"{destination} exists.", fix="Name a file that does not exist yet.")
    if not destination.parent.is_dir():
        raise UsageError(
            f"{destination} can't be written: {destination.parent} is no directory.",
            fix="Make it, or name a file elsewhere.",
        )
    partial = destination.with_name(f"{destination.name}.partial")
    # While it is held nobody else writes that copy: what lies there is a dead process's.
    lock = FileLock(destination.with_name(f"{destination.name}.partial-lock"))
    with translated(destination):
        if not lock.try_acquire():
            raise UsageError(
                f"Another process is just making {destination}.", fix="Name another file."
            )
    try:
        with translated(destination):
            _remove(partial)
        with db.read() as connection, translated(destination):
            copy_database(cast("sqlite3.Connection", driver(connection)), partial)
        with translated(destination):
            _forget_processes(partial)
            sync(partial)
            hit("backup.copied")
            # A link fails where the name was taken meanwhile; a rename would replace it.
            os.link(partial, destination)
    except FileExistsError as error:
        raise UsageError(f"{destination} exists.", fix="Name another file.") from error
    finally:
        with suppress(OSError):
            _remove(partial)
        lock.release(unlink=True)
    # A database that can't be written can be copied, and has nothing pruned.
    with suppress(DatabaseError):
        remember_copy(db, destination, now_ms=now_ms)


def _remove(partial: Path) -> None:
    """Remove a copy that was not finished, and its journal."""
    for end in ("", "-journal", "-wal", "-shm"):
        partial.with_name(partial.name + end).unlink(missing_ok=True)


def _forget_processes(path: Path) -> None:
    """Processes and asks belong to the place of the original."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM process")
        connection.execute("UPDATE run SET runner_id = NULL")
    finally:
        connection.close()


def someone_sends(db: Database) -> bool:
    """Return whether a process holds the sender lock now."""
    return db.is_sent_from()
