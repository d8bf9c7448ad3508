"""What a run's time went into, and one job's way so far, for ``explain``.

Sums and rows of waits, never a scan of jobs or sends: a run costs the same whatever its size. One
job's turn is counted in the index that it is claimed by, which a million jobs before it make some
hundredths of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from batchrunner.core.time_use import DIED, OVER, is_nobody, kind_of
from batchrunner.errors import UsageError
from batchrunner.models import JobId, RunState
from batchrunner.store.database import Database
from batchrunner.store.runs import StoredRun, driver
from batchrunner.store.waits import accounted_until
from batchrunner.views import SendView, TimePart, TimeView, WaitView

__all__ = ["Held", "JobRow", "held_models", "job_of", "time_of", "waits_between"]

#: So many waits are listed.
_MOST_WAITS: Final = 10
#: What is less is the rounding of instants, not time that nobody accounted for (ms).
_ROUNDING_MS: Final = 50
_LIVE: Final = frozenset({RunState.RUNNING, RunState.WAITING})
_OVER_STATES: Final = frozenset({RunState.FINISHED, RunState.CANCELLED})

_WAITS: Final = """
    SELECT cause, detail, began_at, open_at, ended_at, n, ms FROM wait WHERE run_id = ? ORDER BY id"""
_JOB: Final = """
    SELECT j.id, j.key, j.state, j.attempts, j.not_before, j.wait_reason, j.claimed_at, j.finished_at,
           j.error_kind, j.model_id, m.name AS model, r.error_message, r.finish_reason
    FROM job j JOIN model m ON m.id = j.model_id LEFT JOIN response r ON r.job_id = j.id
    WHERE j.run_id = ? AND j.key = ?"""
_SENDS: Final = """
    SELECT claim, planned_at, sent_at, ended_at, outcome, kind, http_status, request_id, message,
           maybe_executed
    FROM send WHERE job_id = ? ORDER BY claim"""
_BEFORE: Final = """
    SELECT count(*) FROM job INDEXED BY job_fresh
    WHERE run_id = ? AND model_id = ? AND state = 'pending' AND not_before = 0 AND id < ?"""


class Held(NamedTuple):
    """A model that keeps the jobs back which ask for it."""

    model: str
    message: str
    fix: str


class JobRow(NamedTuple):
    """One job as it stands, without request and answer."""

    id: JobId
    key: str
    state: str
    attempts: int
    #: When a retry is due (wall ms); ``None``: at once.
    not_before: int | None
    wait_reason: str | None
    claimed_at: int | None
    finished_at: int | None
    error_kind: str | None
    #: Empty: it names none.
    model: str
    error_message: str | None
    finish_reason: str | None
    #: Jobs of the same model that go first; ``None`` for one that is not fresh.
    n_before: int | None
    sends: Sequence[SendView]


def time_of(db: Database, run: StoredRun, state: RunState, *, now_ms: int) -> TimeView | None:
    """Return what a run's time went into; ``None`` where nobody has run it yet.

    Of a run that is sent it is as it was stored last: a second ago, or some seconds in a wait that
    is not told.
    """
    if run.started_at is None:
        return None
    with db.read() as connection:
        conn = driver(connection)
        spent = dict(
            conn.execute(
                "SELECT cause, sum(ms) FROM time_day WHERE run_id = ? GROUP BY cause", (run.id,)
            ).fetchall()
        )
        until = accounted_until(conn, run.id, run.started_at)
        rows = [_WaitRow(*row) for row in conn.execute(_WAITS, (run.id,))]
    cause = next((row.cause for row in rows if row.open_at is not None), None)
    is_over = state in _OVER_STATES
    is_dead = not is_over and state not in _LIVE and not (cause and is_nobody(cause))
    ended_at = _end(run, state, cause, until, now_ms)
    if (rest := ended_at - until) > _ROUNDING_MS:
        whose = DIED if is_dead else cause or DIED
        spent[whose] = spent.get(whose, 0.0) + rest
    else:
        ended_at = until
    waits = [
        _wait(row, until if is_dead else ended_at, goes_on=not (is_dead or is_over))
        for row in rows
        if row.open_at is None or not is_over
    ]
    if is_dead:
        waits.append(_dead(until, ended_at))
    waits.sort(key=lambda wait: -wait.seconds)
    parts = sorted(spent.items(), key=lambda part: (-part[1], part[0]))
    return TimeView(
        began_at=run.started_at,
        ended_at=ended_at,
        died_at=until if is_dead else None,
        parts=[
            TimePart(cause=cause, kind=kind_of(cause).value, seconds=ms / 1000.0)
            for cause, ms in parts
        ],
        waits=waits[:_MOST_WAITS],
        n_waits=len(waits),
    )


def _end(run: StoredRun, state: RunState, cause: str | None, until: int, now_ms: int) -> int:
    """Return up to when it can be told where the time of a run went."""
    if state in _OVER_STATES:
        # Of one that was given up while nobody ran it that is later than its last process's word.
        return max(until, run.finished_at or until) if cause != OVER else until
    if state in _LIVE and cause is None:
        return until
    return max(until, now_ms)


class _WaitRow(NamedTuple):
    """A row of ``wait``."""

    cause: str
    detail: str
    began_at: int
    open_at: int | None
    ended_at: int | None
    n: int
    ms: int


def _wait(row: _WaitRow, end: int, *, goes_on: bool) -> WaitView:
    """Return a wait; one that is open has lasted until ``end``."""
    is_open = row.open_at is not None
    ms = row.ms + max(0, end - row.open_at) if row.open_at is not None else row.ms
    return WaitView(
        cause=row.cause,
        detail=row.detail,
        began_at=row.began_at,
        ended_at=None if is_open and goes_on else end if is_open else row.ended_at,
        times=row.n,
        seconds=ms / 1000.0,
    )


def waits_between(
    db: Database, run: StoredRun, begin: int, end: int, *, died_at: int | None
) -> list[WaitView]:
    """Return the waits of a run that touch a stretch of time, the longest first."""
    with db.read() as connection:
        rows = [_WaitRow(*row) for row in driver(connection).execute(_WAITS, (run.id,))]
    lasts = end if died_at is None else min(end, died_at)
    touching = [
        _wait(row, lasts, goes_on=False)
        for row in rows
        if row.began_at < end and (row.open_at is not None or (row.ended_at or 0) > begin)
    ]
    if died_at is not None and died_at < end:
        touching.append(_dead(died_at, end))
    return sorted(touching, key=lambda wait: -wait.seconds)


def _dead(since: int, until: int) -> WaitView:
    """Return the time in which nobody runs it because its process died."""
    return WaitView(
        cause=DIED, detail="", began_at=since, ended_at=None, times=1,
        seconds=(until - since) / 1000.0,
    )  # fmt: skip


def held_models(db: Database, run: StoredRun) -> list[Held]:
    """Return the models that keep jobs of a run back."""
    with db.read() as connection:
        rows = driver(connection).execute(
            "SELECT m.name, h.message, h.fix FROM hold h JOIN model m ON m.id = h.model_id"
            " WHERE h.run_id = ? ORDER BY m.name",
            (run.id,),
        )
        return [Held(*row) for row in rows]


def job_of(db: Database, run: StoredRun, key: str, *, fix: str) -> JobRow:
    """Return one job of a run. Raises :class:`UsageError`, with ``fix``, where it has none of this key."""
    with db.read() as connection:
        row = connection.exec_driver_sql(_JOB, (run.id, key)).mappings().first()
        if row is None:
            raise UsageError(f"Run {run.name} has no job {key!r}.", fix=fix)
        n_before = None
        if row["state"] == "pending" and row["not_before"] == 0:
            lane = (run.id, row["model_id"], row["id"])
            n_before = int(connection.exec_driver_sql(_BEFORE, lane).scalar_one())
        sends = [
            SendView(**{**send, "maybe_executed": bool(send["maybe_executed"])})
            for send in connection.exec_driver_sql(_SENDS, (row["id"],)).mappings()
        ]
    return JobRow(
        id=JobId(row["id"]),
        key=row["key"],
        state=row["state"],
        attempts=row["attempts"],
        # One of a sample is due from the start.
        not_before=row["not_before"] if row["not_before"] > 1 else None,
        wait_reason=row["wait_reason"],
        claimed_at=row["claimed_at"],
        finished_at=row["finished_at"],
        error_kind=row["error_kind"],
        model=row["model"],
        error_message=row["error_message"],
        finish_reason=row["finish_reason"],
        n_before=n_before,
        sends=sends,
    )
