"""Stopping: what a signal or a kill leaves behind, and how a run goes on from there."""

from __future__ import annotations

import os
import signal
import time

import pytest

from batchrunner.models import RunState, WaitingReason
from tests.fakes import ApiServer
from tests.integration.house import House, Running, until

ALL_SLOW = [{"delay_s": 0.3}]


def in_flight(api: ApiServer, n: int) -> None:
    """Wait until the server has received ``n`` requests."""
    until(lambda: len(api.requests()) >= n, f"{n} requests received")


@pytest.mark.parametrize(
    ("signum", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_one_signal_drains(house: House, api: ApiServer, signum: signal.Signals, code: int) -> None:
    """The first signal starts nothing new, stores what was in flight, says how to go on, and exits with its code; resume completes."""
    api.script(ALL_SLOW)
    house.jobs(30)
    running = house.start_submit("-c", "3")
    running.sees("job.completed", 1)
    in_flight(api, 4)
    n_before = len(api.requests())
    running.send(signum)
    done = running.ended(code)
    n_after = len(api.requests())
    assert n_after - n_before <= 1
    counts = house.counts()
    assert counts.completed == n_after, "every answer is stored"
    assert (counts.running, counts.failed) == (0, 0)
    view = house.status()
    assert view.state is RunState.READY
    assert view.waiting is not None
    assert view.waiting.reason is WaitingReason.INTERRUPTED
    assert done.error["exit_code"] == code
    assert "batchrunner resume jobs" in done.error["fix"]
    assert house.db.exists()
    assert sorted(path.name for path in house.folder.iterdir()) == ["batchrunner.db", "jobs.jsonl"]
    api.script([])
    house.resume()
    assert len(api.requests()) == 30
    assert house.counts().completed == 30


def test_ctrl_c_says_what_a_second_one_does(house: House, api: ApiServer) -> None:
    """While it drains, the line on the screen says what another Ctrl-C does, and the last words how to go on."""
    api.script([{"delay_s": 1.5}])
    house.jobs(3)
    running = house.start("submit", "jobs.jsonl", *house.to_api)
    in_flight(api, 1)
    running.send(signal.SIGINT)
    running.says("Ctrl-C")
    done = running.ended(130)
    assert "again" in done.err
    assert "batchrunner resume jobs" in done.err
    assert house.counts().completed == 1


def test_ctrl_c_twice_aborts(house: House, api: ApiServer) -> None:
    """A second Ctrl-C aborts what is in flight: those jobs are pending, marked as possibly sent, and go again."""
    api.script([{"n": 1}, {"fault": "hang"}])
    house.jobs(10)
    running = house.start("submit", "jobs.jsonl", *house.to_api, "-c", "3")
    in_flight(api, 4)
    running.send(signal.SIGINT)
    running.says("Ctrl-C")
    running.send(signal.SIGINT)
    running.ended(130, timeout=10)
    view = house.status()
    assert (view.jobs.completed, view.jobs.pending, view.jobs.running) == (1, 9, 0)
    assert view.requests.interrupted == 3
    assert view.maybe_executed == 3
    hung = [r.prompt for r in api.requests()[1:]]
    assert len(hung) == 3
    for prompt in hung:
        key = prompt.removeprefix("say ").removesuffix(";")
        (send,) = house.show(key).sends
        assert (send.outcome, send.maybe_executed) == ("interrupted", True)
        assert house.rows()[key].attempts == 0
    api.script([])
    house.resume()
    assert house.counts().completed == 10
    assert len(api.requests()) == 4 + 9


def waits_for_a_reset(house: House) -> Running:
    """Start a run that waits for tomorrow."""
    house.jobs(3)
    running = house.start_submit("--rpd", "1", "--wait")
    running.sees("limit.waiting")
    return running


@pytest.mark.parametrize(
    ("signum", "code"),
    [
        (signal.SIGINT, 130),
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_while_waiting_the_first_signal_exits(
    house: House, signum: signal.Signals, code: int
) -> None:
    """While it waits for a reset one signal is enough."""
    running = waits_for_a_reset(house)
    began = time.monotonic()
    running.send(signum)
    running.ended(code)
    assert time.monotonic() - began < 5.0
    assert house.counts().pending == 2


def test_a_kill_in_flight_loses_nothing(house: House, api: ApiServer) -> None:
    """After kill -9 stored answers stay, the run is ready at once, and only what was in flight goes twice."""
    api.script([{"delay_s": 0.1}])
    house.jobs(40)
    running = house.start_submit("-c", "4")
    running.sees("job.completed", 10)
    told = {event["key"] for event in running.so_far.named("job.completed")}
    running.kill()
    view = house.status()
    assert view.state is RunState.READY, "told from the lock, which died with its process"
    assert view.runner is None
    assert view.jobs.completed >= len(told)
    completed = {key for key, job in house.rows().items() if job.status == "completed"}
    assert told <= completed, "what was told was stored"
    api.script([])
    house.resume()
    assert house.counts().completed == 40
    sent: dict[str, int] = {}
    for request in api.requests():
        sent[request.prompt] = sent.get(request.prompt, 0) + 1
    assert len(sent) == 40
    twice = [prompt for prompt, n in sent.items() if n > 1]
    assert len(twice) <= 8, "at most twice the concurrency"
    assert all(f"say {key};" not in twice for key in completed)


def test_a_kill_while_waiting_is_ready_at_once(house: House) -> None:
    """A run whose holder is killed while it waits is ready, not waiting, and says why it stopped."""
    running = waits_for_a_reset(house)
    assert house.status().state is RunState.WAITING
    running.kill()
    assert house.status().state is RunState.READY
    done = house.resume("--no-wait", code=3)
    assert done.error["kind"] == "daily_limit"


def test_a_kill_while_reading_stores_nothing(house: House) -> None:
    """A submit killed while its file is still coming leaves no run, and the next one begins anew."""
    house.jobs(3)
    fifo = house.folder / "slow.jsonl"
    os.mkfifo(fifo)
    running = house.start("submit", "slow.jsonl", *house.to_api)
    with fifo.open("wb") as pipe:
        pipe.write((house.folder / "jobs.jsonl").read_bytes())
        pipe.flush()
        until(house.db.exists, "the database")
        running.kill()
    assert house.app.runs() == []
    house.submit()
    assert [run.name for run in house.app.runs()] == ["jobs"]


def test_after_a_clean_end_the_database_is_one_file(house: House) -> None:
    """Nothing but the database is left beside the input; copied elsewhere it is the whole run."""
    house.jobs(4)
    house.submit()
    assert sorted(path.name for path in house.folder.iterdir()) == ["batchrunner.db", "jobs.jsonl"]
    assert house.db.stat().st_mode & 0o077 == 0
    other = house.folder / "moved.db"
    other.write_bytes(house.db.read_bytes())
    shown = house.run("status", "--db", "moved.db", "--json").json
    assert shown["jobs"]["completed"] == 4
