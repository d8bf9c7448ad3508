"""``--update`` and ``--set``: new content for a run that exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrunner.errors import BusyError, UsageError
from batchrunner.models import JobLine, StoredRunState
from batchrunner.options import JobFilter
from batchrunner.store.commands import cancel, register_process, unregister
from batchrunner.store.database import Database
from batchrunner.store.maintenance import check
from batchrunner.store.merge import Diff, apply_sets, compare, merge_update
from batchrunner.store.runs import driver
from tests.unit.stored import NOW, database, line, load, loader, put, run, states


@pytest.fixture
def db(tmp_path: Path) -> Database:
    """A fresh database."""
    return database(tmp_path)


def bodies(db: Database, run_id: int) -> dict[str, bytes]:
    """Return key → request, in order."""
    with db.read() as connection:
        return dict(
            driver(connection).execute(
                "SELECT key, body FROM job JOIN payload ON job_id = id WHERE run_id = ? ORDER BY id",
                (run_id,),
            )
        )


def update(db: Database, run_id: int, jobs: list[JobLine]) -> Diff:
    """Read new content in and take it into the run."""
    with loader(db, "new", "new") as begun:
        assert begun.add(jobs) == []
        seen = compare(db, run_id, begun.run_id)  # type: ignore[arg-type]
        merged = merge_update(
            db, run_id, begun.run_id, digest=b"new", pool_of=lambda _p, model: model
        )  # type: ignore[arg-type]
    assert seen == merged
    return merged


OLD = [line("done"), line("done-too"), line("failed"), line("waiting"), line("gone"), line("off")]
NEW = [
    line("extra-1", "e1"),
    line("off", "changed"),
    line("waiting", "changed", model="m-2"),
    line("failed"),
    line("done", "changed"),
    line("done-too"),
    line("extra-2", "e2"),
]


def test_update_follows_the_contract_for_every_kind_of_job(db: Database) -> None:
    """Completed keep request and answer, others take their line, new go last, gone stay."""
    run_id = load(db, OLD)
    put(db, run_id, [(1, "completed"), (2, "completed"), (3, "failed"), (6, "cancelled")])
    assert update(db, run_id, NEW) == Diff(same=2, changed=3, new=2, gone=1, changed_completed=1)
    now = bodies(db, run_id)
    assert list(now) == [job.key for job in OLD] + ["extra-1", "extra-2"]
    assert now["done"] == OLD[0].body
    assert now["waiting"] == NEW[2].body
    assert now["off"] == NEW[1].body
    assert now["gone"] == OLD[4].body
    assert now["extra-2"] == NEW[6].body
    assert states(db, run_id) == ["completed", "completed"] + ["pending"] * 6
    stored = run(db, run_id)
    assert (stored.counts.pending, stored.counts.completed, stored.counts.total) == (6, 2, 8)
    assert stored.digest == b"new"
    with db.read() as connection:
        assert driver(connection).execute(
            "SELECT m.name FROM job j JOIN model m ON m.id = j.model_id WHERE key = 'waiting'"
        ).fetchone() == ("m-2",)
        assert driver(connection).execute("SELECT sum(attempts) FROM job").fetchone() == (2,)
    assert check(db) == []


def test_update_may_be_repeated(db: Database) -> None:
    """An update that was broken off is completed by the same command."""
    run_id = load(db, OLD)
    update(db, run_id, NEW)
    assert update(db, run_id, NEW) == Diff(same=7, changed=0, new=0, gone=1, changed_completed=0)
    assert run(db, run_id).counts.total == 8
    assert check(db) == []


def test_update_makes_a_finished_run_ready_again(db: Database) -> None:
    """A finished run has work again where there are new jobs, and only then."""
    run_id = load(db, [line("a")])
    put(db, run_id, [(1, "completed")])
    with db.write() as connection:
        driver(connection).execute("UPDATE run SET state = 'finished', finished_at = 1")
    update(db, run_id, [line("a")])
    assert run(db, run_id).state is StoredRunState.FINISHED
    update(db, run_id, [line("a"), line("b")])
    assert (run(db, run_id).state, run(db, run_id).finished_at) == (StoredRunState.READY, None)


def test_update_spans_many_transactions(db: Database) -> None:
    """Content larger than one transaction is merged whole and in order."""
    old = [line(f"k{i}", "old") for i in range(1_500)]
    new = [line(f"k{i}", "new") for i in range(700, 3_200)]
    run_id = load(db, old)
    assert update(db, run_id, new) == Diff(0, 800, 1_700, 700, 0)
    assert list(bodies(db, run_id)) == [f"k{i}" for i in range(3_200)]
    assert check(db) == []


def test_update_refuses_generated_keys_that_moved(db: Database) -> None:
    """An answer is never given to another line; the error asks for --key, and nothing changed."""
    run_id = load(db, [line("line-1", "one"), line("line-2", "two")])
    put(db, run_id, [(1, "completed")])
    before = bodies(db, run_id)
    with pytest.raises(UsageError) as caught:
        update(db, run_id, [line("line-1", "zero"), line("line-2", "one")])
    assert "--key" in caught.value.fix
    assert bodies(db, run_id) == before
    update(db, run_id, [line("line-1", "one"), line("line-2", "other")])
    assert check(db) == []


def test_update_is_refused_while_a_process_runs_the_run(db: Database) -> None:
    """Requests don't change under the process that sends them."""
    run_id = load(db, OLD)
    process = register_process(db, "holder", now_ms=NOW)
    with db.write() as connection:
        driver(connection).execute("UPDATE run SET runner_id = ?", (process.id,))
    with pytest.raises(BusyError, match="can't be updated"):
        update(db, run_id, NEW)
    unregister(db, process)
    update(db, run_id, NEW)


