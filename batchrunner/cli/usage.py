"""``usage``: what was used, by day, model, run, account or provider: a table, CSV, JSON or a chart."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple

import click

from batchrunner.cli.bars import Bar, write_bars
from batchrunner.cli.house import Command
from batchrunner.cli.limits import write_limits
from batchrunner.cli.settings import Settings
from batchrunner.cli.shapes import limit_row, usage_row, write_list
from batchrunner.cli.tables import Column, write_table
from batchrunner.cli.text import duration, number, printable
from batchrunner.cli.values import SINCE
from batchrunner.views import UsageView

#: What rows can be told apart by (the names of ``store.usage.GROUPINGS``).
BY: Final = ("day", "model", "run", "account", "provider")
_COUNTS: Final = (
    Column("REQUESTS", right=True),
    Column("429s", right=True),
    Column("TOKENS IN", right=True),
    Column("TOKENS OUT", right=True),
    Column("COST", right=True),
    Column("WAITED", right=True),
    Column("MOST FOR"),
)
#: Columns of ``--csv`` after those that rows are told apart by; then one for each cause of waiting.
_CSV: Final = (
    "requests", "rate_limited", "input_tokens", "output_tokens", "cache_read_tokens",
    "cache_write_tokens", "cost_usd", "cache_saved_usd",
)  # fmt: skip
#: A chart of more days than these without a request between shows no empty ones.
_MOST_GAPS: Final = 92


class Measure(NamedTuple):
    """What a chart may show."""

    title: str
    value: Callable[[UsageView], float | None]
    words: Callable[[float | None], str]


def _dollars(value: float | None) -> str:
    return "-" if value is None else f"${value:,.4f}"


def _waited(row: UsageView) -> float | None:
    return None if row.waits is None else sum(row.waits.values())


def _waited_words(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


MEASURES: Final = {
    "requests": Measure("requests", lambda row: row.requests, number),
    "429s": Measure("429s", lambda row: row.rate_limited, number),
    "tokens": Measure(
        "tokens, in and out", lambda row: row.input_tokens + row.output_tokens, number
    ),
    "cached": Measure("tokens read from cache", lambda row: row.cache_read_tokens, number),
    "cost": Measure("cost", lambda row: row.cost_usd, _dollars),
    "waited": Measure("time waited", _waited, _waited_words),
}


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
        _write_csv(rows, names)
        return 0
    limits = app.limits()
    if settings.json:
        write_list("usage", map(usage_row, rows), limits=[limit_row(limit) for limit in limits])
        return 0
    if not rows:
        is_all = since is None and run is None and model is None
        click.echo("nothing was sent yet" if is_all else "nothing was sent", err=True)
    elif chart is not None:
        _write_chart(rows, names, MEASURES[chart])
        return 0
    else:
        columns = (*(Column(name.upper(), most=30) for name in names), *_COUNTS)
        write_table(columns, (_cells(row, names) for row in rows))
        if cached := cache_words(rows):
            click.echo(f"\n{cached}")
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
    most = max(row.waits, key=row.waits.__getitem__) if row.waits else ""
    return [
        *_names(row, names),
        number(row.requests),
        number(row.rate_limited),
        number(row.input_tokens),
        number(row.output_tokens),
        _dollars(row.cost_usd),
        _waited_words(_waited(row)),
        f"{most} {duration(row.waits[most])}" if row.waits and most else "-",
    ]


def _names(row: UsageView, names: tuple[str, ...]) -> Iterator[str]:
    return (printable(getattr(row, name)) or "-" for name in names)


def _write_csv(rows: Sequence[UsageView], names: tuple[str, ...]) -> None:
    """Write rows with the names of ``--json``; unknown is empty."""
    causes = sorted({cause for row in rows for cause in row.waits or ()})
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow([*names, *_CSV, "waited_s", *(f"waited_s.{cause}" for cause in causes)])
    for row in rows:
        waits = row.waits
        out.writerow(
            [
                *(getattr(row, name) for name in (*names, *_CSV)),
                *(
                    ["" for _ in range(len(causes) + 1)]
                    if waits is None
                    else [
                        f"{seconds:.3f}"
                        for seconds in (sum(waits.values()), *(waits.get(c, 0.0) for c in causes))
                    ]
                ),
            ]
        )
    sys.stdout.flush()


def _write_chart(rows: Sequence[UsageView], names: tuple[str, ...], measure: Measure) -> None:
    """Draw a bar a row; days between in which nothing was sent are shown empty."""
    is_by_day = names == ("day",)
    if is_by_day:
        rows = list(_with_gaps(rows))
    of = ", ".join(names)
    write_bars(
        f"{measure.title} by {of}",
        [
            Bar(
                " ".join(_names(row, names)),
                value,
                measure.words(value),
                row.day[5:] if is_by_day and row.day else "",
            )
            for row in rows
            for value in (measure.value(row),)
        ],
    )


def _with_gaps(rows: Sequence[UsageView]) -> Iterator[UsageView]:
    days = [date.fromisoformat(row.day or "") for row in rows]
    is_long = (days[-1] - days[0]).days > _MOST_GAPS
    last: date | None = None
    for day, row in zip(days, rows, strict=True):
        while last is not None and not is_long and (last := last + timedelta(days=1)) < day:
            yield UsageView(
                day=last.isoformat(), requests=0, rate_limited=0, input_tokens=0, output_tokens=0,
                cost_usd=0.0, waits={},
            )  # fmt: skip
        yield row
        last = day
