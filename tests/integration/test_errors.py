"""``errors`` says what went wrong and what helps, and ``retry --error`` puts just that back."""

from __future__ import annotations

import shlex

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House

KEY = "sk-ant-api03-abcdefghijklmnopqrst"


def refusal(message: str, kind: str = "invalid_request_error") -> dict[str, object]:
    """Return an error body as Anthropic's API words it."""
    return {"type": "error", "error": {"type": kind, "message": message}}


def test_failures_are_told_by_cause_and_put_back_by_kind(house: House, api: ApiServer) -> None:
    """Counts, causes, times and a fix that works as it is printed: retry --error KIND runs those jobs and no others."""
    api.script(
        [
            {"contains": "say j1;", "status": 400, "body": refusal("temperature: 3 is above 2")},
            {"contains": "say j2;", "status": 400, "body": refusal("temperature: 4 is above 2")},
            {"contains": "say j3;", "status": 400, "body": refusal("messages: field required")},
            {"contains": "say j4;", "status": 413, "body": refusal("too big", "request_too_large")},
        ]
    )
    house.jobs(6)
    house.submit(code=1)
    done = house.run("errors", "--json")
    rows = done.json["errors"]
    assert [(row["kind"], row["http_status"], row["count"]) for row in rows] == [
        ("invalid_request", 400, 3), ("request_too_large", 413, 1),
    ]  # fmt: skip
    causes = [(cause["count"], cause["example_key"]) for cause in rows[0]["causes"]]
    assert causes == [(2, "j1"), (1, "j3")]
    assert rows[0]["first_at"] <= rows[0]["last_at"]
    assert rows[0]["first_at"].endswith("Z")
    told = house.run("errors")
    assert "invalid_request (400): 3 jobs" in told.out
    assert "2 jobs: temperature: 3 is above 2 (j1)" in told.out
    assert "--error invalid_request" in told.out
    api.script([])
    before = len(api.requests())
    house.run("retry", "jobs", "--error", "invalid_request", code=1)
    assert len(api.requests()) == before + 3
    assert {key for key, job in house.rows().items() if job.status == "failed"} == {"j4"}


def test_jobs_of_a_held_model_and_a_halt_are_told(house: House, api: ApiServer) -> None:
    """Where nothing has failed, errors tells what waits, what the run stands for, and the fix."""
    api.script([{"status": 404, "body": refusal("model: sim-1", "not_found_error")}])
    house.jobs(3)
    house.submit(code=4)
    (row,) = house.run("errors", "--json").json["errors"]
    assert (row["kind"], row["held_model"], row["count"]) == ("model_not_found", "sim-1", 3)
    told = house.run("errors")
    assert "3 jobs of sim-1 wait, nothing has failed" in told.out
    assert "the run stands: " in told.err


