"""The holder's transaction: settle what came back, claim what may go out, book what it uses.

In three parts, since it runs beside an event loop that wants the interpreter's lock: :func:`prepare`
and :func:`finish` on the loop's thread, :func:`execute` on the connection's, inside a transaction that
somebody else began and will commit, with little left to do but wait for SQLite. About a dozen
statements a cycle whatever its size: each step hands the lock to and fro (measured: a statement a job
cost the loop a quarter of its time), and a CHECK with IN builds its list once a statement (half of
what a claim and a settle cost). Settles are in :mod:`batchrunner.store.settling`, claims in
:mod:`batchrunner.store.claims`.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple

from batchrunner.failpoints import hit
from batchrunner.store import worker_runs
from batchrunner.store.claims import claim, unpacked
from batchrunner.store.driver import DriverConnection
from batchrunner.store.inserts import Rows, rows_of
from batchrunner.store.next_jobs import look
from batchrunner.store.records import Cycle, CycleResult, Delta, LaneClaim, NextJobs, Settle
from batchrunner.store.settles import count, days_insert
from batchrunner.store.settling import Settling, compress, prepare_settling, settle
from batchrunner.store.spending import COUNT_LOST, lost_rows
from batchrunner.store.tokens import seen_row
from batchrunner.store.waits import TIME, TIME_AGAIN

_USAGE = "INSERT INTO usage_slot (scope_id, unit, grain, slot, n)"
_USAGE_AGAIN = " ON CONFLICT (scope_id, unit, grain, slot) DO UPDATE SET n = excluded.n"
_META = "INSERT INTO meta (key, value)"
_META_AGAIN = " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_HOLD = "INSERT INTO hold (run_id, model_id, kind, message, fix, set_at)"
_HOLD_AGAIN = """
    ON CONFLICT (run_id, model_id) DO UPDATE SET kind = excluded.kind, message = excluded.message,
                              fix = excluded.fix, set_at = excluded.set_at"""
_CAP = "INSERT INTO cap (scope_id, limit_name, value, source, set_at)"
_CAP_AGAIN = """
    ON CONFLICT (scope_id, limit_name, source) DO UPDATE
    SET value = excluded.value, set_at = excluded.set_at"""
_ORGANIZATION = "UPDATE scope SET organization = ? WHERE id = ?"
_SAID = "UPDATE scope SET headers = ?, headers_at = ? WHERE id = ?"
_SCOPE = """
    UPDATE scope SET next_send_at = ?, last_send_at = ?, pause_set_at = ?, pause_until = ?,
                     pause_reason = ?, pause_detail = ?, pause_generation = ?, pause_level = ?
    WHERE id = ?"""

_COUNTERS: Final = (
    "n_pending", "n_running", "n_completed", "n_failed", "n_sent", "n_retried", "n_rate_limited",
    "n_interrupted",
)  # fmt: skip
#: Counters that say nothing as long as no answer did.
_SUMS: Final = ("input_tokens", "output_tokens", "cost_usd")
_RUN = (
    "UPDATE run SET "  # noqa: S608 (column names from the tables above)
    + ", ".join(f"{name} = {name} + ?" for name in _COUNTERS)
    + ", "
    + ", ".join(f"{name} = coalesce({name} + ?, {name}, ?)" for name in _SUMS)
    + " WHERE id = ?"
)


def run_cycle(conn: DriverConnection, cycle: Cycle) -> CycleResult:
    """Settle, claim and book, in this order, and return what was claimed."""
    prepared = prepare(cycle, packs=isinstance(conn, sqlite3.Connection))
    compress(prepared.settling)
    return finish(execute(conn, prepared))


class Prepared(NamedTuple):
    """A cycle made ready: nothing is left to do but execute."""

    cycle: Cycle
    settling: Settling
    #: Rows that every cycle may write: what is used of limits, days, a run's time.
    common: Rows
    deltas: dict[int, Delta]


class Executed(NamedTuple):
    """What a prepared cycle did; the packed jobs are still to be read."""

    #: A lane's jobs, or the JSON text that the database wrote of them.
    lanes: Sequence[LaneClaim | bytes]
    next_jobs: Sequence[NextJobs]
    lost: Sequence[Settle]
    deltas: dict[int, Delta]


def prepare(cycle: Cycle, *, packs: bool = True, settled: Settling | None = None) -> Prepared:
    """Return a cycle's statements; touches no database.

    So the thread that executes does little else, and seldom has the interpreter's lock. ``packs``:
    rows are put into statements of many values, as SQLite likes them. ``settled``: what the
    transaction has settled of it already.
    """
    settles = cycle.settles if settled is None else settled.settles
    deltas: dict[int, Delta] = defaultdict(Delta)
    for one in settles:
        count(one, deltas[one.run_id])
    seen = [("seen_at", str(cycle.now))] if cycle.is_seen else []
    seen += [seen_row(*one) for one in cycle.seen_tokens]
    inserts = (
        days_insert(settles),
        (_HOLD, _HOLD_AGAIN, [(*hold, cycle.wall) for hold in cycle.holds]),
        (_USAGE, _USAGE_AGAIN, cycle.usage),
        (_CAP, _CAP_AGAIN, [(*cap, "header", cycle.wall) for cap in cycle.learned]),
        (_META, _META_AGAIN, sorted(seen)),
        (TIME, TIME_AGAIN, sorted(cycle.times)),
    )
    others = [
        *((_SCOPE, (*row[1:], row[0])) for row in cycle.scopes),
        *((_ORGANIZATION, (name, scope)) for scope, name in cycle.organizations),
        *((_SAID, (headers.decode(), cycle.wall, scope)) for scope, headers in cycle.said),
        *((COUNT_LOST, row) for row in lost_rows(settles)),
    ]
    if settled is None:
        settled = prepare_settling(settles, cycle.codecs, packs=packs)
    return Prepared(cycle, settled, rows_of(inserts, packs=packs, others=others), deltas)


def execute(conn: DriverConnection, prepared: Prepared) -> Executed:
    """Settle, claim and book in the transaction that is open and has done nothing else."""
    settled = settle(conn, prepared.settling)
    if settled.lost:
        prepared = prepare(prepared.cycle, packs=settled.packs, settled=settled)
    return book(conn, prepared)


def book(conn: DriverConnection, prepared: Prepared, *, is_shared: bool = False) -> Executed:
    """Claim and book in the transaction that has settled; ``is_shared``: others claim meanwhile.

    Last come the rows that every cycle writes, in the order of their keys: nobody waits for them for
    longer than the rest takes, and no two wait for each other.
    """
    cycle, deltas = prepared.cycle, prepared.deltas
    if prepared.settling.settles:
        hit("settle.inside")
    lanes: list[LaneClaim | bytes] = []
    start = 0
    for ask in cycle.asks:
        planned = cycle.planned[start : start + ask.n]
        lane, n = claim(conn, ask, cycle.now, planned, is_shared=is_shared)
        lanes.append(lane)
        deltas[ask.run_id].pending -= n
        deltas[ask.run_id].running += n
        start += ask.n
    if cycle.asks:
        hit("claim.inside")
    next_jobs = [look(conn, asked, cycle.now) for asked in cycle.looks]
    prepared.common.insert(conn)
    for run_id in sorted(deltas):
        conn.execute(_RUN, deltas[run_id].row(run_id))
    if cycle.apart is not None:
        worker_runs.set_apart(conn, cycle.worker, cycle.apart())
    return Executed(lanes, next_jobs, prepared.settling.lost, deltas)


def finish(executed: Executed) -> CycleResult:
    """Return what an executed cycle did, its claimed jobs read."""
    lanes = [
        lane if isinstance(lane, LaneClaim) else LaneClaim(unpacked(lane), False, None)
        for lane in executed.lanes
    ]
    return CycleResult(
        lanes=lanes,
        next_jobs=list(executed.next_jobs),
        lost=list(executed.lost),
        deltas=executed.deltas,
    )
