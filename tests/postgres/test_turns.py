"""Turns of workers: who waits for whom, and what one that fails leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from batchrunner.core.admission import DirtySlot
from batchrunner.models import ScopeId
from batchrunner.store import scopes
from batchrunner.store.claims import claim
from batchrunner.store.cycle import run_cycle
from batchrunner.store.database import Database, SharedWriter
from batchrunner.store.processes import register_process, set_role
from batchrunner.store.records import Ask, Cycle, LaneClaim
from batchrunner.store.runs import driver
from batchrunner.store.sharing import Seen, look
from tests.fakes.postgres_server import PostgresServer
from tests.unit.stored import NOW, database, lines, load, states

#: Who waits for a lock, of rows or of the whole database.
_WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{}'"


class Workers:
    """Two workers' connections, and two accounts."""

    def __init__(self, db: Database, server: PostgresServer) -> None:
        self.db = db
        self._server = server
        with db.write() as connection:
            self.accounts = [
                scopes.scope_id(
                    driver(connection), kind="account", provider="p", key=key, parent_id=None
                )
                for key in ("a", "b")
            ]
        self.ids: list[int] = []
        self.writers: list[SharedWriter] = []

    async def join(self, stack: AsyncExitStack) -> None:
        """Have one more."""
        process = register_process(self.db, "worker", now_ms=NOW)
        stack.callback(process.lock.release)
        set_role(self.db, process, "worker")
        self.ids.append(process.id)
        self.writers.append(await stack.enter_async_context(self.db.queue().writer()))

    def looking(self, worker: int, *accounts: ScopeId, version: int = -1) -> Callable[[Any], Seen]:
        """Return what a worker's turn begins with."""
        versions = dict.fromkeys(accounts, version)
        return lambda conn: look(conn, self.ids[worker], versions=versions, runs=[])

    async def waits(self, task: asyncio.Task[Any]) -> None:
        """Wait until a task's connection waits for a lock."""
        name = str(self.db.name).partition("?")[0].rpartition("/")[2]
        async with asyncio.timeout(10):
            while not await asyncio.to_thread(self._server.execute, _WAITING.format(name)):
                assert not task.done()


@pytest.fixture
async def workers(tmp_path: Path, server: PostgresServer) -> AsyncIterator[Workers]:
    """Give two workers on one database."""
    async with AsyncExitStack() as stack:
        both = Workers(database(tmp_path), server)
        await both.join(stack)
        await both.join(stack)
        yield both


async def test_accounts_do_not_wait_for_each_other(workers: Workers) -> None:
    """Who has one account's ledger keeps nobody from another's; from the same it keeps them until its end."""
    first, second = workers.writers
    one, other = workers.accounts

    async def turn(*accounts: ScopeId) -> None:
        async with second.turn(workers.looking(1, *accounts)):
            pass

    async with first.turn(workers.looking(0, one)):
        await turn(other)
        waiting = asyncio.create_task(turn(one, other))
        await workers.waits(waiting)
    await waiting


