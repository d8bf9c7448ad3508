"""Every named point, the first time it is passed, the second, the third …: ``python -m tests.crash.loop``.

Each story is played anew with each of its points and n = 1, 2, 3 … until nothing dies any more, or
``--most`` is reached. The end of each is judged; the exit code is 1 where anything is wrong.
``--db-server`` has the databases on a PostgreSQL of its own, and plays the stories of workers too.
"""

from __future__ import annotations

import argparse
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from batchrunner.errors import BatchrunnerError
from tests.crash.judge import Judge
from tests.crash.scene import Scene
from tests.crash.served import a_server, served
from tests.crash.stories import STORIES, Database
from tests.fakes import running_server
from tests.fakes.postgres_server import PostgresServer

__all__ = ["SERVERS", "Verdict", "play"]

#: What the provider is like. All answer after some 15 ms, so that requests overlap.
SERVERS: dict[str, dict[str, Any]] = {
    "calm": {"latency_s": 0.015},
    "faulty": {
        "latency_s": 0.015, "rate_429": 0.05, "rate_529": 0.05, "rate_500": 0.05,
        "rate_reset": 0.05, "retry_after_s": 1, "max_faults": 1,
    },
}  # fmt: skip


class Verdict(NamedTuple):
    """How one story with one point ended."""

    died: bool
    problems: list[str]


def play(
    story: str,
    point: str,
    folder: Path,
    *,
    server: str = "calm",
    seed: int = 0,
    options: Sequence[str] = (),
    limits: Sequence[tuple[int, float]] = (),
    n_jobs: int | None = None,
    on: PostgresServer | None = None,
) -> Verdict:
    """Play a story in an empty folder and judge it; its database is a file there, or ``on`` a server."""
    told = STORIES[story]
    with ExitStack() as stack:
        api = stack.enter_context(running_server(seed=seed, **SERVERS[server]))
        fields: dict[str, Any] = {
            "folder": folder, "api": api, "n_jobs": n_jobs or told.n_jobs, "options": options,
            "limits": limits,
        }  # fmt: skip
        scene = Scene(**fields) if on is None else stack.enter_context(served(on, **fields))
        judge = Judge(scene)
        died = told.play(scene, judge, point)
        return Verdict(died, judge.problems)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--story", action="append", choices=STORIES, help="only these")
    parser.add_argument("--point", action="append", help="only these")
    parser.add_argument("--most", type=int, default=6, help="largest n [6]")
    parser.add_argument("--server", choices=SERVERS, default="calm")
    parser.add_argument("--seed", type=int, default=0, help="of the server's faults [0]")
    parser.add_argument("--workers", type=int, default=2, help="points at a time [2]")
    parser.add_argument(
        "--db-server", action="store_true", help="databases on a PostgreSQL, not in files"
    )
    args = parser.parse_args()
    began = time.monotonic()
    database: Database = "server" if args.db_server else "file"
    tasks = [
        (story, point)
        for story in args.story or STORIES
        if database in STORIES[story].on
        for point in STORIES[story].points_on(database)
        if not args.point or point in args.point
    ]
    n_bad = n_deaths = 0
    with ExitStack() as stack:
        on = stack.enter_context(a_server()) if args.db_server else None
        pool = stack.enter_context(ThreadPoolExecutor(args.workers))
        for lines, deaths, bad in pool.map(lambda task: _climb(*task, args, on), tasks):
            print(*lines, sep="\n", flush=True)
            n_deaths += deaths
            n_bad += bad
    print(f"{n_deaths} deaths, {n_bad} with problems, in {time.monotonic() - began:.0f} s")
    return 1 if n_bad else 0


def _climb(
    story: str, name: str, args: argparse.Namespace, on: PostgresServer | None
) -> tuple[list[str], int, int]:
    lines: list[str] = []
    n_deaths = n_bad = 0
    for n, verdict in _verdicts(story, name, args, on):
        n_deaths += verdict.died
        n_bad += bool(verdict.problems)
        word = "died" if verdict.died else "lived"
        lines.append(f"{story:8} {name}:{n} {word}" + (" BAD" if verdict.problems else ""))
        lines += [f"    {problem}" for problem in verdict.problems]
    if not n_deaths:
        lines.append(f"{story:8} {name} was never passed BAD")
        n_bad += 1
    return lines, n_deaths, n_bad


def _verdicts(
    story: str, name: str, args: argparse.Namespace, on: PostgresServer | None
) -> Iterator[tuple[int, Verdict]]:
    for n in range(1, args.most + 1):
        folder = Path(tempfile.mkdtemp(prefix="crash-"))
        try:
            verdict = play(story, f"{name}:{n}", folder, server=args.server, seed=args.seed, on=on)
        except (AssertionError, sqlite3.Error, BatchrunnerError) as error:
            verdict = Verdict(True, [f"{type(error).__name__}: {error}"])
        if verdict.problems:
            verdict.problems.append(f"kept: {folder}")
        else:
            shutil.rmtree(folder)
        yield n, verdict
        if not verdict.died:
            return


if __name__ == "__main__":
    sys.exit(main())
