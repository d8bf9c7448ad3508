"""Single keys of a terminal while something is drawn on it, and the terminal as it was afterwards.

Line editing and echo are off only while keys are wanted and this process is in the terminal's foreground;
signals' keys stay (Ctrl-C, Ctrl-Z). What was found is put back on leaving, whatever the reason, and while
the process is stopped. In the background nothing is read or changed: the terminal is the shell's then.
"""

from __future__ import annotations

import os
import select
import signal
import termios
import threading
import time
import tty
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Self

__all__ = ["Keyboard", "be_stopped"]

#: How often it is looked whether the process came to the foreground or left it (seconds).
LOOK_S: Final = 0.25
_MOST: Final = 64
#: What a terminal sends to a process that touches it from the background.
_FROM_BEHIND: Final = frozenset({signal.SIGTTIN, signal.SIGTTOU})


def be_stopped(signum: int, taken: Callable[[int, Any], None]) -> None:
    """Be stopped by a signal as if nobody took it; ``taken`` takes the next, once the process goes on."""
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    # The signal comes at once, but the interpreter may go on for a moment before it does.
    time.sleep(0)
    signal.signal(signum, taken)


class Keyboard:
    """Reads keys in a thread of its own and passes them on, those typed together at once."""

    def __init__(
        self,
        descriptor: int,
        pressed: Callable[[str], None],
        *,
        shown: Callable[[bool], None] = lambda _is_shown: None,
    ) -> None:
        """Take the terminal.

        Args:
            descriptor: of the terminal.
            pressed: is given what was typed, in the thread.
            shown: is told before the process is stopped (``False``) and once it goes on (``True``).
        """
        self._descriptor = descriptor
        self._pressed = pressed
        self._shown = shown
        self._before: list[Any] | None = None
        # Ctrl-Z comes while the main thread may be putting the terminal back already.
        self._lock = threading.RLock()
        self._ends = threading.Event()
        self._is_wanted = False
        self._thread = threading.Thread(target=self._read, name="keyboard", daemon=True)
        self._on_stop: Any = None

    def __enter__(self) -> Self:
        """Begin to read."""
        self._wake_out, self._wake_in = os.pipe()
        if threading.current_thread() is threading.main_thread():
            self._on_stop = signal.signal(signal.SIGTSTP, self._stop)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, and put the terminal back as it was."""
        self._ends.set()
        os.write(self._wake_in, b".")
        self._thread.join()
        self._put_back()
        if self._on_stop is not None:
            signal.signal(signal.SIGTSTP, self._on_stop)
        os.close(self._wake_in)
        os.close(self._wake_out)

    def leave(self) -> None:
        """Put the terminal back as it was, at once: the process is about to die."""
        self._ends.set()
        self._put_back()

    def want(self, is_wanted: bool) -> None:
        """Have keys read from now on, or the terminal as it was."""
        if is_wanted is self._is_wanted:
            return
        self._is_wanted = is_wanted
        if is_wanted:
            os.write(self._wake_in, b".")
        else:
            self._put_back()

    def _read(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _FROM_BEHIND)
        while not self._ends.is_set():
            watched = [self._descriptor, self._wake_out] if self._take() else [self._wake_out]
            ready, _, _ = select.select(watched, [], [], LOOK_S)
            if self._wake_out in ready:
                os.read(self._wake_out, _MOST)
            if self._descriptor not in ready or not self._is_ours():
                continue
            try:
                keys = os.read(self._descriptor, _MOST)
            except OSError:
                # The terminal is gone, or is another's by now.
                keys = b""
            if keys:
                self._pressed(keys.decode("ascii", "ignore"))
            # Keys that are held down come together.
            self._ends.wait(LOOK_S)

    def _is_ours(self) -> bool:
        try:
            return os.tcgetpgrp(self._descriptor) == os.getpgrp()
        except OSError:
            return False

    def _take(self) -> bool:
        """Have keys come singly, once this process is in the foreground."""
        with self._lock:
            if self._ends.is_set() or not self._is_wanted or not self._is_ours():
                return False
            if self._before is None:
                try:
                    before = termios.tcgetattr(self._descriptor)
                    tty.setcbreak(self._descriptor, termios.TCSANOW)
                except termios.error:
                    return False
                self._before = before
            return True

    def _put_back(self) -> None:
        with self._lock:
            before = self._before
            if before is not None and self._is_ours():
                with suppress(termios.error):
                    termios.tcsetattr(self._descriptor, termios.TCSANOW, before)
            self._before = None

    def _stop(self, signum: int, _frame: object) -> None:
        """Be stopped by Ctrl-Z, with the terminal as it was; go on when the shell says so."""
        self._shown(False)
        self._put_back()
        be_stopped(signum, self._stop)
        self._shown(True)
