"""The workers of a queue, as views tell of them: who is there, and what each has of a run.

Counters and what is in flight, never a count over jobs that are done. The tables are PostgreSQL's
(:mod:`batchrunner.store.postgres.additions`): a file has no workers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from batchrunner.models import RunId
from batchrunner.store.driver import DriverConnection
from batchrunner.store.server_clock import STEADY
from batchrunner.views import WorkerView

__all__ = ["NO_WORKERS", "Workers", "begin", "keep", "leave", "load"]

_THESE: Final = "(SELECT value FROM json_each(?))"


class _Row(NamedTuple):
    """A worker's row of ``process``."""

    id: int
    pid: int
    host: str
    user: str
    since: int
    lock_file: str
    tags: str
    beat_at: int | None
    age_ms: int


class _Part(NamedTuple):
    """What a worker has had of a run."""

    n_answered: int
    why_left: str | None


_NOTHING: Final = _Part(0, None)


class Workers:
    """Who was there at one moment, and what each had of some runs."""

    def __init__(
        self,
        rows: Sequence[_Row],
        parts: Mapping[RunId, Mapping[int, _Part]],
        in_flight: Mapping[tuple[RunId, int], int],
    ) -> None:
        """Take what was read."""
        self._rows = rows
        self._parts = parts
        self._in_flight = in_flight

    def of(self, run_id: RunId) -> Sequence[WorkerView]:
        """Return the live workers of the queue with what each has of a run, the first come first."""
        parts = self._parts.get(run_id, {})
        total = sum(part.n_answered for part in parts.values())
        return [
            WorkerView(
                pid=row.pid,
                host=row.host,
                user=row.user,
                since=row.since,
                beat_at=row.beat_at,
                beat_age_ms=row.age_ms,
                tags=tuple(filter(None, row.tags.split(","))),
                in_flight=self._in_flight.get((run_id, row.id), 0),
                answered=part.n_answered,
                share=part.n_answered / total if total else None,
                leaves=part.why_left,
            )
            for row, part in ((row, parts.get(row.id, _NOTHING)) for row in self._rows)
        ]


#: Of a database that has none.
NO_WORKERS: Final = Workers((), {}, {})


def load(
    conn: DriverConnection,
    runs: Collection[RunId],
    who_is_alive: Callable[[], Callable[[str], bool]],
) -> Workers:
    """Return the workers that are alive, with what they have of these runs."""
    rows = [
        _Row._make(row)
        for row in conn.execute(
            'SELECT id, pid, host, "user", since, lock_file, tags, beat_at,'  # noqa: S608 (a constant)
            f" {STEADY} - coalesce(beat_at, since) FROM process WHERE role = 'worker' ORDER BY since, id"
        ).fetchall()
    ]
    is_alive = who_is_alive()
    rows = [row for row in rows if is_alive(row.lock_file)]
    these = msgspec.json.encode(list(runs)).decode()
    parts: dict[RunId, dict[int, _Part]] = {}
    for run_id, worker, *part in conn.execute(
        f"SELECT run_id, worker_id, n_answered, why_left FROM part WHERE run_id IN {_THESE}",  # noqa: S608 (a constant)
        (these,),
    ).fetchall():
        parts.setdefault(RunId(run_id), {})[worker] = _Part._make(part)
    in_flight = conn.execute(
        "SELECT run_id, worker_id, count(*) FROM job INDEXED BY job_running"  # noqa: S608 (a constant)
        f" WHERE state = 'running' AND run_id IN {_THESE} GROUP BY run_id, worker_id",
        (these,),
    ).fetchall()
    return Workers(rows, parts, {(RunId(run), worker): n for run, worker, n in in_flight})


def begin(conn: DriverConnection, worker: int, tags: Collection[str]) -> None:
    """Say what a worker was started with."""
    conn.execute("UPDATE process SET tags = ? WHERE id = ?", (",".join(sorted(tags)), worker))


def leave(conn: DriverConnection, run_id: RunId, worker: int, why: str) -> None:
    """Say that a worker leaves a run to others, and why."""
    conn.execute(
        "INSERT INTO part (run_id, worker_id, why_left) VALUES (?, ?, ?)"
        " ON CONFLICT (run_id, worker_id) DO UPDATE SET why_left = excluded.why_left",
        (run_id, worker, why),
    )


def keep(conn: DriverConnection, run_id: RunId, worker: int) -> None:
    """Say that a worker has a run that it may have left before."""
    conn.execute(
        "UPDATE part SET why_left = NULL WHERE run_id = ? AND worker_id = ? AND why_left IS NOT NULL",
        (run_id, worker),
    )
