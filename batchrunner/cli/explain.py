"""``explain``: where a run's time went, and why a run or a job is not done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import click

from batchrunner.cli.bars import bar
from batchrunner.cli.house import Command
from batchrunner.cli.lines import wall_ms
from batchrunner.cli.settings import Settings
from batchrunner.cli.shapes import explain_object, write_json
from batchrunner.cli.tables import Column, terminal_width, write_facts, write_table
from batchrunner.cli.text import duration, local_time, printable, when
from batchrunner.core.time_use import cause_words
from batchrunner.views import ExplainView, JobStory, Moment, Standing, TimeView, WaitView

Fact = tuple[str, str]
_PARTS: Final = (
    Column("TIME", right=True),
    Column("SHARE", right=True),
    Column(""),
    Column("WENT INTO"),
)
#: Columns of a share's bar; on a narrow terminal there is none.
_BAR: Final = 16
_NARROW: Final = 72


@click.command(
    "explain",
    cls=Command,
    short_help="Where the time went; why a run or a job is not done.",
    examples=(
        "batchrunner explain",
        "batchrunner explain tickets",
        "batchrunner explain tickets ticket-17",
        "batchrunner explain tickets --json",
    ),
)
@click.argument("run", required=False)
@click.argument("job", required=False)
@click.pass_context
def explain_command(ctx: click.Context, /, run: str | None, job: str | None) -> int:
    """Where a run's time went, why it is not done, and what to do next; the same of one job.

    RUN is a run's name or id; without one, the latest. JOB is a job's key; alone it is one of the
    latest run.
    """
    settings = Settings.of(ctx)
    view = _placed(settings.app().explain(run, job), settings)
    if settings.json:
        write_json(explain_object(view))
        return 0
    now = wall_ms()
    if view.job is not None:
        _write_job(view, view.job, now)
        return 0
    write_facts(_facts(view, now))
    if view.time is not None:
        _write_time(view.time, now)
    if view.advice:
        click.echo()
        write_facts([("faster", view.advice)])
    return 0


def _placed(view: ExplainView, settings: Settings) -> ExplainView:
    """Return a view whose commands, pasted, find the same database, configuration and run."""

    def there(standing: Standing) -> Standing:
        return replace(standing, next=settings.placed(standing.next, view.run.name))

    return replace(
        view,
        standing=there(view.standing),
        advice=settings.placed(view.advice),
        job=view.job and replace(view.job, standing=there(view.job.standing)),
    )


def _facts(view: ExplainView, now_ms: float) -> Iterator[Fact]:
    run, time = view.run, view.time
    jobs = run.jobs
    yield "run", f"{printable(run.name)} ({printable(run.id)}, {printable(run.provider)})"
    yield "state", run.state
    yield "jobs", f"{jobs.completed:,} of {jobs.total:,} completed, {jobs.failed:,} failed"
    yield from _standing(view.standing, now_ms)
    if time is not None:
        took = duration((time.ended_at - time.began_at) / 1000.0)
        began, ended = local_time(time.began_at, now_ms), local_time(time.ended_at, now_ms)
        yield "time", f"{took}, from {began} to {ended}"


def _standing(standing: Standing, now_ms: float) -> Iterator[Fact]:
    yield "why", printable(standing.detail)
    yield "until", when(standing.until, now_ms) if standing.until is not None else ""
    yield "next", standing.next


def _write_time(time: TimeView, now_ms: float) -> None:
    total = sum(part.seconds for part in time.parts)
    if total <= 0:
        return
    is_narrow = (terminal_width() or _NARROW) < _NARROW
    click.echo()
    write_table(
        _PARTS,
        (
            (
                _stretch(part.seconds),
                f"{100 * part.seconds / total:.1f} %",
                "" if is_narrow else bar(part.seconds / total, _BAR),
                printable(cause_words(part.cause)),
            )
            for part in time.parts
        ),
    )
    if time.waits:
        more = f", {time.n_waits} in all" if time.n_waits > len(time.waits) else ""
        click.echo(f"\nthe longest waits{more}")
        write_facts(_wait_fact(wait, now_ms) for wait in time.waits)


def _wait_fact(wait: WaitView, now_ms: float) -> Fact:
    took = duration(wait.seconds) + (" so far" if wait.ended_at is None else "")
    times = f" in {wait.times:,} waits" if wait.times > 1 else ""
    detail = f": {wait.detail}" if wait.detail else ""
    words = printable(f"{took}{times}, {cause_words(wait.cause)}{detail}")
    return local_time(wait.began_at, now_ms), words


def _write_job(view: ExplainView, job: JobStory, now_ms: float) -> None:
    write_facts(
        [
            ("job", f"{printable(job.key)} of {printable(view.run.name)} ({view.run.state})"),
            ("status", printable(job.status)),
            *_standing(job.standing, now_ms),
        ]
    )
    click.echo()
    write_facts(_moment_fact(moment, now_ms) for moment in job.moments)


def _moment_fact(moment: Moment, now_ms: float) -> Fact:
    took = "" if moment.took_s is None else f" {_stretch(moment.took_s)}"
    detail = f": {moment.detail}" if moment.detail else ""
    return local_time(moment.at, now_ms), printable(f"{moment.what}{took}{detail}")


def _stretch(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms" if seconds < 10 else duration(seconds)
