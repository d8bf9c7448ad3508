"""The holder's transaction: settle what came back, claim what may go out, book what it uses.

Every function takes the writer's ``sqlite3`` connection inside a transaction that somebody else
began and will commit. Statements are driver-level, about ten a cycle whatever its size: many jobs in
one statement, since a CHECK with IN builds its list once a statement (measured: half of what a claim
and a settle cost), and every step hands the interpreter lock over. Settles are conditional on state and claim, so that a late answer can't overwrite a newer
claim.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, NamedTuple

import msgspec

from batchrunner.core.admission import DirtySlot
from batchrunner.failpoints import hit
from batchrunner.models import JobId, ModelId, RunId, ScopeId

#: A claim takes no more payload than this, however small the jobs' number.
MAX_CLAIM_BYTES: Final = 16 * 1024 * 1024


class Settle(msgspec.Struct, kw_only=True):
    """One send's outcome, ready to be stored; instants are wall epoch ms."""

    job_id: JobId
    #: ``key``, ``attempts`` (after this one) and ``started_at`` are for whoever is told of it.
    key: str
    attempts: int
    started_at: int | None
    claim: int
    run_id: RunId
    model_id: ModelId
    account_id: ScopeId
    pool_id: ScopeId
    #: Steady ms.
    planned_at: int
    #: The job's next state; ``pending`` may carry ``not_before`` (steady) and ``wait_reason``.
    state: str
    charged: int = 0
    not_before: int = 0
    wait_reason: str | None = None
    error_kind: str | None = None
    finished_at: int | None = None
    #: The send log's word; ``None`` makes no row: no byte of it went out.
    outcome: str | None
    kind: str | None = None
    http_status: int | None = None
    request_id: str | None = None
    message: str | None = None
    sent_at: int | None = None
    ended_at: int | None = None
    maybe_executed: bool = False
    #: An attempt's answer replaces the stored one; a wait's does not.
    is_attempt: bool = False
    body: bytes | None = None
    model: str | None = None
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    latency_ms: int | None = None


class Ask(NamedTuple):
    """How many jobs of one lane to claim: due retries first up to ``n_due``, fresh ones, due again."""

    run_id: RunId
    model_id: ModelId
    n: int
    n_due: int
    #: Whether a due retry may exist at all (saves two statements where not).
    look_due: bool


class ClaimedJob(NamedTuple):
    """A job that is now ``running``, with what is to be sent."""

    job_id: JobId
    key: str
    claim: int
    attempts: int
    #: When it was first sent (wall ms), where it was sent before.
    started_at: int | None
    method: str | None
    url: str | None
    headers: bytes | None
    body: bytes


class LaneClaim(NamedTuple):
    """What an ``Ask`` brought; fewer than asked means that the lane has no more now."""

    jobs: list[ClaimedJob]
    #: Whether the byte bound, not the lane's end, cut the claim.
    cut: bool
    #: Earliest ``not_before`` left in the lane (steady ms).
    next_due: int | None


class ScopeRow(NamedTuple):
    """What of a scope changes as it is used."""

    scope_id: ScopeId
    next_send_at: float
    last_send_at: float
    pause_set_at: int | None
    pause_until: int | None
    pause_reason: str | None
    pause_detail: str | None
    pause_generation: int
    pause_level: int


class CapRow(NamedTuple):
    """A limit that responses told of."""

    scope_id: ScopeId
    limit_name: str
    value: float | None


class Hold(NamedTuple):
    """A model that holds back the jobs of a run that ask for it."""

    run_id: RunId
    model_id: ModelId
    kind: str
    message: str
    fix: str


@dataclass(slots=True, kw_only=True)
class Cycle:
    """One transaction's work."""

    wall: int
    #: Steady time, stored as last seen.
    now: int
    settles: Sequence[Settle] = ()
    asks: Sequence[Ask] = ()
    #: Planned instants (steady ms) of the sends, in the order of the asks.
    planned: Sequence[int] = ()
    usage: Sequence[DirtySlot] = ()
    scopes: Sequence[ScopeRow] = ()
    holds: Sequence[Hold] = ()
    learned: Sequence[CapRow] = ()
    #: Accounts and the organization that responses name for them.
    organizations: Sequence[tuple[ScopeId, str]] = ()


@dataclass(slots=True)
class Delta:
    """What a cycle changes of one run's counters."""

    pending: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    sent: int = 0
    retried: int = 0
    rate_limited: int = 0
    interrupted: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None

    def row(self, run_id: int) -> tuple[int | None, ...]:
        return (
            self.pending, self.running, self.completed, self.failed, self.sent, self.retried,
            self.rate_limited, self.interrupted, self.input_tokens, self.input_tokens,
            self.output_tokens, self.output_tokens, run_id,
        )  # fmt: skip


