"""How fast jobs are drained, beside a bare aiohttp loop that stores nothing.

    python -m bench.drain [--jobs N] [--pairs N] [--loop asyncio|uvloop]

Both send the same 1 kB requests, 100 at a time, to a canned nginx on the same event loop, in turns.
On asyncio a second row has both keep the memory of their read buffers: else the bare loop maps and
unmaps a buffer at each read and batchrunner, by what it did before, does not.
Each is a process of its own; the time is that from the first answered request to the last, as
nginx's log tells it. ``stored`` takes batchrunner's time to the end of the run, its last commit,
and is otherwise the same ratio.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import statistics
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from bench.common import (
    Served,
    Threads,
    environment,
    nginx,
    print_machine,
    print_table,
    resume,
    run_process,
    store_jobs,
    verdict,
    write_jobs,
)

BAR = 0.85
CONCURRENCY = 100


class Pair(NamedTuple):
    """One drain of each kind, one after the other."""

    bare: Served
    ours: Served
    #: From the first answered request until the last answer was on the disk.
    stored_s: float
    #: µs of processor time a job in the event loop's thread, and in the others.
    bare_loop_us: float
    ours_loop_us: float
    ours_other_us: float

    @property
    def ratio(self) -> float:
        """Our rate over the bare loop's."""
        return self.ours.per_second / self.bare.per_second

    @property
    def stored_ratio(self) -> float:
        """The same, with the last commit in our time."""
        return self.ours.n / self.stored_s / self.bare.per_second

    @property
    def loop_ratio(self) -> float:
        """What the ratio would be if the event loop never waited for a core, a disk or the server."""
        return self.bare_loop_us / self.ours_loop_us


def measure(
    folder: Path, jobs: Path, stored: Path, n: int, loop: str, *, keeps_buffers: bool
) -> Pair:
    """Drain the jobs once with each."""
    bare_threads, our_threads = Threads(), Threads()
    with nginx(folder / "bare") as server:
        run_process(
            ["-m", "bench.bare", str(jobs), server.url, str(CONCURRENCY), loop],
            env=environment(loop=loop, keeps_buffers=keeps_buffers)
            | {"PYTHONPATH": str(Path.cwd())},
            threads=bare_threads,
        )
    bare = server.served()
    db = folder / "drained.db"
    shutil.copy(stored, db)
    # What the copy left in the page cache must not be written while the drain's commits wait.
    os.sync()
    with nginx(folder / "ours") as server:
        resume(db, server.url, loop=loop, keeps_buffers=keeps_buffers, threads=our_threads)
    ours = server.served()
    connection = sqlite3.connect(db)
    ((finished_at, n_completed),) = connection.execute("SELECT finished_at, n_completed FROM run")
    connection.close()
    if not bare.n == ours.n == n_completed == n:
        raise RuntimeError(f"of {n}: {bare.n} bare, {ours.n} sent, {n_completed} completed")
    shutil.rmtree(folder)
    return Pair(
        bare,
        ours,
        finished_at / 1000 - ours.first,
        *(used_s / n * 1e6 for used_s in bare_threads.between(bare.first, bare.last)[:1]),
        *(used_s / n * 1e6 for used_s in our_threads.between(ours.first, ours.last)),
    )


def row(loop: str, pairs: list[Pair]) -> list[str]:
    """Return one line of the table, the medians."""

    def middle(name: str) -> float:
        return float(statistics.median(getattr(pair, name) for pair in pairs))

    ratios = [pair.ratio for pair in pairs]
    return [
        loop,
        f"{statistics.median(pair.bare.per_second for pair in pairs):,.0f}",
        f"{statistics.median(pair.ours.per_second for pair in pairs):,.0f}",
        f"**{middle('ratio'):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})",
        verdict(middle("ratio"), BAR),
        f"{middle('stored_ratio'):.2f}",
        f"{middle('bare_loop_us'):.0f}",
        f"{middle('ours_loop_us'):.0f}",
        f"{middle('ours_other_us'):.0f}",
        f"{middle('loop_ratio'):.2f}",
    ]


def main() -> None:
    """Measure and print."""
    loops = ["asyncio", *(["uvloop"] if find_spec("uvloop") else [])]
    parser = argparse.ArgumentParser(
        prog="python -m bench.drain", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs a drain (default: 20000)")
    parser.add_argument("--size", type=int, default=1024, help="bytes a line (default: 1024)")
    parser.add_argument("--pairs", type=int, default=5, help="drains of each kind (default: 5)")
    parser.add_argument(
        "--loop", choices=loops, action="append", help="repeatable (default: every one installed)"
    )
    parser.add_argument("--folder", type=Path, help="where the files go (default: temporary)")
    given = parser.parse_args()
    print_machine("uvloop")
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-drain-", dir=given.folder) as name:
        folder = Path(name)
        jobs = write_jobs(folder / "jobs.jsonl", given.jobs, given.size)
        stored = folder / "stored.db"
        store_jobs(stored, jobs)
        for loop in given.loop or loops:
            # uvloop reads into a buffer of its own.
            kinds = (
                {loop: False, f"{loop}, buffers kept": True} if loop == "asyncio" else {loop: False}
            )
            pairs: dict[str, list[Pair]] = {kind: [] for kind in kinds}
            for number in range(given.pairs):
                for kind, keeps_buffers in kinds.items():
                    place = folder / f"{loop}-{number}-{keeps_buffers}"
                    pair = measure(
                        place, jobs, stored, given.jobs, loop, keeps_buffers=keeps_buffers
                    )
                    pairs[kind].append(pair)
                    print(
                        f"{kind} {number + 1}/{given.pairs}: {pair.bare.per_second:,.0f}"
                        f" {pair.ours.per_second:,.0f} {pair.ratio:.3f}",
                        file=sys.stderr,
                    )
            rows += [row(kind, pairs[kind]) for kind in kinds]
    print_table(
        ["event loop", "bare, a second", "batchrunner, a second", "ratio (range)", "bar",
         "ratio, all stored", "bare loop, CPU µs a job", "our loop, CPU µs a job", "our other threads", "ratio by loop CPU"],
        rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
