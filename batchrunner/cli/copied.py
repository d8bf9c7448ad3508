"""What ``db copy`` says: how far it is, and how to go on."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from batchrunner.cli.settings import Settings
from batchrunner.cli.text import plural, printable
from batchrunner.places import Place, Server
from batchrunner.views import CopyView

if TYPE_CHECKING:
    from batchrunner.store.copying import Progress

__all__ = ["copying", "tell_copied"]

#: Tables with a row a job, in words; the others are soon done.
_WORDS: Final = {"job": "jobs", "payload": "requests", "response": "answers", "send": "sends"}
#: Seconds between two words of it: on a terminal, and in a log.
_TERMINAL_S: Final = 0.1
_LOG_S: Final = 10.0
_CLEAR: Final = "\r\x1b[K"


@contextmanager
def copying(settings: Settings) -> Iterator[Progress]:
    """Give what is told of a copy's progress; it says so on stderr."""
    is_terminal = sys.stderr.isatty()
    pause_s = _TERMINAL_S if is_terminal else _LOG_S
    told_at = time.monotonic()

    def tell(table: str, n: int, /, *, n_jobs: int) -> None:
        nonlocal told_at
        if settings.quiet or table not in _WORDS or time.monotonic() - told_at < pause_s:
            return
        told_at = time.monotonic()
        words = f"copying {_WORDS[table]}: {n:,} (of {plural(n_jobs, 'job')})"
        click.echo(f"{_CLEAR}{words}" if is_terminal else words, err=True, nl=not is_terminal)

    try:
        yield tell
    finally:
        if is_terminal and not settings.quiet:
            click.echo(_CLEAR, err=True, nl=False)


def tell_copied(view: CopyView, to: Place) -> None:
    """Say what was copied, and how to go on there."""
    what = f"{plural(view.runs, 'run')}, {plural(view.jobs, 'job')}"
    click.echo(f"copied to {printable(view.to)}: {what}", err=True)
    if view.n_replaced:
        texts = plural(view.n_replaced, "text")
        click.echo(f"U+0000, which PostgreSQL can't hold, was replaced in {texts}", err=True)
    there = printable(shlex.quote(view.to))
    if view.is_kept:
        click.echo("both may be sent from: what is pending would be sent twice", err=True)
    else:
        click.echo(
            f"nothing is sent from {printable(view.source)} any more; go on there:", err=True
        )
        click.echo(f"  export BATCHRUNNER_DB={there}", err=True)
        if isinstance(to, Server) and to.has_password:
            click.echo("  with its password in PGPASSWORD or ~/.pgpass", err=True)
    click.echo(f"look whether it is sound: batchrunner db check --db {there}", err=True)
