"""Each provider's form, from the line to the request on the wire and back to the columns."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House

KEY = "sk-proj-" + "k" * 40


def test_openai_chat_responses_and_embeddings(house: House, api: ApiServer) -> None:
    """OpenAI batch lines go to their own paths with the key as a bearer, and each answer's text and tokens come back."""
    chat = {"model": "sim-1", "messages": [{"role": "user", "content": "hello"}]}
    house.write(
        "jobs.jsonl",
        [
            {"custom_id": "chat", "method": "POST", "url": "/v1/chat/completions", "body": chat},
            {
                "custom_id": "resp",
                "method": "POST",
                "url": "/v1/responses",
                "body": {"model": "sim-1", "input": "hello"},
            },
            {
                "custom_id": "emb",
                "method": "POST",
                "url": "/v1/embeddings",
                "body": {"model": "sim-1", "input": "hello"},
            },
        ],
    )
    house.run(
        "submit", "jobs.jsonl", "--base-url", f"{api.url}/v1", environ={"OPENAI_API_KEY": KEY}
    )
    assert sorted(r.path for r in api.requests()) == [
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/responses",
    ]
    assert len({r.auth for r in api.requests()}) == 1
    assert api.requests()[0].auth is not None
    rows = {row["key"]: row for row in house.csv()}
    assert rows["chat"]["output_text"]
    assert rows["resp"]["output_text"]
    assert all(row["status"] == "completed" and row["input_tokens"] for row in rows.values())
    assert rows["chat"]["finish_reason"] == "stop"


def test_bare_bodies_go_to_the_default_endpoint(house: House, api: ApiServer) -> None:
    """A bare OpenAI body with messages is a chat completion, with input a response."""
    house.write(
        "jobs.jsonl",
        [
            {
                "custom_id": "a",
                "model": "sim-1",
                "messages": [{"role": "user", "content": "x"}],
                "metadata": {"row": 1},
            },
            {"custom_id": "b", "model": "sim-1", "input": "y"},
        ],
    )
    house.run("submit", "jobs.jsonl", "--provider", "openai", "--base-url", f"{api.url}/v1")
    assert {r.path for r in api.requests()} == {"/v1/chat/completions", "/v1/responses"}
    assert not any("metadata" in r.json or "custom_id" in r.json for r in api.requests())
    assert house.csv()[0]["metadata.row"] == "1"


def test_anthropic_batch_lines(house: House, api: ApiServer) -> None:
    """params are the body as they are, params.metadata included, with the version header and the key."""
    params: dict[str, Any] = {
        "model": "sim-1",
        "max_tokens": 10,
        "messages": [{"role": "user", "content": "hi"}],
        "metadata": {"user_id": "u"},
    }
    house.write("jobs.jsonl", [{"custom_id": "a", "params": params}])
    house.run(
        "submit", "jobs.jsonl", "--base-url", api.url,
        environ={"ANTHROPIC_API_KEY": "sk-ant-api03-" + "x" * 40},
    )  # fmt: skip
    (request,) = api.requests()
    assert request.json == params
    assert request.path == "/v1/messages"
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert request.auth is not None


def test_plain_http_with_get_post_and_filled_headers(house: House, api: ApiServer) -> None:
    """http lines are sent as they say, ${VAR} is filled in at the send only, and the body is the output."""
    api.script(
        [
            {"method": "GET", "body": "plain words", "headers": {"content-type": "text/plain"}},
            {"method": "POST", "body": {"ok": True}},
        ]
    )
    house.write(
        "jobs.jsonl",
        [
            {
                "custom_id": "g",
                "method": "GET",
                "url": "/geo?q=a%20b",
                "headers": {"X-K": "${TOKEN}"},
            },
            {"custom_id": "p", "method": "POST", "url": "/put", "body": {"n": 1}},
        ],
    )
    house.run(
        "submit", "jobs.jsonl", "--provider", "http", "--base-url", api.url,
        "-H", "Authorization: Bearer ${TOKEN}",
        environ={"TOKEN": "very-secret-token"},
    )  # fmt: skip
    get, post = sorted(api.requests(), key=lambda r: r.method)
    assert (get.method, get.path, get.query, get.headers["x-k"]) == (
        "GET", "/geo", {"q": "a b"}, "very-secret-token",
    )  # fmt: skip
    assert get.auth == post.auth is not None
    assert (post.method, post.json) == ("POST", {"n": 1})
    rows = {row["key"]: row for row in house.csv()}
    assert rows["g"]["output_text"] == "plain words"
    assert json.loads(rows["p"]["output_text"]) == {"ok": True}
    assert b"very-secret-token" not in house.db.read_bytes()


def test_a_variable_that_is_not_set_is_named(house: House, api: ApiServer) -> None:
    """A header whose variable is missing exits 2 and names it; nothing is sent."""
    house.jobs(1)
    done = house.submit("-H", "X-K: ${NOT_THERE}", code=None)
    assert done.code == 2
    assert "NOT_THERE" in done.error["message"] + done.error["fix"]
    assert api.requests() == []


@pytest.mark.parametrize(
    ("stop", "status"), [("refusal", "completed"), ("max_tokens", "completed")]
)
def test_an_answer_that_is_cut_is_an_answer(
    house: House, api: ApiServer, stop: str, status: str
) -> None:
    """A 200 that refuses or is cut is completed, and finish_reason says so."""
    body = {
        "id": "m", "type": "message", "role": "assistant", "model": "sim-1", "stop_reason": stop,
        "content": [{"type": "text", "text": "so far"}],
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }  # fmt: skip
    api.script([{"body": body}])
    house.jobs(1)
    house.submit()
    (row,) = house.csv()
    assert (row["status"], row["finish_reason"], row["output_text"]) == (status, stop, "so far")


def test_limits_are_learned_from_anthropics_headers(house: House, api: ApiServer) -> None:
    """Request limits that responses name are kept to, shown with their source, and survive the process."""
    headers = {
        "anthropic-ratelimit-requests-limit": "1200",
        "anthropic-ratelimit-requests-remaining": "1199",
        "anthropic-ratelimit-requests-reset": "2999-01-01T00:00:00Z",
        "anthropic-organization-id": "org-42",
    }
    api.script([{"headers": headers}])
    house.jobs(12)
    house.submit()
    requests = api.requests()
    assert requests[-1].mono - requests[1].mono > 0.3, "paced at twenty a second"
    shown = house.run("limits", "--json").json["limits"]
    rpm = next(row for row in shown if row["limit"] == "rpm")
    assert (rpm["value"], rpm["source"], rpm["used"]) == (1200, "header", 12)
    changed = house.run("limits", "set", "--account", "org-42", "rpm=600")
    assert "600" in changed.out + changed.err, "the account goes by the organization's name too"


def test_limits_are_learned_from_openais_headers(house: House, api: ApiServer) -> None:
    """OpenAI's form of the headers is learned too."""
    headers = {
        "x-ratelimit-limit-requests": "600",
        "x-ratelimit-remaining-requests": "599",
        "x-ratelimit-reset-requests": "100ms",
    }
    api.script([{"headers": headers}])
    house.write(
        "jobs.jsonl", [{"custom_id": f"k{i}", "model": "sim-1", "input": f"y{i}"} for i in range(5)]
    )
    house.run("submit", "jobs.jsonl", "--provider", "openai", "--base-url", f"{api.url}/v1")
    rpm = next(limit for limit in house.app.limits() if limit.limit == "rpm")
    assert (rpm.value, rpm.source, rpm.used) == (600, "header", 5)
