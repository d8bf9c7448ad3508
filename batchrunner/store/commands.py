"""What people's commands write: pause, cancel, retry, asks and processes, limits.

Every command keeps a run's counters equal to its jobs' states in the same transaction, works in
short transactions whatever a run's size, and is conditional on the state it found, so that it may
be given while a holder sends.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Self

import sqlalchemy as sa

from batchrunner.core.caps import DAY_RESETS, MIN_INTERVAL, RPD, RPM
from batchrunner.errors import UsageError
from batchrunner.models import JobState, RunId, ScopeId, StoredRunState
from batchrunner.options import JobFilter, LimitOptions, LimitValue
from batchrunner.store import holder
from batchrunner.store.choose import JOB, chosen
from batchrunner.store.database import Database
from batchrunner.store.locks import FileLock, ProcessLock, process_lock_files
from batchrunner.store.runs import StoredRun, driver, process_is_alive

__all__ = [
    "LimitChange",
    "Process",
    "ask",
    "cancel",
    "clear_limit",
    "lift",
    "pause",
    "refuse_unknown_keys",
    "register_process",
    "retry",
    "scope_for",
    "set_limit",
    "set_role",
    "store_limits",
    "store_options",
    "sweep_dead_processes",
    "unask",
    "unregister",
]

Role = Literal["holder", "follower", "loader"]

#: Jobs changed in one transaction: some 20 ms.
_CHUNK: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """This process, as others on the database see it."""

    id: int
    role: Role
    lock: ProcessLock


# Processes


def register_process(db: Database, role: Role, *, now_ms: int) -> Process:
    """Attach this process to the database: take a lock file of its own and say who it is."""
    lock = ProcessLock.create(db.path)
    # Ids are never used again, so that a run's runner_id can't come to mean somebody else.
    process_id = now_ms << 12 | secrets.randbits(12)
    try:
        with db.write() as connection:
            driver(connection).execute(
                "INSERT INTO process (id, pid, host, user, since, role, lock_file)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (process_id, os.getpid(), socket.gethostname(), _user(), now_ms, role,
                 lock.path.name),
            )  # fmt: skip
    except BaseException:
        lock.release(unlink=True)
        raise
    return Process(id=process_id, role=role, lock=lock)


def set_role(db: Database, process: Process, role: Role) -> Process:
    """Say what this process does now."""
    with db.write() as connection:
        driver(connection).execute("UPDATE process SET role = ? WHERE id = ?", (role, process.id))
    return Process(id=process.id, role=role, lock=process.lock)


def unregister(db: Database, process: Process) -> None:
    """Detach this process; its asks go with it. Its lock is given up even if the row can't be."""
    try:
        with db.write() as connection:
            _forget(driver(connection), process.id)
    finally:
        process.lock.release(unlink=True)


def sweep_dead_processes(db: Database) -> int:
    """Remove the rows and lock files of processes that are gone; return how many rows."""
    with db.write() as connection:
        conn = driver(connection)
        rows = conn.execute("SELECT id, lock_file FROM process").fetchall()
        dead = [id_ for id_, lock_file in rows if not process_is_alive(db.path, lock_file)]
        for process_id in dead:
            _forget(conn, process_id)
    for path in process_lock_files(db.path):
        lock = FileLock(path)
        if lock.try_acquire():
            lock.release(unlink=True)
    return len(dead)


def _forget(conn: sqlite3.Connection, process_id: int) -> None:
    conn.execute("UPDATE run SET runner_id = NULL WHERE runner_id = ?", (process_id,))
    conn.execute("DELETE FROM process WHERE id = ?", (process_id,))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a number that no name belongs to.
        return str(os.getuid())


# Asks


def ask(db: Database, run_id: RunId, process: Process, options: Mapping[str, Any]) -> None:
    """Want a run drained, on behalf of ``process``; asking again replaces the options."""
    with db.write() as connection:
        driver(connection).execute(
            "INSERT INTO ask (run_id, process_id, options) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET options = excluded.options, note = NULL",
            (run_id, process.id, json.dumps(dict(options))),
        )


def unask(db: Database, run_id: RunId, process: Process) -> None:
    """Want it no more."""
    with db.write() as connection:
        driver(connection).execute(
            "DELETE FROM ask WHERE run_id = ? AND process_id = ?", (run_id, process.id)
        )


# Runs


def pause(db: Database, run: StoredRun) -> bool:
    """Stop a run until ``resume``; return whether there was something to stop."""
    with db.write() as connection:
        cursor = driver(connection).execute(
            "UPDATE run SET state = 'paused' WHERE id = ? AND state = 'ready'", (run.id,)
        )
        return cursor.rowcount == 1


