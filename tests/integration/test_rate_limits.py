"""A 429 is waiting, not failing: it pauses everybody, is charged to nobody, and is kept to."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from email.utils import formatdate

import pytest

from batchrunner.models import RunState, WaitingReason
from tests.fakes import ApiServer
from tests.integration.house import House


def in_seconds(seconds: float) -> str:
    """Return the HTTP date so long from now, rounded up as a date must be."""
    return formatdate(int(time.time() + seconds) + 1, usegmt=True)


@pytest.mark.parametrize(
    ("headers", "least_s"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "1300"}, 1.3),
        ({"retry-after": "60", "retry-after-ms": "1200"}, 1.2),
        ({"retry-after": "DATE"}, 1.0),
        ({}, 5.0),
    ],
    ids=["seconds", "fraction", "ms", "ms-wins", "http-date", "none"],
)
def test_a_429_pauses_everybody_and_charges_nobody(
    house: House, api: ApiServer, headers: dict[str, str], least_s: float
) -> None:
    """However a 429 says how long, nothing is sent before that, and every job completes at its first charge."""
    if headers.get("retry-after") == "DATE":
        headers = {"retry-after": in_seconds(4.0)}
    api.script([{"n": 3, "status": 429, "headers": headers}])
    house.jobs(8)
    house.submit("-c", "1")
    requests = api.requests()
    assert len(requests) == 9
    refused = next(r for r in requests if r.status == 429)
    later = [r.mono for r in requests if r.n > refused.n]
    waited = min(later) - refused.mono
    assert waited >= least_s
    assert waited < least_s + 6.0, "it waits no longer than asked, and a little"
    assert {job.attempts for job in house.rows().values()} == {1}
    assert house.status().requests.rate_limited == 1


def test_a_429_stops_the_requests_that_were_about_to_go(house: House, api: ApiServer) -> None:
    """With many in flight at a 429, nothing is received between it and the end of its pause but what was out."""
    api.script([{"n": 10, "status": 429, "headers": {"retry-after": "2"}}, {"delay_s": 0.1}])
    house.jobs(60)
    house.submit("-c", "4")
    requests = api.requests()
    refused = next(r for r in requests if r.status == 429)
    within = [r for r in requests if refused.mono + 0.15 < r.mono < refused.mono + 2.0]
    assert within == []
    assert house.counts().completed == 60
    assert {job.attempts for job in house.rows().values()} == {1}


def test_a_wait_longer_than_allowed_stops_with_its_end(house: House, api: ApiServer) -> None:
    """A Retry-After beyond --max-wait stops the run (exit 3) and says until when; the pause outlives the process."""
    api.script([{"from": 2, "status": 429, "headers": {"retry-after": "3600"}}])
    house.jobs(5)
    done = house.submit("-c", "1", "--max-wait", "10", code=3)
    assert done.error["kind"] == "rate_limited"
    view = house.status()
    assert view.state is RunState.READY
    assert view.waiting is not None
    assert view.waiting.reason is WaitingReason.RATE_LIMITED
    assert view.waiting.until is not None
    assert 3500 < view.waiting.until / 1000 - time.time() < 3800
    assert (view.jobs.completed, view.jobs.pending) == (1, 4)
    n = len(api.requests())
    house.resume("--no-wait", code=3)
    assert len(api.requests()) == n, "the pause holds for the next process"


def test_a_429_that_one_job_keeps_getting_is_charged_to_it(house: House, api: ApiServer) -> None:
    """A job that keeps meeting 429 while others succeed after each fails in the end, and nobody else does."""
    api.script([{"contains": "say j1;", "status": 429, "headers": {"retry-after-ms": "100"}}])
    house.jobs(60)
    house.submit("-c", "1", "--rpm", "none", "--max-attempts", "1", code=1)
    rows = house.rows()
    assert rows["j1"].status == "failed"
    assert rows["j1"].error_kind == "rate_limited"
    assert sum(job.status == "completed" for job in rows.values()) == 59


def test_a_pause_is_waited_for_at_rest(house: House, api: ApiServer) -> None:
    """Until a pause is over its jobs are not claimed again and again: a claim is a send, or nearly."""
    api.script([{"to": 3, "status": 429, "headers": {"retry-after": "1"}}])
    house.jobs(3)
    house.submit("-c", "1")
    with closing(sqlite3.connect(house.folder / "batchrunner.db")) as database:
        (claims,) = database.execute("SELECT sum(claims) FROM job").fetchone()
    assert len(api.requests()) <= claims <= 3 * len(api.requests())


def test_503_with_a_retry_after_is_a_pause(house: House, api: ApiServer) -> None:
    """A 503 that names a time is waited for and charged to nobody."""
    api.script([{"n": 2, "status": 503, "headers": {"retry-after": "1"}}])
    house.jobs(3)
    house.submit("-c", "1")
    first, again = (r.mono for r in api.requests()[1:3])
    assert again - first >= 1.0
    assert {job.attempts for job in house.rows().values()} == {1}


def test_bare_429s_for_long_are_told_as_what_they_look_like(house: House, api: ApiServer) -> None:
    """After ever longer pauses without a word the run still waits, fails nothing, and says it looks like a daily cap."""
    api.script([{"n": 1}, {"from": 2, "status": 429}])
    house.jobs(3)
    house.submit("-c", "1", "--max-wait", "1", code=3)
    with closing(sqlite3.connect(house.db)) as connection:
        # As if five pauses were over, which take minutes.
        connection.execute(
            "UPDATE scope SET pause_level = 5, pause_until = pause_set_at WHERE pause_level > 0"
        )
        connection.commit()
    done = house.resume("-c", "1", "--max-wait", "60", code=3)
    assert "daily cap" in done.error["message"]
    view = house.status()
    assert view.waiting is not None
    assert view.waiting.reason is WaitingReason.RATE_LIMITED
    assert view.waiting.until is not None
    assert view.waiting.until / 1000 - time.time() > 60, "the sixth pause is longer than a minute"
    assert (view.jobs.failed, view.jobs.pending) == (0, 2)
    assert {job.attempts for job in house.rows().values()} == {0, 1}


def test_a_limit_of_the_configuration_counts_as_told(house: House, api: ApiServer) -> None:
    """It is kept to from the first request, and where the provider allows less that is said, with the way out."""
    (house.folder / "batchrunner.toml").write_text("rpm = 6000\n")
    api.script([{"headers": {
        "anthropic-ratelimit-requests-limit": "30",
        "anthropic-ratelimit-requests-remaining": "29",
        "anthropic-ratelimit-requests-reset": "2099-01-01T00:00:00Z",
    }}])  # fmt: skip
    house.jobs(3)
    told = house.submit()
    assert "the provider says rpm is 30, you said 6000" in told.err
    assert 'write rpm = "auto" in the configuration' in told.err
    assert len(api.requests()) == 3
