"""``key set``, ``key remove``, ``key list``: keys in the system's keyring, and where each is found.

A key is typed without an echo or comes on standard input, never as an argument: the shell's
history and the list of processes would show it. No command ever prints one.
"""

from __future__ import annotations

import sys

import click

from batchrunner.cli.house import Group
from batchrunner.cli.settings import Settings
from batchrunner.cli.shapes import write_json, write_list
from batchrunner.cli.tables import Column, write_table
from batchrunner.cli.text import printable
from batchrunner.views import KeyView

#: No key is longer.
_MOST_BYTES = 16_384
_KEYS = (Column("PROVIDER"), Column("KEY FROM", most=40), Column("NOTE", most=300))


@click.group(
    "key",
    cls=Group,
    short_help="Keep keys in the system's keyring; see where keys are found.",
    examples=("batchrunner key set anthropic", "batchrunner key list"),
)
def key_command() -> None:
    """Keep keys in the system's keyring; see where keys are found.

    A key is looked for in the provider's variable (ANTHROPIC_API_KEY …), in the file that its
    ..._FILE variable names, in the key_file of the configuration, and in the keyring, in this
    order. The keyring wants an extra: pip install 'batchrunner[keyring]'.
    """


@key_command.command(
    "set",
    examples=(
        "batchrunner key set anthropic",
        "pass show openai | batchrunner key set openai -",
        "batchrunner key set openai --any-form",
    ),
)
@click.argument("provider")
@click.argument("source", required=False, metavar="[-]")
@click.option("--any-form", is_flag=True, help="Take a key of any form, as a gateway may want.")
@click.pass_context
def set_command(ctx: click.Context, /, provider: str, source: str | None, any_form: bool) -> int:
    """Keep a provider's key in the system's keyring.

    It asks for the key without showing it; with - it reads standard input.
    """
    settings = Settings.of(ctx)
    app = settings.app()
    title = app.title_of(provider)
    value = _read_key(settings, title, source)
    for notice in app.set_key(provider, value, any_form=any_form):
        click.echo(printable(notice), err=True)
    if settings.json:
        write_json({"key": {"provider": provider, "kept_in": "keyring"}})
    elif not settings.quiet:
        click.echo(f"the key for {printable(title)} is in the system's keyring", err=True)
    return 0


@key_command.command("remove", examples=("batchrunner key remove anthropic",))
@click.argument("provider")
@click.pass_context
def remove_command(ctx: click.Context, /, provider: str) -> int:
    """Take a provider's key out of the system's keyring."""
    settings = Settings.of(ctx)
    was_there = settings.app().remove_key(provider)
    if settings.json:
        write_json({"key": {"provider": provider, "removed": was_there}})
    else:
        what = "was removed from" if was_there else "was not in"
        click.echo(f"the key for {printable(provider)} {what} the system's keyring", err=True)
    return 0


@key_command.command("list", examples=("batchrunner key list", "batchrunner key list --json"))
@click.pass_context
def list_command(ctx: click.Context, /) -> int:
    """For each provider, where its key is found; never the key itself."""
    settings = Settings.of(ctx)
    keys = settings.app().keys()
    if settings.json:
        write_list("keys", ({**_row(key)} for key in keys))
    else:
        write_table(_KEYS, ([key.provider, key.source or "-", printable(key.note)] for key in keys))
    return 0


def _row(key: KeyView) -> dict[str, str | bool | None]:
    return {
        "provider": key.provider,
        "source": key.source,
        "usable": key.is_usable,
        "note": key.note or None,
    }


def _read_key(settings: Settings, title: str, source: str | None) -> str:
    """Return what was typed or piped. Raises :class:`click.UsageError` where nothing can be."""
    if source == "-":
        data = sys.stdin.buffer.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise click.UsageError("what came on standard input is too long for a key")
        return data.decode("utf-8-sig", "replace")
    if source is not None:
        raise click.UsageError(
            "a key is never an argument, where the shell's history would keep it;"
            " leave it out to be asked, or write - to read standard input"
        )
    if settings.no_input or not sys.stdin.isatty():
        raise click.UsageError("there is nobody to ask for the key; write - to read standard input")
    typed: str = click.prompt(f"Key for {printable(title)}", hide_input=True, err=True)
    return typed
