"""What the holder reads and writes outside its cycle: rescue, take-up, lanes, stops.

Like :mod:`batchrunner.store.cycle`, every function takes the writer's connection inside a
transaction that somebody else began and will commit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from batchrunner.clock import LastSeen, SystemClock
from batchrunner.core.time_use import HANDED_OVER, OVER, stopped
from batchrunner.failpoints import hit
from batchrunner.models import JobCounts, JobId, ModelId, RunId, ScopeId, Waiting
from batchrunner.store import scopes, waits
from batchrunner.store.codecs import DamagedBodyError, codecs_of, plain_body
from batchrunner.store.driver import DriverConnection
from batchrunner.store.processes import STALE
from batchrunner.store.records import TimeSum
from batchrunner.store.spending import COUNT_LOST, SaidPrices, lost_row, said_prices, uncounted_row
from batchrunner.views import RequestCounts

#: A sender never sends later than this after its planned instant, so that after a crash the usage
#: of an orphan can be booked where no real send can have been later (milliseconds).
MAX_LATE_MS: Final = 30_000

#: Jobs cancelled in one transaction: some 20 ms.
_CANCEL_JOBS: Final = 2_000
_GRAIN_MS: Final = 250
_MINUTE_MS: Final = 60_000
_MS_A_DAY: Final = 86_400_000


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


class AskRow(NamedTuple):
    """An attached process that wants a run drained."""

    run_id: RunId
    process_id: int
    options: dict[str, Any]
    taken_by: int | None
    note: str | None
    lock_file: str
    #: Until when (wall ms) the run waits, as it was last known.
    waits_until: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescued:
    """What a holder that died left behind."""

    n_jobs: int
    runs: Mapping[RunId, int]


def last_seen(conn: DriverConnection) -> LastSeen:
    """Return what former processes stored of steady time."""
    stored = dict(
        conn.execute("SELECT key, value FROM meta WHERE key IN ('seen_at', 'clock')").fetchall()
    )
    offset, boot = json.loads(stored.get("clock", '[0.0, ""]'))
    return LastSeen(float(stored.get("seen_at", 0.0)), offset, boot)


def go_on_from(conn: DriverConnection, *, is_alone: bool) -> SystemClock:
    """Return the clock of a process that begins, and store what the next one goes on from.

    ``is_alone`` is false where another sends.
    """
    last = last_seen(conn)
    clock = SystemClock(last, is_alone=is_alone)
    if clock.boot and (clock.offset, clock.boot) != last[1:]:
        conn.executemany(
            "INSERT INTO meta (key, value) VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            [
                ("clock", json.dumps([clock.offset, clock.boot])),
                ("seen_at", str(int(clock.now()))),
            ],
        )
    return clock


#: (provider, model, body, prices that were said where its run was sent) → the most that a request may cost;
#: ``None``: nobody knows.
WorstOf = Callable[[str, str, bytes, SaidPrices], float | None]


def unpriced(_provider: str, _model: str, _body: bytes, _said: SaidPrices) -> float | None:
    """Stand for prices where nobody knows any."""
    return None


_THESE: Final = " AND id IN (SELECT value FROM json_each(?))"
#: Whose jobs nobody sends, on a queue of workers.
_NOT_THEIRS: Final = (
    " AND (j.worker_id IS NULL OR j.worker_id NOT IN (SELECT value FROM json_each(?)))"
)


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
        (state,) = conn.execute("SELECT state FROM run WHERE id = ?", (run_id,)).fetchone()
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


_RUN_COLUMNS = (
    "id, uid, name, state, provider, account_id, options, priority, n_pending, n_running,"
    " n_completed, n_failed, n_cancelled, n_rejected, created_at, started_at"
)


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


def clear_holds(conn: DriverConnection, run_id: RunId) -> None:
    """Let the jobs of every held model go again: somebody asked for the run anew."""
    conn.execute("DELETE FROM hold WHERE run_id = ?", (run_id,))


def forget_person(conn: DriverConnection, run_id: RunId) -> None:
    """Forget that a person stopped a run which is ready again; any other reason a take-up clears."""
    conn.execute(
        "UPDATE run SET stop_reason = NULL, stop_until = NULL, stop_detail = NULL, stop_fix = NULL"
        " WHERE id = ? AND state = 'ready' AND runner_id IS NULL AND stop_reason = 'paused'",
        (run_id,),
    )


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


def set_waiting(
    conn: DriverConnection, run_id: RunId, waiting: Waiting | None, *, cause: str, wall: int
) -> None:
    """Note what a live run waits for, or that it waits no more; ``cause`` is what its time goes into."""
    if waiting is None:
        waits.end_wait(conn, run_id, wall=wall)
    else:
        waits.begin_wait(conn, run_id, cause, waiting, wall=wall)
    conn.execute(
        "UPDATE run SET stop_reason = ?, stop_until = ?, stop_detail = ?, stop_fix = ?"
        " WHERE id = ?",
        (*_stop_columns(waiting), run_id),
    )


def end_run(
    conn: DriverConnection,
    run_id: RunId,
    stop: Waiting | None,
    *,
    finished: bool,
    wall: int,
    only_for: int | None = None,
    times: Sequence[TimeSum] = (),
) -> None:
    """Leave a run: finished, or stopped with work left and the reason why.

    A stop that only the call of process ``only_for`` wanted leaves the asks of others standing.
    ``times`` is where the run's time went since that was last stored.
    """
    reason = stop.reason.value if stop is not None else "cancelled"
    waits.leave(conn, run_id, OVER if finished else stopped(reason), stop, wall=wall, times=times)
    conn.execute(
        "UPDATE run SET runner_id = NULL, stop_reason = ?, stop_until = ?, stop_detail = ?,"
        " stop_fix = ? WHERE id = ?",
        (*_stop_columns(stop), run_id),
    )
    if finished:
        conn.execute(
            "UPDATE run SET state = 'finished', finished_at = ? WHERE id = ? AND state = 'ready'",
            (wall, run_id),
        )
    conn.execute(
        "UPDATE ask SET taken_by = NULL,"
        " note = CASE WHEN process_id = coalesce(?2, process_id) THEN 'ended' END WHERE run_id = ?1",
        (run_id, only_for),
    )


def let_go(
    conn: DriverConnection, run_id: RunId, *, wall: int, times: Sequence[TimeSum] = ()
) -> None:
    """Leave a run to whoever takes it up next; it stays as it is."""
    waits.leave(conn, run_id, HANDED_OVER, wall=wall, times=times)
    conn.execute("UPDATE run SET runner_id = NULL WHERE id = ?", (run_id,))
    conn.execute("UPDATE ask SET taken_by = NULL, note = NULL WHERE run_id = ?", (run_id,))


def cancel_some(conn: DriverConnection, run_id: RunId, *, wall: int) -> int:
    """Cancel some pending jobs of a run that was given up; return how many, 0 once none is left."""
    n = 0
    for held_back in ("not_before = 0", "not_before > 0"):
        n += conn.execute(
            "UPDATE job SET state = 'cancelled', not_before = 0, wait_reason = NULL,"  # noqa: S608 (constants)
            " finished_at = ?, error_kind = 'cancelled' WHERE id IN (SELECT id FROM job"
            f" WHERE run_id = ? AND state = 'pending' AND {held_back} LIMIT ?)",
            (wall, run_id, _CANCEL_JOBS),
        ).rowcount
    conn.execute(
        "UPDATE run SET n_pending = n_pending - ?, n_cancelled = n_cancelled + ? WHERE id = ?",
        (n, n, run_id),
    )
    return n


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


def _stop_columns(stop: Waiting | None) -> tuple[str | None, int | None, str | None, str | None]:
    if stop is None:
        return (None, None, None, None)
    return (stop.reason.value, stop.until, stop.detail, stop.fix)


def load_asks(conn: DriverConnection) -> list[AskRow]:
    """Return what attached processes ask for, oldest process first."""
    asks = [
        AskRow(row[0], row[1], json.loads(row[2]), *row[3:])
        for row in conn.execute(
            "SELECT a.run_id, a.process_id, a.options, a.taken_by, a.note, p.lock_file,"
            " r.stop_until FROM ask a JOIN process p ON p.id = a.process_id"
            " JOIN run r ON r.id = a.run_id ORDER BY a.process_id"
        )
    ]
    return [
        ask._replace(waits_until=None) if ask.waits_until == ask.options.get(STALE) else ask
        for ask in asks
    ]


def note_ask(conn: DriverConnection, run_id: RunId, process_id: int, note: str) -> None:
    """Tell an asker why its run is not taken up."""
    conn.execute(
        "UPDATE ask SET note = ? WHERE run_id = ? AND process_id = ?", (note, run_id, process_id)
    )


def put_back(conn: DriverConnection, run_id: RunId, job_ids: Sequence[JobId]) -> int:
    """Make failed jobs pending again with attempts from 0; return how many."""
    n = 0
    for job in job_ids:
        n += conn.execute(
            "UPDATE job SET state = 'pending', attempts = 0, not_before = 0, finished_at = NULL,"
            " error_kind = NULL WHERE id = ? AND state = 'failed'",
            (job,),
        ).rowcount
    conn.execute(
        "UPDATE run SET n_pending = n_pending + ?, n_failed = n_failed - ? WHERE id = ?",
        (n, n, run_id),
    )
    return n
