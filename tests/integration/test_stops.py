"""Failures: retried with backoff, charged, bounded; and where a run stops because of them."""

from __future__ import annotations

import json

import pytest

from batchrunner.models import RunState, WaitingReason
from tests.fakes import ApiServer
from tests.integration.house import House

BAD_REQUEST = {"type": "error", "error": {"type": "invalid_request_error", "message": "no thanks"}}


def test_a_job_of_its_own_failure_is_retried_then_fails(house: House, api: ApiServer) -> None:
    """A job that alone keeps failing is tried --max-attempts times with pauses between, fails, keeps its last answer, and the run exits 1."""
    api.script([{"contains": "say j2;", "status": 500}])
    house.jobs(8)
    done = house.submit("--max-attempts", "3", code=1)
    tries = [r for r in api.requests() if "say j2;" in r.prompt]
    assert [r.status for r in tries] == [500, 500, 500]
    job = house.rows()["j2"]
    assert (job.status, job.attempts, job.http_status) == ("failed", 3, 500)
    assert job.error_kind == "server_error"
    assert job.error_message
    detail = house.show("j2")
    assert detail.response is not None
    assert json.loads(detail.response)["type"] == "error"
    assert [send.outcome for send in detail.sends] == ["retry", "retry", "failed"]
    assert len(done.named("job.retry")) == 2
    (failed,) = done.named("job.failed")
    assert (failed["key"], failed["attempts"], failed["http_status"]) == ("j2", 3, 500)
    assert house.status().state is RunState.FINISHED
    assert house.status().requests.retried == 2


@pytest.mark.slow
def test_the_default_is_five_attempts(house: House, api: ApiServer) -> None:
    """Without --max-attempts a job is tried five times."""
    api.script([{"contains": "say j1;", "status": 500}])
    house.jobs(6)
    house.submit(code=1)
    assert len([r for r in api.requests() if "say j1;" in r.prompt]) == 5
    assert house.rows()["j1"].attempts == 5


def test_a_retry_comes_after_the_servers_hint(house: House, api: ApiServer) -> None:
    """A Retry-After on a failure that is no pause delays that job's retry, not the others."""
    api.script(
        [{"contains": "say j2;", "times": 1, "status": 500, "headers": {"retry-after": "2"}}]
    )
    house.jobs(6)
    house.submit()
    first, second = (r.mono for r in api.requests() if "say j2;" in r.prompt)
    assert second - first >= 2.0
    assert house.rows()["j2"].attempts == 2


def test_ten_alike_stop_the_run_and_go_back(house: House, api: ApiServer) -> None:
    """When the first ten jobs fail alike the run stops (exit 3, same_error), they are pending again, and a mended run completes."""
    api.script([{"status": 400, "body": BAD_REQUEST}])
    house.jobs(25)
    done = house.submit("-c", "1", code=3)
    assert done.error["kind"] == "same_error"
    assert "no thanks" in done.error["message"]
    assert len(api.requests()) == 10
    view = house.status()
    assert (view.state, view.jobs.pending, view.jobs.failed) == (RunState.READY, 25, 0)
    assert view.waiting is not None
    assert view.waiting.reason is WaitingReason.SAME_ERROR
    assert {job.attempts for job in house.rows().values()} == {0}
    api.script([])
    house.resume("--set", "temperature=0")
    assert house.counts().completed == 25
    assert {job.attempts for job in house.rows().values()} == {1}


def test_a_short_run_of_failures_finishes(house: House, api: ApiServer) -> None:
    """Fewer than ten jobs that all fail simply finish with failures, exit 1."""
    api.script([{"status": 400, "body": BAD_REQUEST}])
    house.jobs(9)
    house.submit(code=1)
    view = house.status()
    assert (view.state, view.jobs.failed) == (RunState.FINISHED, 9)
    (group,) = house.app.errors()
    assert (group.kind, group.count, group.http_status) == ("invalid_request", 9, 400)
    assert group.example_message == "no thanks"
    assert group.fix


def test_one_success_and_failures_are_the_jobs_own(house: House, api: ApiServer) -> None:
    """Once a job has completed, any number of like failures is no same_error."""
    api.script([{"from": 2, "status": 400, "body": BAD_REQUEST}])
    house.jobs(20)
    house.submit(code=1)
    assert (house.counts().completed, house.counts().failed) == (1, 19)


