"""What workers on one queue read and write so that they share a ledger; on PostgreSQL alone.

Every function takes a connection in a transaction that somebody else began under the write lock: no
other worker books, claims or settles meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final, NamedTuple

import msgspec

from batchrunner.clock import Clock
from batchrunner.core.admission import DirtySlot
from batchrunner.errors import DatabaseError
from batchrunner.models import JobCounts, RunId, ScopeId
from batchrunner.store import scopes, waits
from batchrunner.store.driver import DriverConnection
from batchrunner.store.scopes import ScopeState
from batchrunner.store.worker_runs import forget_kept

__all__ = [
    "LEASE_MS",
    "Seen",
    "check_clock",
    "forget_dead",
    "is_to_tell",
    "is_told",
    "look",
    "note_left",
    "ready_runs",
]

#: A worker that was not heard of for so long is dead, whatever its connection says. Longer than a
#: send may be late, so that what an orphan used can be moved to where it was sent at the latest.
LEASE_MS: Final = 45_000

#: What a machine's clocks may differ by from the server's (ms). Two workers are then less than a slot of
#: the ledger apart, which is what it keeps free beside each window.
_APART_MS: Final = 100.0
#: The server's clock, epoch ms: every worker's leases are measured by it.
_NOW: Final = "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"


class Seen(NamedTuple):
    """What others may have changed since a worker looked last."""

    #: To be given to the next look.
    version: int
    slots: list[DirtySlot]
    scopes: list[ScopeState]
    counts: dict[RunId, JobCounts]


def check_clock(conn: DriverConnection, clock: Clock) -> None:
    """Raise :class:`DatabaseError` where this machine's clocks are not the server's.

    Whoever shares a ledger books by its own clocks: with others' a minute would hold more than its limit.
    """
    before = (clock.now(), clock.wall())
    (server,) = conn.execute(f"SELECT {_NOW}").fetchone()
    after = (clock.now(), clock.wall())
    for early, late in zip(before, after, strict=True):
        apart = max(early - server, server - late)
        if apart > _APART_MS:
            ahead = "ahead of" if early > server else "behind"
            raise DatabaseError(
                f"This machine's clock is {apart / 1000:.1f} s {ahead} that of the database's server; the"
                " limits are kept by both.",
                fix="Set both clocks by the network (chronyc makestep, timedatectl set-ntp true), then start it again.",
            )


def look(
    conn: DriverConnection,
    worker: int,
    *,
    version: int,
    known: Collection[ScopeId],
    fresh: Collection[ScopeId],
    runs: Collection[RunId],
) -> Seen:
    """Say that this worker is there, and return what changed; of ``fresh`` scopes all there is.

    Raises :class:`DatabaseError` where others have taken this worker for dead.
    """
    cursor = conn.execute(f"UPDATE process SET beat_at = {_NOW} WHERE id = ?", (worker,))  # noqa: S608 (a constant)
    if not cursor.rowcount:
        raise DatabaseError(
            "This worker was not heard of for too long, and others have taken over what it had claimed.",
            fix="Start it again: batchrunner worker",
        )
    rows = conn.execute(
        "SELECT version, scope_id, unit, grain, slot, n FROM usage_slot WHERE version > ?"
        " OR scope_id IN (SELECT value FROM json_each(?))",
        (version, _json(fresh)),
    ).fetchall()
    counts = conn.execute(
        "SELECT id, n_pending, n_running, n_completed, n_failed, n_cancelled FROM run"
        " WHERE id IN (SELECT value FROM json_each(?))",
        (_json(runs),),
    )
    return Seen(
        max((row[0] for row in rows), default=version),
        [DirtySlot(*row[1:]) for row in rows],
        [scopes.load_scope(conn, scope) for scope in known],
        {
            RunId(run): JobCounts(
                pending=pending,
                running=running,
                completed=completed,
                failed=failed,
                cancelled=cancelled,
            )
            for run, pending, running, completed, failed, cancelled in counts
        },
    )


def forget_dead(conn: DriverConnection, is_alive: Callable[[str], bool]) -> list[int]:
    """Remove the rows of workers that are gone; return who is left."""
    living = []
    for worker, lock, beat_at, now in conn.execute(
        f"SELECT id, lock_file, beat_at, {_NOW} FROM process WHERE role = 'worker'"  # noqa: S608 (a constant)
    ).fetchall():
        if is_alive(lock) and (beat_at is None or now - beat_at < LEASE_MS):
            living.append(worker)
            continue
        conn.execute("UPDATE run SET runner_id = NULL WHERE runner_id = ?", (worker,))
        conn.execute("DELETE FROM process WHERE id = ?", (worker,))
    forget_kept(conn, living)
    return living


def ready_runs(conn: DriverConnection) -> list[RunId]:
    """Return the runs that have work left: those that stopped by themselves only where somebody asks for them."""
    rows = conn.execute(
        "SELECT id FROM run r WHERE state = 'ready' AND n_pending + n_running > 0"
        " AND (stop_reason IS NULL OR runner_id IS NOT NULL OR EXISTS (SELECT 1 FROM ask a"
        " WHERE a.run_id = r.id AND a.taken_by IS NULL AND coalesce(a.note, '') != 'ended'))"
        " ORDER BY priority DESC, id"
    )
    return [RunId(row[0]) for row in rows]


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


def is_to_tell(conn: DriverConnection, run_id: RunId, worker: int, *, wall: int) -> bool:
    """Return whether this worker is the one that says how a run stands; where none is, it is from now on."""
    row = conn.execute("SELECT runner_id, state FROM run WHERE id = ?", (run_id,)).fetchone()
    if row is None or row[0] is not None or row[1] != "ready":
        return row is not None and bool(row[0] == worker)
    waits.arrive(conn, run_id, wall=wall)
    conn.execute(
        "UPDATE run SET runner_id = ?, stop_reason = NULL, stop_until = NULL, stop_detail = NULL,"
        " stop_fix = NULL WHERE id = ?",
        (worker, run_id),
    )
    return True


def _json(values: Collection[int]) -> str:
    return msgspec.json.encode(list(values)).decode()
