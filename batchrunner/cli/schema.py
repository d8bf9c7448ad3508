"""``schema``: the configuration file and the lines of job files as JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import click

from batchrunner.cli.house import Command


def _config() -> dict[str, Any]:
    from batchrunner.config.schema import config_schema  # noqa: PLC0415 (one of the two is asked for)

    return config_schema()


def _jobs() -> dict[str, Any]:
    from batchrunner.formats.schema import jobs_schema  # noqa: PLC0415 (as above)

    return jobs_schema()


_SCHEMAS: Final[dict[str, Callable[[], dict[str, Any]]]] = {"config": _config, "jobs": _jobs}


@click.command(
    "schema",
    cls=Command,
    short_help="JSON Schema of the configuration file or of job lines.",
    examples=(
        "batchrunner schema config > batchrunner.schema.json",
        "batchrunner schema jobs > jobs.schema.json",
    ),
)
@click.argument("what", type=click.Choice(list(_SCHEMAS)))
def schema_command(what: str) -> int:
    """Print the JSON Schema (draft 2020-12) of the configuration file or of a job file's lines.

    Editors complete and check with it. For jobs it is a check of form alone: submit --no-run
    looks at the rest.
    """
    click.echo(json.dumps(_SCHEMAS[what](), indent=2, ensure_ascii=False))
    return 0
