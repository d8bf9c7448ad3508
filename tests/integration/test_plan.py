"""``plan`` and ``submit --dry-run`` tell what files would take, and leave nothing behind."""

from __future__ import annotations

import gzip
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House

#: CONTRACT §6.
KEYS = {
    "version", "jobs", "models", "tokens", "cost_usd", "binding_limit", "days", "duration_s",
    "finish_at",
}  # fmt: skip


def plan(house: House, *words: str, file: str = "jobs.jsonl", **how: Any) -> Any:
    """Return what ``plan --json`` prints."""
    return house.run("plan", file, *house.to_api, "--json", *words, **how).json


def noon_zone() -> str:
    """Return a zone in which it is about noon, so that no midnight comes between."""
    off = 12 - datetime.now(UTC).hour
    return f"Etc/GMT{-off:+d}" if off else "Etc/GMT"


def test_a_plan_has_the_contracts_keys_and_leaves_nothing(house: House, api: ApiServer) -> None:
    """Its JSON is that of the contract; nothing is sent, no file appears, and a dry run is the same."""
    house.jobs(120)
    told = plan(house, "--rpm", "60")
    assert told.keys() >= KEYS
    assert (told["version"], told["jobs"], told["binding_limit"]) == (1, 120, "rpm")
    (model,) = told["models"]
    assert model.keys() == {"model", "jobs", "input_tokens", "output_tokens", "cost_usd"}
    assert (model["model"], model["jobs"]) == ("sim-1", 120)
    span = told["tokens"]["input"]
    assert 0 < span["low"] < model["input_tokens"] < span["high"]
    assert told["tokens"]["output"]["low"] <= model["output_tokens"]
    # Two minutes, and an answer.
    assert 115 < told["duration_s"] < 135
    dry = house.submit("--rpm", "60", "--dry-run").json
    at = {"finish_at", "duration_s", "schedule", "days", "faster"}
    assert {k: dry[k] for k in KEYS - at} == {k: told[k] for k in KEYS - at}
    assert house.submit("--rpm", "60", "-n").json.keys() == told.keys()
    assert api.requests() == []
    assert [path.name for path in house.folder.iterdir()] == ["jobs.jsonl"]


def test_refusals_are_no_quick_answers(house: House, api: ApiServer) -> None:
    """How long an answer takes is that of answers, not of requests that were refused at once."""
    no = {"status": 400, "body": {"error": {"message": "no"}}}
    api.script([{"contains": "say j0;", "delay_s": 0.5}, no])
    house.jobs(8)
    house.submit(code=1)
    done = house.run("plan", "jobs.jsonl", *house.to_api)
    told = re.search(r"an answer takes ([\d.]+) s \(as of late\)", done.out + done.err)
    assert told is not None, done
    assert float(told[1]) >= 0.5


def test_days_are_laid_out_by_the_limits_zone(house: House) -> None:
    """A cap a day makes days of it, in the zone that was said, and the cap is what binds."""
    house.jobs(25)
    told = plan(house, "--rpd", "10", "--rpm", "600", "--day-resets", noon_zone())
    assert [day["requests"] for day in told["schedule"]] == [10, 10, 5]
    assert (told["days"], told["binding_limit"], told["zone"]) == (3, "rpd", noon_zone())
    assert told["faster"]["value"] == 20
    assert told["faster"]["free_finish_at"] < told["faster"]["finish_at"] < told["finish_at"]
    shown = house.run(
        "plan", "jobs.jsonl", *house.to_api, "--rpd", "10", "--day-resets", noon_zone()
    )
    assert "10 requests a day" in shown.out
    assert "at 20 requests a day" in shown.out
    assert told["schedule"][2]["day"] in shown.out


def test_what_was_used_today_and_what_is_stored_count(house: House) -> None:
    """With a database its limits hold, and what is used of them today is not there any more."""
    house.jobs(3)
    house.submit("--rpd", "5", "--rpm", "600", "--day-resets", noon_zone())
    house.jobs(7, "more.jsonl", prefix="m")
    told = plan(house, file="more.jsonl")
    assert [day["requests"] for day in told["schedule"]] == [2, 5]
    assert {(one["limit"], one["source"]) for one in told["limits"]} >= {("rpd", "flag")}
    assert told["account"]
    # A limit that is typed is a plan's alone.
    assert plan(house, "--rpd", "none", file="more.jsonl")["days"] == 1
    assert plan(house, file="more.jsonl")["days"] == 2
    # A rolling day: two now, the rest as the first ones are a day old.
    rolling = plan(house, "--day-resets", "rolling", file="more.jsonl")
    assert [day["requests"] for day in rolling["schedule"]] == [2, 5]


