"""--notify and --webhook: told once, without a key, and never at the run's cost."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import ApiServer, running_server
from tests.integration.house import House, until

SECRET = "a-key-that-nobody-may-see"
KEY = {"ANTHROPIC_API_KEY": SECRET}


def told(house: House) -> list[dict[str, Any]]:
    """Return the events that the command of :func:`noting` wrote down."""
    notes = house.folder.parent / "notes"
    return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []


def noting(house: House) -> str:
    """Return a command that writes down its input and its environment, one event a line."""
    program = house.folder.parent / "note.py"
    program.write_text(
        "import json, os, sys\n"
        "event = json.load(sys.stdin)\n"
        "event['environ'] = dict(os.environ)\n"
        f"open({str(house.folder.parent / 'notes')!r}, 'a').write(json.dumps(event) + chr(10))\n"
    )
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(program))}"


def test_command_is_told_of_the_end(house: House) -> None:
    """A finished run is told once, with its results in place, its words in variables, and no key."""
    house.jobs(2)
    house.submit(
        "--notify",
        noting(house),
        "-o",
        "out.csv",
        environ={**KEY, "COPY": f"x{SECRET}", "MINE": "1"},
    )
    (event,) = told(house)
    environ = event.pop("environ")
    assert (event["version"], event["event"], event["exit_code"]) == (1, "run.finished", 0)
    assert event["run"]["name"] == "jobs"
    assert event["jobs"]["completed"] == 2
    assert event["output"] == str(house.folder / "out.csv")
    assert event["database"] == str(house.db)
    ours = {name: environ[name] for name in environ if name.startswith("BATCHRUNNER_")}
    assert ours == {
        "BATCHRUNNER_EVENT": "run.finished",
        "BATCHRUNNER_RUN": "jobs",
        "BATCHRUNNER_RUN_ID": event["run"]["id"],
        "BATCHRUNNER_DB": str(house.db),
        "BATCHRUNNER_REASON": "",
    }
    assert environ["MINE"] == "1"
    assert SECRET not in json.dumps([event, environ])


def test_halt_is_told_with_its_reason(house: House, api: ApiServer) -> None:
    """A run that halts is told with the reason and the exit code; what a server says holds no key."""
    api.script([{"status": 401, "body": {"error": {"message": f"bad key {SECRET}"}}}])
    house.jobs(2)
    house.submit("--notify", noting(house), code=4, environ=KEY)
    (event,) = told(house)
    assert (event["event"], event["exit_code"]) == ("run.halted", 4)
    assert event["waiting"]["reason"] == event["environ"]["BATCHRUNNER_REASON"] == "authentication"
    assert SECRET not in json.dumps(event)


def test_long_wait_is_told_once(house: House) -> None:
    """A day's limit is told when the wait begins, not again; a stop by Ctrl-C then is no news."""
    house.jobs(3)
    waiting = house.start_submit("--rpd", "1", "--notify", noting(house))
    waiting.sees("limit.waiting")
    waiting.until(lambda: told(house), "the wait is told")
    waiting.send(2)
    waiting.ended(130)
    (event,) = told(house)
    assert (event["event"], event["waiting"]["reason"]) == ("limit.waiting", "daily_limit")
    assert event["waiting"]["until"] > event["at"]


def test_a_follower_tells_of_its_own_run(house: House, api: ApiServer) -> None:
    """A run that another process sends is told by the call that asked for it, and by no other."""
    api.script([{"n": 1}, {"delay_s": 1}])
    house.jobs(4, "one.jsonl", prefix="a")
    house.jobs(2, "two.jsonl", prefix="b")
    first = house.start_submit("-c", "2", file="one.jsonl")
    first.sees("job.completed")
    second = house.start_submit("--notify", noting(house), file="two.jsonl")
    second.ended(0)
    first.ended(0)
    assert [(event["event"], event["run"]["name"]) for event in told(house)] == [
        ("run.finished", "two")
    ]


@pytest.mark.slow
def test_several_runs_are_told_as_they_end(house: House) -> None:
    """resume --all tells of each of its runs."""
    for name in ("a", "b"):
        house.jobs(1, f"{name}.jsonl", prefix=name)
        house.submit("--no-run", file=f"{name}.jsonl")
    house.resume("--all", "--notify", noting(house))
    assert sorted(event["run"]["name"] for event in told(house)) == ["a", "b"]


def test_a_run_that_could_not_begin_is_told_whole(house: House) -> None:
    """Of several runs one that lacks its key is told with its exit code, and once."""
    house.jobs(1, "a.jsonl", prefix="a")
    house.jobs(1, "b.jsonl", prefix="b")
    house.submit("--no-run", file="a.jsonl")
    own_address = ("--provider", "anthropic", "--model", "m", "--no-run")
    house.run("submit", "b.jsonl", *own_address)
    house.resume("--all", "--notify", noting(house), code=4)
    (event,) = [event for event in told(house) if event["run"]["name"] == "b"]
    assert (event["event"], event["exit_code"]) == ("run.halted", 4)


