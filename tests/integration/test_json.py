"""JSON word for word: events, views, failures — every key there, of its type, from the first day."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House

TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")
COLUMNS: Final = [
    "key",
    "status",
    "attempts",
    "http_status",
    "error_kind",
    "error_message",
    "model",
    "output_text",
    "finish_reason",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "latency_ms",
    "request_id",
    "started_at",
    "finished_at",
]
COUNTS: Final = ("total", "pending", "running", "completed", "failed", "cancelled")
NUMBERS: Final = {"attempts", "http_status", "input_tokens", "output_tokens", "latency_ms"}


def check_time(value: Any) -> None:
    """Check an instant: RFC 3339 in UTC with milliseconds."""
    assert isinstance(value, str)
    assert TIME.match(value), value


def check_counts(counts: dict[str, Any], *, total: int) -> None:
    """Check a run's counts: all of them, and that they add up."""
    assert list(counts) == list(COUNTS)
    assert all(type(n) is int for n in counts.values())
    assert counts["total"] == total == sum(counts.values()) - counts["total"]


def check_waiting(waiting: dict[str, Any] | None, reason: str) -> None:
    """Check why a run waits."""
    assert waiting is not None
    assert waiting["reason"] == reason
    assert set(waiting) >= {"reason", "until", "detail"}
    assert isinstance(waiting["detail"], str)
    if waiting["until"] is not None:
        check_time(waiting["until"])


def check_job(row: dict[str, Any], columns: list[str]) -> None:
    """Check a job's columns and their types."""
    assert set(columns) <= set(row)
    for name in columns:
        value = row[name]
        if name in ("started_at", "finished_at"):
            if value is not None:
                check_time(value)
        elif name == "cost_usd":
            assert value is None or isinstance(value, float)
        elif name in NUMBERS:
            assert value is None or type(value) is int, (name, value)
        else:
            assert value is None or isinstance(value, str), (name, value)


def check_status(view: dict[str, Any], *, state: str, total: int) -> None:
    """Check the whole shape of a run's status."""
    run = view["run"]
    assert {"id", "name", "state", "provider", "created_at", "runner"} <= set(run)
    assert run["state"] == state
    check_time(run["created_at"])
    if run["runner"] is not None:
        assert {"pid", "host", "user", "since"} <= set(run["runner"])
        assert type(run["runner"]["pid"]) is int
        assert run["runner"]["host"]
        assert run["runner"]["user"]
        check_time(run["runner"]["since"])
    check_counts(view["jobs"], total=total)
    assert list(view["requests"]) == ["sent", "retried", "rate_limited", "interrupted"]
    assert all(type(n) is int for n in view["requests"].values())
    for limit in view["limits"]:
        assert {"limit", "value", "source", "used", "remaining", "resets_at"} <= set(limit)
    assert list(view["tokens"]) == ["input", "output"]
    assert "cost_usd" in view
    assert list(view["rate"]) == ["requests_per_minute", "eta"]


def test_events_of_a_run(house: House, api: ApiServer) -> None:
    """submit --json prints one event a line: stored, started, each job's end and retry with the columns, finished with the counts."""
    api.script(
        [
            {"contains": "say j1;", "status": 400, "body": "no"},
            {"contains": "say j2;", "times": 1, "status": 500},
        ]
    )
    house.jobs(5)
    done = house.submit(code=1)
    assert all(json.loads(line)["version"] == 1 for line in done.out.splitlines())
    names = [event["event"] for event in done.events]
    assert names[:2] == ["run.stored", "run.started"]
    assert names[-1] == "run.finished"
    assert names.count("job.completed") == 4
    assert names.count("job.failed") == names.count("job.retry") == 1
    run = {"id": house.status().id, "name": "jobs"}
    job_columns = [name for name in COLUMNS if name != "output_text"]
    for event in done.events:
        check_time(event["at"])
        assert event["run"] == run
        if event["event"].startswith("job."):
            check_job(event, job_columns)
            assert "output_text" not in event
    check_counts(done.events[-1]["jobs"], total=5)
    (failed,) = done.named("job.failed")
    assert (failed["key"], failed["status"], failed["attempts"]) == ("j1", "failed", 1)
    assert (failed["http_status"], failed["error_kind"]) == (400, "invalid_request")
    (retried,) = done.named("job.retry")
    assert (retried["key"], retried["error_kind"], retried["http_status"]) == (
        "j2",
        "server_error",
        500,
    )


def test_events_of_a_wait_and_a_halt(house: House, api: ApiServer) -> None:
    """A wait is told when it begins and ends, a stop as run.halted with the counts and why, then the failure object."""
    api.script([{"n": 2, "status": 429, "headers": {"retry-after": "3"}}])
    house.jobs(4)
    done = house.submit("-c", "1", "--rpd", "3", "--no-wait", code=3)
    (first, *_) = done.named("limit.waiting")
    check_waiting(first["waiting"], "rate_limited")
    assert done.named("limit.resumed")[0]["waiting"] is None
    (halted,) = done.named("run.halted")
    check_waiting(halted["waiting"], "daily_limit")
    check_counts(halted["jobs"], total=4)
    assert set(done.error) == {"exit_code", "kind", "message", "fix", "lines"}
    assert (done.error["exit_code"], done.error["kind"], done.error["lines"]) == (
        3,
        "daily_limit",
        [],
    )


