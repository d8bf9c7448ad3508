"""How every command of ours looks: global options anywhere, and examples at the end of its help."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from batchrunner.places import Place

#: Prefix of the global options' values in ``ctx.meta``, which all nested contexts share.
META: Final = "batchrunner."
DB_VARIABLE: Final = "BATCHRUNNER_DB"


class PlaceType(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A file, or the address of a PostgreSQL server."""

    name = "place"
    _path: click.Path = click.Path(dir_okay=False, path_type=Path)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Place:
        """Return where the database is; an address that can't be used is a wrong usage."""
        from batchrunner.places import place_of  # noqa: PLC0415 (--help has no use for it)

        place = place_of(value)
        if isinstance(place, Path):
            return cast("Path", self._path.convert(value, param, ctx))
        return place


PLACE: Final = PlaceType()
#: Names of an option → its click attributes. One table, since each command takes them all.
_GLOBALS: Final[tuple[tuple[tuple[str, ...], dict[str, Any]], ...]] = (
    (
        ("--db", "typed_db"),
        {
            "metavar": "PATH_OR_URL",
            "type": PLACE,
            "help": f"The database: a file, or postgresql+asyncpg://… [env: {DB_VARIABLE}; default: ./batchrunner.db]",
        },
    ),
    (
        ("--config", "config_file"),
        {
            "metavar": "FILE",
            "type": click.Path(dir_okay=False, path_type=Path),
            "help": "Takes the place of ./batchrunner.toml.",
        },
    ),
    (
        ("--profile",),
        {
            "metavar": "NAME",
            "help": "Use that profile of the configuration. [env: BATCHRUNNER_PROFILE]",
        },
    ),
    (("--json",), {"is_flag": True, "help": "Machine-readable output on stdout."}),
    (("-q", "--quiet"), {"is_flag": True, "help": "Only errors and the final summary."}),
    (("-v", "--verbose"), {"is_flag": True, "help": "A line for each event."}),
    (("--no-input",), {"is_flag": True, "help": "Never ask anything."}),
    (("-y", "--yes"), {"is_flag": True, "help": "Answer yes to every question."}),
    (
        ("--log-file",),
        {
            "metavar": "FILE",
            "type": click.Path(dir_okay=False, path_type=Path),
            "help": "Append a log there.",
        },
    ),
)


class GlobalOption(click.Option):
    """An option that each command takes, before or after its name; the last one typed holds."""


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    name = param.name or ""
    if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
        ctx.meta[META + name] = value


def global_options() -> list[click.Parameter]:
    """Return fresh global options.

    None reads the environment here: a command's own would overrule what was typed before its name.
    """
    return [
        GlobalOption(names, expose_value=False, callback=_remember, **attributes)
        for names, attributes in _GLOBALS
    ]


class Command(click.Command):
    """A command with the global options and an ``Examples:`` block."""

    def __init__(
        self, *args: Any, examples: Iterable[str] = (), own_globals: bool = True, **attributes: Any
    ) -> None:
        """Take click's arguments, and the command lines shown as examples."""
        super().__init__(*args, **attributes)
        self.examples = tuple(examples)
        if own_globals:
            self.params.extend(global_options())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read what was typed; whoever is refused is sent to this command's help."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            # Click's parser says nothing of where it was.
            error.ctx = error.ctx or ctx
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what it is refused with says how to go on with the same database."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            from batchrunner.cli.settings import Settings  # noqa: PLC0415 (it needs this module)
            from batchrunner.errors import BatchrunnerError  # noqa: PLC0415 (--help has no use for it)

            if isinstance(error, BatchrunnerError):
                error.fix = Settings.of(ctx).placed(error.fix)
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then its commands, then the global options."""
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                is_shared = isinstance(param, GlobalOption) or {"--help", "--version"} & {
                    *param.opts
                }
                (shared if is_shared else own).append(record)
        if own:
            with formatter.section("Options"):
                formatter.write_dl(own)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)
        with formatter.section("Global options"):
            formatter.write_dl(shared)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the examples, one a line, never wrapped: they are there to be copied."""
        if self.examples:
            with formatter.section("Examples"):
                formatter.write("".join(f"  {line}\n" for line in self.examples))


class Group(Command, click.Group):
    """A command with commands; its help ends with examples too."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that ``args`` begin with; a near miss is named in the error."""
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            near = get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            kind = "option" if name.startswith("-") else "command"
            ctx.fail(f"there is no {kind} '{name}'{hint}")
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Show the help, on stdout and with success, where nothing at all was typed."""
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            click.echo(ctx.get_help())
            ctx.exit()
        return super().parse_args(ctx, args)