@dataclass(slots=True)
class CycleResult:
    """What the transaction did."""

    lanes: list[LaneClaim] = field(default_factory=list)
    #: Settles that no longer applied: their job had been claimed anew.
    lost: list[Settle] = field(default_factory=list)
    #: What changed of each run's counters.
    deltas: dict[int, Delta] = field(default_factory=dict)


_SEND_COLUMNS: Final = (
    "job_id", "claim", "scope_id", "planned_at", "sent_at", "ended_at", "outcome", "kind",
    "http_status", "request_id", "message", "maybe_executed",
)  # fmt: skip
_RESPONSE_COLUMNS: Final = (
    "job_id", "http_status", "error_message", "model", "finish_reason", "input_tokens",
    "output_tokens", "latency_ms", "request_id", "body",
)  # fmt: skip
#: Rows of one INSERT: few sizes, so that their statements stay prepared.
_INSERT_SIZES: Final = (64, 16, 4, 1)
# Jobs that settle alike in one statement; the fence is the claim they have in common.
_SETTLE_JOBS = """
    UPDATE job SET state = ?1, not_before = ?2, wait_reason = ?3, attempts = attempts + ?4,
                   finished_at = ?5, error_kind = iif(?4, ?6, error_kind)
    WHERE state = 'running' AND claims = ?7 AND id IN (SELECT value FROM json_each(?8))"""
_SEND = f"INSERT INTO send ({', '.join(_SEND_COLUMNS)}) VALUES "  # noqa: S608 (constants)
# Tokens and cost are sums over all attempts; the other fields are the last attempt's.
_RESPONSE = f"INSERT INTO response ({', '.join(_RESPONSE_COLUMNS)}) VALUES "  # noqa: S608
_RESPONSE_AGAIN = """
    ON CONFLICT (job_id) DO UPDATE SET
        http_status = excluded.http_status, error_message = excluded.error_message,
        model = excluded.model, finish_reason = excluded.finish_reason,
        input_tokens = CASE WHEN excluded.input_tokens IS NULL THEN input_tokens
                            ELSE coalesce(input_tokens, 0) + excluded.input_tokens END,
        output_tokens = CASE WHEN excluded.output_tokens IS NULL THEN output_tokens
                             ELSE coalesce(output_tokens, 0) + excluded.output_tokens END,
        latency_ms = excluded.latency_ms, request_id = excluded.request_id, body = excluded.body"""
_COLUMNS: Final = """
    SELECT j.id, j.key, j.claims + 1, j.attempts,
           CASE WHEN j.claims = 0 THEN NULL ELSE
               (SELECT min(s.sent_at) FROM send s WHERE s.job_id = j.id) END,
           p.method, p.url, p.headers, p.body"""
_FRESH: Final = (
    _COLUMNS
    + """
    FROM job j INDEXED BY job_fresh JOIN payload p ON p.job_id = j.id
    WHERE j.run_id = ? AND j.model_id = ? AND j.state = 'pending' AND j.not_before = 0
    ORDER BY j.id LIMIT ?"""
)
_DUE: Final = (
    _COLUMNS
    + """
    FROM job j INDEXED BY job_due JOIN payload p ON p.job_id = j.id
    WHERE j.run_id = ? AND j.model_id = ? AND j.state = 'pending' AND j.not_before > 0
      AND j.not_before <= ?
    ORDER BY j.not_before, j.id LIMIT ? OFFSET ?"""
)
_NEXT_DUE = """
    SELECT min(not_before) FROM job INDEXED BY job_due
    WHERE run_id = ? AND model_id = ? AND state = 'pending' AND not_before > 0"""
_CLAIM = """
    UPDATE job SET state = 'running', not_before = 0, wait_reason = NULL, claims = claims + 1,
                   claimed_at = ?
    WHERE state = 'pending' AND id IN (SELECT value FROM json_each(?))"""
_USAGE = """
    INSERT INTO usage_slot (scope_id, unit, grain, slot, n) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET n = excluded.n"""
_SCOPE = """
    UPDATE scope SET next_send_at = ?, last_send_at = ?, pause_set_at = ?, pause_until = ?,
                     pause_reason = ?, pause_detail = ?, pause_generation = ?, pause_level = ?
    WHERE id = ?"""
_DAY = """
    INSERT INTO usage_day (day, account_id, model_id, run_id, requests, rate_limited,
                           input_tokens, output_tokens)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET
        requests = requests + excluded.requests,
        rate_limited = rate_limited + excluded.rate_limited,
        input_tokens = input_tokens + excluded.input_tokens,
        output_tokens = output_tokens + excluded.output_tokens"""
