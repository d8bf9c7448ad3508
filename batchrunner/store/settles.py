"""What settles become: the states of their jobs, and rows of sends, answers and days.

Jobs that settle alike share a statement. It is conditional on state and claim, so that a late answer
can't overwrite a newer claim. The rest is arithmetic, and touches no database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from batchrunner.models import RunId
from batchrunner.store.codecs import Codec
from batchrunner.store.driver import DriverConnection
from batchrunner.store.inserts import Insert
from batchrunner.store.records import Delta, Settle

__all__ = [
    "SETTLE_BY_KEY",
    "Answer",
    "Group",
    "alike",
    "answers_of",
    "count",
    "days_insert",
    "responses_insert",
    "sends_insert",
    "settle_group",
    "settle_singly",
]

#: Jobs that settle alike: the statement's values, and whose they are.
Group = tuple[tuple[object, ...], Sequence[Settle]]
#: A row of ``response`` but for its last two columns, its body, and what that is written with.
Answer = tuple[tuple[object, ...], bytes | None, Codec | None]

_SEND_COLUMNS: Final = (
    "job_id", "claim", "scope_id", "planned_at", "sent_at", "ended_at", "outcome", "kind",
    "http_status", "request_id", "message", "maybe_executed",
)  # fmt: skip
_RESPONSE_COLUMNS: Final = (
    "job_id", "http_status", "error_message", "model", "finish_reason", "input_tokens",
    "output_tokens", "cost_usd", "latency_ms", "request_id", "body", "codec",
)  # fmt: skip
# Jobs that settle alike in one statement; the fence is the claim they have in common.
_SETTLE_JOBS = """
    UPDATE job SET state = ?1, not_before = ?2, wait_reason = ?3, attempts = attempts + ?4,
                   finished_at = ?5, error_kind = CASE WHEN ?4 > 0 THEN ?6 ELSE error_kind END
    WHERE state = 'running' AND claims = ?7 AND id IN (SELECT value FROM json_each(?8))"""
# On PostgreSQL, by the key: not through the table, which its planner likes for a list that it does not know
# the length of, nor through the index of what runs, where all is that ran since the oldest snapshot that
# somebody reads (pg_dump).
SETTLE_BY_KEY: Final = """
    UPDATE job SET state = ?1, not_before = ?2, wait_reason = ?3, attempts = attempts + ?4,
                   finished_at = ?5, error_kind = CASE WHEN ?4 > 0 THEN ?6 ELSE error_kind END
    WHERE state IN ('running', '') AND claims = ?7
      AND id = ANY (ARRAY (SELECT value FROM json_each(?8)))"""
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

#: Outcomes of the send log that count as one of the run's counters.
_COUNTED: Final = {
    "retry": "retried",
    "rate_limited": "rate_limited",
    "daily_limit": "rate_limited",
    "interrupted": "interrupted",
}


def alike(settles: Iterable[Settle]) -> list[Group]:
    """Return settles in groups, each of jobs that settle alike."""
    groups: dict[tuple[object, ...], list[Settle]] = {}
    for s in settles:
        values = (
            s.state, s.not_before, s.wait_reason, s.charged, s.finished_at, s.error_kind, s.claim,
        )  # fmt: skip
        groups.setdefault(values, []).append(s)
    return [
        ((*values, msgspec.json.encode([s.job_id for s in group])), group)
        for values, group in groups.items()
    ]


def settle_group(conn: DriverConnection, values: tuple[object, ...]) -> int:
    """Settle jobs that settle alike; return how many still were what they were claimed as."""
    is_file = isinstance(conn, sqlite3.Connection)
    return conn.execute(_SETTLE_JOBS if is_file else SETTLE_BY_KEY, values).rowcount


def settle_singly(conn: DriverConnection, groups: Iterable[Group]) -> list[Settle]:
    """Settle job by job; return what no longer applies."""
    return [
        settle
        for values, group in groups
        for settle in group
        if not settle_group(conn, (*values[:-1], msgspec.json.encode([settle.job_id])))
    ]


def sends_insert(settles: Iterable[Settle]) -> Insert:
    """Return rows of the send log: of what was tried."""
    rows = [
        (s.job_id, s.claim, s.pool_id, s.planned_at, s.sent_at, s.ended_at, s.outcome, s.kind,
         s.http_status, s.request_id, s.message, s.maybe_executed)
        for s in settles
        if s.outcome is not None
    ]  # fmt: skip
    return _SEND, "", rows


def answers_of(settles: Iterable[Settle], codecs: Mapping[RunId, Codec]) -> list[Answer]:
    """Return what answers are stored, and what their bodies are written with."""
    return [
        ((s.job_id, s.http_status, s.message, s.model, s.finish_reason, s.input_tokens,
          s.output_tokens, s.cost_usd, s.latency_ms, s.request_id), s.body, codecs.get(s.run_id))
        for s in settles
        if s.is_attempt and s.outcome is not None
    ]  # fmt: skip


def responses_insert(answers: Iterable[Answer]) -> Insert:
    """Return rows of answers, each compressed where its run wants that."""
    rows = [
        (*row, body, None) if codec is None or body is None else (*row, *codec.row(body))
        for row, body, codec in answers
    ]
    return _RESPONSE, _RESPONSE_AGAIN, rows


def days_insert(settles: Iterable[Settle]) -> Insert:
    """Return what was used, by UTC day."""
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
    rows = [(*key, *n, costs.get(key), saved.get(key)) for key, n in sorted(days.items())]
    return _DAY, _DAY_AGAIN, rows


def count(s: Settle, delta: Delta) -> None:
    """Count one settle among what its run's counters go up and down by."""
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
