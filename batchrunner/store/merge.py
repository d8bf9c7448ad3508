"""New content for a run that exists: comparing, ``--update``, and ``--set``.

The new content has been read in as a ``loading`` run beside the old one, so that both are compared
and merged by the database, in any size. A merge goes through the new content in short transactions
and may be repeated: one that was broken off is completed by giving the same command again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import sqlalchemy as sa

from batchrunner.errors import BusyError, UsageError
from batchrunner.failpoints import hit
from batchrunner.models import JobState, RunId, job_id
from batchrunner.options import JobFilter
from batchrunner.store.asked import keep_asked
from batchrunner.store.choose import JOB, chosen, run_range
from batchrunner.store.codecs import Codec, codecs_of, plain_body, register_plain
from batchrunner.store.commands import refuse_unknown_keys
from batchrunner.store.database import Database, WriteSession
from batchrunner.store.driver import Connection, DriverConnection
from batchrunner.store.load import model_id
from batchrunner.store.postgres.compare import compared
from batchrunner.store.rescue import WorstOf, rescue, unpriced
from batchrunner.store.runs import StoredRun, driver, refuse_live, run_by_id
from batchrunner.store.stops import forget_person

__all__ = ["Diff", "apply_sets", "check_sets", "compare", "merge_update", "rescue_orphans"]

#: Jobs merged or rewritten in one transaction.
_CHUNK: Final = 1_000


class Diff(NamedTuple):
    """How new content differs from a run, in jobs."""

    same: int
    changed: int
    new: int
    gone: int
    #: Those of ``changed`` that are completed, and so keep request and answer.
    changed_completed: int


_COMPARE: Final = """
    WITH matched AS (
        SELECT j.state, j.key,
               -- 0, pruned: what it was is not known. An answer stays, the rest takes its line.
               CASE WHEN p.codec IS 0 THEN j.state != 'completed' ELSE
               NOT (p.method IS n.method AND p.url IS n.url AND p.headers IS n.headers
                    AND CASE WHEN p.codec IS NULL AND n.codec IS NULL THEN p.body IS n.body
                             ELSE plain(j.key, p.codec, p.body) = plain(k.key, n.codec, n.body) END
                    AND p.metadata IS n.metadata) END AS differs
        FROM job k JOIN job j ON j.run_id = ?1 AND j.key = k.key
        JOIN payload n ON n.job_id = k.id JOIN payload p ON p.job_id = j.id
        WHERE k.id > ?2 AND k.id < ?3
    )
    SELECT count(*), coalesce(sum(differs), 0),
           coalesce(sum(differs AND state = 'completed'), 0),
           coalesce(sum(differs AND state = 'completed' AND key GLOB 'line-[0-9]*'), 0),
           (SELECT count(*) FROM job WHERE id > ?2 AND id < ?3),
           (SELECT count(*) FROM job WHERE id > ?4 AND id < ?5)
    FROM matched"""


class _Comparison(NamedTuple):
    diff: Diff
    #: Completed jobs with a generated key whose line differs now.
    n_shifted: int


def compare(db: Database, run_id: RunId, loading_run_id: RunId) -> Diff:
    """Return how the content that was read in differs from the run's."""
    return _compare(db, run_id, loading_run_id).diff


def _compare(db: Database, run_id: RunId, loading_run_id: RunId) -> _Comparison:
    with db.read() as connection:
        conn = driver(connection)
        if isinstance(conn, sqlite3.Connection):
            refuse_damage = register_plain(conn)
            row = conn.execute(
                _COMPARE, (run_id, *run_range(loading_run_id), *run_range(run_id))
            ).fetchone()
            refuse_damage()
        else:
            row = compared(conn, run_id, loading_run_id)
    matched, changed, changed_completed, n_shifted, n_new, n_old = row
    return _Comparison(
        Diff(
            same=matched - changed,
            changed=changed,
            new=n_new - matched,
            gone=n_old - matched,
            changed_completed=changed_completed,
        ),
        n_shifted,
    )


def merge_update(
    db: Database,
    run_id: RunId,
    loading_run_id: RunId,
    *,
    digest: bytes,
    pool_of: Callable[[str, str], str],
    worst_of: WorstOf = unpriced,
) -> Diff:
    """Take the content that was read in into a run, and return how it differed.

    Jobs not completed take their new line, attempts from 0; completed ones keep request and answer;
    new ones go to the end; gone ones stay. Raises :class:`BusyError` while a process runs the run,
    :class:`UsageError` where generated keys would give an answer to another line.
    """
    comparison = _compare(db, run_id, loading_run_id)
    if comparison.n_shifted:
        raise UsageError(
            f"{comparison.n_shifted} jobs that are answered have another line now, and their keys"
            " were only made from line numbers.",
            fix="Give each line a key of its own (custom_id or id, or --key FIELD), or use --new.",
        )
    low, high = run_range(loading_run_id)
    with db.session() as session:
        rescue_orphans(session, db, run_id, pool_of, worst_of)
        after: int | None = low
        while after is not None:
            with session.transaction() as connection:
                _refuse_busy(connection, db, run_id)
                after = _merge_some(driver(connection), run_id, loading_run_id, after, high)
            hit("merge.chunk")
        hit("merge.finish")
        with session.transaction() as connection:
            _refuse_busy(connection, db, run_id)
            conn = driver(connection)
            conn.execute("DELETE FROM hold WHERE run_id = ?", (run_id,))
            conn.execute(
                "UPDATE run SET digest = ?, generated_keys = CASE WHEN generated_keys = 1 THEN 1 ELSE"
                " (SELECT generated_keys FROM run WHERE id = ?) END WHERE id = ?",
                (digest, loading_run_id, run_id),
            )
            conn.execute(
                "UPDATE run SET state = 'ready', finished_at = NULL"
                " WHERE id = ? AND state IN ('finished', 'cancelled') AND n_pending > 0",
                (run_id,),
            )
            forget_person(conn, run_id)
    return comparison.diff


