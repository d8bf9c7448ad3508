"""Several processes on one database: one sends, the others follow, take over, pause and cancel."""

from __future__ import annotations

import signal

import pytest

from batchrunner.models import RunState
from tests.fakes import ApiServer, running_server
from tests.integration.house import House, until

#: The first answer at once; the others so late that the run outlasts the start of another process.
SLOW = [{"n": 1}, {"delay_s": 2}]

BASE_URL = "ANTHROPIC_BASE_URL"
KEY = "ANTHROPIC_API_KEY"


def both(house: House, n: int = 12) -> None:
    """Write two job files."""
    house.jobs(n, "one.jsonl", prefix="a")
    house.jobs(n, "two.jsonl", prefix="b")


def test_a_second_submit_is_sent_by_the_first(house: House, api: ApiServer) -> None:
    """A second submit stores its run and follows; one process sends both, and each call ends with its own run's code."""
    api.script(SLOW)
    both(house)
    first = house.start_submit("-c", "2", file="one.jsonl")
    first.sees("job.completed")
    second = house.start_submit("-c", "2", file="two.jsonl")
    second.sees("run.stored")
    until(lambda: house.status("two").state is RunState.RUNNING, "the second run is taken up")
    api.script([])
    runner = house.status("two").runner
    assert runner is not None
    assert runner.pid == first.process.pid
    first.ended(0)
    second.ended(0)
    assert house.counts("one").completed == house.counts("two").completed == 12
    prompts = [r.prompt for r in api.requests()]
    assert len(prompts) == len(set(prompts)) == 24


@pytest.mark.parametrize(
    ("variable", "others", "says"),
    [
        (KEY, "one-more-key-of-a-gateway", "it has another key"),
        ("ALL_PROXY", "socks5h://127.0.0.1:9", "it goes by another proxy"),
        ("SSL_CERT_DIR", "/", "it trusts other certificates"),
    ],
)
def test_a_run_is_sent_only_as_who_asked_would_send_it(
    house: House, api: ApiServer, variable: str, others: str, says: str
) -> None:
    """With another key, proxy or trust in its environment a run waits until its own process sends."""
    api.script(SLOW)
    both(house, 4)
    theirs = {KEY: "the-first-key-of-a-gateway"}
    ours = {**theirs, variable: others}
    house.url = house.url.replace("127.0.0.1", "0.0.0.0")  # no loopback, so that proxies count
    insecure = "--allow-insecure-http"
    first = house.start_submit("-c", "1", insecure, file="one.jsonl", environ=theirs)
    first.sees("job.completed")
    second = house.start_submit("-c", "1", insecure, file="two.jsonl", environ=ours)
    second.says(f"two waits: the process that sends can't send it: {says}")
    first.ended(0)
    api.script([])
    if variable == "ALL_PROXY":
        # Nobody is there: what matters is that nobody went around it.
        second.sees("limit.waiting")
        assert {r.prompt[4] for r in api.requests()} == {"a"}
        return
    second.ended(0)
    assert house.counts("two").completed == 4
    assert [r.prompt[4] for r in api.requests()] == ["a"] * 4 + ["b"] * 4
    by_run = {(r.prompt[4], r.auth) for r in api.requests()}
    assert len(by_run) == 2
    assert len({auth for _, auth in by_run}) == (2 if variable == KEY else 1)


def test_an_address_of_the_environment_is_the_runs_own(house: House, api: ApiServer) -> None:
    """A run whose process has another base URL in its environment goes there and nowhere else."""
    api.script(SLOW)
    both(house, 3)
    options = ["--provider", "anthropic", "--model", "sim-1", "--json", "-c", "1"]
    with running_server() as other:
        first = house.start("submit", "one.jsonl", *options, environ={BASE_URL: api.url})
        first.sees("job.completed")
        house.run("submit", "two.jsonl", *options, environ={BASE_URL: other.url})
        first.ended(0)
        assert {r.prompt[4] for r in other.requests()} == {"b"}
    assert {r.prompt[4] for r in api.requests()} == {"a"}


