"""``worker``: the command that drains a shared queue beside others."""

from __future__ import annotations

import os
from typing import Any

import click

from batchrunner.cli.house import Command
from batchrunner.cli.options import all_tags, longest_wait
from batchrunner.cli.settings import Settings
from batchrunner.cli.values import DURATION_OR_ZERO, TAGS
from batchrunner.cli.watch import make_ready, run_async, watcher
from batchrunner.options import CallOptions, WorkerOptions


@click.command(
    "worker",
    cls=Command,
    short_help="Drain a shared (PostgreSQL) queue beside other workers.",
    examples=(
        "batchrunner worker --db postgresql+asyncpg://batch@db.example/jobs",
        "batchrunner worker --provider anthropic --until-done",
        "batchrunner worker --tags eu,big --only-tagged",
        "batchrunner worker --account team-a -q --json",
        "batchrunner worker --max-wait 3d",
    ),
)
@click.option("--provider", metavar="NAME", help="Only runs of that provider.")
@click.option(
    "--tags",
    type=TAGS,
    multiple=True,
    callback=all_tags,
    metavar="TAG,…",
    help="What this worker has; runs submitted with other --tags are left to others. Repeatable.",
)
@click.option("--only-tagged", is_flag=True, help="Leave runs without tags to others too.")
@click.option(
    "--account",
    "accounts",
    multiple=True,
    metavar="NAME",
    help="The keys here are of that account: take runs submitted with that --account. Repeatable."
    " [default: where the key is the one that was there at submit]",
)
@click.option("--until-done", is_flag=True, help="End when nothing is left to send.")
@click.option(
    "--max-wait",
    "max_wait_s",
    type=DURATION_OR_ZERO,
    metavar="DURATION",
    help="Longest wait for a database server that is away. [default: 26h]",
)
@click.option("--wait", is_flag=True, help="Wait for it without end.")
@click.option("--no-wait", "no_wait", is_flag=True, help="Wait for it 5m at most.")
@click.pass_context
def worker_command(ctx: click.Context, /, **values: Any) -> int:
    """Drain a shared queue, as many beside each other as wanted.

    The database is on a PostgreSQL server. Runs come from submit, with --no-run or followed there;
    the limits hold over all workers together. Keys are read where the worker runs: a run whose key
    it lacks is left to others. A database server that goes away is waited for, with the answers that
    come in meanwhile. One Ctrl-C ends it when what is in flight has been stored.
    """
    settings = Settings.of(ctx)
    app = settings.app()
    waits = {name: values.pop(name) for name in ("max_wait_s", "wait", "no_wait")}
    call = CallOptions(max_wait_s=longest_wait(waits))
    options = WorkerOptions(**values)
    make_ready(settings, app, ())
    with watcher(settings, settings.db_name, is_worker=True) as listener:
        return run_async(app.work(options, call=call, listener=listener), os.environ)
