"""What became of a commit that nobody answered is looked up: nothing is done twice, and nothing lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from batchrunner.clock import wall_ms
from batchrunner.errors import AwayError, LostTurnError, ReplacedError
from batchrunner.places import Server, place_of
from batchrunner.store import processes
from batchrunner.store.database import SharedWriter
from batchrunner.store.driver import DriverConnection
from batchrunner.store.postgres import writer as pg_writer
from batchrunner.store.postgres.database import PgDatabase
from batchrunner.store.processes import Process
from tests.fakes.postgres_cut import CuttingProxy, When, cutting_proxy
from tests.fakes.postgres_server import PostgresServer
from tests.postgres.conftest import schema_of

#: Nothing here takes so many tries.
TRIES = 100


class Patient:
    """Tries again and again, a hundred times."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._n_left = TRIES
        self.n_over = 0

    async def wait(self, error: AwayError) -> None:
        """Try again soon."""
        self._n_left -= 1
        if not self._n_left:
            raise error
        await asyncio.sleep(0.02)

    def returned(self, conn: DriverConnection) -> None:
        """Be known again."""
        processes.restore(conn, self._process, self._process.role)

    def over(self) -> None:
        """Count how often it was back."""
        self.n_over += 1


@pytest.fixture
def proxy(server: PostgresServer) -> Iterator[CuttingProxy]:
    """What loses a commit."""
    with cutting_proxy(server.port) as made:
        yield made


@pytest.fixture
def place(tmp_path: Path, server: PostgresServer, proxy: CuttingProxy) -> Server:
    """An address by way of the proxy."""
    url = server.url(schema_of(tmp_path)).replace(f":{server.port}/", f":{proxy.port}/")
    found = place_of(url)
    assert isinstance(found, Server)
    return found


@asynccontextmanager
async def writing(place: Server, role: processes.Role) -> AsyncIterator[SharedWriter]:
    """Write as a worker or as who sends alone, with patience."""
    db = PgDatabase.open_at(place, create=True)
    process = processes.register_process(db, role, now_ms=wall_ms())
    lock = db.worker_lock(process.id) if role == "worker" else db.sender_lock()
    assert lock.try_acquire()
    try:
        async with db.writer(Patient(process)) as writer:
            yield writer
    finally:
        lock.release()
        db.close()


def names(conn: DriverConnection) -> list[str]:
    """Return what was inserted."""
    return [row[0] for row in conn.execute("SELECT name FROM model ORDER BY id")]


@pytest.mark.parametrize("role", ["worker", "holder"])
@pytest.mark.parametrize(("when", "n_calls"), [("before", 2), ("after", 1)])
async def test_a_commit_that_nobody_answered_is_looked_up(
    place: Server, proxy: CuttingProxy, role: processes.Role, when: When, n_calls: int
) -> None:
    """It is done again only where the server never did it; what it returned is returned either way."""
    calls: list[int] = []

    def insert(conn: DriverConnection) -> str:
        calls.append(len(calls))
        conn.execute("INSERT INTO model (name) VALUES (?)", (f"call {len(calls)}",))
        return f"returned by {len(calls)}"

    async with writing(place, role) as writer:
        await writer.transact(lambda conn: conn.execute("DELETE FROM hold"))
        proxy.break_next_commit(when)
        assert await writer.transact(insert) == f"returned by {n_calls}"
        assert await writer.query(names) == [f"call {n_calls}"]
        assert writer.n_losses == 1
        # It goes on as before.
        await writer.transact(insert)
        assert len(await writer.query(names)) == 2


def slowly(conn: DriverConnection) -> str:
    """Insert a row, and take a while for it."""
    conn.execute("INSERT INTO model (name) VALUES ('slow')")
    conn.execute("SELECT pg_sleep(0.2)")
    return "slow"


async def cancelled(call: Coroutine[Any, Any, Any], server: PostgresServer) -> None:
    """Cancel a call twice while its statement is under way."""
    task = asyncio.create_task(call)
    is_asleep = "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    while not await asyncio.to_thread(server.execute, is_asleep):
        assert not task.done()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_lost_commit_of_who_was_cancelled_is_no_other_ones(
    place: Server, proxy: CuttingProxy, server: PostgresServer
) -> None:
    """What is stored of one caller is never taken for what the next one wanted to store."""
    async with writing(place, "worker") as writer:
        proxy.break_next_commit("after")
        await cancelled(writer.transact(slowly), server)
        stored = f"SELECT FROM {place.schema}.model"
        while not await asyncio.to_thread(server.execute, stored):
            pass

        def insert(conn: DriverConnection) -> str:
            conn.execute("INSERT INTO model (name) VALUES ('next')")
            return "next"

        assert await writer.transact(insert) == "next"
        assert await writer.query(names) == ["slow", "next"]


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_turn_is_stored_or_lost(place: Server, proxy: CuttingProxy, when: When) -> None:
    """What was planned in a turn is never done in another: it is told that it was lost, if it was."""

    def insert(conn: DriverConnection) -> str:
        conn.execute("INSERT INTO model (name) VALUES ('m')")
        return "planned"

    async with writing(place, "worker") as writer:
        proxy.break_next_commit(when)
        if when == "after":
            async with writer.turn(names):
                assert await writer.transact(insert) == "planned"
        else:
            with pytest.raises(LostTurnError):
                async with writer.turn(names):
                    await writer.transact(insert)
        assert await writer.query(names) == (["m"] if when == "after" else [])


@pytest.mark.slow
async def test_a_server_that_says_nothing_is_given_up(
    place: Server, proxy: CuttingProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that hangs, its connection standing, ends by itself; its session is ended, and it is done once."""
    monkeypatch.setattr(pg_writer, "TURN_S", 0.5)
    async with writing(place, "worker") as writer:
        proxy.break_next_commit("silent")
        await writer.transact(lambda conn: conn.execute("INSERT INTO model (name) VALUES ('m')"))
        assert await writer.query(names) == ["m"]
        assert writer.n_losses == 1


@pytest.mark.slow
async def test_who_was_replaced_stores_nothing(
    place: Server, proxy: CuttingProxy, server: PostgresServer
) -> None:
    """Where another process sent alone meanwhile, who was cut off is told so, and changes nothing."""
    async with writing(place, "holder") as writer:
        await writer.transact(lambda conn: conn.execute("DELETE FROM hold"))
        server.execute(f"UPDATE {place.schema}.meta SET value = 'another 1' WHERE key = 'sender'")
        proxy.break_next_commit("before")
        with pytest.raises(ReplacedError):
            await writer.transact(lambda conn: conn.execute("INSERT INTO model VALUES (1, 'm')"))
    assert server.execute(f"SELECT count(*) FROM {place.schema}.model") == [(0,)]


@pytest.mark.slow
async def test_who_was_taken_for_dead_is_known_again(
    place: Server, proxy: CuttingProxy, server: PostgresServer
) -> None:
    """A worker whose row others took away while it was cut off goes on under its number."""
    async with writing(place, "worker") as writer:
        before = server.execute(f"SELECT id, pid FROM {place.schema}.process")
        other = PgDatabase.open_at(place, create=False)
        with other.write() as connection:
            connection.exec_driver_sql("DELETE FROM process WHERE id > 0")
        other.close()
        proxy.break_next_commit("before")
        await writer.transact(lambda conn: conn.execute("DELETE FROM hold"))
        assert server.execute(f"SELECT id, pid FROM {place.schema}.process") == before
