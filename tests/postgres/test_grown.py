"""A queue that has grown: what is asked for again and again looks through nothing that is over."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import cast

from batchrunner.core.admission import DirtySlot
from batchrunner.engine.feed import Feed
from batchrunner.engine.rescue import PRUNE_MS, Rescue
from batchrunner.models import ScopeId
from batchrunner.store import scopes, sharing, worker_runs
from batchrunner.store.claims import CLAIM_AT
from batchrunner.store.cycle import run_cycle
from batchrunner.store.records import Cycle
from batchrunner.store.runs import driver
from batchrunner.store.settles import SETTLE_BY_KEY
from tests.unit.live_scene import HandClock
from tests.unit.stored import database, lines, load

#: Two days of usage of an account and a pool that are sent from all the time, and many runs that are over.
_GROWN = (
    "INSERT INTO scope (id, kind, provider, key) VALUES (1, 'account', 'p', 'a'), (2, 'account', 'p', 'b')",
    """INSERT INTO usage_slot (scope_id, unit, grain, slot, n) SELECT scope, 'requests', 60000, slot, 1
    FROM generate_series(1, 3000) slot, generate_series(1, 2) scope""",
    """INSERT INTO run (id, uid, name, state, provider, n_completed, created_at)
    SELECT n, n, n, 'finished', 'p', 1, 1 FROM generate_series(1, 5000) n""",
    "INSERT INTO worker_run (run_id, worker_id, kept_usd) SELECT id, 0, 1 FROM run",
    "ANALYZE usage_slot, run, worker_run",
)


def test_who_looks_each_second_goes_by_an_index(tmp_path: Path) -> None:
    """New usage, and runs that are ready, are found among what is over without reading that."""
    db = database(tmp_path)
    with db.write() as connection:
        conn = driver(connection)
        for statement in _GROWN:
            conn.execute(statement)
        (newest,) = conn.execute("SELECT max(version) FROM usage_slot").fetchone()
        versions = json.dumps([[1, newest - 5], [2, newest - 5]])
        for statement, values in ((sharing.USED, (versions,)), (sharing.READY, ())):
            plan = "\n".join(row[0] for row in conn.execute(f"EXPLAIN {statement}", values))
            assert not re.search(r"Seq Scan on (usage_slot|run)\b", plan), plan
        # What other runs have lost stays there for as long as they do.
        conn.execute("INSERT INTO worker_run (run_id, worker_id, kept_usd) VALUES (9, 7, 2)")
        kept = conn.execute(worker_runs.KEPT, ("[1]",)).fetchall()
        assert sorted(kept) == [(1, 0, 1.0), (9, 7, 2.0)]


def test_claims_and_settles_go_by_the_key(tmp_path: Path) -> None:
    """Neither through the table nor through what runs, where all is that ran since somebody began to read."""
    db = database(tmp_path)
    load(db, lines(3_000))
    with db.write() as connection:
        conn = driver(connection)
        conn.execute("ANALYZE job")
        for statement, values in (
            (CLAIM_AT, ("[[1, 5], [2, 5]]",)),
            (SETTLE_BY_KEY, ("completed", 0, None, 1, 5, None, 1, "[1, 2]")),
        ):
            plan = "\n".join(row[0] for row in conn.execute(f"EXPLAIN {statement}", values))
            assert "using job_pkey on job" in plan, plan


async def test_a_worker_that_lives_long_drops_usage_that_is_past_keeping(tmp_path: Path) -> None:
    """Else each turn after a loss of the server would read all of it, and the table grow for months."""
    db, clock = database(tmp_path), HandClock()
    with db.write() as connection:
        scope = scopes.scope_id(
            driver(connection), kind="account", provider="p", key="a", parent_id=None
        )

    async with db.queue().writer() as writer:
        rescue = Rescue(writer, clock, cast("Feed", None), db, is_shared=True)

        async def left_after(ms: float) -> int:
            await rescue.again()
            row = DirtySlot(ScopeId(scope), "requests", 250, int(clock.now() // 250), 1)
            cycle = Cycle(wall=int(clock.wall()), now=int(clock.now()), usage=[row])
            await writer.transact(lambda conn: run_cycle(conn, cycle))
            clock.t += ms
            await rescue.again()
            count = "SELECT count(*) FROM usage_slot"
            return int((await writer.query(lambda conn: conn.execute(count).fetchall()))[0][0])

        assert await left_after(PRUNE_MS / 2) == 1
        assert await left_after(PRUNE_MS) == 0
