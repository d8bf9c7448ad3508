"""Databases with jobs in them, for the tests of the store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from batchrunner.models import JobLine, RunId, Shape
from batchrunner.places import Place
from batchrunner.store.database import Database
from batchrunner.store.load import Loader
from batchrunner.store.opening import open_database
from batchrunner.store.runs import StoredRun, driver, run_by_id

NOW = 1_790_000_000_000


def line(
    key: str, text: str = "hi", *, model: str | None = "m-1", n: int = 1, metadata: object = None
) -> JobLine:
    """Return a job as a reader would."""
    return JobLine(
        key=key,
        model=model,
        body=json.dumps({"model": model, "prompt": text}).encode(),
        metadata=None if metadata is None else json.dumps(metadata).encode(),
        shape=Shape.BODY,
        file="jobs.jsonl",
        line=n,
    )


def lines(n: int, prefix: str = "k") -> list[JobLine]:
    """Return n different jobs."""
    return [line(f"{prefix}{i}", f"text {i}", n=i) for i in range(1, n + 1)]


def _file(tmp_path: Path) -> Place:
    return tmp_path / "jobs.db"


#: Where the database of a test is; the suite of PostgreSQL has another answer.
place: Callable[[Path], Place] = _file


def database(tmp_path: Path) -> Database:
    """Return a fresh database."""
    return open_database(place(tmp_path), create=True)


def loader(db: Database, name: str = "run", uid: str | None = None) -> Loader:
    """Return a loader of a run."""
    return Loader(
        db,
        name=name,
        uid=uid or f"uid-{name}",
        provider="anthropic",
        options_json="{}",
        priority=0,
        now_ms=NOW,
        loader_process_id=1,
    )


def load(db: Database, jobs: Sequence[JobLine], name: str = "run", digest: bytes = b"d") -> RunId:
    """Store a run and return its id."""
    with loader(db, name) as begun:
        assert begun.add(jobs) == []
        return begun.finish(digest)


def run(db: Database, run_id: RunId) -> StoredRun:
    """Return a run that exists."""
    with db.read() as connection:
        found = run_by_id(connection, run_id)
    assert found is not None
    return found


def put(db: Database, run_id: RunId, states: Iterable[tuple[int, str]]) -> None:
    """Give jobs (by place) a state, with an answer where the state has one; counters follow."""
    with db.write() as connection:
        conn = driver(connection)
        for seq, state in states:
            job = run_id << 32 | seq
            over = state in ("completed", "failed", "cancelled")
            conn.execute(
                "UPDATE job SET state = ?, attempts = ?, claims = claims + 1, claimed_at = 1,"
                " finished_at = ?, error_kind = ? WHERE id = ?",
                (state, int(over), NOW if over else None,
                 "server_error" if state == "failed" else None, job),
            )  # fmt: skip
            if state in ("completed", "failed"):
                conn.execute(
                    "INSERT INTO response (job_id, http_status, error_message, body)"
                    " VALUES (?, ?, ?, ?)",
                    (job, 200 if state == "completed" else 500,
                     None if state == "completed" else "went wrong", b'{"text":"answer"}'),
                )  # fmt: skip
        recount(db, conn, run_id)


def recount(db: Database, conn: object, run_id: RunId) -> None:
    """Set a run's counters to what its jobs say."""
    for state in ("pending", "running", "completed", "failed", "cancelled"):
        conn.execute(  # type: ignore[attr-defined]
            f"UPDATE run SET n_{state} = (SELECT count(*) FROM job WHERE run_id = ?1"
            f" AND state = '{state}') WHERE id = ?1",
            (run_id,),
        )


def states(db: Database, run_id: RunId) -> list[str]:
    """Return the jobs' states in input order."""
    with db.read() as connection:
        rows = driver(connection).execute(
            "SELECT state FROM job WHERE run_id = ? ORDER BY id", (run_id,)
        )
        return [state for (state,) in rows]
