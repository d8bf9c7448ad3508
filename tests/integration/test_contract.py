"""The contract, table by table: names, columns, JSON keys, exit codes, options and their defaults.

What stands here is what scripts were written against. A row is never changed, only added.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import pytest

from batchrunner.cli import main
from batchrunner.cli.root import COMMANDS, root
from batchrunner.formats.export import FORMATS
from batchrunner.formats.rows import COLUMNS
from batchrunner.models import ErrorKind, ExitCode, JobState, RunState, WaitingReason

#: §3, in this order.
CSV: Final = (
    "key,status,attempts,http_status,error_kind,error_message,model,output_text,finish_reason,"
    "input_tokens,output_tokens,cost_usd,latency_ms,request_id,started_at,finished_at"
)
#: Names that somebody else's script compares with → where they are ours.
NAMES: Final[dict[str, tuple[str, Any]]] = {
    "error kinds": (
        """authentication permission credit spend_limit model_not_found invalid_request
        request_too_large content_refused rate_limited daily_limit overloaded server_error timeout
        connection_reset connection dns tls proxy redirect bad_response interrupted cancelled""",
        ErrorKind,
    ),
    "reasons": (
        """rate_limited overloaded daily_limit spend_limit budget max_time max_failures same_error
        authentication permission credit model_not_found network tls proxy redirect paused
        interrupted""",
        WaitingReason,
    ),
    "states of a run": ("ready running waiting halted paused finished cancelled", RunState),
    "states of a job": ("pending running completed failed cancelled", JobState),
    "columns": (CSV.replace(",", " "), COLUMNS),
    "formats": ("csv jsonl openai anthropic input parquet xlsx", FORMATS),
}
#: §1, those of later releases left out.
COMMANDS_OF_1: Final = (
    "submit resume status runs jobs show errors retry pause cancel export plan usage limits explain report"
    " doctor demo worker db init config schema completion"
)
#: §1: option of ``submit``, ``resume`` and ``retry`` → its default as the help says it.
DEFAULTS: Final = {
    "--api-version": "2023-06-01",
    "--rpm": "auto",
    "--tpm": "auto",
    "--itpm": "auto",
    "--otpm": "auto",
    "--rpd": "auto",
    "--tpd": "auto",
    "--day-resets": "UTC",
    "--account": "the organization responses name, else the key",
    "--min-interval": "0",
    "--concurrency": "auto",
    "--priority": "0",
    "--max-attempts": "5",
    "--timeout": "600",
    "--connect-timeout": "30",
    "--max-cost": "none",
    "--max-time": "none",
    "--max-failures": "none",
    "--max-wait": "26h",
    "--max-response": "32MB",
    "--max-tokens": "4096 where the provider demands one",
}
#: §6: what ``status --json`` has, level by level; a name with ``?`` may be null.
RUN: Final = {
    "run": ("id", "name", "state", "provider", "created_at", "runner?"),
    "jobs": ("total", "pending", "running", "completed", "failed", "cancelled"),
    "requests": ("sent", "retried", "rate_limited", "interrupted"),
    "waiting?": ("reason", "until?", "detail"),
    "limits": (),
    "tokens": ("input?", "output?"),
    "cost_usd?": (),
    "rate": ("requests_per_minute?", "eta?"),
}
LIMIT: Final = ("limit", "value?", "source", "used?", "remaining?", "resets_at?")
#: State of a database → why its run waits, and whether tokens are known.
STANDS: Final = {
    "finished": (RunState.FINISHED, None, True),
    "stopped": (RunState.READY, WaitingReason.DAILY_LIMIT, True),
    "halted": (RunState.HALTED, WaitingReason.NETWORK, False),
    "stored": (RunState.READY, None, False),
}
VIEWS: Final = (
    ("status",),
    ("runs",),
    ("jobs",),
    ("errors",),
    ("limits",),
    ("usage",),
    ("explain",),
    ("show", "jobs", "a"),
    ("config", "show"),
)
DURATIONS: Final = {"90": 90, "90s": 90, "2h30m": 9_000, "3d": 259_200}


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give a folder with a database for each way in which a run may stand, and an empty one."""
    folder = tmp_path_factory.mktemp("contract")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HOME", str(folder))
        patch.setenv("OPENAI_API_KEY", "k")
        patch.delenv("BATCHRUNNER_DB", raising=False)
        (folder / "jobs.jsonl").write_text(
            '{"id":"a","prompt":"x","metadata":{"n":1}}\n{"id":"b","prompt":"y"}\n'
        )
        simulated = ("submit", "jobs.jsonl", "--provider", "simulator", "--model", "sim-1", "-q")
        nowhere = ("--base-url", "http://127.0.0.1:1", "--max-wait", "0", "-q", "--model", "m")
        assert main([*simulated, "--db", "finished.db"]) == 0
        assert main([*simulated, "--db", "stopped.db", "--rpd", "1", "--no-wait"]) == 3
        there = ("submit", "jobs.jsonl", "--provider", "openai", "--db", "halted.db")
        assert main([*there, *nowhere]) == 6
        assert main([*simulated, "--db", "stored.db", "--no-run"]) == 0
        # It writes jobs of its own where it is.
        (folder / "begun").mkdir()
        patch.chdir(folder / "begun")
        assert main(["init", "--db", "../empty.db"]) == 0
        patch.chdir(folder)
        yield folder


