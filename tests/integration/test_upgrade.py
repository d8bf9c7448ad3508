"""A database of the first version, met by a command of this one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from batchrunner.store import schema
from batchrunner.store.sqlite.locks import FileLock, ProcessLock, sender_lock_path
from tests.fakes import ApiServer
from tests.integration.house import House

STORED = Path(__file__).parents[1] / "migration" / "stored_0001.sql"
NEWEST = schema.REVISIONS[-1]
COPY = f"batchrunner.db.before-{NEWEST}-0001"


@pytest.fixture
def old(house: House) -> House:
    """A folder with a database of the first version: five of eight jobs answered."""
    connection = sqlite3.connect(house.db)
    connection.executescript(STORED.read_text())
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.close()
    return house


def version(path: Path) -> str:
    """Return the schema of a database."""
    connection = sqlite3.connect(path)
    ((found,),) = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    connection.close()
    return str(found)


def test_next_command_upgrades_and_names_the_copy(old: House) -> None:
    """A view upgrades, says so beside what it shows, once, and keeps the old file."""
    done = old.run("status", "--json")
    assert done.json["jobs"]["completed"] == 5
    assert "was upgraded to this version's schema" in done.err
    assert f"kept as {old.folder / COPY}" in done.err
    assert (version(old.db), version(old.folder / COPY)) == (NEWEST, "0001")
    assert "upgraded" not in old.run("status").err


def test_run_of_the_first_version_is_finished(old: House, api: ApiServer) -> None:
    """``resume`` upgrades and sends what is left, and nothing that is answered."""
    done = old.resume(
        "--base-url", old.url, "--rpd", "none", "--compress",
        environ={"ANTHROPIC_API_KEY": "sk-ant-crash"},
    )  # fmt: skip
    assert f"kept as {old.folder / COPY}" in done.err
    assert [seen.prompt for seen in api.requests()] == [f"ask k-{n} end" for n in (6, 7, 8)]
    assert [row["status"] for row in old.csv()] == ["completed"] * 8
    assert old.app.db_check() == []


def test_upgrade_command_says_what_it_did(old: House) -> None:
    """``db upgrade`` names the copy; again, it has nothing to do; without a database it says so."""
    assert f"kept as {old.folder / COPY}" in old.run("db", "upgrade").err
    assert "is up to date" in old.run("db", "upgrade").err
    assert "There is no database" in old.run("db", "upgrade", "--db", "none.db", code=2).err


@pytest.mark.parametrize("who", ["sends", "follows"])
@pytest.mark.parametrize("words", [("status",), ("db", "upgrade"), ("resume",)], ids=" ".join)
def test_upgrade_is_refused_while_a_process_runs(
    old: House, who: str, words: tuple[str, ...]
) -> None:
    """A process that runs keeps the file it knows: exit 5, and nothing is changed."""
    lock: FileLock | ProcessLock
    if who == "sends":
        lock = FileLock(sender_lock_path(old.db))
        assert lock.try_acquire()
    else:
        lock = ProcessLock.create(old.db)
    done = old.run(*words, code=5)
    assert "has an older schema and a process is running on it" in done.err
    assert "fix: Stop that process" in done.err
    assert version(old.db) == "0001"
    assert not (old.folder / COPY).exists()
    lock.release(unlink=True)
    old.run("status")
    assert version(old.db) == NEWEST


def test_newer_schema_is_refused(old: House) -> None:
    """What a later version made is left alone by every command."""
    connection = sqlite3.connect(old.db)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    for words in (("status",), ("db", "upgrade"), ("resume",), ("export",)):
        assert "was written by a newer version" in old.run(*words, code=5).err
    assert not (old.folder / COPY).exists()