_MS_A_DAY: Final = 86_400_000

_COUNTERS: Final = (
    "n_pending", "n_running", "n_completed", "n_failed", "n_sent", "n_retried", "n_rate_limited",
    "n_interrupted",
)  # fmt: skip
_TOKENS: Final = ("input_tokens", "output_tokens")
_RUN = (
    "UPDATE run SET "  # noqa: S608 (column names from the tables above)
    + ", ".join(f"{name} = {name} + ?" for name in _COUNTERS)
    + ", "
    + ", ".join(
        f"{name} = CASE WHEN ? IS NULL THEN {name} ELSE coalesce({name}, 0) + ? END"
        for name in _TOKENS
    )
    + " WHERE id = ?"
)


def run_cycle(conn: sqlite3.Connection, cycle: Cycle) -> CycleResult:
    """Settle, claim and book, in this order, and return what was claimed."""
    result = CycleResult()
    deltas: dict[int, Delta] = defaultdict(Delta)
    result.deltas = deltas
    if cycle.settles:
        result.lost = _settle(conn, cycle.settles, deltas)
        hit("settle.inside")
    if cycle.holds:
        conn.executemany(
            "INSERT INTO hold (run_id, model_id, kind, message, fix, set_at)"
            " VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET kind = excluded.kind, message = excluded.message,"
            " fix = excluded.fix, set_at = excluded.set_at",
            [(*hold, cycle.wall) for hold in cycle.holds],
        )
    start = 0
    for ask in cycle.asks:
        lane = _claim(conn, ask, cycle, cycle.planned[start : start + ask.n])
        result.lanes.append(lane)
        deltas[ask.run_id].pending -= len(lane.jobs)
        deltas[ask.run_id].running += len(lane.jobs)
        start += ask.n
    if cycle.usage:
        conn.executemany(_USAGE, cycle.usage)
    if cycle.scopes:
        conn.executemany(_SCOPE, [(*row[1:], row[0]) for row in cycle.scopes])
    if cycle.learned:
        conn.executemany(
            "INSERT INTO cap (scope_id, limit_name, value, source, set_at)"
            " VALUES (?, ?, ?, 'header', ?)"
            " ON CONFLICT DO UPDATE SET value = excluded.value, set_at = excluded.set_at",
            [(*cap, cycle.wall) for cap in cycle.learned],
        )
    if cycle.organizations:
        conn.executemany("UPDATE scope SET organization = ?2 WHERE id = ?1", cycle.organizations)
    for run_id, delta in deltas.items():
        conn.execute(_RUN, delta.row(run_id))
    conn.execute(
        "INSERT INTO meta (key, value) VALUES ('seen_at', ?)"
        " ON CONFLICT DO UPDATE SET value = excluded.value",
        (str(cycle.now),),
    )
    if cycle.asks:
        hit("claim.inside")
    return result


#: Outcomes of the send log that count as one of the run's counters.
_COUNTED: Final = {
    "retry": "retried",
    "rate_limited": "rate_limited",
    "daily_limit": "rate_limited",
    "interrupted": "interrupted",
}


