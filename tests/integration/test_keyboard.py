"""Keys on a real terminal, and the terminal as it was, whatever ends the process."""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import termios
import textwrap
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House, until

#: A shell: runs a command in the foreground of the terminal, and has it back where it stops; says so on
#: one pipe, and goes on with it when told so on another. A process that no shell waits for is never stopped.
_SHELL = textwrap.dedent(
    """
    import fcntl, os, signal, subprocess, sys, termios
    says, hears = int(sys.argv[1]), int(sys.argv[2])
    # Who started the tests in the background may have them ignore these.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    command = [sys.executable, "-m", "batchrunner", *sys.argv[3:]]
    found = termios.tcgetattr(0)
    child = subprocess.Popen(
        command, process_group=0, preexec_fn=lambda: signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    )
    os.tcsetpgrp(0, child.pid)
    os.write(says, b"pid %d\\n" % child.pid)
    while True:
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        os.tcsetpgrp(0, os.getpgrp())
        if not os.WIFSTOPPED(status):
            os.write(says, b"ended %d\\n" % os.waitstatus_to_exitcode(status))
            break
        os.write(says, b"stopped\\n")
        word = os.read(hears, 10)
        if word == b"fg":
            os.tcsetpgrp(0, child.pid)
        os.kill(child.pid, signal.SIGCONT)
    """
)


class Terminal:
    """A command that a shell runs on a terminal."""

    def __init__(self, house: House, *args: str) -> None:
        """Start it."""
        self.master, self.slave = pty.openpty()
        self.found = termios.tcgetattr(self.slave)
        hears, says = os.pipe()
        child_hears, self.tells = os.pipe()
        self.shell = subprocess.Popen(
            [sys.executable, "-c", _SHELL, str(says), str(child_hears), *args],
            cwd=house.folder,
            env={**house.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"},
            stdin=self.slave, stdout=self.slave, stderr=self.slave,
            start_new_session=True, pass_fds=(says, child_hears),
        )  # fmt: skip
        os.close(says)
        os.close(child_hears)
        self.text = ""
        self.told: list[str] = []
        # Somebody has to read, or the process waits for the terminal.
        self.readers = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._hear, args=(hears,), daemon=True),
        ]
        for reader in self.readers:
            reader.start()
        until(lambda: self.told, "the command is started")

    def _read(self) -> None:
        while True:
            try:
                self.text += os.read(self.master, 65536).decode(errors="replace")
            except OSError:
                return

    def _hear(self, hears: int) -> None:
        with open(hears) as lines:
            for line in lines:
                self.told.append(line.strip())

    @property
    def pid(self) -> int:
        """The command's process."""
        return int(self.told[0].split()[1])

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self.master, keys.encode())

    def say(self, word: str) -> None:
        """Have the shell go on with it: ``fg`` or ``bg``."""
        os.write(self.tells, word.encode())

    def is_raw(self) -> bool:
        """Whether keys come singly and are not echoed."""
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO)

    def has_cursor(self) -> bool:
        """Whether the cursor is shown."""
        return self.text.rfind("\x1b[?25h") >= self.text.rfind("\x1b[?25l")

    def is_as_found(self) -> bool:
        """Whether the terminal is as it was before."""
        return termios.tcgetattr(self.slave) == self.found

    def ended(self) -> int:
        """Wait for the command's end; return its exit code."""
        until(lambda: self.told[-1].startswith("ended"), "the command ends")
        return int(self.told[-1].split()[1])


@contextmanager
def terminal(house: House, *args: str) -> Iterator[Terminal]:
    """Run a command on a terminal; it is killed at the end."""
    made = Terminal(house, *args)
    try:
        yield made
    finally:
        with suppress(ProcessLookupError):
            os.kill(made.pid, signal.SIGKILL)
        made.shell.kill()
        made.shell.wait(10)
        for descriptor in (made.slave, made.master, made.tells):
            os.close(descriptor)


