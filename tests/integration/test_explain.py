"""Where a run's time went and why it, or one of its jobs, is not done: over real sockets."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from batchrunner.cli.entry import main
from batchrunner.core.time_use import Kind
from batchrunner.options import JobFilter
from batchrunner.views import ExplainView, JobStory
from tests.fakes import ApiServer
from tests.integration.house import House, until

#: Between a process's own instants and those that its rows bear (s).
ROUNDING_S = 0.3


def seconds(view: ExplainView, *causes: str) -> float:
    """Return how much of a run's time went into these causes; none named: all of it."""
    assert view.time is not None
    return sum(p.seconds for p in view.time.parts if not causes or p.cause in causes)


def sums_to_the_whole(house: House) -> ExplainView:
    """Check that the parts sum to the run's time from its begin to its end, and return them."""
    view = house.app.explain()
    assert view.time is not None
    assert view.run.started_at is not None
    ended = view.run.finished_at or view.time.ended_at
    assert seconds(view) == pytest.approx((ended - view.run.started_at) / 1000, abs=ROUNDING_S)
    assert all(part.seconds >= 0 for part in view.time.parts)
    return view


def story(house: House, key: str) -> JobStory:
    """Return one job's story."""
    told = house.app.explain(house.status().name, key).job
    assert told is not None
    return told


def test_a_limit_that_sets_the_pace_has_the_time(house: House) -> None:
    """Under --rpm most of a run's time is that limit's, though requests go out all along."""
    house.jobs(12)
    house.submit("--rpm", "300")
    view = sums_to_the_whole(house)
    assert seconds(view, "rpm") > 0.6 * seconds(view)
    assert "limits set rpm=N" in view.advice
    assert view.standing.next == "batchrunner export jobs -o results.csv"


def test_slow_answers_have_the_time(house: House, api: ApiServer) -> None:
    """Without a limit in the way the time goes into waiting for answers."""
    api.script([{"delay_s": 0.3}])
    house.jobs(6)
    house.submit("-c", "2", "--rpm", "6000")
    view = sums_to_the_whole(house)
    assert seconds(view, "sending") > 0.7 * seconds(view)


def test_a_pause_and_a_backoff_are_told_apart(house: House, api: ApiServer) -> None:
    """What the provider asks for is a pause, with its words; a failed job's is its backoff."""
    api.script(
        [
            {"n": 2, "status": 429, "headers": {"retry-after": "2"}},
            {"contains": "say j1;", "status": 500, "times": 2},
        ]
    )
    house.jobs(3)
    house.submit("-c", "1", "--rpm", "none", "--max-attempts", "9")
    view = sums_to_the_whole(house)
    assert 1.7 < seconds(view, "rate_limited") < 3.0
    assert seconds(view, "retry") > 0
    assert view.time is not None
    (wait,) = [wait for wait in view.time.waits if wait.cause == "rate_limited"]
    assert wait.ended_at is not None
    # What goes first after it is claimed a second before it is over; by then no wait is told.
    assert -1.5 < wait.seconds - seconds(view, "rate_limited") < ROUNDING_S


def test_a_stop_and_the_way_on_are_accounted_for(house: House) -> None:
    """A full day stops it: nobody runs it until somebody does, and both are parts of its time."""
    house.jobs(3)
    house.submit("--rpd", "2", "--no-wait", code=3)
    view = house.app.explain()
    assert view.standing.reason == "daily_limit"
    assert view.standing.until is not None
    assert "batchrunner resume" in view.standing.next
    first = seconds(view, "stopped.daily_limit")
    assert until(lambda: seconds(house.app.explain(), "stopped.daily_limit") > first, "it goes on")
    assert story(house, "j2").standing.reason == "daily_limit"
    house.resume("--rpd", "none")
    view = sums_to_the_whole(house)
    assert seconds(view, "stopped.daily_limit") > first
    assert view.time is not None
    assert "stopped.daily_limit" in {wait.cause for wait in view.time.waits}


def test_a_wait_that_was_killed_ends_when_it_was_last_known(house: House) -> None:
    """After kill -9 in a wait the parts still sum to the whole, and the dead time is nobody's."""
    house.jobs(3)
    running = house.start_submit("--rpd", "1", "--wait")
    running.sees("limit.waiting")
    view = house.app.explain()
    assert view.standing.reason == "daily_limit"
    assert view.standing.next == "nothing is to be done: it goes on by itself"
    waiting = story(house, "j2").standing
    assert (waiting.reason, waiting.until) == ("daily_limit", view.standing.until)
    until(lambda: seconds(house.app.explain(), "rpd") > 0.3, "the open wait is counted")
    running.kill()
    dead = house.app.explain()
    assert "ended without a word" in dead.standing.detail
    assert (dead.standing.reason, dead.standing.next) == ("daily_limit", "batchrunner resume jobs")
    assert dead.time is not None
    assert {wait.cause for wait in dead.time.waits if wait.ended_at is None} == {"stopped.died"}
    house.resume("--rpd", "none")
    view = sums_to_the_whole(house)
    assert seconds(view, "stopped.died") > 0
    assert view.time is not None
    assert {part.kind for part in view.time.parts} >= {Kind.NOBODY.value}


