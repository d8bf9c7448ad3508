"""The holder's transaction: settle what came back, claim what may go out, book what it uses.

In three parts, since it runs beside an event loop that wants the interpreter's lock: :func:`prepare`
and :func:`finish` on the loop's thread, :func:`execute` on the connection's, inside a transaction that
somebody else began and will commit, with little left to do but wait for SQLite. About a dozen
statements a cycle whatever its size: each step hands the lock to and fro (measured: a statement a job
cost the loop a quarter of its time), and a CHECK with IN builds its list once a statement (half of
what a claim and a settle cost). Settles are conditional on state and claim, so that a late answer
can't overwrite a newer claim.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain
from typing import Final, NamedTuple

import msgspec

from batchrunner.failpoints import hit
from batchrunner.models import JobId
from batchrunner.store.codecs import Codec
from batchrunner.store.driver import DriverConnection
from batchrunner.store.next_jobs import CHOSEN, DUE, FRESH, NEXT_DUE, Budget, look
from batchrunner.store.records import (
    Ask,
    ClaimedJob,
    Cycle,
    CycleResult,
    Delta,
    LaneClaim,
    NextJobs,
    Settle,
)
from batchrunner.store.spending import COUNT_LOST, lost_rows
from batchrunner.store.tokens import seen_row
from batchrunner.store.waits import TIME, TIME_AGAIN

#: A claim takes no more payload than this, however small the jobs' number.
MAX_CLAIM_BYTES: Final = 16 * 1024 * 1024


_SEND_COLUMNS: Final = (
    "job_id", "claim", "scope_id", "planned_at", "sent_at", "ended_at", "outcome", "kind",
    "http_status", "request_id", "message", "maybe_executed",
)  # fmt: skip
_RESPONSE_COLUMNS: Final = (
    "job_id", "http_status", "error_message", "model", "finish_reason", "input_tokens",
    "output_tokens", "cost_usd", "latency_ms", "request_id", "body", "codec",
)  # fmt: skip
#: Rows of one INSERT, few sizes so that their statements stay prepared; the surplus is NULL.
_INSERT_SIZES: Final = (1, 4, 16, 64, 128, 256)
# Jobs that settle alike in one statement; the fence is the claim they have in common.
_SETTLE_JOBS = """
    UPDATE job SET state = ?1, not_before = ?2, wait_reason = ?3, attempts = attempts + ?4,
                   finished_at = ?5, error_kind = CASE WHEN ?4 > 0 THEN ?6 ELSE error_kind END
    WHERE state = 'running' AND claims = ?7 AND id IN (SELECT value FROM json_each(?8))"""
_SEND = f"INSERT INTO send ({', '.join(_SEND_COLUMNS)})"
# Tokens and cost are sums over all attempts; the other fields are the last attempt's.
_RESPONSE = f"INSERT INTO response ({', '.join(_RESPONSE_COLUMNS)})"
_RESPONSE_AGAIN = """
    ON CONFLICT (job_id) DO UPDATE SET
        http_status = excluded.http_status, error_message = excluded.error_message,
        model = excluded.model, finish_reason = excluded.finish_reason,
        input_tokens = coalesce(response.input_tokens + excluded.input_tokens,
                                response.input_tokens, excluded.input_tokens),
        output_tokens = coalesce(response.output_tokens + excluded.output_tokens,
                                 response.output_tokens, excluded.output_tokens),
        cost_usd = coalesce(response.cost_usd + excluded.cost_usd, response.cost_usd,
                            excluded.cost_usd),
        latency_ms = excluded.latency_ms, request_id = excluded.request_id, body = excluded.body,
        codec = excluded.codec"""
# The usual claim in two steps: all rows as one text, if not too large, and the claim of the same rows.
# For runs whose requests are plain: a compressed one is no text.
_FRESH_IDS: Final = """
    SELECT id FROM job INDEXED BY job_fresh
    WHERE run_id = ?1 AND model_id = ?2 AND state = 'pending' AND not_before = 0
    ORDER BY start, id LIMIT ?3"""
_FRESH_PACKED: Final = f"""
    SELECT CASE WHEN (SELECT coalesce(sum(length(p.body)), 0) FROM payload p
                      WHERE p.job_id IN ({_FRESH_IDS})) <= ?4 THEN (
        SELECT json_group_array(json_array(id, key, claim, attempts, started_at, method, url,
                                           CAST(headers AS TEXT), CAST(body AS TEXT)))
        FROM (SELECT j.id AS id, j.key AS key, j.claims + 1 AS claim, j.attempts AS attempts,
                     CASE WHEN j.claims = 0 THEN NULL ELSE
                         (SELECT min(s.sent_at) FROM send s WHERE s.job_id = j.id) END AS started_at,
                     p.method AS method, p.url AS url, p.headers AS headers, p.body AS body
              FROM job j INDEXED BY job_fresh JOIN payload p ON p.job_id = j.id
              WHERE j.run_id = ?1 AND j.model_id = ?2 AND j.state = 'pending'
                AND j.not_before = 0
              ORDER BY j.start, j.id LIMIT ?3)) END"""  # noqa: S608 (constants)
_CLAIM_FRESH: Final = f"""
    UPDATE job SET state = 'running', not_before = 0, wait_reason = NULL, claims = claims + 1,
                   claimed_at = ?4
    WHERE state = 'pending' AND id IN ({_FRESH_IDS})"""  # noqa: S608 (constants)
_CLAIM = """
    UPDATE job SET state = 'running', not_before = 0, wait_reason = NULL, claims = claims + 1,
                   claimed_at = ?
    WHERE state = 'pending' AND id IN (SELECT value FROM json_each(?))"""
#: As PostgreSQL alone can: each its instant, in one statement.
_CLAIM_AT = """
    UPDATE job SET state = 'running', not_before = 0, wait_reason = NULL, claims = claims + 1,
                   claimed_at = c.at
    FROM (SELECT (e.value ->> 0)::bigint AS id, (e.value ->> 1)::bigint AS at
          FROM json_array_elements(?::json) AS e(value)) c
    WHERE job.state = 'pending' AND job.id = c.id"""
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
_DAY = """
    INSERT INTO usage_day (day, account_id, model_id, run_id, requests, rate_limited,
                           input_tokens, output_tokens, cache_read_tokens,
                           cache_write_tokens, cost_usd, cache_saved_usd)"""
_DAY_AGAIN = """
    ON CONFLICT (day, account_id, model_id, run_id) DO UPDATE SET
        requests = usage_day.requests + excluded.requests,
        rate_limited = usage_day.rate_limited + excluded.rate_limited,
        input_tokens = usage_day.input_tokens + excluded.input_tokens,
        output_tokens = usage_day.output_tokens + excluded.output_tokens,
        cache_read_tokens = usage_day.cache_read_tokens + excluded.cache_read_tokens,
        cache_write_tokens = usage_day.cache_write_tokens + excluded.cache_write_tokens,
        cost_usd = coalesce(usage_day.cost_usd + excluded.cost_usd, usage_day.cost_usd,
                            excluded.cost_usd),
        cache_saved_usd = coalesce(usage_day.cache_saved_usd + excluded.cache_saved_usd,
                                   usage_day.cache_saved_usd, excluded.cache_saved_usd)"""
_MS_A_DAY: Final = 86_400_000

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


#: A statement with its parameters.
_Statement = tuple[str, Sequence[object]]
#: The head and the tail of an INSERT, and its rows.
_Insert = tuple[str, str, Sequence[Sequence[object]]]
#: A row of ``response`` but for its last two columns, its body, and what that is written with.
_Answer = tuple[tuple[object, ...], bytes | None, Codec | None]


class Prepared(NamedTuple):
    """A cycle made ready: nothing is left to do but execute."""

    cycle: Cycle
    #: Jobs that settle alike: the statement's values and whose they are.
    groups: Sequence[tuple[tuple[object, ...], Sequence[Settle]]]
    statements: Sequence[_Statement]
    deltas: dict[int, Delta]
    #: Answers of which some are to be compressed, and their statements once that is done.
    answers: Sequence[_Answer]
    late: list[_Statement]
    #: Whether rows go as one statement of many values; else they are in ``many``.
    packs: bool
    #: Inserts with their rows, for a driver that hands many over by itself.
    many: list[_Statement]


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
        _count(settle, deltas[settle.run_id])
    groups = [
        ((*alike, msgspec.json.encode([s.job_id for s in group])), group)
        for alike, group in _groups(cycle.settles).items()
    ]
    seen = [("seen_at", str(cycle.now))] if cycle.is_seen else []
    seen += [seen_row(*one) for one in cycle.seen_tokens]
    answers = _answers(cycle)
    inserts = [
        (_SEND, "", _sends(cycle.settles)),
        *(() if cycle.codecs else (_responses(answers),)),
        (_DAY, _DAY_AGAIN, _days(cycle.settles)),
        (_HOLD, _HOLD_AGAIN, [(*hold, cycle.wall) for hold in cycle.holds]),
        (_USAGE, _USAGE_AGAIN, cycle.usage),
        (_CAP, _CAP_AGAIN, [(*cap, "header", cycle.wall) for cap in cycle.learned]),
        (_META, _META_AGAIN, seen),
        (TIME, TIME_AGAIN, cycle.times),
    ]
    statements = [
        *(chain.from_iterable(_rows(*insert) for insert in inserts) if packs else ()),
        *((_SCOPE, (*row[1:], row[0])) for row in cycle.scopes),
        *((_ORGANIZATION, (name, scope)) for scope, name in cycle.organizations),
        *((_SAID, (headers.decode(), cycle.wall, scope)) for scope, headers in cycle.said),
        *((COUNT_LOST, row) for row in lost_rows(cycle.settles)),
    ]
    many = [] if packs else [_many(*insert) for insert in inserts if insert[2]]
    late = answers if cycle.codecs else ()
    return Prepared(cycle, groups, statements, deltas, late, [], packs, many)


def compress(prepared: Prepared) -> None:
    """Make the answers small whose run wants that, if it is not done yet.

    For the connection's thread, before the transaction: zlib lets the interpreter's lock go.
    """
    if prepared.answers and not prepared.late:
        insert = _responses(prepared.answers)
        prepared.late.extend(_rows(*insert) if prepared.packs else (_many(*insert),))


def execute(conn: DriverConnection, prepared: Prepared) -> Executed:
    """Settle, claim and book in the transaction that is open and has done nothing else.

    Where a settle no longer applies, which only a defect or another holder could bring about, the
    transaction is begun anew.
    """
    lost: Sequence[Settle] = ()
    if not all(_settle(conn, values) == len(group) for values, group in prepared.groups):
        _begin_anew(conn)
        prepared, lost = _settle_singly(conn, prepared)
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
        lane, n = _claim(conn, ask, cycle.now, cycle.planned[start : start + ask.n])
        lanes.append(lane)
        deltas[ask.run_id].pending -= n
        deltas[ask.run_id].running += n
        start += ask.n
    for run_id, delta in deltas.items():
        conn.execute(_RUN, delta.row(run_id))
    if cycle.asks:
        hit("claim.inside")
    next_jobs = [look(conn, asked, cycle.now) for asked in cycle.looks]
    return Executed(lanes, next_jobs, lost, deltas)


def finish(executed: Executed) -> CycleResult:
    """Return what an executed cycle did, its claimed jobs read."""
    lanes = [
        lane if isinstance(lane, LaneClaim) else LaneClaim(_unpacked(lane), False, None)
        for lane in executed.lanes
    ]
    return CycleResult(
        lanes=lanes,
        next_jobs=list(executed.next_jobs),
        lost=list(executed.lost),
        deltas=executed.deltas,
    )


#: Outcomes of the send log that count as one of the run's counters.
_COUNTED: Final = {
    "retry": "retried",
    "rate_limited": "rate_limited",
    "daily_limit": "rate_limited",
    "interrupted": "interrupted",
}


def _begin_anew(conn: DriverConnection) -> None:
    """Take back what the transaction did; nobody else writes before it goes on, where that matters."""
    if isinstance(conn, sqlite3.Connection):
        conn.execute("ROLLBACK")
        conn.execute("BEGIN IMMEDIATE")
    else:
        conn.execute("BEGIN ANEW")


def _settle(conn: DriverConnection, values: tuple[object, ...]) -> int:
    """Settle jobs that settle alike; return how many still were what they were claimed as."""
    return conn.execute(_SETTLE_JOBS, values).rowcount


def _settle_singly(conn: DriverConnection, prepared: Prepared) -> tuple[Prepared, Sequence[Settle]]:
    """Settle job by job; return the cycle without what no longer applies, and that."""
    lost = [
        settle
        for values, group in prepared.groups
        for settle in group
        if not _settle(conn, (*values[:-1], msgspec.json.encode([settle.job_id])))
    ]
    gone = {(s.job_id, s.claim) for s in lost}
    kept = [s for s in prepared.cycle.settles if (s.job_id, s.claim) not in gone]
    return prepare(replace(prepared.cycle, settles=kept), packs=prepared.packs), lost


def _groups(settles: Sequence[Settle]) -> dict[tuple[object, ...], list[Settle]]:
    groups: dict[tuple[object, ...], list[Settle]] = {}
    for s in settles:
        alike = (
            s.state, s.not_before, s.wait_reason, s.charged, s.finished_at, s.error_kind, s.claim,
        )  # fmt: skip
        groups.setdefault(alike, []).append(s)
    return groups


def _sends(settles: Iterable[Settle]) -> list[tuple[object, ...]]:
    return [
        (s.job_id, s.claim, s.pool_id, s.planned_at, s.sent_at, s.ended_at, s.outcome, s.kind,
         s.http_status, s.request_id, s.message, s.maybe_executed)
        for s in settles
        if s.outcome is not None
    ]  # fmt: skip


def _answers(cycle: Cycle) -> list[_Answer]:
    codecs = cycle.codecs
    return [
        ((s.job_id, s.http_status, s.message, s.model, s.finish_reason, s.input_tokens,
          s.output_tokens, s.cost_usd, s.latency_ms, s.request_id), s.body, codecs.get(s.run_id))
        for s in cycle.settles
        if s.is_attempt and s.outcome is not None
    ]  # fmt: skip


def _responses(answers: Iterable[_Answer]) -> _Insert:
    rows = [
        (*row, body, None) if codec is None or body is None else (*row, *codec.row(body))
        for row, body, codec in answers
    ]
    return _RESPONSE, _RESPONSE_AGAIN, rows


def _days(settles: Iterable[Settle]) -> list[tuple[float | None, ...]]:
    days: dict[tuple[int, int, int, int], list[int]] = {}
    costs: dict[tuple[int, int, int, int], float] = {}
    saved: dict[tuple[int, int, int, int], float] = {}
    for s in settles:
        if s.outcome is not None and s.sent_at is not None:
            key = (s.sent_at // _MS_A_DAY, s.account_id, s.model_id, s.run_id)
            day = days.setdefault(key, [0, 0, 0, 0, 0, 0])
            day[0] += 1
            day[1] += s.outcome == "rate_limited"
            day[2] += s.input_tokens or 0
            day[3] += s.output_tokens or 0
            if s.cost_usd is not None:
                costs[key] = costs.get(key, 0.0) + s.cost_usd
            usage = s.usage
            if usage is not None and (usage.cache_read_tokens or usage.cache_write_tokens):
                day[4] += usage.cache_read_tokens or 0
                day[5] += usage.cache_write_tokens or 0
                if s.saved_usd is not None:
                    saved[key] = saved.get(key, 0.0) + s.saved_usd
    return [(*key, *n, costs.get(key), saved.get(key)) for key, n in days.items()]


def _rows(head: str, tail: str, rows: Sequence[Sequence[object]]) -> Iterator[_Statement]:
    """Yield inserts of many rows each; the first column of a row is never NULL."""
    most = _INSERT_SIZES[-1]
    for start in range(0, len(rows), most):
        some = rows[start : start + most]
        width = len(some[0])
        size = next(size for size in _INSERT_SIZES if size >= len(some))
        missing = (None,) * ((size - len(some)) * width)
        yield _insert(head, tail, width, size), [*chain.from_iterable(some), *missing]


def _many(head: str, tail: str, rows: Sequence[Sequence[object]]) -> _Statement:
    """Return an insert with its rows, for a driver that hands many over by itself."""
    return f"{head} VALUES ({', '.join('?' * len(rows[0]))}){tail}", rows


@cache
def _insert(head: str, tail: str, width: int, size: int) -> str:
    row = "(" + ", ".join("?" * width) + ")"
    rows = ", ".join([row] * size)
    return f"{head} SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL{tail}"  # noqa: S608


def _count(s: Settle, delta: Delta) -> None:
    delta.running -= 1
    if s.state == "completed":
        delta.completed += 1
    else:
        setattr(delta, s.state, getattr(delta, s.state) + 1)
    if s.outcome is None:
        return
    # What met its end before its first byte (no name, no connection) was a try, but no request.
    delta.sent += s.sent_at is not None
    if counter := _COUNTED.get(s.outcome):
        setattr(delta, counter, getattr(delta, counter) + 1)
    if s.input_tokens is not None:
        delta.input_tokens = (delta.input_tokens or 0) + s.input_tokens
    if s.output_tokens is not None:
        delta.output_tokens = (delta.output_tokens or 0) + s.output_tokens
    if s.cost_usd is not None:
        delta.cost_usd = (delta.cost_usd or 0.0) + s.cost_usd


def _claim(
    conn: DriverConnection, ask: Ask, now: int, planned: Sequence[int]
) -> tuple[LaneClaim | bytes, int]:
    """Claim jobs of one lane; return them, or packed as the database wrote them, and how many."""
    if ask.jobs:
        return _claim_these(conn, ask, planned)
    lane = (ask.run_id, ask.model_id)
    is_plain = not ask.look_due and not ask.codecs and min(planned) == max(planned)
    if is_plain and isinstance(conn, sqlite3.Connection):
        fresh = (*lane, ask.n)
        (packed,) = conn.execute(_FRESH_PACKED, (*fresh, MAX_CLAIM_BYTES)).fetchone()
        if packed is not None:
            n = conn.execute(_CLAIM_FRESH, (*fresh, planned[0])).rowcount
            return packed, n
    jobs: list[ClaimedJob] = []
    budget = Budget(conn, MAX_CLAIM_BYTES, ask.codecs)
    n_due = 0
    if ask.look_due and ask.n_due:
        n_due = budget.take(DUE, (*lane, now, ask.n_due, 0), jobs)
    if len(jobs) < ask.n and not budget.spent and not ask.due_only:
        budget.take(FRESH, (*lane, ask.n - len(jobs)), jobs)
    if ask.look_due and len(jobs) < ask.n and not budget.spent:
        budget.take(DUE, (*lane, now, ask.n - len(jobs), n_due), jobs)
    if n_due < len(jobs) and not ask.due_first:
        # A job that keeps meeting 429 must not be ahead of all others each time, nor behind them.
        jobs = jobs[n_due:] + jobs[:n_due]
    _note_claims(conn, zip(jobs, planned, strict=False))
    next_due: int | None = None
    if ask.look_due:
        next_due = conn.execute(NEXT_DUE, lane).fetchone()[0]
    return LaneClaim(jobs, budget.spent, next_due), len(jobs)


def _claim_these(conn: DriverConnection, ask: Ask, planned: Sequence[int]) -> tuple[LaneClaim, int]:
    """Claim the jobs that permission was taken for, as far as they still wait."""
    jobs: list[ClaimedJob] = []
    budget = Budget(conn, MAX_CLAIM_BYTES, ask.codecs)
    budget.take(CHOSEN, (msgspec.json.encode(ask.jobs).decode(),), jobs)
    instants = dict(zip(ask.jobs, planned, strict=True))
    _note_claims(conn, ((job, instants[job.job_id]) for job in jobs))
    return LaneClaim(jobs, budget.spent, None), len(jobs)


def _note_claims(conn: DriverConnection, claims: Iterable[tuple[ClaimedJob, int]]) -> None:
    """Have jobs run, each from its planned instant: a statement for all that share one."""
    if not isinstance(conn, sqlite3.Connection):
        pairs = [(job.job_id, planned_at) for job, planned_at in claims]
        if pairs:
            conn.execute(_CLAIM_AT, (msgspec.json.encode(pairs),))
        return
    by_instant: dict[int, list[int]] = {}
    for job, planned_at in claims:
        by_instant.setdefault(planned_at, []).append(job.job_id)
    for planned_at, ids in by_instant.items():
        conn.execute(_CLAIM, (planned_at, msgspec.json.encode(ids)))


#: A claimed row as the database packs it; payloads are JSON, and so text.
_Packed = tuple[int, str, int, int, int | None, str | None, str | None, str | None, str]
_decode: Final = msgspec.json.Decoder(list[_Packed]).decode


def _unpacked(packed: bytes | str) -> list[ClaimedJob]:
    return [
        ClaimedJob(JobId(row[0]), *row[1:7], row[7].encode() if row[7] else None, row[8].encode())
        for row in _decode(packed)
    ]
