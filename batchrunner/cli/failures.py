"""What a failure looks like: ``error:`` and ``fix:`` on stderr, or one JSON object on stdout."""

from __future__ import annotations

import errno
import os
import tempfile
import traceback
from typing import Final

import click

from batchrunner.cli.text import plural, printable
from batchrunner.cli.told import without_secrets
from batchrunner.errors import (
    BatchrunnerError,
    DatabaseError,
    DefectError,
    InputError,
    UsageError,
)
from batchrunner.models import LineFault

#: Faulty lines that are shown; the rest is counted.
MAX_FAULTS: Final = 20
_EXCERPT: Final = 80
_DISK_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def report(error: Exception, *, as_json: bool) -> int:
    """Show what went wrong and return the exit code; a defect's traceback goes to a file."""
    ours = _hidden(_ours(error))
    if as_json:
        from batchrunner.cli.shapes import failure, write_json  # noqa: PLC0415 (--json only)

        write_json(failure(ours))
    else:
        for line in words(ours):
            click.echo(line, err=True)
    return ours.exit_code


def words(error: BatchrunnerError) -> list[str]:
    """Return the lines that tell a person what happened and what to do."""
    lines = [f"error: {printable(error.message)}"]
    if isinstance(error, InputError):
        lines += [
            f"  {printable(fault.file)}:{fault.line}: {printable(fault.reason)}"
            + (f"\n      {printable(fault.excerpt, limit=_EXCERPT)}" if fault.excerpt else "")
            for fault in error.faults[:MAX_FAULTS]
        ]
        more = error.n_faults - min(len(error.faults), MAX_FAULTS)
        if more > 0:
            lines.append(f"  … and {more:,} more ({plural(error.n_faults, 'faulty line')} in all)")
    if error.fix:
        lines.append(f"fix: {printable(error.fix)}")
    return lines


def _ours(error: Exception) -> BatchrunnerError:
    """Return ``error`` as one of the errors a person can meet."""
    if isinstance(error, BatchrunnerError):
        return error
    if isinstance(error, click.ClickException):
        ctx = getattr(error, "ctx", None)
        command = ctx.command_path if ctx else "batchrunner"
        return UsageError(error.format_message(), fix=f"see {command} --help")
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return DatabaseError(
            f"no space is left on the disk: {error}",
            fix="free some space (or allow larger files: ulimit -f) and run it again",
        )
    if isinstance(error, MemoryError):
        return DefectError(
            "the memory that this process may have is used up; where that was is in"
            f" {save_traceback(error)}",
            fix="have fewer and shorter answers at once: batchrunner resume -c 4 --max-response 8MB;"
            " everything committed is kept",
            kind="memory",
        )
    return DefectError(
        f"a defect in batchrunner: {type(error).__name__}; its traceback is in "
        f"{save_traceback(error)}",
        fix="report it with that file; everything committed is kept, so resume may go on",
    )


def _hidden(error: BatchrunnerError) -> BatchrunnerError:
    """Take secrets out of an error's words, whoever wrote them: click quotes what was typed."""
    error.message = without_secrets(error.message)
    error.fix = without_secrets(error.fix)
    if isinstance(error, InputError):
        error.faults = tuple(
            LineFault(
                file=fault.file,
                line=fault.line,
                reason=without_secrets(fault.reason),
                excerpt=without_secrets(fault.excerpt),
            )
            for fault in error.faults
        )
    return error


def save_traceback(error: Exception) -> str:
    """Write the traceback, without secrets, to a file of the owner's alone.

    Returns its path, or says why there is none.
    """
    text = without_secrets("".join(traceback.format_exception(error)))
    try:
        handle, path = tempfile.mkstemp(prefix="batchrunner-defect-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as failed:
        return f"no file ({failed.strerror})"
    return path
