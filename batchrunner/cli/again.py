"""The commands of a fix that try a call again, with what was typed for it.

Who wrote the fix knows nothing of the call: pasted without its options, the command would look at
another provider, another address, or by another way. A secret that was typed is never repeated.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Final, NamedTuple

import click
from click.core import ParameterSource

from batchrunner.cli.told import without_secrets

__all__ = ["Word", "again", "typed_words"]

#: ``doctor`` in a fix, with the options that the fix itself gives it.
_DOCTOR: Final = re.compile(
    r"\bbatchrunner doctor\b(?! --help)(?P<given>(?: --?[A-Za-z-]+(?: (?:'[^']*'|[^-\s;,()'][^\s;,()]*))?)*)"
)
#: Each adds to those before it; of the others the fix's own takes the place.
_ADDED: Final = frozenset({"-H"})


class Word(NamedTuple):
    """An option as it was typed."""

    option: str
    #: Empty for a switch.
    value: str


def typed_words(ctx: click.Context) -> list[Word]:
    """Return the options that were typed for this command, those of every command left out."""
    return [
        word
        for param in ctx.command.params
        if isinstance(param, click.Option)
        and param.expose_value
        and ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
        for word in _words(param.opts[0], ctx.params[param.name or ""])
    ]


def again(fix: str, typed: list[Word]) -> str:
    """Return a fix whose ``batchrunner doctor`` has the typed options that the fix does not give."""

    def put(found: re.Match[str]) -> str:
        given = {part for part in found["given"].split() if part.startswith("-")} - _ADDED
        kept = [part for word in typed if word.option not in given for part in word if part]
        return " ".join(["batchrunner doctor", *map(shlex.quote, kept)]) + found["given"]

    return _DOCTOR.sub(put, fix)


def _words(option: str, value: object) -> Iterator[Word]:
    for one in value if isinstance(value, (list, tuple)) else (value,):
        if one is True:
            yield Word(option, "")
            continue
        text = f"{one:g}" if isinstance(one, float) else str(one)
        text = _without_password(text) if option == "--proxy" else text
        if without_secrets(text) == text:
            yield Word(option, text)


def _without_password(proxy: str) -> str:
    from batchrunner.transport.proxies import WITHHELD, without_password  # noqa: PLC0415 (rare)

    return without_password(proxy).replace(WITHHELD, "${PROXY_PASSWORD}")
