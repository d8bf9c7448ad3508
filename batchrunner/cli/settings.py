"""The global options of one call, the configuration they choose, and the application they open."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from batchrunner.cli.house import DB_VARIABLE, META
from batchrunner.cli.text import printable

if TYPE_CHECKING:
    from batchrunner.app import Batchrunner
    from batchrunner.config import Config
    from batchrunner.models import Waiting
    from batchrunner.places import Place

DEFAULT_DB: Final = Path("batchrunner.db")

#: A command in a fix that names no run: the latest would be meant.
_NEEDS_RUN: Final = re.compile(r"\bbatchrunner (?:resume|retry)(?=$|[.,;)]| --(?!help)| ? [(#])")
#: A command in a fix that needs the call's own database; one that asks for help needs none, and one
#: that has its place has it.
_NEEDS_PLACE: Final = re.compile(
    r"\bbatchrunner (?:submit|resume|retry|worker|doctor|errors|show|status|runs|jobs|pause|cancel|export|plan|usage"
    r"|explain|report|limits set|limits(?! set)|db (?:upgrade|check|backup|reopen|prune))\b"
    r"(?! --(?:help|db|config|profile)\b)"
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What was said for the whole call, before or after the command."""

    #: ``--db``; ``None``: not typed.
    typed_db: Place | None = None
    #: ``--config``.
    config_file: Path | None = None
    #: ``--profile``.
    profile: str | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_input: bool = False
    yes: bool = False
    log_file: Path | None = None

    @classmethod
    def of(cls, ctx: click.Context) -> Settings:
        """Gather what the global options of all levels left in the context."""
        names = (field.name for field in fields(cls))
        return cls(**{name: ctx.meta[META + name] for name in names if META + name in ctx.meta})

    @cached_property
    def config(self) -> Config:
        """The configuration in force, read once. Raises what a faulty file makes of it."""
        from batchrunner.config import load_config  # noqa: PLC0415 (--help has no use for it)

        return load_config(file=self.config_file, profile=self.profile, environ=os.environ)

    @property
    def db(self) -> Place:
        """The database: typed, of the environment, of the configuration, the default."""
        if self.typed_db is not None:
            return self.typed_db
        if variable := os.environ.get(DB_VARIABLE):
            return _place_of(variable)
        return self.config.db or DEFAULT_DB

    @property
    def db_name(self) -> str:
        """The database's absolute path or its address, printable."""
        return printable(self.database)

    @property
    def database(self) -> str:
        """The database's absolute path, or its address without a password."""
        place = self.db
        return str(place.absolute() if isinstance(place, Path) else place)

    def app(self, place: Place | None = None) -> Batchrunner:
        """Return the application on this database, or on that at ``place``; opens nothing yet."""
        from batchrunner.app import Batchrunner  # noqa: PLC0415 (loads all that --help must not)
        from batchrunner.cli.told import SECRETS  # noqa: PLC0415 (as above)

        return Batchrunner(
            place or self.db, config=self.config, secrets=SECRETS, notice=self._notice
        )

    def _notice(self, text: str) -> None:
        if not self.quiet:
            click.echo(printable(text), err=True)

    def demo_app(self) -> Batchrunner:
        """Return an application for ``demo``, which no configuration touches."""
        from batchrunner.app import Batchrunner  # noqa: PLC0415 (as above)

        return Batchrunner(DEFAULT_DB)

    def command(self, *words: str) -> str:
        """Return a command line to be copied, that finds the same database and configuration."""
        return printable(shlex.join(["batchrunner", *words, *self._place()]))

    def placed(self, fix: str, run: str = "") -> str:
        """Return a fix, printable, whose commands find the same database, configuration and run.

        ``run`` is the name of the run that the fix is about, if it is about one.
        """
        # Who wrote the fix knows nothing of this call; pasted as it is, it would go elsewhere.
        if run:
            fix = _NEEDS_RUN.sub(lambda found: f"{found[0]} {shlex.quote(run)}", fix)
        if place := shlex.join(self._place()):
            fix = _NEEDS_PLACE.sub(lambda found: f"{found[0]} {place}", fix)
        return printable(fix)

    def placed_wait(self, waiting: Waiting | None, run: str) -> Waiting | None:
        """Return why a run waits, with its fix :meth:`placed`."""
        return waiting and replace(waiting, fix=self.placed(waiting.fix, run))

    def _said_db(self) -> str | None:
        """Return where this call was told that the database is, as it may be pasted."""
        if self.typed_db is not None:
            return str(self.typed_db)
        if not (variable := os.environ.get(DB_VARIABLE)):
            return None
        place = _place_of(variable)
        # With its password it is in the environment, and stays there.
        return None if not isinstance(place, Path) and place.has_password else str(place)

    def _place(self) -> list[str]:
        said = (
            ("--db", self._said_db()),
            ("--config", self.config_file),
            ("--profile", self.profile),
        )
        return [word for name, value in said if value for word in (name, str(value))]


def _place_of(text: str) -> Place:
    from batchrunner.places import place_of  # noqa: PLC0415 (--help has no use for it)

    return place_of(text)