def test_limits_that_answers_told_hold(house: House, api: ApiServer) -> None:
    """What the headers of earlier answers said of a model's limit is what a plan keeps to."""
    api.script([{"headers": {
        "anthropic-ratelimit-requests-limit": "30",
        "anthropic-ratelimit-requests-remaining": "29",
        "anthropic-ratelimit-requests-reset": "2099-01-01T00:00:00Z",
    }}])  # fmt: skip
    house.jobs(1)
    house.submit()
    house.jobs(90, "more.jsonl", prefix="m")
    told = plan(house, file="more.jsonl")
    (limit,) = [one for one in told["limits"] if one["limit"] == "rpm"]
    assert (limit["value"], limit["source"]) == (30, "header")
    assert told["binding_limit"] == "rpm"
    assert 170 < told["duration_s"] < 200
    # Another model is another pool, of which nothing is known.
    assert plan(house, "--model", "sim-2", file="more.jsonl")["binding_limit"] is None


@pytest.mark.parametrize(
    ("words", "least_s", "most_s"),
    [
        # Counts input alone: 300 jobs of some 10 tokens are far below it.
        (("--provider", "gemini", "--model", "gemini-2.5-flash", "--tpm", "100000"), 0, 60),
        # Charges max_tokens up front and gives nothing back: a hundred jobs a minute.
        (("--provider", "openai", "--model", "gpt-4o-mini", "--tpm", "409600"), 115, 200),
    ],
    ids=["gemini", "openai"],
)
def test_tokens_count_as_the_provider_counts_them(
    house: House, words: tuple[str, ...], least_s: float, most_s: float
) -> None:
    """A plan reckons with a limit of tokens as a run does, by the provider's own way of counting."""
    rows = ({"id": str(n), "prompt": "Say yes.", "max_tokens": 4096} for n in range(300))
    (house.folder / "jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = house.run("plan", "jobs.jsonl", "-c", "100", "--json", *words).json
    assert least_s <= told["duration_s"] <= most_s


def test_an_end_in_decades_is_not_told(house: House) -> None:
    """Two thousand jobs at one a day have no date, and it is said which limit that is."""
    house.jobs(2000)
    told = plan(house, "--rpd", "1", "--rpm", "5")
    assert (told["finish_at"], told["duration_s"], told["days"]) == (None, None, None)
    assert told["binding_limit"] == "rpd"
    assert "never" in house.run("plan", "jobs.jsonl", *house.to_api, "--rpd", "1").out


def test_lines_that_are_no_jobs_are_told_as_by_submit(house: House) -> None:
    """Faulty lines and keys used twice end it with 2, each named; or they are left out and counted."""
    rows = [{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}, {"id": "b", "promt": "z"}]
    house.write("jobs.jsonl", rows)
    done = house.run("plan", "jobs.jsonl", *house.to_api, "--json", code=2)
    lines = done.error["lines"]
    assert [line["line"] for line in lines] == [2, 3]
    assert "already used by jobs.jsonl:1" in lines[0]["reason"]
    told = plan(house, "--skip-invalid")
    assert told["jobs"] == 1
    assert any("2 lines" in note for note in told["notes"])
    house.write("none.jsonl", [])
    assert house.run("plan", "none.jsonl", *house.to_api, code=2).err


def test_compressed_files_and_stdin_are_read(house: House) -> None:
    """A plan takes whatever submit takes."""
    data = house.jobs(4).read_bytes()
    (house.folder / "jobs.jsonl.gz").write_bytes(gzip.compress(data))
    assert plan(house, file="jobs.jsonl.gz")["jobs"] == 4
    assert plan(house, file="-", stdin=data)["jobs"] == 4


def test_tokens_of_plain_requests_are_unknown(house: House) -> None:
    """A request that asks no model has no tokens: they are unknown, not 0."""
    house.write("jobs.jsonl", [{"custom_id": "a", "method": "GET", "url": "/v1/x"}])
    told = house.run(
        "plan", "jobs.jsonl", "--provider", "http", "--base-url", house.url, "--json"
    ).json
    assert told["tokens"] == {
        "input": {"low": None, "high": None}, "output": {"low": None, "high": None}
    }  # fmt: skip
    assert told["models"][0]["input_tokens"] is None


def test_models_are_told_apart(house: House) -> None:
    """Each model has a row of its own, in the order they come."""
    rows = [{"prompt": "x", "model": f"sim-{i % 2}", "max_tokens": 10} for i in range(5)]
    house.write("jobs.jsonl", rows)
    told = plan(house)
    assert [(one["model"], one["jobs"]) for one in told["models"]] == [("sim-0", 3), ("sim-1", 2)]
    assert told["tokens"]["output"]["high"] == 50
    shown = house.run("plan", "jobs.jsonl", *house.to_api).out
    assert shown.splitlines()[0].split() == [
        "MODEL",
        "JOBS",
        "TOKENS",
        "IN",
        "TOKENS",
        "OUT",
        "COST",
    ]


@pytest.mark.parametrize(
    ("words", "limit", "seconds"),
    [
        (("--min-interval", "2"), "min_interval", (118, 135)),
        (("-c", "1"), "concurrency", (590, 620)),
    ],
    ids=["interval", "one at a time"],
)
def test_intervals_and_concurrency_bind(
    house: House, words: tuple[str, ...], limit: str, seconds: tuple[int, int]
) -> None:
    """Sixty jobs two seconds apart take two minutes; one at a time, as long as their answers."""
    house.jobs(60)
    told = plan(house, *words)
    assert told["binding_limit"] == limit
    assert seconds[0] < told["duration_s"] < seconds[1]
    assert any("assumed" in note for note in told["notes"])


def test_money_is_a_range_and_unknown_prices_are_named(house: House) -> None:
    """What is known is summed, at a person's price where there is one; a model without is named."""
    rows = [{"prompt": "x", "model": model, "max_tokens": 1000} for model in ("own-1", "odd-9")]
    house.write("jobs.jsonl", [rows[0], rows[0], rows[1]])
    (house.folder / "batchrunner.toml").write_text('[prices."own-1"]\ninput = 0\noutput = 500\n')
    told = plan(house)
    assert told["cost_usd"] == {"low": 0.0, "high": pytest.approx(1.0)}
    assert [one["cost_usd"] for one in told["models"]] == [pytest.approx(0.4), None]
    assert any("no price of odd-9 is known" in note for note in told["notes"])
    assert "$0.0000 to $1.00" in house.run("plan", "jobs.jsonl", *house.to_api).out
    house.write("jobs.jsonl", [rows[1]])
    assert plan(house)["cost_usd"] is None
    assert "cost        unknown" in house.run("plan", "jobs.jsonl", *house.to_api).out


def test_a_bound_on_money_is_held_beside_the_plan(house: House) -> None:
    """What submit would refuse is refused, and a bound that is too small for a job or for all is told."""
    house.jobs(10, max_tokens=1000)
    for command in (("plan",), ("submit", "-n")):
        done = house.run(*command, "jobs.jsonl", *house.to_api, "--max-cost", "1", code=2)
        assert "--max-cost can't be kept: no price of sim-1 is known" in done.err
        assert "submit it again" in done.err
    (house.folder / "batchrunner.toml").write_text('[prices."sim-1"]\ninput = 0\noutput = 1000\n')
    notes = {
        most: next((n for n in plan(house, "--max-cost", most)["notes"] if "--max-cost" in n), "")
        for most in ("0.000001", "1.5", "20")
    }
    assert notes["0.000001"] == (
        "--max-cost $0.0000010 sends nothing: each job may cost $1.0000 or more"
    )
    assert notes["1.5"] == "--max-cost $1.50 may stop it before the end: it costs up to $10.0000"
    assert not notes["20"]


def test_known_limits_that_do_not_bind_are_not_unknown(house: House) -> None:
    """A limit that is shown is known, though nothing waits for it."""
    house.jobs(1)
    told = house.run("plan", "jobs.jsonl", *house.to_api, "--rpm", "600").out
    assert "600 requests a minute" in told
    assert "none of these" in told
    assert "no limit is known" in house.run("plan", "jobs.jsonl", *house.to_api).out


def test_fields_that_are_set_count(house: House) -> None:
    """What ``--set`` replaces is what is estimated."""
    house.jobs(1)
    assert plan(house, "--set", "max_tokens=7")["tokens"]["output"]["high"] == 7


def test_a_database_of_another_kind_is_left_alone(house: House) -> None:
    """A file that is no database of this version is neither read nor changed."""
    house.jobs(1)
    house.db.write_bytes(b"")
    assert json.dumps(plan(house)["limits"]) == "[]"
    assert house.db.read_bytes() == b""


def test_a_budget_that_is_too_small_is_told(house: House) -> None:
    """How many more days the likely cost takes; nothing where it is enough."""
    prices = '[prices."sim-1"]\ninput = 0\noutput = 10000\n'
    house.jobs(30, max_tokens=100)
    (house.folder / "batchrunner.toml").write_text(f"[budget]\nday = 8\nmonth = 100\n{prices}")
    told = plan(house)
    assert told["models"][0]["cost_usd"] == pytest.approx(30)
    (note,) = [note for note in told["notes"] if note.startswith("[budget]")]
    assert note.startswith(
        "[budget] allows $8.00 a day and has $8.00 left of this one: $30.00 takes 3 more days"
    )


def test_half_a_price_says_which(house: House, api: ApiServer) -> None:
    """A plan's note, and a run's notice, name the half that is missing."""
    (house.folder / "batchrunner.toml").write_text('[prices."odd-9"]\ninput = 5\n')
    house.jobs(2)
    told = plan(house, "--model", "odd-9")
    assert any(note.startswith("no price of the answers of odd-9") for note in told["notes"])
    done = house.submit("--model", "odd-9")
    assert "No price of the answers of odd-9 is known" in done.err


def test_what_is_assumed_of_auto_is_said(house: House) -> None:
    """Without a limit the times are the shortest there can be; with one, it says how many go at once."""

    def assumed(*args: str) -> str:
        return next(note for note in plan(house, *args)["notes"] if note.startswith("assumed"))

    house.jobs(2)
    assert "-c auto begins with 4 and goes that far only while more bring more answers" in assumed()
    assert assumed("--rpm", "50").endswith("as the limits can use, 1,000 at most")
    assert assumed("-c", "7").endswith("7 requests go at once")
