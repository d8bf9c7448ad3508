"""How many jobs a second workers drain from one PostgreSQL, and what of their time is the turn's.

    python -m bench.workers [--jobs N] [--workers N]… [--beside DIR] [--svg FILE]

Workers beside each other, 100 requests in flight each, against a canned nginx; in the same call one
process on SQLite, and one on the server without workers. Everything is on this machine: the server,
nginx and all workers share its cores, so that the table says what a job costs them rather than how far
it would go on machines of their own. Rates are those of the middle of the drain, by nginx's log: workers
start one after the other. The server's own view of its sessions is sampled fifty times a second: which
wait for the turn's lock, and which are in a turn. ``--beside`` measures another checkout in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg

from bench.chart import Bars, bars
from bench.common import (
    RUN,
    batchrunner,
    environment,
    nginx,
    print_machine,
    print_table,
    resume,
    store_jobs,
    write_jobs,
)
from tests.fakes.postgres_server import PostgresServer, programs, running_postgres

_CONCURRENCY = 100
#: The part of the answers that is measured: all workers are at it.
_FROM, _TO = 0.25, 0.8
_EVERY_S = 0.02
#: The sessions of the program that are in a transaction: waiting for a lock, served, and waited for.
_SESSIONS = """
    SELECT count(*) FILTER (WHERE wait_event_type = 'Lock'),
           count(*) FILTER (WHERE state = 'active' AND wait_event_type IS DISTINCT FROM 'Lock'),
           count(*) FILTER (WHERE state LIKE 'idle in transaction%')
    FROM pg_stat_activity
    WHERE datname = current_database() AND pid != pg_backend_pid() AND xact_start IS NOT NULL"""
_COUNTS = """
    SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()),
           pg_current_wal_lsn() - '0/0'::pg_lsn"""


class Sample(NamedTuple):
    """The server's sessions at one instant, and what its processes have taken by then."""

    at: float
    waiting: int
    served: int
    waited_for: int
    commits: int
    wal: int
    cpu_s: float


@dataclass
class Sessions:
    """Looks at a database until the end of the block."""

    server: PostgresServer
    database: str
    samples: list[Sample] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look while the context lasts."""
        thread = threading.Thread(target=lambda: asyncio.run(self._look()))
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    async def _look(self) -> None:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=self.server.port, user="tester", database=self.database
        )
        while not self._ended.is_set():
            waiting, served, waited_for = await connection.fetchrow(_SESSIONS)
            commits, wal = await connection.fetchrow(_COUNTS)
            self.samples.append(
                Sample(time.time(), waiting, served, waited_for, commits, int(wal), self._cpu_s())
            )
            await asyncio.sleep(_EVERY_S)
        await connection.close()

    def _cpu_s(self) -> float:
        """Return what the server's processes have taken, the ended ones too (Linux only)."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            is_server = int(stat.parent.name) == self.server.pid
            if is_server or int(fields[1]) == self.server.pid:
                ticks += sum(map(int, fields[11:13]))
                # What its ended children took.
                ticks += sum(map(int, fields[13:15])) if is_server else 0
        return ticks / os.sysconf("SC_CLK_TCK")


class Drained(NamedTuple):
    """One drain."""

    name: str
    n_workers: int
    per_second: float
    #: Sessions, on average: waiting for a lock, served by the server, waited for by it within a turn.
    waiting: float
    served: float
    waited_for: float
    commits: float
    wal: float
    #: µs of processor time a job.
    server_us: float
    workers_us: float


class Checkout(NamedTuple):
    """A tree of the program."""

    name: str
    folder: Path

    @property
    def stored(self) -> str:
        """The database of what it stored."""
        return f"stored_{zlib.crc32(self.name.encode())}"


def middle_of(times: Sequence[float]) -> tuple[float, float, float]:
    """Return the answers a second of the middle, and its two ends."""
    first, last = (times[int(len(times) * share)] for share in (_FROM, _TO))
    n = int(len(times) * _TO) - int(len(times) * _FROM)
    return n / (last - first), first, last