def test_an_outage_has_the_time(house: House, api: ApiServer) -> None:
    """While nothing succeeds the time is the outage's, probes and all."""
    api.script([{"status": 529}])
    house.jobs(9)
    running = house.start_submit("--rpm", "none", "-c", "4")
    running.sees("limit.waiting")
    view = until(lambda: seconds(v := house.app.explain(), "outage") > 1 and v, "an outage")
    assert view.standing.reason == "overloaded"
    assert view.standing.next.endswith("batchrunner doctor")
    assert "batchrunner doctor" in view.advice
    running.kill()


def test_every_state_of_a_run_has_a_next_step(house: House, api: ApiServer) -> None:
    """Stored, paused, cancelled, halted, finished with failures: a sentence and a command each."""
    house.jobs(2)
    house.submit("--no-run")
    told = [house.app.explain()]
    house.app.pause("jobs")
    told.append(house.app.explain())
    house.app.cancel("jobs")
    told.append(house.app.explain())
    api.script([{"n": 1, "status": 401}, {"contains": "say j1;", "status": 400}])
    house.run("retry", "jobs", code=4)
    told.append(house.app.explain())
    house.resume(code=1)
    told.append(house.app.explain())
    assert [view.standing.reason for view in told] == [
        "nobody", "paused", "cancelled", "authentication", "finished",
    ]  # fmt: skip
    assert all("batchrunner" in view.standing.next for view in told)
    assert [view.time is None for view in told] == [True, True, True, False, False]
    sums_to_the_whole(house)
    house.jobs(3)
    house.submit("--name", "jobs", "--update", "--no-run")
    again = house.app.explain().standing
    assert (again.reason, again.next) == ("nobody", "batchrunner resume jobs")
    assert again.detail.startswith("Nobody runs it now. Left: ")
    house.resume(code=1)
    failed, done = story(house, "j1"), story(house, "j0")
    assert failed.standing.reason == "invalid_request"
    assert "retry jobs" in failed.standing.next
    assert done.standing.next == "batchrunner show jobs j0"
    steps = [moment.what for moment in done.moments if moment.what != "waited"]
    assert steps == ["stored", "sent", "sent", "completed"]


def test_a_held_model_is_why_its_jobs_wait(house: House, api: ApiServer) -> None:
    """A job whose model is missing says so, with what helps; others go on."""
    body = {"type": "error", "error": {"type": "not_found_error", "message": "model: sim-9"}}
    api.script([{"contains": "say x0;", "status": 404, "body": body}])
    jobs = [{"id": f"x{i}", "prompt": f"say x{i};", "model": "sim-9"} for i in range(2)]
    jobs += [{"id": "y", "prompt": "say y;", "model": "sim-1"}]
    house.write("jobs.jsonl", jobs)
    house.submit("-c", "1", code=4)
    told = story(house, "x1")
    assert told.standing.reason == "held"
    assert "sim-9" in told.standing.detail
    assert told.standing.next
    assert story(house, "y").status == "completed"


def test_a_retry_says_which_and_when(house: House, api: ApiServer) -> None:
    """Between two tries a job tells how the last one ended and which comes next, of how many."""
    api.script([{"contains": "say j0;", "status": 500}])
    house.jobs(2)
    house.submit("--max-attempts", "4", "--max-time", "1", "-c", "1", code=None)
    with sqlite3.connect(house.db) as connection:
        connection.execute("UPDATE job SET not_before = ? WHERE key = 'j0'", (time.time_ns(),))
    connection.close()
    told = story(house, "j0")
    if told.status == "pending":
        assert "of 4 is to come; the last one ended with server_error" in told.standing.detail
        assert "resume jobs" in told.standing.next
    assert any(moment.detail.startswith("server_error: 500") for moment in told.moments)


