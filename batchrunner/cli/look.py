"""``status``, ``runs``, ``jobs``, ``show``, ``errors``: the views. They change nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import click

from batchrunner.cli.house import Command
from batchrunner.cli.lines import wall_ms
from batchrunner.cli.options import job_filter, job_options
from batchrunner.cli.screens import error_facts, job_facts, pretty_body, status_facts
from batchrunner.cli.settings import Settings
from batchrunner.cli.shapes import (
    budget_object,
    error_row,
    job_object,
    job_row,
    run_object,
    waiting_object,
    write_json,
    write_list,
)
from batchrunner.cli.tables import Column, write_facts, write_table
from batchrunner.cli.text import local_time, number, printable
from batchrunner.cli.words import reason_words
from batchrunner.views import JobView, RunView, SendView

_RUNS: Final = (
    Column("NAME", most=24),
    Column("STATE"),
    Column("DONE", right=True),
    Column("FAILED", right=True),
    Column("LEFT", right=True),
    Column("CREATED"),
    Column("PROVIDER"),
)
_JOBS: Final = (
    Column("KEY", most=28),
    Column("STATUS"),
    Column("TRIES", right=True),
    Column("HTTP"),
    Column("ERROR", most=18),
    Column("ANSWER OR MESSAGE"),
)
_SENDS: Final = (
    Column("SENT"),
    Column("TOOK", right=True),
    Column("OUTCOME"),
    Column("HTTP"),
    Column("MESSAGE"),
)


@click.command(
    "status",
    cls=Command,
    short_help="Where a run stands, and what it waits for.",
    examples=("batchrunner status", "batchrunner status tickets --json"),
)
@click.argument("run", required=False)
@click.pass_context
def status_command(ctx: click.Context, /, run: str | None) -> int:
    """Where a run stands, who runs it, why it waits and until when.

    RUN is a run's name or id; without one, the latest.
    """
    settings = Settings.of(ctx)
    app = settings.app()
    view, budget = app.status(run), app.budget()
    if settings.json:
        view = replace(view, waiting=settings.placed_wait(view.waiting, view.name))
        database = settings.database
        write_json({**run_object(view), "budget": budget_object(budget), "database": database})
    else:
        write_facts(status_facts(view, settings, wall_ms(), budget))
    return 0


@click.command(
    "runs",
    cls=Command,
    short_help="Every run in this database.",
    examples=("batchrunner runs", "batchrunner runs --db other.db --json"),
)
@click.pass_context
def runs_command(ctx: click.Context, /) -> int:
    """Every run in this database."""
    settings = Settings.of(ctx)
    views = settings.app().runs()
    if settings.json:
        placed = (replace(v, waiting=settings.placed_wait(v.waiting, v.name)) for v in views)
        write_list("runs", map(run_object, placed), database=settings.database)
        return 0
    now = wall_ms()
    if not write_table(_RUNS, (_run_cells(view, now) for view in views)):
        click.echo("there are no runs yet", err=True)
    click.echo(f"database  {settings.db_name}")
    return 0


@click.command(
    "jobs",
    cls=Command,
    short_help="List the jobs of a run.",
    examples=(
        "batchrunner jobs",
        "batchrunner jobs tickets --status failed --limit 20",
        "batchrunner jobs tickets --error timeout --json",
    ),
)
@click.argument("run", required=False)
@job_options
@click.pass_context
def jobs_command(ctx: click.Context, /, run: str | None, **values: Any) -> int:
    """List the jobs of a run, in input order.

    RUN is a run's name or id; without one, the latest.
    """
    settings = Settings.of(ctx)
    views = settings.app().jobs(run, job_filter(values))
    if settings.json:
        write_list("jobs", map(job_row, views))
    elif not write_table(_JOBS, map(_job_cells, views)):
        click.echo("there are no such jobs", err=True)
    return 0


@click.command(
    "show",
    cls=Command,
    short_help="One job: request, response, every send.",
    examples=("batchrunner show tickets ticket-17", "batchrunner show tickets ticket-17 --json"),
)
@click.argument("run")
@click.argument("job")
@click.pass_context
def show_command(ctx: click.Context, /, run: str, job: str) -> int:
    """One job: its request, its response and every send.

    RUN is a run's name or id, JOB a job's key.
    """
    settings = Settings.of(ctx)
    detail = settings.app().show(run, job)
    if settings.json:
        write_json(job_object(detail))
        return 0
    now = wall_ms()
    write_facts(job_facts(detail, now))
    for title, data in (("request", detail.request), ("response", detail.response)):
        if data:
            click.echo(f"\n{title}\n{pretty_body(data)}")
    if detail.sends:
        click.echo("\nsends")
        write_table(_SENDS, (_send_cells(send, now) for send in detail.sends))
    return 0


@click.command(
    "errors",
    cls=Command,
    short_help="Failures by kind: count, an example, the fix.",
    examples=(
        "batchrunner errors",
        "batchrunner errors tickets --json",
        "batchrunner retry tickets --error timeout --timeout 20m",
    ),
)
@click.argument("run", required=False)
@click.pass_context
def errors_command(ctx: click.Context, /, run: str | None) -> int:
    """Failures grouped by kind and cause: how many, an example, when, the fix.

    Jobs of a model that is held back, and what a run stands for, are told as well. RUN is a run's
    name or id; without one, the latest.
    """
    settings = Settings.of(ctx)
    app = settings.app()
    groups, view = app.errors(run), app.status(run)
    if settings.json:
        placed = (replace(one, fix=settings.placed(one.fix, view.name)) for one in groups)
        write_list(
            "errors",
            map(error_row, placed),
            waiting=waiting_object(settings.placed_wait(view.waiting, view.name)),
        )
        return 0
    now = wall_ms()
    for index, group in enumerate(groups):
        if index:
            click.echo()
        write_facts(error_facts(group, view.name, settings, now))
    if not groups:
        click.echo("no job has failed", err=True)
    if view.waiting is not None:
        # What stops a run is no job's failure, and what who asks for errors wants to know.
        click.echo(f"the run stands: {reason_words(view.waiting)}", err=True)
        if view.waiting.fix and view.waiting.fix not in {group.fix for group in groups}:
            click.echo(f"fix: {settings.placed(view.waiting.fix, view.name)}", err=True)
    return 0


def _run_cells(run: RunView, now_ms: float) -> list[str]:
    jobs = run.jobs
    return [
        printable(run.name),
        run.state,
        f"{jobs.completed:,}/{jobs.total:,}",
        number(jobs.failed),
        number(jobs.pending + jobs.running),
        local_time(run.created_at, now_ms),
        printable(run.provider),
    ]


def _job_cells(job: JobView) -> list[str]:
    return [
        printable(job.key),
        printable(job.status),
        str(job.attempts),
        _or_dash(job.http_status),
        printable(job.error_kind or "-"),
        printable(job.error_message or job.output_text or "", limit=500),
    ]


def _send_cells(send: SendView, now_ms: float) -> list[str]:
    ended = send.ended_at
    took = f"{ended - send.sent_at:,} ms" if ended is not None and send.sent_at is not None else "-"
    notes = [printable(send.message or ""), "maybe executed" if send.maybe_executed else ""]
    return [
        local_time(send.sent_at if send.sent_at is not None else send.planned_at, now_ms),
        took,
        printable(send.kind or send.outcome or "in flight"),
        _or_dash(send.http_status),
        "; ".join(note for note in notes if note),
    ]


def _or_dash(value: int | None) -> str:
    return "-" if value is None else str(value)
