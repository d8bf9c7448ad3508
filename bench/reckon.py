"""What a million jobs are to a PostgreSQL: bytes by table and index, WAL, dead rows, vacuum.

    python -m bench.reckon [--jobs N] [--drain N] [--workers N]

Submits the jobs (COPY), drains some of them by workers against a canned nginx, and asks the server's
own statistics before, between and after; then vacuums by hand, table by table, with the time that takes.
The server syncs its commits and has its own defaults but for what the program asks for of its tables.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from bench.common import (
    RUN,
    batchrunner,
    environment,
    nginx,
    print_machine,
    print_table,
    write_jobs,
)
from tests.fakes.postgres_server import PostgresServer, programs, running_postgres

_TABLES = ("job", "payload", "response", "send", "usage_slot", "run", "scope", "meta", "process")
_SIZES = """
    SELECT c.relname, CASE c.relkind WHEN 'i' THEN 'index' ELSE 'table' END,
           CASE c.relkind WHEN 'i' THEN pg_relation_size(c.oid) ELSE pg_table_size(c.oid) END
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'jobs' AND c.relkind IN ('r', 'i')"""
_ROWS = """
    SELECT relname, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_dead_tup, autovacuum_count, autoanalyze_count
    FROM pg_stat_user_tables WHERE schemaname = 'jobs'"""


class Rows(NamedTuple):
    """What the statistics say of a table."""

    inserted: int
    updated: int
    hot: int
    dead: int
    vacuumed: int
    analyzed: int


class Look(NamedTuple):
    """The server at one instant."""

    wal: int
    sizes: Mapping[str, int]
    rows: Mapping[str, Rows]
    kinds: Mapping[str, str]


def look(server: PostgresServer) -> Look:
    """Ask for everything, the statistics of just now included."""
    server.execute("SELECT pg_stat_clear_snapshot()")
    ((wal,),) = server.execute("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint")
    sizes = server.execute(_SIZES)
    return Look(
        wal,
        {name: size for name, _, size in sizes},
        {name: Rows(*rest) for name, *rest in server.execute(_ROWS)},
        {name: kind for name, kind, _ in sizes},
    )


def drain(server: PostgresServer, folder: Path, place: str, n_jobs: int, n_workers: int) -> float:
    """Have workers drain until so many are completed; return the seconds."""
    with nginx(folder) as canned:
        env = environment(canned.url) | {"BATCHRUNNER_DB": place}
        began = time.monotonic()
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "batchrunner", "-q", "worker", "--until-done"],
                env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder,
            )
            for _ in range(n_workers)
        ]  # fmt: skip
        while server.execute("SELECT n_completed FROM jobs.run")[0][0] < n_jobs:
            if any(worker.poll() for worker in workers):
                raise RuntimeError("a worker ended by itself")
            time.sleep(0.25)
        took = time.monotonic() - began
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
            worker.wait(60)
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.reckon", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--jobs", type=int, default=1_000_000, help="default: 1000000")
    parser.add_argument("--drain", type=int, default=200_000, help="of them (default: 200000)")
    parser.add_argument("--workers", type=int, default=2, help="default: 2")
    parser.add_argument("--size", type=int, default=1024, help="bytes a line (default: 1024)")
    given = parser.parse_args()
    binaries = programs()
    if binaries is None:
        sys.exit("There is no PostgreSQL on this machine: install it, or `pip install pgserver`.")
    print_machine("asyncpg")
    with (
        tempfile.TemporaryDirectory(prefix="bench-reckon-") as name,
        running_postgres(binaries, settings="fsync = on\nshared_buffers = 128MB") as server,
    ):
        folder = Path(name)
        jobs = write_jobs(folder / "jobs.jsonl", given.jobs, given.size)
        place = server.url("jobs")
        empty = int(server.execute("SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint")[0][0])
        used = batchrunner(
            "submit", str(jobs), "--no-run", "--provider", "openai", "--name", RUN,
            "--db", place, "--rpm", "none", "-c", "100",
        )  # fmt: skip
        stored = look(server)
        n_drained = given.drain
        took = drain(server, folder / "nginx", place, n_drained, given.workers)
        ((n_drained,),) = server.execute("SELECT n_completed FROM jobs.run")
        time.sleep(2.0)  # the statistics of sessions that ended arrive
        drained = look(server)
        print(
            f"submit: {used.wall_s:.0f} s, {given.jobs / used.wall_s:,.0f} a second,"
            f" {(stored.wal - empty) / given.jobs:,.0f} bytes of WAL a job\n\n"
            f"drain of {n_drained:,} by {given.workers} workers: {n_drained / took:,.0f} a second with their"
            f" start, {(drained.wal - stored.wal) / n_drained:,.0f} bytes of WAL a job\n"
        )
        vacuums = {table: vacuum(server, table) for table in _TABLES}
        after = look(server)
        print_table(
            ["table or index", "bytes a job, stored", "after the drain", "after vacuum"],
            [
                [
                    one,
                    f"{stored.sizes.get(one, 0) / given.jobs:,.1f}",
                    f"{drained.sizes[one] / given.jobs:,.1f}",
                    f"{after.sizes[one] / given.jobs:,.1f}",
                ]
                for one in sorted(drained.sizes, key=lambda one: -drained.sizes[one])
                if drained.sizes[one] > given.jobs
            ],
        )
        print_table(
            ["table", "inserts a drained job", "updates", "of them HOT", "dead rows at the end",
             "autovacuums", "autoanalyzes", "VACUUM, s"],
            [
                [
                    table,
                    f"{(rows.inserted - stored.rows[table].inserted) / n_drained:.2f}",
                    f"{(n := rows.updated - stored.rows[table].updated) / n_drained:.2f}",
                    f"{(rows.hot - stored.rows[table].hot) / n:.0%}" if n else "",
                    f"{rows.dead:,}",
                    str(rows.vacuumed),
                    str(rows.analyzed),
                    f"{vacuums[table]:.1f}",
                ]
                for table, rows in ((table, drained.rows[table]) for table in _TABLES)
            ],
        )  # fmt: skip


def vacuum(server: PostgresServer, table: str) -> float:
    """Vacuum a table and return the seconds."""
    began = time.monotonic()
    server.execute(f"VACUUM jobs.{table}")
    return time.monotonic() - began


if __name__ == "__main__":
    main()