def rescue_orphans(
    session: WriteSession,
    db: Database,
    run_id: RunId,
    pool_of: Callable[[str, str], str],
    worst_of: WorstOf,
) -> None:
    """Put back the jobs that a process which died had in flight; only under the sender lock."""
    with db.read() as connection:
        run = run_by_id(connection, run_id)
    if run is None or not run.counts.running:
        return
    sender = db.sender_lock()
    if not sender.try_acquire():
        return
    try:
        with session.transaction() as connection:
            conn = driver(connection)
            clock = db.clock(connection, is_alone=True)
            rescue(
                conn,
                now=int(clock.now()),
                wall=int(clock.wall()),
                pool_of=pool_of,
                worst_of=worst_of,
            )
    finally:
        sender.release(unlink=True)


def _refuse_busy(connection: Connection, db: Database, run_id: RunId) -> None:
    run = run_by_id(connection, run_id)
    if run is None:
        raise UsageError("The run was deleted meanwhile.", fix="Submit the file again.")
    refuse_live(connection, db, run, "updated")
    if run.counts.running:
        raise BusyError(
            f"Run {run.name} has {run.counts.running} jobs in flight.",
            fix="Wait until the process that sends is done, then update it.",
        )


def _merge_some(
    conn: DriverConnection, run_id: RunId, loading_run_id: RunId, after: int, high: int
) -> int | None:
    """Merge the next chunk of the new content; return its last id, ``None`` at the end."""
    rows = conn.execute(
        "SELECT n.id, j.id, j.state FROM job n LEFT JOIN job j ON j.run_id = ? AND j.key = n.key"
        " WHERE n.id > ? AND n.id < ? ORDER BY n.id LIMIT ?",
        (run_id, after, high, _CHUNK),
    ).fetchall()
    if not rows:
        return None
    renewed = [(new, old) for new, old, state in rows if old is not None and state != "completed"]
    appended = [new for new, old, _ in rows if old is None]
    if renewed or appended:
        # The new lines lie here as they were compressed; what with goes along with the first.
        conn.execute("UPDATE dictionary SET run_id = ? WHERE run_id = ?", (run_id, loading_run_id))
    keep_asked(conn, run_id, [old for _, old in renewed])
    conn.executemany(
        "UPDATE payload SET (shape, method, url, headers, body, codec, metadata) ="
        " (SELECT shape, method, url, headers, body, codec, metadata FROM payload WHERE job_id = ?)"
        " WHERE job_id = ?",
        renewed,
    )
    conn.executemany(
        "UPDATE job SET state = 'pending', attempts = 0, not_before = 0, wait_reason = NULL,"
        " finished_at = NULL, error_kind = NULL,"
        " model_id = (SELECT model_id FROM job WHERE id = ?) WHERE id = ?",
        renewed,
    )
    (next_seq,) = conn.execute("SELECT next_seq FROM run WHERE id = ?", (run_id,)).fetchone()
    placed = list(enumerate(appended, job_id(run_id, next_seq)))
    conn.executemany(
        "INSERT INTO job (id, run_id, key, model_id) SELECT ?, ?, key, model_id FROM job WHERE id = ?",
        [(id_, run_id, new) for id_, new in placed],
    )
    conn.executemany(
        "INSERT INTO payload (job_id, shape, method, url, headers, body, codec, metadata)"
        " SELECT ?, shape, method, url, headers, body, codec, metadata FROM payload"
        " WHERE job_id = ?",
        placed,
    )
    was = dict.fromkeys(JobState, 0)
    for _, old, state in rows:
        if old is not None:
            was[JobState(state)] += 1
    conn.execute(
        "UPDATE run SET next_seq = next_seq + ?, n_pending = n_pending + ?,"
        " n_failed = n_failed - ?, n_cancelled = n_cancelled - ? WHERE id = ?",
        (
            len(placed),
            len(placed) + was[JobState.FAILED] + was[JobState.CANCELLED],
            was[JobState.FAILED],
            was[JobState.CANCELLED],
            run_id,
        ),
    )
    return int(rows[-1][0])


