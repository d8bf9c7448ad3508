"""``db copy``: a database moves between a file and a server with all it has, once and whole."""

from __future__ import annotations

import io
import json
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrunner import app as application
from batchrunner.app import Batchrunner
from batchrunner.clock import wall_ms
from batchrunner.models import JobCounts
from batchrunner.options import ExportOptions
from batchrunner.places import Place, Server, place_of, shown
from batchrunner.store.copying import LEFT, TABLES
from batchrunner.store.driver import driver
from batchrunner.store.opening import open_database
from batchrunner.store.processes import register_process
from tests.fakes import ApiServer
from tests.fakes.postgres_server import PostgresServer
from tests.integration.house import House
from tests.postgres.conftest import schema_of

#: What is bound to a process or to one database alone.
BOUND = {"moved", "changes"}
FORMATS = ("csv", "jsonl", "openai", "anthropic", "input")


@pytest.fixture
def house(tmp_path: Path, api: ApiServer) -> Iterator[House]:
    """A folder whose database is a file."""
    house = House(tmp_path, api.url)
    yield house
    house.clear_up()


@pytest.fixture
def there(tmp_path: Path, server: PostgresServer) -> str:
    """The address of a schema that is not there yet."""
    return server.url(schema_of(tmp_path))


def rows_of(place: Place, tables: dict[str, list[str]]) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of each table, the columns named, in an order of their own."""
    with open_database(place, create=False).read() as connection:
        conn = driver(connection)
        found = {
            name: sorted(
                map(tuple, conn.execute(f"SELECT {', '.join(columns)} FROM {name}").fetchall()),
                key=repr,
            )
            for name, columns in tables.items()
        }
    found["meta"] = [row for row in found["meta"] if row[0] not in BOUND]
    return found


def columns_of(place: Path) -> dict[str, list[str]]:
    """Return the columns of each table of a file, but whose process took a run up."""
    with open_database(place, create=False).read() as connection:
        conn = driver(connection)
        names = [
            row[0]
            for row in conn.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if not row[0].startswith("sqlite_") and row[0] not in LEFT
        ]
        return {
            name: [
                row[1]
                for row in conn.execute(f"PRAGMA table_info({name})")
                if row[1] != "runner_id"
            ]
            for name in names
        }


def views_of(place: Place) -> dict[str, Any]:
    """Return what the views and exports say of every run."""
    app = Batchrunner(place, environ={})

    def exported(name: str, format_name: str) -> bytes:
        out = io.BytesIO()
        app.export(name, ExportOptions(format=format_name), out)
        return out.getvalue()

    names = [run.name for run in app.runs()]
    return {
        "usage": app.usage(),
        "limits": app.limits(),
        **{f"status {name}": app.status(name) for name in names},
        **{f"{name}.{word}": exported(name, word) for name in names for word in FORMATS},
    }


def answered(api: ApiServer) -> Counter[str]:
    """Return how often each job was answered."""
    return Counter(request.prompt for request in api.requests() if request.status == 200)


def lived_in(house: House, api: ApiServer) -> None:
    """Have three runs: compressed and killed amid its work; failed, held and due; paused and unsent."""
    api.script([{"contains": "say b1;", "status": 400},
                {"contains": "say b2;", "status": 500},
                {"contains": "say k", "delay_s": 0.05}])  # fmt: skip
    house.jobs(8, "b.jsonl", prefix="b", metadata={"row": "é", "n": {"deep": [1, 2.5]}})
    stopped = house.submit("--max-attempts", "2", "--max-wait", "0", "--rpd", "500", file="b.jsonl",
                           code=None)  # fmt: skip
    assert stopped.code in (0, 1, 3), stopped
    house.jobs(3, "paused.jsonl", prefix="p")
    house.submit("--no-run", "--name", "paused", file="paused.jsonl", code=0)
    house.run("pause", "paused")
    house.jobs(80, "killed.jsonl", prefix="k", system="the same for each of them, at length. " * 9)
    running = house.start_submit("-c", "4", "--compress", "--name", "killed", "--rpm", "6000",
                                 file="killed.jsonl")  # fmt: skip
    running.sees("job.completed", 30)
    running.kill()


def test_there_and_back_nothing_is_different(
    house: House, api: ApiServer, there: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File to server to file: each row, view and export is as it was, and the work goes on, nothing twice."""
    lived_in(house, api)
    back = house.folder / "back.db"
    tables = columns_of(house.db)
    assert set(tables) == {table.name for table in TABLES}
    before = rows_of(house.db, tables)
    assert {row[-1] for row in before["payload"]} - {None}, "nothing is compressed"
    now = wall_ms()
    monkeypatch.setattr(application, "wall_ms", lambda: now)
    seen = views_of(house.db)
    done = house.run("db", "copy", "batchrunner.db", there, "--json").json["copy"]
    assert (done["runs"], done["jobs"], done["kept"]) == (3, 91, False)
    assert done["rows"] == {name: len(rows) for name, rows in before.items()}
    assert done["replaced"] == 0
    assert rows_of(place_of(there), tables) == before
    house.run("db", "copy", there, "back.db", code=0)
    assert rows_of(back, tables) == before
    assert views_of(place_of(there)) == seen
    assert views_of(back) == seen
    assert house.run("db", "check", "--db", "back.db").code == 0
    assert not list(house.folder.glob("back.db.*"))
    # The rest is sent, and nothing that was answered.
    api.script([])
    api_before = answered(api)
    house.run("resume", "--all", "--json", "--db", "back.db", code=None)
    house.run("resume", "paused", "--db", "back.db", code=0)
    app = Batchrunner(back, environ={})
    assert [app.status(name).jobs.completed for name in ("killed", "paused")] == [80, 3]
    in_flight = app.status("killed").requests.interrupted
    assert 0 < in_flight <= 8
    twice = {prompt for prompt, n in answered(api).items() if n > 1}
    assert len(twice) <= in_flight
    assert set(api_before) <= set(answered(api))
    assert app.db_check() == []