def test_a_job_in_line_counts_those_before_it(house: House, api: ApiServer) -> None:
    """While a process sends, a job says how many of its model go first."""
    api.script([{"from": 2, "fault": "hang"}])
    house.jobs(30)
    running = house.start_submit("-c", "1", "--rpm", "none")
    running.sees("job.completed")
    told = until(
        lambda: (last := story(house, "j29")).standing.reason == "in_line" and last, "in line"
    )
    assert told.standing.detail.endswith("jobs that ask for sim-1 come before it.")
    flying = until(
        lambda: next(iter(house.app.jobs(None, JobFilter(statuses=("running",)))), None),
        "in flight",
    )
    assert story(house, flying.key).standing.detail == "It is in flight, or about to be."
    running.kill()
    lost = story(house, flying.key).standing
    assert (lost.reason, lost.next) == ("interrupted", "batchrunner resume jobs")


def test_screens_and_json_say_the_same(house: House) -> None:
    """`explain` prints parts with shares; --json has them in seconds; a key alone is the latest run's."""
    house.jobs(4)
    house.submit("--rpm", "600")
    shown = house.run("explain").out
    assert "limit of requests a minute (rpm)" in shown
    assert "next   batchrunner export jobs --db" not in shown
    told = house.run("explain", "jobs", "j2", "--json").json
    assert told["version"] == 1
    assert set(told) == {"version", "run", "standing", "time", "advice", "job"}
    parts = told["time"]["parts"]
    assert sum(part["seconds"] for part in parts) == pytest.approx(told["time"]["seconds"])
    assert (told["job"]["key"], told["job"]["status"]) == ("j2", "completed")
    assert told["job"]["moments"][0]["at"].endswith("Z")
    assert house.run("explain", "j2").out.startswith("job     j2 of jobs (finished)")
    assert "There is no run 'nope'" in house.run("explain", "nope", code=2).err
    assert "has no job 'nope'" in house.run("explain", "jobs", "nope", code=2).err
    assert "--db" in house.run("explain", "jobs", "--db", str(house.db)).out
    page = house.run("report").out
    assert "Where the time went" in page
    assert "limit of requests a minute (rpm)" in page


def test_a_life_fits_a_narrow_terminal(
    house: House,
    api: ApiServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What a server said of a job is wrapped between words, not cut, nor left to the terminal."""
    said = " ".join(f"reason{n}" for n in range(30))
    api.script([{"status": 400, "body": {"error": {"message": said}}}])
    house.jobs(1)
    house.submit(code=1)
    monkeypatch.setattr("batchrunner.cli.tables.terminal_width", lambda: 60)
    assert main(["--db", str(house.db), "explain", "jobs", "j0"]) == 0
    (_, _, life) = capsys.readouterr().out.partition("\n\n")
    assert max(map(len, life.splitlines())) <= 60
    assert "reason0" in life
    assert said in " ".join(life.split())


def test_explain_and_usage_load_neither_engine_nor_http(house: House) -> None:
    """These views read the database, and none of what sends."""
    house.jobs(1)
    house.submit("--no-run")
    script = (
        "import sys; from batchrunner.cli import main;"
        "codes = [main(words) for words in (['explain'], ['explain', 'jobs', 'j0'], ['usage', '--chart'])];"
        "heavy = ('aiohttp', 'aiosqlite', 'alembic', 'jinja2', 'genai_prices', 'batchrunner.engine');"
        "print(codes, [name for name in sys.modules if name.startswith(heavy)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=house.folder
    )
    assert done.stdout.splitlines()[-1] == "[0, 0, 0] []"


def test_an_interrupted_run_waits_for_a_person(house: House, api: ApiServer) -> None:
    """After Ctrl-C the time is nobody's by its reason, and the next step is resume."""
    api.script([{"delay_s": 0.2}])
    house.jobs(20)
    running = house.start_submit("-c", "1")
    running.sees("job.completed")
    running.send(signal.SIGINT)
    running.ended(130)
    view = house.app.explain()
    assert view.standing.reason == "interrupted"
    assert view.standing.next == "batchrunner resume jobs"
    assert seconds(view, "stopped.interrupted") >= 0
    house.resume("-c", "8")
    assert seconds(sums_to_the_whole(house), "stopped.interrupted") > 0


def test_runs_that_take_turns_have_times_of_their_own(house: House) -> None:
    """Two runs that take turns in one process: each has time of its own that sums to its whole."""
    house.jobs(3)
    house.jobs(3, "more.jsonl", prefix="m")
    house.submit("--no-run")
    house.submit("--no-run", "--name", "more", file="more.jsonl")
    house.resume("--all", "--rpm", "300")
    for run in house.app.runs():
        view = house.app.explain(run.name)
        assert view.time is not None
        assert run.started_at is not None
        assert run.finished_at is not None
        assert seconds(view) == pytest.approx(
            (run.finished_at - run.started_at) / 1000, abs=ROUNDING_S
        )