def on_server(
    folder: Path,
    server: PostgresServer,
    n_jobs: int,
    n_workers: int,
    checkout: Checkout,
) -> Drained:
    """Drain a copy of a stored run by so many workers; 0: by one process without workers."""
    database = f"drain_{time.monotonic_ns()}"
    server.execute(f"CREATE DATABASE {database} TEMPLATE {checkout.stored}")
    server.execute("CHECKPOINT")
    sessions = Sessions(server, database)
    words = ["worker", "--until-done"] if n_workers else ["resume", RUN]
    place = server.url("jobs", database)
    with nginx(folder) as canned, sessions.watching():
        env = environment(canned.url) | {
            "PYTHONPATH": str(checkout.folder), "BATCHRUNNER_DB": place,
        }  # fmt: skip
        began = [
            subprocess.Popen(
                [sys.executable, "-m", "batchrunner", "-q", *words],
                env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=folder,
            )
            for _ in range(max(1, n_workers))
        ]  # fmt: skip
        used_s = 0.0
        for process in began:
            assert process.stderr is not None
            said = process.stderr.read()
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            used_s += used.ru_utime + used.ru_stime
            if process.returncode:
                raise RuntimeError(f"a worker ended with {process.returncode}: {said.decode()}")
    times = sorted(canned.times())
    ((n_completed,),) = server.execute("SELECT sum(n_completed) FROM jobs.run", database)
    server.execute(f"DROP DATABASE {database} WITH (FORCE)")
    if not len(times) == n_completed == n_jobs:
        raise RuntimeError(f"of {n_jobs}: {len(times)} sent, {n_completed} completed")
    per_second, first, last = middle_of(times)
    inside = [sample for sample in sessions.samples if first <= sample.at <= last]
    n = per_second * (inside[-1].at - inside[0].at)

    def mean(name: str) -> float:
        return sum(getattr(sample, name) for sample in inside) / len(inside)

    def grown(name: str) -> float:
        return float(getattr(inside[-1], name) - getattr(inside[0], name))

    return Drained(
        checkout.name, n_workers, per_second, mean("waiting"), mean("served"), mean("waited_for"),
        grown("commits") / (inside[-1].at - inside[0].at), grown("wal") / n,
        grown("cpu_s") / n * 1e6, used_s / n_jobs * 1e6,
    )  # fmt: skip


def on_file(folder: Path, stored: Path, n_jobs: int) -> Drained:
    """Drain a copy of a stored run by one process from SQLite."""
    db = folder / "drained.db"
    with nginx(folder / "nginx") as canned:
        shutil.copy(stored, db)
        os.sync()
        used = resume(db, canned.url, loop="asyncio")
    per_second, _, _ = middle_of(sorted(canned.times()))
    return Drained("SQLite", 1, per_second, 0, 0, 0, 0, 0, 0, used.cpu_s / n_jobs * 1e6)


def row(one: Drained) -> list[str]:
    """Return a line of the table."""
    name = {0: "one process, no workers", 1: "1 worker"}.get(
        one.n_workers, f"{one.n_workers} workers"
    )
    if one.name == "SQLite":
        return [
            "SQLite, one process",
            f"**{one.per_second:,.0f}**",
            *[""] * 6,
            f"{one.workers_us:.0f}",
        ]
    each = max(1, one.n_workers)
    return [
        f"{one.name}, {name}",
        f"**{one.per_second:,.0f}**",
        *(f"{value / each:.2f}" for value in (one.waiting, one.served, one.waited_for)),
        f"{one.commits:,.0f}",
        f"{one.wal:,.0f}",
        f"{one.server_us:.0f}",
        f"{one.workers_us:.0f}",
    ]


