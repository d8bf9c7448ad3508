"""How fast a file is checked and stored, beside raw sqlite3.executemany.

    python -m bench.submit [--jobs N] [--pairs N]

Both read the same 1 kB lines into the same tables and indexes, in turns, each as a process of its
own from start to end, so that the last commit and the clean close count. The time of the same
process on one line (imports, opening) is taken off each.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from bench.common import (
    Usage,
    batchrunner,
    environment,
    print_machine,
    print_table,
    run_process,
    store_jobs,
    verdict,
    write_jobs,
)

BAR = 0.8
OURS = "batchrunner submit --no-run"
BASELINES = {
    "same": "raw, our connection's settings",
    "plain": "raw, settings of a bare connect",
    "unindexed": "raw, no index nor UNIQUE key",
}


def empty_database(path: Path, seed: Path) -> Path:
    """Make a database with our schema and no rows: the seed's, emptied."""
    if not seed.exists():
        one = write_jobs(seed.with_suffix(".jsonl"), 1)
        store_jobs(seed, one)
        empty = seed.with_name("empty.py")
        empty.write_text(
            "import sqlite3, sys\n"
            "db = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
            "db.execute('PRAGMA foreign_keys = ON')\n"
            "for table in ('run', 'model', 'process'):\n"
            "    db.execute(f'DELETE FROM {table}')\n"
            "db.close()\n"
        )
        run_process([str(empty), str(seed)])
    path.write_bytes(seed.read_bytes())
    return path


def measure(folder: Path, jobs: Path, how: str) -> Usage:
    """Store the file once."""
    db = folder / "store.db"
    for left in folder.glob("store.db*"):
        left.unlink()
    empty_database(db, folder / "seed.db")
    os.sync()
    if how == "ours":
        return batchrunner("submit", str(jobs), "--no-run", "--provider", "openai", "--db", str(db))
    return run_process(
        ["-m", "bench.raw_insert", str(jobs), str(db), how],
        env=environment() | {"PYTHONPATH": str(Path.cwd())},
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.submit", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--jobs", type=int, default=200_000, help="lines (default: 200000)")
    parser.add_argument("--size", type=int, default=1024, help="bytes a line (default: 1024)")
    parser.add_argument("--pairs", type=int, default=3, help="rounds (default: 3)")
    parser.add_argument("--folder", type=Path, help="where the files go (default: temporary)")
    given = parser.parse_args()
    print_machine()
    kinds = ["ours", *BASELINES]
    with tempfile.TemporaryDirectory(prefix="bench-submit-", dir=given.folder) as name:
        folder = Path(name)
        jobs = write_jobs(folder / "jobs.jsonl", given.jobs, given.size)
        one = write_jobs(folder / "one.jsonl", 1, given.size)
        starts = {kind: [measure(folder, one, kind) for _ in range(3)] for kind in kinds}
        start = {kind: statistics.median(use.wall_s for use in starts[kind]) for kind in kinds}
        start_cpu = {kind: statistics.median(use.cpu_s for use in starts[kind]) for kind in kinds}
        took: dict[str, list[Usage]] = {kind: [] for kind in kinds}
        for _ in range(given.pairs):
            for kind in kinds:
                took[kind].append(measure(folder, jobs, kind))
                print(f"{kind}: {took[kind][-1].wall_s:.2f} s", file=sys.stderr)
    net = {kind: [use.wall_s - start[kind] for use in took[kind]] for kind in kinds}
    cpu = {
        kind: statistics.median(use.cpu_s for use in took[kind]) - start_cpu[kind] for kind in kinds
    }
    table = []
    for kind in kinds:
        ratios = [raw / ours for raw, ours in zip(net[kind], net["ours"], strict=True)]
        ratio = statistics.median(ratios)
        table.append(
            [
                BASELINES.get(kind, OURS),
                f"{statistics.median(use.wall_s for use in took[kind]):.2f}",
                f"{start[kind]:.2f}",
                f"{given.jobs / statistics.median(net[kind]):,.0f}",
                ""
                if kind == "ours"
                else f"**{ratio:.2f}** ({min(ratios):.2f} to {max(ratios):.2f})",
                verdict(ratio, BAR) if kind == "same" else "",
                f"{cpu[kind] / given.jobs * 1e6:.1f}",
                "" if kind == "ours" else f"{cpu[kind] / cpu['ours']:.2f}",
                f"{max(use.peak_mb for use in took[kind]):.0f}",
            ]
        )
    print_table(
        ["what", "s, whole process", "s of these for one line", "lines a second",
         "batchrunner's share of it (range)", "bar", "CPU µs a line", "share by CPU", "peak MB"],
        table,
    )  # fmt: skip


if __name__ == "__main__":
    main()
