"""What a process that sends takes over: runs, and their lanes.

Every function takes the writer's connection inside a transaction that somebody else began and will
commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from batchrunner.models import JobCounts, ModelId, RunId, ScopeId
from batchrunner.store import waits
from batchrunner.store.driver import DriverConnection
from batchrunner.store.processes import STALE
from batchrunner.views import RequestCounts

__all__ = [
    "LaneRow",
    "RunRow",
    "load_lanes",
    "load_run",
    "load_totals",
    "set_account",
    "take_up",
]

_RUN_COLUMNS = (
    "id, uid, name, state, provider, account_id, options, priority, n_pending, n_running,"
    " n_completed, n_failed, n_cancelled, n_rejected, created_at, started_at"
)


class RunRow(NamedTuple):
    """A run as the holder takes it up."""

    id: RunId
    uid: str
    name: str
    state: str
    provider: str
    account_id: ScopeId | None
    options: dict[str, Any]
    priority: int
    counts: JobCounts
    n_rejected: int
    created_at: int
    started_at: int | None


class LaneRow(NamedTuple):
    """The pending jobs of one run and model."""

    model_id: ModelId
    model: str
    fresh: bool
    #: Earliest ``not_before`` (steady ms) of its held-back retries.
    next_due: int | None


def load_run(conn: DriverConnection, run_id: RunId) -> RunRow | None:
    """Return a run, or ``None`` where it is gone."""
    row = conn.execute(f"SELECT {_RUN_COLUMNS} FROM run WHERE id = ?", (run_id,)).fetchone()  # noqa: S608 (a constant)
    if row is None:
        return None
    counts = JobCounts(
        pending=row[8], running=row[9], completed=row[10], failed=row[11], cancelled=row[12]
    )
    return RunRow(
        id=run_id,
        uid=row[1],
        name=row[2],
        state=row[3],
        provider=row[4],
        account_id=row[5],
        options=json.loads(row[6]),
        priority=row[7],
        counts=counts,
        n_rejected=row[13],
        created_at=row[14],
        started_at=row[15],
    )


def load_lanes(conn: DriverConnection, run_id: RunId) -> list[LaneRow]:
    """Return the lanes of a run that have pending jobs: a loose scan of the two claim indexes."""
    models: dict[int, list[Any]] = {}
    for model_id in _next_models(conn, run_id, "job_fresh", "not_before = 0"):
        models[model_id] = [True, None]
    for model_id in _next_models(conn, run_id, "job_due", "not_before > 0"):
        (next_due,) = conn.execute(
            "SELECT min(not_before) FROM job INDEXED BY job_due WHERE run_id = ?"
            " AND model_id = ? AND state = 'pending' AND not_before > 0",
            (run_id, model_id),
        ).fetchone()
        models.setdefault(model_id, [False, None])[1] = next_due
    names = dict(conn.execute("SELECT id, name FROM model").fetchall())
    return [
        LaneRow(ModelId(model_id), names[model_id], fresh, next_due)
        for model_id, (fresh, next_due) in sorted(models.items())
    ]


def _next_models(
    conn: DriverConnection, run_id: RunId, index: str, held_back: str
) -> Iterator[int]:
    last = -1
    while True:
        (model_id,) = conn.execute(
            f"SELECT min(model_id) FROM job INDEXED BY {index} WHERE run_id = ?"  # noqa: S608 (constants)
            f" AND state = 'pending' AND {held_back} AND model_id > ?",
            (run_id, last),
        ).fetchone()
        if model_id is None:
            return
        yield model_id
        last = model_id


def load_totals(
    conn: DriverConnection, run_id: RunId
) -> tuple[RequestCounts, int | None, int | None, float | None]:
    """Return a run's sends by outcome, its tokens and its cost so far."""
    row = conn.execute(
        "SELECT n_sent, n_retried, n_rate_limited, n_interrupted, input_tokens, output_tokens,"
        " cost_usd FROM run WHERE id = ?",
        (run_id,),
    ).fetchone()
    counts = RequestCounts(sent=row[0], retried=row[1], rate_limited=row[2], interrupted=row[3])
    return counts, row[4], row[5], row[6]


def set_account(conn: DriverConnection, run_id: RunId, account: ScopeId) -> None:
    """Bind a run to the account whose limits it uses."""
    conn.execute("UPDATE run SET account_id = ? WHERE id = ?", (account, run_id))


def take_up(conn: DriverConnection, run_id: RunId, process_id: int, *, wall: int) -> None:
    """Note that this process drains the run, which has an account, from now on."""
    waits.arrive(conn, run_id, wall=wall)
    conn.execute(
        "UPDATE run SET runner_id = ?, started_at = coalesce(started_at, ?),"
        " finished_at = NULL, stop_reason = NULL, stop_until = NULL, stop_detail = NULL,"
        " stop_fix = NULL WHERE id = ?",
        (process_id, wall, run_id),
    )
    conn.execute("UPDATE ask SET taken_by = ?, note = NULL WHERE run_id = ?", (process_id, run_id))
    for asked_by, text in conn.execute(
        "SELECT process_id, options FROM ask WHERE run_id = ?", (run_id,)
    ).fetchall():
        options = json.loads(text)
        if options.pop(STALE, None) is not None:
            conn.execute(
                "UPDATE ask SET options = ? WHERE run_id = ? AND process_id = ?",
                (json.dumps(options), run_id, asked_by),
            )
