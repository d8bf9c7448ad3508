"""``export``: results to stdout or to a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

import click

from batchrunner.cli.house import Command
from batchrunner.cli.options import job_filter, job_options
from batchrunner.cli.settings import Settings
from batchrunner.cli.shapes import write_json
from batchrunner.cli.text import plural, printable
from batchrunner.formats.columns import parse_columns
from batchrunner.options import ExportOptions

FORMATS: Final = ("csv", "jsonl", "openai", "anthropic", "input", "parquet", "xlsx")


@click.command(
    "export",
    cls=Command,
    short_help="Write results as CSV, JSONL or a batch format.",
    examples=(
        "batchrunner export -o results.csv",
        "batchrunner export tickets -f jsonl --status completed > answers.jsonl",
        "batchrunner export tickets --columns key,output_json.label,metadata.* --excel -o labels.csv",
        "batchrunner export tickets -f parquet > tickets.parquet",
        "batchrunner export tickets -f input --status failed -o failed.jsonl --force",
    ),
)
@click.argument("run", required=False)
@click.option(
    "-f",
    "--format",
    "format_name",
    type=click.Choice(FORMATS),
    help="[default: told by the ending of FILE, else csv]",
)
@click.option("-o", "--output", metavar="FILE|-", help="Write there. [default: -, stdout]")
@click.option(
    "--columns",
    metavar="NAME,…",
    help="Only these, in this order: the CSV's names, input_text, request, response, output_json, a dotted"
    " path into these, metadata.*; any other name is a metadata field.",
)
@click.option(
    "--excel",
    is_flag=True,
    help="CSV for a spreadsheet: with a byte order mark, nothing taken for a formula, long cells cut.",
)
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@job_options
@click.pass_context
def export_command(
    ctx: click.Context,
    /,
    run: str | None,
    *,
    format_name: str | None,
    output: str | None,
    force: bool,
    columns: str | None,
    excel: bool,
    **values: Any,
) -> int:
    """Write one row per job, in input order, successes and failures alike.

    RUN is a run's name or id; without one, the latest. A file appears whole or not at all.
    """
    settings = Settings.of(ctx)
    target = None if output in {None, "-"} else Path(str(output))
    options = ExportOptions(
        format=format_name, output=target, force=force, jobs=job_filter(values),
        columns=() if columns is None else parse_columns(columns), excel=excel,
    )  # fmt: skip
    n_rows = settings.app().export(run, options, sys.stdout.buffer)
    if target is None:
        sys.stdout.buffer.flush()
    elif settings.json:
        write_json({"rows": n_rows, "output": os.fspath(target)})
    elif not settings.quiet:
        click.echo(f"wrote {plural(n_rows, 'row')} to {printable(str(target))}", err=True)
    return 0
