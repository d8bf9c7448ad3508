"""``limits``: what is in force, and ``limits set``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import click

from batchrunner.cli.house import Group
from batchrunner.cli.lines import wall_ms
from batchrunner.cli.settings import Settings
from batchrunner.cli.shapes import budget_object, limit_row, said_row, write_json, write_list
from batchrunner.cli.tables import Column, write_table
from batchrunner.cli.text import local_time, number, printable
from batchrunner.cli.values import CONCURRENCY, DURATION_OR_ZERO, LIMIT
from batchrunner.cli.words import zone_words
from batchrunner.core.dollars import as_dollars
from batchrunner.options import LimitOptions
from batchrunner.views import BudgetView, LimitView, SaidView

_COLUMNS: Final = (
    Column("ACCOUNT", most=26),
    Column("LIMIT"),
    Column("VALUE", right=True),
    Column("SOURCE"),
    Column("USED", right=True),
    Column("LEFT", right=True),
    Column("RESETS"),
)
_SAID_COLUMNS: Final = (
    Column("ACCOUNT", most=40),
    Column("OF"),
    Column("LIMIT", right=True),
    Column("LEFT", right=True),
    Column("RESETS"),
    Column("SAID"),
)
_BUDGET_COLUMNS: Final = (
    Column("BUDGET"),
    Column("DOLLARS", right=True),
    Column("SPENT", right=True),
    Column("MAYBE PAID", right=True),
    Column("LEFT", right=True),
    Column("RESETS"),
)
#: What belongs to a run, not to its account.
_OF_RUN: Final = "concurrency"
#: Name of a limit → the field it sets, and the type of its value.
_SETTABLE: Final[dict[str, tuple[str, click.ParamType[Any]]]] = {
    **{name: (name, LIMIT) for name in ("rpm", "tpm", "itpm", "otpm", "rpd", "tpd")},
    "day-resets": ("day_resets", click.STRING),
    "min-interval": ("min_interval_s", DURATION_OR_ZERO),
    "concurrency": (_OF_RUN, CONCURRENCY),
}


@click.group(
    "limits",
    cls=Group,
    invoke_without_command=True,
    short_help="Limits in force, used and left; change them.",
    examples=("batchrunner limits", "batchrunner limits set rpm=50 rpd=none"),
)
@click.pass_context
def limits_command(ctx: click.Context, /) -> int | None:
    """Limits in force: where each came from, used, left, next reset; what is left of the budget."""
    if ctx.invoked_subcommand is not None:
        return None
    settings = Settings.of(ctx)
    app = settings.app()
    views, said, budget = app.limits(), app.said_limits(), app.budget()
    if settings.json:
        write_list(
            "limits",
            map(limit_row, views),
            said=[said_row(one) for one in said],
            budget=budget_object(budget),
        )
        return 0
    if not write_limits(views):
        click.echo("no limits are known yet", err=True)
    if said:
        click.echo("\nthe provider's own count, from the headers of its last answer:")
        write_table(_SAID_COLUMNS, (_said_cells(one, wall_ms()) for one in said))
    if budget:
        click.echo("\nthe budget of all runs of this database, from the configuration:")
        write_table(_BUDGET_COLUMNS, (_budget_cells(one, wall_ms()) for one in budget))
    return 0


def write_limits(views: Sequence[LimitView]) -> int:
    """Print the limits in force; return how many."""
    now = wall_ms()
    return write_table(_COLUMNS, (_cells(view, now) for view in views))


@limits_command.command(
    "set",
    examples=(
        "batchrunner limits set rpm=50 rpd=1000 day-resets=America/Los_Angeles",
        "batchrunner limits set itpm=30000 otpm=8000",
        "batchrunner limits set rpm=auto min-interval=0.5 --account research",
        "batchrunner limits set concurrency=40 --run tickets",
        "batchrunner limits set concurrency=auto",
    ),
)
@click.option("--run", metavar="RUN", help="Whose concurrency. [default: the latest run]")
@click.option("--account", metavar="NAME", help="Whose limits. [default: the only account]")
@click.argument("changes", nargs=-1, required=True, metavar="LIMIT=VALUE...")
@click.pass_context
def set_command(
    ctx: click.Context, /, run: str | None, account: str | None, changes: tuple[str, ...]
) -> int:
    """Change limits: rpm=N, tpm=N, itpm=N, otpm=N, rpd=N, tpd=N (each none or auto too),
    day-resets=ZONE|rolling, min-interval=DURATION.

    They hold for all of the account's runs in this database from now on. concurrency=N|auto is one
    run's, stored with it like -c. A run that is being sent takes all of them up at once.
    """
    settings = Settings.of(ctx)
    chosen: dict[str, Any] = {}
    for change in changes:
        field, value = _change(change, ctx)
        if field in chosen:
            raise click.UsageError(f"'{change}' says a limit again; keep one of them", ctx)
        chosen[field] = value
    at_once = chosen.pop(_OF_RUN, None)
    sentences = settings.app().set_limits(
        account, LimitOptions(**chosen), run=run, concurrency=at_once
    )
    if settings.json:
        write_json({"changes": sentences})
    else:
        for sentence in sentences:
            click.echo(printable(sentence))
    return 0


def _change(words: str, ctx: click.Context) -> tuple[str, Any]:
    name, equals, text = words.partition("=")
    known = _SETTABLE.get(name.strip().replace("_", "-"))
    if not equals or not text.strip() or known is None:
        raise click.UsageError(
            f"'{words}' is no limit: write {', '.join(f'{name}=…' for name in _SETTABLE)}", ctx
        )
    field, kind = known
    return field, kind.convert(text.strip(), None, ctx)


def _cells(view: LimitView, now_ms: float) -> list[str]:
    resets = local_time(view.resets_at, now_ms) if view.resets_at is not None else "-"
    zone = f" ({zone_words(view.zone)})" if view.zone else ""
    return [
        printable(view.scope),
        printable(view.limit),
        "none" if view.value is None else number(view.value),
        printable(view.source),
        number(view.used),
        number(view.remaining),
        printable(resets + zone),
    ]


def _budget_cells(view: BudgetView, now_ms: float) -> list[str]:
    dollars = (view.amount_usd, view.spent_usd, view.lost_usd, view.left_usd)
    resets = f"{local_time(view.resets_at, now_ms)} (UTC's {view.unit})"
    return [view.unit, *(as_dollars(value) for value in dollars), resets]


def _said_cells(said: SaidView, now_ms: float) -> list[str]:
    return [
        printable(said.scope),
        printable(said.what),
        printable(said.limit or "-"),
        printable(said.remaining or "-"),
        "-" if said.resets_at is None else local_time(said.resets_at, now_ms),
        local_time(said.said_at, now_ms),
    ]
