"""Progress as JSON events, one object a line on stdout, flushed."""

from __future__ import annotations

import os
from typing import Self, TextIO

import msgspec

from batchrunner.cli.shapes import Placed, event_object
from batchrunner.cli.text import printable
from batchrunner.views import Event, Progress


class Events:
    """A :class:`batchrunner.views.Listener` for programs.

    A reader that goes away, or a full disk, ends the events, never the run.
    """

    def __init__(
        self, stdout: TextIO, stderr: TextIO, *, placed: Placed, quiet: bool = False
    ) -> None:
        """Write events to ``stdout``, their fixes ``placed``; notices go to ``stderr`` unless ``quiet``."""
        self._placed = placed
        self._stdout = stdout
        self._stderr = stderr
        self._quiet = quiet
        self.wants_jobs = True

    def __enter__(self) -> Self:
        """Do nothing: a line needs no set-up."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: a line needs no cleaning up."""

    def event(self, event: Event) -> None:
        """Write one line."""
        try:
            self._stdout.write(
                msgspec.json.encode(event_object(event, self._placed)).decode() + "\n"
            )
            self._stdout.flush()
        except OSError as error:
            # What is buffered would fail again at every later line, and at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stdout.fileno())
            if not isinstance(error, BrokenPipeError):
                self.notice(
                    f"Events can't be written any more: {error.strerror}. The run goes on without;"
                    " look at it with: batchrunner status"
                )

    def progress(self, progress: Progress) -> None:
        """Write nothing: events tell all that is committed."""

    def notice(self, text: str) -> None:
        """Write one sentence for the person to stderr."""
        if not self._quiet:
            self._stderr.write(printable(text) + "\n")
            self._stderr.flush()
