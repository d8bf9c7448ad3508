"""What a person mended outside is found mended by the next resume."""

from __future__ import annotations

import pytest

from batchrunner.models import RunState, WaitingReason
from tests.fakes import ApiServer
from tests.integration.house import House

SPENT = {
    "type": "error",
    "error": {
        "type": "invalid_request_error",
        "message": "You have reached your specified API usage limits."
        " You will regain access on 2999-01-01 at 00:00 UTC.",
    },
}


def test_a_raised_spend_limit_is_found_by_resume(house: House, api: ApiServer) -> None:
    """A dated spend limit is asked again once at each resume: still spent it costs one request, raised it goes on."""
    api.script([{"from": 2, "status": 400, "body": SPENT}])
    house.jobs(6)
    house.submit("-c", "1", code=4)
    assert house.counts().completed == 1
    before = len(api.requests())
    house.resume(code=4)
    assert len(api.requests()) == before + 1
    view = house.status()
    assert view.waiting is not None
    assert view.waiting.reason is WaitingReason.SPEND_LIMIT
    api.script([])
    house.resume()
    assert house.counts().completed == 6
    assert {job.attempts for job in house.rows().values()} == {1}


def test_a_header_that_lacks_its_variable_halts_and_sends_nothing(
    house: House, api: ApiServer
) -> None:
    """A job's header whose variable is not set halts the run (exit 4) with every job pending; set, it goes on."""
    body = {"model": "sim-1", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    house.write(
        "jobs.jsonl",
        [
            {"custom_id": f"k{i}", "method": "POST", "url": "/v1/messages", "body": body,
             "headers": {"x-team": "${TEAM_TOKEN}"}}
            for i in range(3)
        ],
    )  # fmt: skip
    done = house.run(
        "submit", "jobs.jsonl", "--provider", "http", "--base-url", api.url, "--json", code=4
    )
    assert "TEAM_TOKEN" in done.error["message"]
    assert api.requests() == []
    view = house.status()
    assert (view.jobs.pending, view.requests.sent) == (3, 0)
    house.resume(environ={"TEAM_TOKEN": "s3cret-value"})
    assert house.counts().completed == 3
    assert {r.headers["x-team"] for r in api.requests()} == {"s3cret-value"}


@pytest.mark.slow
def test_what_comes_back_after_a_cancel_is_cancelled(house: House, api: ApiServer) -> None:
    """Jobs that were claimed but not sent when the run was cancelled are cancelled too."""
    api.script([{"n": 1}, {"delay_s": 8}])
    house.jobs(40)
    running = house.start_submit("-c", "4")
    running.until(lambda: len(api.requests()) >= 5, "four in flight, four claimed ahead")
    house.run("cancel", "jobs", "-y")
    running.ended(3)
    counts = house.counts()
    assert (counts.pending, counts.running) == (0, 0)
    assert counts.completed == len(api.requests()) == 5
    assert counts.cancelled == 35


def test_a_lowered_concurrency_is_kept_to_at_once(house: House, api: ApiServer) -> None:
    """After resume -c 2 beside a live run no more than two requests overlap, but for those already out."""
    api.script([{"delay_s": 0.3}])
    house.jobs(400)
    running = house.start_submit("-c", "20")
    running.until(lambda: len(api.requests()) >= 60, "many in flight")
    lower = house.start("resume", "-c", "2", "--json")
    # Twenty at a time come in bursts 0.3 s apart: only two at a time spread five so far.
    running.until(lambda: api.requests()[-1].mono - api.requests()[-5].mono > 0.5, "fewer go out")
    first = len(api.requests())
    running.until(lambda: len(api.requests()) >= first + 12, "it goes on")
    starts = [r.mono for r in api.requests()[first:]]
    assert all(c - a >= 0.25 for a, c in zip(starts, starts[2:], strict=False))
    running.kill()
    lower.kill()


def test_why_it_stopped_stays_until_it_is_taken_up(house: House, api: ApiServer) -> None:
    """What only stores (the same file, resume, retry, a pause and its end, --update) leaves the reason said."""
    api.script([{"n": 1, "status": 400}, {"from": 2, "status": 400, "body": SPENT}])
    house.jobs(3)
    house.submit("-c", "1", "--max-attempts", "1", code=4)
    before = house.status()
    assert before.waiting is not None
    assert before.waiting.reason is WaitingReason.SPEND_LIMIT
    for call in (("resume",), ("retry", "--status", "failed"), ("pause", "jobs"), ("resume",)):
        house.run(*call, *(["--no-run"] if call[0] != "pause" else []))
        assert house.status().waiting == before.waiting, call
    house.submit("--no-run")
    house.jobs(4)
    house.submit("--no-run", "--update")
    assert house.status().waiting == before.waiting
    assert house.status().state is before.state
    api.script([])
    house.resume()
    assert house.status().waiting is None


def test_a_pause_that_is_undone_is_no_reason(house: House, api: ApiServer) -> None:
    """Stopped by a person in mid-run, and let go again without being sent: ready, for no reason."""
    api.script([{"delay_s": 0.2}])
    house.jobs(50)
    running = house.start_submit("-c", "1")
    running.sees("job.completed")
    house.run("pause", "jobs")
    running.ended(3)
    paused = house.status().waiting
    assert paused is not None
    assert paused.reason is WaitingReason.PAUSED
    house.run("resume", "--no-run")
    assert (house.status().state, house.status().waiting) == (RunState.READY, None)