def test_max_failures_as_a_number(house: House, api: ApiServer) -> None:
    """--max-failures N stops when N jobs have failed: exit 3, the rest pending; resume with more goes on."""
    api.script([{"from": 2, "status": 400, "body": BAD_REQUEST}])
    house.jobs(20)
    done = house.submit("-c", "1", "--max-failures", "3", code=3)
    assert done.error["kind"] == "max_failures"
    failed = house.counts().failed
    assert failed == 3, "with one in flight at a time nothing more fails"
    assert house.counts().pending == 19 - failed
    assert house.status().state is RunState.READY
    house.resume(code=3)
    assert house.counts().failed == failed, "the bound is stored with the run"
    api.script([])
    house.resume("--max-failures", "50", code=1)
    assert (house.counts().completed, house.counts().failed) == (20 - failed, failed)


def test_max_failures_as_a_share(house: House, api: ApiServer) -> None:
    """--max-failures P% is a share of the run's jobs."""
    api.script([{"from": 2, "status": 400, "body": BAD_REQUEST}])
    house.jobs(20)
    house.submit("-c", "1", "--max-failures", "10%", code=3)
    assert house.counts().failed == 2


def test_max_time_ends_the_call(house: House, api: ApiServer) -> None:
    """--max-time stops this call with work left (exit 3); a later call is not bound by it."""
    api.script([{"delay_s": 0.2}])
    house.jobs(30)
    done = house.submit("-c", "1", "--max-time", "1", code=3)
    assert done.error["kind"] == "max_time"
    view = house.status()
    assert view.waiting is not None
    assert view.waiting.reason is WaitingReason.MAX_TIME
    assert 1 <= view.jobs.completed <= 10
    assert (view.jobs.running, view.jobs.failed) == (0, 0)
    api.script([])
    house.resume()
    assert house.counts().completed == 30


def test_a_timeout_is_the_jobs_own_where_others_succeed(house: House, api: ApiServer) -> None:
    """A request that hangs is given up after --timeout, retried, and fails as timeout."""
    api.script([{"contains": "say j1;", "fault": "hang"}])
    house.jobs(6)
    house.submit("--timeout", "0.5", "--max-attempts", "2", code=1)
    job = house.rows()["j1"]
    assert (job.status, job.error_kind, job.attempts) == ("failed", "timeout", 2)
    assert all(send.maybe_executed for send in house.show("j1").sends)


def test_broken_answers_are_retried(house: House, api: ApiServer) -> None:
    """Cut connections, bytes that are no HTTP and answers that are no JSON cost a try each, not the job."""
    api.script(
        [
            {"contains": "say j2;", "times": 1, "fault": "cut"},
            {"contains": "say j3;", "times": 1, "fault": "garbage"},
            {"contains": "say j4;", "times": 1, "fault": "close"},
            {"contains": "say j5;", "times": 1, "body": "not json", "status": 200},
        ]
    )
    house.jobs(8)
    house.submit()
    rows = house.rows()
    assert {job.status for job in rows.values()} == {"completed"}
    assert [rows[f"j{i}"].attempts for i in range(8)] == [1, 1, 2, 2, 2, 2, 1, 1]
    kinds = {key: house.show(key).sends[0].kind for key in ("j2", "j3", "j4", "j5")}
    assert kinds == {
        "j2": "connection_reset",
        "j3": "bad_response",
        "j4": "connection_reset",
        "j5": "bad_response",
    }


def test_an_answer_beyond_max_response_fails_its_job(house: House, api: ApiServer) -> None:
    """An answer longer than --max-response fails that job as bad_response, and only that job."""
    api.script([{"contains": "say j1;", "body": "x" * 200_000, "status": 200}])
    house.jobs(4)
    house.submit("--max-response", "100KB", code=1)
    job = house.rows()["j1"]
    assert (job.status, job.error_kind) == ("failed", "bad_response")
    assert house.counts().completed == 3


def test_retry_puts_failures_back(house: House, api: ApiServer) -> None:
    """retry sends the failed jobs again with attempts from 0, and the run ends with 0."""
    api.script([{"contains": "say j1;", "status": 400, "body": BAD_REQUEST}])
    house.jobs(3)
    house.submit(code=1)
    api.script([])
    done = house.run("retry", "--json")
    assert [event["key"] for event in done.named("job.completed")] == ["j1"]
    assert house.rows()["j1"].attempts == 1
    assert house.rows()["j1"].error_kind is None
    assert len(api.requests()) == 4


def test_a_retried_jobs_set_field_is_sent(house: House, api: ApiServer) -> None:
    """retry --job KEY --set FIELD=VALUE sends that one job, with the field replaced."""
    api.script([{"status": 400, "body": BAD_REQUEST}])
    house.jobs(4)
    house.submit(code=1)
    api.script([])
    house.run("retry", "--job", "j2", "--set", "max_tokens=77", "--json", code=1)
    last = api.requests()[-1]
    assert len(api.requests()) == 5
    assert (last.json["max_tokens"], last.prompt) == (77, "say j2;")
    assert house.counts().completed == 1
