"""Each command asks the application for the right thing, and says what came of it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from batchrunner.cli import main
from batchrunner.options import (
    NO_END,
    NO_WAIT_S,
    CallOptions,
    ExportOptions,
    JobFilter,
    LimitOptions,
    RunOptions,
)
from tests.fakes.application import AT_TEXT, FakeApplication, install


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FakeApplication:
    """The application's stand-in."""
    return install(monkeypatch)


def object_on(capsys: pytest.CaptureFixture[str]) -> Any:
    """Return the one JSON value on stdout."""
    return json.loads(capsys.readouterr().out)


def test_nothing_typed_is_nothing_said(app: FakeApplication) -> None:
    """Without options all defaults stay unsaid, so that stored ones hold."""
    assert main(["submit", "a.jsonl", "b.jsonl"]) == 0
    verb, asked = app.last
    assert verb == "submit"
    assert asked == {
        "files": ("a.jsonl", "b.jsonl"),
        "run": RunOptions(),
        "limits": LimitOptions(),
        "call": CallOptions(),
        "stdin": None,
    }


def test_every_option_arrives(app: FakeApplication, tmp_path: Path) -> None:
    """Each option of submit reaches its field."""
    prompt = tmp_path / "p.txt"
    prompt.write_text("Be brief.")
    words = (
        f"--name n --provider openai --base-url http://x/v1 --model m --max-tokens 9 --system @{prompt} "
        "--set a.b=1 --set c=d -H X:1 --header Y:2 --api-version v --rpm 50 --rpd none "
        "--day-resets rolling --min-interval 0.5 --account a -c 8 --priority -3 --max-attempts 2 "
        "--timeout 2m --connect-timeout 3 --max-time 1h --max-failures 5% --max-wait 2d --no-run "
        "--skip-invalid --update --max-response 1MB -o out.csv"
    )
    assert main(["submit", "f", *words.split()]) == 0
    _, asked = app.last
    assert asked["run"] == RunOptions(
        provider="openai",
        base_url="http://x/v1",
        model="m",
        max_tokens=9,
        system="Be brief.",
        headers=("X:1", "Y:2"),
        api_version="v",
        account="a",
        concurrency=8,
        priority=-3,
        max_attempts=2,
        timeout_s=120.0,
        connect_timeout_s=3.0,
        max_failures="5%",
        max_response=1024**2,
        output="out.csv",
    )
    assert asked["limits"] == LimitOptions(
        rpm=50, rpd="none", day_resets="rolling", min_interval_s=0.5
    )
    assert asked["call"] == CallOptions(
        name="n",
        max_time_s=3600.0,
        max_wait_s=172_800.0,
        no_run=True,
        update=True,
        skip_invalid=True,
        sets=(("a.b", "1"), ("c", '"d"')),
    )


@pytest.mark.parametrize(
    ("words", "call"),
    [
        (["--wait"], CallOptions(max_wait_s=NO_END)),
        (["--no-wait"], CallOptions(max_wait_s=NO_WAIT_S, no_wait=True)),
        (["--max-wait", "0"], CallOptions(max_wait_s=0.0)),
        ([], CallOptions()),
    ],
)
def test_waiting_is_chosen(app: FakeApplication, words: list[str], call: CallOptions) -> None:
    """--wait has no end, --no-wait is five minutes and no following."""
    assert main(["resume", *words]) == 0
    assert app.last[1]["call"] == call


@pytest.mark.parametrize(
    "words",
    [
        ["resume", "--wait", "--no-wait"],
        ["resume", "--wait", "--max-wait", "5"],
        ["submit", "f", "--update", "--new"],
        ["resume", "tickets", "--all"],
        ["submit"],
        ["submit", "f", "--rpm", "fast"],
        ["submit", "f", "--concurrency", "0"],
        ["jobs", "--status", "nope"],
        ["retry", "--error", "nope"],
        ["limits", "set", "rpm"],
        ["limits", "set", "speed=5"],
        ["export", "-f", "pdf"],
    ],
)
def test_wrong_use_asks_nothing(app: FakeApplication, words: list[str]) -> None:
    """A usage error exits 2 before the application is opened."""
    assert main(words) == 2
    assert app.calls == []


def test_standard_input_is_handed_on(app: FakeApplication, monkeypatch: pytest.MonkeyPatch) -> None:
    """``-`` brings stdin's bytes; without it stdin stays untouched."""
    stdin = io.TextIOWrapper(io.BytesIO(b"{}"))
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["submit", "-"]) == 0
    assert app.last[1]["stdin"] is stdin.buffer


