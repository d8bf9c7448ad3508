"""``db prune``: runs or their bodies go for good, what they used stays, and never while one sends."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from batchrunner.errors import BusyError, DatabaseError, UsageError
from batchrunner.failpoints import VARIABLE
from batchrunner.models import RunState
from batchrunner.options import JobFilter, LimitOptions, RunOptions
from batchrunner.store.sqlite import shrink
from batchrunner.store.sqlite.database import FileDatabase
from batchrunner.store.sqlite.locks import FileLock, sender_lock_path
from batchrunner.views import PruneView
from tests.fakes import ApiServer
from tests.integration.house import House

#: Stands in each request of the run that goes.
MARK = "forget-me-please"


def two_runs(house: House, n: int = 6) -> None:
    """Answer a run that may stay and one that is to go."""
    house.jobs(n, "stay.jsonl", prefix="s")
    house.jobs(n, "go.jsonl", prefix="g", metadata={"row": 7}, system=f"{MARK} " * 2000)
    where = RunOptions(provider="anthropic", base_url=house.url, model="sim-1")
    for name in ("stay", "go"):
        file = str(house.folder / f"{name}.jsonl")
        asyncio.run(house.app.submit([file], run=where, limits=LimitOptions(rpd=1000)))


def prune(house: House, *names: str, **how: Any) -> PruneView:
    """Prune in this process, without a question."""
    return house.app.db_prune(house.app.db_prune_plan(names, **how))


def used(house: House) -> list[tuple[int, int]]:
    """Return requests and input tokens by day."""
    return [(row.requests, row.input_tokens) for row in house.app.usage()]


def test_run_goes_and_its_usage_stays(house: House) -> None:
    """A pruned run is gone from every view and every byte of the file; usage and limits stay."""
    two_runs(house)
    before = used(house), house.app.limits()[0].used, house.db.stat().st_size
    assert MARK.encode() in house.db.read_bytes()
    done = house.run("db", "prune", "go", "-y", "--json").json
    assert [run["run"]["name"] for run in done["pruned"]] == ["go"]
    assert (done["size_before"], done["size_after"]) == (before[2], house.db.stat().st_size)
    assert [run.name for run in house.app.runs()] == ["stay"]
    assert (used(house), house.app.limits()[0].used) == before[:2]
    assert house.db.stat().st_size < before[2] / 2
    assert MARK.encode() not in house.db.read_bytes()
    assert [path.name for path in house.folder.iterdir() if "batchrunner" in path.name] == [
        house.db.name
    ]
    assert house.app.db_check() == []
    assert len(house.csv("stay")) == 6


def test_a_new_run_takes_over_no_usage(house: House) -> None:
    """The usage of a run that was deleted is not counted as that of the next."""
    two_runs(house, 3)
    prune(house, "go")
    house.jobs(2, "next.jsonl", prefix="n")
    house.submit(file="next.jsonl")
    by_run = {row.run: row.requests for row in house.app.usage(("run",))}
    assert by_run == {"(deleted)": 3, "stay": 3, "next": 2}


def test_deleted_words_are_overwritten_where_they_stood(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What goes is zeros in the file before the file is rewritten: its cut end shows nothing."""
    two_runs(house)
    n_written: list[int] = []

    def only_the_log(conn: sqlite3.Connection, path: object) -> bool:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        n_written.append(house.db.read_bytes().count(MARK.encode()))
        return True

    monkeypatch.setattr("batchrunner.store.sqlite.database.shrink", only_the_log)
    size = house.db.stat().st_size
    house.app.db_prune(house.app.db_prune_plan(["go"]))
    assert n_written == [0]
    assert house.db.stat().st_size == size


