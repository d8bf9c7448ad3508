"""``config``: what is in force, and which file, variable or option says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from batchrunner.cli.house import Group
from batchrunner.cli.settings import Settings
from batchrunner.cli.shapes import write_json
from batchrunner.cli.tables import Column, write_facts, write_table
from batchrunner.cli.text import printable
from batchrunner.config import Config
from batchrunner.config.keys import PRICE_KEYS
from batchrunner.config.show import InForce, values_in_force
from batchrunner.core.dollars import as_bound

_COLUMNS: Final = (Column("KEY", most=24), Column("FROM", most=40), Column("VALUE"))


@click.group(
    "config",
    cls=Group,
    short_help="What is in force, and which file, variable or option says so.",
    examples=("batchrunner config show", "batchrunner config show --profile free --json"),
)
def config_command() -> None:
    """What is in force, and which file, variable or option says so.

    Read are ./batchrunner.toml (or --config FILE), then the user's own file. All keys:
    batchrunner schema config
    """


@config_command.command(
    "show",
    short_help="Each key in force, its value, and where it comes from.",
    examples=(
        "batchrunner config show",
        "batchrunner config show --profile free",
        "batchrunner config show --provider openai --json",
    ),
)
@click.option(
    "--provider",
    metavar="NAME",
    help="For the runs of that provider. [default: the one configured]",
)
@click.pass_context
def show_command(ctx: click.Context, /, provider: str | None) -> int:
    """Each key in force, its value, and where it comes from.

    No database is opened and nothing is sent. Options that were typed for a run are stored with
    it, and come before all of these.
    """
    settings = Settings.of(ctx)
    config = settings.config
    said = {"db": settings.typed_db, "provider": provider}
    typed = {name: str(value) for name, value in said.items() if value is not None}
    values = list(values_in_force(config, os.environ, provider=provider, typed=typed))
    if settings.json:
        write_json(_object(config, values))
        return 0
    write_facts(_facts(config))
    click.echo()
    write_table(_COLUMNS, [*map(_cells, values), *_tables(config)])
    return 0


def _facts(config: Config) -> Iterator[tuple[str, str]]:
    for file in config.files:
        is_there = "" if file.is_there else ", not there"
        yield "files", f"{printable(str(file.path))} ({file.role}{is_there})"
    if config.profile is not None:
        yield "profile", f"{printable(config.profile)} ({config.profile_said_by})"


def _cells(row: InForce) -> list[str]:
    value = row.default if row.place is None else _written(row.value)
    return [row.key, printable(_near(row.place) if row.place else "default"), printable(value)]


def _tables(config: Config) -> Iterator[list[str]]:
    for model, price in config.prices.items():
        said = ((name, getattr(price, name)) for name in PRICE_KEYS)
        words = ", ".join(f"{name} {value:g}" for name, value in said if value is not None)
        place = _near(f"{price.file}:{price.line}")
        yield [printable(f"prices.{model}"), printable(place), words]
    for unit, bound in config.bounds.items():
        place = _near(f"{bound.file}:{bound.line}")
        yield [f"budget.{unit}", printable(place), as_bound(bound.dollars)]
    for name, described in config.described.items():
        value = described.profile.default_base_url or "needs a base_url"
        place = _near(f"{described.file}:{described.line}")
        yield [f"providers.{name}", printable(place), printable(value)]


def _near(place: str) -> str:
    """Return a place without the folder we are in: the line must be seen on a narrow screen."""
    near = place.removeprefix(f"{Path.cwd()}{os.sep}")
    home = f"{Path.home()}{os.sep}"
    return f"~{os.sep}{near.removeprefix(home)}" if near.startswith(home) else near


def _written(value: Any) -> str:
    """Return a value in one line, much as it is written in the file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name}: {text}" for name, text in value.items())
    return str(value)


def _object(config: Config, values: list[InForce]) -> dict[str, Any]:
    return {
        "files": [
            {"path": str(file.path), "role": file.role, "is_there": file.is_there}
            for file in config.files
        ],
        "profile": config.profile,
        "values": [row._asdict() for row in values],
        "prices": {
            model: {name: getattr(price, name) for name in PRICE_KEYS}
            for model, price in config.prices.items()
        },
        "budget": {unit: bound.dollars for unit, bound in config.bounds.items()},
        "providers": sorted(config.described),
    }
