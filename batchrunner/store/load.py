"""Reading jobs in: a run is ``loading``, and so invisible, until its last job is stored.

Each chunk is one short transaction, at most about 50 ms long while another process sends. A chunk
need not reach the disk before the next: only the transaction that makes the run visible does, and
the log's earlier pages with it. Duplicate keys are found by the UNIQUE index, so that an input may
be larger than memory.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

import sqlalchemy as sa

from batchrunner.core.bodies import SAMPLE
from batchrunner.errors import DatabaseError, UsageError
from batchrunner.failpoints import hit
from batchrunner.models import SEQ_BITS, JobLine, LineFault, RunId, job_id
from batchrunner.store.codecs import Codec, made_codec
from batchrunner.store.database import Database, WriteSession
from batchrunner.store.driver import DUPLICATE, DriverConnection
from batchrunner.store.runs import (
    StoredRun,
    driver,
    find_by_digest,
    find_by_name,
    free_name,
)

__all__ = [
    "CHUNK_JOBS",
    "Loader",
    "StoredRun",
    "delete_jobs",
    "delete_run",
    "find_by_digest",
    "find_by_name",
    "free_name",
    "sweep_loading",
]

#: How many lines to hand to :meth:`Loader.add` at a time.
CHUNK_JOBS: Final = 5_000

#: How long a transaction may take while another process sends, and how much of it we aim for.
_GENTLE_MS: Final = 50
_AIM_MS: Final = 25
_FIRST_PIECE: Final = 500
#: Bytes of payload after which the log is copied into the database, if nobody sends.
_CHECKPOINT_BYTES: Final = 64 * 1024 * 1024
_DELETE_JOBS: Final = 2_000

_INSERT_JOB: Final = "INSERT INTO job (id, run_id, key, model_id) VALUES (?, ?, ?, ?)"
_INSERT_PAYLOAD: Final = (
    "INSERT INTO payload (job_id, shape, method, url, headers, body, codec, metadata)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_GENERATED_KEY: Final = re.compile(r"line-\d+")


class Loader:
    """Stores one input as a new run; discarded unless :meth:`finish` was reached.

    Use as a context manager. ``gentle`` tells before each transaction whether another process is
    sending. ``name`` is given to the run at the end, so that a loader that died blocks no name.
    """

    def __init__(
        self,
        db: Database,
        *,
        name: str,
        uid: str,
        provider: str,
        options_json: str,
        priority: int,
        now_ms: int,
        loader_process_id: int,
        gentle: Callable[[], bool] = lambda: False,
        is_compressed: bool = False,
    ) -> None:
        """Begin a run that is being read in; ``is_compressed``: its requests are kept so."""
        self._db = db
        self._name = name
        self._gentle = gentle
        self._is_compressed = is_compressed
        #: Made of the first jobs that are stored.
        self._codec: Codec | None = None
        self._models: dict[str | None, int] = {}
        self._n_jobs = 0
        self._generated = False
        self._piece = _FIRST_PIECE
        self._bytes_in_log = 0
        self._is_open = True
        self._stack = ExitStack()
        self._session = self._stack.enter_context(db.session())
        try:
            with self._session.transaction() as connection:
                self.run_id = _begin_run(
                    driver(connection),
                    (uid, uid, provider, options_json, priority, loader_process_id, now_ms),
                )
            self._session.relax()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        """Return the loader itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Discard the run unless it was finished."""
        try:
            self.discard()
        except DatabaseError:
            # What came first is told; the next process sweeps what is left.
            if error is None:
                raise

    @property
    def n_jobs(self) -> int:
        """How many jobs are stored so far."""
        return self._n_jobs

    @property
    def models(self) -> list[str]:
        """The models that the jobs stored so far ask for; ``""``: some ask none."""
        return [model or "" for model in self._models]

    def add(self, jobs: Sequence[JobLine]) -> list[LineFault]:
        """Store the next jobs, in input order; return those whose key is taken, which are not stored."""
        faults: list[LineFault] = []
        start = 0
        while start < len(jobs):
            gentle = self._gentle()
            piece = jobs[start : start + self._piece] if gentle else jobs[start:]
            began = time.monotonic()
            with self._session.transaction() as connection:
                faults += self._store(driver(connection), piece)
            took_ms = (time.monotonic() - began) * 1000.0
            start += len(piece)
            if gentle:
                self._piece = max(
                    50, min(CHUNK_JOBS, int(len(piece) * _AIM_MS / max(took_ms, 0.1)))
                )
                # The sender gets its turn: as long as this piece kept it waiting.
                time.sleep(min(took_ms, _GENTLE_MS) / 1000.0)
        self._checkpoint_now_and_then(jobs)
        hit("submit.chunk")
        return faults

    def finish(self, digest: bytes, *, n_rejected: int = 0) -> RunId:
        """Make the run visible, on disk when this returns; return its id.

        Raises :class:`UsageError` where another run took the name meanwhile.
        """
        self._session.insist()
        hit("submit.finish")
        try:
            with self._session.transaction() as connection:
                driver(connection).execute(
                    # Whose it is stays: workers leave it alone until that process has said all of it.
                    "UPDATE run SET state = 'ready', name = ?, digest = ?,"
                    " next_seq = ?, n_pending = ?, n_rejected = ?, generated_keys = ?"
                    " WHERE id = ? AND state = 'loading'",
                    (self._name, digest, self._n_jobs + 1, self._n_jobs, n_rejected,
                     self._generated, self.run_id),
                )  # fmt: skip
        except DUPLICATE as error:
            raise UsageError(
                f"Another run took the name {self._name!r} meanwhile.",
                fix="Submit again with another --name.",
            ) from error
        hit("submit.finished")
        self._close()
        return self.run_id

    def discard(self) -> None:
        """Delete everything stored; does nothing after :meth:`finish`."""
        if not self._is_open:
            return
        try:
            delete_jobs(self._session, self.run_id)
        finally:
            self._close()

    def _close(self) -> None:
        self._is_open = False
        self._stack.close()

    def _store(self, conn: DriverConnection, jobs: Sequence[JobLine]) -> list[LineFault]:
        run_id, models = self.run_id, self._models
        for model in {job.model for job in jobs}.difference(models):
            models[model] = model_id(conn, model)
        first = job_id(run_id, self._n_jobs + 1)
        conn.execute("SAVEPOINT piece")
        try:
            conn.executemany(
                _INSERT_JOB,
                [(id_, run_id, job.key, models[job.model]) for id_, job in enumerate(jobs, first)],
            )
        except DUPLICATE:
            conn.execute("ROLLBACK TO piece")
            jobs, faults = self._store_apart(conn, jobs)
        else:
            faults = []
        conn.execute("RELEASE piece")
        if self._is_compressed and self._codec is None and jobs:
            self._codec = made_codec(conn, run_id, "request", [job.body for job in jobs[:SAMPLE]])
        conn.executemany(
            _INSERT_PAYLOAD,
            [
                (id_, job.shape._value_, job.method, job.url, job.headers, *self._body(job),
                 job.metadata)
                for id_, job in enumerate(jobs, first)
            ],
        )  # fmt: skip
        self._n_jobs += len(jobs)
        if not self._generated:
            self._generated = any(
                job.key.startswith("line-") and _GENERATED_KEY.fullmatch(job.key) for job in jobs
            )
        return faults

    def _body(self, job: JobLine) -> tuple[bytes, int | None]:
        return (job.body, None) if self._codec is None else self._codec.row(job.body)

    def _store_apart(
        self, conn: DriverConnection, jobs: Sequence[JobLine]
    ) -> tuple[list[JobLine], list[LineFault]]:
        """Store a piece that holds a duplicate one by one: the jobs stored, and the faults."""
        stored: list[JobLine] = []
        faults: list[LineFault] = []
        places: dict[str, JobLine] = {}
        base = job_id(self.run_id, self._n_jobs + 1)
        for job in jobs:
            row = (base + len(stored), self.run_id, job.key, self._models[job.model])
            if conn.execute(f"{_INSERT_JOB} ON CONFLICT (run_id, key) DO NOTHING", row).rowcount:
                stored.append(job)
                places[job.key] = job
            else:
                faults.append(self._duplicate(conn, job, places.get(job.key)))
        return stored, faults

    def _duplicate(self, conn: DriverConnection, job: JobLine, first: JobLine | None) -> LineFault:
        if first is not None:
            where = f"{first.file}:{first.line}"
        else:
            (other,) = conn.execute(
                "SELECT id FROM job WHERE run_id = ? AND key = ?", (self.run_id, job.key)
            ).fetchone()
            where = f"job {other & ((1 << SEQ_BITS) - 1)} of this input"
        return LineFault(
            file=job.file, line=job.line, reason=f"the key {job.key!r} is already used by {where}"
        )

    def _checkpoint_now_and_then(self, jobs: Sequence[JobLine]) -> None:
        self._bytes_in_log += sum(len(job.body) for job in jobs)
        if self._bytes_in_log < _CHECKPOINT_BYTES:
            return
        if self._session.relieve():
            self._bytes_in_log = 0


def model_id(conn: DriverConnection, model: str | None) -> int:
    """Return the id of a model, made where it did not exist; no model is the name ``''``."""
    name = model or ""
    conn.execute("INSERT INTO model (name) VALUES (?) ON CONFLICT (name) DO NOTHING", (name,))
    (found,) = conn.execute("SELECT id FROM model WHERE name = ?", (name,)).fetchone()
    return int(found)


def _begin_run(conn: DriverConnection, row: tuple[object, ...]) -> RunId:
    # An id is not used again while its usage is kept: it would be counted as another run's.
    (last,) = conn.execute(
        "SELECT coalesce(max(id), 0) FROM (SELECT max(id) AS id FROM run UNION ALL"
        " SELECT max(run_id) FROM usage_day UNION ALL SELECT max(run_id) FROM time_day) used"
    ).fetchone()
    conn.execute(
        "INSERT INTO run"
        " (id, uid, name, state, provider, options, priority, loader_id, created_at)"
        " VALUES (?, ?, ?, 'loading', ?, ?, ?, ?, ?)",
        (last + 1, *row),
    )
    return RunId(last + 1)


def delete_run(db: Database, run_id: RunId) -> None:
    """Delete a run with all its jobs, in short transactions; its id is not used again before that."""
    with db.session() as session:
        # It may be what a prune that was broken off has left.
        session.overwrite()
        delete_jobs(session, run_id)


def delete_jobs(
    session: WriteSession, run_id: RunId, after_each: Callable[[], None] = lambda: None
) -> None:
    """Delete a run that nobody sees with all its jobs, in short transactions."""
    low, high = job_id(run_id, 0), job_id(RunId(run_id + 1), 0)
    while True:
        with session.transaction() as connection:
            conn = driver(connection)
            edge = conn.execute(
                "SELECT id FROM job WHERE id > ? AND id < ? ORDER BY id LIMIT 1 OFFSET ?",
                (low, high, _DELETE_JOBS),
            ).fetchone()
            if edge is None:
                conn.execute("DELETE FROM job WHERE id > ? AND id < ?", (low, high))
                conn.execute("DELETE FROM run WHERE id = ?", (run_id,))
                return
            conn.execute("DELETE FROM job WHERE id > ? AND id < ?", (low, edge[0]))
        after_each()


def rescind_run(db: Database, run_id: RunId, process_id: int) -> None:
    """Take back a run that :meth:`Loader.finish` made visible, of which nothing was sent.

    Should this die halfway, the next process sweeps the rest.
    """
    with db.write() as connection:
        cursor = driver(connection).execute(
            "UPDATE run SET state = 'loading', name = uid, digest = NULL, loader_id = ?"
            " WHERE id = ? AND state = 'ready' AND started_at IS NULL AND n_running = 0",
            (process_id, run_id),
        )
    if cursor.rowcount:
        delete_run(db, run_id)


def sweep_loading(db: Database) -> int:
    """Delete the runs whose loader died before they were whole; return how many."""
    with db.read() as connection:
        rows = connection.execute(
            sa.text(
                "SELECT r.id, p.lock_file FROM run r LEFT JOIN process p ON p.id = r.loader_id"
                " WHERE r.state = 'loading'"
            )
        ).all()
    dead = [
        RunId(run_id)
        for run_id, lock_file in rows
        if lock_file is None or not db.is_alive(lock_file)
    ]
    for run_id in dead:
        delete_run(db, run_id)
    return len(dead)
