"""``--log-file``: every event and notice of a call as JSON lines, appended, for its owner alone."""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

import msgspec

from batchrunner.cli.shapes import Placed, event_object
from batchrunner.cli.text import printable, rfc3339
from batchrunner.errors import UsageError
from batchrunner.views import Event, Listener, Progress


class Logged:
    """A listener that tells another one, and writes down what it told.

    A log that can't be written any more (a full disk) ends, never the run.
    """

    wants_jobs = True

    def __init__(
        self, watcher: AbstractContextManager[Listener], path: Path, placed: Placed
    ) -> None:
        """Take whom to tell and the file to append to, which is opened on entry."""
        self._placed = placed
        self._watcher = watcher
        self._path = path
        self._has_ended = False

    def __enter__(self) -> Self:
        """Open the file, 0600 where it is new. Raises :class:`UsageError` where it can't be."""
        try:
            descriptor = os.open(
                self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise UsageError(
                f"--log-file {self._path} can't be written: {error.strerror}.",
                fix="Name a file in a folder that you may write to.",
            ) from error
        self._file = os.fdopen(descriptor, "ab", buffering=0)
        self._told = self._watcher.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close the file."""
        self._watcher.__exit__(*exc_info)  # type: ignore[arg-type]  # as they came
        self._file.close()

    def event(self, event: Event) -> None:
        """Write one event, and tell it."""
        self._write(event_object(event, self._placed))
        if self._told.wants_jobs or not event.event.startswith("job."):
            self._told.event(event)

    def progress(self, progress: Progress) -> None:
        """Tell; a picture is nothing for a log."""
        self._told.progress(progress)

    def notice(self, text: str) -> None:
        """Write one sentence, and tell it."""
        at = rfc3339(int(time.time() * 1000))
        self._write({"version": 1, "event": "notice", "at": at, "message": printable(text)})
        self._told.notice(text)

    def _write(self, value: object) -> None:
        if self._has_ended:
            return
        try:
            self._file.write(msgspec.json.encode(value) + b"\n")
        except OSError as error:
            self._has_ended = True
            self._told.notice(
                f"--log-file {self._path} can't be written any more: {error.strerror}."
                " The run goes on without it; make room before the next call."
            )
