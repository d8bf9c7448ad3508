"""The server goes away under load, and comes back: workers wait and go on, and nothing is sent for nothing."""

from __future__ import annotations

import contextlib
import os
import signal
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from time import sleep

import pytest

from tests.fakes import ApiServer
from tests.fakes.postgres_cut import cutting_proxy
from tests.fakes.postgres_server import PostgresServer, programs, running_postgres
from tests.integration.house import House, Running

#: Ends the sessions that hold the sender's lock.
END_SENDERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1"
)


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that a test may stop."""
    binaries = programs()
    assert binaries is not None
    with running_postgres(binaries) as running:
        yield running


@pytest.fixture
def queue(
    house: House, own_server: PostgresServer, request: pytest.FixtureRequest
) -> Callable[..., None]:
    """Store jobs on the server that may be stopped, without sending them."""

    def stored(n: int, *options: str) -> None:
        house.environ["ANTHROPIC_API_KEY"] = "test"
        house.environ["BATCHRUNNER_DB"] = own_server.url(f"away{abs(hash(request.node.name))}")
        house.jobs(n)
        house.submit("--no-run", *options, code=0)

    return stored


def start(house: House, *options: str) -> Running:
    """Start a worker that ends with the work."""
    return house.start("worker", "--until-done", "--json", *options)


def counts(house: House) -> dict[str, int]:
    """Return the run's counts, as the command has them."""
    found: dict[str, int] = house.run("status", "--json").json["jobs"]
    return found


def answered(api: ApiServer) -> Counter[str]:
    """Return how often each job was answered."""
    return Counter(request.prompt for request in api.requests() if request.status == 200)


def interrupted(house: House) -> int:
    """Return how many sends are marked as possibly made for nothing."""
    n: int = house.run("status", "--json").json["requests"]["interrupted"]
    return n


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(signal.SIGINT, id="fast", marks=pytest.mark.slow),
        pytest.param(signal.SIGQUIT, id="immediate"),
    ],
)
def test_workers_go_on_when_the_server_is_back(
    house: House,
    api: ApiServer,
    own_server: PostgresServer,
    queue: Callable[..., None],
    how: signal.Signals,
) -> None:
    """Restarted under load, no job goes twice, all are answered, and each worker says so once."""
    api.script([{"delay_s": 0.1}])
    queue(100, "-c", "4", "--rpm", "1200")
    workers = [start(house) for _ in range(2)]
    for worker in workers:
        worker.sees("job.completed", 5)
    own_server.stop(how)
    for worker in workers:
        worker.says("Waiting for it")
    own_server.start()
    for worker in workers:
        done = worker.ended(0)
        assert done.err.count("Waiting for it") == done.err.count("The database is back") == 1
    assert counts(house)["completed"] == 100
    assert len(answered(api)) == 100
    assert answered(api).total() - 100 <= interrupted(house)
    sends = sorted(request.mono for request in api.requests())
    # Twenty a second, what a late send may be moved by, and the network.
    assert max(bisect_left(sends, at + 1.0) - first for first, at in enumerate(sends)) <= 24
    assert house.run("db", "check").code == 0


