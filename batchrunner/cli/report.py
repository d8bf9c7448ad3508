"""``report``: a run as one HTML page."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from batchrunner.cli.house import Command
from batchrunner.cli.settings import Settings
from batchrunner.cli.shapes import write_json
from batchrunner.cli.text import printable


@click.command(
    "report",
    cls=Command,
    short_help="A run as one HTML page, to keep or to send on.",
    examples=(
        "batchrunner report tickets -o report.html",
        "batchrunner report -o report.html --force",
    ),
)
@click.argument("run", required=False)
@click.option("-o", "--output", metavar="FILE|-", help="Write there. [default: -, stdout]")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@click.pass_context
def report_command(ctx: click.Context, /, run: str | None, output: str | None, force: bool) -> int:
    """A run as one HTML page: totals, speed and waiting, latencies, errors, tokens, cost.

    The page needs nothing from elsewhere and runs no script. RUN is a run's name or id; without one,
    the latest. It may be made while the run is sent.
    """
    settings = Settings.of(ctx)
    target = None if output in {None, "-"} else Path(str(output))
    settings.app().write_report(run, sys.stdout.buffer, output=target, force=force)
    if target is None:
        sys.stdout.buffer.flush()
    elif settings.json:
        write_json({"output": os.fspath(target)})
    elif not settings.quiet:
        click.echo(f"wrote {printable(str(target))}", err=True)
    return 0