def lift(db: Database, run: StoredRun) -> StoredRunState:
    """Undo ``pause`` and forget why the run stopped; return its state now.

    A ``cancelled`` run stays so: only ``retry`` undoes that.
    """
    with db.write() as connection:
        conn = driver(connection)
        conn.execute("UPDATE run SET state = 'ready' WHERE id = ? AND state = 'paused'", (run.id,))
        conn.execute(
            "UPDATE run SET stop_reason = NULL, stop_until = NULL, stop_detail = NULL,"
            " stop_fix = NULL WHERE id = ? AND runner_id IS NULL",
            (run.id,),
        )
        (state,) = conn.execute("SELECT state FROM run WHERE id = ?", (run.id,)).fetchone()
        return StoredRunState(state)


def cancel(db: Database, run: StoredRun, *, now_ms: int) -> int:
    """Give a run up: its pending jobs are cancelled, running ones end by themselves; return how many."""
    with db.session() as session:
        with session.transaction() as connection:
            driver(connection).execute(
                "UPDATE run SET state = 'cancelled', finished_at = ?, stop_reason = NULL,"
                " stop_until = NULL, stop_detail = NULL, stop_fix = NULL"
                " WHERE id = ? AND state IN ('ready', 'paused')",
                (now_ms, run.id),
            )
        n_cancelled = 0
        while True:
            with session.transaction() as connection:
                n = _cancel_some(driver(connection), run.id, now_ms)
            n_cancelled += n
            if n == 0:
                return n_cancelled


def _cancel_some(conn: sqlite3.Connection, run_id: RunId, now_ms: int) -> int:
    n = conn.execute(
        "UPDATE job SET state = 'cancelled', not_before = 0, wait_reason = NULL, finished_at = ?,"
        " error_kind = 'cancelled' WHERE id IN (SELECT id FROM job WHERE run_id = ?"
        " AND state = 'pending' AND not_before = 0 LIMIT ?)",
        (now_ms, run_id, _CHUNK),
    ).rowcount
    n += conn.execute(
        "UPDATE job SET state = 'cancelled', not_before = 0, wait_reason = NULL, finished_at = ?,"
        " error_kind = 'cancelled' WHERE id IN (SELECT id FROM job WHERE run_id = ?"
        " AND state = 'pending' AND not_before > 0 LIMIT ?)",
        (now_ms, run_id, _CHUNK),
    ).rowcount
    conn.execute(
        "UPDATE run SET n_pending = n_pending - ?, n_cancelled = n_cancelled + ? WHERE id = ?",
        (n, n, run_id),
    )
    return n


#: The states that ``retry`` puts back.
RETRIED: Final = (JobState.FAILED.value, JobState.CANCELLED.value)


def retry(db: Database, run: StoredRun, jobs: JobFilter) -> int:
    """Put the chosen failed and cancelled jobs back, attempts from 0; return how many.

    The run is ``ready`` again and its held models are let go. Keys that the run does not have
    raise :class:`UsageError`.
    """
    refuse_unknown_keys(db, run, jobs)
    n_put_back = 0
    with db.session() as session:
        for ids in _pages(db, run.id, jobs):
            with session.transaction() as connection:
                n_put_back += _put_back(driver(connection), run.id, ids)
        with session.transaction() as connection:
            conn = driver(connection)
            holder.clear_holds(conn, run.id)
            conn.execute(
                "UPDATE run SET state = 'ready', finished_at = NULL, stop_reason = NULL,"
                " stop_until = NULL, stop_detail = NULL, stop_fix = NULL"
                " WHERE id = ? AND (n_pending > 0 OR n_running > 0)",
                (run.id,),
            )
    return n_put_back


def refuse_unknown_keys(db: Database, run: StoredRun, jobs: JobFilter) -> None:
    """Raise :class:`UsageError` for keys in the filter that no job of the run has."""
    if not jobs.keys:
        return
    with db.read() as connection:
        known = set(
            connection.scalars(
                sa.select(JOB.c.key).where(JOB.c.run_id == run.id, JOB.c.key.in_(jobs.keys))
            )
        )
    unknown = [key for key in jobs.keys if key not in known]
    if unknown:
        raise UsageError(
            f"Run {run.name} has no job {unknown[0]!r}.",
            fix=f"`batchrunner jobs {run.name}` lists them.",
        )


def _pages(db: Database, run_id: RunId, jobs: JobFilter) -> Iterator[list[int]]:
    """Yield the ids to put back in pages, each a short read of its own."""
    left = jobs.limit
    after = 0
    while left is None or left > 0:
        size = _CHUNK if left is None else min(_CHUNK, left)
        with db.read() as connection:
            ids = list(
                connection.scalars(
                    sa.select(JOB.c.id)
                    .where(*chosen(run_id, jobs), JOB.c.state.in_(RETRIED), JOB.c.id > after)
                    .order_by(JOB.c.id)
                    .limit(size)
                )
            )
        if not ids:
            return
        yield ids
        after = ids[-1]
        left = None if left is None else left - len(ids)


