"""``usage``: what was used, by day, model, run, account or provider."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import click

from batchrunner.cli.house import Command
from batchrunner.cli.limits import write_limits
from batchrunner.cli.settings import Settings
from batchrunner.cli.shapes import limit_row, usage_row, write_list
from batchrunner.cli.tables import Column, write_table
from batchrunner.cli.text import number, printable
from batchrunner.views import UsageView

#: What rows can be told apart by (the names of ``store.usage.GROUPINGS``).
BY: Final = ("day", "model", "run", "account", "provider")
_COUNTS: Final = (
    Column("REQUESTS", right=True),
    Column("429s", right=True),
    Column("TOKENS IN", right=True),
    Column("TOKENS OUT", right=True),
    Column("COST", right=True),
)


@click.command(
    "usage",
    cls=Command,
    short_help="Requests, tokens, money by day, model or run.",
    examples=(
        "batchrunner usage",
        "batchrunner usage --by model --by day --days 7",
        "batchrunner usage --by run --json",
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
@click.option(
    "--days",
    type=click.IntRange(min=1),
    metavar="N",
    help="Only the last N days. [default: all]",
)
@click.pass_context
def usage_command(ctx: click.Context, /, by: tuple[str, ...], days: int | None) -> int:
    """Requests, tokens and money that were used, then the limits they count against.

    Days are UTC's. Usage is kept when runs are deleted. A request counts when its outcome is
    stored, 429s too.
    """
    settings = Settings.of(ctx)
    app = settings.app()
    since = None if days is None else (datetime.now(UTC) - timedelta(days=days - 1)).date()
    names = tuple(dict.fromkeys(by))
    rows = app.usage(names, since=since)
    limits = app.limits()
    if settings.json:
        write_list("usage", map(usage_row, rows), limits=[limit_row(limit) for limit in limits])
        return 0
    columns = (*(Column(name.upper(), most=30) for name in names), *_COUNTS)
    if not write_table(columns, (_cells(row, names) for row in rows)):
        click.echo("nothing was sent yet" if days is None else "nothing was sent", err=True)
    if cached := cache_words(rows):
        click.echo(f"\n{cached}")
    if limits:
        click.echo()
        write_limits(limits)
    return 0


def cache_words(rows: Sequence[UsageView]) -> str:
    """Return in a sentence what providers' caches did; empty where they did nothing."""
    read = sum(row.cache_read_tokens for row in rows)
    written = sum(row.cache_write_tokens for row in rows)
    if not (read or written):
        return ""
    total = sum(row.input_tokens for row in rows)
    said = (
        f"cache: {number(read)} of {number(total)} tokens in were read from it,"
        f" {number(written)} written to it"
    )
    saved = [row.cache_saved_usd for row in rows if row.cache_saved_usd is not None]
    if not saved:
        return said
    dollars = sum(saved)
    if dollars < 0:
        return f"{said}; so far that cost about ${-dollars:,.4f} more than without"
    return f"{said}; that saved about ${dollars:,.4f}"


def _cells(row: UsageView, names: tuple[str, ...]) -> list[str]:
    return [
        *(printable(getattr(row, name)) or "-" for name in names),
        number(row.requests),
        number(row.rate_limited),
        number(row.input_tokens),
        number(row.output_tokens),
        "-" if row.cost_usd is None else f"${row.cost_usd:,.4f}",
    ]