def test_a_held_model_has_one_fix(house: House, api: ApiServer) -> None:
    """What the list of models adds to the fix of a halt is the fix of the held jobs too, and is told once."""
    models = {"data": [{"id": "sim-2"}, {"id": "other"}]}
    api.script(
        [
            {"path": "/v1/models", "body": models},
            {"status": 404, "body": refusal("model: sim-1", "not_found_error")},
        ]
    )
    house.jobs(3)
    house.submit("--name", "t", code=4)
    shown = house.run("errors", "--json").json
    assert "resume t --set model=sim-2" in shown["waiting"]["fix"]
    assert [row["fix"] for row in shown["errors"]] == [shown["waiting"]["fix"]]
    told = house.run("errors")
    assert f"{told.out}{told.err}".count("--set model=") == 1


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (["sim-1", "sim-2"], "The key can use sim-1, sim-2 (from the provider's list"),
        (["sim-2", "other"], "batchrunner resume t --set model=sim-2"),
    ],
    ids=["listed", "not listed"],
)
def test_a_403_that_names_no_model_lists_those_that_the_key_can_use(
    house: House, api: ApiServer, models: list[str], words: str
) -> None:
    """It halts with one request; a second, counted, asks for the list, which tells whether it is the model."""
    api.script(
        [
            {"path": "/v1/models", "body": {"data": [{"id": name} for name in models]}},
            {"status": 403, "body": refusal("Not allowed here", "permission_error")},
        ]
    )
    house.jobs(3)
    done = house.submit("--name", "t", code=4)
    assert done.error["kind"] == "permission"
    assert done.error["fix"].startswith("Have the permission granted to the key")
    assert words in done.error["fix"]
    assert [request.method for request in api.requests()] == ["POST", "GET"]
    assert sum(row.requests for row in house.app.usage()) == 2
    assert house.status().waiting is not None
    assert words in house.run("status").out
    assert house.counts().pending == 3
    again = house.resume(code=4)
    assert words in again.error["fix"], "a later halt asks again"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("This API key has expired.", "has expired"),
        ("API key is inactive", "no longer good"),
        ("API key has been revoked", "no longer good"),
        ("invalid x-api-key", "invalid x-api-key"),
    ],
)
def test_a_key_that_the_provider_refuses_halts_with_its_reason(
    house: House, api: ApiServer, message: str, words: str
) -> None:
    """Expired, inactive, revoked, invalid: one request, exit 4, the reason and the variable named; mended, resume goes on."""
    api.script([{"status": 401, "body": refusal(message, "authentication_error")}])
    house.jobs(3)
    done = house.submit(code=4, environ={"ANTHROPIC_API_KEY": KEY})
    assert done.error["kind"] == "authentication"
    assert words in done.error["message"]
    assert "ANTHROPIC_API_KEY" in done.error["fix"]
    assert len(api.requests()) == 1
    told = house.run("errors")
    assert "no job has failed" in told.err
    assert words in told.err
    api.script([])
    house.resume(environ={"ANTHROPIC_API_KEY": f"{KEY}-2"})
    assert house.counts().completed == 3


PAGE = {
    "headers": {"content-type": "text/html"},
    "body": "<html><title>Nothing here</title></html>",
}


@pytest.mark.parametrize(
    "rule",
    [
        {"status": 404, **PAGE},
        {"status": 404, "body": "404 page not found"},
        {"status": 404, "body": {"detail": "Not Found"}},
        {"status": 405, "body": {"detail": "Method Not Allowed"}},
        {"status": 501, **PAGE},
        {"status": 400, **PAGE},
    ],
    ids=["404-page", "404-text", "404-json", "405", "501-page", "400-page"],
)
def test_an_address_with_nothing_behind_it_is_told_with_the_one_that_was_meant(
    house: House, api: ApiServer, rule: dict[str, object]
) -> None:
    """A few jobs fail with the address; the command that errors gives, pasted, runs them all."""
    api.script([{"path": "/chat/completions", **rule}])
    house.jobs(3)
    done = house.run(
        "submit", "jobs.jsonl", "--provider", "openai", "--model", "sim-1",
        "--base-url", api.url, "--name", "n b", "--max-attempts", "1", code=1,
    )  # fmt: skip
    assert "try again: " in done.err.replace("    ", " ")
    row = house.rows()["j0"]
    assert f"{api.url}/chat/completions" in str(row.error_message)
    (group,) = house.run("errors", "--json").json["errors"]
    command = shlex.split(group["fix"].partition("batchrunner ")[2])
    assert command[0] == "retry"
    assert command[-2:] == ["--base-url", f"{api.url}/v1"]
    house.run(*command)
    assert house.counts().completed == 3


def test_many_jobs_at_an_address_with_nothing_behind_it_stop_with_it(
    house: House, api: ApiServer
) -> None:
    """After ten that fail alike the run stops, nothing has failed, and the fix has the address."""
    api.script([{"path": "/chat/completions", "status": 404, **PAGE}])
    house.jobs(30)
    house.run(
        "submit", "jobs.jsonl", "--provider", "openai", "--model", "sim-1",
        "--base-url", api.url, code=3,
    )  # fmt: skip
    waiting = house.status().waiting
    assert waiting is not None
    assert (waiting.reason, house.counts().pending) == ("same_error", 30)
    house.run(*shlex.split(waiting.fix.partition("batchrunner ")[2]))
    assert house.counts().completed == 30