def test_bodies_go_and_the_rest_stays(house: House, api: ApiServer) -> None:
    """--bodies leaves jobs, counts, tokens, metadata and sends; show and export say what is gone."""
    api.script([{"contains": "say g1;", "status": 400, "body": {"error": {"message": "no"}}}])
    two_runs(house)
    before = house.csv("go")
    prune(house, "go", bodies=True)
    assert MARK.encode() not in house.db.read_bytes()
    exported = house.run("export", "go")
    assert "6 jobs of go lost request and answer to `db prune --bodies`" in exported.err
    after = house.csv("go")
    assert after == [{**row, "output_text": ""} for row in before]
    assert after[0]["metadata.row"] == "7"
    shown = house.run("show", "go", "g0")
    assert "removed by `db prune --bodies`" in shown.out
    told = house.run("show", "go", "g0", "--json").json["job"]
    assert (told["pruned"], told["request"], told["response"]) == (True, None, None)
    assert len(told["sends"]) == 1
    refused = house.run("export", "go", "-f", "openai", code=2)
    assert "-f openai is made of them" in refused.err
    assert house.app.db_check() == []
    assert prune(house, "go", bodies=True).runs == ()


def test_an_export_outlives_its_bodies(house: House) -> None:
    """-o never replaces a file that has answers by one without; where that is gone it says so."""
    house.jobs(3)
    house.submit("-o", "r.csv")
    whole = (house.folder / "r.csv").read_text()
    prune(house, bodies=True)
    for again in (house.submit("-o", "r.csv"), house.resume()):
        assert "r.csv stays as it is: 3 jobs of jobs lost request and answer" in again.err
        assert (house.folder / "r.csv").read_text() == whole
    (house.folder / "r.csv").unlink()
    assert "what is made of them is empty in" in house.resume().err
    assert (house.folder / "r.csv").read_text().count(",completed,") == 3


def test_jobs_without_a_request_are_not_sent(house: House, api: ApiServer) -> None:
    """retry refuses them and names --update, which gives them their request again."""
    api.script([{"contains": "say j1;", "status": 400, "body": {"error": {"message": "no"}}}])
    house.jobs(4)
    house.submit(code=1)
    prune(house, bodies=True)
    n_sent = len(api.requests())
    refused = house.run("retry", "jobs", code=2)
    assert "1 of the jobs of jobs that were to be put back have no request" in refused.err
    assert "batchrunner submit FILE --name jobs --update" in refused.err
    house.run("retry", "jobs", "--set", "max_tokens=7", code=2)
    assert house.counts().failed == 1
    api.script([])
    done = house.submit("--name", "jobs", "--update", "--set", "max_tokens=9")
    assert done.named("run.finished")
    assert house.counts().completed == 4
    assert [seen.prompt for seen in api.requests()[n_sent:]] == ["say j1;"]
    assert house.rows()["j1"].output_text
    assert house.rows()["j0"].output_text is None


def test_compressed_bodies_go_with_their_dictionaries(house: House) -> None:
    """What compressed bodies were written with holds their words, and goes too."""
    house.jobs(40, system=f"{MARK} and so on " * 50)
    house.submit("--compress")
    prune(house, bodies=True)
    with sqlite3.connect(house.db) as connection:
        assert connection.execute("SELECT count(*) FROM dictionary").fetchone() == (0,)
    connection.close()
    assert MARK.encode() not in house.db.read_bytes()
    assert house.run("export").out.count(",completed,") == 40


def test_only_runs_that_are_over_go(house: House, api: ApiServer) -> None:
    """An unfinished run is refused by name and left alone without; a cancelled one goes."""
    two_runs(house, 2)
    house.jobs(2, "open.jsonl", prefix="o")
    house.submit("--no-run", file="open.jsonl")
    refused = house.run("db", "prune", "go", "open", "-y", code=2)
    assert "Run open is not over" in refused.err
    assert "batchrunner cancel open" in refused.err
    prune(house)
    assert [run.name for run in house.app.runs()] == ["open"]
    house.app.cancel("open")
    prune(house, "open")
    assert house.app.runs() == []
    with pytest.raises(UsageError, match="There is no run 'go'"):
        prune(house, "go")