def stored(house: House) -> object:
    """Return the concurrency stored with the run."""
    with closing(sqlite3.connect(house.db)) as connection:
        (text,) = connection.execute("SELECT options FROM run").fetchone()
    return json.loads(text).get("concurrency")


def submit(house: House, *args: str) -> tuple[str, ...]:
    """Return the words that submit the jobs."""
    return ("submit", "jobs.jsonl", *house.to_api, *args)


@pytest.fixture
def busy(house: House, api: ApiServer) -> House:
    """Have more to do than a test takes."""
    api.script([{"delay_s": 0.1}])
    house.jobs(5_000)
    return house


def test_keys_change_the_concurrency_of_a_run(busy: House) -> None:
    """+ and - change what may be in flight, at once and for good; Ctrl-C gives the terminal back."""
    with terminal(busy, *submit(busy, "-c", "4", "--rpm", "none")) as screen:
        until(screen.is_raw, "keys come singly")
        until(lambda: "at most 4;" in screen.text, "the panel says how many")
        screen.type("++")
        until(lambda: stored(busy) == 6, "it is stored with the run")
        until(lambda: "at most 6;" in screen.text, "it is taken up")
        screen.type("\x03")
        assert screen.ended() == 130
        assert screen.is_as_found()


def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again(busy: House) -> None:
    """Stopped, and in the background, the process leaves the terminal to the shell; in the foreground keys work again."""
    with terminal(busy, *submit(busy, "-c", "4", "--rpm", "none")) as screen:
        until(screen.is_raw, "keys come singly")
        screen.type("\x1a")
        until(lambda: screen.told[-1] == "stopped", "it is stopped")
        assert screen.is_as_found()
        screen.say("fg")
        until(screen.is_raw, "keys come singly again")
        screen.type("-")
        until(lambda: stored(busy) == 3, "and are heard")
        screen.type("\x1a")
        until(lambda: screen.told.count("stopped") == 2, "it is stopped again")
        n_done = busy.counts().completed
        screen.say("bg")
        until(lambda: busy.counts().completed > n_done, "it goes on in the background")
        assert screen.is_as_found()
        os.kill(screen.pid, signal.SIGTERM)
        assert screen.ended() == 143
        assert screen.is_as_found()


@pytest.mark.parametrize(
    ("signum", "code"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, -signal.SIGQUIT)],
)
def test_a_terminated_process_leaves_the_terminal(
    busy: House, signum: signal.Signals, code: int
) -> None:
    """SIGTERM and SIGHUP end the run, SIGQUIT the process, and all leave the terminal as it was found."""
    with terminal(busy, *submit(busy, "-c", "4")) as screen:
        until(screen.is_raw, "keys come singly")
        os.killpg(screen.pid, signum)
        assert screen.ended() == code
        assert screen.is_as_found()
        until(screen.has_cursor, "the cursor is shown")


def test_ctrl_z_shows_the_cursor_where_no_key_is_read(busy: House) -> None:
    """With --no-input the process is stopped like any, with the cursor back, and draws on once it goes on."""
    with terminal(busy, *submit(busy, "-c", "4", "--no-input")) as screen:
        until(lambda: "in flight" in screen.text, "the panel is there")
        assert not screen.has_cursor()
        for _ in range(2):
            screen.told.append("not yet")
            screen.type("\x1a")
            until(lambda: screen.told[-1] == "stopped", "it is stopped")
            until(screen.has_cursor, "the cursor is shown")
            screen.say("fg")
            until(lambda: not screen.has_cursor(), "it is hidden again")
        screen.type("\x03")
        assert screen.ended() == 130
        until(screen.has_cursor, "the cursor is shown")


def test_no_input_leaves_keys_alone(busy: House) -> None:
    """With --no-input no key is read, and none is offered."""
    with terminal(busy, *submit(busy, "-c", "4", "--no-input")) as screen:
        until(lambda: "in flight" in screen.text, "the panel is there")
        assert screen.is_as_found()
        assert "+ and -" not in screen.text
        screen.type("\x1c")
        assert screen.ended() == -signal.SIGQUIT
        until(screen.has_cursor, "the cursor is shown")
