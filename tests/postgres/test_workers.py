"""Many workers on one queue: they share limits, take over from the dead, and stop in order."""

from __future__ import annotations

import json
import signal
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from batchrunner.places import Server, place_of
from batchrunner.store.postgres.database import PgDatabase
from batchrunner.store.postgres.locks import WRITING, class_of
from tests.fakes import ApiServer
from tests.fakes.postgres_server import PostgresServer
from tests.integration.house import House, Running, until

#: Jobs by worker, of those that a worker has claimed.
_SHARES = "SELECT worker_id, count(*) FROM {}.job WHERE worker_id IS NOT NULL GROUP BY worker_id"


@pytest.fixture
def queue(house: House, api: ApiServer) -> Callable[..., None]:
    """Store jobs without sending them."""

    def stored(n: int, *options: str, **environ: str) -> None:
        house.environ["ANTHROPIC_API_KEY"] = "test"
        house.jobs(n)
        house.submit("--no-run", *options, code=0, environ=environ)

    return stored


def shares(house: House, server: PostgresServer) -> list[int]:
    """Return how many jobs each worker has claimed last."""
    schema = str(house.db).rpartition("=")[2]
    return [n for _, n in server.execute(_SHARES.format(schema))]


def start(house: House, **environ: str) -> Running:
    """Start a worker that ends with the work."""
    return house.start("worker", "--until-done", "--json", environ=environ)


def answered(api: ApiServer) -> Counter[str]:
    """Return how often each job was answered."""
    return Counter(request.prompt for request in api.requests() if request.status == 200)


def test_two_share_one_run(
    house: House, api: ApiServer, server: PostgresServer, queue: Callable[..., None]
) -> None:
    """Both send, no job goes twice, the run ends, and its counts are right."""
    api.script([{"delay_s": 0.02}])
    queue(200, "-c", "4", "--rpm", "6000")
    for worker in [start(house), start(house)]:
        worker.ended(0)
    assert house.counts().completed == 200
    assert set(answered(api).values()) == {1}
    assert len(answered(api)) == 200
    assert len(shares(house, server)) == 2
    assert house.status().state == "finished"
    assert house.run("db", "check").code == 0


def test_another_takes_over_from_the_dead(
    house: House, api: ApiServer, queue: Callable[..., None]
) -> None:
    """What a killed worker had in flight goes again within seconds, marked; no answer is lost."""
    api.script([{"delay_s": 0.1}])
    queue(80, "-c", "4", "--rpm", "6000")
    first, second = start(house), start(house)
    first.sees("job.completed", 3)
    second.sees("job.completed", 3)
    first.kill()
    second.ended(0)
    assert house.counts().completed == 80
    assert len(answered(api)) == 80
    status = house.status()
    assert answered(api).total() - 80 <= status.requests.interrupted <= 2 * 4 + 8
    assert house.run("db", "check").code == 0


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_leaves_nothing_behind(
    house: House, api: ApiServer, queue: Callable[..., None]
) -> None:
    """It stores what is in flight, gives the rest back unsent, and the run is ready for others."""
    api.script([{"delay_s": 0.1}])
    queue(60, "-c", "4", "--rpm", "6000")
    worker = start(house)
    worker.sees("job.completed", 3)
    worker.send(signal.SIGINT)
    worker.ended(130)
    counts = house.counts()
    assert counts.running == 0
    assert counts.completed + counts.pending == 60
    assert house.status().requests.interrupted == 0
    start(house).ended(0)
    assert set(answered(api).values()) == {1}
    assert house.counts().completed == 60


@pytest.mark.slow
def test_pause_and_cancel_reach_every_worker(
    house: House, api: ApiServer, queue: Callable[..., None]
) -> None:
    """A run that is paused is sent by none; resumed elsewhere it goes on; cancelled it is over."""
    api.script([{"delay_s": 0.05}])
    queue(4_000, "-c", "2", "--rpm", "6000")
    workers = [house.start("worker", "--json") for _ in range(2)]
    for worker in workers:
        worker.sees("job.completed", 2)
    house.run("pause", "jobs")
    until(lambda: house.counts().running == 0, "nothing is in flight")
    seen = len(api.requests())
    house.run("limits")
    assert len(api.requests()) == seen
    house.run("resume", "jobs", "--no-wait", code=3)
    until(lambda: len(api.requests()) > seen, "it goes on")
    house.run("cancel", "jobs", "-y")
    until(lambda: house.counts().running == 0, "nothing is in flight")
    assert house.counts().cancelled > 0
    for worker in workers:
        worker.send(signal.SIGTERM)
        worker.ended(143)
    assert house.run("db", "check").code == 0


