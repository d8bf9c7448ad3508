"""What can be told of a database without changing it: its schema, health, size, and who is on it.

Nothing is created, upgraded or mended here, and nothing takes longer than it is given.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

import sqlalchemy as sa

from batchrunner.models import StoredRunState
from batchrunner.options import JobFilter
from batchrunner.store import holder
from batchrunner.store.choose import JOB, chosen
from batchrunner.store.database import Database
from batchrunner.store.driver import Connection
from batchrunner.store.faults import translated
from batchrunner.store.runs import StoredRun, all_runs, driver
from batchrunner.store.schema import Standing
from batchrunner.store.sqlite.building import standing_of
from batchrunner.store.sqlite.database import FileDatabase
from batchrunner.store.sqlite.filesystem import network_file_system
from batchrunner.views import Runner

__all__ = [
    "DatabaseFacts",
    "holder_of",
    "inspect",
    "models_left",
    "models_of",
    "open_current",
    "run_in_question",
]

#: Problems that ``quick_check`` lists.
_LISTED: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseFacts:
    """One look at a database."""

    standing: Standing
    n_bytes: int
    #: Of the log that is not yet copied into the database.
    wal_bytes: int
    #: The type of the network file system it lies on; ``None``: a local one.
    network: str | None
    #: What ``PRAGMA quick_check`` found; empty: nothing.
    damage: tuple[str, ...] = ()
    #: Whether the check came to its end in the time it had.
    is_read_whole: bool = True
    #: Whether a process holds the sender lock.
    is_sent_from: bool = False
    #: Who that is, where it says so.
    holder: Runner | None = None
    n_runs: int = 0


def inspect(path: Path, *, within_s: float) -> DatabaseFacts | None:
    """Look at the database at ``path``; ``None`` where there is none.

    Raises :class:`~batchrunner.errors.DatabaseError` where it can't be opened or read.
    """
    with translated(path):
        if not path.exists() or path.stat().st_size == 0:
            return None
        network = network_file_system(path.parent)
        facts = DatabaseFacts(
            # Locks can't be trusted there, so that it is not even opened.
            standing=standing_of(path) if network is None else Standing.CURRENT,
            n_bytes=path.stat().st_size,
            wal_bytes=_size(path.with_name(f"{path.name}-wal")),
            network=network,
        )
        if network is not None or facts.standing is not Standing.CURRENT:
            return facts
        return _looked_into(FileDatabase(path), facts, within_s)


def _looked_into(db: Database, facts: DatabaseFacts, within_s: float) -> DatabaseFacts:
    looked = _read_through(db, facts, within_s)
    if not looked.damage and not looked.is_sent_from:
        # A program that keeps it locked, and a file that can't be written, show themselves here.
        with db.write():
            pass
    return looked


def _read_through(db: Database, facts: DatabaseFacts, within_s: float) -> DatabaseFacts:
    with db.read() as connection:
        damage, is_whole = _quick_check(cast("sqlite3.Connection", driver(connection)), within_s)
        return replace(
            facts,
            damage=tuple(damage),
            is_read_whole=is_whole,
            is_sent_from=db.is_sent_from(),
            holder=holder_of(connection, db),
            n_runs=len(all_runs(connection)) if not damage else 0,
        )


def _quick_check(conn: sqlite3.Connection, within_s: float) -> tuple[list[str], bool]:
    try:
        with _interrupted_after(conn, within_s):
            rows = conn.execute(f"PRAGMA quick_check({_LISTED})").fetchall()
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            return [], False
        raise
    except sqlite3.DatabaseError as error:
        return [str(error)], True
    return [str(row[0]) for row in rows if row[0] != "ok"], True


@contextmanager
def _interrupted_after(conn: sqlite3.Connection, seconds: float) -> Iterator[None]:
    timer = threading.Timer(seconds, conn.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def holder_of(connection: Connection, db: Database) -> Runner | None:
    rows = connection.exec_driver_sql(
        "SELECT pid, host, \"user\", since, lock_file FROM process WHERE role = 'holder'"
    ).all()
    for row in rows:
        if db.is_alive(row.lock_file):
            return Runner(pid=row.pid, host=row.host, user=row.user, since=row.since)
    return None


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 -- of a file that may just be going
    except FileNotFoundError:
        return 0


def open_current(path: Path) -> Database | None:
    """Return the database, ``None`` where there is none that can be used as it stands."""
    with translated(path):
        if not path.exists() or path.stat().st_size == 0:
            return None
        if network_file_system(path.parent) is not None:
            return None
        return FileDatabase(path) if standing_of(path) is Standing.CURRENT else None


def run_in_question(db: Database) -> StoredRun | None:
    """Return the latest run that has work left; where none has, the latest whose jobs failed."""
    with db.read() as connection:
        runs = all_runs(connection)
    unfinished = (StoredRunState.READY, StoredRunState.PAUSED)
    left = (run for run in runs if run.state in unfinished and _has_work(run))
    failed = (run for run in runs if run.counts.failed)
    return next(left, None) or next(failed, None)


def _has_work(run: StoredRun) -> bool:
    return bool(run.counts.pending or run.counts.running)


def models_left(db: Database, run: StoredRun, *, is_any: bool = False) -> list[str]:
    """Return the models that a run's pending jobs ask for; ``is_any``: with ``""`` where some ask none."""
    with db.read() as connection:
        lanes = holder.load_lanes(driver(connection), run.id)
    return [lane.model for lane in lanes if lane.model or is_any]


def models_of(db: Database, run: StoredRun, jobs: JobFilter, states: Sequence[str]) -> list[str]:
    """Return the models that the chosen jobs in these states ask for, ``""`` for those that ask none."""
    statement = sa.select(JOB.c.model_id).distinct()
    statement = statement.where(*chosen(run.id, jobs, after=0), JOB.c.state.in_(states))
    with db.read() as connection:
        ids = set(connection.scalars(statement))
        names = connection.exec_driver_sql("SELECT id, name FROM model").fetchall()
    return [name for model, name in names if model in ids]
