"""What a person, a log and a program see while jobs run, and the last words after."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from batchrunner.cli import main
from batchrunner.cli.events import Events
from batchrunner.cli.lines import Lines
from batchrunner.cli.log import Logged
from batchrunner.cli.panel import Panel, bar
from batchrunner.cli.settings import Settings
from batchrunner.cli.summary import summary
from batchrunner.cli.words import (
    DRAINING_HINT,
    FOLLOWING_HINT,
    INTERRUPT_HINT,
    STOPPING_HINT,
    WAITING_HINT,
    Tally,
    waiting_words,
)
from batchrunner.models import JobCounts, RunState, Waiting, WaitingReason
from batchrunner.views import Event, Progress, Runner, RunResult, RunView
from tests.fakes.application import AT, AT_TEXT, DONE, RUN, FakeApplication, install

RUNNING = replace(RUN, state=RunState.RUNNING, waiting=None, requests_per_minute=58.0, eta=AT)
PICTURE = Progress(
    run=RUNNING, in_flight=8, concurrency=10, allowed_per_minute=60.0, elapsed_s=200.0
)
EVENT = Event(
    event="job.failed",
    at=AT,
    run_id="r1",
    run_name="tickets",
    data={"key": "ticket-17", "http_status": 400, "error_kind": "invalid_request"},
)


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is UTC, so that lines can be compared."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> FakeApplication:
    """The application's stand-in."""
    return install(monkeypatch)


class Wall:
    """A wall clock that is set by hand."""

    def __init__(self) -> None:
        self.ms = float(AT)

    def __call__(self) -> float:
        return self.ms


def lines(**options: Any) -> tuple[Lines, io.StringIO, Wall]:
    """Return lines, where they are written, and their clock."""
    stream, wall = io.StringIO(), Wall()
    return Lines(stream, db_name="/tmp/b.db", wall=wall, **options), stream, wall


def test_lines_begin_with_the_database_and_where_it_stands() -> None:
    """The first picture names the jobs, the database and the state of the work."""
    writer, stream, _ = lines()
    writer.progress(PICTURE)
    assert stream.getvalue().splitlines() == [
        "04:05:06 tickets: 200 jobs; database /tmp/b.db",
        "04:05:06 tickets: 120/200 done, 1 failed, 8 in flight, 58/min of 60, eta 04:05:06",
    ]


def test_lines_come_every_ten_seconds_at_most() -> None:
    """Pictures four times a second make one line in ten seconds."""
    writer, stream, wall = lines()
    writer.progress(PICTURE)
    stream.truncate(0)
    for _ in range(99):
        wall.ms += 250.0
        writer.progress(PICTURE)
    assert len(stream.getvalue().splitlines()) == 2


def test_lines_tell_a_change_at_once() -> None:
    """A wait and its end are told when they happen, a later end of the same wait is not."""
    writer, stream, wall = lines()
    writer.progress(PICTURE)
    stream.seek(0)
    stream.truncate(0)
    wait = Waiting(
        reason=WaitingReason.DAILY_LIMIT, until=AT + 18_720_000, detail="200 of 200 used"
    )
    waiting = replace(PICTURE, run=replace(RUN, waiting=wait), in_flight=0)
    writer.progress(waiting)
    later = replace(wait, until=AT + 18_720_900)
    writer.progress(replace(waiting, run=replace(RUN, waiting=later)))
    wall.ms += 1000.0
    writer.progress(PICTURE)
    assert stream.getvalue().splitlines() == [
        "04:05:06 tickets: waiting: daily limit: 200 of 200 used, until 09:17:06 (in 5h 12m)",
        "04:05:07 tickets: running",
        "04:05:07 tickets: 120/200 done, 1 failed, 8 in flight, 58/min of 60, eta 04:05:06",
    ]


