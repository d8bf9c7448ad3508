"""Where a run's time went, as it is stored: sums by day and cause, waits one by one.

Functions that take the driver's connection run inside a transaction that somebody else began and
will commit. What is accounted for of a run is the time from its first take-up on that its sums
(``time_day``) come to; what lies between that and now nobody has counted, since nobody ran it, or
whoever did has died. So the parts always sum to the whole, whatever was killed when.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from batchrunner.core.time_use import DIED, is_nobody
from batchrunner.models import RunId, ScopeId, Waiting
from batchrunner.store.driver import DriverConnection
from batchrunner.store.records import TimeSum

__all__ = [
    "TIME",
    "TIME_AGAIN",
    "accounted_until",
    "arrive",
    "begin_wait",
    "book",
    "end_wait",
    "leave",
    "with_rest",
]

TIME: Final = "INSERT INTO time_day (run_id, day, account_id, cause, ms)"
TIME_AGAIN: Final = (
    " ON CONFLICT (run_id, day, account_id, cause) DO UPDATE SET ms = time_day.ms + excluded.ms"
)
#: Waits of one cause with less time between them are one row, so that a pause of a second that comes
#: again for an hour is not thousands.
TOGETHER_MS: Final = 60_000
_MS_A_DAY: Final = 86_400_000


def book(conn: DriverConnection, sums: Iterable[TimeSum]) -> None:
    """Add what a run's time went into."""
    conn.executemany(f"{TIME} VALUES (?, ?, ?, ?, ?){TIME_AGAIN}", list(sums))


def accounted_until(conn: DriverConnection, run_id: RunId, started_at: int) -> int:
    """Return up to when (wall ms) it is known where a run's time went."""
    (ms,) = conn.execute(
        "SELECT coalesce(sum(ms), 0) FROM time_day WHERE run_id = ?", (run_id,)
    ).fetchone()
    return started_at + round(float(ms))


def with_rest(
    conn: DriverConnection, run_id: RunId, times: Sequence[TimeSum], cause: str, *, wall: int
) -> list[TimeSum]:
    """Return ``times``, and what is left of a run's time until now: whoever told it so far tells no more."""
    started_at, account = conn.execute(
        "SELECT started_at, account_id FROM run WHERE id = ?", (run_id,)
    ).fetchone()
    if started_at is None:
        return [*times]
    ms = wall - accounted_until(conn, run_id, started_at) - sum(one.ms for one in times)
    left = TimeSum(run_id, wall // _MS_A_DAY, ScopeId(account), cause, float(ms))
    return [*times, left] if ms > 0 else [*times]


def begin_wait(
    conn: DriverConnection, run_id: RunId, cause: str, waiting: Waiting, *, wall: int
) -> None:
    """Note that a live run waits from now on, or that its wait has another end than it had."""
    told = (waiting.detail, waiting.until)
    if conn.execute(
        "UPDATE wait SET detail = ?, until_at = ?"
        " WHERE run_id = ? AND open_at IS NOT NULL AND cause = ?",
        (*told, run_id, cause),
    ).rowcount:
        return
    end_wait(conn, run_id, wall=wall)
    if conn.execute(
        "UPDATE wait SET detail = ?, until_at = ?, open_at = ?, n = n + 1"
        " WHERE id = (SELECT max(id) FROM wait WHERE run_id = ?) AND cause = ? AND ended_at >= ?",
        (*told, wall, run_id, cause, wall - TOGETHER_MS),
    ).rowcount:
        return
    _begin(conn, run_id, cause, waiting, wall)


def end_wait(conn: DriverConnection, run_id: RunId, *, wall: int) -> None:
    """Note that whatever a run waited for is over."""
    conn.execute(
        "UPDATE wait SET ended_at = CASE WHEN open_at > ?1 THEN open_at ELSE ?1 END,"
        " ms = ms + CASE WHEN open_at > ?1 THEN 0 ELSE ?1 - open_at END, open_at = NULL"
        " WHERE run_id = ?2 AND open_at IS NOT NULL",
        (wall, run_id),
    )


def leave(
    conn: DriverConnection,
    run_id: RunId,
    cause: str,
    stop: Waiting | None = None,
    *,
    wall: int,
    times: Iterable[TimeSum] = (),
) -> None:
    """Note that nobody runs a run from now on, and why; ``times`` is what was not stored yet."""
    book(conn, times)
    end_wait(conn, run_id, wall=wall)
    _begin(conn, run_id, cause, stop, wall)


def arrive(conn: DriverConnection, run_id: RunId, *, wall: int) -> None:
    """Account for the time since somebody last ran a run; call it before the run is taken up."""
    started_at, account = conn.execute(
        "SELECT started_at, account_id FROM run WHERE id = ?", (run_id,)
    ).fetchone()
    if started_at is None:
        # No part of its time: that begins now.
        conn.execute("DELETE FROM wait WHERE run_id = ?", (run_id,))
        return
    until = accounted_until(conn, run_id, started_at)
    left = conn.execute(
        "SELECT cause FROM wait WHERE run_id = ? AND open_at IS NOT NULL", (run_id,)
    ).fetchone()
    cause = left[0] if left is not None and is_nobody(left[0]) else DIED
    if cause == DIED:
        # What it waited for is known up to when its time was last stored.
        end_wait(conn, run_id, wall=until)
        _begin(conn, run_id, cause, None, min(until, wall))
    end_wait(conn, run_id, wall=wall)
    if wall > until:
        day = wall // _MS_A_DAY
        book(conn, [TimeSum(run_id, day, ScopeId(account), cause, float(wall - until))])


def _begin(
    conn: DriverConnection, run_id: RunId, cause: str, waiting: Waiting | None, wall: int
) -> None:
    conn.execute(
        "INSERT INTO wait (run_id, cause, detail, began_at, open_at, until_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (
            run_id, cause, waiting.detail if waiting else "", wall, wall,
            waiting.until if waiting else None,
        ),
    )  # fmt: skip