@pytest.mark.slow
def test_what_postgresql_can_not_hold_is_counted(house: House, there: str) -> None:
    """U+0000 in text becomes U+FFFD, and how often is said; where that makes two keys one, nothing is copied."""
    zero = [{"id": "a\x00b", "prompt": "zero \x00", "metadata": {"z\x00": "\x00"}}]
    house.write("zero.jsonl", zero)
    house.submit("--no-run", file="zero.jsonl", code=0)
    done = house.run("db", "copy", "batchrunner.db", there, "--keep", "--json").json["copy"]
    assert done["replaced"] == 1
    jobs = house.run("jobs", "--db", there, "--json").json["jobs"]
    assert [job["key"] for job in jobs] == ["a\ufffdb"]
    house.write("both.jsonl", [*zero, {"id": "a\ufffdb", "prompt": "one"}])
    house.submit("--no-run", file="both.jsonl", code=0)
    other = there.replace("schema=", "schema=other_")
    error = house.run("db", "copy", "batchrunner.db", other, "--json", code=5).error
    assert "U+0000" in error["fix"]
    assert house.run("runs", "--db", other, "--json").json["runs"] == []


@pytest.mark.parametrize("way", ["file", pytest.param("server", marks=pytest.mark.slow)])
def test_a_copied_database_sends_no_more(
    house: House, api: ApiServer, there: str, way: str
) -> None:
    """Nobody sends from it or stores in it until it is reopened; views stay; a try leaves it open."""
    source = str(house.db)
    house.jobs(2)
    if way == "server":
        source = there
        house.environ["BATCHRUNNER_DB"] = there
    house.submit("--no-run", code=0)
    house.run("db", "copy", source, "trial.db", "--keep")
    house.submit("--no-run", code=0)
    moved = house.run("db", "copy", source, "new.db")
    assert "new.db" in moved.err
    for words in (("resume", "--all"), ("submit", "jobs.jsonl", *house.to_api)):
        done = house.run(*words, "--json", code=5)
        assert done.error["kind"] == "moved", words
        assert "new.db" in done.error["fix"]
    elsewhere = {"BATCHRUNNER_DB": "another.db"}
    again = house.run("db", "copy", source, "again.db", "--json", code=5, environ=elsewhere).error
    assert again["kind"] == "moved"
    # Not the call's own database: what is reopened may send twice.
    assert f"batchrunner db reopen --db {shlex.quote(shown(place_of(source)))}" in again["fix"]
    assert house.run("status", "--json").json["jobs"]["pending"] == 2
    assert not api.requests()
    assert "may be sent from again" in house.run("db", "reopen").err
    house.resume(code=0)
    assert answered(api).total() == 2


@pytest.mark.slow
def test_nothing_is_overwritten(house: House, there: str) -> None:
    """A place that holds anything is refused; an empty database and an empty file are none."""
    house.jobs(1)
    house.submit("--no-run", code=0)
    copy = ("db", "copy", "batchrunner.db")
    (house.folder / "notes.txt").write_text("mine\n" * 400)
    (house.folder / "empty.db").touch()
    shutil.copy(house.db, house.folder / "full.db")
    for name in ("notes.txt", "full.db", "batchrunner.db"):
        held = (house.folder / name).read_bytes()
        done = house.run(*copy, name, "--json", code=None)
        assert done.code in (2, 5), done
        assert (house.folder / name).read_bytes() == held
    house.run(*copy, "empty.db", "--keep")
    house.run(*copy, there, "--keep")
    done = house.run(*copy, there, "--json", code=2)
    assert "never overwrites" in done.error["message"]
    other = there.replace("schema=", "schema=other_")
    open_database(place_of(other), create=True)
    house.run(*copy, other)
    assert house.run("status", "--db", other, "--json").json["jobs"]["total"] == 1
    assert (
        house.run("db", "copy", "nowhere.db", "x.db", "--json", code=2).error["kind"]
        == "no_database"
    )