def test_failing_command_hurts_nothing(house: House) -> None:
    """Its failure is one sentence; the run, its exit code and its results are as without."""
    house.jobs(2)
    done = house.submit("--notify", "exit 3")
    assert done.err.count("--notify: the command ended with exit code 3") == 1
    assert house.counts().completed == 2


def test_hanging_command_is_ended(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that never ends, nor reads, is ended with what it started, and told of."""
    pid = house.folder.parent / "pid"
    program = house.folder / "short.py"
    program.write_text(
        "import sys, batchrunner.notifying as notifying\n"
        "notifying.COMMAND_S = 0.5\n"
        "from batchrunner.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    house.jobs(1)
    words = [
        "submit",
        "jobs.jsonl",
        *house.to_api,
        "--notify",
        f"sleep 600 & echo $! > {pid}; wait",
    ]
    done = subprocess.run(
        [sys.executable, str(program), *words],
        cwd=house.folder, env={**house.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "took longer than" in done.stderr
    until(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists(), "what it started is gone")


def test_ctrl_c_waits_for_no_command(house: House) -> None:
    """Who presses Ctrl-C when all is done is not kept by a command that takes its time."""
    house.jobs(1)
    running = house.start_submit("--notify", f"touch {house.folder.parent}/began; sleep 25")
    running.until((house.folder.parent / "began").exists, "the command runs")
    began = time.monotonic()
    running.send(2)
    running.ended(0)
    assert time.monotonic() - began < 15


def test_webhook_gets_the_event(house: House) -> None:
    """The same event is posted as JSON, once, to an address whose secret part nobody is shown."""
    with running_server([{"status": 204}]) as hook:
        house.jobs(2)
        done = house.submit(
            "--webhook",
            "${HOOK}",
            "-v",
            environ={**KEY, "HOOK": f"{hook.url}/hooks/T0/secret-path"},
        )
        (seen,) = hook.requests()
    assert (seen.method, seen.path) == ("POST", "/hooks/T0/secret-path")
    assert seen.headers["content-type"] == "application/json"
    assert (seen.json["event"], seen.json["jobs"]["completed"]) == ("run.finished", 2)
    assert SECRET not in seen.body
    assert seen.auth is None
    assert "secret-path" not in done.out + done.err


def test_configured_webhook_is_shown_by_its_host(house: House) -> None:
    """config show names the host of an address that stands in a file, not what lets one post."""
    (house.folder / "batchrunner.toml").write_text('webhook = "https://hooks.example/T0/secret"\n')
    shown = house.run("config", "show").out
    assert "https://hooks.example/…" in shown
    assert "secret" not in shown


def test_webhook_goes_by_the_runs_proxy(house: House, api: ApiServer) -> None:
    """What --proxy says holds for it too: the event arrives at the proxy, in its whole address."""
    with running_server([{"contains": "run.finished", "status": 200}]) as proxy:
        house.jobs(1)
        done = house.submit("--proxy", proxy.url, "--webhook", f"{api.url}/hook")
        posted = [seen for seen in proxy.requests() if "run.finished" in seen.body]
    assert len(posted) == 1, done
    assert not any("run.finished" in seen.body for seen in api.requests())


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ([{"status": 404}], "127.0.0.1 answered 404"),
        ([{"fault": "reset"}], "127.0.0.1 was not reached"),
    ],
)
def test_failing_webhook_hurts_nothing(
    house: House, rules: list[dict[str, Any]], says: str
) -> None:
    """A webhook that refuses or breaks off is one sentence with its host alone."""
    with running_server(rules) as hook:
        house.jobs(1)
        done = house.submit("--webhook", f"{hook.url}/hooks/secret-path")
    assert done.err.count(f"--webhook: {says}") == 1
    assert "secret-path" not in done.err


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("${NOT_SET_ANYWHERE}", "NOT_SET_ANYWHERE is not set"),
        ("hooks.example/x", "--webhook is no address"),
        ("http://hooks.example/secret", "http://hooks.example is unencrypted"),
    ],
)
def test_unusable_webhook_is_refused_before_anything_is_stored(
    house: House, address: str, says: str
) -> None:
    """It is told offline, exit 2, and no database is left."""
    house.jobs(1)
    refused = house.submit("--webhook", address, code=2)
    assert says in refused.error["message"]
    assert not house.db.exists()


@pytest.mark.slow
def test_configuration_says_it_and_an_option_takes_it_back(house: House) -> None:
    """notify in batchrunner.toml holds for every call; --notify none does without."""
    (house.folder / "batchrunner.toml").write_text(f"notify = {json.dumps(noting(house))}\n")
    house.jobs(1)
    house.submit()
    assert len(told(house)) == 1
    house.jobs(1, "more.jsonl", prefix="m")
    house.submit("--notify", "none", file="more.jsonl")
    assert len(told(house)) == 1


def test_nothing_of_it_is_stored(house: House) -> None:
    """A command is the call's alone: who gets the database runs nothing of it."""
    house.jobs(2)
    house.submit(
        "--no-run", "--notify", "echo not-to-be-stored", "--webhook", "http://127.0.0.1:9/x"
    )
    assert b"not-to-be-stored" not in house.db.read_bytes()
    assert b"127.0.0.1:9/x" not in house.db.read_bytes()
