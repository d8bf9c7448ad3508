"""How the drain of a run waits, stops and ends, and how its jobs are given up or put back.

Every function takes the writer's connection inside a transaction that somebody else began and will
commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from batchrunner.core.time_use import HANDED_OVER, OVER, stopped
from batchrunner.models import JobId, RunId, Waiting
from batchrunner.store import waits
from batchrunner.store.driver import DriverConnection
from batchrunner.store.records import TimeSum

__all__ = [
    "Alike",
    "alike",
    "cancel_some",
    "clear_holds",
    "end_run",
    "forget_person",
    "let_go",
    "put_back",
    "set_waiting",
]

#: Jobs cancelled in one transaction: some 20 ms.
_CANCEL_JOBS: Final = 2_000


def set_waiting(
    conn: DriverConnection, run_id: RunId, waiting: Waiting | None, *, cause: str, wall: int
) -> None:
    """Note what a live run waits for, or that it waits no more; ``cause`` is what its time goes into.

    Of a run that another worker has ended by now nothing is noted: its reason is why it stopped.
    """
    cursor = conn.execute(
        "UPDATE run SET stop_reason = ?, stop_until = ?, stop_detail = ?, stop_fix = ?"
        " WHERE id = ? AND runner_id IS NOT NULL",
        (*_stop_columns(waiting), run_id),
    )
    if not cursor.rowcount:
        return
    if waiting is None:
        waits.end_wait(conn, run_id, wall=wall)
    else:
        waits.begin_wait(conn, run_id, cause, waiting, wall=wall)


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
    """Leave a run to whoever takes it up next; it stays as it is.

    One that another worker has finished meanwhile is told to its end.
    """
    row = conn.execute(
        "SELECT 1 FROM run WHERE id = ? AND state = 'finished'", (run_id,)
    ).fetchone()
    if row is not None:
        return
    waits.leave(conn, run_id, HANDED_OVER, wall=wall, times=times)
    conn.execute("UPDATE run SET runner_id = NULL WHERE id = ?", (run_id,))
    conn.execute("UPDATE ask SET taken_by = NULL, note = NULL WHERE run_id = ?", (run_id,))


def _stop_columns(stop: Waiting | None) -> tuple[str | None, int | None, str | None, str | None]:
    if stop is None:
        return (None, None, None, None)
    return (stop.reason.value, stop.until, stop.detail, stop.fix)


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


class Alike(NamedTuple):
    """Failed jobs of a run that all ended alike."""

    kind: str
    http_status: int | None
    message: str
    jobs: list[JobId]


def alike(conn: DriverConnection, run_id: RunId) -> Alike | None:
    """Return the failed jobs of a run if all ended with the same kind and status."""
    rows = conn.execute(
        "SELECT j.id, j.error_kind, r.http_status, r.error_message FROM job j"
        " LEFT JOIN response r ON r.job_id = j.id WHERE j.run_id = ? AND j.state = 'failed'"
        " ORDER BY j.id",
        (run_id,),
    ).fetchall()
    if len({row[1:3] for row in rows}) != 1:
        return None
    _, kind, status, message = rows[0]
    return Alike(kind, status, message or "", [JobId(row[0]) for row in rows])


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
