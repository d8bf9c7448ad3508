"""``plan --count-tokens``: a provider counts a few requests, within the limits, and nothing else goes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House

COUNT = "/v1/messages/count_tokens"


def plan(house: House, *words: str, code: int = 0) -> Any:
    """Return what ``plan --json`` prints."""
    return house.run("plan", "jobs.jsonl", *house.to_api, "--json", *words, code=code).json


def test_a_sample_is_counted_and_scaled(house: House, api: ApiServer) -> None:
    """So many requests and no more, without what the endpoint does not take; the sum is scaled from them."""
    api.script([{"path": COUNT, "body": {"input_tokens": 200}}])
    house.jobs(30, max_tokens=500, system="be brief")
    told = plan(house, "--count-tokens", "10")
    sent = api.requests()
    assert [request.path for request in sent] == [COUNT] * 10
    assert all(set(json.loads(request.body)) == {"model", "messages", "system"} for request in sent)
    (count,) = told["counted"]
    assert (count["model"], count["counted"], count["jobs"]) == ("sim-1", 10, 30)
    assert told["models"][0]["input_tokens"] == pytest.approx(30 * 200, rel=0.02)
    span = told["tokens"]["input"]
    assert span["low"] <= 30 * 200 <= span["high"]
    assert span["high"] - span["low"] < 0.05 * 30 * 200
    assert any(note.startswith("the provider counted 10 of the 30") for note in told["notes"])
    assert not house.db.exists()


def test_what_can_not_be_counted_is_estimated(house: House, api: ApiServer) -> None:
    """An endpoint that is not there, or says enough: what was counted by then counts, and it is said."""
    house.jobs(12)
    api.script([{"path": COUNT, "status": 404}])
    told, bare = plan(house, "--count-tokens"), plan(house)
    assert told["counted"] == []
    assert told["tokens"] == bare["tokens"]
    assert told["notes"][0].startswith("the provider did not count all of them")
    assert "HTTP 404" in told["notes"][0]
    assert len(api.requests()) == 3
    api.script([{"path": COUNT, "n": [1, 2, 3], "body": {"input_tokens": 50}}, {"status": 429}])
    (count,) = plan(house, "--count-tokens")["counted"]
    assert count["counted"] == 3


def test_it_keeps_to_the_accounts_limits(house: House, api: ApiServer) -> None:
    """What a day's limit has left is what may be counted, and then it is used up."""
    house.jobs(2)
    house.submit("--rpd", "5")
    n_before = len(api.requests())
    api.script([{"path": COUNT, "body": {"input_tokens": 50}}])
    house.jobs(20)
    told = plan(house, "--count-tokens")
    assert len(api.requests()) - n_before == 3
    assert told["counted"][0]["counted"] == 3
    assert "limits admit no request" in told["notes"][0]
    (limit,) = [view for view in house.app.limits() if view.limit == "rpd"]
    assert limit.remaining == 0


@pytest.mark.slow
def test_geminis_endpoint_takes_the_whole_request(house: House, api: ApiServer) -> None:
    """The model is in the path, and the request in it, so that system and tools are counted."""
    api.script([{"body": {"totalTokens": 70}}])
    house.jobs(6, system="be brief")
    to_api = ("--provider", "gemini", "--base-url", f"{house.url}/v1beta", "--model", "gemini-x")
    told = house.run(
        "plan",
        "jobs.jsonl",
        *to_api,
        "--json",
        "--count-tokens",
        "6",
        environ={"GEMINI_API_KEY": "k"},
    ).json
    assert told["counted"][0]["error"] == 0
    assert told["models"][0]["input_tokens"] == pytest.approx(420, abs=6)
    assert {request.path for request in api.requests()} == {"/v1beta/models/gemini-x:countTokens"}
    inner = json.loads(api.requests()[0].body)["generateContentRequest"]
    assert inner["model"] == "models/gemini-x"
    assert {"contents", "systemInstruction"} <= inner.keys()


def test_where_nobody_counts_it_is_refused(house: House, api: ApiServer) -> None:
    """A provider without an endpoint, and files that can be read once, end with 2 and what to do."""
    house.jobs(2)
    openai = ("--provider", "openai", "--base-url", f"{house.url}/v1", "--model", "m")
    done = house.run("plan", "jobs.jsonl", *openai, "--count-tokens", code=2)
    assert "no endpoint that counts tokens" in done.err
    built_in = ("--provider", "simulator", "--model", "m")
    done = house.run("plan", "jobs.jsonl", *built_in, "--count-tokens", code=2)
    assert "Simulator has no endpoint that counts tokens" in done.err
    piped = (house.folder / "jobs.jsonl").read_bytes()
    done = house.run("plan", "-", *house.to_api, "--count-tokens", code=2, stdin=piped)
    assert "Write the jobs into a file" in done.err
    assert not api.requests()
