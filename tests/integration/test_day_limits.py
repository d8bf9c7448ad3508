"""A day's limit ends sending until the day does, says until when, and a raised one frees it at once."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from batchrunner.models import RunState, WaitingReason
from tests.fakes import ApiServer
from tests.integration.house import House


def next_midnight(zone: str) -> float:
    """Return when the day ends there, epoch seconds."""
    now = datetime.now(ZoneInfo(zone))
    tomorrow = (now + timedelta(days=1)).date()
    return datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    "zone",
    ["UTC", "rolling", pytest.param("Pacific/Kiritimati", marks=pytest.mark.slow)],
)
def test_a_full_day_stops_with_the_reset_and_none_frees_it(
    house: House, api: ApiServer, zone: str
) -> None:
    """With --rpd N exactly N are sent; --no-wait exits 3 with daily_limit and the reset; resume --rpd none completes."""
    house.jobs(7)
    done = house.submit("--rpd", "4", "--day-resets", zone, "--no-wait", code=3)
    assert len(api.requests()) == 4
    assert done.error["kind"] == "daily_limit"
    view = house.status()
    assert (view.state, view.jobs.completed, view.jobs.pending) == (RunState.READY, 4, 3)
    assert view.waiting is not None
    assert view.waiting.reason is WaitingReason.DAILY_LIMIT
    assert view.waiting.until is not None
    ends = time.time() + 86_400 if zone == "rolling" else next_midnight(zone)
    assert abs(view.waiting.until / 1000 - ends) < 90
    limit = next(limit for limit in view.limits if limit.limit == "rpd")
    assert (limit.value, limit.used, limit.remaining, limit.source) == (4, 4, 0, "flag")
    assert limit.resets_at is not None
    assert abs(limit.resets_at / 1000 - ends) < 90
    again = house.resume("--no-wait", code=3)
    assert again.error["kind"] == "daily_limit"
    assert len(api.requests()) == 4, "the day is as full for the next process"
    freed = house.resume("--rpd", "none")
    assert "4" in freed.err
    assert "none" in freed.err, "the change of the limit is shown old → new"
    assert len(api.requests()) == 7
    assert {job.attempts for job in house.rows().values()} == {1}


def test_a_raised_limit_frees_a_run_that_waits(house: House, api: ApiServer) -> None:
    """`limits set` from another process wakes a run that waits for tomorrow."""
    house.jobs(5)
    running = house.start_submit("--rpd", "2", "--wait")
    running.sees("limit.waiting")
    view = house.status()
    assert view.state is RunState.WAITING
    assert view.runner is not None
    assert view.runner.pid == running.process.pid
    changed = house.run("limits", "set", "rpd=4")
    assert "2 → 4" in changed.out + changed.err
    running.sees("job.completed", 4)
    running.until(lambda: house.status().state is RunState.WAITING, "the day is full again")
    assert len(api.requests()) == 4
    house.run("limits", "set", "rpd=none")
    running.ended(0)
    assert len(api.requests()) == 5


def test_the_account_keeps_its_limits_over_runs(house: House, api: ApiServer) -> None:
    """Two runs of one account share the day's allowance, and the second needs not say it again."""
    house.jobs(3, "one.jsonl")
    house.jobs(4, "two.jsonl", prefix="t")
    house.submit("--rpd", "5", "--no-wait", file="one.jsonl")
    house.submit("--no-wait", file="two.jsonl", code=3)
    assert len(api.requests()) == 5
    assert house.counts("two").completed == 2
    house.resume("two", "--rpd", "6", "--no-wait", code=3)
    assert len(api.requests()) == 6


PER_DAY: dict[str, Any] = {
    "type": "error",
    "error": {"type": "rate_limit_error", "message": "Requests per day (RPD) limit reached."},
}


def test_a_day_that_the_provider_says_is_full_is_waited_for(house: House, api: ApiServer) -> None:
    """A 429 about the day is daily_limit with the provider's own end, charges nobody and fails no job."""
    api.script([{"from": 3, "status": 429, "headers": {"retry-after": "40000"}, "body": PER_DAY}])
    house.jobs(6)
    done = house.submit("-c", "1", "--no-wait", code=3)
    assert done.error["kind"] == "daily_limit"
    view = house.status()
    assert view.waiting is not None
    assert view.waiting.reason is WaitingReason.DAILY_LIMIT
    assert view.waiting.until is not None
    assert abs(view.waiting.until / 1000 - time.time() - 40_000) < 60
    assert (view.jobs.completed, view.jobs.pending) == (2, 4)
    assert all(job.attempts <= 1 for job in house.rows().values())


@pytest.mark.slow
def test_a_full_day_without_an_end_is_asked_again_later(house: House, api: ApiServer) -> None:
    """Where the provider names no end of its day, the run looks again by itself and completes."""
    api.script([{"n": 2, "status": 429, "body": PER_DAY}])
    house.jobs(3)
    running = house.start_submit("-c", "1")
    running.sees("limit.waiting")
    view = house.status()
    assert view.waiting is not None
    assert view.waiting.reason is WaitingReason.DAILY_LIMIT
    running.ended(0)
    assert {job.attempts for job in house.rows().values()} == {1}


@pytest.mark.parametrize("zone", ["UTC", "rolling"])
def test_the_day_is_not_forgotten_by_a_kill(house: House, api: ApiServer, zone: str) -> None:
    """What was sent before kill -9 counts against the day: never more than N, whatever died."""
    api.script([{"delay_s": 0.05}])
    house.jobs(12)
    running = house.start_submit("-c", "2", "--rpd", "6", "--day-resets", zone)
    running.sees("job.completed", 3)
    running.kill()
    house.resume("--no-wait", code=3)
    assert len(api.requests()) <= 6
    assert house.status().waiting is not None


def test_the_reset_is_shown_as_a_time(house: House) -> None:
    """status names the reason and the time of the reset in words."""
    house.jobs(2)
    house.submit("--rpd", "1", "--no-wait", code=3)
    shown = house.run("status").out
    reset = datetime.fromtimestamp(next_midnight("UTC"), UTC)
    assert "00:00" in shown or reset.strftime("%H:%M") in shown
    assert "requests" in shown
    assert "batchrunner resume" in shown
