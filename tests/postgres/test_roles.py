"""Which worker takes which run, and what status tells of them."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from batchrunner.views import WorkerView
from tests.fakes import ApiServer
from tests.integration.house import House, Running, until

Store = Callable[..., None]


@pytest.fixture
def store(house: House) -> Store:
    """Store a run of that name without sending it."""
    house.environ["ANTHROPIC_API_KEY"] = "test"

    def stored(name: str, n: int, *options: str, environ: Mapping[str, str] | None = None) -> None:
        house.jobs(n, f"{name}.jsonl", prefix=name)
        named = ("--name", name, "--no-run", *options)
        house.submit(*named, file=f"{name}.jsonl", code=0, environ=environ)

    return stored


def start(house: House, *options: str, environ: Mapping[str, str] | None = None) -> Running:
    """Start a worker that stays."""
    return house.start("worker", "--json", *options, environ=environ)


def worker(house: House, pid: int, name: str | None = None) -> WorkerView:
    """Return what status tells of a worker."""
    (found,) = [one for one in house.status(name).workers if one.pid == pid]
    return found


def completes(house: House, name: str) -> None:
    """Wait until a run is finished."""
    until(lambda: house.status(name).state == "finished", f"{name} is finished")


def test_status_tells_who_sends_and_what_each_has_done(
    house: House, api: ApiServer, store: Store
) -> None:
    """Each worker is there with what it has in flight and its share; what a dead one did still counts."""
    api.script([{"delay_s": 0.2}])
    store("jobs", 60, "-c", "4", "--rpm", "6000")
    first, second = start(house, "--tags", "eu"), start(house)
    for one in (first, second):
        one.sees("job.completed")
    status = house.status()
    assert {one.pid for one in status.workers} == {first.process.pid, second.process.pid}
    assert 0 < sum(one.in_flight for one in status.workers) == status.jobs.running
    assert all(one.beat_age_ms < 20_000 for one in status.workers)
    assert status.runner is not None
    assert status.runner.pid in {first.process.pid, second.process.pid}
    completes(house, "jobs")
    both = house.status().workers
    assert sum(one.answered for one in both) == 60
    assert sum(one.share or 0 for one in both) == pytest.approx(1)
    assert worker(house, first.process.pid).tags == ("eu",)
    assert worker(house, second.process.pid).tags == ()
    first.kill()
    until(lambda: len(house.status().workers) == 1, "the dead one is gone")
    (left,) = house.status().workers
    assert left.share == left.answered / 60
    (row,) = house.run("status", "--json").json["workers"]
    assert (row["pid"], row["share"]) == (second.process.pid, left.share)
    text = house.run("status").out
    assert f"workers   1 worker\n          {second.process.pid} on " in text
    assert "answered (" in text


def test_a_run_goes_to_workers_that_have_its_tags(house: House, store: Store) -> None:
    """Tags are asked for: who has all of them takes the run, others leave it and say so; none takes them back."""
    store("tagged", 3, "--tags", "eu,big", "--tags", "eu")
    plain = start(house, "--tags", "eu")
    plain.sees("run.left")
    assert "wants the tag big" in plain.so_far.named("run.left")[0]["why"]
    status = house.run("status", "tagged")
    assert "left by 1 worker: it wants the tag big, which this worker does not have" in status.out
    assert "tags      eu, big" in status.out
    told = house.run("explain", "tagged", "--json").json["standing"]
    assert "1 worker: it wants the tag big" in told["detail"]
    assert told["next"].startswith("batchrunner worker --db")
    assert told["next"].endswith(" --tags eu,big")
    store("plain", 3)
    completes(house, "plain")
    assert house.counts("tagged").pending == 3
    with_both = start(house, "--tags", "big,eu,fast")
    completes(house, "tagged")
    assert worker(house, with_both.process.pid, "tagged").answered == 3
    store("other", 3, "--tags", "gpu")
    plain.sees("run.left", 2)
    house.run("resume", "other", "--tags", "none", "--no-wait", "--json", code=None)
    completes(house, "other")
    assert house.status("other").tags == ()


@pytest.mark.slow
def test_a_worker_may_be_kept_for_runs_with_tags(house: House, store: Store) -> None:
    """With --only-tagged what has no tag is left to others."""
    store("plain", 2)
    kept = start(house, "--tags", "eu", "--only-tagged")
    kept.says("plain is left to others: it has no tag")
    store("tagged", 2, "--tags", "eu")
    completes(house, "tagged")
    assert house.counts("plain").pending == 2


@pytest.mark.slow
def test_a_named_account_is_sent_with_its_own_key(
    house: House, api: ApiServer, store: Store
) -> None:
    """A run that names its account goes by the key it was submitted with; another is left until it is said to be of it."""
    theirs = {"ANTHROPIC_API_KEY": "theirs"}
    store("team", 3, "--account", "team-a", environ=theirs)
    store("any", 3)
    other = start(house)
    completes(house, "any")
    other.says("team is left to others: it is for the account team-a, and the key here")
    assert house.counts("team").pending == 3
    own = start(house, environ=theirs)
    completes(house, "team")
    assert worker(house, own.process.pid, "team").answered == 3
    own.send(signal.SIGTERM)
    own.ended(143)
    store("more", 3, "--account", "team-a", environ=theirs)
    until(lambda: house.status("more").workers[0].leaves, "it is left")
    told = start(house, "--account", "team-a")
    completes(house, "more")
    assert worker(house, told.process.pid, "more").answered == 3
    assert _keys(api, "team") != _keys(api, "any") == _keys(api, "more")


def _keys(api: ApiServer, name: str) -> set[Any]:
    return {request.auth for request in api.requests() if f"say {name}" in request.prompt}


@pytest.mark.slow
def test_who_asks_is_told_once_by_each_reason(house: House, store: Store) -> None:
    """Workers that leave a run for different reasons don't tell who asks for it over and over."""
    store("tagged", 2, "--tags", "eu,big")
    first, second = start(house, "--tags", "eu"), start(house, "--tags", "big")
    first.sees("run.left")
    second.sees("run.left")
    asking = house.start("resume", "--json")
    asking.says("waits: a worker leaves it to others")
    # Several looks of both have passed once this run is over.
    store("plain", 40, "-c", "1", "--rpm", "1200")
    completes(house, "plain")
    assert asking.so_far.err.count("waits: ") <= 2


