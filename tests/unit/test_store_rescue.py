"""What a dead holder left in flight is booked where it can have been sent at the latest."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from batchrunner.providers import pool_of
from batchrunner.store import scopes
from batchrunner.store.holder import set_account
from batchrunner.store.rescue import MAX_LATE_MS, rescue
from batchrunner.store.runs import driver
from tests.unit.stored import database, lines, load

#: Steady time, ten seconds before the end of a minute of both grains.
PLANNED = 1_790_000_000_000 // 60_000 * 60_000 + 50_000
HOUR = 3_600_000


def booked(conn: sqlite3.Connection, grain: int) -> list[tuple[int, int]]:
    """Return the slots that hold usage, with how many scopes have it there."""
    rows = conn.execute(
        "SELECT slot, sum(n) FROM usage_slot WHERE grain = ? AND n > 0 GROUP BY slot", (grain,)
    )
    return rows.fetchall()


@pytest.mark.parametrize("ahead", [0, HOUR, -HOUR], ids=["together", "ahead", "behind"])
def test_orphan_is_moved_in_its_minute_and_in_its_day(tmp_path: Path, ahead: int) -> None:
    """Wherever the calendar is beside the steady clock, also the day's count moves with the orphan."""
    db = database(tmp_path)
    run_id = load(db, lines(1))
    with db.write() as connection:
        conn = driver(connection)
        account = scopes.scope_id(
            conn, kind="account", provider="anthropic", key="k", parent_id=None
        )
        pool = scopes.scope_id(
            conn, kind="pool", provider="anthropic", key="m-1", parent_id=account
        )
        set_account(conn, run_id, account)
        conn.execute("UPDATE job SET state = 'running', claims = 1, claimed_at = ?", (PLANNED,))
        conn.execute("UPDATE run SET n_pending = 0, n_running = 1")
        for scope in (account, pool):
            for grain, at in ((250, PLANNED), (60_000, PLANNED + ahead)):
                conn.execute(
                    "INSERT INTO usage_slot (scope_id, unit, grain, slot, n)"
                    " VALUES (?, 'requests', ?, ?, 1)",
                    (scope, grain, at // grain),
                )
        now = PLANNED + 45_000
        assert rescue(conn, now=now, wall=now + ahead, pool_of=pool_of).n_jobs == 1
        latest = PLANNED + MAX_LATE_MS
        assert booked(conn, 250) == [(latest // 250, 2)]
        assert booked(conn, 60_000) == [((latest + ahead) // 60_000, 2)]
        days = conn.execute("SELECT day, requests FROM usage_day").fetchall()
        assert days == [((PLANNED + ahead) // 86_400_000, 1)]