def picture(drained: Sequence[Drained]) -> str:
    """Return the chart: rates, and the shares of a worker's time that are the turn's."""
    names = [
        "SQLite" if one.name == "SQLite" else f"{one.name}: {one.n_workers or 'no'} workers"
        for one in drained
    ]
    each = [max(1, one.n_workers) for one in drained]
    return bars(
        names,
        [
            Bars("jobs a second", [one.per_second for one in drained], "{:,.0f}"),
            Bars("of a worker's time: waits for the turn",
                 [one.waiting / n for one, n in zip(drained, each, strict=True)], "{:.0%}"),
            Bars("… has it",
                 [(one.served + one.waited_for) / n for one, n in zip(drained, each, strict=True)], "{:.0%}"),
            Bars("server's CPU, µs a job", [one.server_us for one in drained], "{:,.0f}"),
        ],
    )  # fmt: skip


def store(server: PostgresServer, checkout: Checkout, jobs: Path) -> None:
    """Store a job file as a run in a database of the checkout's own, which is copied for each drain."""
    database = checkout.stored
    server.execute(f"CREATE DATABASE {database}")
    batchrunner(
        "submit", str(jobs), "--no-run", "--provider", "openai", "--name", RUN,
        "--db", server.url("jobs", database), "--rpm", "none", "-c", str(_CONCURRENCY),
        env=environment() | {"PYTHONPATH": str(checkout.folder)},
    )  # fmt: skip
    server.execute("VACUUM ANALYZE", database)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.workers", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs a drain (default: 20000)")
    parser.add_argument("--size", type=int, default=1024, help="bytes a line (default: 1024)")
    parser.add_argument(
        "--workers", type=int, action="append", help="repeatable (default: 1, 2, 4, 8)"
    )
    parser.add_argument("--rounds", type=int, default=1, help="of everything (default: 1)")
    parser.add_argument("--beside", type=Path, metavar="DIR", help="another checkout")
    parser.add_argument("--names", default="here,beside", help="what the checkouts are called")
    parser.add_argument("--svg", type=Path, help="write the chart there")
    given = parser.parse_args()
    binaries = programs()
    if binaries is None:
        sys.exit("There is no PostgreSQL on this machine: install it, or `pip install pgserver`.")
    names: list[str] = given.names.split(",")
    checkouts = [Checkout(names[0], Path.cwd())]
    if given.beside:
        checkouts.append(Checkout(names[1], given.beside.resolve()))
    print_machine("asyncpg")
    drained: list[Drained] = []
    with (
        tempfile.TemporaryDirectory(prefix="bench-workers-") as name,
        running_postgres(binaries, settings="fsync = on\nshared_buffers = 128MB") as server,
    ):
        folder = Path(name)
        jobs = write_jobs(folder / "jobs.jsonl", given.jobs, given.size)
        for checkout in checkouts:
            store(server, checkout, jobs)
        store_jobs(folder / "stored.db", jobs)
        for number in range(given.rounds):
            place = folder / f"file-{number}"
            place.mkdir()
            drained.append(on_file(place, folder / "stored.db", given.jobs))
            for n_workers in [0, *(given.workers or (1, 2, 4, 8))]:
                for checkout in checkouts:
                    place = folder / f"{checkout.stored}-{n_workers}-{number}"
                    drained.append(on_server(place, server, given.jobs, n_workers, checkout))
                    print(row(drained[-1]), file=sys.stderr, flush=True)
    print_table(
        ["database, who drains", "jobs a second", "waits for the lock, of a worker's time",
         "in a turn: served", "in a turn: at work itself", "commits a second", "WAL, bytes a job",
         "server, CPU µs a job", "all workers, CPU µs a job"],
        [row(one) for one in _middling(drained)],
    )  # fmt: skip
    print(f"load at the end {os.getloadavg()[0]:.1f}")
    if given.svg:
        given.svg.write_text(picture(_middling(drained)))


def _middling(drained: Sequence[Drained]) -> list[Drained]:
    """Return of each kind the drain whose rate is in the middle."""
    kinds: dict[Any, list[Drained]] = {}
    for one in drained:
        kinds.setdefault((one.name, one.n_workers), []).append(one)
    return [sorted(some, key=lambda one: one.per_second)[len(some) // 2] for some in kinds.values()]


if __name__ == "__main__":
    main()
