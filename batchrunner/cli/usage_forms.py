"""What was used as a table, as CSV and as bars."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date, timedelta
from typing import Final, NamedTuple

import click

from batchrunner.cli.bars import Bar, write_bars
from batchrunner.cli.tables import Column, terminal_width, write_table
from batchrunner.cli.text import duration, number, printable
from batchrunner.core.dollars import as_dollars
from batchrunner.views import UsageView

__all__ = ["MEASURES", "write_chart", "write_csv", "write_rows"]

#: A terminal with fewer columns gets shorter headings, and not what most of the waiting was for.
_NARROW: Final = 84
_FEW: Final = tuple(
    Column(title, right=True) for title in ("REQS", "429s", "IN", "OUT", "COST", "WAITED")
)
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
    return "-" if value is None else as_dollars(value)


def _tokens(row: UsageView) -> int | None:
    told = [n for n in (row.input_tokens, row.output_tokens) if n is not None]
    return sum(told) if told else None


def _waited(row: UsageView) -> float | None:
    return None if row.waits is None else sum(row.waits.values())


def _waited_words(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


MEASURES: Final = {
    "requests": Measure("requests", lambda row: row.requests, number),
    "429s": Measure("429s", lambda row: row.rate_limited, number),
    "tokens": Measure("tokens, in and out", _tokens, number),
    "cached": Measure("tokens read from cache", lambda row: row.cache_read_tokens, number),
    "cost": Measure("cost", lambda row: row.cost_usd, _dollars),
    "waited": Measure("time waited", _waited, _waited_words),
}


def write_rows(rows: Sequence[UsageView], names: tuple[str, ...]) -> None:
    """Print a table, and what providers' caches did."""
    wide = terminal_width()
    counts = _FEW if wide is not None and wide < _NARROW else _COUNTS
    columns = (*(Column(name.upper(), most=30) for name in names), *counts)
    write_table(columns, (_cells(row, names)[: len(columns)] for row in rows))
    if cached := cache_words(rows):
        click.echo(f"\n{cached}")


def cache_words(rows: Sequence[UsageView]) -> str:
    """Return in a sentence what providers' caches did; empty where they did nothing."""
    read = sum(row.cache_read_tokens or 0 for row in rows)
    written = sum(row.cache_write_tokens or 0 for row in rows)
    if not (read or written):
        return ""
    total = sum(row.input_tokens or 0 for row in rows)
    said = (
        f"cache: {number(read)} of {number(total)} tokens in were read from it,"
        f" {number(written)} written to it"
    )
    saved = [row.cache_saved_usd for row in rows if row.cache_saved_usd is not None]
    if not saved:
        return said
    dollars = sum(saved)
    if dollars < 0:
        return f"{said}; so far that cost about {as_dollars(-dollars)} more than without"
    return f"{said}; that saved about {as_dollars(dollars)}"


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


def write_csv(rows: Sequence[UsageView], names: tuple[str, ...]) -> None:
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


def write_chart(rows: Sequence[UsageView], names: tuple[str, ...], measure: Measure) -> None:
    """Draw a bar a row; days between in which nothing was sent are shown empty."""
    is_by_day = names == ("day",)
    if is_by_day:
        rows = list(with_gaps(rows))
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


def with_gaps(rows: Sequence[UsageView]) -> Iterator[UsageView]:
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
