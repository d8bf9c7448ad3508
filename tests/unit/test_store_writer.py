"""The holder's connection: one hop a transaction, and no commit is ever cancelled."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from batchrunner.errors import DatabaseError
from batchrunner.store.faults import DiskFullError
from batchrunner.store.sqlite.locks import FileLock, write_lock_path
from batchrunner.store.sqlite.writer import ThreadConnection
from tests.unit.stored import database


def insert(connection: sqlite3.Connection) -> int:
    """Write one row."""
    return connection.execute("INSERT INTO meta VALUES ('a', '1')").rowcount


async def test_transact_is_one_hop_to_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole transaction costs one hand-over; more would cost more than its statements."""
    hops = 0
    execute = ThreadConnection._execute

    async def counting(self: ThreadConnection, *args: object) -> object:
        nonlocal hops
        hops += 1
        return await execute(self, *args)  # type: ignore[no-untyped-call]

    async with database(tmp_path).writer() as writer:
        monkeypatch.setattr(ThreadConnection, "_execute", counting)
        assert await writer.transact(insert) == 1
        monkeypatch.undo()
    assert hops == 1


async def test_what_comes_before_a_transaction_locks_nothing(tmp_path: Path) -> None:
    """Work that needs no database is done on the thread, while others may still write."""
    db = database(tmp_path)
    seen: list[int] = []
    async with db.writer() as writer:

        def before() -> None:
            with db.write() as other:
                other.exec_driver_sql("INSERT INTO meta VALUES ('other', '1')")
            seen.append(threading.get_ident())

        await writer.transact(insert, before=before)
        assert await writer.query(lambda c: c.execute("SELECT count(*) FROM meta").fetchone()) == (
            2,
        )
    assert len(seen) == 1
    assert seen[0] != threading.get_ident()


async def test_transact_runs_off_the_event_loop(tmp_path: Path) -> None:
    """A commit never holds the loop up."""
    async with database(tmp_path).writer() as writer:
        ran_on = await writer.transact(lambda _: threading.get_ident())
    assert ran_on != threading.get_ident()


async def test_transact_commits_before_it_returns(tmp_path: Path) -> None:
    """What is counted as done can be read by others."""
    db = database(tmp_path)
    async with db.writer() as writer:
        await writer.transact(insert)
        with db.read() as connection:
            assert connection.exec_driver_sql("SELECT value FROM meta").scalar() == "1"


async def test_transact_is_undone_by_any_exception(tmp_path: Path) -> None:
    """A function that raises leaves nothing, and the writer goes on."""

    def fail(connection: sqlite3.Connection) -> None:
        insert(connection)
        raise KeyError("mine")

    async with database(tmp_path).writer() as writer:
        with pytest.raises(KeyError, match="mine"):
            await writer.transact(fail)
        assert await writer.query(lambda c: c.execute("SELECT * FROM meta").fetchall()) == []
        assert await writer.transact(insert) == 1


async def test_transact_is_not_cancelled_with_its_awaiter(tmp_path: Path) -> None:
    """A cancelled sender never cancels a commit."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        insert(connection)
        begun.set()
        go_on.wait(10)

    async with database(tmp_path).writer() as writer:
        task = asyncio.create_task(writer.transact(slow))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await writer.settle()
        rows = await writer.query(lambda c: c.execute("SELECT key FROM meta").fetchall())
    assert rows == [("a",)]


async def test_close_waits_for_what_was_handed_over(tmp_path: Path) -> None:
    """A transaction whose awaiter is gone is committed before the connection closes."""
    db = database(tmp_path)
    async with db.writer() as writer:
        task = asyncio.create_task(writer.transact(insert))
        await asyncio.sleep(0)
        task.cancel()
    with db.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM meta").scalar() == 1


async def test_close_leaves_one_file(tmp_path: Path) -> None:
    """After a clean stop the database is one file."""
    db = database(tmp_path)
    async with db.writer() as writer:
        await writer.transact(insert)
        assert (tmp_path / "jobs.db-wal").stat().st_size > 0
    assert [path.name for path in tmp_path.iterdir()] == ["jobs.db"]


async def test_data_version_changes_with_others_commits_only(tmp_path: Path) -> None:
    """The holder sees that somebody else wrote, and not its own writes."""
    db = database(tmp_path)
    async with db.writer() as writer:
        before = await writer.data_version()
        await writer.transact(insert)
        assert await writer.data_version() == before
        with db.write() as connection:
            connection.exec_driver_sql("INSERT INTO meta VALUES ('b', '1')")
        assert await writer.data_version() != before


async def test_checkpoint_waits_for_no_other_process(tmp_path: Path) -> None:
    """While another process writes, a passive checkpoint is left for later."""
    db = database(tmp_path)
    async with db.writer() as writer:
        await writer.transact(insert)
        other = FileLock(write_lock_path(db.path))
        assert other.try_acquire()
        assert not await writer.checkpoint("PASSIVE")
        other.release()
        assert await writer.checkpoint("PASSIVE")
        assert await writer.checkpoint("TRUNCATE")
        assert (tmp_path / "jobs.db-wal").stat().st_size == 0


async def test_checkpoint_truncate_does_not_wait_for_a_reader_for_long(tmp_path: Path) -> None:
    """A reader in the log makes the checkpoint incomplete, and leaves the busy timeout as it was."""
    db = database(tmp_path)
    async with db.writer() as writer:
        await writer.transact(insert)
        with db.read() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM meta").all()
            await writer.transact(lambda c: c.execute("INSERT INTO meta VALUES ('b', '')"))
            assert not await writer.checkpoint("TRUNCATE")
        timeout = await writer.query(lambda c: c.execute("PRAGMA busy_timeout").fetchone())
    assert timeout == (10_000,)


async def test_transact_names_a_full_disk(tmp_path: Path) -> None:
    """A disk that fills mid-drain is told apart, and the connection is usable once there is space."""

    def fill(connection: sqlite3.Connection) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        connection.execute("INSERT INTO meta VALUES ('a', ?)", ("x" * 1_000_000,))

    async with database(tmp_path).writer() as writer:
        with pytest.raises(DiskFullError):
            await writer.transact(fill)
        await writer.query(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchone())
        assert await writer.transact(insert) == 1


async def test_transact_names_another_programs_lock(tmp_path: Path) -> None:
    """A foreign lock ends in the sentence for it."""
    db = database(tmp_path)
    async with db.writer() as writer:
        await writer.query(lambda c: c.execute("PRAGMA busy_timeout = 10").fetchone())
        other = sqlite3.connect(db.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DatabaseError, match="another kind of program"):
            await writer.transact(insert)
        other.close()


async def test_error_of_a_cancelled_awaiter_is_not_reported_as_lost(tmp_path: Path) -> None:
    """A failing transaction nobody waits for any more disturbs nothing."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with database(tmp_path).writer() as writer:
        task = asyncio.create_task(writer.transact(lambda c: c.execute("NONSENSE")))
        await asyncio.sleep(0)
        task.cancel()
        await writer.settle()
    assert complaints == []
