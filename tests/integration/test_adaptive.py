"""How many requests go at once where nobody says so, and what changes it while a run goes."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from itertools import pairwise

import pytest

from tests.fakes import ApiServer
from tests.fakes.load_server import BIN_S, Seen, load_server
from tests.integration.house import Done, House, until


def sends(house: House, server: Seen, *args: str, n: int = 20_000, seconds: float = 6.0) -> Done:
    """Send for so long at that server; jobs do not run out."""
    house.url = server.url
    house.jobs(n)
    return house.submit("--max-time", f"{seconds:g}", *args, code=3)


def rate(server: Seen, *, after_s: float) -> float:
    """Return the answers a second from some time after the first request on."""
    served = server.seen()["served"]
    counted = served[int(after_s / BIN_S) : -1]
    return sum(counted) / len(counted) / BIN_S


def test_a_server_that_sheds_is_kept_below_it(house: House) -> None:
    """A server that refuses beyond 30 in flight is kept busy; few requests are refused, and no job fails."""
    with load_server(sheds=30, latency=0.2) as server:
        sends(house, server, n=4_000)
        seen = server.seen()
        assert rate(server, after_s=2.5) >= 0.75 * 30 / 0.2, "a busy machine takes some of it"
    n_served = sum(seen["served"])
    assert seen["refused"] <= 0.04 * n_served
    assert house.counts().failed == 0


def test_what_is_typed_is_lowered_where_the_server_refuses(house: House) -> None:
    """-c N is a bound: where the server takes fewer, fewer go, and the 529s end."""
    with load_server(sheds=10, latency=0.1) as server:
        sends(house, server, "-c", "40", "--rpm", "none", n=2_000, seconds=4.0)
        seen = server.seen()
    assert sum(seen["served"]) >= 150
    assert seen["refused"] <= 0.25 * sum(seen["served"])
    assert house.counts().failed == 0


@pytest.mark.slow
def test_a_server_that_fails_a_fifth_anyhow_gets_no_fewer_for_it(house: House) -> None:
    """Where a fifth of all requests fails at any load, what is in flight grows as if they did not."""
    with load_server(fails=0.2, latency=0.2) as server:
        sends(house, server, "--max-attempts", "30", n=6_000)
        seen = server.seen()
    assert seen["refused"] >= 0.15 * sum(seen["served"])
    assert seen["most"] >= 100
    assert house.counts().failed == 0


@pytest.mark.slow
def test_a_server_that_queues_gets_little_more_than_it_works_on(house: House) -> None:
    """Where more in flight brings no more answers, it is not sent."""
    with load_server(workers=8, latency=0.1) as server:
        sends(house, server, n=2_000)
        seen = server.seen()
        assert rate(server, after_s=2.0) >= 0.75 * 8 / 0.1
    assert seen["mean"] <= 40


@pytest.mark.slow
def test_refused_connections_end(house: House) -> None:
    """A server that lets 12 connections in and refuses the rest is used by 12, and no job fails."""
    with load_server(refuses=12, latency=0.1) as server:
        sends(house, server, n=2_000)
        served = sum(server.seen()["served"])
    assert served >= 150
    status = house.status()
    assert status.jobs.failed == 0
    assert status.requests.sent <= 1.25 * served + 20


def smallest_gap(api: ApiServer) -> float:
    """Return the least time between two of the latest requests."""
    arrived = [r.mono for r in api.requests()[-6:]]
    return min(b - a for a, b in pairwise(arrived))


def test_limits_set_concurrency_is_taken_up_beside_the_run(house: House, api: ApiServer) -> None:
    """limits set concurrency=N holds at once for a run under way, is stored with it, and auto takes it back."""
    api.script([{"delay_s": 0.15}])
    house.jobs(1_500)
    running = house.start_submit("-c", "2", "--rpm", "none")
    running.sees("job.completed", 2)
    done = house.run("limits", "set", "concurrency=12", "--json")
    assert done.json["changes"] == ["concurrency of jobs: 2 → 12"]
    until(lambda: house.counts().running >= 12, "twelve at once")
    fewer = house.run("limits", "set", "concurrency=1", "--run", "jobs")
    assert "12 → 1" in fewer.out
    until(lambda: smallest_gap(api) >= 0.14, "one at a time")
    house.run("limits", "set", "concurrency=auto")
    api.script([])
    running.ended(0)
    assert house.counts().completed == 1_500
    assert stored_options(house)["concurrency"] == "auto"


def test_a_concurrency_that_is_none_is_refused(house: House) -> None:
    """limits set refuses what is no number from 1 and not auto, and names what can be set."""
    house.jobs(1)
    house.submit("--no-run")
    bad = house.run("limits", "set", "concurrency=0", code=2)
    assert "write a whole number from 1 to" in bad.err
    unknown = house.run("limits", "set", "concurency=4", code=2)
    assert "concurrency=…" in unknown.err
    missing = house.run("limits", "set", "concurrency=4", "--run", "nobody", code=2)
    assert "nobody" in missing.err
    assert "concurrency" not in stored_options(house)


def stored_options(house: House) -> dict[str, object]:
    """Return what is stored with the latest run."""
    with closing(sqlite3.connect(house.db)) as connection:
        (text,) = connection.execute("SELECT options FROM run ORDER BY id DESC LIMIT 1").fetchone()
    options: dict[str, object] = json.loads(text)
    return options
