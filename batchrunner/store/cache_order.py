"""The starts that jobs share, found for a run that goes in the order of the provider's cache.

Found from the stored requests, in short transactions, and only for what may still be sent. It may be
done again at any time: what broke off is completed by the next call, since the run says that its starts are
known only once all of them are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from batchrunner.core.caching import Found, Start
from batchrunner.models import RunId
from batchrunner.store.choose import run_range
from batchrunner.store.codecs import GONE, codecs_of, plain_body
from batchrunner.store.database import Database
from batchrunner.store.run_options import put_option
from batchrunner.store.runs import DriverConnection, driver

__all__ = ["ORDERED", "Ordered", "order_jobs"]

#: Among a run's options: the starts of its jobs are known.
ORDERED: Final = "cache_ordered"
#: Jobs in one transaction.
_CHUNK: Final = 1_000

_REQUESTS: Final = """
    SELECT j.id, j.key, j.start, m.name, p.codec, p.body
    FROM job j JOIN payload p ON p.job_id = j.id JOIN model m ON m.id = j.model_id
    WHERE j.id > ? AND j.id < ? AND j.state != 'completed' ORDER BY j.id LIMIT ?"""
_SHARED: Final = """
    SELECT coalesce(sum(n), 0), count(*) FROM (
        SELECT count(*) AS n FROM job
        WHERE id > ? AND id < ? AND state != 'completed' AND start > 0
        GROUP BY start HAVING count(*) > 1) shared"""


class Ordered(NamedTuple):
    """What was found, in jobs that may still be sent."""

    n_jobs: int
    #: Jobs that share their start with others, and how many such starts there are.
    n_shared: int
    n_starts: int
    #: Jobs whose start is too short, and those that mark nothing where only that is kept.
    n_short: int
    n_unmarked: int


def order_jobs(
    db: Database, run_id: RunId, start_of: Callable[[bytes, str], Start] | None
) -> Ordered:
    """Find the starts of a run's jobs by request and model; ``None``: they go in the input's order."""
    found: Counter[Found] = Counter()
    after, high = run_range(run_id)
    low = after
    with db.session() as session:
        while True:
            with session.transaction() as connection:
                last = _order_some(driver(connection), run_id, (after, high), start_of, found)
            if last is None:
                break
            after = last
        with session.transaction() as connection:
            conn = driver(connection)
            put_option(conn, run_id, ORDERED, None if start_of is None else True)
            n_shared, n_starts = conn.execute(_SHARED, (low, high)).fetchone()
    return Ordered(found.total(), n_shared, n_starts, found[Found.SHORT], found[Found.UNMARKED])


def _order_some(
    conn: DriverConnection,
    run_id: RunId,
    span: tuple[int, int],
    start_of: Callable[[bytes, str], Start] | None,
    found: Counter[Found],
) -> int | None:
    """Find the starts of the next jobs; return the last of them, ``None`` where there is none."""
    rows = conn.execute(_REQUESTS, (*span, _CHUNK)).fetchall()
    if not rows:
        return None
    codecs = codecs_of(conn, run_id)
    changed = []
    for job, key, before, model, codec, stored in rows:
        start = 0
        # What was pruned is never sent.
        if start_of is not None and codec != GONE:
            body = plain_body(codecs, codec, stored, part="request", key=key)
            start, why = start_of(body, model)
            found[why] += 1
        if start != before:
            changed.append((start, job))
    conn.executemany("UPDATE job SET start = ? WHERE id = ?", changed)
    return int(rows[-1][0])