def apply_sets(
    db: Database,
    run: StoredRun,
    jobs: JobFilter,
    *,
    replace: Callable[[bytes], bytes],
    model_of: Callable[[bytes], str | None],
) -> int:
    """Rewrite the bodies of the chosen jobs that are still to be sent; return how many changed.

    With a filter, failed and cancelled jobs it chooses are rewritten too, since that is how
    ``retry`` chooses what it puts back. Jobs in flight keep the body they were sent with. A model
    that a rewritten body names is the job's from then on.
    """
    refuse_unknown_keys(db, run, jobs)
    n_changed, after, left = 0, 0, jobs.limit
    with db.session() as session:
        while left is None or left > 0:
            with session.transaction() as connection:
                ids = _still_to_send(connection, run.id, jobs, after, left)
                if not ids:
                    break
                n_changed += _rewrite(driver(connection), run.id, ids, replace, model_of)
            after = ids[-1]
            left = None if left is None else left - len(ids)
    return n_changed


def _still_to_send(
    connection: Connection, run_id: RunId, jobs: JobFilter, after: int, left: int | None
) -> list[int]:
    """Return the next of the chosen jobs that ``--set`` is for."""
    states = [JobState.PENDING.value]
    if not jobs.is_empty:
        states += [JobState.FAILED.value, JobState.CANCELLED.value]
    statement = (
        sa.select(JOB.c.id)
        .where(*chosen(run_id, jobs, after=after), JOB.c.state.in_(states))
        .order_by(JOB.c.id)
        .limit(_CHUNK if left is None else min(_CHUNK, left))
    )
    return list(connection.scalars(statement))


#: A run's jobs that no new line replaces, and the new lines that are going to be sent.
_STAYS: Final = (
    " AND NOT EXISTS (SELECT 1 FROM job o WHERE o.run_id = ?2 AND o.key = j.key)",
    " AND NOT EXISTS (SELECT 1 FROM job o WHERE o.run_id = ?2 AND o.key = j.key AND o.state = 'completed')",
)


def check_sets(
    db: Database,
    run: StoredRun,
    jobs: JobFilter,
    *,
    replace: Callable[[bytes], bytes],
    new: RunId | None = None,
) -> None:
    """Try what :func:`apply_sets` would do, with the content ``new`` taken in before; store nothing.

    Whatever ``replace`` raises of a body tells that it can't be done.
    """
    refuse_unknown_keys(db, run, jobs)
    if new is not None:
        for (run_id, other), stays in zip(((run.id, new), (new, run.id)), _STAYS, strict=True):
            last: int | None = run_range(run_id)[0]
            while last is not None:
                with db.read() as connection:
                    conn = driver(connection)
                    ids = [
                        row[0]
                        for row in conn.execute(
                            "SELECT j.id FROM job j WHERE j.run_id = ?1 AND j.id > ?3"  # noqa: S608 (a constant)
                            f" AND j.state = 'pending'{stays} ORDER BY j.id LIMIT ?4",
                            (run_id, other, last, _CHUNK),
                        )
                    ]
                    _try(conn, run_id, ids, replace)
                last = ids[-1] if ids else None
        return
    after, left = 0, jobs.limit
    while left is None or left > 0:
        with db.read() as connection:
            ids = _still_to_send(connection, run.id, jobs, after, left)
            if not ids:
                return
            _try(driver(connection), run.id, ids, replace)
        after = ids[-1]
        left = None if left is None else left - len(ids)


def _try(
    conn: DriverConnection, run_id: RunId, ids: list[int], replace: Callable[[bytes], bytes]
) -> None:
    codecs = codecs_of(conn, run_id)
    for id_ in ids:
        replace(_plain(conn, codecs, id_)[0])


def _plain(
    conn: DriverConnection, codecs: Mapping[int, bytes], id_: int
) -> tuple[bytes, int | None]:
    """Return a job's request, and what it is compressed with."""
    key, codec, stored = conn.execute(
        "SELECT j.key, p.codec, p.body FROM payload p JOIN job j ON j.id = p.job_id"
        " WHERE p.job_id = ?",
        (id_,),
    ).fetchone()
    return plain_body(codecs, codec, stored, part="request", key=key), codec


def _rewrite(
    conn: DriverConnection,
    run_id: RunId,
    ids: list[int],
    replace: Callable[[bytes], bytes],
    model_of: Callable[[bytes], str | None],
) -> int:
    models: dict[str | None, int] = {}
    codecs = codecs_of(conn, run_id)
    keep_asked(conn, run_id, ids)
    n = 0
    for id_ in ids:
        body, codec = _plain(conn, codecs, id_)
        new = replace(body)
        if new == body:
            continue
        n += 1
        row = (new, None) if codec is None else Codec(codec, codecs[codec]).row(new)
        conn.execute("UPDATE payload SET body = ?, codec = ? WHERE job_id = ?", (*row, id_))
        model = model_of(new)
        if model not in models:
            models[model] = model_id(conn, model)
        conn.execute(
            "UPDATE job SET model_id = ? WHERE id = ? AND model_id != ?",
            (models[model], id_, models[model]),
        )
    return n