def test_older_than_spares_what_ended_lately(house: House) -> None:
    """--older-than goes by when a run ended; a younger one that was named is told."""
    two_runs(house, 2)
    with sqlite3.connect(house.db) as connection:
        connection.execute("UPDATE run SET finished_at = finished_at - 864000000 WHERE name='go'")
    connection.close()
    kept = house.run("db", "prune", "stay", "--older-than", "3d", "-y")
    assert "stay ended too lately, and stays" in kept.err
    prune(house, older_than_s=11 * 86_400.0)
    assert len(house.app.runs()) == 2
    prune(house, older_than_s=9 * 86_400.0)
    assert [run.name for run in house.app.runs()] == ["stay"]


def test_it_asks_before(house: House) -> None:
    """Without a terminal it wants -y; on one it lists what goes, and no is no."""
    two_runs(house, 2)
    assert "add -y" in house.run("db", "prune", "go", code=2).err
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "wb", buffering=0) as terminal:
        asked = subprocess.Popen(
            [sys.executable, "-m", "batchrunner", "db", "prune", "go"],
            cwd=house.folder, env=house.environ, stdin=theirs, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        os.close(theirs)
        terminal.write(b"n\n")
        _, err = asked.communicate(timeout=30)
    assert asked.returncode == 2
    assert "go: 2 jobs, " in err
    assert "Delete 1 run for good?" in err
    assert len(house.app.runs()) == 2


def test_copies_that_have_it_still_are_named(house: House) -> None:
    """A backup anywhere, or a copy beside the database, is named if it has the run."""
    house.jobs(2, "early.jsonl", prefix="e")
    house.submit(file="early.jsonl")
    elsewhere = house.folder.parent / "elsewhere"
    elsewhere.mkdir()
    house.app.db_backup(elsewhere / "has-early.db")
    house.jobs(2, "late.jsonl", prefix="l")
    house.submit(file="late.jsonl")
    (house.folder / "copied.db").write_bytes(house.db.read_bytes())
    done = house.run("db", "prune", "late", "-y")
    assert f"still in a copy: {house.folder}/copied.db" in done.err
    assert f"batchrunner db prune late --db {house.folder}/copied.db" in done.err
    assert "has-early.db" not in done.err
    done = house.run("db", "prune", "early", "-y", "--json").json
    assert done["copies"] == [f"{elsewhere}/has-early.db", f"{house.folder}/copied.db"]


@pytest.mark.slow
def test_never_beside_a_process_that_sends(house: House, api: ApiServer) -> None:
    """While one sends nothing is pruned, exit 5; a submit that comes during a prune waits for it."""
    two_runs(house, 2)
    api.script([{"n": 5}, {"delay_s": 20}])
    house.jobs(3)
    sending = house.start_submit("-c", "1")
    sending.sees("job.completed")
    refused = house.run("db", "prune", "go", "-y", code=5)
    assert "A process sends from" in refused.err
    assert len(house.app.runs()) == 3
    sending.kill()
    api.script([])
    pruning = FileLock(sender_lock_path(house.db))
    assert pruning.acquire(10)
    waiting = house.start("resume", "jobs", "--json")
    waiting.until(lambda: house.status("jobs").state is RunState.READY, "it waits")
    pruning.release(unlink=True)
    waiting.ended(0)
    assert house.counts("jobs").completed == 3


def test_orphans_of_a_cancelled_run_are_put_in_the_log_first(house: House, api: ApiServer) -> None:
    """A run that was cancelled while a crash left its jobs in flight can be pruned."""
    api.script([{"n": 1}, {"delay_s": 30}])
    house.jobs(4)
    sending = house.start_submit("-c", "2")
    sending.sees("job.completed")
    sending.until(lambda: len(api.requests()) == 3, "two in flight")
    house.run("pause", "jobs")
    sending.until(lambda: house.status().state is RunState.PAUSED, "it is told")
    sending.kill()
    house.app.cancel("jobs")
    prune(house, "jobs")
    assert house.app.runs() == []
    assert house.app.db_check() == []
    # What was claimed and not sent can't be told from what was.
    assert sum(row.requests for row in house.app.usage()) in {3, 4}


def test_without_room_nothing_is_pruned(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk can't take the rewritten file, it is said before anything is deleted."""
    two_runs(house, 2)
    tight = SimpleNamespace(free=1000)
    monkeypatch.setattr(shrink.shutil, "disk_usage", lambda _: tight)
    app = house.app
    with pytest.raises(DatabaseError, match="MB are free; nothing was pruned") as refused:
        app.db_prune(app.db_prune_plan(["go"]))
    assert refused.value.kind == "disk_full"
    assert len(app.runs()) == 2


def test_a_reader_keeps_what_it_sees(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who goes on reading keeps the file from shrinking; the same command shrinks it afterwards."""
    monkeypatch.setattr(shrink, "_READER_MS", 50)
    two_runs(house)
    app, db = house.app, FileDatabase.open(house.db, create=False)
    with db.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM job").scalar() == 12
        view = app.db_prune(app.db_prune_plan(["go"]))
        assert not view.is_shrunk
        assert connection.exec_driver_sql("SELECT count(*) FROM job").scalar() == 12
    assert [run.name for run in app.runs()] == ["stay"]
    again = house.run("db", "prune", "go", "-y", "--json").json
    assert again["shrunk"]
    assert again["size_after"] < view.size_before / 2
    assert MARK.encode() not in house.db.read_bytes()


def test_a_run_is_taken_though_an_earlier_prune_of_its_name_was_broken_off(house: House) -> None:
    """What died is finished, and what is asked for now is done too: by bodies, then a run, then anew."""
    two_runs(house, 2)
    dies = {VARIABLE: "prune.taken:1"}
    house.run("db", "prune", "go", "--bodies", "-y", environ=dies, code=-signal.SIGKILL)
    house.run("db", "prune", "go", "-y", environ=dies, code=-signal.SIGKILL)
    assert [run.name for run in house.app.runs()] == ["stay"]
    house.submit(file="go.jsonl")
    assert [run.name for run in prune(house, "go").runs] == ["go"]
    assert [run.name for run in house.app.runs()] == ["stay"]
    assert MARK.encode() not in house.db.read_bytes()
    # Finished by its name alone, where there is no run of it left.
    house.submit(file="go.jsonl")
    house.run("db", "prune", "go", "-y", environ=dies, code=-signal.SIGKILL)
    house.run("db", "prune", "go", "-y")
    with pytest.raises(UsageError, match="There is no run 'go'"):
        prune(house, "go")


def test_prune_of_much_stays_within_its_means(house: House) -> None:
    """More jobs than a transaction takes go in several, and the counts of what stays are right."""
    house.jobs(2_500)
    house.submit("--no-run")
    house.run("cancel", "jobs", "-y")
    house.app.db_prune(house.app.db_prune_plan(bodies=True))
    assert len(list(house.app.jobs("jobs", JobFilter()))) == 2_500
    assert house.app.db_prune_plan(bodies=True).runs == []
    house.app.db_prune(house.app.db_prune_plan())
    assert house.app.runs() == []


def test_sender_lock_is_free_again_after_a_refusal(house: House) -> None:
    """A prune that was refused leaves nothing that keeps the next process from sending."""
    two_runs(house, 1)
    plan = house.app.db_prune_plan(["go"])
    lock = FileLock(sender_lock_path(house.db))
    assert lock.try_acquire()
    with pytest.raises(BusyError):
        house.app.db_prune(plan)
    lock.release(unlink=True)
    assert [run.name for run in house.app.db_prune(plan).runs] == ["go"]
    assert [run.name for run in house.app.runs()] == ["stay"]
