"""Start the judge (:mod:`bench.peers.judge`) and read its log."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.common import environment
from bench.peers.judge import ANSWERED
from bench.peers.processes import RunError, Running

_ROOT = Path(__file__).parents[2]


class Noted(NamedTuple):
    """One line of the log."""

    at: float
    event: str
    job: int


class Judged:
    """A running judge."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        """Read its address."""
        assert process.stdout is not None
        self._stdout = process.stdout
        self._log = log
        if not (url := process.stdout.readline().strip()):
            raise RuntimeError("the judge did not start")
        self.url = url

    def wait(self, run: Running, limit_s: float) -> None:
        """Wait until it has answered what it was to tell; raises :class:`RunError` if it won't."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            if select.select([self._stdout], [], [], 0.1)[0]:
                assert self._stdout.readline().strip() == ANSWERED
                return
            if run.process.poll() is not None:
                raise RunError(f"ended with {run.process.returncode}: {run.last_words()}")
        raise RunError(f"too few requests within {limit_s:.0f} s: {run.last_words()}")

    def log(self) -> list[Noted]:
        """Read what it noted so far."""
        lines = (line.split() for line in self._log.read_text().splitlines())
        return [Noted(float(at), event, int(job)) for at, event, job in lines]


@contextmanager
def judge(folder: Path, *, latency_s: float, tell: int, rpm: int | None = None) -> Iterator[Judged]:
    """Run a judge as its own process."""
    folder.mkdir(parents=True)
    log = folder / "judge.log"
    log.touch()
    limit = [] if rpm is None else ["--rpm", str(rpm)]
    with subprocess.Popen(
        [sys.executable, "-m", "bench.peers.judge", str(log), "--latency", str(latency_s),
         "--tell", str(tell), *limit],
        env=environment() | {"PYTHONPATH": str(_ROOT)}, stdout=subprocess.PIPE, text=True, bufsize=1,
    ) as process:  # fmt: skip
        try:
            yield Judged(process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
