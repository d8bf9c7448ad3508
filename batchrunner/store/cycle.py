"""The holder's transaction: settle what came back, claim what may go out, book what it uses.

In three parts, since it runs beside an event loop that wants the interpreter's lock: :func:`prepare`
and :func:`finish` on the loop's thread, :func:`execute` on the connection's, inside a transaction that
somebody else began and will commit, with little left to do but wait for SQLite. About a dozen
statements a cycle whatever its size: each step hands the lock to and fro (measured: a statement a job
cost the loop a quarter of its time), and a CHECK with IN builds its list once a statement (half of
what a claim and a settle cost). What a settle writes is in :mod:`batchrunner.store.settles`, how jobs
are claimed in :mod:`batchrunner.store.claims`.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Final, NamedTuple

from batchrunner.failpoints import hit
from batchrunner.store import worker_runs
from batchrunner.store.claims import claim, unpacked
from batchrunner.store.driver import DriverConnection
from batchrunner.store.inserts import Statement, insert_of_each, inserts_of_many
from batchrunner.store.next_jobs import look
from batchrunner.store.records import Cycle, CycleResult, Delta, LaneClaim, NextJobs, Settle
from batchrunner.store.settles import (
    Answer,
    Group,
    alike,
    answers_of,
    count,
    days_insert,
    responses_insert,
    sends_insert,
    settle_group,
    settle_singly,
)
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
    compress(prepared)
    return finish(execute(conn, prepared))


class Prepared(NamedTuple):
    """A cycle made ready: nothing is left to do but execute."""

    cycle: Cycle
    groups: Sequence[Group]
    statements: Sequence[Statement]
    deltas: dict[int, Delta]
    #: Answers of which some are to be compressed, and their statements once that is done.
    answers: Sequence[Answer]
    late: list[Statement]
    #: Whether rows go as one statement of many values; else they are in ``many``.
    packs: bool
    #: Inserts with their rows, for a driver that hands many over by itself.
    many: list[Statement]


class Executed(NamedTuple):
    """What a prepared cycle did; the packed jobs are still to be read."""

    #: A lane's jobs, or the JSON text that the database wrote of them.
    lanes: Sequence[LaneClaim | bytes]
    next_jobs: Sequence[NextJobs]
    lost: Sequence[Settle]
    deltas: dict[int, Delta]


def prepare(cycle: Cycle, *, packs: bool = True) -> Prepared:
    """Return a cycle's statements; touches no database.

    So the thread that executes does little else, and seldom has the interpreter's lock. ``packs``:
    rows are put into statements of many values, as SQLite likes them.
    """
    deltas: dict[int, Delta] = defaultdict(Delta)
    for settle in cycle.settles:
        count(settle, deltas[settle.run_id])
    seen = [("seen_at", str(cycle.now))] if cycle.is_seen else []
    seen += [seen_row(*one) for one in cycle.seen_tokens]
    answers = answers_of(cycle.settles, cycle.codecs)
    inserts = [
        sends_insert(cycle.settles),
        *(() if cycle.codecs else (responses_insert(answers),)),
        days_insert(cycle.settles),
        (_HOLD, _HOLD_AGAIN, [(*hold, cycle.wall) for hold in cycle.holds]),
        (_USAGE, _USAGE_AGAIN, cycle.usage),
        (_CAP, _CAP_AGAIN, [(*cap, "header", cycle.wall) for cap in cycle.learned]),
        (_META, _META_AGAIN, seen),
        (TIME, TIME_AGAIN, cycle.times),
    ]
    statements = [
        *(chain.from_iterable(inserts_of_many(*insert) for insert in inserts) if packs else ()),
        *((_SCOPE, (*row[1:], row[0])) for row in cycle.scopes),
        *((_ORGANIZATION, (name, scope)) for scope, name in cycle.organizations),
        *((_SAID, (headers.decode(), cycle.wall, scope)) for scope, headers in cycle.said),
        *((COUNT_LOST, row) for row in lost_rows(cycle.settles)),
    ]
    many = [] if packs else [insert_of_each(*insert) for insert in inserts if insert[2]]
    late = answers if cycle.codecs else ()
    return Prepared(cycle, alike(cycle.settles), statements, deltas, late, [], packs, many)


def compress(prepared: Prepared) -> None:
    """Make the answers small whose run wants that, if it is not done yet.

    For the connection's thread, before the transaction: zlib lets the interpreter's lock go.
    """
    if prepared.answers and not prepared.late:
        insert = responses_insert(prepared.answers)
        prepared.late.extend(
            inserts_of_many(*insert) if prepared.packs else (insert_of_each(*insert),)
        )


def execute(conn: DriverConnection, prepared: Prepared) -> Executed:
    """Settle, claim and book in the transaction that is open and has done nothing else.

    Where a settle no longer applies, which only a defect or another holder could bring about, the
    transaction is begun anew.
    """
    lost: Sequence[Settle] = ()
    if not all(settle_group(conn, values) == len(group) for values, group in prepared.groups):
        _begin_anew(conn)
        lost = settle_singly(conn, prepared.groups)
        prepared = _without(prepared, lost)
        compress(prepared)
    cycle, deltas = prepared.cycle, prepared.deltas
    late, many = (prepared.late, ()) if prepared.packs else ((), prepared.late)
    for statement, values in chain(prepared.statements, late):
        conn.execute(statement, values)
    for statement, rows in chain(prepared.many, many):
        conn.executemany(statement, rows)
    if cycle.settles:
        hit("settle.inside")
    lanes: list[LaneClaim | bytes] = []
    start = 0
    for ask in cycle.asks:
        lane, n = claim(conn, ask, cycle.now, cycle.planned[start : start + ask.n])
        lanes.append(lane)
        deltas[ask.run_id].pending -= n
        deltas[ask.run_id].running += n
        start += ask.n
    for run_id, delta in deltas.items():
        conn.execute(_RUN, delta.row(run_id))
    if cycle.apart is not None:
        worker_runs.set_apart(conn, cycle.worker, cycle.apart())
    if cycle.asks:
        hit("claim.inside")
    next_jobs = [look(conn, asked, cycle.now) for asked in cycle.looks]
    return Executed(lanes, next_jobs, lost, deltas)


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


def _begin_anew(conn: DriverConnection) -> None:
    """Take back what the transaction did; nobody else writes before it goes on, where that matters."""
    if isinstance(conn, sqlite3.Connection):
        conn.execute("ROLLBACK")
        conn.execute("BEGIN IMMEDIATE")
    else:
        conn.execute("BEGIN ANEW")


def _without(prepared: Prepared, lost: Sequence[Settle]) -> Prepared:
    """Return a cycle without the settles that no longer apply."""
    gone = {(s.job_id, s.claim) for s in lost}
    kept = [s for s in prepared.cycle.settles if (s.job_id, s.claim) not in gone]
    return prepare(replace(prepared.cycle, settles=kept), packs=prepared.packs)
