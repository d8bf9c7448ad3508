"""All measures of all tools, in turns; what fails is noted and does not stop the others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from bench.common import write_jobs
from bench.peers import measures
from bench.peers.install import InstallError, python_for
from bench.peers.measures import Killed, Limited, Speed
from bench.peers.processes import RunError
from bench.peers.table import Peer


class Measure(StrEnum):
    """What is measured; the value is how a reason begins."""

    INSTALL = "installation"
    SPEED = "at full speed"
    KILL = "killed"
    LIMIT = "under a limit"


class Sizes(NamedTuple):
    """How much of everything."""

    n: int
    rounds: int
    n_killed: int
    rpm: int
    #: Whole windows of the server, so that a burst at the end of a run does not count double.
    minutes: int
    #: Seconds for one run.
    limit_s: float


@dataclass
class Outcome:
    """What came out for one tool."""

    peer: Peer
    speeds: list[Speed] = field(default_factory=list)
    kills: list[Killed] = field(default_factory=list)
    limited: Limited | None = None
    #: Why a measure is missing.
    reasons: dict[Measure, str] = field(default_factory=dict)


class Bench:
    """The runs, their folder and their outcomes."""

    def __init__(self, folder: Path, sizes: Sizes, peers: Sequence[Peer]) -> None:
        """Nothing is installed or measured yet."""
        self.outcomes = [Outcome(peer) for peer in peers]
        self._folder = folder
        self._sizes = sizes
        self._pythons: dict[str, Path] = {}

    def install(self, cache: Path) -> None:
        """Make the environments; a tool that has none takes no part."""
        for outcome in self.outcomes:
            try:
                self._pythons[outcome.peer.name] = python_for(outcome.peer, cache)
            except InstallError as error:
                outcome.reasons[Measure.INSTALL] = str(error)

    def measure(self) -> None:
        """Take every measure of every tool that is there."""
        sizes = self._sizes
        jobs = write_jobs(self._folder / "jobs.jsonl", sizes.n)

        def start(one: Outcome, python: Path, folder: Path) -> None:
            # The first one compiles and fills the caches of the disk.
            measures.start_cpu_s(one.peer, python, folder)

        def speed(one: Outcome, python: Path, folder: Path) -> None:
            # Just before: what a start takes drifts with what else the machine does.
            start_s = measures.start_cpu_s(one.peer, python, folder)
            run = (folder, jobs, sizes.n, start_s, sizes.limit_s)
            one.speeds.append(measures.speed(one.peer, python, *run))

        def kill(one: Outcome, python: Path, folder: Path) -> None:
            # Early, in the middle and late.
            share = (len(one.kills) + 1) / (sizes.rounds + 1)
            run = (folder, sizes.n_killed, share, sizes.limit_s)
            one.kills.append(measures.kill(one.peer, python, *run))

        def limit(one: Outcome, python: Path, folder: Path) -> None:
            run = (folder, sizes.rpm, sizes.minutes)
            one.limited = measures.limit(one.peer, python, *run)

        self._each(Measure.SPEED, "start", start)
        for number in range(sizes.rounds):
            self._each(Measure.SPEED, f"speed-{number}", speed)
        for number in range(sizes.rounds):
            self._each(Measure.KILL, f"kill-{number}", kill)
        if sizes.minutes:
            # The limit leaves the machine idle, so that all run side by side.
            self._each(Measure.LIMIT, "limit", limit, side_by_side=True)

    def _each(
        self,
        measure: Measure,
        name: str,
        take: Callable[[Outcome, Path, Path], None],
        *,
        side_by_side: bool = False,
    ) -> None:
        """Take a measure of every tool that has not failed in it."""

        def one(outcome: Outcome) -> None:
            peer = outcome.peer
            try:
                take(outcome, self._pythons[peer.name], self._folder / f"{peer.name}-{name}")
                said = "done"
            except RunError as error:
                said = outcome.reasons[measure] = str(error)
            print(f"{name} {peer.name}: {said}", file=sys.stderr, flush=True)

        able = [
            outcome
            for outcome in self.outcomes
            if not outcome.reasons.keys() & {Measure.INSTALL, measure}
        ]
        with ThreadPoolExecutor(max(1, len(able)) if side_by_side else 1) as pool:
            list(pool.map(one, able))
