"""Where the command line begins and ends: arguments in, exit code out (CONTRACT §4).

Every way out passes here: results, refusals of click, our own errors, Ctrl-C, a reader that went
away, and defects. No exception leaves.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import click

from batchrunner.cli.root import COMPLETION_VARIABLE, PROGRAM, root

_INTERRUPT: Final = 130
#: What is done with characters that a stream's encoding lacks.
_ESCAPED: Final = "batchrunner.escaped"
#: The descriptor of stderr.
_LAST_STANDARD: Final = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    ``argv`` is without the program's name; ``None`` takes the process's own.
    """
    _open_missing()
    args = list(sys.argv[1:] if argv is None else argv)
    messages, data = sys.__stderr__, sys.__stdout__
    if messages is not None and sys.stderr is messages:
        sys.stderr = _forgiving(messages)
    if data is not None and sys.stdout is data:
        sys.stdout = _whole(data)
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding lacks must not end a run that took hours.
        if hasattr(stream, "reconfigure"):
            # JSON is UTF-8 by its standard; its ASCII is JSON in every encoding.
            is_data = stream is sys.stdout and wants_json(args)
            is_other = is_data and codecs.lookup(stream.encoding).name != "utf-8"
            stream.reconfigure(encoding="ascii" if is_other else None, errors=_ESCAPED)
    try:
        code = _run(list(args))
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
        return 0
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return _INTERRUPT
    except Exception as error:
        return _failed(error, as_json=wants_json(args))
    return code


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Write what an encoding lacks as JSON does, so that what was JSON still is."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    pairs = zip(units[::2], units[1::2], strict=True)
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in pairs), error.end


codecs.register_error(_ESCAPED, _escaped)


def _run(args: list[str]) -> int:
    """Do what click's own ``main`` does, save for its exits: a closed pipe is 1 there."""
    completion = os.environ.get(COMPLETION_VARIABLE)
    if completion:
        from click.shell_completion import shell_complete  # noqa: PLC0415 (only the shell asks)

        return shell_complete(root, {}, PROGRAM, COMPLETION_VARIABLE, completion)
    try:
        with root.make_context(PROGRAM, args) as ctx:
            code = root.invoke(ctx)
    except click.exceptions.Exit as left:
        return left.exit_code
    return code if isinstance(code, int) else 0


def wants_json(args: Sequence[str]) -> bool:
    """Whether ``--json`` was typed: asked of the raw words, for errors met before they are parsed."""
    words = args[: args.index("--")] if "--" in args else args
    return "--json" in words


def _failed(error: Exception, *, as_json: bool) -> int:
    from batchrunner.cli.failures import report  # noqa: PLC0415 (loads what --help must not)

    try:
        sys.stdout.flush()
    except OSError:
        # What it did not take would fail again at the end, and make the exit code Python's.
        _discard_stdout()
        as_json = False
    try:
        return report(error, as_json=as_json)
    except OSError:
        _discard_stdout()
        return report(error, as_json=False)


def _open_missing() -> None:
    """Put nothing in the place of standard streams that are closed (``>&-``, some supervisors).

    The next file or socket that is opened would get such a descriptor, and be written to as stdout.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STANDARD:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # Not by its number: something may have that by now.
            nothing = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 (as long as the process)
            setattr(sys, name, nothing)


class _Forgiving(io.FileIO):
    """A descriptor of messages: where they can't be written (a full disk) they are gone."""

    def write(self, data: Any, /) -> int:
        """Write, or not; nothing that is asked of a program fails for its messages."""
        try:
            return super().write(data) or 0
        except OSError:
            return len(memoryview(data).cast("B"))


def _forgiving(stream: TextIO) -> TextIO:
    """Return a stream for messages on the same descriptor; the stream where it has none."""
    try:
        raw = _Forgiving(stream.fileno(), "w", closefd=False)
    except (OSError, ValueError):
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, line_buffering=True
    )


def _whole(stream: TextIO) -> TextIO:
    """Return a stream for data that writes all of it or raises.

    With ``PYTHONUNBUFFERED`` (as in many containers) Python's own leaves off without a word where
    the disk is full.
    """
    if not isinstance(getattr(stream, "buffer", None), io.RawIOBase):
        return stream
    raw = io.FileIO(stream.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, line_buffering=True
    )


def _discard_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush has nothing to fail on."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return