def called(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """Return what a command prints on stdout."""
    capsys.readouterr()
    assert main(list(words)) == code
    return capsys.readouterr().out


def check_keys(value: Any, names: tuple[str, ...]) -> None:
    """Check that all names are there, and null only where that may be."""
    for name in names:
        assert name.rstrip("?") in value, name
        assert name.endswith("?") or value[name] is not None, name


@pytest.mark.parametrize("what", NAMES)
def test_names_are_those_of_the_contract(what: str) -> None:
    """Nothing of a list is missing or renamed, nor is anything added that nobody expects."""
    told, ours = NAMES[what]
    assert sorted(told.split()) == sorted(getattr(one, "value", one) for one in ours)


def test_columns_are_in_order() -> None:
    """Scripts take columns by their place."""
    assert ",".join(COLUMNS) == CSV


def test_commands_are_there() -> None:
    """Each command of the contract is one."""
    assert set(COMMANDS_OF_1.split()) <= set(COMMANDS)


def test_exit_codes_are_those_of_the_contract() -> None:
    """Codes are numbers that scripts compare with."""
    codes = {value for name, value in vars(ExitCode).items() if name.isupper()}
    assert codes == {0, 1, 2, 3, 4, 5, 6, 70, 129, 130, 143}


@pytest.mark.parametrize("option", DEFAULTS)
@pytest.mark.parametrize("command", ["submit", "resume", "retry"])
def test_help_tells_the_contracts_default(command: str, option: str) -> None:
    """Three commands take the same options, with the same defaults."""
    context = click.Context(root)
    found = root.get_command(context, command)
    assert found is not None
    (param,) = (one for one in found.params if option in one.opts)
    record = param.get_help_record(context)
    assert record is not None
    assert DEFAULTS[option] in " ".join(re.findall(r"\[default: ([^\]]*)\]", record[1]))


@pytest.mark.parametrize("stands", STANDS)
def test_status_has_every_key(
    databases: Path, stands: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """However a run stands, all keys are there, and null or 0 only as it should be."""
    state, reason, is_answered = STANDS[stands]
    view = json.loads(called(capsys, "status", "--json", "--db", f"{stands}.db"))
    assert view["version"] == 1
    check_keys(view, tuple(RUN))
    for name, names in RUN.items():
        if view[name.rstrip("?")] is not None:
            check_keys(view[name.rstrip("?")], names)
    for limit in view["limits"]:
        check_keys(limit, LIMIT)
    assert (view["run"]["state"], view["run"]["runner"]) == (state, None)
    assert (view["waiting"] or {}).get("reason") == reason
    assert all((n is not None) is is_answered for n in view["tokens"].values())
    assert view["cost_usd"] is None, "nobody knows what the simulator costs"
    (row,) = json.loads(called(capsys, "runs", "--json", "--db", f"{stands}.db"))["runs"]
    assert row == {name: view[name] for name in row}


@pytest.mark.parametrize("stands", STANDS)
@pytest.mark.parametrize("name", ["runs", "jobs", "errors", "limits", "usage"])
def test_lists_are_under_their_names(
    databases: Path, name: str, stands: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list has its version, its rows have their keys, and one of jobs the CSV's names."""
    view = json.loads(called(capsys, name, "--json", "--db", f"{stands}.db"))
    assert view["version"] == 1
    for row in view[name]:
        check_keys(row, LIMIT if name == "limits" else ())
        assert name != "jobs" or set(CSV.split(",")) <= set(row)
    if name == "jobs":
        sent = {"finished": 2, "stopped": 1}.get(stands, 0)
        assert [row["attempts"] for row in view["jobs"]].count(1) == sent
        unsent = view["jobs"][-1] if stands != "finished" else {}
        nulls = set(CSV.split(",")) - {"key", "status", "attempts", "model", "started_at"}
        assert all(unsent.get(column) is None for column in nulls)


@pytest.mark.parametrize("name", ["runs", "limits", "usage"])
def test_lists_of_an_empty_database_are_empty(
    databases: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list of nothing is a list."""
    assert json.loads(called(capsys, name, "--json", "--db", "empty.db"))[name] == []


@pytest.mark.parametrize(
    "words",
    [("status",), ("jobs",), ("errors",), ("export",), ("report",), ("explain",), ("resume",)],
    ids=" ".join,
)
@pytest.mark.parametrize("db", ["empty.db", "none.db"])
def test_what_asks_for_a_run_that_is_not_there(
    databases: Path, db: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a run, or a database, it is exit 2, with the path, as an object under --json."""
    error = json.loads(called(capsys, *words, "--json", "--db", db, code=2))["error"]
    assert list(error) == ["exit_code", "kind", "message", "fix", "lines"]
    assert (error["exit_code"], error["lines"]) == (2, [])
    assert str(databases / db) in error["message"]
    assert not (databases / "none.db").exists()


@pytest.mark.parametrize("words", VIEWS, ids=" ".join)
def test_global_options_stand_before_and_after(
    databases: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is one whether --db and --json stand before or after the command, or the variable says it."""
    given = ("--json", "--db", "stopped.db")
    after = called(capsys, *words, *given)
    before = called(capsys, *given, *words)
    mixed = called(capsys, "--db", "stopped.db", words[0], "--json", *words[1:])
    assert json.loads(after)["version"] == 1
    if words[0] == "explain":
        # Time goes on while nobody runs it.
        assert json.loads(after).keys() == json.loads(before).keys()
        return
    assert before == after == mixed


def test_the_variable_names_the_database(
    databases: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """BATCHRUNNER_DB stands for --db, which comes before it."""
    monkeypatch.setenv("BATCHRUNNER_DB", "halted.db")
    assert json.loads(called(capsys, "status", "--json"))["run"]["state"] == "halted"
    told = json.loads(called(capsys, "status", "--json", "--db", "finished.db"))
    assert told["run"]["state"] == "finished"


@pytest.mark.parametrize("place", ["postgresql+psycopg://me:hidden@h/db", "sqlite:///jobs.db"])
@pytest.mark.parametrize("by", ["option", "variable", "configuration"])
def test_another_address_is_no_database(
    databases: Path,
    by: str,
    place: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is refused as a wrong usage, without its password, and no file is made of it."""
    words = ["submit", str(databases / "jobs.jsonl"), "--provider", "simulator", "--model", "m"]
    monkeypatch.chdir(tmp_path)
    if by == "option":
        words += ["--db", place]
    elif by == "variable":
        monkeypatch.setenv("BATCHRUNNER_DB", place)
    else:
        (tmp_path / "batchrunner.toml").write_text(f'db = "{place}"\n')
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "this version keeps it in a file" in said or "by asyncpg alone" in said
    assert "hidden" not in said
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".toml"] == []


def test_a_table_has_its_columns_in_order(
    databases: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The CSV begins with the columns, then metadata; one row a job, in order, lines ending in LF."""
    text = called(capsys, "export", "--db", "stopped.db")
    head, *rows = text.splitlines()
    assert head == f"{CSV},metadata.n"
    assert "\r" not in text
    assert [row.split(",")[:5] for row in rows] == [
        ["a", "completed", "1", "200", ""],
        ["b", "pending", "0", "", ""],
    ]
    assert set(rows[1].split(",")) == {"b", "pending", "0", "sim-1", ""}
    assert called(capsys, "export", "--db", "stopped.db", "--excel").encode() == (
        b"\xef\xbb\xbf" + text.encode()
    )


@pytest.mark.parametrize(
    "column",
    [*CSV.split(","), "input_text", "request", "response", "output_json", "metadata.n", "n",
     "response.usage.input_tokens", "request.messages.0.content", "output_json.label"],
)  # fmt: skip
def test_a_column_is_headed_as_it_was_typed(
    databases: Path, column: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """--columns takes each name of the contract, and paths into them."""
    text = called(capsys, "export", "--db", "finished.db", "--columns", f"x.y,{column}")
    assert text.splitlines()[0] == f"x.y,{column}"
    assert len(text.splitlines()) == 3


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_has_a_row_a_job(
    databases: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Jobs that were never sent have theirs, in every format."""
    if name in ("parquet", "xlsx"):
        pytest.importorskip("pyarrow" if name == "parquet" else "xlsxwriter")
    out = tmp_path / "out"
    words = ("export", "--db", "stopped.db", "-f", name, "-o", str(out))
    called(capsys, *words)
    assert out.stat().st_size
    if name in ("csv", "jsonl", "openai", "anthropic", "input"):
        assert len(out.read_text().splitlines()) == 2 + (name == "csv")
    called(capsys, *words, code=2)
    called(capsys, *words, "--force")


@pytest.mark.parametrize("text", DURATIONS)
@pytest.mark.parametrize(
    "option",
    ["--min-interval", "--timeout", "--connect-timeout", "--max-time", "--max-wait"],
)
def test_a_duration_is_written_alike_everywhere(option: str, text: str) -> None:
    """Each option that takes a time takes every form of it, and so do the commands beside."""
    context = click.Context(root)
    submit = root.get_command(context, "submit")
    assert submit is not None
    (param,) = (one for one in submit.params if option in one.opts)
    assert param.type_cast_value(click.Context(submit), text) == DURATIONS[text]


@pytest.mark.parametrize("text", DURATIONS)
def test_a_duration_beside_the_runs_options(
    databases: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """usage --since, db prune --older-than and limits set take the same forms."""
    called(capsys, "usage", "--since", text, "--db", "finished.db")
    called(capsys, "db", "prune", "--older-than", text, "-y", "--db", "empty.db")
    called(capsys, "limits", "set", f"min-interval={text}", "--db", "halted.db")


#: Exit code → commands that end with it; the signals' are in test_signals.
EXITS: Final = [
    (0, ("submit", "jobs.jsonl", "--provider", "simulator", "--model", "sim-1")),
    (0, ("resume", "--db", "finished.db")),
    (0, ("export", "--db", "halted.db")),
    (0, ("status", "--db", "stopped.db")),
    (1, ("submit", "bad.jsonl", "--provider", "simulator", "--model", "s", "--skip-invalid")),
    (2, ("submit", "bad.jsonl", "--provider", "simulator", "--model", "s")),
    (2, ("submit", "jobs.jsonl")),
    (2, ("cancel", "jobs", "--db", "stored.db")),
    (2, ("db", "prune", "--db", "finished.db")),
    (3, ("resume", "--db", "stopped.db", "--no-wait")),
    (4, ("submit", "jobs.jsonl", "--provider", "anthropic", "--model", "claude-haiku-4-5")),
    (5, ("status", "--db", "damaged.db")),
    (6, ("resume", "--db", "halted.db", "--max-wait", "0")),
]


@pytest.mark.parametrize(("code", "words"), EXITS, ids=lambda value: str(value)[:60])
def test_exit_codes_are_provoked(
    databases: Path,
    code: int,
    words: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each code comes of what the contract says it comes of, and the object under --json says it."""
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    (databases / "bad.jsonl").write_text('{"id":"1","prompt":"x"}\nnot JSON\n')
    (databases / "damaged.db").write_bytes(b"no database at all " * 400)
    place = () if "--db" in words else ("--db", f"exit-{code}.db")
    out = called(capsys, *words, *place, "--json", code=code)
    if code > 1:
        assert json.loads(out.splitlines()[-1])["error"]["exit_code"] == code
