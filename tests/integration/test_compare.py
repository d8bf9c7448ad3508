"""``plan`` learns from answers, and ``plan --compare`` says how good it was."""

from __future__ import annotations

import sqlite3

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House


@pytest.mark.slow
def test_a_plan_is_corrected_by_answers_and_judged_by_them(house: House, api: ApiServer) -> None:
    """The second plan knows what answers of the model took; both forecasts are told beside what was."""
    house.jobs(60, max_tokens=500)
    plan = ("plan", "jobs.jsonl", *house.to_api, "--json", "--rpm", "1200")
    before = house.run(*plan).json
    assert before["estimates"] == []
    assert any(note.startswith("no answer of sim-1 was seen") for note in before["notes"])
    house.submit("--rpm", "1200", "--name", "first")
    first = house.run("plan", "--compare", "first", "--json").json
    assert first["as_begun"] is True
    assert first["jobs"] == {"total": 60, "answered": 60}
    told = first["compare"]
    # What was said of it before is what is compared.
    assert told["input_tokens"]["planned"] == before["models"][0]["input_tokens"]
    assert told["output_tokens"]["planned"] == before["models"][0]["output_tokens"]
    assert told["duration_s"]["planned"] == pytest.approx(before["duration_s"], abs=0.2)
    took = told["input_tokens"]["took"]
    assert took == sum(int(row["input_tokens"]) for row in house.csv("first"))
    assert told["input_tokens"]["off"] == pytest.approx(
        before["models"][0]["input_tokens"] / took - 1
    )

    after = house.run(*plan).json
    (estimate,) = after["estimates"]
    assert estimate["model"] == "sim-1"
    assert any("corrected by its latest answers here" in note for note in after["notes"])
    house.jobs(60, "more.jsonl", prefix="m", max_tokens=500)
    house.submit("--name", "second", file="more.jsonl")
    second = house.run("plan", "--compare", "second", "--json").json
    (model,) = second["models"]
    assert abs(model["planned_off"]) < min(0.05, abs(model["text_alone_off"]))
    assert abs(second["compare"]["output_tokens"]["off"]) < 0.2
    assert second["plan"]["binding_limit"] == "rpm"
    assert abs(second["compare"]["duration_s"]["off"]) < 0.5
    # What was learned since changes nothing in what was said then.
    assert house.run("plan", "--compare", "first", "--json").json["compare"] == told
    shown = house.run("plan", "--compare", "second")
    assert "tokens in" in shown.out
    assert "rpm 1,200; rpm binds" in shown.err


def test_what_is_answered_of_a_run_is_compared(house: House, api: ApiServer) -> None:
    """A run in the middle is compared by what is done of it; one with nothing done is not."""
    house.jobs(5)
    house.submit("--no-run")
    nothing = house.run("plan", "--compare", "jobs", code=2)
    assert "batchrunner status jobs" in nothing.err
    house.resume("--rpd", "2", "--no-wait", code=3)
    told = house.run("plan", "--compare", "jobs", "--json").json
    assert told["jobs"] == {"total": 5, "answered": 2}
    assert told["compare"]["days"] == {
        "planned": 1,
        "low": None,
        "high": None,
        "took": 1,
        "off": 0.0,
    }
    # Of a run that an earlier version began nothing was kept.
    connection = sqlite3.connect(house.db)
    with connection:
        connection.execute("DELETE FROM meta WHERE key LIKE 'begun.%'")
    connection.close()
    older = house.run("plan", "--compare", "jobs", "--json").json
    assert older["as_begun"] is False
    assert older["notes"][1].startswith("an earlier version began this run")
    assert house.run("plan", "--compare", "jobs", "jobs.jsonl", code=2).err.startswith("error")


def test_a_pruned_run_is_not_compared(house: House, api: ApiServer) -> None:
    """Without its requests a forecast can't be made again."""
    house.jobs(2)
    house.submit()
    house.run("db", "prune", "jobs", "--bodies", "-y")
    assert "db prune --bodies" in house.run("plan", "--compare", "jobs", code=2).err
    house.run("db", "prune", "jobs", "-y")
    connection = sqlite3.connect(house.db)
    assert connection.execute("SELECT key FROM meta WHERE key LIKE 'begun.%'").fetchall() == []
    connection.close()