def _put_back(conn: sqlite3.Connection, run_id: RunId, ids: list[int]) -> int:
    changed = dict.fromkeys(RETRIED, 0)
    for state in RETRIED:
        changed[state] = conn.executemany(
            "UPDATE job SET state = 'pending', attempts = 0, not_before = 0, wait_reason = NULL,"
            " finished_at = NULL, error_kind = NULL WHERE id = ? AND state = ?",
            [(id_, state) for id_ in ids],
        ).rowcount
    n = sum(changed.values())
    conn.execute(
        "UPDATE run SET n_pending = n_pending + ?, n_failed = n_failed - ?,"
        " n_cancelled = n_cancelled - ? WHERE id = ?",
        (n, changed["failed"], changed["cancelled"], run_id),
    )
    return n


def store_options(db: Database, run_id: RunId, options_json: str, *, priority: int) -> None:
    """Replace the options stored with a run."""
    with db.write() as connection:
        driver(connection).execute(
            "UPDATE run SET options = ?, priority = ? WHERE id = ?",
            (options_json, priority, run_id),
        )


# Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitChange:
    """What a person's word did to one limit of an account."""

    scope: ScopeId
    limit: str
    old: LimitValue
    new: LimitValue
    old_zone: str | None = None
    new_zone: str | None = None

    @property
    def is_change(self) -> bool:
        """Whether anything is different now."""
        return (self.old, self.old_zone) != (self.new, self.new_zone)


def scope_for(db: Database, provider: str, account_key: str, *, pool: str | None = None) -> ScopeId:
    """Return the account's scope, or its pool's, made where it did not exist."""
    with db.write() as connection:
        conn = driver(connection)
        account = holder.scope_id(
            conn, kind="account", provider=provider, key=account_key, parent_id=None
        )
        if pool is None:
            return account
        return holder.scope_id(conn, kind="pool", provider=provider, key=pool, parent_id=account)


def set_limit(
    db: Database,
    scope: ScopeId,
    limit: str,
    value: float | Literal["none"],
    *,
    zone: str | None = None,
    now_ms: int,
) -> LimitChange:
    """Store a person's limit; ``zone`` goes with the name ``day_resets``, which has no number."""
    with db.write() as connection:
        return _say(driver(connection), scope, limit, _Said.of(value, zone), now_ms)


def clear_limit(db: Database, scope: ScopeId, limit: str) -> LimitChange:
    """Forget a person's limit, so that it is learned from response headers again (``auto``)."""
    with db.write() as connection:
        return _unsay(driver(connection), scope, limit)


def store_limits(
    db: Database, scope: ScopeId, limits: LimitOptions, *, now_ms: int
) -> list[LimitChange]:
    """Store everything ``limits`` says, in one transaction; return what it touched, old → new."""
    said: list[tuple[str, LimitValue | float, str | None]] = [
        (RPM, limits.rpm, None),
        (RPD, limits.rpd, None),
    ]
    if limits.day_resets is not None:
        said.append((DAY_RESETS, "none", limits.day_resets))
    if limits.min_interval_s is not None:
        said.append((MIN_INTERVAL, limits.min_interval_s * 1000.0 or "none", None))
    changes: list[LimitChange] = []
    with db.write() as connection:
        conn = driver(connection)
        for name, value, zone in said:
            if value == "auto":
                changes.append(_unsay(conn, scope, name))
            elif value is not None:
                changes.append(_say(conn, scope, name, _Said.of(value, zone), now_ms))
    return changes


class _Said(NamedTuple):
    """A person's word on one limit; ``value`` ``None``: no such limit."""

    value: float | None
    zone: str | None

    @classmethod
    def of(cls, value: float | str, zone: str | None) -> Self:
        return cls(None if isinstance(value, str) else float(value), zone)

    @property
    def word(self) -> LimitValue:
        return "none" if self.value is None else int(self.value)


def _said(conn: sqlite3.Connection, scope: ScopeId) -> dict[str, _Said]:
    return {
        name: _Said(value, zone)
        for name, value, zone in conn.execute(
            "SELECT limit_name, value, zone FROM cap WHERE scope_id = ? AND source = 'flag'",
            (scope,),
        )
    }


def _say(
    conn: sqlite3.Connection, scope: ScopeId, limit: str, said: _Said, now_ms: int
) -> LimitChange:
    old = _said(conn, scope).get(limit)
    holder.set_cap(
        conn,
        scope=scope,
        limit=limit,
        value=said.value,
        zone=said.zone,
        source="flag",
        wall=now_ms,
    )
    return LimitChange(
        scope=scope,
        limit=limit,
        old=old.word if old else "auto",
        new=said.word,
        old_zone=old.zone if old else None,
        new_zone=said.zone,
    )


def _unsay(conn: sqlite3.Connection, scope: ScopeId, limit: str) -> LimitChange:
    old = _said(conn, scope).get(limit)
    conn.execute(
        "DELETE FROM cap WHERE scope_id = ? AND limit_name = ? AND source = 'flag'", (scope, limit)
    )
    return LimitChange(
        scope=scope,
        limit=limit,
        old=old.word if old else "auto",
        new="auto",
        old_zone=old.zone if old else None,
    )
