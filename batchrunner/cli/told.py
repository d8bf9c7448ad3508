"""What this process knows to be secret, kept out of everything that it says.

The command line owns one :class:`~batchrunner.core.credentials.Secrets`; the application adds to
it what it finds on the way (key files, the keyring, ``${VAR}``).
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import AbstractContextManager
from typing import Final, Self

from batchrunner.core.credentials import Secrets, redact, secrets_of
from batchrunner.views import Event, Listener, Progress

__all__ = ["SECRETS", "Told", "quiet_loggers", "without_secrets"]

#: The secrets of this process; values are only ever added.
SECRETS: Final = Secrets()


def without_secrets(text: str) -> str:
    """Return a text of ours as it may be shown or written down."""
    SECRETS.add(*secrets_of(os.environ))
    return redact(text, SECRETS)


class Told:
    """A listener that tells another one, and leaves secrets out of the sentences."""

    def __init__(self, watcher: AbstractContextManager[Listener]) -> None:
        """Take whom to tell."""
        self._watcher = watcher
        self.wants_jobs = False

    def __enter__(self) -> Self:
        """Enter the other one."""
        self._told = self._watcher.__enter__()
        self.wants_jobs = self._told.wants_jobs
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Leave the other one."""
        self._watcher.__exit__(*exc_info)  # type: ignore[arg-type]  # as they came

    def event(self, event: Event) -> None:
        """Tell; what events say of a provider's words is redacted where it is stored."""
        self._told.event(event)

    def progress(self, progress: Progress) -> None:
        """Tell."""
        self._told.progress(progress)

    def notice(self, text: str) -> None:
        """Tell one sentence, without secrets."""
        self._told.notice(without_secrets(text))


class _Handler(logging.StreamHandler):  # type: ignore[type-arg]  # generic in the stubs only
    """Writes what libraries log, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's text with its traceback."""
        return without_secrets(super().format(record))


def quiet_loggers() -> None:
    """Keep secrets out of what libraries log where nobody has set up logging."""
    logging.lastResort = _Handler(sys.stderr)
    logging.lastResort.setLevel(logging.WARNING)
