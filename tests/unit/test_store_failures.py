"""A run's failures by kind, status and cause, and what a hold keeps back."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrunner.store.database import Database
from batchrunner.store.failures import errors
from batchrunner.store.runs import driver
from batchrunner.views import Cause
from tests.unit.stored import NOW, database, lines, load, put, run


@pytest.fixture
def db(tmp_path: Path) -> Database:
    """A fresh database."""
    return database(tmp_path)


def execute(db: Database, statement: str, values: tuple[object, ...] = ()) -> None:
    """Write one statement."""
    with db.write() as connection:
        driver(connection).execute(statement, values)


def mend(kind: str, message: str) -> str:
    """Return a fix that names what it was asked for."""
    return f"mend {kind}: {message}"


def test_errors_are_grouped_with_an_example_and_the_fix(db: Database) -> None:
    """The most frequent group comes first, with its first and last time."""
    run_id = load(db, lines(5))
    put(db, run_id, [(1, "failed"), (2, "failed"), (3, "failed"), (4, "completed")])
    execute(db, "UPDATE job SET error_kind = 'timeout' WHERE id & 255 = 1")
    execute(db, "DELETE FROM response WHERE job_id & 255 = 1")
    execute(db, "UPDATE job SET finished_at = finished_at + 5000 WHERE id & 255 = 3")
    found = errors(db, run(db, run_id), fix_of=mend)
    assert [(g.kind, g.http_status, g.count, g.example_key, g.example_message, g.fix) for g in found] == [
        ("server_error", 500, 2, "k2", "went wrong", "mend server_error: went wrong"),
        ("timeout", None, 1, "k1", "", "mend timeout: "),
    ]  # fmt: skip
    assert [(g.first_at, g.last_at) for g in found] == [(NOW, NOW + 5000), (NOW, NOW)]


def test_causes_of_one_kind_are_told_apart(db: Database) -> None:
    """Messages that differ in a number are one cause, other words another; ten at most are named."""
    run_id = load(db, lines(20))
    put(db, run_id, [(n, "failed") for n in range(1, 21)])
    execute(
        db,
        "UPDATE response SET error_message = CASE WHEN job_id & 255 < 4"
        " THEN 'too long: ' || job_id || ' tokens'"
        " WHEN job_id & 255 < 9 THEN 'overloaded' ELSE 'word ' || char(88 + (job_id & 255)) END",
    )
    (group,) = errors(db, run(db, run_id), fix_of=mend)
    assert (group.count, group.n_causes, len(group.causes)) == (20, 14, 10)
    assert group.causes[:2] == (
        Cause(count=5, example_key="k4", message="overloaded"),
        Cause(count=3, example_key="k1", message=f"too long: {run_id << 32 | 1} tokens"),
    )
    assert (group.example_key, group.fix) == ("k4", "mend server_error: overloaded")


def test_a_held_model_is_told_with_the_jobs_that_wait(db: Database) -> None:
    """What a hold keeps back comes last, with its own fix; without waiting jobs it is left out."""
    run_id = load(db, lines(3))
    put(db, run_id, [(1, "completed")])
    execute(
        db,
        "INSERT INTO hold (run_id, model_id, kind, message, fix, set_at)"
        " SELECT ?, model_id, 'model_not_found', 'no such model', 'name another', ? FROM job LIMIT 1",
        (run_id, NOW),
    )
    (group,) = errors(db, run(db, run_id), fix_of=mend)
    assert (group.kind, group.held_model, group.count, group.example_key) == (
        "model_not_found", "m-1", 2, "k2",
    )  # fmt: skip
    assert (group.example_message, group.fix, group.first_at) == (
        "no such model",
        "name another",
        NOW,
    )
    put(db, run_id, [(2, "completed"), (3, "completed")])
    assert errors(db, run(db, run_id), fix_of=mend) == []
