"""Which jobs come next in the order of the provider's cache, by searches that never sort."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrunner.core.caching import FAMILY_SHIFT
from batchrunner.core.warmth import Order
from batchrunner.models import ModelId, RunId, job_id
from batchrunner.store import next_jobs
from batchrunner.store.next_jobs import look
from batchrunner.store.records import Look, NextJobs
from batchrunner.store.runs import driver
from tests.unit.stored import database, lines, load

NOW = 1_790_000_000_000
#: Two starts of one family, and one of another.
A, A2, B = (1 << FAMILY_SHIFT) + 1, (1 << FAMILY_SHIFT) + 2, (2 << FAMILY_SHIFT) + 1
COLD = Order((), (), ())


class Jobs:
    """Twelve jobs of one run, numbered from 1."""

    def __init__(self, folder: Path) -> None:
        db = database(folder)
        self.run_id: RunId = load(db, lines(12))
        self.db = db

    def start(self, start: int, *numbers: int) -> None:
        for number in numbers:
            self._set(number, "start", start)

    def due(self, *numbers: int) -> None:
        for number in numbers:
            self._set(number, "not_before", 5)

    def _set(self, number: int, column: str, value: int) -> None:
        with self.db.write() as connection:
            driver(connection).execute(
                f"UPDATE job SET {column} = ? WHERE id = ?",
                (value, job_id(self.run_id, number)),
            )

    def next(self, order: Order, n: int = 8, *, due_only: bool = False) -> NextJobs:
        asked = Look(self.run_id, ModelId(1), n, due_first=True, due_only=due_only, order=order)
        with self.db.read() as connection:
            return look(driver(connection), asked, NOW)

    def numbers(self, order: Order, n: int = 8, *, due_only: bool = False) -> list[int]:
        return [job & 0xFFFF for job, _ in self.next(order, n, due_only=due_only).jobs]


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path)


def test_of_cold_starts_the_first_job_each_the_rest_between(jobs: Jobs) -> None:
    """One lead, what has no start, then more leads."""
    jobs.start(A, 1, 3, 5, 7, 9)
    jobs.start(B, 2, 4, 6, 8)
    assert jobs.numbers(COLD) == [1, 10, 11, 12, 2]
    assert jobs.next(COLD).starts == [A, 0, 0, 0, B]


def test_warm_starts_come_first_in_their_order(jobs: Jobs) -> None:
    """All of one, then all of the next, then what is cold."""
    jobs.start(A, 1, 3, 5)
    jobs.start(B, 2, 4, 6)
    jobs.start(A2, 7, 8, 9, 10, 11, 12)
    assert jobs.numbers(Order((B, A), (), ())) == [2, 4, 6, 1, 3, 5, 7]
    assert jobs.numbers(Order((B, A), (), ()), 4) == [2, 4, 6, 1]


def test_starts_that_wait_for_their_lead_are_left_out(jobs: Jobs) -> None:
    """And so are whole families of which nothing is in the cache yet; of retries too."""
    jobs.start(A, 1, 3)
    jobs.start(A2, 5, 7, 8, 9, 10, 11, 12)
    jobs.start(B, 2, 4, 6)
    assert jobs.numbers(Order((), (A,), ())) == [5, 2]
    assert jobs.numbers(Order((), (A,), (1,))) == [2]
    assert jobs.numbers(Order((), (A, B), (1, 2))) == []
    jobs.due(3, 4, 7)
    assert jobs.numbers(Order((), (A,), ())) == [4, 5, 7, 2]
    assert jobs.numbers(Order((), (A,), (1,))) == [4, 2]
    assert jobs.numbers(Order((B,), (), ()), due_only=True) == [3, 4, 7]


def test_a_warm_start_that_has_no_fresh_job_is_told(jobs: Jobs) -> None:
    """So that it is not asked for again."""
    jobs.start(A, 1, 2)
    assert list(jobs.next(Order((B, A), (), ())).gone) == [B]


def test_many_families_that_wait_are_stepped_over(jobs: Jobs) -> None:
    """However many starts lie in them, each costs one step."""
    for number in range(1, 12):
        jobs.start((1 << FAMILY_SHIFT) + number, number)
    jobs.start(B, 12)
    assert jobs.numbers(Order((), (A,), (1,)), 1) == [12]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("FRESH", (1, 1, 9)),
        ("_OF_START", (1, 1, A, 9)),
        ("_FIRST_OF_STARTS", (1, 1, "[]", "[]", 9)),
        ("_DUE_THAT_MAY_GO", (1, 1, 9, "[]", FAMILY_SHIFT, "[]", 9)),
    ],
)
def test_no_statement_sorts_or_scans_jobs(jobs: Jobs, name: str, values: tuple[object]) -> None:
    """Each is a search by the claim's indexes, whatever the number of jobs."""
    with jobs.db.read() as connection:
        plan = (
            driver(connection)
            .execute(f"EXPLAIN QUERY PLAN {getattr(next_jobs, name)}", values)
            .fetchall()
        )
    steps = [row[3] for row in plan]
    assert not [step for step in steps if "TEMP B-TREE" in step], steps
    assert not [
        step for step in steps if step == "SCAN j" or step.startswith(("SCAN j ", "SCAN job"))
    ], steps
    assert [step for step in steps if "INDEX job_" in step], steps