def test_a_404_at_an_address_that_has_answered_is_the_jobs_own(
    house: House, api: ApiServer
) -> None:
    """Once a job has succeeded there, one whose own path leads nowhere fails alone."""
    api.script([{"contains": "say j1;", "status": 404, **PAGE}])
    house.jobs(3)
    house.submit("-c", "1", code=1)
    row = house.rows()["j1"]
    assert (row.status, row.error_kind, row.http_status) == ("failed", "invalid_request", 404)
    assert house.counts().completed == 2


def test_jobs_with_addresses_of_their_own_fail_alone(house: House, api: ApiServer) -> None:
    """With --provider http a 404 says nothing of the other lines, though it is the first answer."""
    api.script([{"path": "/a", "status": 404, "body": "no"}, {"body": "ok"}])
    house.write("jobs.jsonl", [{"custom_id": p, "url": f"/{p}"} for p in ("a", "b")])
    house.run("submit", "jobs.jsonl", "--provider", "http", "--base-url", api.url, code=1)
    assert {key: job.status for key, job in house.rows().items()} == {
        "a": "failed", "b": "completed",
    }  # fmt: skip


def test_a_run_whose_jobs_failed_says_how_to_try_again(house: House, api: ApiServer) -> None:
    """submit and resume of a run with nothing left name retry, with the run and its database; it works as printed."""
    api.script([{"status": 400, "body": refusal("no")}])
    house.jobs(2)
    place = ("--db", str(house.folder / "an other.db"))
    done = house.run("submit", "jobs.jsonl", *house.to_api, *place, code=1)
    again = house.run("resume", *place, code=1)
    lines = [line for told in (done, again) for line in told.err.splitlines()]
    commands = [line.partition("batchrunner ")[2] for line in lines if line.startswith("try again")]
    assert [shlex.split(command) for command in commands] == [["retry", "jobs", *place]] * 2
    api.script([])
    house.run(*shlex.split(commands[0]))
    assert len(api.requests()) == 4


def test_retry_of_a_kind_that_no_job_has_says_which_there_are(house: House, api: ApiServer) -> None:
    """Nothing is put back or sent; the kinds there are come with counts, and a misspelt one with the nearest."""
    api.script(
        [
            {"contains": "say j0;", "status": 413, "body": refusal("big", "request_too_large")},
            {"from": 1, "status": 400, "body": refusal("no")},
        ]
    )
    house.jobs(4)
    house.submit(code=1)
    done = house.run("retry", "jobs", "--error", "timeout", code=1)
    assert "no job of jobs was put back" in done.err
    assert "3 invalid_request, 1 request_too_large" in done.err
    assert len(api.requests()) == 4
    wrong = house.run("retry", "jobs", "--error", "invalid-requst", code=2)
    assert "Did you mean invalid_request?" in wrong.err
    assert house.counts().failed == 4


def test_the_commands_of_fixes_quote_the_runs_name(house: House, api: ApiServer) -> None:
    """A run whose name has a space is found by the commands as they are printed: of errors, and of a stop."""
    api.script([{"contains": "say j1;", "status": 400, "body": refusal("no")}])
    house.jobs(12)
    house.submit("--name", "my run", code=1)
    (group,) = house.app.errors()
    command = shlex.split(group.fix.partition("batchrunner ")[2])
    assert command[:4] == ["retry", "my run", "--error", "invalid_request"]
    api.script([{"status": 400, "body": refusal("no")}])
    house.jobs(12, "more.jsonl", prefix="k")
    done = house.submit("--name", "my more", file="more.jsonl", code=3)
    assert done.error["fix"].endswith("batchrunner resume 'my more'")
    shown = house.run("status").out
    assert shown.count("batchrunner resume 'my more'") == 2, "as the fix, and as what is next"