@pytest.mark.slow
def test_who_submits_beside_workers_follows_them(
    house: House, api: ApiServer, queue: Callable[..., None]
) -> None:
    """submit stores its jobs, sends none of them itself, and ends when they are answered."""
    queue(1, "--rpm", "6000")
    worker = house.start("worker", "--json")
    worker.sees("job.completed")
    house.jobs(30, "more.jsonl", prefix="m")
    done = house.submit(file="more.jsonl", code=0)
    assert done.named("job.completed") == []
    worker.until(lambda: len(worker.so_far.named("job.completed")) == 31, "all are answered")
    worker.send(signal.SIGINT)
    worker.ended(130)


@pytest.mark.slow
def test_a_run_whose_key_it_lacks_is_left_to_others(
    house: House, queue: Callable[..., None]
) -> None:
    """A worker without the key says so, sends nothing of it, and another does."""
    queue(5, "--rpm", "6000", "-H", "X-Team: ${TEAM}", TEAM="a")
    idle = start(house)
    idle.ended(0)
    assert house.counts().pending == 5
    assert "left to others" in idle.so_far.err
    start(house, TEAM="a").ended(0)
    assert house.counts().completed == 5


def test_a_run_that_halted_goes_on_when_somebody_asks_for_it(
    house: House, api: ApiServer, queue: Callable[..., None]
) -> None:
    """Workers leave what stopped by itself alone, until resume beside them asks for it."""
    api.script([{"status": 401}])
    queue(3, "--rpm", "6000")
    worker = house.start("worker", "--json")
    worker.sees("run.halted")
    api.script([])
    house.resume(code=0)
    assert house.counts().completed == 3
    worker.send(signal.SIGINT)
    worker.ended(130)


def test_who_asks_for_a_run_is_told_that_workers_leave_it(
    house: House, queue: Callable[..., None]
) -> None:
    """Nobody waits without a word; once no worker is there the one that waits sends it itself."""
    queue(3, "--rpm", "6000", "-H", "X-Team: ${TEAM}", TEAM="a")
    worker = house.start("worker", "--json")
    worker.says("left to others")
    asking = house.start("resume", "--json", environ={"TEAM": "a"})
    asking.says("waits: a worker leaves it to others")
    worker.send(signal.SIGINT)
    worker.ended(130)
    asking.ended(0)
    assert house.counts().completed == 3


def test_a_worker_refuses_what_it_cannot_work_with(
    house: House, queue: Callable[..., None]
) -> None:
    """A provider that there is none of, and a log in a file of results, are wrong usages."""
    output = house.folder / "out.csv"
    queue(1, "-o", str(output))
    done = house.run("worker", "--provider", "nobody", "--until-done", code=2)
    assert "nobody" in done.err
    done = house.run("worker", "--until-done", "--log-file", str(output), code=2)
    assert "writes its results there" in done.err


def test_a_file_has_no_workers(house: House) -> None:
    """On a file one process sends; the message names what does it there."""
    house.environ["BATCHRUNNER_DB"] = str(house.folder / "jobs.db")
    house.jobs(1)
    house.submit("--no-run", code=0)
    done = house.run("worker", code=2)
    assert "a file, from which one process sends" in done.err
    assert "[redacted]" not in done.err


@pytest.mark.slow
def test_who_only_looks_keeps_nobody_waiting(
    house: House, api: ApiServer, queue: Callable[..., None]
) -> None:
    """A worker with runs that wait, and runs that it leaves to others, goes on beside a turn that takes long."""
    api.script([{"n": 1}, {"status": 429, "headers": {"retry-after": "3600"}}])
    queue(3, "-c", "1")
    house.jobs(3, "left.jsonl", prefix="l")
    house.submit("--no-run", "--tags", "other", file="left.jsonl", code=0)
    worker = house.start("worker", "--json")
    worker.sees("limit.waiting")
    place = place_of(str(house.db))
    assert isinstance(place, Server)
    number = f"({class_of(place.schema)}, {WRITING})"
    db = PgDatabase.open_at(place, create=False)
    turn, looking = db.connect(), db.connect()

    def beat(after: int) -> int:
        """Return when it was heard of after that moment."""
        found = looking.execute("SELECT max(beat_at) FROM process").fetchone()
        return found[0] if found and found[0] > after else 0

    # Where its time goes is stored every ten seconds, alone: not twice in these.
    for _ in range(2):
        turn.execute(f"SELECT pg_advisory_lock_shared{number}")
        try:
            at = 0
            for _ in range(4):
                at = until(lambda last=at: beat(last), "it is heard of", seconds=4)
            break
        except AssertionError:
            turn.execute(f"SELECT pg_advisory_unlock_shared{number}")
            until(lambda last=at: beat(last), "it goes on once it may be alone")
    else:
        pytest.fail("a worker with nothing to do waited to be alone")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("n_workers", [2, 4])
