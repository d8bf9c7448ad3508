"""``usage``: what was used, by day, model, run, account or provider: a table, CSV, JSON or a chart."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Final

import click

from batchrunner.cli.house import Command
from batchrunner.cli.limits import write_limits
from batchrunner.cli.settings import Settings
from batchrunner.cli.shapes import limit_row, usage_row, write_list
from batchrunner.cli.usage_forms import MEASURES, write_chart, write_csv, write_rows
from batchrunner.cli.values import SINCE

#: What rows can be told apart by (the names of ``store.usage.GROUPINGS``).
BY: Final = ("day", "model", "run", "account", "provider")


@click.command(
    "usage",
    cls=Command,
    short_help="Requests, tokens, money, waiting by day, model or run.",
    examples=(
        "batchrunner usage",
        "batchrunner usage --by model --by day --since 7d",
        "batchrunner usage --run tickets --chart cost",
        "batchrunner usage --by run --csv > usage.csv",
        "batchrunner usage --by account --since 2026-11-01 --json",
    ),
)
@click.option(
    "--by",
    type=click.Choice(BY),
    multiple=True,
    default=("day",),
    show_default=True,
    help="What rows are told apart by; repeatable.",
)
@click.option("--since", type=SINCE, help="Only from that day on, or so far back.")
@click.option(
    "--days", type=click.IntRange(min=1, max=36_500), metavar="N", help="Only the last N days."
)
@click.option("--run", metavar="RUN", help="Only that run's (name or id).")
@click.option("--model", metavar="NAME", help="Only that model's.")
@click.option("--csv", "as_csv", is_flag=True, help="As CSV on stdout.")
@click.option(
    "--chart",
    type=click.Choice(tuple(MEASURES)),
    is_flag=False,
    flag_value="requests",
    help="As bars of that; without a word: requests.",
)
@click.pass_context
def usage_command(
    ctx: click.Context,
    /,
    *,
    by: tuple[str, ...],
    since: date | None,
    days: int | None,
    run: str | None,
    model: str | None,
    as_csv: bool,
    chart: str | None,
) -> int:
    """Requests, tokens, money and time waited, then the limits they count against.

    Days are UTC's. Usage is kept when runs are deleted. A request counts when its outcome is
    stored, 429s too. Time waited is what limits, pauses, outages and backoffs held runs back; runs
    that waited at once each count.
    """
    settings = Settings.of(ctx)
    _refuse_two(ctx, settings, since=since, days=days, as_csv=as_csv, chart=chart)
    if days is not None:
        since = (datetime.now(UTC) - timedelta(days=days - 1)).date()
    app = settings.app()
    names = tuple(dict.fromkeys(by))
    rows = app.usage(names, since=since, run=run, model=model)
    if as_csv:
        write_csv(rows, names)
        return 0
    limits = app.limits()
    if settings.json:
        write_list("usage", map(usage_row, rows), limits=[limit_row(limit) for limit in limits])
        return 0
    if not rows:
        is_all = since is None and run is None and model is None
        click.echo("nothing was sent yet" if is_all else "nothing was sent", err=True)
    elif chart is not None:
        write_chart(rows, names, MEASURES[chart])
        return 0
    else:
        write_rows(rows, names)
    if limits:
        click.echo()
        write_limits(limits)
    return 0


def _refuse_two(
    ctx: click.Context,
    settings: Settings,
    *,
    since: date | None,
    days: int | None,
    as_csv: bool,
    chart: str | None,
) -> None:
    """Refuse two ways to say one thing."""
    if since is not None and days is not None:
        raise click.UsageError("--since and --days say the same: give one of them", ctx)
    shapes = [("--json", settings.json), ("--csv", as_csv), ("--chart", chart is not None)]
    for (one, is_one), (other, is_other) in pairwise([pair for pair in shapes if pair[1]]):
        if is_one and is_other:
            raise click.UsageError(f"{one} and {other} are two shapes: give one of them", ctx)
