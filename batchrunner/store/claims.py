"""Claims: jobs of one lane that may go out become ``running``, each from its planned instant.

In the order of :mod:`batchrunner.store.next_jobs`, or by name where permission was taken for certain
jobs. The usual claim, of plain requests that share an instant, is two statements, and its jobs come
as one text that the database packs and :func:`unpacked` reads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from batchrunner.models import JobId
from batchrunner.store.driver import DriverConnection
from batchrunner.store.next_jobs import CHOSEN, DUE, FRESH, NEXT_DUE, Budget
from batchrunner.store.records import Ask, ClaimedJob, LaneClaim

__all__ = ["CLAIM_AT", "claim", "unpacked"]

#: A claim takes no more payload than this, however small the jobs' number.
MAX_CLAIM_BYTES: Final = 16 * 1024 * 1024

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
#: As PostgreSQL alone can: each its instant, in one statement. By the key, as an array: for a list that it does not
#: know the length of its planner likes to go through the table.
CLAIM_AT: Final = """
    UPDATE job SET state = 'running', not_before = 0, wait_reason = NULL, claims = claims + 1,
                   claimed_at = c.at
    FROM (SELECT (e.value ->> 0)::bigint AS id, (e.value ->> 1)::bigint AS at
          FROM json_array_elements(?1::json) AS e(value)) c
    WHERE job.state = 'pending' AND job.id = c.id
      AND job.id = ANY (ARRAY (SELECT (e.value ->> 0)::bigint
                               FROM json_array_elements(?1::json) AS e(value)))"""
#: What workers add to what they claim from: PostgreSQL alone has it.
_BESIDE: Final = " FOR NO KEY UPDATE OF j SKIP LOCKED"


def claim(
    conn: DriverConnection, ask: Ask, now: int, planned: Sequence[int], *, is_shared: bool = False
) -> tuple[LaneClaim | bytes, int]:
    """Claim jobs of one lane; return them, or packed as the database wrote them, and how many.

    ``is_shared``: others claim in transactions beside this one; what they have is stepped over.
    """
    beside = _BESIDE if is_shared else ""
    if ask.jobs:
        return _claim_these(conn, ask, planned, beside)
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
        n_due = budget.take(DUE + beside, (*lane, now, ask.n_due, 0), jobs)
    if len(jobs) < ask.n and not budget.spent and not ask.due_only:
        budget.take(FRESH + beside, (*lane, ask.n - len(jobs)), jobs)
    if ask.look_due and len(jobs) < ask.n and not budget.spent:
        budget.take(DUE + beside, (*lane, now, ask.n - len(jobs), n_due), jobs)
    if n_due < len(jobs) and not ask.due_first:
        # A job that keeps meeting 429 must not be ahead of all others each time, nor behind them.
        jobs = jobs[n_due:] + jobs[:n_due]
    n_found = len(jobs)
    if ask.fits is not None:
        jobs = [job for job in jobs if ask.fits(job)]
    _note_claims(conn, zip(jobs, planned, strict=False))
    next_due: int | None = None
    if ask.look_due:
        next_due = conn.execute(NEXT_DUE, lane).fetchone()[0]
    return LaneClaim(jobs, budget.spent or len(jobs) < n_found, next_due), len(jobs)


def _claim_these(
    conn: DriverConnection, ask: Ask, planned: Sequence[int], beside: str
) -> tuple[LaneClaim, int]:
    """Claim the jobs that permission was taken for, as far as they still wait."""
    jobs: list[ClaimedJob] = []
    budget = Budget(conn, MAX_CLAIM_BYTES, ask.codecs)
    budget.take(CHOSEN + beside, (msgspec.json.encode(ask.jobs).decode(),), jobs)
    if ask.fits is not None:
        jobs = [job for job in jobs if ask.fits(job)]
    instants = dict(zip(ask.jobs, planned, strict=True))
    _note_claims(conn, ((job, instants[job.job_id]) for job in jobs))
    return LaneClaim(jobs, budget.spent, None), len(jobs)


def _note_claims(conn: DriverConnection, claims: Iterable[tuple[ClaimedJob, int]]) -> None:
    """Have jobs run, each from its planned instant: a statement for all that share one."""
    if not isinstance(conn, sqlite3.Connection):
        pairs = [(job.job_id, planned_at) for job, planned_at in claims]
        if pairs:
            conn.execute(CLAIM_AT, (msgspec.json.encode(pairs),))
        return
    by_instant: dict[int, list[int]] = {}
    for job, planned_at in claims:
        by_instant.setdefault(planned_at, []).append(job.job_id)
    for planned_at, ids in by_instant.items():
        conn.execute(_CLAIM, (planned_at, msgspec.json.encode(ids)))


#: A claimed row as the database packs it; payloads are JSON, and so text.
_Packed = tuple[int, str, int, int, int | None, str | None, str | None, str | None, str]
_decode: Final = msgspec.json.Decoder(list[_Packed]).decode


def unpacked(packed: bytes | str) -> list[ClaimedJob]:
    """Return the jobs of a claim that the database packed."""
    return [
        ClaimedJob(JobId(row[0]), *row[1:7], row[7].encode() if row[7] else None, row[8].encode())
        for row in _decode(packed)
    ]
