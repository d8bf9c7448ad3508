"""A million jobs from the file to the CSV: memory, file sizes and speed as time goes by.

    python -m bench.soak [--jobs N] [--size BYTES] [--compress] [--svg FILE] [--folder DIR]

``submit --no-run``, ``resume``, ``export``, each a process of its own, looked at twice a second.
Speed is by nginx's log. At the end: what a job costs on disk, and the chart. ``--compress`` adds a
second run whose bodies are kept compressed.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench.chart import Panel, Phase, chart
from bench.common import (
    RUN,
    Usage,
    batchrunner,
    environment,
    nginx,
    print_machine,
    print_table,
    write_jobs,
)

_EVERY_S = 0.5
#: Requests are counted in stretches of this (seconds).
_BIN_S = 2.0
_MB = 1e6


class Look(NamedTuple):
    """What was seen at one instant."""

    at: float
    memory_mb: float
    database_mb: float
    log_mb: float


@dataclass
class Watch:
    """Looks at a running process and its database until it ends (Linux only)."""

    db: Path
    looks: list[Look] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watching(self, pid: int) -> Iterator[None]:
        """Look while the context lasts."""
        self._ended.clear()
        thread = threading.Thread(target=self._look, args=(pid,))
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _look(self, pid: int) -> None:
        while not self._ended.wait(_EVERY_S):
            try:
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            except OSError:  # it has just ended
                continue
            self.looks.append(
                Look(
                    time.time(),
                    pages * os.sysconf("SC_PAGE_SIZE") / _MB,
                    _size_mb(self.db),
                    _size_mb(self.db.with_name(self.db.name + "-wal")),
                )
            )


def _size_mb(path: Path) -> float:
    try:
        return path.stat().st_size / _MB
    except FileNotFoundError:
        return 0.0


class Soaked(NamedTuple):
    """One run from its file to its results."""

    name: str
    phases: Sequence[Phase]
    used: Sequence[Usage]
    looks: Sequence[Look]
    #: (seconds, requests a second), both of the stretch.
    speed: Sequence[tuple[float, float]]
    began: float
    per_second: float
    database_mb: float
    by_table: Sequence[tuple[str, int]]


def soak(folder: Path, jobs: Path, name: str, *options: str) -> Soaked:
    """Submit, drain and export one file in a fresh database."""
    db = folder / "soak.db"
    watch = Watch(db)
    began = time.time()
    phases: list[Phase] = []
    used: list[Usage] = []

    @contextmanager
    def phase(what: str) -> Iterator[None]:
        os.sync()
        since = time.time() - began
        yield
        phases.append(Phase(what, since, time.time() - began))
        print(f"{name}: {what} {used[-1]}", file=sys.stderr, flush=True)

    with phase("submit"):
        used.append(
            batchrunner(
                "submit", str(jobs), "--no-run", "--provider", "openai", "--name", RUN,
                "--db", str(db), *options, threads=watch,
            )
        )  # fmt: skip
    with nginx(folder / "server") as server, phase("drain"):
        used.append(
            batchrunner(
                "resume", RUN, "--db", str(db), "--base-url", f"{server.url}/v1",
                "--rpm", "none", "-c", "100", env=environment(), threads=watch,
            )
        )  # fmt: skip
    served = server.served()
    with phase("export"):
        target = folder / "results.csv"
        used.append(batchrunner("export", "--db", str(db), "-o", str(target), threads=watch))
    target.unlink()
    bins = Counter(int((at - began) // _BIN_S) for at in server.times())
    # The first and the last stretch are not whole.
    whole = range(min(bins) + 1, max(bins)) or range(min(bins), max(bins) + 1)
    speed = [(_BIN_S * (n + 0.5), bins[n] / _BIN_S) for n in whole]
    by_table = tables(db)
    database_mb = _size_mb(db)
    db.unlink()
    return Soaked(
        name, phases, used, watch.looks, speed, began, served.per_second, database_mb, by_table
    )


def tables(db: Path) -> list[tuple[str, int]]:
    """Return the bytes of the largest tables and indexes; empty where SQLite can't tell."""
    connection = sqlite3.connect(db)
    try:
        return connection.execute(
            "SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC LIMIT 6"
        ).fetchall()
    except sqlite3.OperationalError:
        return []
    finally:
        connection.close()


def picture(one: Soaked) -> str:
    """Return the chart of one run."""

    def over_time(field_name: str) -> list[tuple[float, float]]:
        return [(look.at - one.began, getattr(look, field_name)) for look in one.looks]

    return chart(
        [
            Panel("requests a second", one.speed),
            Panel("memory of the process, MB", over_time("memory_mb")),
            Panel("database, MB", over_time("database_mb")),
            Panel("write-ahead log, MB", over_time("log_mb")),
        ],
        one.phases,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--jobs", type=int, default=1_000_000, help="default: 1000000")
    parser.add_argument("--size", type=int, default=1024, help="bytes a line (default: 1024)")
    parser.add_argument("--compress", action="store_true", help="also with compressed bodies")
    parser.add_argument("--svg", type=Path, help="write the chart of the first run there")
    parser.add_argument("--folder", type=Path, help="where the files go (default: temporary)")
    given = parser.parse_args()
    print_machine()
    runs = []
    for name, options in {"plain": (), "compressed": ("--compress",)}.items():
        if name == "compressed" and not given.compress:
            continue
        with tempfile.TemporaryDirectory(prefix="bench-soak-", dir=given.folder) as where:
            folder = Path(where)
            jobs = write_jobs(folder / "jobs.jsonl", given.jobs, given.size)
            runs.append(soak(folder, jobs, name, *options))
    print_table(
        ["run", "step", "s", "jobs a second", "CPU µs a job", "peak MB"],
        [
            [
                one.name,
                phase.name,
                f"{phase.ends - phase.begins:.0f}",
                f"{one.per_second:,.0f}"
                if phase.name == "drain"
                else f"{given.jobs / (phase.ends - phase.begins):,.0f}",
                f"{used.cpu_s / given.jobs * 1e6:.0f}",
                f"{used.peak_mb:.0f}",
            ]
            for one in runs
            for phase, used in zip(one.phases, one.used, strict=True)
        ],
    )
    print_table(
        ["run", "database, MB", "bytes a job", "largest log, MB",
         "drain, a second, by tenths of its time"],
        [
            [
                one.name,
                f"{one.database_mb:,.0f}",
                f"{one.database_mb * _MB / given.jobs:,.0f}",
                f"{max(look.log_mb for look in one.looks):,.0f}",
                " ".join(f"{_part(one.speed, tenth):,.0f}" for tenth in range(10)),
            ]
            for one in runs
        ],
    )  # fmt: skip
    for one in runs:
        sizes = ", ".join(f"{name} {n / given.jobs:,.0f}" for name, n in one.by_table)
        print(f"{one.name}, bytes a job by table: {sizes or 'this SQLite has no dbstat'}")
    if given.svg:
        given.svg.write_text(picture(runs[0]))


def _part(speed: Sequence[tuple[float, float]], tenth: int) -> float:
    """Return the mean speed in one tenth of the drain."""
    first = len(speed) * tenth // 10
    some = [value for _, value in speed[first : max(first + 1, len(speed) * (tenth + 1) // 10)]]
    return sum(some) / len(some)


if __name__ == "__main__":
    main()
