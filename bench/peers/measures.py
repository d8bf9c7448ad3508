"""The three things that are measured of every tool: speed, a kill in the middle, a limit."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from bench.common import Served, Usage, nginx, write_jobs
from bench.peers.answers import answer
from bench.peers.judge import ANSWERED, RECEIVED, REFUSED
from bench.peers.judging import judge
from bench.peers.processes import RunError, running
from bench.peers.table import Peer
from bench.peers.tools.plan import Plan

#: What the judge's answers take, more or less: enough to have requests in flight at a kill.
LATENCY_S = 0.1
#: Requests in flight where a tool can be told.
CONCURRENCY = 100
KILL_CONCURRENCY = 50
#: Seconds that a run may take to its first requests, imports included.
START_S = 60


class Speed(NamedTuple):
    """One run against the canned server."""

    #: From the first answered request to the last.
    per_second: float
    #: Processor time a request, all threads, what the start takes taken off.
    cpu_ms: float
    peak_mb: float
    #: From the start of the process to its end.
    wall_s: float


class Killed(NamedTuple):
    """One run that was killed in the middle, and run again."""

    #: Answered by the server before the kill, and not on the tool's disk after it.
    lost: int
    #: Requests beyond one a job.
    repeated: int
    #: Jobs without a result when the second run had ended well.
    missing: int


class Limited(NamedTuple):
    """One run against a server with a limit, while work always waited."""

    #: Requests let through, over what the limit would have let through.
    used: float
    n_refused: int
    #: Jobs that the tool gave up.
    given_up: int


def job_key(number: int) -> str:
    """Return the key that :func:`bench.common.job_line` gives a job."""
    return f"job-{number:07d}"


def start_cpu_s(peer: Peer, python: Path, folder: Path) -> float:
    """Measure what two jobs take: imports, mostly."""
    jobs = write_jobs(folder.with_suffix(".jsonl"), 2)
    return _drain(peer, python, folder, jobs, 2, START_S)[1].cpu_s


def speed(
    peer: Peer, python: Path, folder: Path, jobs: Path, n: int, start_s: float, limit_s: float
) -> Speed:
    """Send so many jobs as fast as it goes."""
    seen, used = _drain(peer, python, folder, jobs, n, limit_s)
    cpu_ms = max(0.0, used.cpu_s - start_s) / n * 1000
    return Speed(seen.per_second, cpu_ms, used.peak_mb, used.wall_s)


def _drain(
    peer: Peer, python: Path, folder: Path, jobs: Path, n: int, limit_s: float
) -> tuple[Served, Usage]:
    with nginx(folder / "nginx", answer(peer.dialect)) as server:
        plan = Plan(jobs, server.url, CONCURRENCY, folder / "run", None)
        with running(peer, python, plan) as run:
            used = run.finish(limit_s)
    seen = server.served()
    if (done := len(peer.kept(plan).done)) != n:
        raise RunError(f"{done} results of {n}: {run.last_words()}")
    shutil.rmtree(folder)
    return seen, used


def kill(peer: Peer, python: Path, folder: Path, n: int, share: float, limit_s: float) -> Killed:
    """Kill -9 when this share of the jobs is answered, run again in the same way, and count."""
    tell = max(1, int(n * share))
    with judge(folder / "judge", latency_s=LATENCY_S, tell=tell) as server:
        jobs = write_jobs(folder / "jobs.jsonl", n)
        plan = Plan(jobs, server.url, KILL_CONCURRENCY, folder / "run", None)
        with running(peer, python, plan) as run:
            server.wait(run, START_S + limit_s)
            run.signal(signal.SIGKILL)
            run.process.wait()
            killed_at = time.time()
        answered = {
            job_key(seen.job)
            for seen in server.log()
            if seen.event == ANSWERED and seen.at <= killed_at
        }
        lost = len(answered - peer.kept(plan).done)
        with running(peer, python, plan) as run:
            run.finish(START_S + limit_s)
        received = [seen.job for seen in server.log() if seen.event == RECEIVED]
    missing = n - len(peer.kept(plan).done)
    shutil.rmtree(folder)
    return Killed(lost, len(received) - len(set(received)), missing)


def limit(peer: Peer, python: Path, folder: Path, rpm: int, minutes: int) -> Limited:
    """Send for so many minutes, from the first answer on, to a server that takes ``rpm``."""
    span_s = minutes * 60
    with judge(folder / "judge", latency_s=LATENCY_S, tell=1, rpm=rpm) as server:
        jobs = write_jobs(folder / "jobs.jsonl", int(rpm * (minutes + 1)))
        plan = Plan(jobs, server.url, CONCURRENCY, folder / "run", rpm if peer.paces else None)
        with running(peer, python, plan) as run:
            # All tools start at once, and import at once.
            server.wait(run, 2 * START_S)
            for number in (signal.SIGTERM, signal.SIGKILL):
                try:
                    run.process.wait(span_s if number == signal.SIGTERM else 5)
                except subprocess.TimeoutExpired:
                    run.signal(number)
        seen = server.log()
    first = min(line.at for line in seen)
    counted = Counter(line.event for line in seen if line.at < first + span_s)
    given_up = len(peer.kept(plan).failed)
    shutil.rmtree(folder)
    accepted = counted[RECEIVED] - counted[REFUSED]
    return Limited(accepted / (rpm * minutes), counted[REFUSED], given_up)