def _settle(
    conn: sqlite3.Connection, settles: Sequence[Settle], deltas: dict[int, Delta]
) -> list[Settle]:
    lost: list[Settle] = []
    for alike, group in _groups(settles).items():
        values = (*alike, msgspec.json.encode([s.job_id for s in group]))
        conn.execute("SAVEPOINT alike")
        if conn.execute(_SETTLE_JOBS, values).rowcount != len(group):
            conn.execute("ROLLBACK TO alike")
            for settle in group:
                one = (*alike, msgspec.json.encode([settle.job_id]))
                if conn.execute(_SETTLE_JOBS, one).rowcount != 1:
                    lost.append(settle)
        conn.execute("RELEASE alike")
    if lost:
        gone = {(s.job_id, s.claim) for s in lost}
        settles = [s for s in settles if (s.job_id, s.claim) not in gone]
    _log_sends(conn, settles)
    days: dict[tuple[int, int, int, int], list[int]] = {}
    for s in settles:
        _count(s, deltas[s.run_id])
        if s.outcome is not None and s.sent_at is not None:
            key = (s.sent_at // _MS_A_DAY, s.account_id, s.model_id, s.run_id)
            day = days.setdefault(key, [0, 0, 0, 0])
            day[0] += 1
            day[1] += s.outcome == "rate_limited"
            day[2] += s.input_tokens or 0
            day[3] += s.output_tokens or 0
    if days:
        conn.executemany(_DAY, [(*key, *n) for key, n in days.items()])
    return lost


def _groups(settles: Sequence[Settle]) -> dict[tuple[object, ...], list[Settle]]:
    groups: dict[tuple[object, ...], list[Settle]] = {}
    for s in settles:
        alike = (
            s.state, s.not_before, s.wait_reason, s.charged, s.finished_at, s.error_kind, s.claim,
        )  # fmt: skip
        groups.setdefault(alike, []).append(s)
    return groups


def _log_sends(conn: sqlite3.Connection, settles: Iterable[Settle]) -> None:
    responses: list[tuple[object, ...]] = []
    sends: list[tuple[object, ...]] = []
    for s in settles:
        if s.outcome is None:
            continue
        sends.append(
            (s.job_id, s.claim, s.pool_id, s.planned_at, s.sent_at, s.ended_at, s.outcome, s.kind,
             s.http_status, s.request_id, s.message, s.maybe_executed)
        )  # fmt: skip
        if s.is_attempt:
            responses.append(
                (s.job_id, s.http_status, s.message, s.model, s.finish_reason, s.input_tokens,
                 s.output_tokens, s.latency_ms, s.request_id, s.body)
            )  # fmt: skip
    _insert(conn, _SEND, "", sends)
    _insert(conn, _RESPONSE, _RESPONSE_AGAIN, responses)


def _insert(
    conn: sqlite3.Connection, head: str, tail: str, rows: Sequence[tuple[object, ...]]
) -> None:
    """Insert rows many at a time: one step of one statement for up to 64 of them."""
    start = 0
    for size in _INSERT_SIZES:
        while len(rows) - start >= size:
            some = rows[start : start + size]
            places = "(" + ", ".join("?" * len(some[0])) + ")"
            conn.execute(head + ", ".join([places] * size) + tail, list(chain.from_iterable(some)))
            start += size


def _count(s: Settle, delta: Delta) -> None:
    delta.running -= 1
    if s.state == "completed":
        delta.completed += 1
    else:
        setattr(delta, s.state, getattr(delta, s.state) + 1)
    if s.outcome is None:
        return
    delta.sent += 1
    if counter := _COUNTED.get(s.outcome):
        setattr(delta, counter, getattr(delta, counter) + 1)
    if s.input_tokens is not None:
        delta.input_tokens = (delta.input_tokens or 0) + s.input_tokens
    if s.output_tokens is not None:
        delta.output_tokens = (delta.output_tokens or 0) + s.output_tokens


def _claim(conn: sqlite3.Connection, ask: Ask, cycle: Cycle, planned: Sequence[int]) -> LaneClaim:
    jobs: list[ClaimedJob] = []
    budget = _Budget(conn, MAX_CLAIM_BYTES)
    lane = (ask.run_id, ask.model_id)
    n_due = 0
    if ask.look_due and ask.n_due:
        n_due = budget.take(_DUE, (*lane, cycle.now, ask.n_due, 0), jobs)
    if len(jobs) < ask.n and not budget.spent:
        budget.take(_FRESH, (*lane, ask.n - len(jobs)), jobs)
    if ask.look_due and len(jobs) < ask.n and not budget.spent:
        budget.take(_DUE, (*lane, cycle.now, ask.n - len(jobs), n_due), jobs)
    if n_due < len(jobs):
        # Fresh ones first: a job that keeps meeting 429 must not be ahead of all others each time.
        jobs = jobs[n_due:] + jobs[:n_due]
    by_instant: dict[int, list[int]] = {}
    for job, planned_at in zip(jobs, planned, strict=False):
        by_instant.setdefault(planned_at, []).append(job.job_id)
    for planned_at, ids in by_instant.items():
        conn.execute(_CLAIM, (planned_at, msgspec.json.encode(ids)))
    next_due: int | None = None
    if ask.look_due:
        next_due = conn.execute(_NEXT_DUE, lane).fetchone()[0]
    return LaneClaim(jobs, budget.spent, next_due)


class _Budget:
    """Takes jobs until their payloads reach a bound; the first always fits."""

    def __init__(self, conn: sqlite3.Connection, n_bytes: int) -> None:
        self._conn = conn
        self._left = n_bytes
        self.spent = False

    def take(self, source: str, values: tuple[int, ...], into: list[ClaimedJob]) -> int:
        """Append jobs of ``source`` to ``into`` and return how many."""
        n = 0
        for row in self._conn.execute(source, values):
            job = ClaimedJob._make(row)
            if into and len(job.body) > self._left:
                self.spent = True
                break
            self._left -= len(job.body)
            into.append(job)
            n += 1
        return n
