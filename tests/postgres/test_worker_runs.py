"""What holds of one run over all workers that send it: its sample, its stops, who asks for it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from batchrunner.store.processes import ask_again, register_process
from batchrunner.store.runs import driver
from batchrunner.store.sharing import askers, is_led, untold
from tests.fakes import ApiServer, running_server
from tests.fakes.postgres_server import PostgresServer
from tests.integration.house import House, Running, until
from tests.integration.test_compressed import jobs as compressible
from tests.integration.test_sample import keys
from tests.unit.stored import NOW, database, lines, load


def start(house: House, **environ: str) -> Running:
    """Start a worker that ends with the work."""
    return house.start("worker", "--until-done", "--json", environ=environ)


@pytest.fixture(autouse=True)
def _key(house: House) -> None:
    house.environ["ANTHROPIC_API_KEY"] = "test"


def test_a_sample_goes_first_whoever_sends_it(house: House, api: ApiServer) -> None:
    """Its jobs and no others go, one that a dead worker had too; the rest after resume, by the same workers."""
    api.script([{"delay_s": 1.0}])
    house.jobs(60)
    house.submit("--sample", "12", "-c", "2", "--no-run", code=0)
    workers = [house.start("worker", "--json") for _ in range(3)]
    workers[0].sees("job.completed")
    workers[0].kill()
    api.script([{"n": 1, "status": 500}, {}])
    until(lambda: house.status().state == "paused", "the sample is over")
    assert (house.counts().completed, house.counts().pending) == (12, 48)
    assert len(keys(api)) == 12
    waiting = house.run("status", "--json").json["waiting"]
    assert "the sample is done (12 completed, 0 failed); 48 jobs are left" in waiting["detail"]
    house.resume(code=0)
    assert house.counts().completed == 60


@pytest.mark.parametrize("n_workers", [3, pytest.param(8, marks=pytest.mark.slow)])
def test_a_bad_account_costs_one_request(house: House, api: ApiServer, n_workers: int) -> None:
    """Workers that come at once: the first job goes alone, and its refusal halts the run for all."""
    api.script([{"status": 401, "delay_s": 0.5}])
    house.jobs(40)
    house.submit("--no-run", "-c", "8", code=0)
    for worker in [start(house) for _ in range(n_workers)]:
        worker.ended(0, timeout=60)
    status = house.run("status", "--json").json
    assert (status["run"]["state"], status["waiting"]["reason"]) == ("halted", "authentication")
    assert house.counts().pending == 40
    assert len(api.requests()) == 1


@pytest.mark.slow
def test_jobs_that_all_fail_alike_stop_the_run_after_ten(house: House, api: ApiServer) -> None:
    """Of all workers' first jobs ten end alike: the run stops, they go back, and no more were sent."""
    api.script([{"status": 400, "delay_s": 0.2}])
    house.jobs(80)
    house.submit("--no-run", "-c", "8", code=0)
    for worker in [start(house) for _ in range(4)]:
        worker.ended(0)
    waiting = house.run("status", "--json").json["waiting"]
    assert waiting["reason"] == "same_error"
    assert "the first 10 jobs all failed alike (invalid_request, HTTP 400)" in waiting["detail"]
    assert (house.counts().failed, house.counts().pending) == (0, 80)
    assert len(api.requests()) == 10


@pytest.mark.slow
def test_failures_of_all_workers_count(house: House, api: ApiServer) -> None:
    """--max-failures is the run's: whoever meets the last one stops it for all, what is in flight aside."""
    api.script([{"to": 5}, {"status": 400, "delay_s": 0.3}])
    house.jobs(200)
    house.submit("--no-run", "-c", "2", "--max-failures", "6", code=0)
    workers = [start(house) for _ in range(4)]
    for worker in workers:
        worker.ended(0)
    waiting = house.run("status", "--json").json["waiting"]
    assert waiting["reason"] == "max_failures"
    n = house.counts().failed
    # What is in flight, and what was answered and is not stored yet, for all four.
    assert 6 <= n <= 6 + 2 * 4 * 2
    assert len(api.requests()) == 5 + n
    start(house).ended(0)
    assert len(api.requests()) == 5 + n


@pytest.mark.slow
def test_what_one_machine_alone_can_not_do_stops_no_other(house: House, api: ApiServer) -> None:
    """A worker whose way ends at a refusal leaves the run after one request, and others go on."""
    api.script([{"delay_s": 2.0}])
    house.jobs(40)
    house.environ["ANTHROPIC_BASE_URL"] = api.url
    house.run("submit", "jobs.jsonl", "--model", "claude-x", "--no-run", "-c", "2", code=0)
    with running_server([{"status": 401}]) as elsewhere:
        good = start(house)
        good.sees("job.completed")
        bad = house.start("worker", "--json", environ={"ANTHROPIC_BASE_URL": elsewhere.url})
        bad.sees("run.halted")
        api.script([])
        good.ended(0, timeout=60)
        assert len(elsewhere.requests()) == 1
        bad.send(signal.SIGINT)
        bad.ended(130)
    assert house.counts().completed == 40
    assert house.status().state == "finished"


