"""Whether a million jobs cost more each than ten thousand: time and memory of every step.

    python -m bench.scale [--jobs N] [--few N] [--rounds N]

Submits, drains a part and exports with many jobs and with few, side by side. Memory is the most a
process ever had. Drains of the two alternate on the same server and event loop; the many are sent
in parts, so that nearly all stay pending. Times of `status` and of the first request after `resume`
are what comes on top of importing the program; `--help` is compared with importing click.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from bench.common import (
    Usage,
    batchrunner,
    median_of,
    nginx,
    print_machine,
    print_table,
    resume,
    run_process,
    store_jobs,
    verdict,
    write_jobs,
)

PEAK_MB = 150
SPEED = 0.9
STATUS_S = 0.3
FIRST_S = 1.0
HELP = 3.0
_DONE, _WORK_LEFT = 0, 3


class Drain(NamedTuple):
    """One drain, whole or cut off."""

    n: int
    per_second: float
    #: µs of processor time a job, all threads, imports taken off.
    cpu_us: float
    #: From the call to the first answered request.
    first_s: float
    peak_mb: float


def drain(db: Path, folder: Path, loop: str, imports: Usage, max_time_s: float | None) -> Drain:
    """Drain once, for so long at most."""
    options = () if max_time_s is None else ("--max-time", f"{max_time_s:.1f}")
    os.sync()
    with nginx(folder) as server:
        began = time.time()
        used = resume(db, server.url, *options, loop=loop, codes=(_DONE, _WORK_LEFT))
    seen = server.served()
    shutil.rmtree(folder)
    return Drain(
        seen.n,
        seen.per_second,
        (used.cpu_s - imports.cpu_s) / seen.n * 1e6,
        seen.first - began,
        used.peak_mb,
    )


def export(db: Path, target: Path) -> Usage:
    """Write every job of the run as CSV."""
    used = batchrunner("export", "--db", str(db), "-o", str(target))
    target.unlink()
    return used


def starting() -> tuple[list[list[str]], Usage]:
    """Measure imports and --help; return rows and what importing takes."""
    importing = ["-c", "import batchrunner.app, uvloop"]
    if run_process(importing, codes=(0, 1)).code:
        importing = ["-c", "import batchrunner.app"]
    imports = [run_process(importing) for _ in range(5)]
    imports_s = statistics.median(use.wall_s for use in imports)
    click_s = median_of(lambda: run_process(["-c", "import click"]).wall_s, 9)
    help_s = median_of(lambda: run_process(["-m", "batchrunner", "--help"]).wall_s, 9)
    rows = [
        ["import everything", f"{imports_s:.2f} s", ""],
        [
            "`--help` over importing click",
            f"{help_s:.3f} / {click_s:.3f} s = **{help_s / click_s:.2f}**",
            verdict(help_s / click_s, HELP, at_most=True),
        ],
    ]
    middle = sorted(imports, key=lambda use: use.wall_s)[len(imports) // 2]
    return rows, middle


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--jobs", type=int, default=1_000_000, help="many (default: 1000000)")
    parser.add_argument("--few", type=int, default=10_000, help="few (default: 10000)")
    parser.add_argument("--size", type=int, default=1024, help="bytes a line (default: 1024)")
    parser.add_argument("--rounds", type=int, default=3, help="drains of each (default: 3)")
    parser.add_argument("--part", type=float, default=8, help="seconds a drain of the many")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--folder", type=Path, help="where the files go (default: temporary)")
    given = parser.parse_args()
    print_machine("uvloop")
    with tempfile.TemporaryDirectory(prefix="bench-scale-", dir=given.folder) as name:
        folder = Path(name)
        rows, imports = starting()
        many, few = folder / "many.db", folder / "few.db"
        submits, exports = {}, {}
        for db, n in ((few, given.few), (many, given.jobs)):
            jobs = write_jobs(folder / "jobs.jsonl", n, given.size)
            submits[db] = store_jobs(db, jobs)
            jobs.unlink()
            print(f"submit {n}: {submits[db]}", file=sys.stderr)
        status_s = median_of(lambda: batchrunner("status", "--db", str(many)).wall_s, 5)
        rows.append(
            [
                f"`status` of {given.jobs:,} jobs, on top of that",
                f"**{status_s - imports.wall_s:.2f} s**",
                verdict(status_s - imports.wall_s, STATUS_S, at_most=True),
            ]
        )
        of_few, of_many = [], []
        copy = folder / "copy.db"
        for number in range(given.rounds):
            shutil.copy(few, copy)
            of_few.append(drain(copy, folder / f"few-{number}", given.loop, imports, None))
            of_many.append(drain(many, folder / f"many-{number}", given.loop, imports, given.part))
            print(f"few {of_few[-1]}\nmany {of_many[-1]}", file=sys.stderr)
        first_s = statistics.median(one.first_s for one in of_many) - imports.wall_s
        rows.append(
            [
                f"first request of {given.jobs:,} jobs after `resume`, on top of that",
                f"**{first_s:.2f} s**",
                verdict(first_s, FIRST_S, at_most=True),
            ]
        )
        for db in (copy, many):
            exports[db] = export(db, folder / "results.csv")
    print_table(["start", "measured", "bar"], rows)
    speeds = {
        db: n / (submits[db].wall_s - imports.wall_s)
        for db, n in ((few, given.few), (many, given.jobs))
    }
    written = {
        db: n / (exports[db].wall_s - imports.wall_s)
        for db, n in ((copy, given.few), (many, given.jobs))
    }
    steps = [
        step(
            "submit, lines a second",
            [speeds[few]], [speeds[many]], [submits[few].peak_mb], [submits[many].peak_mb],
        ),
        step(
            "drain, jobs a second",
            [one.per_second for one in of_few], [one.per_second for one in of_many],
            [one.peak_mb for one in of_few], [one.peak_mb for one in of_many],
        ),
        step(
            "drain, jobs a CPU second",
            [1e6 / one.cpu_us for one in of_few], [1e6 / one.cpu_us for one in of_many], [], [],
        ),
        step(
            "export, rows a second",
            [written[copy]], [written[many]], [exports[copy].peak_mb], [exports[many].peak_mb],
        ),
    ]  # fmt: skip
    print_table(
        ["step", f"{given.few:,} jobs", f"{given.jobs:,} jobs", "ratio", "bar",
         "peak MB of few", "peak MB of many", "bar"],
        steps,
    )  # fmt: skip
    print(f"The drains of the many sent {sum(one.n for one in of_many):,} jobs.")


def step(
    name: str, few: list[float], many: list[float], few_mb: list[float], many_mb: list[float]
) -> list[str]:
    """Return one row: speeds in pairs, and peaks."""
    ratio = statistics.median(b / a for a, b in zip(few, many, strict=True))
    peak = max(many_mb, default=0.0)
    return [
        name,
        f"{statistics.median(few):,.0f}",
        f"{statistics.median(many):,.0f}",
        f"**{ratio:.2f}**",
        verdict(ratio, SPEED),
        f"{max(few_mb):.0f}" if few_mb else "",
        f"**{peak:.0f}**" if many_mb else "",
        verdict(peak, PEAK_MB, at_most=True) if many_mb else "",
    ]


if __name__ == "__main__":
    main()