def test_update_rescues_what_a_dead_process_had_in_flight(db: Database) -> None:
    """Jobs that were in flight when a process died take their new line too."""
    run_id = load(db, OLD)
    put(db, run_id, [(4, "running")])
    update(db, run_id, NEW)
    assert states(db, run_id) == ["pending"] * 8
    assert bodies(db, run_id)["waiting"] == NEW[2].body
    assert check(db) == []


def test_sets_rewrite_only_what_is_still_to_be_sent(db: Database) -> None:
    """Without a filter, answered, failed and cancelled jobs keep their requests."""
    run_id = load(db, OLD)
    put(db, run_id, [(1, "completed"), (3, "failed")])
    changed = apply_sets(
        db, run(db, run_id), JobFilter(), replace=lambda b: b + b" ", model_of=lambda _: "m-9"
    )
    assert changed == 4
    assert [body.endswith(b" ") for body in bodies(db, run_id).values()] == [
        False, True, False, True, True, True,
    ]  # fmt: skip
    with db.read() as connection:
        models = driver(connection).execute(
            "SELECT m.name FROM job j JOIN model m ON m.id = j.model_id ORDER BY j.id"
        ).fetchall()  # fmt: skip
    assert [name for (name,) in models] == ["m-1", "m-9", "m-1", "m-9", "m-9", "m-9"]


@pytest.mark.parametrize(
    ("jobs", "keys"),
    [
        (JobFilter(errors=("server_error",)), {"failed"}),
        (JobFilter(keys=("off", "done", "gone")), {"off", "gone"}),
        (JobFilter(statuses=("cancelled",)), {"off"}),
        (JobFilter(limit=2), {"done-too", "failed"}),
    ],
    ids=["error", "key", "status", "limit"],
)
def test_sets_follow_the_filter_of_a_retry(db: Database, jobs: JobFilter, keys: set[str]) -> None:
    """A retry's filter chooses failed and cancelled jobs too, never a completed one."""
    run_id = load(db, OLD)
    put(db, run_id, [(1, "completed"), (3, "failed"), (6, "cancelled")])
    apply_sets(db, run(db, run_id), jobs, replace=lambda b: b + b" ", model_of=lambda _: "m-1")
    assert {key for key, body in bodies(db, run_id).items() if body.endswith(b" ")} == keys


def test_sets_refuse_a_key_the_run_does_not_have(db: Database) -> None:
    """A misspelt key is said, not skipped."""
    stored = run(db, load(db, OLD))
    with pytest.raises(UsageError, match="no job 'nope'"):
        apply_sets(
            db, stored, JobFilter(keys=("nope",)), replace=lambda b: b, model_of=lambda _: None
        )


def test_update_of_a_cancelled_run_puts_its_jobs_back(db: Database) -> None:
    """A run that was given up takes new content and is ready."""
    run_id = load(db, OLD)
    cancel(db, run(db, run_id), now_ms=NOW)
    update(db, run_id, NEW)
    assert run(db, run_id).state is StoredRunState.READY
    assert run(db, run_id).counts.cancelled == 1
    assert check(db) == []
