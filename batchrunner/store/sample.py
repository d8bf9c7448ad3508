"""A sample of a run goes first: ``--sample N``.

Its jobs are marked as retries that are due (``not_before`` 1), and the run's option ``sample`` says
that nothing else may be claimed. When none of them is left the option goes, and the run is paused,
so that only a person's ``resume`` sends the rest.
"""

from __future__ import annotations

import msgspec

from batchrunner.models import RunId
from batchrunner.store.choose import run_range
from batchrunner.store.database import Database
from batchrunner.store.run_options import put_option
from batchrunner.store.runs import DriverConnection, StoredRun, driver

__all__ = ["begin_sample", "end_sample", "mark_claimed"]

_FRESH = "FROM job WHERE id > ? AND id < ? AND state = 'pending' AND not_before = 0"


def begin_sample(db: Database, run: StoredRun, n: int) -> int:
    """Choose ``n`` jobs, spread over those of the run that were never sent; return how many are."""
    bounds = run_range(run.id)
    with db.read() as connection:
        conn = driver(connection)
        (total,) = conn.execute(f"SELECT count(*) {_FRESH}", bounds).fetchone()
        n = min(n, total)
        if not n:
            return 0
        # The middle of each of n equal parts.
        ranks = msgspec.json.encode([(2 * k + 1) * total // (2 * n) for k in range(n)])
        chosen = conn.execute(
            "SELECT id FROM (SELECT id, row_number() OVER (ORDER BY id) - 1 AS rank"  # noqa: S608
            f" {_FRESH}) ranked WHERE rank IN (SELECT value FROM json_each(?))",
            (*bounds, ranks),
        ).fetchall()
    with db.write() as connection:
        conn = driver(connection)
        marked = conn.execute(
            "UPDATE job SET not_before = 1 WHERE state = 'pending' AND not_before = 0"
            " AND id IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode([row[0] for row in chosen]),),
        ).rowcount
        put_option(conn, run.id, "sample", marked)
    return int(marked)


def mark_claimed(conn: DriverConnection, run_id: RunId) -> None:
    """Mark the sample's jobs that a crash or a stop put back."""
    conn.execute(
        "UPDATE job SET not_before = 1 WHERE id > ? AND id < ? AND state = 'pending'"
        " AND not_before = 0 AND claims > 0",
        run_range(run_id),
    )


def end_sample(conn: DriverConnection, run_id: RunId, *, is_paused: bool) -> None:
    """Let the rest be sent, after somebody resumes the run where it is to be paused."""
    put_option(conn, run_id, "sample", None)
    if is_paused:
        conn.execute("UPDATE run SET state = 'paused' WHERE id = ? AND state = 'ready'", (run_id,))
