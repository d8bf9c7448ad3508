"""The rescue of jobs that a process had in flight when it died: they wait again, and count as sent.

Every function takes the writer's connection inside a transaction that somebody else began and will
commit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from batchrunner.failpoints import hit
from batchrunner.models import RunId
from batchrunner.store import scopes
from batchrunner.store.codecs import DamagedBodyError, codecs_of, plain_body
from batchrunner.store.driver import DriverConnection
from batchrunner.store.sample import mark_claimed
from batchrunner.store.spending import COUNT_LOST, SaidPrices, lost_row, said_prices, uncounted_row
from batchrunner.store.stops import cancel_some

__all__ = ["MAX_LATE_MS", "Rescued", "WorstOf", "has_orphans", "rescue", "unpriced"]

#: A sender never sends later than this after its planned instant, so that after a crash the usage
#: of an orphan can be booked where no real send can have been later (milliseconds).
MAX_LATE_MS: Final = 30_000

_GRAIN_MS: Final = 250
_MINUTE_MS: Final = 60_000
_MS_A_DAY: Final = 86_400_000
_THESE: Final = " AND id IN (SELECT value FROM json_each(?))"
#: Whose jobs nobody sends, on a queue of workers.
_NOT_THEIRS: Final = (
    " AND (j.worker_id IS NULL OR j.worker_id NOT IN (SELECT value FROM json_each(?)))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """What a holder that died left behind."""

    n_jobs: int
    runs: Mapping[RunId, int]


#: (provider, model, body, prices that were said where its run was sent) → the most that a request may cost;
#: ``None``: nobody knows.
WorstOf = Callable[[str, str, bytes, SaidPrices], float | None]


def unpriced(_provider: str, _model: str, _body: bytes, _said: SaidPrices) -> float | None:
    """Stand for prices where nobody knows any."""
    return None


def has_orphans(conn: DriverConnection, living: Collection[int]) -> bool:
    """Return whether a job is claimed by none of the ``living``, on a queue of workers."""
    row = conn.execute(
        f"SELECT 1 FROM job j INDEXED BY job_running WHERE j.state = 'running'{_NOT_THEIRS} LIMIT 1",  # noqa: S608 (constants)
        (json.dumps(list(living)),),
    ).fetchone()
    return row is not None


def rescue(
    conn: DriverConnection,
    *,
    now: int,
    wall: int,
    pool_of: Callable[[str, str], str],
    worst_of: WorstOf = unpriced,
    living: Collection[int] | None = None,
) -> Rescued:
    """Put every ``running`` job back: whoever holds the lock knows that nobody sends it.

    On a queue of workers those that none of the ``living`` has claimed.

    Each becomes a row of the send log that is marked as possibly executed, since claimed and sent
    look alike from here, and its usage moves to the latest instant at which it can really have
    been sent, its worst case to what is spent. ``pool_of`` tells a model's pool from provider and model.
    """
    theirs = "" if living is None else _NOT_THEIRS
    these = "" if living is None else _THESE
    orphans = conn.execute(
        "SELECT j.id, j.run_id, j.claims, j.claimed_at, r.account_id, r.provider, m.id, m.name"  # noqa: S608 (constants)
        " FROM job j INDEXED BY job_running JOIN run r ON r.id = j.run_id"
        " JOIN model m ON m.id = j.model_id"
        f" WHERE j.state = 'running'{theirs}",
        () if living is None else (json.dumps(list(living)),),
    ).fetchall()
    if living is not None and not orphans:
        return Rescued(n_jobs=0, runs={})
    runs: dict[RunId, int] = {}
    said: dict[RunId, SaidPrices] = {}
    for job_id, run_id, claim, planned_at, account_id, provider, model_id, model in orphans:
        runs[run_id] = runs.get(run_id, 0) + 1
        # Taken up means bound; a file that was mended by hand must not stop the rescue.
        account = account_id or scopes.scope_id(
            conn, kind="account", provider=provider, key="unknown", parent_id=None
        )
        pool = scopes.scope_id(
            conn,
            kind="pool",
            provider=provider,
            key=pool_of(provider, model),
            parent_id=account,
        )
        latest = min(now, planned_at + MAX_LATE_MS)
        # It may have been paid.
        if run_id not in said:
            said[run_id] = said_prices(conn, run_id)
        dollars = worst_of(provider, model, _body(conn, run_id, job_id), said[run_id])
        if dollars is None:
            conn.execute(COUNT_LOST, uncounted_row(latest + wall - now, model))
        elif dollars:
            conn.execute(COUNT_LOST, lost_row(latest + wall - now, dollars))
        # Minutes are on steady time, days on the calendar's.
        _move_usage(conn, pool, _GRAIN_MS, planned_at, latest)
        _move_usage(conn, pool, _MINUTE_MS, planned_at + wall - now, latest + wall - now)
        conn.execute(
            "INSERT INTO send (job_id, claim, scope_id, planned_at, ended_at, outcome, kind,"
            " message, maybe_executed) VALUES (?, ?, ?, ?, ?, 'interrupted', 'interrupted',"
            " 'the process that sent it died', 1)",
            (job_id, claim, pool, planned_at, wall),
        )
        conn.execute(
            "INSERT INTO usage_day (day, account_id, model_id, run_id, requests)"
            " VALUES (?, ?, ?, ?, 1) ON CONFLICT (day, account_id, model_id, run_id)"
            " DO UPDATE SET requests = usage_day.requests + 1",
            ((planned_at + wall - now) // _MS_A_DAY, account, model_id, run_id),
        )
    hit("rescue.inside")
    conn.execute(
        "UPDATE job SET state = 'pending', wait_reason = 'interrupted'"  # noqa: S608 (constants)
        f" WHERE state = 'running'{these}",
        () if living is None else (json.dumps([row[0] for row in orphans]),),
    )
    for run_id, n in runs.items():
        conn.execute(
            "UPDATE run SET n_pending = n_pending + ?, n_running = n_running - ?,"
            " n_sent = n_sent + ?, n_interrupted = n_interrupted + ? WHERE id = ?",
            (n, n, n, n, run_id),
        )
        state, options = conn.execute(
            "SELECT state, options FROM run WHERE id = ?", (run_id,)
        ).fetchone()
        if json.loads(options).get("sample"):
            # Others may be sending the rest of it.
            mark_claimed(conn, run_id)
        while state == "cancelled" and cancel_some(conn, run_id, wall=wall):
            # Given up while they were in flight: nobody is to send them again.
            pass
    return Rescued(n_jobs=len(orphans), runs=runs)


def _body(conn: DriverConnection, run_id: RunId, job_id: int) -> bytes:
    """Return what was sent; one that can't be read back is as good as none."""
    row = conn.execute("SELECT codec, body FROM payload WHERE job_id = ?", (job_id,)).fetchone()
    if row is None:
        return b""
    try:
        return plain_body(codecs_of(conn, run_id), *row, part="request", key="")
    except DamagedBodyError:
        return b""


