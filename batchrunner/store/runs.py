"""Finding runs, and telling from locks whether somebody drains them.

A run is live while the process that took it up (``run.runner_id``) holds its own lock file. Nothing
stored says so, since a process that is killed can't take its word back.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import sqlalchemy as sa

from batchrunner.errors import BusyError, UsageError
from batchrunner.models import JobCounts, RunId, RunState, ScopeId, StoredRunState, WaitingReason
from batchrunner.store.database import Database
from batchrunner.store.driver import Connection, DriverConnection, driver
from batchrunner.views import Runner

__all__ = [
    "HALTING",
    "DriverConnection",
    "StoredRun",
    "driver",
    "find_by_digest",
    "find_by_name",
    "find_run",
    "free_name",
    "refuse_live",
    "run_by_id",
    "runner_of",
    "state_of",
]

#: Reasons that only a mended account or network can end (CONTRACT §6, ``halted``).
HALTING: Final = frozenset(
    {
        WaitingReason.AUTHENTICATION,
        WaitingReason.PERMISSION,
        WaitingReason.CREDIT,
        WaitingReason.MODEL_NOT_FOUND,
        WaitingReason.NETWORK,
        WaitingReason.TLS,
        WaitingReason.PROXY,
        WaitingReason.REDIRECT,
    }
)

#: How many names of runs an error lists.
_NAMED_IN_ERROR: Final = 10


class StoredRun(NamedTuple):
    """A run's row; instants are wall epoch ms."""

    id: RunId
    uid: str
    name: str
    state: StoredRunState
    provider: str
    account_id: ScopeId | None
    digest: bytes | None
    #: The stored options as JSON.
    options: str
    priority: int
    generated_keys: bool
    loader_id: int | None
    runner_id: int | None
    created_at: int
    started_at: int | None
    finished_at: int | None
    stop_reason: str | None
    stop_until: int | None
    stop_detail: str | None
    stop_fix: str | None
    next_seq: int
    n_rejected: int
    n_sent: int
    n_retried: int
    n_rate_limited: int
    n_interrupted: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    counts: JobCounts


_COUNTS: Final = tuple(JobCounts.__dataclass_fields__)
_FIELDS: Final = tuple(name for name in StoredRun._fields if name != "counts")
_RUN: Final = sa.table(
    "run", *(sa.column(name) for name in _FIELDS + tuple(f"n_{n}" for n in _COUNTS))
)
_SELECT: Final = sa.select(_RUN)


def _stored(row: Mapping[Any, Any]) -> StoredRun:
    values = {name: row[name] for name in _FIELDS}
    values["state"] = StoredRunState(row["state"])
    values["generated_keys"] = bool(row["generated_keys"])
    counts = JobCounts(**{name: row[f"n_{name}"] for name in _COUNTS})
    return StoredRun(**values, counts=counts)


def all_runs(connection: Connection) -> list[StoredRun]:
    """Return every run but those being read in, newest first."""
    rows = connection.execute(
        _SELECT.where(_RUN.c.state != StoredRunState.LOADING.value).order_by(
            _RUN.c.created_at.desc(), _RUN.c.id.desc()
        )
    )
    return [_stored(row) for row in rows.mappings()]


def run_by_id(connection: Connection, run_id: RunId) -> StoredRun | None:
    """Return one run, whatever its state."""
    row = connection.execute(_SELECT.where(_RUN.c.id == run_id)).mappings().first()
    return _stored(row) if row is not None else None


def stored_run(db: Database, run_id: RunId) -> StoredRun:
    """Return a run that is known to exist. Raises :class:`UsageError` if it was deleted meanwhile."""
    with db.read() as connection:
        found = run_by_id(connection, run_id)
    if found is None:
        raise UsageError("The run was deleted meanwhile.", fix="Submit the file again.")
    return found


def _one(db: Database, *conditions: sa.ColumnElement[bool]) -> StoredRun | None:
    statement = (
        _SELECT.where(_RUN.c.state != StoredRunState.LOADING.value, *conditions)
        .order_by(_RUN.c.created_at.desc(), _RUN.c.id.desc())
        .limit(1)
    )
    with db.read() as connection:
        row = connection.execute(statement).mappings().first()
        return _stored(row) if row is not None else None


def find_by_digest(db: Database, digest: bytes) -> StoredRun | None:
    """Return the latest run with this content."""
    return _one(db, _RUN.c.digest == digest)


def find_by_name(db: Database, name: str) -> StoredRun | None:
    """Return the run of this name."""
    return _one(db, _RUN.c.name == name)


def latest_run(db: Database) -> StoredRun | None:
    """Return the latest run; ``None`` where there is none."""
    return _one(db)


def find_run(db: Database, name: str | None) -> StoredRun:
    """Return the run of this name or id; ``None``: the latest. Raises :class:`UsageError`."""
    if name is None:
        found = latest_run(db)
        if found is None:
            raise UsageError(
                f"There are no runs in {db.name} yet.",
                fix="Make one with `batchrunner submit FILE`.",
            )
        return found
    # A name outranks an id, since a person chose it.
    found = _one(db, _RUN.c.name == name) or _one(db, _RUN.c.uid == name)
    if found is not None:
        return found
    with db.read() as connection:
        names = [run.name for run in all_runs(connection)]
    if not names:
        raise UsageError(
            f"There is no run {name!r} in {db.name}; it has none at all.",
            fix="Make one with `batchrunner submit FILE`.",
        )
    listed = ", ".join(names[:_NAMED_IN_ERROR])
    more = len(names) - _NAMED_IN_ERROR
    raise UsageError(
        f"There is no run {name!r} in {db.name}.",
        fix=f"Its runs are: {listed}{f' and {more} more' if more > 0 else ''}.",
    )


def free_name(db: Database, name: str) -> str:
    """Return ``name``, or the first of ``name-2``, ``name-3`` … that no run has."""
    with db.read() as connection:
        taken = set(connection.scalars(sa.select(_RUN.c.name)))
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def runner_of(connection: Connection, db: Database, run: StoredRun) -> Runner | None:
    """Return the live process that drains ``run``."""
    if run.runner_id is None:
        return None
    row = connection.exec_driver_sql(
        'SELECT pid, host, "user", since, lock_file FROM process WHERE id = ?', (run.runner_id,)
    ).first()
    if row is None or not db.is_alive(row.lock_file):
        return None
    return Runner(pid=row.pid, host=row.host, user=row.user, since=row.since)


def refuse_live(connection: Connection, db: Database, run: StoredRun, deed: str) -> None:
    """Raise :class:`BusyError` where a live process drains ``run``."""
    runner = runner_of(connection, db, run)
    if runner is not None:
        raise BusyError(
            f"Run {run.name} can't be {deed} while process {runner.pid} runs it.",
            fix=f"Stop it first (`batchrunner pause {shlex.quote(run.name)}`), then try again.",
        )


def state_of(run: StoredRun, *, is_live: bool) -> RunState:
    """Tell the state that views show."""
    match run.state:
        case StoredRunState.PAUSED:
            return RunState.PAUSED
        case StoredRunState.FINISHED:
            return RunState.FINISHED
        case StoredRunState.CANCELLED:
            return RunState.CANCELLED
        case StoredRunState.READY | StoredRunState.LOADING:
            pass
    if is_live:
        return RunState.RUNNING if run.stop_reason is None else RunState.WAITING
    undated = run.stop_reason == WaitingReason.SPEND_LIMIT and run.stop_until is None
    return RunState.HALTED if undated or run.stop_reason in HALTING else RunState.READY