def test_a_worker_says_what_it_does(house: House, api: ApiServer, store: Store) -> None:
    """In a log one reads what it took, how that ended, what it left, and that it waits for runs."""
    store("first", 3)
    store("other", 3, "--tags", "eu")
    said = house.start("worker")
    said.says("first is finished: 3 of 3 completed\n")
    said.says("nothing to send now; 1 run is left to others; waiting for runs\n")
    assert "first: 3 jobs; database postgresql+asyncpg://" in said.so_far.err
    assert "other is left to others: it wants the tag eu" in said.so_far.err
    api.script([{"status": 401}])
    store("second", 3)
    said.says("second stopped, 0 of 3 completed: ")
    said.until(lambda: said.so_far.err.count("; waiting for runs\n") == 2, "it waits again")
    said.send(signal.SIGTERM)
    assert said.ended(143).out == ""
    done = house.run("worker", "--until-done", "-q")
    assert done.err == ""
    assert (
        "nothing is left that it could send; 1 run is left"
        in house.run("worker", "--until-done").err
    )


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_terminated_it_gives_back_what_it_has_not_sent_and_waits_for_the_rest(
    house: House, api: ApiServer, store: Store
) -> None:
    """SIGTERM: what is claimed ahead is free for others within a second, what is in flight has 30 s, then it ends."""
    # The first goes alone until it is answered; the next four hang.
    api.script([{"n": [2, 3, 4, 5], "delay_s": 90}])
    store("jobs", 40, "-c", "4", "--rpm", "6000")
    ending = start(house)
    ending.sees("job.completed")
    until(lambda: house.counts().running > 4, "more is claimed than is in flight")
    ending.send(signal.SIGTERM)
    at = time.monotonic()
    until(lambda: house.counts().running == 4, "the rest is given back", seconds=2)
    other = start(house)
    until(lambda: house.counts().completed == 36, "another sends the rest", seconds=20)
    ending.ended(143, timeout=40)
    assert 28 <= time.monotonic() - at <= 38
    completes(house, "jobs")
    assert worker(house, other.process.pid).answered == 39
    assert house.status().requests.interrupted == 4


@pytest.mark.slow
def test_a_worker_beside_one_that_sends_alone_says_that_it_waits(
    house: House, api: ApiServer, store: Store
) -> None:
    """It names who sends, and goes on with the queue when that one has ended."""
    api.script([{"delay_s": 0.2}])
    store("later", 2)
    store("first", 400, "-c", "1")
    alone = house.start("resume", "first", "--json")
    alone.sees("job.completed")
    waits = start(house)
    waits.says(f"process {alone.process.pid} on ")
    assert "sends from this database alone; waiting until it has ended" in waits.so_far.err
    assert waits.so_far.events == []
    alone.send(signal.SIGINT)
    alone.ended(130)
    completes(house, "later")