def test_lines_tell_a_short_wait_that_comes_again_every_ten_seconds() -> None:
    """A server that says "in 3 s" for an hour fills no log; another reason or a long wait is told at once."""
    writer, stream, wall = lines()
    writer.progress(PICTURE)

    def told(seconds: float, detail: str) -> list[str]:
        """Return the lines of one wait and its end."""
        stream.seek(0)
        stream.truncate(0)
        wait = Waiting(
            reason=WaitingReason.RATE_LIMITED, until=wall.ms + seconds * 1000, detail=detail
        )
        writer.progress(replace(PICTURE, run=replace(RUN, waiting=wait), in_flight=0))
        wall.ms += seconds * 1000
        writer.progress(PICTURE)
        return [line.split(" ")[2].rstrip(":") for line in stream.getvalue().splitlines()]

    whole = ["waiting", "running", "120/200"]
    assert [told(3, "x") for _ in range(5)] == [whole, [], [], [], whole]
    assert told(3, "y") == whole
    assert told(60, "y") == whole


def test_lines_tell_draining_and_following() -> None:
    """A first Ctrl-C says what the second does; a follower says whom it follows."""
    writer, stream, _ = lines()
    writer.progress(
        replace(PICTURE, draining=True, following=Runner(pid=7, host="box", user="u", since=AT))
    )
    text = stream.getvalue()
    assert "process 7 on box" in text
    assert f"finishing 8 in flight. {DRAINING_HINT}" in text


def test_lines_keep_runs_apart() -> None:
    """Two runs of one call have their own lines."""
    writer, stream, _ = lines()
    writer.progress(PICTURE)
    writer.progress(replace(PICTURE, run=replace(RUNNING, id="r2", name="invoices")))
    writer.progress(PICTURE)
    assert [line.split(": ")[0][9:] for line in stream.getvalue().splitlines()] == [
        "tickets",
        "tickets",
        "invoices",
        "invoices",
    ]


def test_quiet_lines_tell_halts_only() -> None:
    """-q leaves halts; progress, notices and other events are gone."""
    writer, stream, _ = lines(quiet=True)
    writer.progress(PICTURE)
    writer.notice("rpm 60 → 50")
    writer.event(EVENT)
    assert stream.getvalue() == ""
    writer.event(replace(EVENT, event="run.halted", data={"waiting": {"detail": "no credit"}}))
    assert stream.getvalue() == "04:05:06 tickets: run.halted (no credit)\n"


def test_verbose_lines_tell_each_event() -> None:
    """-v adds a line an event, and asks for the events of jobs."""
    writer, stream, _ = lines(verbose=True)
    assert writer.wants_jobs
    assert not lines()[0].wants_jobs
    writer.event(EVENT)
    assert stream.getvalue() == "04:05:06 tickets: job.failed ticket-17 400 invalid_request\n"


def test_events_are_json_lines() -> None:
    """An event is one flushed line in the shape of CONTRACT §6; notices go elsewhere."""
    out, err = io.StringIO(), io.StringIO()
    writer = Events(out, err, placed=lambda fix, _run: fix)
    assert writer.wants_jobs
    writer.event(EVENT)
    writer.notice("rpm 60 → 50")
    assert json.loads(out.getvalue()) == {
        "version": 1,
        "event": "job.failed",
        "at": AT_TEXT,
        "run": {"id": "r1", "name": "tickets"},
        "key": "ticket-17",
        "http_status": 400,
        "error_kind": "invalid_request",
    }
    assert out.getvalue().count("\n") == 1
    assert err.getvalue() == "rpm 60 → 50\n"


