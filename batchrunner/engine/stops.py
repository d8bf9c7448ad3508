"""How a process is asked to stop, and what that makes of its exit code.

Ctrl-C once drains; twice aborts what is in flight. SIGTERM and SIGHUP drain for 30 s at most.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from batchrunner.models import ExitCode

#: How long a terminated process may finish what is in flight, in seconds.
DRAIN_S: Final = 30.0

EXIT_CODES: Final = {
    signal.SIGINT: ExitCode.INTERRUPT,
    signal.SIGTERM: ExitCode.TERMINATED,
    signal.SIGHUP: ExitCode.HANGUP,
}


class Stops:
    """What signals have asked for so far."""

    def __init__(self) -> None:
        """Begin with nothing asked."""
        self.exit_code: int | None = None
        #: Abort what is in flight now.
        self.abort = False
        self._wake: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def asked(self) -> bool:
        """Whether the process shall start nothing new."""
        return self.exit_code is not None

    def watch(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` at every change."""
        self._wake.append(wake)

    def ask(self, signum: signal.Signals) -> None:
        """Take a signal: the first drains, a second Ctrl-C (or the end of the time) aborts."""
        if self.exit_code is None:
            self.exit_code = EXIT_CODES[signum]
            if signum is not signal.SIGINT:
                self._timer = asyncio.get_running_loop().call_later(DRAIN_S, self._give_up)
        elif signum is signal.SIGINT:
            self.abort = True
        for wake in self._wake:
            wake()

    def _give_up(self) -> None:
        self.abort = True
        for wake in self._wake:
            wake()

    @contextmanager
    def installed(self) -> Iterator[Stops]:
        """Handle the process's signals while the context lasts (main thread only)."""
        loop = asyncio.get_running_loop()
        for signum in EXIT_CODES:
            loop.add_signal_handler(signum, self.ask, signum)
        try:
            yield self
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for signum in EXIT_CODES:
                loop.remove_signal_handler(signum)
