"""What was used is kept by day, and shown beside the limits and the provider's own count."""

from __future__ import annotations

import csv
import io
import sqlite3
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House
from tests.integration.test_money import answer

HEADERS = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "41",
    "anthropic-ratelimit-requests-reset": "2099-01-01T00:00:00Z",
    "anthropic-ratelimit-input-tokens-limit": "30000",
    "anthropic-ratelimit-input-tokens-remaining": "29000",
    "anthropic-ratelimit-input-tokens-reset": "2099-01-01T00:00:00Z",
}


def test_the_providers_own_count_is_shown(house: House, api: ApiServer) -> None:
    """`limits` shows what the headers of the last answer said, of requests and of tokens, and when."""
    last = HEADERS | {"anthropic-ratelimit-requests-remaining": "39"}
    api.script([{"n": 3, "headers": last}, {"headers": HEADERS}])
    house.jobs(3)
    house.submit("-c", "1", "--rpm", "600")
    told = house.run("limits", "--json").json
    by = {one["what"]: one for one in told["said"]}
    assert (by["requests"]["limit"], by["requests"]["remaining"]) == ("50", "39")
    assert by["input-tokens"]["remaining"] == "29000"
    said_at = datetime.fromisoformat(by["requests"]["said_at"]).timestamp()
    assert time.time() - 60 < said_at <= time.time()
    shown = house.run("limits").out
    assert "the provider's own count" in shown
    assert "29000" in shown


def test_usage_by_day_model_and_run(house: House, api: ApiServer) -> None:
    """Every request counts once by its day, model and run, 429s among them, tokens as answered."""
    api.script([{"n": 2, "status": 429, "headers": {"retry-after": "0"}}])
    house.jobs(4)
    house.submit("-c", "1")
    today = datetime.now(UTC).date().isoformat()
    (day,) = usage(house)
    assert (day["day"], day["requests"], day["rate_limited"]) == (today, 5, 1)
    (row,) = usage(house, "--by", "run", "--by", "model")
    view = house.status()
    assert (row["run"], row["day"]) == (view.name, None)
    assert row["model"]
    assert (row["input_tokens"], row["output_tokens"]) == (view.input_tokens, view.output_tokens)
    shown = house.run("usage", "--days", "1").out
    assert today in shown
    assert shown.splitlines()[0].split()[:2] == ["DAY", "REQUESTS"]


def test_usage_of_nothing_sent(house: House, api: ApiServer) -> None:
    """Before the first request it says so, and ends well."""
    house.jobs(1)
    house.submit("--no-run")
    assert "nothing was sent yet" in house.run("usage").err
    assert usage(house) == []
    assert api.requests() == []


@pytest.mark.slow
def test_usage_tells_time_waited_and_for_what(house: House, api: ApiServer) -> None:
    """A pause's time stands with its day, run and account; by model it is not told."""
    api.script([{"n": 2, "status": 429, "headers": {"retry-after": "1"}}])
    house.jobs(3)
    house.submit("-c", "1", "--rpm", "none")
    for by in ("day", "run", "account", "provider"):
        (row,) = usage(house, "--by", by)
        assert 0.7 < row["waits"]["rate_limited"] < 3.0
        assert row["waited_s"] == pytest.approx(sum(row["waits"].values()))
    (row,) = usage(house, "--by", "model")
    assert (row["waits"], row["waited_s"]) == (None, None)
    shown = house.run("usage").out.splitlines()
    assert shown[0].split()[-3:] == ["WAITED", "MOST", "FOR"]
    assert "rate_limited" in shown[1]


@pytest.mark.slow
def test_usage_of_some(house: House) -> None:
    """--run, --model and --since leave out the rest; names that are none are refused with those there are."""
    house.jobs(2)
    house.jobs(3, "more.jsonl", prefix="m")
    house.submit()
    house.submit("--name", "more", "--model", "sim-2", file="more.jsonl")
    assert [row["requests"] for row in usage(house)] == [5]
    assert [row["requests"] for row in usage(house, "--run", "more")] == [3]
    assert [row["requests"] for row in usage(house, "--model", "sim-1")] == [2]
    assert usage(house, "--run", "more", "--model", "sim-1") == []
    assert usage(house, "--since", "2099-01-01") == []
    assert [row["requests"] for row in usage(house, "--since", "36h", "--by", "provider")] == [5]
    assert "There was to: sim-1, sim-2." in house.run("usage", "--model", "x", code=2).err
    assert "There is no run 'x'" in house.run("usage", "--run", "x", code=2).err
    assert "'soon' is no day" in house.run("usage", "--since", "soon", code=2).err
    both = house.run("usage", "--csv", "--chart", code=2).err
    assert "--csv and --chart are two shapes" in both


