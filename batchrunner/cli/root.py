"""The list of commands, and a group that imports a command's module only when it runs.

Names and short helps stand in one literal table, so that ``batchrunner --help`` and the
completion of command names load click and nothing else.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import click

from batchrunner import __version__
from batchrunner.cli.house import Group, global_options

PROGRAM: Final = "batchrunner"
#: Set by a shell that asks for completions.
COMPLETION_VARIABLE: Final = "_BATCHRUNNER_COMPLETE"


class Entry(NamedTuple):
    """One command: where its code is, and what the list says of it."""

    name: str
    module: str
    help: str


#: Section of the help → its commands, in the order they are shown.
SECTIONS: Final[dict[str, tuple[Entry, ...]]] = {
    "Run": (
        Entry("submit", "run", "Validate, store and run the jobs of one or more files."),
        Entry("resume", "run", "Carry on an unfinished run."),
        Entry("retry", "run", "Put failed or cancelled jobs back, then run."),
        Entry("worker", "worker", "Drain a shared (PostgreSQL) queue beside other workers."),
        Entry("plan", "plan", "What files would take: tokens, days, what binds; sends nothing."),
        Entry("demo", "run", "A real run against a built-in simulated provider."),
        Entry("init", "init", "Write jobs to try and a commented configuration here."),
    ),
    "Look": (
        Entry("status", "look", "Where a run stands, and what it waits for."),
        Entry("runs", "look", "Every run in this database."),
        Entry("jobs", "look", "List the jobs of a run."),
        Entry("show", "look", "One job: request, response, every send."),
        Entry("errors", "look", "Failures by kind: count, an example, the fix."),
        Entry("explain", "explain", "Where the time went; why a run or a job is not done."),
        Entry("limits", "limits", "Limits in force, used and left; change them."),
        Entry("usage", "usage", "Requests, tokens, money, waiting by day, model or run."),
    ),
    "Results": (
        Entry("export", "export", "Write results as CSV, JSONL or a batch format."),
        Entry("report", "report", "A run as one HTML page, to keep or to send on."),
    ),
    "Stop": (
        Entry("pause", "control", "Stop a run; resume undoes it."),
        Entry("cancel", "control", "Give up a run; retry undoes it."),
    ),
    "Maintain": (
        Entry("doctor", "doctor", "Check key, permission, model, network, clock, database, disk."),
        Entry("db", "db", "Upgrade, check, back up, move or prune the database."),
        Entry("key", "key", "Keep keys in the system's keyring; see where keys are found."),
        Entry("config", "config", "What is in force, and which file, variable or option says so."),
        Entry("schema", "schema", "JSON Schema of the configuration file or of job lines."),
        Entry("completion", "completion", "Print a shell's completion script."),
    ),
}
COMMANDS: Final = {entry.name: entry for entries in SECTIONS.values() for entry in entries}


class LazyGroup(Group):
    """A group whose commands are known by name and imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """Return the names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return one command; ``None`` where there is none of that name."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        from importlib import import_module  # noqa: PLC0415 (only a command needs it)

        command: click.Command = getattr(
            import_module(f"batchrunner.cli.{entry.module}"), f"{entry.name}_command"
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the table by section, importing nothing."""
        for section, entries in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(entry.name, entry.help) for entry in entries])


def _print_version(ctx: click.Context, _param: click.Parameter, value: Any) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"{PROGRAM} {__version__}")
        ctx.exit()


root = LazyGroup(
    name=PROGRAM,
    help=(
        "Finish a file of API requests: across rate limits, daily caps, crashes and days.\n\n"
        "Global options may stand before or after the command. A DURATION is 90, 90s, 2h30m or 3d."
    ),
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Show the version and exit.",
        ),
        *global_options(),
    ],
    examples=(
        "batchrunner demo",
        "batchrunner submit jobs.jsonl --provider anthropic --rpm 50",
        "batchrunner status",
        "batchrunner export -o results.csv",
    ),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    own_globals=False,
)
