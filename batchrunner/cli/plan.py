"""``plan``: what files would take. ``submit --dry-run`` shows the same."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any, Final

import click

from batchrunner.cli.comparison import show_comparison
from batchrunner.cli.house import Command
from batchrunner.cli.lines import wall_ms
from batchrunner.cli.options import Typed, run_options, submit_options, typed_options
from batchrunner.cli.settings import Settings
from batchrunner.cli.shapes import plan_object, write_json
from batchrunner.cli.tables import Column, write_facts, write_table
from batchrunner.cli.text import dollars, duration, local_time, number, plural, printable, when
from batchrunner.cli.watch import run_async
from batchrunner.cli.words import zone_words
from batchrunner.core.caps import MIN_INTERVAL, WORDS
from batchrunner.planned import PlannedLimit, PlanView, Range

#: Days that are shown from the first on; the last one is always.
_SHOWN: Final = 10
_MODELS: Final = (
    Column("MODEL", most=40),
    Column("JOBS", right=True),
    Column("TOKENS IN", right=True),
    Column("TOKENS OUT", right=True),
    Column("COST", right=True),
)
_DAYS: Final = (
    Column("DAY"),
    Column("REQUESTS", right=True),
    Column("FROM"),
    Column("TO"),
)


@click.command(
    "plan",
    cls=Command,
    short_help="What files would take: tokens, days, what binds; sends nothing.",
    examples=(
        "batchrunner plan jobs.jsonl --provider anthropic --rpm 50 --rpd 1000",
        "batchrunner plan jobs.jsonl --rpd 1000 --day-resets America/Los_Angeles --json",
        "zcat jobs.jsonl.gz | batchrunner plan - --model claude-haiku-4-5",
        "batchrunner plan jobs.jsonl --count-tokens",
        "batchrunner plan --compare tickets",
    ),
)
@click.argument("files", nargs=-1, metavar="FILE...")
@click.option(
    "--compare",
    metavar="RUN",
    help="Instead of files: what would have been said of that run before it began, beside what it took.",
)
@click.option(
    "--count-tokens",
    metavar="[N]",
    type=click.IntRange(1, 1_000),
    is_flag=False,
    flag_value=50,
    help="Have the provider count the tokens of N requests, drawn at random, and scale that (anthropic, gemini;"
    " free of charge). [default of N: 50]",
)
@submit_options
@run_options
@click.pass_context
def plan_command(
    ctx: click.Context,
    /,
    files: tuple[str, ...],
    compare: str | None,
    count_tokens: int | None,
    **values: Any,
) -> int:
    """What files would take: jobs, tokens, days, the limit that binds, what would be faster.

    Takes the options of submit. Nothing is sent (but with --count-tokens) and nothing stored; what the database knows of the
    account's limits, of what is used of them, and of what answers took, counts.
    """
    if compare is not None:
        if files:
            raise click.UsageError("--compare takes a run, and no files", ctx)
        return show_comparison(Settings.of(ctx), compare)
    if not files:
        raise click.MissingParameter(ctx=ctx, param=ctx.command.params[0])
    return show_plan(Settings.of(ctx), files, typed_options(values), n_counted=count_tokens)


def show_plan(
    settings: Settings, files: tuple[str, ...], typed: Typed, *, n_counted: int | None = None
) -> int:
    """Make a plan and print it; ``n_counted`` requests are counted by their provider."""
    app = settings.app()
    run, limits, call = typed.run, typed.limits, typed.call
    if n_counted is None:
        stdin = sys.stdin.buffer if "-" in files else None
        plan = app.plan(files, run=run, limits=limits, call=call, stdin=stdin)
    else:
        counting = app.plan_counted(files, n_counted, run=run, limits=limits, call=call)
        plan = run_async(counting, os.environ)
    if settings.json:
        write_json(plan_object(plan))
        return 0
    now = wall_ms()
    write_table(
        _MODELS,
        (
            (
                printable(model.model or "-"),
                number(model.jobs),
                number(model.input_tokens),
                number(model.output_tokens),
                "-" if model.cost_usd is None else dollars(model.cost_usd),
            )
            for model in plan.models
        ),
    )
    click.echo()
    write_facts(_facts(plan, now))
    if len(plan.schedule) > 1:
        click.echo()
        write_table(_DAYS, _days(plan, now))
    if not settings.quiet:
        for note in plan.notes:
            click.echo(printable(note), err=True)
    return 0


def _facts(plan: PlanView, now: float) -> Iterator[tuple[str, str]]:
    account = f", account {plan.account}" if plan.account else ""
    yield "jobs", printable(f"{plan.jobs:,} for {plan.provider}{account}")
    yield "tokens in", _span(plan.input_tokens)
    yield "tokens out", _span(plan.output_tokens)
    yield "cost", _cost(plan)
    for limit in plan.limits:
        yield "limits", printable(_limit(limit))
    none = "none of these" if plan.limits else "none: no limit is known"
    yield "binds", plan.binding_limit or none
    if plan.finish_at is None:
        yield "done", "never, or not in five years"
    else:
        takes = plural(len(plan.schedule), "day") if len(plan.schedule) > 1 else ""
        yield "done", f"about {when(plan.finish_at, now)}{f', on {takes}' if takes else ''}"
    if (faster := plan.faster) is not None:
        at_twice, free = _ends(faster.finish_at, now), _ends(faster.free_finish_at, now)
        twice = _at(plan.binding_limit or "", faster.value)
        yield "faster", printable(f"{twice}: {at_twice}; without {plan.binding_limit}: {free}")


def _span(span: Range) -> str:
    if span.low is None or span.high is None:
        return "unknown"
    return f"{number(span.low)} to {number(span.high)}"


def _cost(plan: PlanView) -> str:
    span = plan.cost_usd
    if span is None or span.low is None or span.high is None:
        return "unknown"
    return f"{dollars(span.low)} to {dollars(span.high)}"


def _limit(limit: PlannedLimit) -> str:
    of_pool = f" for {limit.scope}" if limit.scope else ""
    zone = f", {zone_words(limit.zone)}" if limit.zone else ""
    return f"{_amount(limit.limit, limit.value)}{of_pool} ({limit.source}{zone})"


def _amount(limit: str, value: float) -> str:
    if limit == MIN_INTERVAL:
        return f"{value / 1000:g} s between two requests"
    return f"{number(value)} {WORDS.get(limit, limit)}"


def _at(limit: str, value: float) -> str:
    return f"at {_amount(limit, value)}"


def _ends(at: int | None, now: float) -> str:
    return "never" if at is None else f"in {duration((at - now) / 1000.0)}"


def _days(plan: PlanView, now: float) -> Iterator[tuple[str, ...]]:
    days = plan.schedule
    for day in days[:_SHOWN]:
        yield day.day, number(day.requests), local_time(day.first, now), local_time(day.last, now)
    if len(days) > _SHOWN + 1:
        left_out = days[_SHOWN:-1]
        yield f"… {len(left_out):,} days", number(sum(day.requests for day in left_out)), "", ""
    for day in days[_SHOWN:][-1:]:
        yield day.day, number(day.requests), local_time(day.first, now), local_time(day.last, now)