def test_a_follower_takes_over_when_the_first_is_killed(house: House, api: ApiServer) -> None:
    """When the sender is killed the follower sends its own run; the other's stays ready."""
    api.script(SLOW)
    both(house)
    first = house.start_submit("-c", "1", file="one.jsonl")
    first.sees("job.completed")
    second = house.start_submit("-c", "1", file="two.jsonl")
    second.sees("run.stored")
    until(lambda: house.status("two").runner is not None, "the second run is taken up")
    first.kill()
    api.script([])
    second.ended(0)
    assert house.counts("two").completed == 12
    one = house.status("one")
    assert one.state is RunState.READY
    assert one.jobs.completed < 12, (
        "a run that crashed never restarts because another was submitted"
    )
    house.resume("one")
    assert house.counts("one").completed == 12


def test_ctrl_c_in_a_follower_leaves_the_run_going(house: House, api: ApiServer) -> None:
    """A follower that is interrupted exits 130 at once; its run is finished by the process that sends."""
    api.script(SLOW)
    both(house, 10)
    first = house.start_submit("-c", "1", file="one.jsonl")
    first.sees("job.completed")
    second = house.start_submit("-c", "1", file="two.jsonl")
    second.sees("run.stored")
    until(lambda: house.status("two").runner is not None, "the second run is taken up")
    second.send(signal.SIGINT)
    second.ended(130)
    api.script([])
    first.ended(0)
    assert house.counts("two").completed == 10


def test_no_wait_does_not_follow(house: House, api: ApiServer) -> None:
    """With --no-wait a second submit stores its run, does not follow, and exits 3."""
    api.script([{"n": 1}, {"fault": "hang"}])
    both(house)
    first = house.start_submit("-c", "1", file="one.jsonl")
    first.sees("job.completed")
    done = house.submit("--no-wait", file="two.jsonl", code=3)
    assert done.named("run.stored")
    assert house.counts("two").total == 12
    first.kill()


def test_the_same_run_followed_ends_with_its_code(house: House, api: ApiServer) -> None:
    """A second submit of the same file follows the run it finds, sends nothing itself, and gives the run's exit code."""
    api.script(
        [{"contains": "say j3;", "status": 400, "body": "no", "delay_s": 0.2}, {"delay_s": 0.2}]
    )
    house.jobs(8)
    first = house.start_submit("-c", "1")
    first.sees("job.completed")
    second = house.start_submit()
    second.says("the same content")
    first.ended(1)
    second.ended(1)
    assert len(api.requests()) == 8


def test_pause_and_resume_from_another_process(house: House, api: ApiServer) -> None:
    """pause ends a live run after what is in flight (exit 3, reason paused); resume goes on."""
    api.script([{"delay_s": 0.2}])
    house.jobs(100)
    running = house.start_submit("-c", "2")
    running.sees("job.completed")
    house.run("pause", "jobs")
    done = running.ended(3)
    assert done.error["kind"] == "paused"
    view = house.status()
    assert view.state is RunState.PAUSED
    assert view.jobs.completed == len(api.requests())
    assert view.jobs.running == 0
    nothing = house.run("resume", "--all", "--json", code=None)
    assert nothing.code in (0, 3)
    assert house.status().state is RunState.PAUSED, "resume --all leaves paused runs alone"
    api.script([])
    house.resume()
    assert house.counts().completed == 100


def test_who_follows_a_run_that_is_cancelled_sees_what_is_in_flight_stored(
    house: House, api: ApiServer
) -> None:
    """Its export has the answers of all that was sent, and its last words name the command that undoes it."""
    api.script([{"n": 1}, {"delay_s": 1}])
    both(house)
    first = house.start_submit("-c", "2", file="one.jsonl")
    first.sees("job.completed")
    second = house.start("submit", "two.jsonl", *house.to_api, "-c", "2", "-o", "two.csv")
    second.says("two: 12 jobs")
    until(lambda: house.status("two").jobs.running, "it is sent")
    house.run("cancel", "two", "-y")
    said = second.ended(3).err
    rows = (house.folder / "two.csv").read_text()
    assert "two cancelled" in said
    assert ": batchrunner retry two" in said
    assert ",running," not in rows
    assert ",completed," in rows


def test_a_run_cancelled_at_its_end_is_finished_by_retry(house: House) -> None:
    """Where a cancel came too late to cancel anything, retry finds nothing to do and exits 0."""
    house.jobs(2)
    house.submit("--no-run")
    house.run("cancel", "jobs", "-y")
    house.run("retry", "--no-run")
    house.resume()
    house.run("cancel", "jobs", "-y", code=2)
    assert house.status().state is RunState.FINISHED


