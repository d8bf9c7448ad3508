"""What comes in the middle of a change of the terminal; whole processes are in tests/integration."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import termios
import textwrap

#: Presses Ctrl-Z at the worst moment: the main thread is putting the terminal back.
_STOPPED_MEANWHILE = textwrap.dedent(
    """
    import signal, threading
    from batchrunner.cli.keyboard import Keyboard

    # Whoever waits for itself is ended.
    signal.alarm(20)

    class Pressed(Keyboard):
        is_due = False

        def _is_ours(self):
            if self.is_due and threading.current_thread() is threading.main_thread():
                self.is_due = False
                signal.raise_signal(signal.SIGTSTP)
            return True

    keyboard = Pressed(0, print)
    with keyboard:
        keyboard.want(True)
        while keyboard._before is None:
            pass
        keyboard.is_due = True
        keyboard.want(False)
    print("ended")
    """
)


def test_ctrl_z_while_the_terminal_is_put_back_stops_and_goes_on() -> None:
    """The process is stopped with the terminal as it was, goes on when told to, and ends."""
    master, slave = pty.openpty()
    try:
        found = termios.tcgetattr(slave)
        child = subprocess.Popen(
            [sys.executable, "-c", _STOPPED_MEANWHILE],
            stdin=slave, stdout=subprocess.PIPE, process_group=0,
        )  # fmt: skip
        try:
            n_stops = 0
            while True:
                _, status = os.waitpid(child.pid, os.WUNTRACED)
                if not os.WIFSTOPPED(status):
                    break
                n_stops += 1
                assert termios.tcgetattr(slave) == found
                child.send_signal(signal.SIGCONT)
            assert (n_stops, os.waitstatus_to_exitcode(status)) == (1, 0)
            assert termios.tcgetattr(slave) == found
        finally:
            child.returncode = 0
            assert child.stdout is not None
            child.stdout.close()
    finally:
        os.close(master)
        os.close(slave)
