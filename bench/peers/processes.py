"""A peer's run as a process of its own, bounded in time, killed whole, and measured."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.common import RUN, Usage, environment
from bench.peers.results import DATABASE
from bench.peers.table import Peer
from bench.peers.tools.plan import KEY, Plan, write_plan

_ROOT = Path(__file__).parents[2]
#: Nobody listens there.
_NOWHERE = "http://127.0.0.1:9"


class RunError(Exception):
    """A run that did not end, or ended badly; the text says how."""


def _environment(folder: Path) -> dict[str, str]:
    """Return what a peer sees: no telemetry, no way out but the loopback, a home of its own."""
    return environment() | {
        "PYTHONPATH": str(_ROOT),
        "HOME": str(folder),
        "ANTHROPIC_API_KEY": KEY,
        "HTTP_PROXY": _NOWHERE,
        "HTTPS_PROXY": _NOWHERE,
        "NO_PROXY": "127.0.0.1,localhost",
        # litellm's prices and curator's statistics would come from and go to the network.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "TELEMETRY_ENABLED": "false",
        "CURATOR_DISABLE_RICH_DISPLAY": "1",
    }


def _arguments(peer: Peer, plan: Plan) -> list[str]:
    if peer.module is not None:
        return ["-m", f"bench.peers.tools.{peer.module}", str(write_plan(plan))]
    return [
        "-m", "batchrunner", "-q", "submit", str(plan.jobs), "--name", RUN, "--provider", "openai",
        "--base-url", plan.openai_url, "--db", str(plan.folder / DATABASE),
        "-c", str(plan.concurrency), "--rpm", str(plan.rpm or "none"),
    ]  # fmt: skip


class Running:
    """A started process, the leader of a group of its own."""

    def __init__(self, peer: Peer, python: Path, plan: Plan) -> None:
        """Start it; what it says goes to ``said`` in its folder."""
        self._said = plan.folder / "said"
        self._began = time.perf_counter()
        with self._said.open("ab") as out:
            self.process = subprocess.Popen(
                [str(python), *_arguments(peer, plan)],
                env=_environment(plan.folder), cwd=plan.folder,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def signal(self, number: int) -> None:
        """Signal the whole group, if it is still there."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def finish(self, limit_s: float) -> Usage:
        """Wait for the end and return what it took; raises :class:`RunError` unless it ended well."""
        killed = threading.Event()

        def kill() -> None:
            killed.set()
            self.signal(signal.SIGKILL)

        timer = threading.Timer(limit_s, kill)
        timer.start()
        try:
            _, status, used = os.wait4(self.process.pid, 0)
        finally:
            timer.cancel()
        code = self.process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.perf_counter() - self._began
        if killed.is_set():
            raise RunError(f"not done after {limit_s:.0f} s")
        if code:
            raise RunError(f"ended with {code}: {self.last_words()}")
        peak = used.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
        return Usage(code, wall_s, used.ru_utime + used.ru_stime, peak)

    def last_words(self) -> str:
        """Return the last lines it said, as one."""
        lines = self._said.read_text(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip()]
        return " / ".join(said[-3:])[-400:] or "nothing said"


@contextmanager
def running(peer: Peer, python: Path, plan: Plan) -> Iterator[Running]:
    """Run a peer; whatever happens, its group is gone at the end."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    run = Running(peer, python, plan)
    try:
        yield run
    finally:
        run.signal(signal.SIGKILL)
        if run.process.returncode is None:
            run.process.wait()
