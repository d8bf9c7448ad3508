"""A folder in which somebody uses the program: job files, commands as processes, the views.

    house = House(tmp_path, api.url)
    house.jobs(3)
    done = house.submit("--rpm", "50", code=0)

Commands run as processes of their own, with an environment that holds nothing of this machine's
but the path. What is looked at between two commands comes from the Python interface, in process.
"""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from batchrunner.app import Batchrunner
from batchrunner.models import JobCounts
from batchrunner.options import ExportOptions, JobFilter
from batchrunner.views import JobDetail, JobView, RunView
from tests.integration import warm

_PROGRAM: Final[tuple[str, ...]] = ("-m", "batchrunner")
#: Nothing here takes longer; a machine that is busy elsewhere is waited for.
PATIENCE_S: Final = 30.0


def until(condition: Callable[[], Any], what: str, *, seconds: float = PATIENCE_S) -> Any:
    """Return the first true value of ``condition``, or fail saying what did not happen."""
    ends = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > ends:
            raise AssertionError(f"did not happen in {seconds:g} s: {what}")
        time.sleep(0.01)
    return value


class Done:
    """A command that has ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        """Take what it left."""
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        """The one object on stdout."""
        return json.loads(self.out)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events on stdout, without the failure object at the end."""
        return [line for line in map(json.loads, self.out.splitlines()) if "event" in line]

    @property
    def error(self) -> dict[str, Any]:
        """The failure object, the last line of stdout."""
        error: dict[str, Any] = json.loads(self.out.splitlines()[-1])["error"]
        return error

    def named(self, name: str) -> list[dict[str, Any]]:
        """The events of that name."""
        return [event for event in self.events if event["event"] == name]

    def __repr__(self) -> str:
        """Show all, since this is what a failed assertion prints."""
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Running:
    """A command that goes on; its output is in files, so that it never blocks on a pipe."""

    def __init__(
        self,
        program: Sequence[str],
        args: Sequence[str],
        folder: Path,
        environ: Mapping[str, str],
        *,
        is_warm: bool,
    ) -> None:
        """Start it; ``is_warm``: forked from a process that has imported the program."""
        logs = folder.with_name(f"{folder.name}-logs")
        logs.mkdir(exist_ok=True)
        n = len(list(logs.iterdir()))
        self._out, self._err = logs / f"{n}.out", logs / f"{n}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process: subprocess.Popen[bytes] | warm.Forked
            if is_warm:
                with Path(os.devnull).open("rb") as nothing:
                    fds = nothing.fileno(), out.fileno(), err.fileno()
                    self.process = warm.spawn(
                        args, cwd=folder, env=environ, fds=fds, is_session=True
                    )
                return
            self.process = subprocess.Popen(
                [sys.executable, *program, *args],
                cwd=folder,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def so_far(self) -> Done:
        """What it has written by now."""
        out = self._out.read_text()
        return Done(-1, out[: out.rfind("\n") + 1], self._err.read_text())

    def sees(self, event: str, n: int = 1) -> None:
        """Wait for the n-th event of a name (started with ``--json``)."""
        self.until(lambda: len(self.so_far.named(event)) >= n, f"{event} {n} times")

    def says(self, text: str) -> None:
        """Wait for a text on stderr."""
        self.until(lambda: text in self._err.read_text(), f"{text!r} on stderr")

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for a condition while it lives."""

        def alive_or_true() -> Any:
            if value := condition():
                return value
            assert self.process.poll() is None, f"ended before {what}: {self.ended()!r}"
            return None

        return until(alive_or_true, what)

    def send(self, signum: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(signum)

    def ended(self, code: int | None = None, *, timeout: float = PATIENCE_S) -> Done:
        """Wait for its end; ``code`` is the exit code it must have."""
        returned = self.process.wait(timeout)
        done = Done(returned, self._out.read_text(), self._err.read_text())
        assert code is None or returned == code, done
        return done

    def kill(self) -> None:
        """End it like a power cut does."""
        self.process.kill()
        self.process.wait(10)


class House:
    """An empty folder, an environment, and a provider's address."""

    def __init__(self, folder: Path, url: str) -> None:
        """Take both; ``url`` is where requests go unless a test says otherwise."""
        self.folder = folder / "house"
        self.folder.mkdir()
        self.url = url
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "TMPDIR": str(folder),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring",
        }
        #: What the commands are of; a test may have them run in a rigged world (tests/faults).
        self.program = _PROGRAM
        #: Whether each command is an interpreter of its own from the start.
        self.is_cold = False
        self._started: list[Running] = []

    # --- files

    @property
    def db(self) -> Path:
        """Where the database is."""
        return self.folder / "batchrunner.db"

    def write(self, name: str, lines: Iterable[Mapping[str, Any]]) -> Path:
        """Write a job file."""
        path = self.folder / name
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return path

    def jobs(self, n: int, name: str = "jobs.jsonl", *, prefix: str = "j", **fields: Any) -> Path:
        """Write ``n`` prompts with the keys j0, j1 …; each says its own key."""
        return self.write(
            name,
            [{"id": f"{prefix}{i}", "prompt": f"say {prefix}{i};", **fields} for i in range(n)],
        )

    # --- commands

    def start(self, *args: str, environ: Mapping[str, str] | None = None) -> Running:
        """Start a command; it is killed at the end of the test if it still runs."""
        said = {**self.environ, **(environ or {})}
        running = Running(self.program, args, self.folder, said, is_warm=self._may_fork(said))
        self._started.append(running)
        return running

    def run(
        self,
        *args: str,
        code: int | None = 0,
        environ: Mapping[str, str] | None = None,
        stdin: bytes | BinaryIO | None = None,
        timeout: float = PATIENCE_S,
    ) -> Done:
        """Run a command to its end; ``code`` is the exit code it must have (``None``: any)."""
        said = {**self.environ, **(environ or {})}
        if self._may_fork(said):
            returned, out, err = warm.run(
                args, cwd=self.folder, env=said, stdin=stdin or b"", timeout=timeout
            )
        else:
            given: dict[str, Any] = (
                {"input": stdin or b""} if isinstance(stdin, bytes | None) else {"stdin": stdin}
            )
            ended = subprocess.run(
                [sys.executable, *self.program, *args],
                cwd=self.folder,
                env=said,
                capture_output=True,
                timeout=timeout,
                check=False,
                **given,
            )
            returned, out, err = ended.returncode, ended.stdout, ended.stderr
        done = Done(returned, out.decode(), err.decode())
        assert code is None or done.code == code, done
        return done

    def _may_fork(self, environ: Mapping[str, str]) -> bool:
        return not self.is_cold and self.program == _PROGRAM and warm.is_alike(environ)

    @property
    def to_api(self) -> tuple[str, ...]:
        """The options that send to the fake provider."""
        return ("--provider", "anthropic", "--base-url", self.url, "--model", "sim-1")

    def submit(self, *args: str, file: str = "jobs.jsonl", **how: Any) -> Done:
        """Submit a file to the fake provider, events on stdout."""
        return self.run("submit", file, *self.to_api, "--json", *args, **how)

    def start_submit(self, *args: str, file: str = "jobs.jsonl", **how: Any) -> Running:
        """Start :meth:`submit`."""
        return self.start("submit", file, *self.to_api, "--json", *args, **how)

    def resume(self, *args: str, **how: Any) -> Done:
        """Carry on, events on stdout."""
        return self.run("resume", "--json", *args, **how)

    def clear_up(self) -> None:
        """Kill what a test left running."""
        for running in self._started:
            if running.process.poll() is None:
                running.kill()

    # --- looking

    @property
    def app(self) -> Batchrunner:
        """The Python interface on the same database."""
        return Batchrunner(self.db, environ=self.environ)

    def status(self, name: str | None = None) -> RunView:
        """Where a run stands."""
        return self.app.status(name)

    def counts(self, name: str | None = None) -> JobCounts:
        """A run's counts."""
        return self.status(name).jobs

    def rows(self, name: str | None = None) -> dict[str, JobView]:
        """A run's jobs by key."""
        return {job.key: job for job in self.app.jobs(name, JobFilter())}

    def show(self, key: str, name: str | None = None) -> JobDetail:
        """One job whole."""
        return self.app.show(name or self.status().name, key)

    def csv(self, name: str | None = None) -> list[dict[str, str]]:
        """The export as CSV, read back."""
        out = io.BytesIO()
        self.app.export(name, ExportOptions(format="csv"), out)
        return list(csv.DictReader(io.StringIO(out.getvalue().decode(), newline="")))


class ServedHouse(House):
    """A house whose database is a schema on a server."""

    def __init__(self, folder: Path, url: str, place: str) -> None:
        """Take the folder, the provider and the address of the schema."""
        super().__init__(folder, url)
        self._place = place
        self.environ["BATCHRUNNER_DB"] = place

    @property
    def db(self) -> str:  # type: ignore[override]
        """Where the database is."""
        return self._place
