"""How fast a file is checked and stored on a PostgreSQL server, beside a bare asyncpg COPY.

    python -m bench.submit_postgres [--jobs N] [--pairs N]

Starts a server of its own (the system's, or a wheel's), with its commits on the disk. Both read the
same 1 kB lines into the same two tables with the same indexes, in turns, each as a process of its own
from start to end. The time of the same process on one line (imports, connecting, and ours makes the
schema) is taken off each.
"""

from __future__ import annotations

import argparse
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
    verdict,
    write_jobs,
)
from tests.fakes.postgres_server import PostgresServer, programs, running_postgres

BAR = 0.8
OURS = "ours"
KINDS = {
    OURS: "batchrunner submit --no-run",
    "copy": "asyncpg's copy_records_to_table, one transaction",
}


def measure(server: PostgresServer, jobs: Path, kind: str) -> Usage:
    """Store the file once, in a schema of its own."""
    server.execute("DROP SCHEMA IF EXISTS bench CASCADE")
    db = server.url("bench")
    submit = ("submit", "--no-run", "--provider", "openai", "--db", db)
    if kind == OURS:
        server.execute("CHECKPOINT")
        return batchrunner(*submit, str(jobs))
    # The schema as ours makes it, without what made it.
    one = write_jobs(jobs.with_name("made.jsonl"), 1)
    batchrunner(*submit, str(one))
    for table in ("run", "model", "process"):
        server.execute(f"DELETE FROM bench.{table}")
    server.execute("CHECKPOINT")
    return run_process(
        ["-m", "bench.raw_copy", str(jobs), str(server.port), "bench"],
        env=environment() | {"PYTHONPATH": str(Path.cwd())},
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.submit_postgres", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--jobs", type=int, default=100_000, help="lines (default: 100000)")
    parser.add_argument("--size", type=int, default=1024, help="bytes a line (default: 1024)")
    parser.add_argument("--pairs", type=int, default=3, help="rounds (default: 3)")
    given = parser.parse_args()
    binaries = programs()
    if binaries is None:
        parser.error("no PostgreSQL on this machine: install it, or pip install pgserver")
    print_machine()
    with (
        tempfile.TemporaryDirectory(prefix="bench-submit-") as name,
        running_postgres(binaries) as server,
    ):
        server.execute("ALTER SYSTEM SET fsync = on")
        server.execute("SELECT pg_reload_conf()")
        jobs = write_jobs(Path(name) / "jobs.jsonl", given.jobs, given.size)
        one = write_jobs(Path(name) / "one.jsonl", 1, given.size)
        start = {
            kind: statistics.median(measure(server, one, kind).wall_s for _ in range(3))
            for kind in KINDS
        }
        took: dict[str, list[Usage]] = {kind: [] for kind in KINDS}
        for _ in range(given.pairs):
            for kind in KINDS:
                took[kind].append(measure(server, jobs, kind))
                print(f"{kind}: {took[kind][-1].wall_s:.2f} s", file=sys.stderr)
    net = {kind: [use.wall_s - start[kind] for use in took[kind]] for kind in KINDS}
    table = []
    for kind, what in KINDS.items():
        ratios = [raw / ours for raw, ours in zip(net[kind], net[OURS], strict=True)]
        ratio = statistics.median(ratios)
        cpu = statistics.median(use.cpu_s for use in took[kind])
        table.append(
            [
                what,
                f"{statistics.median(use.wall_s for use in took[kind]):.2f}",
                f"{start[kind]:.2f}",
                f"{given.jobs / statistics.median(net[kind]):,.0f}",
                "" if kind == OURS else f"**{ratio:.2f}** ({min(ratios):.2f} to {max(ratios):.2f})",
                "" if kind == OURS else verdict(ratio, BAR),
                f"{cpu / given.jobs * 1e6:.1f}",
                f"{max(use.peak_mb for use in took[kind]):.0f}",
            ]
        )
    print_table(
        ["what", "s, whole process", "s of these for one line", "lines a second",
         "batchrunner's share of it (range)", "bar", "our CPU µs a line, start included", "peak MB"],
        table,
    )  # fmt: skip


if __name__ == "__main__":
    main()
