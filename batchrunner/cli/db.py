"""``db upgrade``, ``db check``, ``db backup``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from batchrunner.cli.house import Group
from batchrunner.cli.settings import Settings
from batchrunner.cli.shapes import write_json
from batchrunner.cli.text import printable
from batchrunner.models import ExitCode


@click.group(
    "db",
    cls=Group,
    short_help="Upgrade, check or back up the database.",
    examples=("batchrunner db check", "batchrunner db backup before-the-weekend.db"),
)
def db_command() -> None:
    """Upgrade, check or back up the database."""


@db_command.command("upgrade", examples=("batchrunner db upgrade",))
@click.pass_context
def upgrade_command(ctx: click.Context, /) -> int:
    """Bring the database to this version's schema, after a copy beside it."""
    settings = Settings.of(ctx)
    sentence = settings.app().db_upgrade()
    if settings.json:
        write_json({"upgrade": sentence, "database": os.fspath(settings.db.absolute())})
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
        write_json({"problems": problems, "database": os.fspath(settings.db.absolute())})
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
