"""``worker``: the command that drains a shared queue beside others."""

from __future__ import annotations

import os

import click

from batchrunner.cli.house import Command
from batchrunner.cli.settings import Settings
from batchrunner.cli.watch import make_ready, run_async, watcher


@click.command(
    "worker",
    cls=Command,
    short_help="Drain a shared (PostgreSQL) queue beside other workers.",
    examples=(
        "batchrunner worker --db postgresql+asyncpg://batch@db.example/jobs",
        "batchrunner worker --provider anthropic --until-done",
    ),
)
@click.option("--provider", metavar="NAME", help="Only runs of that provider.")
@click.option("--until-done", is_flag=True, help="End when nothing is left to send.")
@click.pass_context
def worker_command(ctx: click.Context, /, provider: str | None, until_done: bool) -> int:
    """Drain a shared queue, as many beside each other as wanted.

    The database is on a PostgreSQL server. Runs come from submit, with --no-run or followed there;
    the limits hold over all workers together. Keys are read where the worker runs: a run whose key
    it lacks is left to others. One Ctrl-C ends it when what is in flight has been stored.
    """
    settings = Settings.of(ctx)
    app = settings.app()
    make_ready(settings, app, ())
    with watcher(settings, settings.db_name) as listener:
        return run_async(
            app.work(provider=provider, until_done=until_done, listener=listener), os.environ
        )
