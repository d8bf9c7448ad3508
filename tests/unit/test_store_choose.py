"""The choice of jobs as SQL."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import sqlalchemy as sa

from batchrunner.models import SEQ_BITS
from batchrunner.options import JobFilter
from batchrunner.store.choose import JOB, chosen
from tests.unit.stored import database, lines, load


def test_the_last_page_costs_no_more_than_the_first(tmp_path: Path) -> None:
    """Reading goes on where the page before ended, and never walks over what was read."""
    db = database(tmp_path)
    run_id = load(db, lines(3_000))
    connection = sqlite3.connect(db.path)
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection.set_progress_handler(count, 10)

    def cost(after: int) -> int:
        nonlocal steps
        statement = (
            sa.select(JOB.c.id)
            .where(*chosen(run_id, JobFilter(), after=after))
            .order_by(JOB.c.id)
            .limit(100)
        )
        steps = 0
        found = connection.execute(
            str(statement.compile(compile_kwargs={"literal_binds": True}))
        ).fetchall()
        assert len(found) == 100
        assert found[0][0] == max(after, run_id << SEQ_BITS) + 1
        return steps

    try:
        first = cost(0)
        last = cost((run_id << SEQ_BITS) + 2_900)
    finally:
        connection.close()
    assert first > 0
    assert last <= 2 * first
