"""``submit``, ``resume``, ``retry``, ``demo``: the commands that send."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from batchrunner.cli.house import Command
from batchrunner.cli.options import (
    job_filter,
    job_options,
    run_options,
    sample_options,
    submit_options,
    typed_options,
)
from batchrunner.cli.plan import show_plan
from batchrunner.cli.settings import Settings
from batchrunner.cli.watch import watched


@click.command(
    "submit",
    cls=Command,
    short_help="Validate, store and run the jobs of one or more files.",
    examples=(
        "batchrunner submit jobs.jsonl --provider anthropic --rpm 50 --rpd 1000",
        "batchrunner submit jobs.jsonl --model claude-haiku-4-5 --system @prompt.txt -o results.csv",
        "batchrunner submit jobs.jsonl --provider gemini --model gemini-2.5-flash",
        "batchrunner submit jobs.jsonl --no-wait --max-time 2h30m",
        "batchrunner submit jobs.jsonl --update --set temperature=0",
        "batchrunner submit jobs.jsonl --proxy socks5h://127.0.0.1:7890",
        "batchrunner submit jobs.jsonl --compress --db large.db",
        "batchrunner submit tickets.csv --template prompt.j2 --key ticket --model claude-haiku-4-5",
        "batchrunner submit jobs.jsonl --sample 20 -o results.csv",
        "batchrunner submit jobs.jsonl --expect-json label.schema.json --max-attempts 3",
        "batchrunner submit jobs.jsonl --cache-order -c 64",
        "batchrunner submit jobs.jsonl --rpd 1000 --dry-run",
        "zcat jobs.jsonl.gz | batchrunner submit - --name nightly --json",
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@submit_options
@run_options
@click.option(
    "-n", "--dry-run", "is_dry", is_flag=True, help="Validate and plan only, as plan does."
)
@click.pass_context
def submit_command(
    ctx: click.Context, /, files: tuple[str, ...], is_dry: bool, **values: Any
) -> int:
    """Validate, store and run the jobs of one or more files.

    FILE is JSONL, CSV or TSV, plain, .gz or .zst; - is standard input. Several files are one input. A
    file is taken whole or not at all. Submitting the same again continues its run and pays for nothing
    twice.
    """
    typed = typed_options(values)
    if is_dry:
        return show_plan(Settings.of(ctx), files, typed)
    stdin = sys.stdin.buffer if "-" in files else None
    return watched(
        Settings.of(ctx),
        lambda app, listener: app.submit(
            files,
            run=typed.run,
            limits=typed.limits,
            call=typed.call,
            listener=listener,
            stdin=stdin,
        ),
        beside=(*files, typed.run.output, typed.call.template),
    )


@click.command(
    "resume",
    cls=Command,
    short_help="Carry on an unfinished run.",
    examples=(
        "batchrunner resume",
        "batchrunner resume tickets --rpm 100",
        "batchrunner resume tickets --ca-file corporate-ca.pem",
        "batchrunner resume --all --no-wait -q",
    ),
)
@click.argument("run", required=False)
@click.option(
    "--all",
    "all_runs",
    is_flag=True,
    help="Every unfinished, unpaused run; exit 0 where there is none.",
)
@sample_options
@run_options
@click.pass_context
def resume_command(ctx: click.Context, /, run: str | None, all_runs: bool, **values: Any) -> int:
    """Carry on an unfinished run.

    RUN is a run's name or id; without one, the latest. Options typed here take the place of
    those stored with the run.
    """
    if run is not None and all_runs:
        raise click.UsageError("RUN and --all exclude one another; keep one")
    typed = typed_options(values)
    return watched(
        Settings.of(ctx),
        lambda app, listener: app.resume(
            run,
            all_runs=all_runs,
            run=typed.run,
            limits=typed.limits,
            call=typed.call,
            listener=listener,
        ),
        beside=(typed.run.output,),
    )


@click.command(
    "retry",
    cls=Command,
    short_help="Put failed or cancelled jobs back, then run.",
    examples=(
        "batchrunner retry",
        "batchrunner retry tickets --error timeout --timeout 20m",
        "batchrunner retry tickets --job ticket-17 --set max_tokens=2000",
    ),
)
@click.argument("run", required=False)
@job_options
@run_options
@click.pass_context
def retry_command(ctx: click.Context, /, run: str | None, **values: Any) -> int:
    """Put failed or cancelled jobs back, with attempts from 0, then run.

    RUN is a run's name or id; without one, the latest. Without a choice of jobs, all failed and
    cancelled ones go back.
    """
    typed, jobs = typed_options(values), job_filter(values)
    return watched(
        Settings.of(ctx),
        lambda app, listener: app.retry(
            run,
            jobs=jobs,
            run=typed.run,
            limits=typed.limits,
            call=typed.call,
            listener=listener,
        ),
        beside=(typed.run.output,),
    )


@click.command(
    "demo",
    cls=Command,
    short_help="A real run against a built-in simulated provider.",
    examples=("batchrunner demo", "batchrunner demo -o demo.csv"),
)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Export the answers there. [default: demo.csv]",
)
@click.pass_context
def demo_command(ctx: click.Context, /, output: Path | None) -> int:
    """A real run against a built-in simulated provider.

    200 jobs, with rate limits, retries and a pause, in well under a minute. It needs no key and
    no network, and uses a temporary database.
    """
    return watched(
        Settings.of(ctx),
        lambda app, listener: app.demo(listener=listener, output=output),
        beside=(output,),
        is_demo=True,
    )
