"""``pause`` and ``cancel``: the commands that stop a run, in this process or another."""

from __future__ import annotations

import sys

import click

from batchrunner.cli.house import Command
from batchrunner.cli.settings import Settings
from batchrunner.cli.shapes import run_object, write_json
from batchrunner.cli.text import plural, printable
from batchrunner.views import RunView


@click.command(
    "pause",
    cls=Command,
    short_help="Stop a run; resume undoes it.",
    examples=("batchrunner pause tickets",),
)
@click.argument("run")
@click.pass_context
def pause_command(ctx: click.Context, /, run: str) -> int:
    """Stop a run: what is in flight finishes, nothing new starts. resume undoes it.

    RUN is a run's name or id.
    """
    settings = Settings.of(ctx)
    view = settings.app().pause(run)
    _tell(settings, view, "paused", "resume")
    return 0


@click.command(
    "cancel",
    cls=Command,
    short_help="Give up a run; retry undoes it.",
    examples=("batchrunner cancel tickets", "batchrunner cancel tickets -y"),
)
@click.argument("run")
@click.pass_context
def cancel_command(ctx: click.Context, /, run: str) -> int:
    """Give up a run: what is in flight finishes, the jobs left are cancelled. retry undoes it.

    RUN is a run's name or id. It asks on a terminal; elsewhere it wants -y.
    """
    settings = Settings.of(ctx)
    app = settings.app()
    if not settings.yes:
        view = app.status(run)
        if settings.no_input or not sys.stdin.isatty():
            raise click.UsageError("cancel asks before it gives jobs up; add -y to say yes here")
        left = plural(view.jobs.pending + view.jobs.running, "unfinished job")
        if not click.confirm(f"Cancel {printable(view.name)} with {left}?", err=True):
            click.echo("nothing was cancelled", err=True)
            return 2
    _tell(settings, app.cancel(run), "cancelled", "retry")
    return 0


def _tell(settings: Settings, view: RunView, word: str, undo: str) -> None:
    if settings.json:
        write_json(run_object(view))
        return
    flying = f"; {view.jobs.running:,} in flight will finish" if view.jobs.running else ""
    click.echo(f"{printable(view.name)} {word}{flying}", err=True)
    if not settings.quiet:
        click.echo(f"undo: {settings.command(undo, view.name)}", err=True)
