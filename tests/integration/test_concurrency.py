"""How much goes at once, and how fast: never more than was said."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from itertools import pairwise

import pytest

from tests.fakes import ApiServer, running_server
from tests.integration.house import House


def most_at_once(requests: list[float], seconds: float) -> int:
    """Return how many requests were being answered at once, each taking so long."""
    return max(sum(1 for other in requests if t - seconds < other <= t) for t in requests)


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_never_more_in_flight_than_said(house: House, api: ApiServer, concurrency: int) -> None:
    """-c N is never passed at the server, and is reached."""
    delay = 0.15
    api.script([{"delay_s": delay}])
    house.jobs(concurrency * 6)
    house.submit("-c", str(concurrency), "--rpm", "none")
    arrived = [r.mono for r in api.requests()]
    assert most_at_once(arrived, delay) == concurrency


def test_the_first_job_goes_alone(house: House, api: ApiServer) -> None:
    """After a start one request goes alone until it is answered, whatever -c says."""
    api.script([{"delay_s": 0.4}])
    house.jobs(10)
    house.submit("-c", "8", "--rpm", "none")
    first, second, *_ = (r.mono for r in api.requests())
    assert second - first >= 0.4


@pytest.mark.slow
def test_a_minutes_limit_is_kept_by_two_processes_in_a_row(house: House) -> None:
    """Requests a minute hold over a stop and a start: the server, which counts, never says 429."""
    with running_server(rpm=120, minute_s=60.0) as api:
        house.url = api.url
        house.jobs(40)
        house.submit("--rpm", "120", "--max-time", "4", code=3)
        house.resume("--max-time", "4", code=None)
        statuses = [r.status for r in api.requests()]
    assert set(statuses) == {200}
    assert len(statuses) >= 6


def test_min_interval_is_kept(house: House, api: ApiServer) -> None:
    """--min-interval: never two sends closer than that."""
    house.jobs(6)
    house.submit("--min-interval", "0.3", "-c", "4")
    with closing(sqlite3.connect(house.db)) as connection:
        sent = [at for (at,) in connection.execute("SELECT sent_at FROM send ORDER BY sent_at")]
    assert min(b - a for a, b in pairwise(sent)) >= 299, "whole milliseconds"
    # A busy machine takes its time between our send and the server's clock.
    arrived = [r.mono for r in api.requests()]
    assert min(b - a for a, b in pairwise(arrived)) >= 0.25


def test_a_limit_is_shown_as_old_and_new(house: House, api: ApiServer) -> None:
    """A limit that changes is shown old → new; one that does not change is not."""
    house.jobs(4)
    house.submit("--rpm", "600", "--no-run")
    same = house.resume("--rpm", "600", "--no-run")
    assert "→" not in same.err
    changed = house.resume("--rpm", "1200")
    assert "600 → 1200" in changed.err