def test_cancel_and_retry_from_another_process(house: House, api: ApiServer) -> None:
    """cancel ends a live run (exit 3), cancels what is left, keeps what was answered; retry undoes it."""
    api.script([{"delay_s": 0.2}])
    house.jobs(100)
    running = house.start_submit("-c", "2")
    running.sees("job.completed")
    house.run("cancel", "jobs", code=2)
    house.run("cancel", "jobs", "-y")
    running.ended(3)
    view = house.status()
    assert view.state is RunState.CANCELLED
    assert view.jobs.completed == len(api.requests())
    assert view.jobs.cancelled == 100 - view.jobs.completed
    assert (view.jobs.running, view.jobs.pending) == (0, 0)
    done = house.resume(code=2)
    assert "retry" in done.error["fix"]
    api.script([])
    house.run("retry", "--json")
    assert house.counts().completed == 100
    assert len(api.requests()) == 100


def test_a_higher_priority_goes_first(house: House, api: ApiServer) -> None:
    """A run with a higher priority is sent before what is left of one with a lower."""
    api.script([{"delay_s": 0.15}])
    both(house)
    first = house.start_submit("-c", "1", "--priority", "0", file="one.jsonl")
    first.sees("job.completed", 2)
    second = house.start_submit("-c", "1", "--priority", "5", "--rpm", "300", file="two.jsonl")
    second.ended(0)
    first.ended(0)
    order = "".join(r.prompt.removeprefix("say ")[0] for r in api.requests())
    assert order.count("a") == order.count("b") == 12
    start = order.index("b")
    assert order[start:].rstrip("a").count("a") <= 16


def test_equal_runs_share(house: House, api: ApiServer) -> None:
    """Two runs of equal priority under one limit take turns."""
    both(house, 30)
    house.submit("--no-run", "--rpm", "1200", file="one.jsonl")
    house.submit("--no-run", file="two.jsonl")
    house.resume("--all")
    order = "".join(r.prompt.removeprefix("say ")[0] for r in api.requests())
    assert sorted(order) == ["a"] * 30 + ["b"] * 30
    assert 10 <= order[:40].count("a") <= 30, (
        "both go on until the end, neither waits for the other"
    )
    assert 5 <= order[:30].count("a") <= 25


def test_limits_set_beside_a_live_run_hold(house: House, api: ApiServer) -> None:
    """A limit lowered from another process holds for the live run from then on."""
    api.script([{"delay_s": 0.05}])
    house.jobs(600)
    running = house.start_submit("-c", "1")
    running.sees("job.completed", 2)
    house.run("limits", "set", "rpd=10")
    running.sees("limit.waiting")
    assert len(api.requests()) < 600
    n = len(api.requests())
    view = house.status()
    assert view.jobs.completed + view.jobs.running >= n - 1
    running.send(signal.SIGINT)
    running.ended(130)
    assert len(api.requests()) == n


@pytest.mark.parametrize("command", [["status"], ["runs"], ["jobs"], ["export"], ["limits"]])
def test_views_work_beside_a_live_run(house: House, api: ApiServer, command: list[str]) -> None:
    """Every view answers while a run is being sent."""
    api.script([{"n": 1}, {"fault": "hang"}])
    house.jobs(5)
    running = house.start_submit("-c", "2", "--rpm", "600")
    running.sees("job.completed")
    done = house.run(*command)
    assert done.out
    running.kill()


def test_no_wait_of_a_finished_run_says_so_beside_a_sender(house: House, api: ApiServer) -> None:
    """What is done is done, whoever sends something else: its own exit code, at once."""
    api.script([{"contains": "say j1;", "status": 400, "body": "no"}])
    house.jobs(2)
    house.submit(code=1)
    api.script([{"delay_s": 20}])
    house.jobs(1, "other.jsonl", prefix="k")
    sender = house.start_submit(file="other.jsonl")
    sender.sees("run.started")
    for done in (house.submit("--no-wait", code=1), house.resume("jobs", "--no-wait", code=1)):
        assert done.named("run.finished")[0]["jobs"]["failed"] == 1
    sender.kill()
