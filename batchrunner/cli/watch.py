"""How a call that runs jobs is watched, and how it is run."""

from __future__ import annotations

import asyncio
import gc
import os
import shlex
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractContextManager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from batchrunner.cli.events import Events
from batchrunner.cli.lines import Lines, wall_ms
from batchrunner.cli.log import Logged
from batchrunner.cli.settings import Settings
from batchrunner.cli.shapes import write_json
from batchrunner.cli.summary import summary
from batchrunner.cli.told import Told, quiet_loggers
from batchrunner.cli.words import EXIT_MEANINGS
from batchrunner.models import ExitCode
from batchrunner.views import Listener, RunResult

if TYPE_CHECKING:
    from batchrunner.app import Batchrunner
    from batchrunner.cli.turns import Tell

    #: Brings nothing where there was no run to carry on.
    Call = Callable[[Batchrunner, Listener], Coroutine[Any, Any, RunResult | None]]

#: New objects between two looks for garbage; Python's own is 700 or 2,000.
GARBAGE: Final = 10_000
#: After so many seconds a thread that wants the interpreter's lock asks for it; Python's own is 0.005.
SWITCH_S: Final = 0.000_05
LOOP_VARIABLE: Final = "BATCHRUNNER_LOOP"
_DUMB_TERMINALS: Final = frozenset({"", "dumb", "unknown"})

_T = TypeVar("_T")


def watcher(
    settings: Settings, db_name: str, tell: Tell | None = None, *, is_worker: bool = False
) -> AbstractContextManager[Listener]:
    """Return who watches: events, a panel on a terminal, lines anywhere else.

    ``db_name`` is how they name the database, ``tell`` changes what may be in flight of a run where a
    person can type that. ``--log-file`` writes down what they are told.
    """
    watching = _watching(settings, db_name, tell, is_worker=is_worker)
    if settings.log_file is not None:
        watching = Logged(watching, settings.log_file, settings.placed)
    return Told(watching)


def _watching(
    settings: Settings, db_name: str, tell: Tell | None, *, is_worker: bool
) -> AbstractContextManager[Listener]:
    if settings.json:
        return Events(sys.stdout, sys.stderr, placed=settings.placed, quiet=settings.quiet)
    has_terminal = sys.stderr.isatty() and os.environ.get("TERM", "") not in _DUMB_TERMINALS
    if has_terminal and not settings.quiet:
        from batchrunner.cli.panel import Panel  # noqa: PLC0415 (rich, for a terminal only)

        can_type = tell is not None and not settings.no_input and sys.stdin.isatty()
        keys = sys.stdin.fileno() if can_type else None
        return Panel(
            sys.stderr, db_name=db_name, verbose=settings.verbose, keys=keys, tell=tell,
            is_worker=is_worker,
        )  # fmt: skip
    return Lines(sys.stderr, db_name=db_name, quiet=settings.quiet, verbose=settings.verbose)


def tune_interpreter() -> None:
    """Set this process's interpreter up for one busy event loop and one thread beside it.

    The garbage collector is kept off what lives as long as the process and runs less often: going
    through all that the imports left took a sixth of a drain's time (measured). The two threads
    ask each other for the interpreter's lock sooner, so that neither waits for long (7 % of a
    drain's rate).
    """
    import batchrunner.sending  # noqa: PLC0415, F401 (loaded now, so that it is spared too)

    gc.freeze()
    gc.set_threshold(GARBAGE, *gc.get_threshold()[1:])
    sys.setswitchinterval(SWITCH_S)


def make_ready(settings: Settings, app: Batchrunner, beside: Iterable[str | Path | None]) -> None:
    """Set this process up to send; refuse a log where it would spoil what is ``beside`` it."""
    if settings.log_file is not None:
        from batchrunner.results import check_log  # noqa: PLC0415 (--help has no use for it)

        check_log(app.place, settings.log_file, (*beside, settings.config_file))
    tune_interpreter()
    quiet_loggers()


def watched(
    settings: Settings,
    call: Call,
    *,
    beside: Iterable[str | Path | None] = (),
    is_demo: bool = False,
) -> int:
    """Run ``call`` under a watcher, print the last words, return the exit code.

    ``beside`` are files that it reads or writes, which a log must leave alone.
    """
    app = settings.demo_app() if is_demo else settings.app()
    make_ready(settings, app, beside)
    began = time.monotonic()
    db_name = "a temporary one" if is_demo else settings.db_name
    # The demo's database is its own.
    tell = None if is_demo else app.set_concurrency
    with watcher(settings, db_name, tell) as listener:
        result = run_async(call(app, listener), os.environ)
    if result is None:
        return ExitCode.DONE
    if settings.json:
        if result.exit_code not in {ExitCode.DONE, ExitCode.SOME_FAILED}:
            write_json(stopped_object(result, settings))
        return result.exit_code
    elapsed_s = time.monotonic() - began
    for one in (*result.others, result):
        for line in summary(one, settings, elapsed_s=elapsed_s, now_ms=wall_ms(), is_demo=is_demo):
            click.echo(line, err=True)
    return result.exit_code


def stopped_object(result: RunResult, settings: Settings) -> dict[str, Any]:
    """Return the failure object of a run that stopped with work left."""
    waiting = result.waiting or result.run.waiting
    meaning = EXIT_MEANINGS.get(result.exit_code, "stopped")
    return {
        "error": {
            "exit_code": result.exit_code,
            "kind": waiting.reason if waiting else "interrupted",
            "message": waiting.detail if waiting and waiting.detail else meaning,
            "fix": settings.placed(
                (waiting.fix if waiting else "")
                or f"batchrunner resume {shlex.quote(result.run.name)}",
                result.run.name,
            ),
            "lines": [],
        }
    }


def run_async(work: Coroutine[Any, Any, _T], environ: Mapping[str, str]) -> _T:
    """Run ``work`` to its end, on uvloop where it is installed and not declined."""
    is_fast = environ.get(LOOP_VARIABLE, "") != "asyncio" and find_spec("uvloop") is not None
    factory = import_module("uvloop").new_event_loop if is_fast else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)
