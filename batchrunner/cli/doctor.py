"""``doctor``: what is wrong between a person and a provider, check by check."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Final, NamedTuple

import click

from batchrunner.cli.again import again, typed_words
from batchrunner.cli.house import Command
from batchrunner.cli.options import connection, connection_options
from batchrunner.cli.settings import Settings
from batchrunner.cli.shapes import check_row, write_list
from batchrunner.cli.tables import terminal_width
from batchrunner.cli.text import plural, printable
from batchrunner.cli.watch import run_async
from batchrunner.models import ExitCode
from batchrunner.views import CheckStatus, CheckView

#: Where nobody's terminal says how wide it is.
_WIDTH: Final = 80
_FIX: Final = "fix: "
#: What is copied from a fix, up to what ends it; its blanks are no place to break a line.
_COMMAND: Final = re.compile(r"(?:batchrunner|export|sudo|openssl|-H) [^;,()#]*[^;,()#.\s]")
_BOUND: Final = "\x00"


class _Mark(NamedTuple):
    symbol: str
    #: Where the output can't show the symbol.
    plain: str
    colour: str | None


_MARKS: Final = {
    CheckStatus.OK: _Mark("✓", "+", "green"),
    CheckStatus.WARN: _Mark("!", "!", "yellow"),
    CheckStatus.FAIL: _Mark("✗", "x", "red"),
    CheckStatus.SKIP: _Mark("·", "-", None),
}


@click.command(
    "doctor",
    cls=Command,
    short_help="Check key, permission, model, network, clock, database, disk.",
    examples=(
        "batchrunner doctor",
        "batchrunner doctor --provider anthropic --model claude-haiku-4-5",
        "batchrunner doctor --provider openai --proxy socks5h://127.0.0.1:7890",
        "batchrunner doctor --base-url https://gateway.example/v1 --live --model gpt-5-mini",
    ),
)
@connection_options
@click.option(
    "--live",
    "is_live",
    is_flag=True,
    help="Also ask the model for a word: one tiny request, which is paid for and counts.",
)
@click.pass_context
def doctor_command(ctx: click.Context, /, is_live: bool, **values: Any) -> int:
    """Check everything between you and a provider: options, key, network, proxy, TLS, permission,
    model, limits, clock, and the database and disk of this machine.

    It costs nothing: only the list of models is asked for. Each check is ok, warn, fail or skip
    (with the reason), and what mends it stands below. Exit 0 where nothing failed, else 2, 4, 5 or
    6, as a run would.
    """
    settings = Settings.of(ctx)
    run = connection(values)
    checks = run_async(settings.app().doctor(run=run, is_live=is_live), os.environ)
    failed = [check.exit_code for check in checks if check.status is CheckStatus.FAIL]
    typed = typed_words(ctx)
    placed = [replace(check, fix=settings.placed(again(check.fix, typed))) for check in checks]
    if settings.json:
        write_list("checks", map(check_row, placed))
    else:
        colour = False if os.environ.get("NO_COLOR") else None
        for line in lines(placed, width=terminal_width() or _WIDTH, symbols=_has_symbols()):
            click.echo(line, color=colour)
        click.echo(_summary(checks), err=True)
    return failed[0] if failed else ExitCode.DONE


def _has_symbols() -> bool:
    return "utf" in (sys.stdout.encoding or "").lower()


def lines(checks: Sequence[CheckView], *, width: int, symbols: bool) -> Iterator[str]:
    """Yield the checks as a table, each with what mends it below; addresses apart from another."""
    n_configured = sum(check.check == "configuration" for check in checks)
    names = max(len(check.check) for check in checks)
    for (base_url, proxy), group in groupby(checks, key=lambda c: (c.base_url, c.proxy)):
        if n_configured > 1:
            by = f" by {proxy}" if proxy else ""
            yield printable(f"{base_url or 'this machine'}{by}:")
        for alike in _alike(group):
            yield from _row(alike, names=names, width=width, symbols=symbols)


def _alike(checks: Iterable[CheckView]) -> Iterator[list[CheckView]]:
    """Yield checks one by one, and those skipped for the same reason together."""
    for (status, detail), group in groupby(checks, key=lambda check: (check.status, check.detail)):
        if status is CheckStatus.SKIP and detail:
            yield list(group)
        else:
            yield from ([check] for check in group)


def _row(alike: Sequence[CheckView], *, names: int, width: int, symbols: bool) -> Iterator[str]:
    check = alike[0]
    name, detail = check.check, printable(check.detail) + _took(check.took_ms)
    if len(alike) > 1:
        name = f"{len(alike)} checks"
        detail = f"{', '.join(one.check for one in alike)}: {detail}"
    mark = _MARKS[check.status]
    word = f"{mark.symbol if symbols else mark.plain} {check.status.value:<4}"
    indent = len(word) + names + 4
    told = _wrapped(detail, width - indent)
    styled = click.style(
        word, fg=mark.colour, bold=True if check.status is CheckStatus.FAIL else None
    )
    yield f"{styled}  {name:<{names}}  {told[0]}".rstrip()
    for line in told[1:]:
        yield " " * indent + line
    if check.fix:
        yield from _fix_lines(printable(check.fix), indent, width, under=len(word) + 2)


def _fix_lines(fix: str, indent: int, width: int, *, under: int) -> Iterator[str]:
    """Yield what mends a check below its detail, or further left where a command needs the room."""
    told = _wrapped(fix, width - indent - len(_FIX))
    if max(map(len, told)) > width - indent - len(_FIX):
        indent = under
        told = _wrapped(fix, width - indent - len(_FIX))
    yield " " * indent + _FIX + told[0]
    for line in told[1:]:
        yield " " * (indent + len(_FIX)) + line


def _wrapped(text: str, width: int) -> list[str]:
    """Return lines; commands and addresses stay whole, since they are there to be copied."""
    bound = _COMMAND.sub(lambda found: found[0].replace(" ", _BOUND), text)
    wrapped = textwrap.wrap(bound, max(30, width), break_long_words=False, break_on_hyphens=False)
    return [line.replace(_BOUND, " ") for line in wrapped] or [""]


def _took(ms: float | None) -> str:
    if ms is None:
        return ""
    words = f"{ms:.0f} ms" if ms < 1_000 else f"{ms / 1_000:.1f} s"
    return f" ({words.replace(' ', _BOUND)})"


def _summary(checks: Sequence[CheckView]) -> str:
    counts = {status: sum(check.status is status for check in checks) for status in CheckStatus}
    parts = [
        plural(counts[CheckStatus.FAIL], "failure")
        if counts[CheckStatus.FAIL]
        else "nothing failed",
        *([plural(counts[CheckStatus.WARN], "warning")] if counts[CheckStatus.WARN] else []),
        *([f"{counts[CheckStatus.SKIP]} not checked"] if counts[CheckStatus.SKIP] else []),
    ]
    return ", ".join(parts)
