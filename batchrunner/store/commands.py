"""What people's commands make of a run: pause, cancel, retry, resume.

Every command keeps a run's counters equal to its jobs' states in the same transaction, works in
short transactions whatever a run's size, and is conditional on the state it found, so that it may
be given while a holder sends.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from batchrunner.errors import UsageError
from batchrunner.failpoints import hit
from batchrunner.models import JobState, RunId, StoredRunState
from batchrunner.options import JobFilter
from batchrunner.store.caps import (
    LimitChange,
    clear_limit,
    scope_for,
    set_limit,
    store_limits,
)
from batchrunner.store.choose import JOB, PAYLOAD, chosen
from batchrunner.store.codecs import GONE
from batchrunner.store.database import Database
from batchrunner.store.driver import DriverConnection
from batchrunner.store.processes import (
    Process,
    ask,
    register_process,
    set_role,
    sweep_dead_processes,
    unask,
    unregister,
)
from batchrunner.store.runs import StoredRun, driver
from batchrunner.store.stops import cancel_some, clear_holds, forget_person

#: Every command of the store, those of its neighbours included.
__all__ = [
    "RETRIED",
    "LimitChange",
    "Process",
    "ask",
    "cancel",
    "clear_limit",
    "lift",
    "n_pruned",
    "pause",
    "refuse_pruned",
    "refuse_unknown_keys",
    "register_process",
    "retry",
    "scope_for",
    "set_limit",
    "set_role",
    "store_limits",
    "store_option",
    "store_options",
    "sweep_dead_processes",
    "unask",
    "unregister",
]

#: Jobs changed in one transaction: some 20 ms.
_CHUNK: Final = 2_000


def pause(db: Database, run: StoredRun) -> bool:
    """Stop a run until ``resume``; return whether there was something to stop."""
    with db.write() as connection:
        cursor = driver(connection).execute(
            "UPDATE run SET state = 'paused' WHERE id = ? AND state = 'ready'", (run.id,)
        )
        return cursor.rowcount == 1


def lift(db: Database, run: StoredRun) -> StoredRunState:
    """Undo ``pause``, and let go what was just stored, all being said of it; return the run's state now.

    Why it stopped before stays said: it may be stored only, or never come to its turn. A
    ``cancelled`` run stays so: only ``retry`` undoes that.
    """
    with db.write() as connection:
        conn = driver(connection)
        conn.execute("UPDATE run SET state = 'ready' WHERE id = ? AND state = 'paused'", (run.id,))
        conn.execute("UPDATE run SET loader_id = NULL WHERE id = ?", (run.id,))
        forget_person(conn, run.id)
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
                n = cancel_some(driver(connection), run.id, wall=now_ms)
            hit("cancel.chunk")
            n_cancelled += n
            if n == 0:
                return n_cancelled


#: The states that ``retry`` puts back.
RETRIED: Final = (JobState.FAILED.value, JobState.CANCELLED.value)


def retry(db: Database, run: StoredRun, jobs: JobFilter) -> int:
    """Put the chosen failed and cancelled jobs back, attempts from 0; return how many.

    The run is ``ready`` again and its held models are let go. Keys that the run does not have
    raise :class:`UsageError`, as do jobs whose request was pruned.
    """
    refuse_unknown_keys(db, run, jobs)
    refuse_pruned(db, run, jobs)
    n_put_back = 0
    with db.session() as session:
        for ids in _pages(db, run.id, jobs):
            with session.transaction() as connection:
                n_put_back += _put_back(driver(connection), run.id, ids)
            hit("retry.chunk")
        with session.transaction() as connection:
            conn = driver(connection)
            _refuse_deleted(conn, run.id)
            clear_holds(conn, run.id)
            conn.execute(
                "UPDATE run SET state = 'ready', finished_at = NULL"
                " WHERE id = ? AND (n_pending > 0 OR n_running > 0)",
                (run.id,),
            )
            forget_person(conn, run.id)
            # Cancelled when its last job was being answered: there is nothing to put back.
            conn.execute(
                "UPDATE run SET state = 'finished' WHERE id = ? AND state = 'cancelled'"
                " AND n_pending + n_running + n_cancelled = 0",
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
            fix=f"`batchrunner jobs {shlex.quote(run.name)}` lists them.",
        )


def refuse_pruned(db: Database, run: StoredRun, jobs: JobFilter) -> None:
    """Raise :class:`UsageError` where a job that ``retry`` would put back has no request any more."""
    n = n_pruned(db, run, jobs, states=RETRIED)
    if n:
        name = shlex.quote(run.name)
        raise UsageError(
            f"{n:,} of the jobs of {run.name} that were to be put back have no request any more:"
            " `db prune --bodies` took it away. Nothing was put back.",
            fix=f"Give their file again: batchrunner submit FILE --name {name} --update",
            kind="pruned",
        )


def n_pruned(db: Database, run: StoredRun, jobs: JobFilter, *, states: Sequence[str] = ()) -> int:
    """Return how many of the chosen jobs lost request and answer to ``db prune --bodies``.

    Costs one look-up for a run that was never pruned.
    """
    with db.read() as connection:
        marked = connection.exec_driver_sql(
            "SELECT 1 FROM meta WHERE key = ?", (f"bare.{run.id}",)
        ).first()
        if marked is None:
            return 0
        statement = (
            sa.select(PAYLOAD.c.codec)
            .select_from(JOB.join(PAYLOAD, PAYLOAD.c.job_id == JOB.c.id))
            .where(*chosen(run.id, jobs))
            .order_by(JOB.c.id)
            .limit(jobs.limit)
        )
        if states:
            statement = statement.where(JOB.c.state.in_(states))
        found = statement.subquery()
        count = sa.select(sa.func.count()).select_from(found).where(found.c.codec == GONE)
        return int(connection.scalar(count) or 0)


def _refuse_deleted(conn: DriverConnection, run_id: RunId) -> None:
    found = conn.execute("SELECT 1 FROM run WHERE id = ? AND state != 'loading'", (run_id,))
    if found.fetchone() is None:
        raise UsageError("The run was deleted meanwhile.", fix="Submit the file again.")


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
                    .where(*chosen(run_id, jobs, after=after), JOB.c.state.in_(RETRIED))
                    .order_by(JOB.c.id)
                    .limit(size)
                )
            )
        if not ids:
            return
        yield ids
        after = ids[-1]
        left = None if left is None else left - len(ids)


def _put_back(conn: DriverConnection, run_id: RunId, ids: list[int]) -> int:
    these = msgspec.json.encode(ids).decode()
    changed = {
        state: conn.execute(
            "UPDATE job SET state = 'pending', attempts = 0, not_before = 0, wait_reason = NULL,"
            " finished_at = NULL, error_kind = NULL WHERE state = ? AND NOT EXISTS"
            " (SELECT 1 FROM payload WHERE job_id = job.id AND codec = ?)"
            " AND id IN (SELECT value FROM json_each(?))",
            (state, GONE, these),
        ).rowcount
        for state in RETRIED
    }
    n = sum(changed.values())
    conn.execute(
        "UPDATE run SET n_pending = n_pending + ?, n_failed = n_failed - ?,"
        " n_cancelled = n_cancelled - ? WHERE id = ?",
        (n, changed["failed"], changed["cancelled"], run_id),
    )
    return n


def store_option(db: Database, run_id: RunId, name: str, value: Any) -> Any:
    """Change one option stored with a run, also while it is sent; return what it was (``None``: not said)."""
    with db.write() as connection:
        conn = driver(connection)
        _refuse_deleted(conn, run_id)
        (text,) = conn.execute("SELECT options FROM run WHERE id = ?", (run_id,)).fetchone()
        options = msgspec.json.decode(text)
        before = options.get(name)
        if before != value:
            conn.execute(
                "UPDATE run SET options = ? WHERE id = ?",
                (msgspec.json.encode({**options, name: value}).decode(), run_id),
            )
        return before


def store_options(db: Database, run_id: RunId, options_json: str, *, priority: int) -> None:
    """Replace the options stored with a run."""
    with db.write() as connection:
        driver(connection).execute(
            "UPDATE run SET options = ?, priority = ? WHERE id = ?",
            (options_json, priority, run_id),
        )
