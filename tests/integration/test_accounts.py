"""A sick account stops the run, not the jobs: nothing fails, little is sent, and resume goes on."""

from __future__ import annotations

from typing import Any

import pytest

from batchrunner.models import RunState, WaitingReason
from tests.fakes import ApiServer, running_server
from tests.integration.house import House

GOOD = "sk-ant-api03-" + "g" * 40
BAD = "sk-ant-api03-" + "b" * 40


def error(kind: str, message: str) -> dict[str, Any]:
    """Return an error body as Anthropic writes it."""
    return {"type": "error", "error": {"type": kind, "message": message}}


def test_a_bad_key_costs_one_request_and_a_mended_one_goes_on(house: House) -> None:
    """401 halts (exit 4) after exactly one request with every job pending; resume with the right key completes."""
    with running_server(api_key=GOOD) as api:
        house.url = api.url
        house.jobs(20)
        done = house.submit(code=4, environ={"ANTHROPIC_API_KEY": BAD})
        assert [r.status for r in api.requests()] == [401]
        assert done.error["kind"] == "authentication"
        assert done.error["fix"]
        view = house.status()
        assert (view.state, view.jobs.pending) == (RunState.HALTED, 20)
        assert view.waiting is not None
        assert view.waiting.reason is WaitingReason.AUTHENTICATION
        assert {job.attempts for job in house.rows().values()} == {0}
        house.resume(environ={"ANTHROPIC_API_KEY": GOOD})
        assert house.counts().completed == 20
        assert {job.attempts for job in house.rows().values()} == {1}


def test_a_key_that_dies_mid_run_halts_within_what_is_in_flight(house: House) -> None:
    """When the key is revoked under way, at most the requests in flight meet 401 and no job fails."""
    with running_server([{"delay_s": 0.05}], unauthorized_after=20) as api:
        house.url = api.url
        house.jobs(60)
        house.submit("-c", "4", code=4, environ={"ANTHROPIC_API_KEY": GOOD})
        statuses = [r.status for r in api.requests()]
        assert statuses.count(200) >= 20
        assert 1 <= statuses.count(401) <= 4
        counts = house.counts()
        assert counts.failed == 0
        assert counts.completed == statuses.count(200)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (403, error("permission_error", "Your API key may not do that"), "permission"),
        (402, error("billing_error", "Payment required"), "credit"),
        (
            400,
            error("invalid_request_error", "Your credit balance is too low to access the API."),
            "credit",
        ),
        (
            400,
            error("invalid_request_error", "You have reached your specified API usage limits."),
            "spend_limit",
        ),
    ],
    ids=["403", "402", "credit-as-400", "spend-undated"],
)
def test_an_account_that_may_not_halts_at_once(
    house: House, api: ApiServer, status: int, body: dict[str, Any], kind: str
) -> None:
    """A refused account costs one request: exit 4, halted with the kind as the reason, jobs pending; resume completes once it is mended."""
    api.script([{"status": status, "body": body}])
    house.jobs(5)
    done = house.submit(code=4)
    assert len(api.requests()) == 1
    assert done.error["kind"] == kind
    view = house.status()
    assert (view.state, view.jobs.pending) == (RunState.HALTED, 5)
    assert view.waiting is not None
    assert view.waiting.reason == kind
    api.script([])
    house.resume()
    assert house.counts().completed == 5


def test_a_missing_key_at_the_providers_own_address_sends_nothing(house: House) -> None:
    """Without a key, and with a malformed one, a run for the provider's own address is stored and exits 4."""
    house.jobs(2)
    done = house.run(
        "submit", "jobs.jsonl", "--provider", "anthropic", "--model", "m", "--json", code=4
    )
    assert done.error["kind"] == "authentication"
    assert "ANTHROPIC_API_KEY" in done.error["message"] + done.error["fix"]
    assert house.status().state is RunState.HALTED
    assert house.counts().pending == 2
    done = house.resume(code=4, environ={"ANTHROPIC_API_KEY": "sk-proj-" + "x" * 40})
    assert "OpenAI" in done.error["message"]
    assert house.counts().pending == 2


def test_a_missing_model_holds_only_its_own_jobs(house: House, api: ApiServer) -> None:
    """Jobs of an unknown model wait while the rest completes, then the run halts (exit 4); --set model mends it."""
    lines = [
        {"id": f"k{i}", "prompt": f"p{i}", "model": "no-such-1" if i % 3 == 0 else "sim-1"}
        for i in range(12)
    ]
    house.write("jobs.jsonl", lines)
    done = house.submit(code=4)
    assert done.error["kind"] == "model_not_found"
    assert "no-such-1" in done.error["message"]
    view = house.status()
    assert (view.state, view.jobs.completed, view.jobs.pending) == (RunState.HALTED, 8, 4)
    assert view.waiting is not None
    assert view.waiting.reason is WaitingReason.MODEL_NOT_FOUND
    assert list(view.holds) == ["no-such-1"]
    assert [r.status for r in api.requests()].count(404) <= 4
    house.resume("--set", "model=sim-1-large")
    rows = house.rows()
    assert {job.status for job in rows.values()} == {"completed"}
    assert {rows[f"k{i}"].model for i in range(0, 12, 3)} == {"sim-1-large"}
    assert {rows[f"k{i}"].model for i in (1, 2)} == {"sim-1"}


def test_a_held_model_stays_held_until_it_is_mended(house: House, api: ApiServer) -> None:
    """resume without a mend asks once more and halts again, with every job still pending."""
    house.jobs(6, model="no-such-1")
    house.submit(code=4)
    assert len(api.requests()) == 1
    house.resume(code=4)
    assert len(api.requests()) == 2
    assert house.counts().pending == 6


def test_a_dated_spend_limit_far_away_exits_4_with_the_date(house: House, api: ApiServer) -> None:
    """A spend limit that ends after --max-wait exits 4, and the message gives the date."""
    text = "You have reached your specified API usage limits. You will regain access on 2999-01-01 at 00:00 UTC."
    api.script([{"from": 2, "status": 400, "body": error("invalid_request_error", text)}])
    house.jobs(4)
    done = house.submit("-c", "1", code=4)
    assert done.error["kind"] == "spend_limit"
    assert "2999-01-01" in done.error["message"]
    assert house.counts().pending == 3
    assert len(api.requests()) == 2


def test_a_dated_spend_limit_that_ends_in_time_is_waited_for(house: House, api: ApiServer) -> None:
    """A spend limit whose end is within --max-wait is a wait with reason spend_limit and its end, and charges nobody."""
    text = "You have reached your specified API usage limits. You will regain access on 2999-01-01 at 00:00 UTC."
    api.script([{"from": 2, "status": 400, "body": error("invalid_request_error", text)}])
    house.jobs(3)
    running = house.start_submit("-c", "1", "--wait")
    running.sees("limit.waiting")
    view = house.status()
    assert view.state is RunState.WAITING
    assert view.waiting is not None
    assert view.waiting.reason is WaitingReason.SPEND_LIMIT
    assert view.waiting.until is not None
    assert abs(view.waiting.until - 32_472_144_000_000) < 2_000
    assert (view.jobs.completed, view.jobs.failed) == (1, 0)
