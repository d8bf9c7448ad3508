"""``db upgrade``, ``db check``, ``db backup``, ``db copy``, ``db reopen``, ``db prune``."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import click

from batchrunner.cli.copied import copying, tell_copied
from batchrunner.cli.house import META, PLACE, Group
from batchrunner.cli.settings import Settings
from batchrunner.cli.shapes import copy_object, prune_object, write_json
from batchrunner.cli.text import plural, printable, size
from batchrunner.cli.values import DURATION
from batchrunner.models import ExitCode
from batchrunner.places import Place
from batchrunner.views import PrunePlan, PruneView


@click.group(
    "db",
    cls=Group,
    short_help="Upgrade, check, back up, move or prune the database.",
    examples=(
        "batchrunner db check",
        "batchrunner db backup before-the-weekend.db",
        "batchrunner db prune --older-than 90d",
    ),
)
def db_command() -> None:
    """Upgrade, check, back up, move or prune the database."""


@db_command.command("upgrade", examples=("batchrunner db upgrade",))
@click.pass_context
def upgrade_command(ctx: click.Context, /) -> int:
    """Bring the database to this version's schema, after a copy beside it."""
    settings = Settings.of(ctx)
    sentence = settings.app().db_upgrade()
    if settings.json:
        write_json({"upgrade": sentence, "database": settings.database})
    else:
        click.echo(printable(sentence), err=True)
    return 0


@db_command.command("check", examples=("batchrunner db check", "batchrunner db check --json"))
@click.pass_context
def check_command(ctx: click.Context, /) -> int:
    """Look for damage and for counts that disagree; exit 5 where there is any."""
    settings = Settings.of(ctx)
    problems = settings.app().db_check()
    if settings.json:
        write_json({"problems": problems, "database": settings.database})
    elif problems:
        for problem in problems:
            click.echo(f"problem: {printable(problem)}")
        click.echo("fix: go back to a backup, or export what can be read", err=True)
    else:
        click.echo(f"{settings.db_name} is sound", err=True)
    return ExitCode.DATABASE if problems else ExitCode.DONE


@db_command.command("backup", examples=("batchrunner db backup before-the-weekend.db",))
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_context
def backup_command(ctx: click.Context, /, file: Path) -> int:
    """Copy the database to FILE, whole and consistent; it may be in use meanwhile."""
    settings = Settings.of(ctx)
    settings.app().db_backup(file)
    if settings.json:
        write_json({"backup": os.fspath(file)})
    elif not settings.quiet:
        click.echo(f"copied to {printable(str(file))}", err=True)
    return 0


@db_command.command(
    "copy",
    examples=(
        "batchrunner db copy batchrunner.db 'postgresql+asyncpg://db.example/jobs?user=batch'",
        "batchrunner db copy 'postgresql+asyncpg://db.example/jobs?user=batch' back.db",
        "batchrunner db copy batchrunner.db trial.db --keep",
    ),
)
@click.argument("source", metavar="FROM", type=PLACE)
@click.argument("to", metavar="TO", type=PLACE)
@click.option("--keep", is_flag=True, help="FROM may be sent from on; both send what is pending.")
@click.pass_context
def copy_command(ctx: click.Context, /, source: Place, to: Place, keep: bool) -> int:
    """Move everything from FROM to TO: runs, answers, the send log, usage, limits.

    Each is a file or an address of PostgreSQL. Nobody may send from FROM meanwhile; TO must not
    exist, or hold nothing. FROM stays as it is for every view, and nothing is sent from it any
    more, for its pending jobs are at TO too: see db reopen, and --keep.
    """
    # What an error has somebody do is to be done to FROM, whatever --db and the environment name.
    ctx.meta[META + "typed_db"] = source
    settings = Settings.of(ctx)
    with copying(settings) as progress:
        view = settings.app(source).db_copy(to, keep=keep, progress=progress)
    if settings.json:
        write_json(copy_object(view))
    elif not settings.quiet:
        tell_copied(view, to)
    return 0


