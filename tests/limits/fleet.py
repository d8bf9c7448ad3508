"""A queue on a real PostgreSQL, and real workers on it that come and go: what a story of workers is played with.

Nothing is simulated: processes, signals, sockets, the clocks and the server are this machine's. What
happens is written down with the time, for the judge (:mod:`tests.limits.fleet_judge`).
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

from tests.fakes.postgres_server import PostgresServer
from tests.integration.house import House, Running, ServedHouse, until
from tests.limits.counting_server import CountingServer

__all__ = ["Act", "Fleet", "Happened", "ServedHouse", "Troubles"]

#: What is done to a worker, or to the server.
Act = Literal["start", "kill", "stop", "freeze", "wake", "restart"]

#: Longer than a worker's lease (45 s): whoever wakes has been taken for dead.
FROZEN_S: Final = 52.0
#: Whoever is told to end does so within this.
_PATIENCE_S: Final = 60.0
SCHEMA: Final = "fleet"


class Happened(NamedTuple):
    """One act; instants are the monotonic clock's."""

    at: float
    act: Act


class Troubles(NamedTuple):
    """What befalls workers at random times."""

    seed: int
    #: Mean time between two acts (seconds).
    every_s: float
    acts: tuple[Act, ...] = ("kill", "kill", "stop", "freeze", "start")


@dataclass(eq=False)
class Fleet:
    """Workers on one queue, and what befell them."""

    house: House
    api: CountingServer
    server: PostgresServer
    happened: list[Happened] = field(default_factory=list)
    #: Whoever ended otherwise than it should have.
    problems: list[str] = field(default_factory=list)
    _workers: list[Running] = field(default_factory=list)
    #: Those that sleep, and until when; and those that slept.
    _frozen: list[tuple[float, Running]] = field(default_factory=list)
    _woken: set[Running] = field(default_factory=set)

    @classmethod
    def on(cls, folder: Path, api: CountingServer, server: PostgresServer) -> Fleet:
        """Have a queue of its own on a server."""
        house = ServedHouse(folder, api.url, server.url(SCHEMA))
        house.environ["ANTHROPIC_API_KEY"] = "test"
        # The program beside these tests, wherever they are; its threads' stacks where it hangs.
        house.environ |= {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONFAULTHANDLER": "1"}
        return cls(house, api, server)

    # --- the queue

    def submit(self, n_jobs: int, *options: str, words: tuple[int, ...] = (3,)) -> None:
        """Store jobs whose prompts have so many words, in turn."""
        with (self.house.folder / "jobs.jsonl").open("w") as file:
            for n in range(n_jobs):
                text = "word " * words[(n * 7919 + n // len(words)) % len(words)]
                file.write(json.dumps({"id": f"k{n}", "prompt": f"k{n} {text}"}) + "\n")
        self.house.submit("--no-run", "--max-tokens", "16", *options, code=0)

    def n_left(self) -> int:
        """Return how many jobs are not over."""
        rows = self.server.execute(f"SELECT sum(n_pending + n_running) FROM {SCHEMA}.run")
        return int(rows[0][0])

    # --- workers

    def start(self, n: int = 1) -> None:
        """Start workers."""
        for _ in range(n):
            self._workers.append(self.house.start("worker", "--json"))
            self._note("start")

    def work(self, seconds: float, troubles: Troubles | None = None) -> None:
        """Let them work for a time, or until nothing is left; then tell them to stop, and wait for it."""
        ends = time.monotonic() + seconds
        if troubles is not None:
            self._befall(troubles, ends)
        while time.monotonic() < ends and self.n_left():
            time.sleep(min(1.0, max(0.0, ends - time.monotonic())))
        for _, worker in self._frozen:
            worker.kill()
        self._see_ended()
        for worker in self._workers:
            worker.send(signal.SIGTERM)
        for worker in self._workers:
            self._is_as_told(worker, 143, *((5,) if worker in self._woken else ()))
        self._workers.clear()

    def _befall(self, troubles: Troubles, ends: float) -> None:
        rand = random.Random(troubles.seed)
        size = len(self._workers)
        # Workers that all work are befallen; one that starts does so in a second.
        until(lambda: len(self.api.seen()) > size, "all have begun")
        while (at := time.monotonic() + rand.expovariate(1 / troubles.every_s)) < ends:
            while time.monotonic() < at:
                self._wake()
                time.sleep(0.05)
            self._see_ended()
            act = rand.choice(troubles.acts)
            if act == "start" or (act != "restart" and len(self._workers) < 2):
                if len(self._workers) < size:
                    self.start(size - len(self._workers))
                continue
            self._do(act, rand)

    def _do(self, act: Act, rand: random.Random) -> None:
        self._note(act)
        if act == "restart":
            self.server.stop(rand.choice((signal.SIGINT, signal.SIGQUIT)))
            self.server.start()
            return
        worker = self._workers.pop(rand.randrange(len(self._workers)))
        if act == "kill":
            worker.kill()
        elif act == "stop":
            worker.send(signal.SIGTERM)
            self._is_as_told(worker, 143, *((5,) if worker in self._woken else ()))
        else:
            worker.send(signal.SIGSTOP)
            self._frozen.append((time.monotonic() + FROZEN_S, worker))

    def _wake(self) -> None:
        for sleeper in [item for item in self._frozen if item[0] < time.monotonic()]:
            self._frozen.remove(sleeper)
            self._note("wake")
            sleeper[1].send(signal.SIGCONT)
            # Others have taken it for dead, and it ends; or nobody could, and it goes on.
            self._woken.add(sleeper[1])
            self._workers.append(sleeper[1])

    def _see_ended(self) -> None:
        """Nobody ends untold, but for who slept; a server that is away is waited for."""
        for worker in [one for one in self._workers if one.process.poll() is not None]:
            self._workers.remove(worker)
            if worker.process.returncode != 5 or worker not in self._woken:
                code = worker.process.returncode
                self.problems.append(
                    f"a worker ended by itself, exit {code}: {_last_words(worker)}"
                )

    def _is_as_told(self, worker: Running, *codes: int) -> None:
        try:
            code: int | None = worker.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            worker.send(signal.SIGABRT)  # its threads' stacks are its last words
            worker.process.wait(_PATIENCE_S)
            code = None
        if code == -signal.SIGTERM and not (worker.so_far.out or worker.so_far.err):
            return  # it had not begun
        if code not in codes:
            what = "no end" if code is None else f"exit {code}"
            self.problems.append(f"{what} instead of exit {codes[0]}: {_last_words(worker)}")

    def _note(self, act: Act) -> None:
        self.happened.append(Happened(time.monotonic(), act))


def _last_words(worker: Running) -> str:
    said = worker.so_far
    return f"{said.out.strip()[-1500:]} {said.err.strip()[-1500:]}"
