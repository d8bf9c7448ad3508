"""What workers on one queue know together of their runs' money; on PostgreSQL alone.

What a worker has set apart for its claims is a row for each run, written in the transaction that claims
them and when they are settled: so it is a true upper bound at any moment, also of a worker that has
just died. What answers that were lost may have cost is a sum by run that only grows; whoever takes a
run up knows what it was then.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

import msgspec

from batchrunner.core.budget import DAY_MS
from batchrunner.models import RunId
from batchrunner.store.driver import DriverConnection
from batchrunner.store.records import Apart
from batchrunner.store.spending import spending_since

__all__ = ["KEPT", "Money", "RunMoney", "forget_kept", "keep_for", "look", "lost_of", "set_apart"]

#: Whose row is what was lost; no process has that number.
_LOST: Final = 0
_KEEP: Final = (
    "INSERT INTO worker_run (run_id, worker_id, kept_usd) VALUES (?, ?, ?)"
    " ON CONFLICT (run_id, worker_id) DO UPDATE SET kept_usd = excluded.kept_usd"
)
_LOSE: Final = (
    "INSERT INTO worker_run (run_id, worker_id, kept_usd) VALUES (?, ?, ?)"
    " ON CONFLICT (run_id, worker_id) DO UPDATE SET kept_usd = worker_run.kept_usd + excluded.kept_usd"
)
#: What is set apart for whatever run, and what was lost of some: that stays for as long as its run does.
KEPT: Final = (
    "SELECT run_id, worker_id, kept_usd FROM worker_run"  # noqa: S608 (a constant)
    f" WHERE worker_id != {_LOST} OR run_id IN (SELECT value FROM json_each(?))"
)
#: Runs may be of several accounts, whose turns don't wait for each other: under a budget they do.
_ALONE: Final = (
    "SELECT pg_advisory_xact_lock(CAST(CAST(CAST('worker_run' AS regclass) AS oid) AS int), 4)"
)


class RunMoney(NamedTuple):
    """Dollars of one run, over all workers."""

    spent: float
    #: Since anybody has counted it here.
    lost: float
    #: Set apart by others.
    others: float


class Money(NamedTuple):
    """What is spent and set apart by now."""

    runs: Mapping[RunId, RunMoney]
    #: Set apart by this worker, as it is stored.
    ours: Mapping[RunId, float]
    #: Dollars by day since the epoch, of yesterday and later; empty where no budget asks.
    by_day: Mapping[int, float]
    #: Set apart by others for whatever run.
    others: float


def look(
    conn: DriverConnection, worker: int, runs: Collection[RunId], *, budget_at: float | None
) -> Money:
    """Return what is spent and set apart by now; nobody else spends of it until the transaction ends.

    Under a budget (``budget_at`` is the time, wall) nobody who keeps one claims meanwhile. Locks are taken
    in one order: accounts before this, then runs, then the budget.
    """
    these = msgspec.json.encode(list(runs)).decode()
    conn.execute(
        "SELECT id FROM run WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id FOR NO KEY UPDATE",
        (these,),
    )
    if budget_at is not None:
        conn.execute(_ALONE)
    # Before what is spent: what is settled between the two counts twice, never not at all.
    lost, ours, others = (dict[RunId, float]() for _ in range(3))
    whose = {_LOST: lost, worker: ours}
    for run_id, owner, dollars in conn.execute(KEPT, (these,)).fetchall():
        of = whose.get(owner, others)
        of[run_id] = of.get(run_id, 0.0) + dollars
    spent = conn.execute(
        "SELECT id, coalesce(cost_usd, 0) FROM run WHERE id IN (SELECT value FROM json_each(?))",
        (these,),
    ).fetchall()
    by_day: Mapping[int, float] = {}
    if budget_at is not None:
        by_day = spending_since(conn, int(budget_at // DAY_MS) - 1)
    return Money(
        {
            RunId(run): RunMoney(float(dollars), lost.get(run, 0.0), others.get(run, 0.0))
            for run, dollars in spent
        },
        ours,
        by_day,
        sum(others.values()),
    )


def set_apart(conn: DriverConnection, worker: int, apart: Apart) -> None:
    """Store what a worker has set apart by now, and add what was lost."""
    for run, dollars in apart.kept.items():
        if dollars:
            conn.execute(_KEEP, (run, worker, dollars))
        else:
            conn.execute("DELETE FROM worker_run WHERE run_id = ? AND worker_id = ?", (run, worker))
    if apart.lost:
        conn.executemany(_LOSE, [(run, _LOST, dollars) for run, dollars in apart.lost.items()])


def keep_for(conn: DriverConnection, run_id: RunId, kept: Mapping[int, float]) -> None:
    """Set apart for other workers what they have claimed of a run and did not set apart themselves."""
    conn.executemany(
        "INSERT INTO worker_run (run_id, worker_id, kept_usd) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(run_id, worker, dollars) for worker, dollars in kept.items()],
    )


def lost_of(conn: DriverConnection, run_id: RunId) -> float:
    """Return what was counted as lost of a run here."""
    row = conn.execute(
        "SELECT kept_usd FROM worker_run WHERE run_id = ? AND worker_id = ?", (run_id, _LOST)
    ).fetchone()
    return 0.0 if row is None else float(row[0])


def forget_kept(conn: DriverConnection, living: Collection[int]) -> None:
    """Count as lost what workers had set apart that are gone: it may have been paid."""
    kept = conn.execute(
        "DELETE FROM worker_run WHERE worker_id NOT IN (SELECT value FROM json_each(?))"
        " RETURNING run_id, kept_usd",
        (msgspec.json.encode([_LOST, *living]).decode(),),
    ).fetchall()
    lost = [(run_id, _LOST, dollars) for run_id, dollars in kept if dollars]
    if lost:
        conn.executemany(_LOSE, lost)