def test_events_outlive_their_reader() -> None:
    """A reader that goes away ends the events and not the run."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out:
        writer = Events(out, io.StringIO(), placed=lambda fix, _run: fix)
        for _ in range(3):
            writer.event(EVENT)


def test_submit_json_ends_with_why_it_stopped(
    app: FakeApplication, capsys: pytest.CaptureFixture[str]
) -> None:
    """With work left the last line is the failure object."""
    app.events = (EVENT,)
    app.result = RunResult(run=RUN, exit_code=3, waiting=RUN.waiting)
    assert main(["submit", "f", "--json"]) == 3
    captured = capsys.readouterr()
    first, last = map(json.loads, captured.out.splitlines())
    assert first["event"] == "job.failed"
    assert last["error"]["exit_code"] == 3
    assert last["error"]["kind"] == "daily_limit"
    assert "resume" in last["error"]["fix"]
    assert captured.err == ""


def test_submit_keeps_stdout_for_data(
    app: FakeApplication, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --json all that submit says is on stderr, and without colour in a pipe."""
    app.pictures = (PICTURE,)
    assert main(["submit", "f"]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "120/200 done" in captured.err
    assert "\x1b" not in captured.err


def told(run: RunView, exit_code: int, **rest: Any) -> str:
    """Return the last words."""
    result = RunResult(run=run, exit_code=exit_code, **rest)
    return "\n".join(summary(result, Settings(typed_db=Path("x.db")), elapsed_s=200.0, now_ms=AT))


def test_summary_of_a_finished_run() -> None:
    """A finished run is told with its counts, its time, its database and the export."""
    text = told(DONE, 0)
    assert text.startswith("tickets finished: 2 of 2 jobs completed, in 3m 20s\n")
    assert f"database: {Path('x.db').absolute()}" in text
    assert "export: batchrunner export tickets -o tickets.csv --db x.db" in text
    assert "resume" not in text


def test_summary_offers_no_file_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The export that is offered never names the table that was the input, nor an earlier export."""
    monkeypatch.chdir(tmp_path)
    for there, offered in (
        ("tickets.csv", "tickets.results.csv"),
        ("tickets.results.csv", "tickets.results-2.csv"),
        ("tickets.results-2.csv", "tickets.results-3.csv"),
    ):
        (tmp_path / there).touch()
        assert f"export: batchrunner export tickets -o {offered} --db" in told(DONE, 0)


def test_summary_with_failures() -> None:
    """Failures name the command that groups them; an export that was written is not offered."""
    run = replace(DONE, jobs=JobCounts(completed=1, failed=1))
    text = told(run, 1, output="out.csv", n_rejected=2)
    assert "1 failed" in text
    assert "failures: batchrunner errors tickets" in text
    assert "results: out.csv" in text
    assert "rejected: 2 lines" in text
    assert "batchrunner export" not in text


@pytest.mark.parametrize(
    ("code", "meaning"),
    [
        (3, "work left"),
        (4, "cannot be used"),
        (6, "network"),
        (129, "hung up"),
        (130, "interrupted"),
        (143, "terminated"),
    ],
)
def test_summary_of_a_stopped_run(code: int, meaning: str) -> None:
    """With work left it says what happened, why, the fix, the code and how to go on."""
    why = Waiting(reason=WaitingReason.CREDIT, until=None, detail="no credit", fix="buy some")
    text = told(replace(RUN, state=RunState.READY, waiting=None), code, waiting=why)
    assert "79 left" in text
    assert meaning in text
    assert f"(exit {code})" in text
    assert "no credit" in text
    assert "fix: buy some" in text
    assert "go on: batchrunner resume tickets" in text


def test_summary_of_an_interrupt_says_it_once() -> None:
    """An interrupt is told once, and so is the command that goes on."""
    why = Waiting(
        reason=WaitingReason.INTERRUPTED,
        until=None,
        detail="stopped by a signal",
        fix="batchrunner resume tickets",
    )
    text = told(replace(RUN, state=RunState.READY, waiting=None), 130, waiting=why)
    assert text.count("interrupted") == 1
    assert text.count("batchrunner resume") == 1


def test_summary_of_a_demo_promises_nothing() -> None:
    """A demo's database is gone, so that neither it nor resume is named."""
    result = RunResult(run=RUN, exit_code=130, waiting=RUN.waiting)
    text = "\n".join(summary(result, Settings(), elapsed_s=0.61, now_ms=AT, is_demo=True))
    assert "in 0.6s" in text
    assert "exit 130" in text
    assert "resume" not in text
    assert "database" not in text


def test_summary_of_a_cancelled_run_with_jobs_left() -> None:
    """Only ``retry`` undoes a cancel, also while jobs are still being cancelled."""
    jobs = JobCounts(completed=3, cancelled=5, pending=2, running=1)
    text = told(replace(RUN, state=RunState.CANCELLED, waiting=None, jobs=jobs), 3)
    assert "bring back: batchrunner retry tickets" in text
    assert "resume" not in text


def test_summary_of_a_stored_run() -> None:
    """--no-run stops nothing: the run is stored."""
    run = replace(RUN, state=RunState.READY, waiting=None, jobs=JobCounts(pending=5))
    assert told(run, 0).startswith("tickets stored: 0 of 5 jobs completed, 5 left")


def test_summary_is_harmless() -> None:
    """A run's name cannot reach the terminal's controls, nor a command line its shell."""
    text = told(replace(DONE, name="a;rm \x1b[2J"), 0)
    assert "\x1b" not in text
    assert "'a;rm" in text


def test_wait_without_an_end_has_no_countdown() -> None:
    """Where only a person can end a wait, no time is promised."""
    wait = Waiting(reason=WaitingReason.AUTHENTICATION, until=None, detail="the key is refused.")
    assert waiting_words(wait, AT) == "authentication: the key is refused"
    given_up = Waiting(reason=WaitingReason.PAUSED, until=None, detail="somebody cancelled the run")
    assert waiting_words(given_up, AT) == "somebody cancelled the run"


def drawn(picture: Progress | None, width: int = 80, **options: Any) -> str:
    """Return the panel's text at a terminal's width."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=False, legacy_windows=False, **options)
    panel = Panel(out, db_name="/tmp/b.db", wall=Wall(), console=console)
    if picture is not None:
        panel.progress(picture)
    console.print(panel._picture())
    return out.getvalue()


def test_panel_shows_everything_that_matters() -> None:
    """Name, state, counts, pace, end, wait with countdown, errors, database and hint are there."""
    wait = Waiting(reason=WaitingReason.DAILY_LIMIT, until=AT + 30_000, detail="200 of 200 used")
    picture = replace(
        PICTURE,
        run=replace(RUN, waiting=wait),
        recent_errors=[(AT, f"k{n}", "timeout", "too \x1b[31mslow") for n in range(5)],
    )
    text = drawn(picture)
    for words in (
        "tickets  waiting",
        "60%",
        "120 done, 1 failed, 8 in flight, 71 left",
        "of 60",
        "3m 20s so far",
        "200 of 200 used, until 04:05:36 (in 30s)",
        "04:05:06 k4 timeout: too \\x1b[31mslow",
        "database /tmp/b.db",
        INTERRUPT_HINT,
    ):
        assert words in text
    assert "k1" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [10, 20, 40, 80, 200])
def test_panel_fits(width: int) -> None:
    """No line is wider than the terminal, however narrow, and the bar is drawn."""
    picture = replace(PICTURE, recent_errors=[(AT, "k" * 50, "timeout", "slow " * 50)])
    text = drawn(picture, width)
    assert max(map(len, text.splitlines())) <= width
    assert "█" in text or width < 20


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({}, INTERRUPT_HINT),
        ({"in_flight": 0}, WAITING_HINT),
        ({"draining": True}, DRAINING_HINT),
        ({"draining": True, "in_flight": 0}, STOPPING_HINT),
        ({"following": Runner(pid=7, host="h", user="u", since=AT)}, FOLLOWING_HINT),
    ],
)
def test_panel_says_what_ctrl_c_does(change: dict[str, Any], hint: str) -> None:
    """The hint is about now."""
    assert hint in drawn(replace(PICTURE, **change))


def test_panel_of_several_runs_says_what_ctrl_c_does_to_all() -> None:
    """Where one run has something in flight Ctrl-C waits for it, whichever is drawn last."""
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=False, legacy_windows=False)
    panel = Panel(out, db_name="/tmp/b.db", wall=Wall(), console=console)
    panel.progress(PICTURE)
    for n in range(4):
        panel.progress(replace(PICTURE, run=replace(RUN, id=f"r-{n}"), in_flight=0))
    console.print(panel._picture())
    assert INTERRUPT_HINT in out.getvalue()


def test_panel_before_the_first_picture() -> None:
    """While a file is read in the panel says which database it opens."""
    assert drawn(None).strip() == "opening /tmp/b.db"


def test_a_workers_panel_shows_no_run_that_is_over() -> None:
    """A worker outlives its runs: what it draws is what it sends."""
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=False, legacy_windows=False)
    panel = Panel(out, db_name="/tmp/b.db", wall=Wall(), console=console, is_worker=True)
    panel.progress(PICTURE)
    over = Event(event="run.finished", at=0, run_id=RUN.id, run_name=RUN.name, data={})
    panel.event(replace(over, run_id="another"))
    console.print(panel._picture())
    assert "tickets  " in out.getvalue()
    out.truncate(0)
    panel.event(over)
    console.print(panel._picture())
    assert out.getvalue().strip("\0 \n") == "watching /tmp/b.db"


@pytest.mark.parametrize("columns", [1, 7, 30, 61])
@pytest.mark.parametrize(
    "tally",
    [
        Tally(200, 120, 1, 8, 71),
        Tally(3, 3, 0, 0, 0),
        Tally(0, 0, 0, 0, 0),
        Tally(10**6, 999_999, 0, 1, 0),
    ],
)
def test_bar_is_whole(tally: Tally, columns: int) -> None:
    """The bar fills its place, and says 100% only at the end."""
    text = bar(tally, columns, is_ascii=True).plain
    assert len(text) == max(columns, 6)
    assert text.endswith("100%") == (tally == Tally(3, 3, 0, 0, 0))


_ON_A_TERMINAL = textwrap.dedent(
    """
    import asyncio, sys
    from dataclasses import replace
    from types import ModuleType
    from tests.fakes.application import FakeApplication
    from tests.unit.test_cli_progress import PICTURE
    class Fake(FakeApplication):
        async def _run(self, verb, listener, **asked):
            listener.progress(PICTURE)
            await asyncio.sleep(0.6)
            listener.notice("a notice")
            return self.result
    fake = Fake()
    module = ModuleType("batchrunner.app")
    module.Batchrunner = fake
    sys.modules["batchrunner.app"] = module
    from batchrunner.cli import main
    sys.exit(main(["submit", "f"]))
    """
)


@pytest.mark.parametrize(("term", "is_drawn"), [("xterm-256color", True), ("dumb", False)])
def test_panel_on_a_real_terminal(term: str, is_drawn: bool) -> None:
    """On a terminal the panel is drawn and taken away with the cursor back; a dumb one gets lines."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _ON_A_TERMINAL],
        stdout=subprocess.PIPE,
        stderr=slave,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TERM": term, "NO_COLOR": "1", "COLUMNS": "80"},
    )
    os.close(slave)
    seen = b""
    while select.select([master], [], [], 30)[0]:
        try:
            chunk = os.read(master, 65536)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    os.close(master)
    assert process.stdout is not None
    assert process.stdout.read() == b""
    process.stdout.close()
    assert process.wait() == 0
    text = seen.decode()
    assert "120" in text
    assert "a notice" in text
    assert "tickets finished" in text.rsplit("\x1b[", 1)[-1]
    assert ("\x1b[?25l" in text) is is_drawn
    assert ("\x1b[?25h" in text) is is_drawn
    # NO_COLOR: styles such as bold may stay, colours may not.
    assert "\x1b[32m" not in text
    assert "\x1b[1;32m" not in text


def test_log_file_keeps_events_and_notices_for_its_owner_alone(tmp_path: Path) -> None:
    """``--log-file`` appends every event and notice as a JSON line to a file of mode 0600."""
    stream = io.StringIO()
    path = tmp_path / "run.log"
    for _ in range(2):
        with Logged(Lines(stream, db_name="x.db"), path, lambda fix, _run: fix) as listener:
            listener.event(
                Event(event="job.completed", at=0, run_id="r", run_name="n", data={"key": "a"})
            )
            listener.notice("rpm: 3 \x1b[31m→ 50")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["job.completed", "notice"] * 2
    assert lines[0]["key"] == "a"
    assert "\x1b" not in lines[1]["message"]
    assert path.stat().st_mode & 0o777 == 0o600