@db_command.command("reopen", examples=("batchrunner db reopen --db batchrunner.db",))
@click.pass_context
def reopen_command(ctx: click.Context, /) -> int:
    """Have a database that was copied elsewhere be sent from again.

    What is pending in both is sent twice, unless nothing is sent from the other any more.
    """
    settings = Settings.of(ctx)
    was_moved = settings.app().db_reopen()
    if settings.json:
        write_json({"reopened": was_moved, "database": settings.database})
    elif not settings.quiet:
        said = "may be sent from again" if was_moved else "was not copied elsewhere"
        click.echo(f"{settings.db_name} {said}", err=True)
    return 0


@db_command.command(
    "prune",
    examples=(
        "batchrunner db prune tickets",
        "batchrunner db prune --older-than 90d -y",
        "batchrunner db prune --older-than 30d --bodies -y",
    ),
)
@click.argument("runs", metavar="[RUN]...", nargs=-1)
@click.option("--older-than", type=DURATION, metavar="D", help="Only runs that ended so long ago.")
@click.option("--bodies", is_flag=True, help="Only requests and answers; the rest stays.")
@click.pass_context
def prune_command(
    ctx: click.Context, /, runs: tuple[str, ...], older_than: float | None, bodies: bool
) -> int:
    """Delete runs that are finished or cancelled, overwrite them and shrink the file.

    Each RUN is a run's name or id; without one, all that are over. What they used stays in usage
    and limits. It asks on a terminal; elsewhere it wants -y.
    """
    settings = Settings.of(ctx)
    app = settings.app()
    plan = app.db_prune_plan(runs, older_than_s=older_than, bodies=bodies)
    for name in plan.younger if runs else ():
        click.echo(f"{printable(name)} ended too lately, and stays", err=True)
    has_work = plan.runs or plan.is_unfinished
    if has_work and not settings.yes and not _may_prune(settings, plan):
        click.echo("nothing was pruned", err=True)
        return ExitCode.USAGE
    view = app.db_prune(plan)
    if settings.json:
        write_json(prune_object(view))
    else:
        _tell_pruned(settings, view)
    return 0


def _may_prune(settings: Settings, plan: PrunePlan) -> bool:
    if settings.no_input or not sys.stdin.isatty():
        raise click.UsageError("db prune asks before it deletes; add -y to say yes here")
    for run in plan.runs:
        click.echo(
            f"  {printable(run.name)}: {plural(run.jobs, 'job')}, {size(run.n_bytes)}", err=True
        )
    if not plan.runs:
        return click.confirm("Finish the prune that was broken off?", err=True)
    runs = plural(len(plan.runs), "run")
    what = f"requests and answers of {runs}" if plan.is_bodies else runs
    return click.confirm(f"Delete {what} for good?", err=True)


def _tell_pruned(settings: Settings, view: PruneView) -> None:
    names = [run.name for run in view.runs]
    done = "lost requests and answers" if view.is_bodies else "deleted"
    for run in () if settings.quiet else view.runs:
        click.echo(f"{printable(run.name)} {done}: {plural(run.jobs, 'job')}", err=True)
    if not view.runs:
        click.echo("nothing to prune", err=True)
    if view.size_after != view.size_before:
        click.echo(
            f"{settings.db_name}: {size(view.size_before)} before, {size(view.size_after)} now",
            err=True,
        )
    if not view.is_shrunk:
        click.echo(
            "another program reads the database, which keeps the file from shrinking", err=True
        )
        again = settings.command("db", "prune", "-y", *names)
        click.echo(f"fix: when that one has ended: {again}", err=True)
    for copy in view.copies:
        flags = ("--bodies",) if view.is_bodies else ()
        again = shlex.join(["batchrunner", "db", "prune", *flags, *names, "--db", copy])
        click.echo(f"still in a copy: {printable(copy)}", err=True)
        click.echo(f"fix: delete it, or prune it too: {printable(again)}", err=True)