def test_status_while_running_waiting_and_finished(house: House, api: ApiServer) -> None:
    """status --json has the same keys in every state, with the runner only while it lives."""
    api.script([{"n": 1}, {"n": 2, "fault": "hang"}])
    house.jobs(4)
    running = house.start_submit("-c", "1", "--rpd", "2", "--timeout", "4", "--max-attempts", "1")
    running.sees("job.completed")
    view = house.run("status", "--json").json
    assert view["version"] == 1
    check_status(view, state="running", total=4)
    assert view["run"]["runner"]["pid"] == running.process.pid
    assert view["waiting"] is None
    running.sees("limit.waiting")
    view = house.run("status", "--json").json
    check_status(view, state="waiting", total=4)
    check_waiting(view["waiting"], "daily_limit")
    rpd = next(limit for limit in view["limits"] if limit["limit"] == "rpd")
    assert (rpd["value"], rpd["used"], rpd["remaining"], rpd["source"]) == (2, 2, 0, "flag")
    check_time(rpd["resets_at"])
    running.kill()
    view = house.run("status", "--json").json
    check_status(view, state="ready", total=4)
    assert view["run"]["runner"] is None
    house.resume("--rpd", "none", "--max-attempts", "3", code=None)
    view = house.run("status", "jobs", "--json").json
    check_status(view, state="finished", total=4)
    assert view["waiting"] is None
    assert view["requests"]["sent"] >= 4


def test_lists(house: House, api: ApiServer) -> None:
    """runs, jobs, errors and limits are lists under their names; job rows have the CSV's names."""
    api.script([{"contains": "say j1;", "status": 400, "body": "no"}])
    house.jobs(3, metadata={"row": 7})
    house.submit("--rpm", "6000", code=1)
    runs = house.run("runs", "--json").json
    assert runs["version"] == 1
    assert [row["run"]["name"] for row in runs["runs"]] == ["jobs"]
    jobs = house.run("jobs", "--json").json["jobs"]
    assert [row["key"] for row in jobs] == ["j0", "j1", "j2"]
    for row in jobs:
        check_job(row, COLUMNS)
        assert row["metadata"] == {"row": 7}
    (only,) = house.run("jobs", "--json", "--status", "failed").json["jobs"]
    assert only["key"] == "j1"
    (group,) = house.run("errors", "--json").json["errors"]
    assert (group["kind"], group["count"]) == ("invalid_request", 1)
    assert group["fix"]
    limits = house.run("limits", "--json").json["limits"]
    rpm = next(row for row in limits if row["limit"] == "rpm")
    assert (rpm["value"], rpm["source"]) == (6000, "flag")
    shown = house.run("show", "jobs", "j1", "--json").json["job"]
    check_job(shown, COLUMNS)
    assert shown["response"] == "no"
    assert len(shown["sends"]) == 1


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["status"], 2),
        (["submit", "not-there.jsonl", "--provider", "simulator"], 2),
        (["submit"], 2),
        (["no-such-command"], 2),
        (["status", "--no-such-option"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_failures_are_objects(house: House, args: list[str], code: int) -> None:
    """A failure with --json prints one object that names exit code, kind, message and fix."""
    done = house.run(*args, "--json", code=code)
    error = done.json["error"]
    assert error["exit_code"] == code
    assert error["kind"]
    assert error["message"]
    assert error["lines"] == []
    assert "Traceback" not in done.err


def test_a_run_that_is_over_says_so(house: House, api: ApiServer) -> None:
    """submit and resume of a finished run end with run.finished, like the call that finished it, and once."""
    api.script([{"contains": "say j1;", "status": 400, "body": "no"}])
    house.jobs(2)
    first = house.submit(code=1)
    for again in (house.submit(code=1), house.resume(code=1)):
        (event,) = again.named("run.finished")
        assert event["run"]["name"] == "jobs"
        assert event["jobs"] == first.named("run.finished")[0]["jobs"]
        assert again.events[-1] == event
    assert len(first.named("run.finished")) == 1


def test_a_follower_tells_the_end(house: House, api: ApiServer) -> None:
    """A call that followed another process's run ends with run.finished too."""
    api.script([{"delay_s": 0.2}])
    house.jobs(12)
    sender = house.start_submit("-c", "1")
    sender.sees("job.completed")
    follower = house.start_submit()
    done = follower.ended(0)
    sender.ended(0)
    assert [event["jobs"]["completed"] for event in done.named("run.finished")] == [12]
