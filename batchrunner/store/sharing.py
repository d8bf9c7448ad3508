"""What workers on one queue read and write so that they share a ledger; on PostgreSQL alone.

Every function takes a connection in a transaction that somebody else began. Workers' turns go beside
each other, and whoever writes anything else is alone (:class:`batchrunner.store.postgres.writer.PgWriter`);
from :func:`look` on nobody else books in the same scopes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from batchrunner.core.admission import DirtySlot
from batchrunner.core.time_use import HANDED_OVER
from batchrunner.errors import DatabaseError
from batchrunner.models import JobCounts, RunId, ScopeId, Waiting, WaitingReason
from batchrunner.store import waits
from batchrunner.store.driver import DriverConnection
from batchrunner.store.processes import forget_waits
from batchrunner.store.scopes import STANDING, Standing
from batchrunner.store.server_clock import STEADY
from batchrunner.store.worker_runs import forget_kept

__all__ = [
    "LEASE_MS",
    "LIVES",
    "NOW",
    "QUIET_MS",
    "READY",
    "USED",
    "Seen",
    "askers",
    "end_of",
    "forget_dead",
    "hand_on",
    "is_any_left",
    "is_led",
    "is_to_tell",
    "is_told",
    "look",
    "note_left",
    "ready_runs",
    "roll_call",
    "teller",
    "untold",
]

#: A worker that was not heard of for so long is dead, whatever its connection says. Longer than a
#: send may be late, so that what an orphan used can be moved to where it was sent at the latest.
LEASE_MS: Final = 45_000
#: One whose lock is free may have lost its connection alone, and comes back: after so long it is dead.
QUIET_MS: Final = 5_000

#: Steady time as the server tells it (epoch ms): every worker's leases are measured by it.
NOW: Final = STEADY
#: When the server was started: nobody has a lock from before that.
_STARTED: Final = (
    f"({NOW} - CAST(extract(epoch FROM clock_timestamp() - pg_postmaster_start_time()) * 1000"
    " AS BIGINT))"
)
#: Which leases of locks hold: after a start of the server all get the time to be kept again.
LIVES: Final = (
    f"(until_at > {NOW} OR ({_STARTED} > {NOW} - {LEASE_MS} AND until_at > {_STARTED} - 600000))"
)
_WORKERS: Final = (
    f"SELECT id, lock_file, beat_at, {NOW}, {_STARTED} FROM process WHERE role = 'worker'"  # noqa: S608 (constants)
)


#: Whoever locks in this order waits for nobody who waits for them. References to a scope (the send log's)
#: are no reason to wait.
_LOCK: Final = f"""
    SELECT {STANDING} FROM scope WHERE id IN (SELECT value FROM json_each(?))
    ORDER BY id FOR NO KEY UPDATE"""  # noqa: S608 (constants)
#: What of the scopes' usage was written since each was looked at. The planner takes a third of all rows for
#: what is greater than something, and reads the table through, two days of usage each turn; apart from the
#: join, and with an upper end, it takes them for few, and goes by the index.
USED: Final = """
    SELECT u.version, u.scope_id, u.unit, u.grain, u.slot, u.n
    FROM (SELECT (e.value ->> 0)::bigint AS id, (e.value ->> 1)::bigint AS version
          FROM json_array_elements(?::json) AS e(value)) s
    CROSS JOIN LATERAL (SELECT * FROM usage_slot WHERE scope_id = s.id AND version > s.version
                        AND version < 9223372036854775807 OFFSET 0) u"""
#: Runs that have work left and did not stop by themselves, or are asked for; by an index of the ready ones.
READY: Final = """
    SELECT id FROM run r WHERE state = 'ready' AND n_pending + n_running > 0 AND loader_id IS NULL
    AND (stop_reason IS NULL OR runner_id IS NOT NULL OR EXISTS (SELECT 1 FROM ask a
         WHERE a.run_id = r.id AND a.taken_by IS NULL AND coalesce(a.note, '') != 'ended'))
    ORDER BY priority DESC, id"""


class Seen(NamedTuple):
    """What others may have changed since a worker looked last."""

    #: Of the scopes that have new slots: to be given to the next look.
    versions: dict[ScopeId, int]
    slots: list[DirtySlot]
    scopes: list[Standing]
    counts: dict[RunId, JobCounts]
    #: Runs that have stopped with work left, and why.
    ended: dict[RunId, Waiting]


def look(
    conn: DriverConnection,
    worker: int,
    *,
    versions: Mapping[ScopeId, int],
    runs: Collection[RunId],
) -> Seen:
    """Lock scopes until the transaction ends; return what changed in them since their versions.

    Says that this worker is there. Raises :class:`DatabaseError` where others have taken it for dead.
    """
    cursor = conn.execute(f"UPDATE process SET beat_at = {NOW} WHERE id = ?", (worker,))  # noqa: S608 (a constant)
    if not cursor.rowcount:
        raise DatabaseError(
            "This worker was not heard of for too long, and others have taken over what it had claimed.",
            fix="Start it again: batchrunner worker",
        )
    standings = [Standing._make(row) for row in conn.execute(_LOCK, (_json(list(versions)),))]
    seen: dict[ScopeId, int] = {}
    slots = []
    for version, *slot in conn.execute(USED, (_json(list(versions.items())),)):
        slots.append(DirtySlot._make(slot))
        seen[slots[-1].scope_id] = max(seen.get(slots[-1].scope_id, version), version)
    counts = conn.execute(
        "SELECT id, n_pending, n_running, n_completed, n_failed, n_cancelled,"
        " runner_id, stop_reason, stop_until, stop_detail, stop_fix FROM run"
        " WHERE id IN (SELECT value FROM json_each(?))",
        (_json(list(runs)),),
    ).fetchall()
    return Seen(
        seen,
        slots,
        standings,
        {
            RunId(run): JobCounts(
                pending=pending,
                running=running,
                completed=completed,
                failed=failed,
                cancelled=cancelled,
            )
            for run, pending, running, completed, failed, cancelled, *_ in counts
        },
        {
            RunId(run): stop
            for run, *_, runner, reason, until, detail, fix in counts
            if (stop := _end(runner, reason, until, detail, fix)) is not None
        },
    )


def _end(
    runner: int | None, reason: str | None, until: int | None, detail: str | None, fix: str | None
) -> Waiting | None:
    """Return why a run has stopped; ``None``: it has not. What it waits for somebody tells."""
    if runner is not None or reason is None:
        return None
    return Waiting(reason=WaitingReason(reason), until=until, detail=detail or "", fix=fix or "")


def end_of(conn: DriverConnection, run_id: RunId) -> Waiting | None:
    """Return why a run has stopped with work left; ``None``: it has not."""
    row = conn.execute(
        "SELECT runner_id, stop_reason, stop_until, stop_detail, stop_fix FROM run WHERE id = ?",
        (run_id,),
    ).fetchone()
    return None if row is None else _end(*row)


def roll_call(
    conn: DriverConnection, who_is_alive: Callable[[], Callable[[str], bool]]
) -> tuple[list[int], list[int]]:
    """Return the workers that are gone, and those that are there."""
    found: tuple[list[int], list[int]] = ([], [])
    rows = conn.execute(_WORKERS).fetchall()
    # Later than the rows: whoever has one had its lock before.
    is_alive = who_is_alive()
    for worker, lock, *times in rows:
        found[_is_left(is_alive(lock), *times)].append(worker)
    return found


def forget_dead(
    conn: DriverConnection, who_is_alive: Callable[[], Callable[[str], bool]]
) -> list[int]:
    """Remove the rows of workers that are gone; return who is left."""
    gone, living = roll_call(conn, who_is_alive)
    for worker in gone:
        forget_waits(conn, worker)
        conn.execute("UPDATE run SET runner_id = NULL WHERE runner_id = ?", (worker,))
        conn.execute("DELETE FROM process WHERE id = ?", (worker,))
    forget_kept(conn, living)
    return living


def is_any_left(conn: DriverConnection, is_alive: Callable[[str], bool]) -> bool:
    """Return whether a worker is there, or may come back from having lost its connection."""
    return any(
        _is_left(is_alive(lock), *times) for _, lock, *times in conn.execute(_WORKERS).fetchall()
    )


def _is_left(has_lock: bool, beat_at: int | None, now: int, started: int) -> bool:
    """Return whether a worker may still be there, by its lock and by when it was last heard of."""
    if beat_at is None:
        return has_lock
    if has_lock or beat_at < started:
        return now - beat_at < LEASE_MS
    return now - beat_at < QUIET_MS


def ready_runs(conn: DriverConnection) -> list[RunId]:
    """Return the runs that have work left: those that stopped by themselves only where somebody asks for them.

    One is not ready before whoever stored it has said all of it, its limits and its sample; where that was
    killed before, somebody must ask for the run.
    """
    return [RunId(row[0]) for row in conn.execute(READY)]


def askers(conn: DriverConnection, run_id: RunId) -> frozenset[int]:
    """Return the processes that ask for a run."""
    rows = conn.execute("SELECT process_id FROM ask WHERE run_id = ?", (run_id,))
    return frozenset(row[0] for row in rows)


def is_led(conn: DriverConnection, run_id: RunId, *, knowing: Collection[int]) -> bool:
    """Return whether a worker says how a run stands and nobody else asks for it than who is known."""
    row = conn.execute(
        "SELECT 1 FROM run WHERE id = ? AND runner_id IS NOT NULL", (run_id,)
    ).fetchone()
    # Not by when they asked: that is their machines' time.
    return row is not None and askers(conn, run_id) <= {*knowing}


def hand_on(conn: DriverConnection, run_id: RunId, worker: int, *, wall: int) -> None:
    """Leave it to others that have a run to tell how it stands, if this worker told."""
    cursor = conn.execute(
        "UPDATE run SET runner_id = NULL, stop_reason = NULL, stop_until = NULL, stop_detail = NULL,"
        " stop_fix = NULL WHERE id = ? AND runner_id = ?",
        (run_id, worker),
    )
    if cursor.rowcount:
        waits.leave(conn, run_id, HANDED_OVER, wall=wall)


def untold(conn: DriverConnection) -> set[RunId]:
    """Return the runs that nobody sends and somebody asks for who was not told of them yet."""
    rows = conn.execute(
        "SELECT a.run_id FROM ask a JOIN run r ON r.id = a.run_id"
        " WHERE a.taken_by IS NULL AND a.note IS NULL AND r.runner_id IS NULL"
    )
    return {RunId(row[0]) for row in rows}


def note_left(conn: DriverConnection, run_id: RunId, why: str, *, is_news: bool) -> None:
    """Tell whoever asks for a run that a worker leaves it, and why; nobody where another has it.

    In the place of another worker's reason only where it ``is_news``: they would take turns.
    """
    conn.execute(
        "UPDATE ask SET note = ?2 WHERE run_id = ?1 AND taken_by IS NULL"
        " AND (note IS NULL OR (CAST(?3 AS INTEGER) = 1 AND note NOT IN ('ended', ?2)))"
        " AND EXISTS (SELECT 1 FROM run WHERE id = ?1 AND runner_id IS NULL)",
        (
            run_id,
            f"a worker leaves it to others, or to this process once no worker is there: {why}",
            int(is_news),
        ),
    )


def is_told(conn: DriverConnection, run_id: RunId, *, by_others_than: int) -> bool:
    """Return whether another worker says how a run stands."""
    (runner,) = conn.execute("SELECT runner_id FROM run WHERE id = ?", (run_id,)).fetchone()
    return runner is not None and runner != by_others_than


def teller(conn: DriverConnection, run_id: RunId) -> int | None:
    """Return which worker says how a run stands; 0: none, and one may; ``None``: none, it has stopped."""
    row = conn.execute(
        "SELECT runner_id, state, stop_reason FROM run WHERE id = ?", (run_id,)
    ).fetchone()
    if row is None:
        return None
    return 0 if row == (None, "ready", None) else row[0]


def is_to_tell(conn: DriverConnection, run_id: RunId, worker: int, *, wall: int) -> bool:
    """Return whether this worker is the one that says how a run stands; where none is, it is from now on."""
    if (tells := teller(conn, run_id)) != 0:
        return tells == worker
    waits.arrive(conn, run_id, wall=wall)
    conn.execute(
        "UPDATE run SET runner_id = ?, stop_reason = NULL, stop_until = NULL, stop_detail = NULL,"
        " stop_fix = NULL WHERE id = ?",
        (worker, run_id),
    )
    return True


def _json(values: Sequence[object]) -> str:
    return msgspec.json.encode(values).decode()
