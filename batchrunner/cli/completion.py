"""``completion``: a shell's script that completes our commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from batchrunner.cli.house import Command
from batchrunner.cli.root import COMPLETION_VARIABLE, PROGRAM, root

SHELLS = ("bash", "zsh", "fish")


@click.command(
    "completion",
    cls=Command,
    short_help="Print a shell's completion script.",
    examples=(
        "batchrunner completion bash > ~/.local/share/bash-completion/completions/batchrunner",
        'batchrunner completion zsh > "${fpath[1]}/_batchrunner"',
        "batchrunner completion fish > ~/.config/fish/completions/batchrunner.fish",
    ),
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> int:
    """Print a shell's completion script: bash, zsh or fish."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(kind(root, {}, PROGRAM, COMPLETION_VARIABLE).source())
    return 0