def test_usage_as_csv_and_as_bars(house: House) -> None:
    """--csv has the names of --json and a column a cause; --chart fits its width, in ASCII where it must."""
    house.jobs(4)
    house.submit("--rpm", "600")
    (row,) = list(csv.DictReader(io.StringIO(house.run("usage", "--by", "run", "--csv").out)))
    (told,) = usage(house, "--by", "run")
    assert (row["run"], row["requests"]) == ("jobs", "4")
    assert float(row["waited_s"]) == pytest.approx(told["waited_s"], abs=0.001)
    assert float(row["waited_s.rpm"]) == pytest.approx(told["waits"]["rpm"], abs=0.001)
    today = datetime.now(UTC).date().isoformat()
    head, line = house.run("usage", "--chart", environ={"COLUMNS": "30"}).out.splitlines()
    assert (head, line) == ("requests by day", f"{today}  4  {'█' * 15}")
    ascii_only = {"PYTHONIOENCODING": "ascii", "COLUMNS": "24"}
    line = house.run("usage", "--chart", "tokens", environ=ascii_only).out.splitlines()[1]
    assert line.endswith("#")
    assert len(line) <= 24


def test_usage_outlives_its_run(house: House, api: ApiServer) -> None:
    """What a pruned run used and how long it waited stay, without its name; its waits go."""
    api.script([{"n": 2, "status": 429, "headers": {"retry-after": "1"}}])
    house.jobs(3)
    house.submit("-c", "1", "--rpm", "none")
    before = usage(house, "--by", "day", "--by", "account")
    house.run("db", "prune", "jobs", "-y")
    assert usage(house, "--by", "day", "--by", "account") == before
    (row,) = usage(house, "--by", "run")
    assert (row["run"], row["requests"]) == ("(deleted)", 4)
    assert row["waits"]["rate_limited"] > 0.7
    with sqlite3.connect(house.db) as connection:
        assert connection.execute("SELECT count(*) FROM wait").fetchone() == (0,)
    connection.close()


def test_tokens_that_no_answer_told_are_unknown(house: House, api: ApiServer) -> None:
    """Plain HTTP tells none: no number in table, chart, CSV and JSON; rows in which one was told have the sum."""
    house.write("http.jsonl", [{"custom_id": "a", "method": "POST", "url": "/x", "body": {"n": 1}}])
    api.script([{"path": "/x", "body": {"ok": True}}])
    house.run("submit", "http.jsonl", "--provider", "http", "--base-url", house.url)
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    (row,) = usage(house)
    assert [row[name] for name in names] == [None] * 4
    (told,) = csv.DictReader(io.StringIO(house.run("usage", "--csv").out))
    assert [told[name] for name in names] == [""] * 4
    assert house.run("usage").out.splitlines()[1].split()[1:5] == ["1", "0", "-", "-"]
    assert house.run("usage", "--chart", "tokens").out.split()[-1] == "-"
    house.jobs(2)
    house.submit()
    view = house.status()
    (row,) = usage(house)
    assert (row["input_tokens"], row["output_tokens"]) == (view.input_tokens, view.output_tokens)
    by_run = {row["run"]: row["input_tokens"] for row in usage(house, "--by", "run")}
    assert by_run == {"http": None, "jobs": view.input_tokens}


def test_tokens_that_answers_told_to_be_none_are_0(house: House, api: ApiServer) -> None:
    """An answer of no tokens is no unknown one."""
    api.script([{"body": answer({"input_tokens": 9, "output_tokens": 0})}])
    house.jobs(1)
    house.submit()
    (row,) = usage(house)
    assert (row["input_tokens"], row["output_tokens"]) == (9, 0)


def usage(house: House, *words: str) -> list[dict[str, Any]]:
    """Return the rows of ``usage --json``."""
    rows: list[dict[str, Any]] = house.run("usage", *words, "--json").json["usage"]
    return rows