def test_resume_all_and_retry_choose(app: FakeApplication) -> None:
    """resume takes --all, retry takes a choice of jobs."""
    assert main(["resume", "--all"]) == 0
    assert (app.last[0], app.last[1]["name"], app.last[1]["all_runs"]) == ("resume", None, True)
    assert (
        main(
            [
                "retry",
                "t",
                "--status",
                "failed",
                "--error",
                "timeout",
                "--job",
                "a",
                "--job",
                "b",
                "--limit",
                "3",
            ]
        )
        == 0
    )
    assert app.last[1]["jobs"] == JobFilter(
        statuses=("failed",), errors=("timeout",), keys=("a", "b"), limit=3
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--db", "x.db", "status"],
        ["status", "--db", "x.db"],
        ["--db", "y.db", "status", "--db", "x.db"],
    ],
)
def test_global_option_stands_anywhere(
    app: FakeApplication, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A global option before or after the command wins over the environment; the last one holds."""
    monkeypatch.setenv("BATCHRUNNER_DB", "environment.db")
    assert main(words) == 0
    assert app.path == Path("x.db")


def test_database_comes_from_the_environment(
    app: FakeApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BATCHRUNNER_DB names the database; empty, it is ./batchrunner.db."""
    monkeypatch.setenv("BATCHRUNNER_DB", "environment.db")
    assert main(["runs"]) == 0
    assert app.path == Path("environment.db")
    monkeypatch.setenv("BATCHRUNNER_DB", "")
    assert main(["runs"]) == 0
    assert app.path == Path("batchrunner.db")


def test_status_has_the_contract_shape(
    app: FakeApplication, capsys: pytest.CaptureFixture[str]
) -> None:
    """``status --json`` has the keys and values of CONTRACT §6."""
    assert main(["status", "--json"]) == 0
    told = object_on(capsys)
    assert told["version"] == 1
    run = told["run"]
    assert {name: run[name] for name in ("id", "name", "state", "provider", "created_at")} == {
        "id": "r1",
        "name": "tickets",
        "state": "waiting",
        "provider": "anthropic",
        "created_at": AT_TEXT,
    }
    assert run["runner"] == {"pid": 42, "host": "box", "user": "ann", "since": AT_TEXT}
    assert told["jobs"] == {
        "total": 200,
        "pending": 71,
        "running": 8,
        "completed": 120,
        "failed": 1,
        "cancelled": 0,
    }
    assert told["requests"] == {"sent": 140, "retried": 12, "rate_limited": 3, "interrupted": 0}
    waiting = told["waiting"]
    assert (waiting["reason"], waiting["until"], waiting["detail"]) == (
        "daily_limit",
        AT_TEXT,
        "200 of 200 used",
    )
    limit = told["limits"][0]
    assert (limit["limit"], limit["value"], limit["resets_at"]) == ("rpm", 50, AT_TEXT)
    assert told["tokens"] == {"input": 10, "output": 20}
    assert told["cost_usd"] is None
    assert told["rate"] == {"requests_per_minute": 48.5, "eta": AT_TEXT}


def test_lists_have_the_contract_shape(
    app: FakeApplication, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lists are one object with a version, also when they are empty."""
    assert main(["runs", "--json"]) == 0
    assert [row["run"]["name"] for row in object_on(capsys)["runs"]] == ["tickets"]
    assert main(["errors", "--json"]) == 0
    assert object_on(capsys)["errors"][0]["count"] == 3
    assert main(["limits", "--json"]) == 0
    assert set(object_on(capsys)["limits"][0]) == {
        "scope", "limit", "value", "source", "used", "remaining", "resets_at", "zone",
    }  # fmt: skip
    app.jobs_of_run = ()
    assert main(["jobs", "--json"]) == 0
    assert object_on(capsys) == {"version": 1, "jobs": []}


def test_job_rows_have_the_names_of_the_csv(
    app: FakeApplication, capsys: pytest.CaptureFixture[str]
) -> None:
    """``jobs --json`` rows carry the CSV's columns and the metadata; unknown is null."""
    assert main(["jobs", "--json"]) == 0
    row = object_on(capsys)["jobs"][0]
    columns = (
        "key,status,attempts,http_status,error_kind,error_message,model,output_text,finish_reason,"
        "input_tokens,output_tokens,cost_usd,latency_ms,request_id,started_at,finished_at"
    )
    assert list(row) == [*columns.split(","), "metadata"]
    assert (row["started_at"], row["finished_at"], row["metadata"]) == (
        AT_TEXT,
        None,
        {"team": "a"},
    )


def test_show_embeds_bodies(app: FakeApplication, capsys: pytest.CaptureFixture[str]) -> None:
    """JSON bodies come back digit for digit, others as text."""
    assert main(["show", "tickets", "ticket-17", "--json"]) == 0
    job = object_on(capsys)["job"]
    assert job["request"] == {"model": "m", "n": 12345678901234567890}
    assert job["response"] == "not json \x1b[31m"
    assert job["sends"][0]["sent_at"] == AT_TEXT


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["status"],
            ["tickets", "daily limit", "120 of 200 completed", "batchrunner.db", "process 42"],
        ),
        (["runs"], ["tickets", "120/200", "batchrunner.db"]),
        (["jobs"], ["ticket-17", "invalid_request", "field required"]),
        (
            ["show", "tickets", "ticket-17"],
            ["POST /v1/messages", '"model": "m"', "250 ms", "\\x1b[31m"],
        ),
        (["errors"], ["3 jobs", "ticket-17", "--update"]),
        (["limits"], ["rpm", "23", "27"]),
        (["limits", "set", "rpm=50"], ["60 → 50"]),
    ],
)
def test_view_is_told_in_words(
    app: FakeApplication, capsys: pytest.CaptureFixture[str], words: list[str], told: list[str]
) -> None:
    """A view without --json is text on stdout that no terminal obeys."""
    assert main(words) == 0
    out = capsys.readouterr().out
    assert [word for word in told if word not in out] == []
    assert "\x1b" not in out


