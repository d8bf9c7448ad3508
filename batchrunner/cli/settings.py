"""The global options of one call, and the application they open."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from batchrunner.cli.house import META
from batchrunner.cli.text import printable

if TYPE_CHECKING:
    from batchrunner.app import Batchrunner

DEFAULT_DB: Final = Path("batchrunner.db")


class Settings(NamedTuple):
    """What was said for the whole call, before or after the command."""

    db: Path = DEFAULT_DB
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_input: bool = False
    yes: bool = False
    log_file: Path | None = None

    @classmethod
    def of(cls, ctx: click.Context) -> Settings:
        """Gather what the global options of all levels left in the context."""
        said = {
            name.removeprefix(META): value
            for name, value in ctx.meta.items()
            if name.startswith(META)
        }
        return cls(**said)

    @property
    def db_name(self) -> str:
        """The database's absolute path, printable."""
        return printable(str(self.db.absolute()))

    def app(self) -> Batchrunner:
        """Return the application on this database; opens nothing yet."""
        from batchrunner.app import Batchrunner  # noqa: PLC0415 (loads all that --help must not)

        return Batchrunner(self.db)

    def command(self, *words: str) -> str:
        """Return a command line to be copied, that finds the same database."""
        place = [] if self.db == DEFAULT_DB else ["--db", str(self.db)]
        return printable(shlex.join(["batchrunner", *words, *place]))