async def test_who_writes_otherwise_is_alone(workers: Workers) -> None:
    """A command's transaction waits for the turns that are begun, and sees what they stored."""
    first, second = workers.writers
    (one, _) = workers.accounts
    row = DirtySlot(one, "requests", 250, NOW // 250, 7)

    def used(conn: Any) -> list[tuple[int]]:
        return conn.execute("SELECT n FROM usage_slot").fetchall()  # type: ignore[no-any-return]

    async with first.turn(workers.looking(0, one)):
        waiting = asyncio.create_task(second.transact(used))
        await workers.waits(waiting)
        cycle = Cycle(wall=NOW, now=NOW, usage=[row])
        await first.transact(lambda conn: run_cycle(conn, cycle))
    assert await waiting == [(7,)]


async def test_each_turn_sees_what_was_booked_since(workers: Workers) -> None:
    """Of a scope comes what others wrote after it was looked at last, however their turns went."""
    first, second = workers.writers
    one, other = workers.accounts

    async def book(writer: SharedWriter, worker: int, n: int, *accounts: ScopeId) -> None:
        async with writer.turn(workers.looking(worker, *accounts)):
            rows = [DirtySlot(scope, "requests", 250, NOW // 250, n) for scope in accounts]
            cycle = Cycle(wall=NOW, now=NOW, usage=rows)
            await writer.transact(lambda conn: run_cycle(conn, cycle))

    await book(second, 1, 1, one)
    await book(second, 1, 2, other)
    async with first.turn(workers.looking(0, one, other)) as seen:
        versions = seen.versions
    assert {row.scope_id: row.n for row in seen.slots} == {one: 1, other: 2}
    # The later number is of the scope that was written first.
    await book(second, 1, 3, one)
    begin = lambda conn: look(conn, workers.ids[0], versions=versions, runs=[])  # noqa: E731
    async with first.turn(begin) as seen:
        pass
    assert [(row.scope_id, row.n) for row in seen.slots] == [(one, 3)]


async def test_a_turn_that_fails_leaves_nothing(workers: Workers) -> None:
    """What it settled is rolled back with it, and others go on."""
    first, second = workers.writers
    one, _ = workers.accounts

    def begin(conn: Any) -> None:
        workers.looking(0, one)(conn)
        conn.execute("INSERT INTO model (name) VALUES ('m')")

    with pytest.raises(RuntimeError, match="in between"):
        async with first.turn(begin):
            raise RuntimeError("in between")
    async with second.turn(workers.looking(1, one)):
        pass
    count = await second.query(lambda conn: conn.execute("SELECT count(*) FROM model").fetchall())
    assert count == [(0,)]


async def test_no_job_is_claimed_twice_by_who_shares_no_account(workers: Workers) -> None:
    """Two with different keys on one run claim beside each other: each steps over what the other has."""
    first, second = workers.writers
    run_id = load(workers.db, lines(10))
    with workers.db.read() as connection:
        model = connection.exec_driver_sql("SELECT DISTINCT model_id FROM job").scalar()
    asked = Ask(run_id, model, 4)

    def claim_four(conn: Any) -> set[int]:
        lane, _ = claim(conn, asked, NOW, [NOW] * 4, is_shared=True)
        assert isinstance(lane, LaneClaim)
        return {job.job_id for job in lane.jobs}

    async with first.turn(claim_four) as mine, second.turn(claim_four) as theirs:
        pass
    assert len(mine) == len(theirs) == 4
    assert not mine & theirs
    assert states(workers.db, run_id) == ["running"] * 8 + ["pending"] * 2


@pytest.mark.parametrize("words", ["turn", "transact", "compute"])
async def test_who_is_cancelled_leaves_the_connection_to_the_next(
    workers: Workers, words: str
) -> None:
    """What a cancelled task began is over before it goes: no lock is left, and nothing broke."""
    first, second = workers.writers
    one, _ = workers.accounts
    looking = workers.looking(1, one)

    async def turn() -> None:
        async with second.turn(looking):
            pass

    async with first.turn(workers.looking(0, one)):
        # It waits for the account, or for all that are in turns.
        ways = {"transact": second.transact, "compute": second.compute}
        waiting = asyncio.create_task(ways[words](looking) if words in ways else turn())
        await workers.waits(waiting)
        waiting.cancel()
        next_one = asyncio.create_task(second.query(lambda conn: conn.execute("SELECT 1")))
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await next_one
    async with asyncio.timeout(10), first.turn(workers.looking(0, one)):
        pass


async def test_who_hangs_in_its_turn_holds_up_others_for_five_seconds(workers: Workers) -> None:
    """A worker that stands still there is ended by the server when others may take it for dead, not later."""
    first, _ = workers.writers
    asked = "SELECT current_setting('idle_in_transaction_session_timeout')"
    async with first.turn(lambda conn: conn.execute(asked).fetchone()) as within:
        assert within == ("5s",)


async def test_who_reads_beside_turns_keeps_no_send_of_its_own_waiting(workers: Workers) -> None:
    """Other tasks go on from one statement to the next: a server may be far away, and runs many."""
    first, _ = workers.writers
    woken: list[int] = []

    def reading(conn: Any) -> list[int]:
        conn.execute("SELECT pg_sleep(0.1)")
        return list(woken)

    async def send() -> None:
        while True:
            await asyncio.sleep(0.005)
            woken.append(1)

    sending = asyncio.create_task(send())
    assert await first.compute(reading, beside=True)
    sending.cancel()
