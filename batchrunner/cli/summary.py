"""The last words of a call that ran jobs: what came of it, where it is, what to do next."""

from __future__ import annotations

import os
import shlex
from itertools import chain, count
from typing import Final

from batchrunner.cli.settings import Settings
from batchrunner.cli.text import duration, plural, printable, when
from batchrunner.cli.words import EXIT_MEANINGS, reason_words
from batchrunner.models import ExitCode, RunState, WaitingReason
from batchrunner.views import RunResult

#: States that name the end of a call themselves.
_ENDS: Final = {
    RunState.FINISHED: "finished",
    RunState.PAUSED: "paused",
    RunState.CANCELLED: "cancelled",
}


def summary(
    result: RunResult, settings: Settings, *, elapsed_s: float, now_ms: float, is_demo: bool = False
) -> list[str]:
    """Return the lines for stderr.

    ``elapsed_s`` is this call's time, ``now_ms`` the wall clock.
    """
    lines = [_outcome(result, elapsed_s)]
    if result.exit_code not in {ExitCode.DONE, ExitCode.SOME_FAILED}:
        # Nothing of a demo stays, so that there is nothing to go on with.
        lines += [f"exit {result.exit_code}"] if is_demo else _stopped(result, settings, now_ms)
    if result.n_rejected:
        from batchrunner.intake import rejects_path  # noqa: PLC0415 (loads what --help must not)

        where = printable(str(rejects_path(result.run.name)))
        lines.append(f"rejected: {plural(result.n_rejected, 'line')}, with reasons in {where}")
    if result.run.maybe_executed:
        sends = plural(result.run.maybe_executed, "send")
        lines.append(f"note: {sends} may have been acted on though the answer was lost")
    if result.output:
        lines.append(f"results: {printable(result.output)}")
    if is_demo:
        return [*lines, "next: batchrunner submit FILE --provider anthropic --rpm 50"]
    lines.append(f"database: {settings.db_name}")
    return lines + _next(result, settings)


def _outcome(result: RunResult, elapsed_s: float) -> str:
    run, jobs = result.run, result.run.jobs
    counts = [f"{jobs.completed:,} of {plural(jobs.total, 'job')} completed"]
    left = jobs.pending + jobs.running
    counts += [
        f"{n:,} {word}"
        for n, word in ((jobs.failed, "failed"), (jobs.cancelled, "cancelled"), (left, "left"))
        if n
    ]
    # With work left and nothing wrong, the call was told only to store.
    other = "stored" if result.exit_code == ExitCode.DONE else "stopped"
    word = _ENDS.get(run.state, other if left else "finished")
    return f"{printable(run.name)} {word}: {', '.join(counts)}, in {_took(elapsed_s)}"


def _took(seconds: float) -> str:
    return f"{seconds:.1f}s" if seconds < 10 else duration(seconds)


def _stopped(result: RunResult, settings: Settings, now_ms: float) -> list[str]:
    """Return what happened, why, and what mends it."""
    lines = []
    meaning = EXIT_MEANINGS.get(result.exit_code, "stopped")
    waiting = result.waiting or result.run.waiting
    # An interrupt's reason only repeats what the exit code means.
    why = ""
    if waiting is not None and waiting.reason is not WaitingReason.INTERRUPTED:
        why = f": {reason_words(waiting)}"
    elif waiting is not None and result.exit_code == ExitCode.WORK_LEFT:
        # Nobody interrupted it: somebody else sends.
        why = f": {printable(waiting.detail)}"
    lines.append(f"{meaning}{why} (exit {result.exit_code})")
    if waiting and waiting.until is not None:
        lines.append(f"until: {when(waiting.until, now_ms)}")
    lines += [
        f"held back: {printable(model)}: {printable(text)}"
        for model, text in result.run.holds.items()
    ]
    # How to go on is said below, with the database it needs.
    if (
        waiting
        and waiting.fix
        and waiting.fix != f"batchrunner resume {shlex.quote(result.run.name)}"
    ):
        lines.append(f"fix: {settings.placed(waiting.fix, result.run.name)}")
    return lines


def _next(result: RunResult, settings: Settings) -> list[str]:
    run, name, jobs = result.run, result.run.name, result.run.jobs
    is_cancelled = run.state is RunState.CANCELLED
    commands = []
    if (jobs.pending or jobs.running) and not is_cancelled:
        commands.append(("go on", settings.command("resume", name)))
    if jobs.failed:
        commands.append(("failures", settings.command("errors", name)))
        if not jobs.pending and not jobs.running:
            # With work left it is what stopped the run that comes first.
            commands.append(("try again", settings.command("retry", name)))
    if jobs.cancelled and (is_cancelled or not jobs.pending):
        commands.append(("bring back", settings.command("retry", name)))
    if jobs.completed and not result.output:
        commands.append(("export", settings.command("export", name, "-o", _free(name))))
    return [f"{what}: {command}" for what, command in commands]


def _free(name: str) -> str:
    """Return a file for the results that is not there yet: one that is may be the input itself."""
    later = (f"{name}.results-{n}.csv" for n in count(2))
    names = chain((f"{name}.csv", f"{name}.results.csv"), later)
    # Unlike Path.exists, it says no to a name that can be no file's.
    return next(file for file in names if not os.path.exists(file))  # noqa: PTH110