@pytest.mark.slow
@pytest.mark.parametrize("way", ["file", "server"])
def test_who_is_on_it_is_named(house: House, api: ApiServer, there: str, way: str) -> None:
    """While a process sends from it nothing is copied, and the process goes on."""
    source = "batchrunner.db"
    if way == "server":
        source = house.environ["BATCHRUNNER_DB"] = there
    api.script([{"n": 1}, {"delay_s": 30}])
    house.jobs(3)
    running = house.start_submit("-c", "1")
    running.sees("job.completed")
    done = house.run("db", "copy", source, "new.db", "--json", code=5)
    assert done.error["kind"] == "busy"
    assert not (house.folder / "new.db").exists()
    assert running.process.poll() is None


def test_workers_that_died_are_in_nobodys_way(house: House, there: str) -> None:
    """Neither on what is copied nor on the empty place it goes to: their rows are left until somebody clears up."""
    for address in (there, other := there.replace("schema=", "schema=other_")):
        db = open_database(place_of(address), create=True)
        worker = register_process(db, "worker", now_ms=wall_ms())
        with db.write() as connection:
            long_ago = "UPDATE process SET beat_at = 1, role = 'worker' WHERE id = ?"
            driver(connection).execute(long_ago, (worker.id,))
        worker.lock.release()
    house.run("db", "copy", there, other, "--keep", code=0)


@pytest.mark.slow
@pytest.mark.parametrize("point", ["copy.page:3", "copy.copied", "copy.marked"])
@pytest.mark.parametrize("way", ["in", "out"])
def test_a_killed_copy_is_none(
    house: House, api: ApiServer, there: str, way: str, point: str
) -> None:
    """After kill -9 there is no half database, the next try makes it whole, and none sends twice."""
    house.jobs(3)
    source, to = (there, str(house.folder / "new.db"))[:: 1 if way == "out" else -1]
    if way == "in":
        source, to = "batchrunner.db", there
    house.environ["BATCHRUNNER_DB"] = source
    house.submit("--no-run", code=0)
    house.run("db", "copy", source, to, code=-9, environ={"BATCHRUNNER_FAILPOINT": point})
    if way == "out":
        assert not Path(to).exists()
    else:
        assert house.run("runs", "--db", to, "--json").json["runs"] == []
    if point == "copy.marked":
        # Whoever died just then may have made the copy visible.
        assert house.resume(code=5).error["kind"] == "moved"
        house.run("db", "reopen")
    house.run("db", "copy", source, to, code=0)
    house.run("resume", "--db", to, code=0)
    assert Batchrunner(to, environ={}).status().jobs == JobCounts(completed=3)
    assert answered(api).total() == 3


@pytest.mark.slow
def test_rows_of_megabytes_need_little_memory(house: House, there: str, tmp_path: Path) -> None:
    """Sixty bodies of 2 MB go both ways in a process that may have far less than they are."""
    body = "x" * 2_000_000
    house.write("big.jsonl", ({"id": f"b{n}", "prompt": f"{n} {body}"} for n in range(60)))
    house.submit("--no-run", file="big.jsonl", code=0)
    program = (
        "import resource, sys; from batchrunner.app import Batchrunner; import asyncpg;"
        "start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "Batchrunner(sys.argv[1], environ={}).db_copy(sys.argv[2]);"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start) // 1024)"
    )
    house.program = ("-c", program)
    there_mb = int(house.run(str(house.db), there).out)
    back_mb = int(house.run(there, "back.db").out)
    assert max(there_mb, back_mb) < 60
    one = json.loads((house.folder / "big.jsonl").read_text().splitlines()[7])["prompt"]
    assert (
        one
        in (
            Batchrunner(house.folder / "back.db", environ={}).show("big", "b7").request or b""
        ).decode()
    )


def test_every_table_goes_or_stays(server: PostgresServer, there: str) -> None:
    """A table that a migration adds must say what a copy does with it."""
    place = place_of(there)
    assert isinstance(place, Server)
    open_database(place, create=True)
    found = server.execute(f"SELECT tablename FROM pg_tables WHERE schemaname = '{place.schema}'")
    assert {name for (name,) in found} == {table.name for table in TABLES} | LEFT


@pytest.mark.slow
def test_a_server_goes_on_counting(house: House, api: ApiServer, there: str) -> None:
    """New runs, accounts and models at the copy get ids of their own."""
    house.jobs(2)
    house.submit("--no-run", code=0)
    house.run("db", "copy", "batchrunner.db", there)
    house.environ["BATCHRUNNER_DB"] = there
    house.jobs(2, "more.jsonl", prefix="m", model="another")
    house.submit("--name", "more", "--account", "second", file="more.jsonl", code=0)
    house.resume("jobs", code=0)
    assert answered(api).total() == 4
    assert house.run("db", "check").code == 0
