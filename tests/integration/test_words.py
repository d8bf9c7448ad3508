"""What is said at the end, or refused, names what helps, and goes where the call did."""

from __future__ import annotations

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House


def test_every_fix_goes_to_the_same_database(house: House) -> None:
    """Pasted as they are, the fixes of errors and of JSON find the database that was named."""
    house.jobs(4)
    place = ("--db", "other.db")
    house.submit(*place, "--sample", "1", code=3)
    fix = house.run("status", *place, "--json").json["waiting"]["fix"]
    assert "batchrunner export --db other.db jobs --status completed" in fix
    assert "batchrunner resume --db other.db jobs" in fix
    house.resume(*place)
    told = house.run("pause", "jobs", *place, code=2).err
    assert "batchrunner status --db other.db jobs" in told
    fix = house.run(*place, "--json", "cancel", "jobs", "-y", code=2).error["fix"]
    assert fix == "Look at it with: batchrunner status --db other.db jobs"


def test_every_fix_in_json_goes_to_the_same_database(house: House, api: ApiServer) -> None:
    """What explain, errors and doctor say in JSON is the command that a person is shown, and can be pasted."""
    api.script([{"contains": "say j0;", "status": 400, "body": "no"}])
    house.jobs(2)
    place = ("--db", "other.db")
    house.submit(*place, code=1)
    views = {
        name: house.run(name, *place, "--json").json for name in ("explain", "errors", "status")
    }
    assert views["explain"]["standing"]["next"] == "batchrunner errors --db other.db jobs"
    assert "batchrunner retry --db other.db jobs" in views["errors"]["errors"][0]["fix"]
    of_job = house.run("explain", "jobs", "j1", *place, "--json").json["job"]
    assert of_job["standing"]["next"] == "batchrunner show --db other.db jobs j1"
    way = ("--provider", "openai", "--base-url", "http://127.0.0.1:1")
    done = house.run("doctor", *place, *way, "--json", code=6)
    (fix,) = {one["fix"] for one in done.json["checks"] if one["check"] == "tcp"}
    assert fix.endswith(f"batchrunner doctor --db other.db {' '.join(way)}")


def test_a_fix_in_json_names_its_run(house: House) -> None:
    """Where a run stopped, explain's next step resumes that one, not the latest."""
    house.jobs(1)
    house.url = "http://127.0.0.1:1"
    house.submit("--max-wait", "1", code=6)
    house.submit("--no-run", file=house.jobs(1, "later.jsonl", prefix="k").name)
    told = house.run("explain", "jobs", "--json").json["standing"]["next"]
    assert "then: batchrunner resume jobs;" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("db", "backup", "no/where.db"), "is no directory"),
        (("submit", "jobs.jsonl", "--rpm", "9" * 20), "from 1 to 999,999,999,999"),
        (("submit", "jobs.jsonl", "-c", "9" * 20), "from 1 to 999,999,999,999"),
        (("limits", "set", "rpm=1", "rpm=2"), "says a limit again"),
        (("submit", "jobs.jsonl", "--expect-json", ""), "no schema is named"),
        (("submit", "jobs.jsonl", "--name", "-x"), "taken for an option"),
        (("submit", "jobs.jsonl", "--name", "x" * 400), "can't be shown"),
    ],
    ids=["backup", "rpm", "concurrency", "twice", "schema", "dash", "long"],
)
def test_what_is_refused_is_named(house: House, words: tuple[str, ...], said: str) -> None:
    """The message is about what was typed, not about another place for the database."""
    house.jobs(1)
    house.submit("--no-run")
    done = house.run(*words, code=2)
    assert said in done.err
    assert "another place with --db" not in done.err
    assert len(house.app.runs()) == 1


def test_a_file_whose_name_begins_like_an_option(house: House) -> None:
    """Its run has a name that commands take."""
    house.jobs(1, "-x.jsonl")
    house.submit("--no-run", file="./-x.jsonl")
    assert house.status().name == "x"


def test_who_sends_is_named_where_nobody_follows(house: House, api: ApiServer) -> None:
    """Beside a sender --no-wait says which process that is, and status how many lines were left out."""
    api.script([{"delay_s": 20}])
    house.jobs(1)
    (house.folder / "more.jsonl").write_text('{"id":"a","prompt":"b"}\nnone\n')
    sender = house.start_submit()
    sender.sees("run.started")
    more = ("submit", "more.jsonl", *house.to_api, "--skip-invalid")
    done = house.run(*more, "--no-wait", code=3)
    assert f"stopped with work left: process {sender.process.pid} on " in done.err
    assert "1 line was left out; see more.rejects.jsonl" in done.err
    assert "rejected: 1 line, with reasons in more.rejects.jsonl" in done.err
    assert "rejected" in house.run("status", "more").out
