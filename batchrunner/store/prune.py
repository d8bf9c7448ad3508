"""Deleting runs, or the requests and answers of runs; only of those that are over.

Whoever prunes holds the sender lock, so that nothing is sent meanwhile. What goes is overwritten
with zeros in the file before the file is rewritten without the gaps (:mod:`.shrink`); what the runs
used stays (``usage_day``, ``usage_slot``).

A run that is deleted is out of sight with the first transaction, and its jobs go in short ones. A
job loses its request and its answer in one transaction, and says so from then on (``codec`` is
:data:`~.codecs.GONE`). What is to go is noted before, so that the next ``db prune`` finishes what a
death broke off.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from batchrunner.errors import BusyError, UsageError
from batchrunner.failpoints import hit
from batchrunner.models import RunId, StoredRunState
from batchrunner.store.asked import forget_asked
from batchrunner.store.begun import begun_key
from batchrunner.store.choose import run_range
from batchrunner.store.codecs import GONE
from batchrunner.store.database import Database, WriteSession
from batchrunner.store.driver import DriverConnection
from batchrunner.store.load import delete_jobs
from batchrunner.store.runs import StoredRun, all_runs, driver, find_run
from batchrunner.store.spending import prices_key
from batchrunner.store.sqlite.shrink import log_size
from batchrunner.views import PrunedRun, PrunePlan, PruneView

__all__ = ["plan", "prune"]

#: States of which nothing is sent any more.
_OVER: Final = (StoredRunState.FINISHED, StoredRunState.CANCELLED)
#: Jobs that lose their bodies in one transaction.
_CHUNK: Final = 1_000
#: The log is copied into the database when it has grown to this (bytes).
_LOG: Final = 64 * 1024 * 1024
#: The key in ``meta`` of what a prune that has begun takes away.
_NOTE: Final = "prune"


class _Taken(NamedTuple):
    """A run that is pruned; its name and its id are free by then."""

    id: RunId
    uid: str
    name: str


class _Note(msgspec.Struct, frozen=True):
    """What a prune that has begun takes away, as it is stored."""

    bodies: bool
    runs: list[_Taken]


def plan(
    db: Database, names: Sequence[str], *, before_ms: int | None, is_bodies: bool
) -> PrunePlan:
    """Return what would go of the runs named, or of all; ``before_ms``: that ended by then.

    Raises :class:`UsageError` for a name that no run has, and for a run that is not over.
    """
    note = _note(db)
    found = _found(db, names, note) if names else _over(db)
    old = [run for run in found if before_ms is None or _ended_at(run) <= before_ms]
    with db.read() as connection:
        sized = [_sized(driver(connection), run, is_bodies=is_bodies) for run in old]
    return PrunePlan(
        runs=[run for run in sized if run.jobs or not is_bodies],
        younger=[run.name for run in found if run not in old],
        is_bodies=is_bodies,
        is_unfinished=note is not None,
    )


def _found(db: Database, names: Sequence[str], note: _Note | None) -> list[StoredRun]:
    gone = {word for run in note.runs for word in (run.uid, run.name)} if note else set()
    runs: dict[RunId, StoredRun] = {}
    for name in names:
        try:
            run = find_run(db, name)
        except UsageError:
            # What was broken off is finished in any case; its name may be another run's by now.
            if name not in gone:
                raise
        else:
            runs[run.id] = run
    for run in runs.values():
        if run.state not in _OVER:
            raise UsageError(
                f"Run {run.name} is not over; only finished or cancelled runs are pruned.",
                fix=f"Finish it, or give it up: batchrunner cancel {shlex.quote(run.name)}",
            )
    return list(runs.values())


def _over(db: Database) -> list[StoredRun]:
    with db.read() as connection:
        return [run for run in all_runs(connection) if run.state in _OVER]


def _ended_at(run: StoredRun) -> int:
    return run.created_at if run.finished_at is None else run.finished_at


def _sized(conn: DriverConnection, run: StoredRun, *, is_bodies: bool) -> PrunedRun:
    """Count what is there to go; ``length`` reads no body that lies on pages of its own."""
    low, high = run_range(run.id)
    n_jobs, requests = conn.execute(
        "SELECT count(*), coalesce(sum(length(body) + coalesce(length(headers), 0)), 0)"
        " FROM payload WHERE job_id > ? AND job_id < ? AND (? = 1 OR codec IS NOT ?)",
        (low, high, not is_bodies, GONE),
    ).fetchone()
    (answers,) = conn.execute(
        "SELECT coalesce(sum(length(body)), 0) FROM response WHERE job_id > ? AND job_id < ?",
        (low, high),
    ).fetchone()
    return PrunedRun(id=run.uid, name=run.name, jobs=n_jobs, n_bytes=requests + answers)


def prune(db: Database, wanted: PrunePlan, *, rescue: Callable[[RunId], None]) -> PruneView:
    """Take away what was planned, finish what an earlier prune left, and shrink the file.

    ``rescue`` puts back what a crash left in flight of a run. Raises :class:`BusyError` while a
    process sends, and :class:`DiskFullError`, with nothing changed, where there is no room.
    """
    if not wanted.runs and not wanted.is_unfinished:
        size = db.n_bytes()
        return PruneView(
            runs=(), is_bodies=wanted.is_bodies, size_before=size, size_after=size,
            is_shrunk=True, copies=(),
        )  # fmt: skip
    runs = [find_run(db, run.id) for run in wanted.runs]
    for run in runs:
        if run.counts.running:
            rescue(run.id)
    sender = db.sender_lock()
    with db.translating():
        if not sender.try_acquire():
            raise BusyError(
                f"A process sends from {db.name}; nothing is pruned meanwhile.",
                fix="Stop it, or wait until it is done; `batchrunner runs` shows what it runs.",
            )
    try:
        return _prune(db, wanted, runs)
    finally:
        sender.release(unlink=True)


def _prune(db: Database, wanted: PrunePlan, runs: Sequence[StoredRun]) -> PruneView:
    """Do so under the sender lock."""
    before = db.n_bytes()
    with db.session() as session:
        session.refuse_full(sum(run.n_bytes for run in wanted.runs))
        session.overwrite()
        left = _note(db)
        if left is not None:
            _take_away(session, db.log, _still_to_go(session, left), is_bodies=left.bodies)
        taken = _begin(session, runs, is_bodies=wanted.is_bodies)
        _take_away(session, db.log, taken, is_bodies=wanted.is_bodies)
        hit("prune.taken")
        is_shrunk = session.shrink()
        hit("prune.shrunk")
        if is_shrunk:
            with session.transaction() as connection:
                driver(connection).execute("DELETE FROM meta WHERE key = ?", (_NOTE,))
    # The last close copies the log; the size is the file's from then on.
    uids = {run.uid for run in taken}
    all_uids = uids | ({run.uid for run in left.runs} if left is not None else set())
    return PruneView(
        runs=[run for run in wanted.runs if run.id in uids],
        is_bodies=wanted.is_bodies,
        size_before=before,
        size_after=db.n_bytes(),
        is_shrunk=is_shrunk,
        copies=[str(path) for path in db.copies(all_uids)],
    )


def _note(db: Database) -> _Note | None:
    with db.read() as connection:
        row = connection.exec_driver_sql("SELECT value FROM meta WHERE key = ?", (_NOTE,)).first()
    return None if row is None else msgspec.json.decode(row[0], type=_Note)


def _begin(session: WriteSession, runs: Sequence[StoredRun], *, is_bodies: bool) -> list[_Taken]:
    """Note what goes, and put runs that are deleted out of sight; return those that still may go."""
    taken: list[_Taken] = []
    with session.transaction() as connection:
        conn = driver(connection)
        for run in runs:
            if not _is_over(conn, run.id, run.uid):
                continue
            taken.append(_Taken(run.id, run.uid, run.name))
            conn.execute("DELETE FROM meta WHERE key = ?", (f"bare.{run.id}",))
            forget_asked(conn, run.id)
            if is_bodies:
                conn.execute("INSERT INTO meta (key, value) VALUES (?, '1')", (f"bare.{run.id}",))
                continue
            conn.execute(
                "DELETE FROM meta WHERE key IN (?, ?, ?)",
                (f"advised.{run.id}", begun_key(run.id), prices_key(run.id)),
            )
            conn.execute(
                "UPDATE run SET state = 'loading', name = uid, digest = NULL, loader_id = NULL"
                " WHERE id = ?",
                (run.id,),
            )
        note = msgspec.json.encode(_Note(is_bodies, taken)).decode()
        conn.execute(
            "INSERT INTO meta (key, value) VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (_NOTE, note),
        )
    hit("prune.begun")
    return taken


def _is_over(conn: DriverConnection, run_id: RunId, uid: str) -> bool:
    row = conn.execute("SELECT state FROM run WHERE id = ? AND uid = ?", (run_id, uid)).fetchone()
    return row is not None and row[0] in _OVER


def _still_to_go(session: WriteSession, left: _Note) -> list[_Taken]:
    """Return what a prune that was broken off has left; a run put to work meanwhile stays."""
    with session.transaction() as connection:
        conn = driver(connection)
        if left.bodies:
            return [run for run in left.runs if _is_over(conn, run.id, run.uid)]
        return [
            run
            for run in left.runs
            if conn.execute(
                "SELECT 1 FROM run WHERE id = ? AND uid = ? AND state = 'loading'", run[:2]
            ).fetchone()
        ]


def _take_away(
    session: WriteSession, log: Path | None, runs: Sequence[_Taken], *, is_bodies: bool
) -> None:
    def after_each() -> None:
        hit("prune.chunk")
        if log is not None and log_size(log) >= _LOG:
            session.checkpoint()

    for run in runs:
        if is_bodies:
            _strip(session, run.id, after_each)
        else:
            delete_jobs(session, run.id, after_each)


def _strip(session: WriteSession, run_id: RunId, after_each: Callable[[], None]) -> None:
    """Take requests and answers from the jobs of a run that are not put to work meanwhile."""
    after, high = run_range(run_id)
    edge: int | None = after
    while edge is not None:
        with session.transaction() as connection:
            edge = _strip_some(driver(connection), after, high)
        after_each()
        after = edge if edge is not None else after
    with session.transaction() as connection:
        # A dictionary is made of bodies.
        driver(connection).execute(
            "DELETE FROM dictionary WHERE run_id = ?1 AND id NOT IN"
            " (SELECT codec FROM payload WHERE job_id > ?2 AND job_id < ?3 AND codec IS NOT NULL"
            "  UNION SELECT codec FROM response WHERE job_id > ?2 AND job_id < ?3"
            "  AND codec IS NOT NULL)",
            (run_id, *run_range(run_id)),
        )


def _strip_some(conn: DriverConnection, after: int, high: int) -> int | None:
    """Take a chunk's; return its last job, ``None`` where there is none left."""
    (last,) = conn.execute(
        "SELECT max(id) FROM (SELECT id FROM job WHERE id > ? AND id < ? ORDER BY id LIMIT ?) chunk",
        (after, high, _CHUNK),
    ).fetchone()
    if last is None:
        return None
    over = (
        "WHERE codec IS NOT ?1 AND job_id IN (SELECT id FROM job"
        " WHERE id > ?2 AND id <= ?3 AND state IN ('completed', 'failed', 'cancelled'))"
    )
    conn.execute(
        f"UPDATE payload SET body = x'', headers = NULL, url = NULL, codec = ?1 {over}",  # noqa: S608 (constants)
        (GONE, after, last),
    )
    conn.execute(f"UPDATE response SET body = NULL, codec = ?1 {over}", (GONE, after, last))  # noqa: S608 (constants)
    return int(last)