def test_limits_are_set(app: FakeApplication) -> None:
    """``limits set`` takes the words of the options."""
    words = [
        "limits",
        "set",
        "rpm=50",
        "rpd=none",
        "day-resets=rolling",
        "min_interval=0.5",
        "--account",
        "a",
    ]
    assert main(words) == 0
    assert app.last == (
        "set_limits",
        {
            "account": "a",
            "limits": LimitOptions(rpm=50, rpd="none", day_resets="rolling", min_interval_s=0.5),
            "run": None,
            "concurrency": None,
        },
    )


def test_cancel_wants_a_yes(app: FakeApplication, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal cancel does nothing but name -y."""
    assert main(["cancel", "tickets"]) == 2
    assert "-y" in capsys.readouterr().err
    assert [verb for verb, _ in app.calls] == ["status"]
    assert main(["cancel", "tickets", "-y"]) == 0
    assert app.last == ("cancel", {"name": "tickets"})


@pytest.mark.parametrize(("answer", "code", "verb"), [("y\n", 0, "cancel"), ("n\n", 2, "status")])
def test_cancel_asks_on_a_terminal(
    app: FakeApplication, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, verb: str
) -> None:
    """On a terminal cancel asks, and takes no for an answer."""
    stdin = io.StringIO(answer)
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["cancel", "tickets"]) == code
    assert app.last[0] == verb


def test_no_input_never_asks(app: FakeApplication, monkeypatch: pytest.MonkeyPatch) -> None:
    """--no-input on a terminal is as good as no terminal."""
    stdin = io.StringIO("y\n")
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["cancel", "tickets", "--no-input"]) == 2


def test_export_goes_to_stdout_or_a_file(
    app: FakeApplication, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Only the data are on stdout; a file is told on stderr."""
    assert main(["export", "t", "-f", "jsonl", "-o", "-"]) == 0
    assert app.last[1]["options"] == ExportOptions(format="jsonl")
    assert capsysbinary.readouterr().out == app.exported
    assert main(["export", "-o", "x.csv", "--force", "--status", "failed"]) == 0
    assert app.last[1]["options"] == ExportOptions(
        output=Path("x.csv"), force=True, jobs=JobFilter(statuses=("failed",))
    )
    captured = capsysbinary.readouterr()
    assert (captured.out, captured.err) == (b"", b"wrote 1 row to x.csv\n")


def test_database_commands(
    app: FakeApplication, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database with problems exits 5 and names them."""
    assert main(["db", "upgrade"]) == 0
    assert main(["db", "backup", "copy.db"]) == 0
    assert app.last[1] == {"target": Path("copy.db")}
    assert main(["db", "check"]) == 0
    capsys.readouterr()
    monkeypatch.setattr(app, "db_check", lambda: ["run tickets counts 3 jobs of 4"])
    assert main(["db", "check"]) == 5
    assert "counts 3 jobs of 4" in capsys.readouterr().out
    assert main(["db", "check", "--json"]) == 5
    assert object_on(capsys)["problems"] == ["run tickets counts 3 jobs of 4"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_calls_us(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each shell gets a script that asks batchrunner for completions."""
    assert main(["completion", shell]) == 0
    assert "_BATCHRUNNER_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--priority", "--max-attempts", "--max-tokens", "--sample"])
def test_a_number_beyond_all_numbers_is_refused(
    app: FakeApplication, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    """Exit 2, with the largest that may be, before anything is asked of the application."""
    assert main(["submit", "f", option, "9" * 20]) == 2
    assert "999,999,999,999" in capsys.readouterr().err
    assert not app.calls


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["submit", "--rpm"], "submit"),
        (["plan", "--compare"], "plan"),
        (["db", "prune", "--older-than"], "db prune"),
        (["resume", "--wait=3"], "resume"),
        (["jobs", "--stats"], "jobs"),
    ],
)
def test_a_refused_option_names_the_help_of_its_command(
    app: FakeApplication, capsys: pytest.CaptureFixture[str], words: list[str], command: str
) -> None:
    """Whatever is wrong with it, the help that tells more is that of the command."""
    assert main(words) == 2
    assert f"fix: see batchrunner {command} --help" in capsys.readouterr().err
