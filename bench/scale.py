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
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bench.common import (
    Usage,
    batchrunner,
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
_IMPORT = ["-c", "import batchrunner.app"]


class Drain(NamedTuple):
    """One drain, whole or cut off."""

    n: int
    per_second: float
    #: µs of processor time a job, all threads, imports taken off.
    cpu_us: float
    #: From the call to the first answered request, imports taken off.
    first_s: float
    peak_mb: float


def drain(db: Path, folder: Path, loop: str, max_time_s: float | None) -> Drain:
    """Drain once, for so long at most."""
    options = () if max_time_s is None else ("--max-time", f"{max_time_s:.1f}")
    os.sync()
    # Right before, so that both see the machine as busy as it is.
    imports = run_process(_IMPORT)
    with nginx(folder) as server:
        began = time.time()
        used = resume(db, server.url, *options, loop=loop, codes=(_DONE, _WORK_LEFT))
    seen = server.served()
    shutil.rmtree(folder)
    return Drain(
        seen.n,
        seen.per_second,
        (used.cpu_s - imports.cpu_s) / seen.n * 1e6,
        seen.first - began - imports.wall_s,
        used.peak_mb,
    )


def export(db: Path, folder: Path) -> Usage:
    """Write every job of the run as CSV."""
    target = folder / "results.csv"
    used = batchrunner("export", "--db", str(db), "-o", str(target))
    target.unlink()
    return used


def store(db: Path, folder: Path, n: int, size: int) -> Usage:
    """Submit so many jobs into a fresh database."""
    jobs = write_jobs(folder / "jobs.jsonl", n, size)
    os.sync()
    used = store_jobs(db, jobs)
    jobs.unlink()
    print(f"submit {n}: {used}", file=sys.stderr)
    return used


def starting(many: Path, times: int = 9) -> list[list[str]]:
    """Measure imports, ``--help`` and ``status``, in turns; return rows of the first table."""
    took: dict[str, list[float]] = {}
    programs = {
        "click": ["-c", "import click"],
        "help": ["-m", "batchrunner", "--help"],
        "imports": _IMPORT,
        "status": ["-m", "batchrunner", "status", "--db", str(many)],
    }
    for _ in range(times):
        for name, arguments in programs.items():
            took.setdefault(name, []).append(run_process(arguments).wall_s)
    median = {name: statistics.median(times) for name, times in took.items()}
    status_s = statistics.median(
        with_it - without for with_it, without in zip(took["status"], took["imports"], strict=True)
    )
    times_click = statistics.median(
        ours / click for ours, click in zip(took["help"], took["click"], strict=True)
    )
    return [
        ["import everything", f"{median['imports']:.2f} s", ""],
        [
            "`--help` over importing click",
            f"{median['help']:.3f} / {median['click']:.3f} s = **{times_click:.2f}**",
            verdict(times_click, HELP, at_most=True),
        ],
        [
            "`status` of the many, on top of importing",
            f"**{status_s:.2f} s**",
            verdict(status_s, STATUS_S, at_most=True),
        ],
    ]


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
        many, few = folder / "many.db", folder / "few.db"
        one = folder / "one.db"
        sizes = {one: 1, few: given.few, many: given.jobs}
        submits = {db: store(db, folder, n, given.size) for db, n in sizes.items()}
        # The few are stored in less than what the start varies by.
        tenth = folder / "tenth.db"
        n_tenth = max(given.few, given.jobs // 10)
        submits[tenth] = store(tenth, folder, n_tenth, given.size)
        tenth.unlink()
        os.sync()
        rows = starting(many)
        of_few, of_many = [], []
        copy = folder / "copy.db"
        for number in range(given.rounds):
            shutil.copy(few, copy)
            of_few.append(drain(copy, folder / f"few-{number}", given.loop, None))
            of_many.append(drain(many, folder / f"many-{number}", given.loop, given.part))
            print(f"few {of_few[-1]}\nmany {of_many[-1]}", file=sys.stderr)
        first_s = statistics.median(one.first_s for one in of_many)
        rows.append(
            [
                "first request after `resume` of the many, on top of importing",
                f"**{first_s:.2f} s**",
                verdict(first_s, FIRST_S, at_most=True),
            ]
        )
        shutil.copy(copy, few)
        exports = {db: export(db, folder) for db in sizes}
    print_table(["start", "measured", "bar"], rows)
    steps = [
        step(
            f"submit, lines a CPU second (of {n_tenth:,} instead of the few)",
            *costs(submits, {one: 1, tenth: n_tenth, many: given.jobs}),
            submits[few],
            submits[many],
        ),
        step(
            "drain, jobs a second",
            [one.per_second for one in of_few],
            [one.per_second for one in of_many],
            max(of_few, key=lambda one: one.peak_mb),
            max(of_many, key=lambda one: one.peak_mb),
        ),
        step(
            "drain, jobs a CPU second",
            [1e6 / one.cpu_us for one in of_few],
            [1e6 / one.cpu_us for one in of_many],
        ),
        step("export, rows a CPU second", *costs(exports, sizes), exports[few], exports[many]),
    ]
    print_table(
        ["step", f"{given.few:,} jobs", f"{given.jobs:,} jobs", "ratio", "bar",
         "peak MB of few", "peak MB of many", "bar"],
        steps,
    )  # fmt: skip
    print(f"The drains of the many sent {sum(one.n for one in of_many):,} jobs.")


def costs(used: Mapping[Path, Usage], sizes: Mapping[Path, int]) -> tuple[list[float], list[float]]:
    """Return how much the few and the many got done in a second of processor time.

    What the same command takes for one job is taken off both.
    """
    (one, _), (few, n_few), (many, n_many) = sizes.items()
    start_s = used[one].cpu_s
    return [n_few / (used[few].cpu_s - start_s)], [n_many / (used[many].cpu_s - start_s)]


def step(
    name: str,
    few: list[float],
    many: list[float],
    few_used: Usage | Drain | None = None,
    many_used: Usage | Drain | None = None,
) -> list[str]:
    """Return one row: speeds in pairs, and peaks."""
    ratio = statistics.median(b / a for a, b in zip(few, many, strict=True))
    row = [
        name,
        f"{statistics.median(few):,.0f}",
        f"{statistics.median(many):,.0f}",
        f"**{ratio:.2f}**",
        verdict(ratio, SPEED),
    ]
    if few_used is None or many_used is None:
        return [*row, "", "", ""]
    peak_mb = many_used.peak_mb
    return [
        *row,
        f"{few_used.peak_mb:.0f}",
        f"**{peak_mb:.0f}**",
        verdict(peak_mb, PEAK_MB, at_most=True),
    ]


if __name__ == "__main__":
    main()