def test_a_submit_that_loses_its_server_stores_nothing(
    house: House, own_server: PostgresServer, queue: Callable[..., None]
) -> None:
    """Gone in the middle of a file, it is told what to do; nothing is half there, and that does it."""
    queue(1, "--name", "former")
    # A file is read in blocks of 1 MiB, and stored in pieces of 2,000 jobs.
    whole = house.jobs(5_000, "whole.jsonl", prefix="w", metadata={"long": "x" * 700})
    pipe = house.folder / "jobs.pipe"
    os.mkfifo(pipe)
    submit = house.start_submit("--no-run", "--name", "file", file=pipe.name)
    schema = house.environ["BATCHRUNNER_DB"].rpartition("=")[2]
    with pipe.open("wb") as file:
        lines = whole.read_bytes()
        file.write(lines[: len(lines) * 2 // 3])
        file.flush()
        submit.until(lambda: own_server.execute(f"SELECT FROM {schema}.job OFFSET 1"), "jobs")
        own_server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'batchrunner'"
        )
        with contextlib.suppress(BrokenPipeError):
            file.write(lines[len(lines) * 2 // 3 :])
    error = submit.ended(5).error
    assert "while the file was read in" in error["message"]
    assert "give the same command again" in error["fix"]
    names = [one["run"]["name"] for one in house.run("runs", "--json").json["runs"]]
    assert names == ["former"]
    house.submit("--no-run", "--name", "file", file=whole.name, code=0)
    assert own_server.execute(f"SELECT count(*) FROM {schema}.job") == [(5_001,)]
    assert house.run("db", "check").code == 0


@pytest.mark.slow
def test_a_worker_that_loses_its_connections_keeps_its_jobs(
    house: House, api: ApiServer, own_server: PostgresServer, queue: Callable[..., None]
) -> None:
    """Cut off in turns again and again it comes back before others take it for dead: nothing goes twice."""
    api.script([{"delay_s": 0.05}])
    queue(120, "-c", "4", "--rpm", "1800")
    workers = [start(house) for _ in range(2)]
    for worker in workers:
        worker.sees("job.completed", 2)
    for n in range(1, 5):
        own_server.execute(END_SENDERS)
        workers[n % 2].until(
            lambda n=n: workers[n % 2].so_far.err.count("The database is back") >= n // 2,
            "it is back",
        )
    for worker in workers:
        worker.ended(0)
    assert counts(house)["completed"] == 120
    assert set(answered(api).values()) == {1}
    assert interrupted(house) == 0


@pytest.mark.slow
def test_who_sends_alone_and_who_follows_go_on(
    house: House, api: ApiServer, own_server: PostgresServer, queue: Callable[..., None]
) -> None:
    """Whichever of the two sends after it, both end with their runs done, and every answer is there."""
    queue(1)
    api.script([{"delay_s": 0.3}])
    house.jobs(80, "more.jsonl", prefix="m")
    first = house.start_submit("-c", "4", "--name", "one", file="more.jsonl")
    first.sees("job.completed", 5)
    house.jobs(20, "others.jsonl", prefix="o")
    second = house.start_submit("-c", "4", "--name", "two", file="others.jsonl")
    schema = house.environ["BATCHRUNNER_DB"].rpartition("=")[2]
    asked = f"SELECT FROM {schema}.ask WHERE taken_by IS NOT NULL"
    second.until(lambda: len(own_server.execute(asked)) == 2, "both runs are taken up")
    own_server.stop(signal.SIGQUIT)
    for running in (first, second):
        running.says("Waiting for it")
    own_server.start()
    first.ended(0)
    second.ended(0)
    # What the first had out and claimed ahead, and the second run's first job, which goes alone.
    assert answered(api).total() - 100 <= 2 * 4 + 1
    runs = house.run("runs", "--json").json["runs"]
    assert {one["run"]["name"]: one["jobs"]["completed"] for one in runs}.items() >= {
        ("one", 80),
        ("two", 20),
    }
    assert house.run("db", "check").code == 0


@pytest.mark.slow
def test_it_does_not_wait_for_ever(
    house: House, api: ApiServer, own_server: PostgresServer, queue: Callable[..., None]
) -> None:
    """After --max-wait a worker ends with 5 and says whose answers it could not store; views say so at once."""
    api.script([{"delay_s": 0.3}])
    queue(40, "-c", "4", "--rpm", "6000")
    worker = start(house, "--max-wait", "1s")
    worker.sees("job.completed", 5)
    own_server.stop(signal.SIGQUIT)
    done = worker.ended(5)
    assert "could not be stored" in done.error["message"]
    assert house.run("status", code=5).err.count("can't be reached") == 1
    own_server.start()
    # It could not say that it is gone: what it had is free after its lease.
    start(house).ended(0, timeout=90)
    assert counts(house)["completed"] == 40


@pytest.mark.slow
def test_told_to_stop_while_it_waits(
    house: House, own_server: PostgresServer, queue: Callable[..., None]
) -> None:
    """A worker that waits for its server, with nothing in its hands, ends at the first Ctrl-C."""
    queue(1, "--rpm", "6000")
    worker = house.start("worker", "--json")
    worker.sees("run.finished")
    own_server.stop()
    worker.says("Waiting for it")
    worker.send(signal.SIGINT)
    worker.ended(130)
    own_server.start()


@pytest.mark.slow
def test_a_server_that_stands_still_is_waited_for(
    house: House, api: ApiServer, own_server: PostgresServer, queue: Callable[..., None]
) -> None:
    """Three seconds without a word, the connections standing: nothing is lost, doubled or told."""
    api.script([{"delay_s": 0.05}])
    queue(120, "-c", "4", "--rpm", "1200")
    workers = [start(house) for _ in range(2)]
    for worker in workers:
        worker.sees("job.completed", 5)
    with own_server.standing_still():
        # After five it would end a session that it stood still in the middle of a turn of.
        sleep(3)
    for worker in workers:
        assert "Waiting for it" not in worker.ended(0).err
    assert set(answered(api).values()) == {1}
    assert interrupted(house) == 0


@pytest.mark.slow
@pytest.mark.parametrize("is_back", [False, True], ids=["away", "back"])
def test_what_others_were_given_is_not_sent_by_who_was_cut_off(
    house: House,
    api: ApiServer,
    own_server: PostgresServer,
    queue: Callable[..., None],
    is_back: bool,
) -> None:
    """Taken for dead it sends nothing more of what it had claimed, neither while it is away nor afterwards."""
    api.script([{"n": 1}, {"n": [2, 3], "delay_s": 12}, {}])
    # Only what has a limit asks the queue when it is late.
    queue(6, "-c", "2", *(("--rpm", "6000") if is_back else ()))
    direct = house.environ["BATCHRUNNER_DB"]
    with cutting_proxy(own_server.port) as proxy:
        there = direct.replace(f":{own_server.port}/", f":{proxy.port}/")
        cut = house.start("worker", "--json", environ={"BATCHRUNNER_DB": there})
        cut.until(lambda: len(api.requests()) == 1, "the first is answered")
        schema = direct.rpartition("=")[2]
        claimed = f"SELECT id FROM {schema}.job WHERE state = 'running'"
        cut.until(
            lambda: len(api.requests()) == 3 and len(own_server.execute(claimed)) == 4,
            "two are sent, and two wait",
        )
        proxy.shut()
        other = start(house)
        other.until(lambda: interrupted(house) == 4, "the others are given back")
        if is_back:
            proxy.is_shut = False
            cut.says("The database is back")
        other.ended(0, timeout=60)
        cut.until(lambda: answered(api).total() >= 8, "its own two are answered too")
        proxy.is_shut = False
        # Which it finds out when nothing of it is in its hands any more.
        cut.sees("run.finished")
        cut.send(signal.SIGINT)
        cut.ended(130)
    assert sorted(answered(api).values()) == [1, 1, 1, 1, 2, 2]
    assert counts(house)["completed"] == 6
