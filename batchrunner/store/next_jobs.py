"""Which jobs come next, with their requests: read for a claim, or ahead of it.

In the order of the input, retries that are due in turn with jobs that were never sent; or in the order
of the provider's cache (:mod:`batchrunner.core.warmth`). Each statement is a search by the index that
the claim has, and none sorts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Final

import msgspec

from batchrunner.core.caching import FAMILY_SHIFT
from batchrunner.core.warmth import Order
from batchrunner.models import JobId
from batchrunner.store.codecs import plain_body
from batchrunner.store.driver import DriverConnection
from batchrunner.store.records import ClaimedJob, Look, NextJobs

__all__ = ["CHOSEN", "DUE", "FRESH", "NEXT_DUE", "Budget", "look", "still_next"]

#: No more than this is read of the jobs that come next.
MAX_LOOK_BYTES: Final = 2 * 1024 * 1024

_COLUMNS: Final = """
    SELECT j.id, j.key, j.claims + 1, j.attempts,
           CASE WHEN j.claims = 0 THEN NULL ELSE
               (SELECT min(s.sent_at) FROM send s WHERE s.job_id = j.id) END,
           p.method, p.url, p.headers, p.body, p.codec"""
FRESH: Final = (
    _COLUMNS
    + """
    FROM job j INDEXED BY job_fresh JOIN payload p ON p.job_id = j.id
    WHERE j.run_id = ? AND j.model_id = ? AND j.state = 'pending' AND j.not_before = 0
    ORDER BY j.start, j.id LIMIT ?"""
)
DUE: Final = (
    _COLUMNS
    + """
    FROM job j INDEXED BY job_due JOIN payload p ON p.job_id = j.id
    WHERE j.run_id = ? AND j.model_id = ? AND j.state = 'pending' AND j.not_before > 0
      AND j.not_before <= ?
    ORDER BY j.not_before, j.id LIMIT ? OFFSET ?"""
)
CHOSEN: Final = (
    _COLUMNS
    + """
    FROM json_each(?) chosen JOIN job j ON j.id = chosen.value JOIN payload p ON p.job_id = j.id
    WHERE j.state = 'pending' ORDER BY chosen.key"""
)
NEXT_DUE: Final = """
    SELECT min(not_before) FROM job INDEXED BY job_due
    WHERE run_id = ? AND model_id = ? AND state = 'pending' AND not_before > 0"""
_DUE_LATER = """
    SELECT min(not_before) FROM job INDEXED BY job_due
    WHERE run_id = ? AND model_id = ? AND state = 'pending' AND not_before > 0
      AND not_before > ?"""
# The jobs that come next in the order of the provider's cache: of one start, of the next starts that are
# cold (one each, families that wait for a lead stepped over), and retries whose start may go.
_OF_START: Final = (
    _COLUMNS
    + """
    FROM job j INDEXED BY job_fresh JOIN payload p ON p.job_id = j.id
    WHERE j.run_id = ? AND j.model_id = ? AND j.state = 'pending' AND j.not_before = 0
      AND j.start = ?
    ORDER BY j.id LIMIT ?"""
)
_FIRST_OF_STARTS: Final = f"""
    WITH RECURSIVE waiting (family) AS (SELECT value FROM json_each(?4)),
    walk (start, n) AS (
        SELECT CAST(0 AS BIGINT), 1
        UNION ALL
        SELECT (SELECT min(start) FROM job INDEXED BY job_fresh
                WHERE run_id = ?1 AND model_id = ?2 AND state = 'pending' AND not_before = 0
                  AND start > CASE WHEN walk.start >> {FAMILY_SHIFT} IN (SELECT family FROM waiting)
                                   THEN (((walk.start >> {FAMILY_SHIFT}) + 1) << {FAMILY_SHIFT}) - 1
                                   ELSE walk.start END), walk.n + 1
        FROM walk WHERE walk.start IS NOT NULL
        AND walk.n < ?5 + json_array_length(?3) + json_array_length(?4) + 2)
    SELECT (SELECT min(id) FROM job INDEXED BY job_fresh
            WHERE run_id = ?1 AND model_id = ?2 AND state = 'pending' AND not_before = 0
              AND job.start = walk.start)
    FROM walk
    WHERE walk.start > 0 AND walk.start NOT IN (SELECT value FROM json_each(?3))
      AND walk.start >> {FAMILY_SHIFT} NOT IN (SELECT family FROM waiting)
    LIMIT ?5"""  # noqa: S608 (constants)
_DUE_THAT_MAY_GO: Final = f"""{_COLUMNS}
    FROM job j INDEXED BY job_due JOIN payload p ON p.job_id = j.id
    WHERE j.run_id = ? AND j.model_id = ? AND j.state = 'pending' AND j.not_before > 0
      AND j.not_before <= ? AND j.start NOT IN (SELECT value FROM json_each(?))
      AND j.start >> ? NOT IN (SELECT value FROM json_each(?))
    ORDER BY j.not_before, j.id LIMIT ?"""  # noqa: S608 (constants)
_STARTS: Final = "SELECT id, start FROM job WHERE id IN (SELECT value FROM json_each(?))"
_STILL_NEXT: Final = (
    "SELECT id FROM job WHERE id IN (SELECT value FROM json_each(?)) AND state = 'pending'"
    " AND not_before <= ?"
)


def look(conn: DriverConnection, asked: Look, now: int) -> NextJobs:
    """Return the jobs of one lane that come next: retries that are due and fresh ones in turn."""
    if asked.order is not None:
        return _look_in_order(conn, asked, asked.order, now)
    lane = (asked.run_id, asked.model_id)
    due, fresh = list[ClaimedJob](), list[ClaimedJob]()
    budget = Budget(conn, MAX_LOOK_BYTES, asked.codecs)
    budget.take(DUE, (*lane, now, asked.n, 0), due)
    if not (budget.spent or asked.due_only):
        budget.take(FRESH, (*lane, asked.n), fresh)
    first, second = (due, fresh) if asked.due_first else (fresh, due)
    jobs = [job for pair in zip_longest(first, second) for job in pair if job is not None]
    return NextJobs(
        [(job.job_id, job.body) for job in jobs[: asked.n]],
        conn.execute(NEXT_DUE, lane).fetchone()[0],
        conn.execute(_DUE_LATER, (*lane, now)).fetchone()[0],
    )


def still_next(conn: DriverConnection, jobs: Sequence[JobId], now: int) -> set[JobId]:
    """Return which of these jobs still wait, and for nothing but their claim."""
    return {JobId(job) for (job,) in conn.execute(_STILL_NEXT, (_json(jobs), now))}


def _look_in_order(conn: DriverConnection, asked: Look, order: Order, now: int) -> NextJobs:
    """Return the jobs that come next in the order of the provider's cache.

    Those whose start is warm, then the first of one that is cold, so that it warms up meanwhile, then
    those without one, then more that are cold. Retries that are due take their turns with them.
    """
    lane = (asked.run_id, asked.model_id)
    waiting, families = _json(order.waiting), _json(order.waiting_families)
    due, fresh = list[ClaimedJob](), list[ClaimedJob]()
    budget = Budget(conn, MAX_LOOK_BYTES, asked.codecs)
    budget.take(_DUE_THAT_MAY_GO, (*lane, now, waiting, FAMILY_SHIFT, families, asked.n), due)
    gone = []
    for start in order.warm if not asked.due_only else ():
        if budget.spent or len(fresh) >= asked.n:
            break
        if not budget.take(_OF_START, (*lane, start, asked.n - len(fresh)), fresh):
            gone.append(start)
    if not asked.due_only and len(fresh) < asked.n:
        known = _json((*order.waiting, *order.warm))
        rows = conn.execute(
            _FIRST_OF_STARTS, (*lane, known, families, asked.n - len(fresh))
        ).fetchall()
        leads = [row[0] for row in rows]
        for source, values in (
            (CHOSEN, (_json(leads[:1]),)),
            (_OF_START, (*lane, 0, asked.n)),
            (CHOSEN, (_json(leads[1:]),)),
        ):
            if not budget.spent:
                budget.take(source, values, fresh)
    first, second = (due, fresh) if asked.due_first else (fresh, due)
    jobs = [job for pair in zip_longest(first, second) for job in pair if job is not None]
    jobs = jobs[: asked.n]
    starts = dict(conn.execute(_STARTS, (_json([job.job_id for job in jobs]),)).fetchall())
    return NextJobs(
        [(job.job_id, job.body) for job in jobs],
        conn.execute(NEXT_DUE, lane).fetchone()[0],
        conn.execute(_DUE_LATER, (*lane, now)).fetchone()[0],
        [starts[job.job_id] for job in jobs],
        gone,
    )


def _json(values: Sequence[int]) -> str:
    return msgspec.json.encode(values).decode()


class Budget:
    """Takes jobs until their payloads reach a bound; the first always fits."""

    def __init__(self, conn: DriverConnection, n_bytes: int, codecs: Mapping[int, bytes]) -> None:
        """Take the bound, and the dictionaries of the run."""
        self._conn = conn
        self._left = n_bytes
        self._codecs = codecs
        self.spent = False

    def take(self, source: str, values: tuple[int | str, ...], into: list[ClaimedJob]) -> int:
        """Append jobs of ``source`` to ``into`` and return how many."""
        n = 0
        for row in self._conn.execute(source, values):
            job = ClaimedJob._make(row[:-1])
            if (codec := row[-1]) is not None:
                body = plain_body(self._codecs, codec, job.body, part="request", key=job.key)
                job = job._replace(body=body)
            if into and len(job.body) > self._left:
                self.spent = True
                break
            self._left -= len(job.body)
            into.append(job)
            n += 1
        return n