def test_no_minute_is_over_the_limit_of_all(
    house: House, api: ApiServer, queue: Callable[..., None], n_workers: int
) -> None:
    """Over real sockets any minute holds at most N, whoever sends and is killed, and N are nearly used."""
    n = 900
    queue(1_200, "--rpm", str(n))
    workers = [start(house) for _ in range(n_workers)]
    workers[-1].sees("job.completed", 50)
    workers[-1].kill()
    workers[-1] = start(house)
    for worker in workers[:-1]:
        worker.ended(0, timeout=200)
    workers[-1].ended(0)
    sends = sorted(request.mono for request in api.requests())
    most = max(bisect_left(sends, at + 60.0) - first for first, at in enumerate(sends))
    assert 0.97 * n <= most <= n
    assert house.counts().completed == 1_200
    assert len(answered(api)) == 1_200
    assert house.run("db", "check").code == 0


@pytest.mark.slow
def test_a_worker_that_sleeps_past_its_lease_overwrites_nothing(
    house: House, api: ApiServer, queue: Callable[..., None]
) -> None:
    """Others take over what it had claimed; when it wakes it stores nothing and ends."""
    api.script([{"delay_s": 0.2}])
    queue(60, "-c", "2", "--rpm", "6000")
    sleeper, other = start(house), start(house)
    sleeper.sees("job.completed", 2)
    sleeper.send(signal.SIGSTOP)
    other.ended(0, timeout=100)
    before = {key: job.finished_at for key, job in house.rows().items()}
    assert house.counts().completed == 60
    sleeper.send(signal.SIGCONT)
    done = sleeper.ended(5)
    assert "not heard of" in done.error["message"]
    assert {key: job.finished_at for key, job in house.rows().items()} == before
    assert house.run("db", "check").code == 0


@pytest.mark.parametrize("error_s", [pytest.param(-7_200, marks=pytest.mark.slow), 7_200])
def test_a_machine_with_another_clock_keeps_the_limits_with_the_others(
    house: House, api: ApiServer, server: PostgresServer, queue: Callable[..., None], error_s: int
) -> None:
    """Whatever its calendar says, a worker books by the server's clock: both send, and no pace is passed."""
    queue(5, "--rpm", "600")
    error, boot = house.folder / "error", house.folder / "boot"
    error.write_text(str(error_s))
    boot.write_text("another machine's")
    house.environ["PYTHONPATH"] = str(Path(__file__).parents[2])
    rig = json.dumps({"clock": str(error), "boot": str(boot)})
    right, wrong = house.program, ("-m", "tests.faults.rigged", rig)
    # Whoever is ahead begins: by its own calendar the other one would have to wait for it.
    house.program = wrong if error_s > 0 else right
    first = house.start("worker", "--json")
    first.sees("run.finished")
    house.program = right if error_s > 0 else wrong
    second = house.start("worker", "--json")
    schema = str(house.db).rpartition("=")[2]
    there = f"SELECT FROM {schema}.process WHERE role = 'worker' AND beat_at IS NOT NULL"
    second.until(lambda: len(server.execute(there)) == 2, "both are there")
    api.script([{"delay_s": 0.05}])
    house.program = right
    house.jobs(40, "more.jsonl", prefix="m")
    house.submit("--no-run", file="more.jsonl", code=0)
    until(lambda: len(answered(api)) == 45, "all are answered")
    for worker in (first, second):
        worker.send(signal.SIGINT)
        worker.ended(130)
    assert set(answered(api).values()) == {1}
    assert len(shares(house, server)) == 2
    sends = sorted(request.mono for request in api.requests())
    # Ten a second, what a late send may be moved by, and the network.
    assert max(bisect_left(sends, at + 1.0) - first for first, at in enumerate(sends)) <= 13