def _move_usage(
    conn: DriverConnection, pool_id: int, grain: int, planned_at: int, latest: int
) -> None:
    old, new = planned_at // grain, latest // grain
    if old == new:
        return
    for (scope_id,) in conn.execute(
        "SELECT id FROM scope WHERE id = ?1"
        " UNION SELECT parent_id FROM scope WHERE id = ?1 AND parent_id IS NOT NULL",
        (pool_id,),
    ).fetchall():
        n_there = conn.execute(
            "SELECT n FROM usage_slot WHERE scope_id = ? AND unit = 'requests' AND grain = ?"
            " AND slot = ? AND n > 0",
            (scope_id, grain, old),
        ).fetchone()
        if n_there is None:
            continue
        # Whose tokens are whose was not stored: each takes its share of its slot's along.
        conn.execute(
            "INSERT INTO usage_slot (scope_id, unit, grain, slot, n)"
            " SELECT scope_id, unit, grain, ?4, (n + ?5 - 1) / ?5 FROM usage_slot"
            " WHERE scope_id = ?1 AND grain = ?2 AND slot = ?3 AND n > 0"
            " ON CONFLICT (scope_id, unit, grain, slot)"
            " DO UPDATE SET n = usage_slot.n + excluded.n",
            (scope_id, grain, old, new, n_there[0]),
        )
        conn.execute(
            "UPDATE usage_slot SET n = n - (n + ?4 - 1) / ?4"
            " WHERE scope_id = ?1 AND grain = ?2 AND slot = ?3",
            (scope_id, grain, old, n_there[0]),
        )