@pytest.mark.parametrize("skew_ms", [-3_600_000, 3_600_000], ids=["behind", "ahead"])
def test_who_asks_anew_is_told_from_who_asked_before_whatever_their_clocks_say(
    tmp_path: Path, skew_ms: int
) -> None:
    """A worker that left a run to another tries again once somebody asks who had not asked when it left."""
    db = database(tmp_path)
    run_id = load(db, lines(1))
    before, after = (register_process(db, "follower", now_ms=NOW + skew_ms) for _ in range(2))
    with db.write() as connection:
        conn = driver(connection)
        conn.execute("UPDATE run SET runner_id = 1")
        ask_again(conn, run_id, before, {})
        known = askers(conn, run_id)
        assert is_led(conn, run_id, knowing=known)
        assert not untold(conn)
        ask_again(conn, run_id, after, {})
        assert not is_led(conn, run_id, knowing=known)
        conn.execute("UPDATE run SET runner_id = NULL")
        assert untold(conn) == {run_id}
    for process in (before, after):
        process.lock.release()


@pytest.mark.parametrize(
    "words", [pytest.param(("--max-time", "1"), marks=pytest.mark.slow), ("--max-wait", "1s")]
)
def test_bounds_of_who_asks_are_the_call_s(
    house: House, api: ApiServer, words: tuple[str, str]
) -> None:
    """Who asks beside workers for no longer than so stops waiting, exit 3; the run goes on there."""
    api.script([{"n": 1}, {"n": 2, "status": 429, "headers": {"retry-after": "3600"}}, {}])
    house.jobs(3)
    house.submit("--no-run", "-c", "1", code=0)
    worker = house.start("worker", "--json")
    worker.sees("limit.waiting")
    stopped = house.resume(*words, code=3)
    said = "--max-time is over" if words[0] == "--max-time" else "longer than this call may wait"
    assert said in stopped.error["message"]
    assert house.status().state == "waiting"
    # What a run waits for is no end of it, whoever told it.
    worker.kill()
    house.start("worker", "--json").sees("limit.waiting")


def test_a_run_whose_only_sender_died_while_it_waited_is_taken_up(
    house: House, api: ApiServer
) -> None:
    """What a run waited for is no end of it; workers take it as they do where the death came between two waits."""
    api.script([{"n": 1}, {"n": 2, "status": 429, "headers": {"retry-after": "2"}}, {}])
    house.jobs(3)
    alone = house.start_submit("-c", "1")
    alone.sees("limit.waiting")
    until(lambda: house.status().waiting is not None, "others see it")
    alone.kill()
    start(house).ended(0)
    assert house.counts().completed == 3


def test_a_run_is_not_sent_before_all_of_it_is_said(house: House, api: ApiServer) -> None:
    """Who is killed between storing jobs and their limits leaves a run that workers don't touch till it is asked for."""
    house.jobs(3)
    killed = {"BATCHRUNNER_FAILPOINT": "submit.finished"}
    house.submit("--no-run", "--rpm", "6000", code=-signal.SIGKILL, environ=killed)
    start(house).ended(0)
    # Neither does it matter that others have found out that it is dead.
    start(house).ended(0)
    assert house.counts().pending == 3
    assert api.requests() == []
    house.submit("--no-run", "--rpm", "6000", code=0)
    start(house).ended(0)
    assert house.counts().completed == 3


def test_what_a_run_waits_for_stays_told_when_its_teller_goes(house: House) -> None:
    """Of two workers in one wait the one leaves: whoever stays tells the same, until the same time."""
    house.jobs(9)
    house.submit("--no-run", "--rpd", "1", code=0)
    workers = [house.start("worker", "--json") for _ in range(2)]
    for worker in workers:
        worker.sees("limit.waiting")
    told = house.status()
    assert told.waiting is not None
    assert told.waiting.reason == "daily_limit"
    assert told.runner is not None
    pids = [worker.process.pid for worker in workers]
    (teller,) = (worker for worker in workers if worker.process.pid == told.runner.pid)
    (other,) = (pid for pid in pids if pid != told.runner.pid)
    teller.send(signal.SIGINT)
    teller.ended(130)

    def is_told() -> bool:
        status = house.status()
        return status.runner is not None and status.runner.pid == other and bool(status.waiting)

    until(is_told, "the other one tells it", seconds=5)
    waiting = house.status().waiting
    assert waiting is not None
    assert (waiting.reason, waiting.detail) == (told.waiting.reason, told.waiting.detail)


@pytest.mark.parametrize(
    ("n", "options"),
    [
        pytest.param(20, (), id="claimed"),
        # Of these the next 64 are looked at before they are claimed.
        pytest.param(100, ("--itpm", "9000000"), id="looked-at", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_request_ends_a_worker_and_costs_no_answer(
    house: House, api: ApiServer, server: PostgresServer, n: int, options: tuple[str, ...]
) -> None:
    """Exit 5 names the job that can't be read back; what was answered before is stored."""
    compressible(house, n)
    house.submit("--compress", "--no-run", "-c", "1", "--name", "reviews", *options, code=0)
    schema = str(house.db).rpartition("=")[2]
    server.execute(
        f"UPDATE {schema}.payload SET body = substr(body, 1, 20) || '\\xFFFF' WHERE job_id & 4294967295 = {n - 2}"
    )
    done = start(house).ended(5)
    assert f"request of job 'j{n - 3}' can't be read back" in done.error["message"]
    n_answered = sum(request.status == 200 for request in api.requests())
    counts = house.counts()
    assert counts.completed >= n_answered - house.status().requests.interrupted
    assert counts.completed > 10
    assert counts.running == 0
