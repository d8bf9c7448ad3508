"""``init``: a folder to begin with."""

from __future__ import annotations

import os
from pathlib import Path

import click

from batchrunner.cli.house import Command
from batchrunner.cli.settings import Settings
from batchrunner.cli.shapes import write_json
from batchrunner.cli.text import printable


@click.command(
    "init",
    cls=Command,
    short_help="Write jobs to try and a commented configuration here.",
    examples=("batchrunner init", "batchrunner init --db /srv/batch/jobs.db"),
)
@click.pass_context
def init_command(ctx: click.Context, /) -> int:
    """Write jobs.jsonl and batchrunner.toml into this folder, and make the database.

    They run as they are, against the built-in simulator; the comments say what to change for a real
    provider. Nothing that is there is overwritten.
    """
    settings = Settings.of(ctx)
    written = settings.app().init(Path.cwd())
    if settings.json:
        write_json({"written": [os.fspath(path) for path in written], "database": settings.db_name})
    elif not settings.quiet:
        names = " and ".join(path.name for path in written)
        click.echo(f"wrote {names}; database: {settings.db_name}", err=True)
        click.echo(
            f"try: {settings.command('submit', 'jobs.jsonl', '-o', 'results.csv')}", err=True
        )
        click.echo(f"then look into {printable(str(written[-1]))}", err=True)
    return 0
