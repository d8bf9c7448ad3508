"""What no other file asks of the exit codes: usage, the database, the place one works in."""

from __future__ import annotations

import os
import sqlite3
import subprocess

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House


def test_from_an_empty_folder(house: House, api: ApiServer) -> None:
    """A first submit makes the database, readable by its owner alone, and exits 0."""
    house.jobs(2)
    house.submit()
    assert house.db.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "command", [["status"], ["runs"], ["resume"], ["export"], ["limits"], ["retry"], ["jobs"]]
)
def test_without_a_database_the_path_is_named(house: House, command: list[str]) -> None:
    """Commands that create no database exit 2 and name the path they looked at."""
    done = house.run(*command, code=2)
    assert str(house.db) in done.err or "batchrunner.db" in done.err
    assert "Traceback" not in done.err
    assert list(house.folder.iterdir()) == []


def test_an_unknown_run_is_named_with_those_there(house: House) -> None:
    """A run that does not exist exits 2 and the message lists those that do."""
    house.jobs(1)
    house.submit("--no-run")
    done = house.run("status", "nope", code=2)
    assert "nope" in done.err
    assert "jobs" in done.err


def test_a_damaged_database_exits_5(house: House) -> None:
    """A file that is no database exits 5 with a message, not a traceback, and is left as it is."""
    house.db.write_bytes(b"this is not a database at all, " * 200)
    house.jobs(1)
    before = house.db.read_bytes()
    done = house.submit(code=5)
    assert done.error["exit_code"] == 5
    assert "Traceback" not in done.err
    assert house.db.read_bytes() == before
    house.run("status", code=5)


def test_a_newer_schema_exits_5(house: House) -> None:
    """A database of a later version exits 5 and says so."""
    house.jobs(1)
    house.submit("--no-run")
    with sqlite3.connect(house.db) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999_later'")
    connection.close()
    done = house.resume(code=5)
    assert "newer" in done.error["message"] or "later" in done.error["message"]


@pytest.mark.slow
def test_a_database_locked_by_another_program_exits_5(house: House) -> None:
    """Where another program holds the database for good, a command gives up with exit 5."""
    house.jobs(1)
    house.submit("--no-run")
    other = sqlite3.connect(house.db, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        done = house.run("pause", "jobs", "--json", code=5, timeout=90)
    finally:
        other.close()
    assert done.error["exit_code"] == 5


def test_a_read_only_folder_exits_5_or_2(house: House, api: ApiServer) -> None:
    """Where the database can't be made the command says so and sends nothing."""
    house.jobs(1)
    done = house.run(
        "submit", "jobs.jsonl", *house.to_api, "--db", "no/such/folder/x.db", "--json", code=None
    )
    assert done.code in (2, 5)
    assert "no/such/folder" in done.error["message"]
    assert api.requests() == []


@pytest.mark.parametrize(
    "options",
    [
        ["--rpm", "0"],
        ["--rpm", "many"],
        ["--max-wait", "soon"],
        ["-c", "0"],
        ["--max-attempts", "0"],
        ["--day-resets", "Mars/Olympus"],
        ["--wait", "--no-wait"],
        ["--update", "--new"],
        ["--max-failures", "110%"],
        ["--provider", "nobody"],
        ["-H", "no colon"],
        ["--base-url", "ftp://x"],
        ["-o", "out.docx"],
    ],
    ids=" ".join,
)
def test_bad_options_store_nothing(house: House, api: ApiServer, options: list[str]) -> None:
    """An option that can't be right exits 2 before anything is stored or sent."""
    house.jobs(1)
    done = house.submit(*options, code=2)
    assert done.error["message"]
    assert api.requests() == []
    assert not house.db.exists() or house.app.runs() == []


def test_a_reader_that_goes_away_does_not_stop_the_run(house: House, api: ApiServer) -> None:
    """`submit --json | head -1` ends the events, never the run."""
    api.script([{"delay_s": 0.05}])
    house.jobs(20)
    running = subprocess.Popen(
        ["/bin/sh", "-c", "python -m batchrunner submit jobs.jsonl $OPTIONS --json | head -n 1"],
        cwd=house.folder,
        env={**house.environ, "OPTIONS": " ".join(house.to_api), "PATH": os.environ["PATH"]},
        stdout=subprocess.PIPE,
    )
    out, _ = running.communicate(timeout=60)
    assert out.count(b"\n") == 1
    assert house.counts().completed == 20


def test_nothing_to_carry_on_is_well(house: House) -> None:
    """`resume --all` from cron, before the first run or after the last: exit 0, a sentence, and no event."""
    house.run("resume", "--all", code=2)
    house.run("init")
    done = house.run("resume", "--all", "--json")
    assert done.out == ""
    assert f"nothing is to be carried on: {house.db} has no runs yet" in done.err
    assert house.run("resume", "--all", "-q").err == ""
    house.run("resume", code=2)
    house.jobs(1)
    house.submit()
    assert "has no run that is unfinished and not paused" in house.run("resume", "--all").err
    house.run("db", "prune", "jobs", "-y")
    house.run("resume", "--all", "--rpm", "5", "--no-wait")


@pytest.mark.slow
def test_the_demo_runs_from_an_empty_folder(house: House) -> None:
    """demo needs no key, no network and no database, and leaves only its results."""
    house.run("demo", timeout=90)
    assert [path.name for path in house.folder.iterdir()] == ["demo.csv"]


@pytest.mark.parametrize(
    "words",
    [
        ("--account", "nobody"),
        ("--run", "nothing"),
        ("--account", "nobody", "concurrency=9"),
        ("day-resets=Mars/North",),
    ],
    ids=["account", "run", "account of nothing", "zone"],
)
def test_limits_that_can_not_be_set_change_nothing(house: House, words: tuple[str, ...]) -> None:
    """Exit 2 means that nothing was stored: neither the run's concurrency nor the account's limits."""
    house.jobs(1)
    house.submit("--no-run", "-c", "3", "--rpm", "60")
    changes = () if "concurrency=9" in words else ("concurrency=9", "rpm=9")
    house.run("limits", "set", *changes, *words, code=2)
    assert "concurrency of jobs: 3 → 4" in house.run("limits", "set", "concurrency=4").out
    (rpm,) = (limit for limit in house.app.limits() if limit.limit == "rpm")
    assert rpm.value == 60
