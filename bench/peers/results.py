"""What a tool has on the disk, read as a stranger would, whether it ended or was killed."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from bench.common import RUN, environment
from bench.peers.tools.plan import FAILED, RESULTS, Plan

#: Of batchrunner's database, in the folder of a run.
DATABASE = "batchrunner.db"
_ROOT = Path(__file__).parents[2]


class Kept(NamedTuple):
    """Keys of the jobs that a tool has a result for, and of those it gave up."""

    done: frozenset[str]
    failed: frozenset[str]


def in_lines(plan: Plan) -> Kept:
    """Read the results that a program of ours wrote."""
    return Kept(_keys(plan.folder / RESULTS), _keys(plan.folder / FAILED))


def in_export(plan: Plan) -> Kept:
    """Ask batchrunner itself."""
    if not (database := plan.folder / DATABASE).exists():
        return Kept(frozenset(), frozenset())
    exported = subprocess.run(
        [sys.executable, "-m", "batchrunner", "-q", "export", RUN, "--db", str(database),
         "-f", "csv"],
        env=environment() | {"PYTHONPATH": str(_ROOT)}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(exported)))
    return Kept(
        frozenset(row["key"] for row in rows if row["status"] == "completed"),
        frozenset(row["key"] for row in rows if row["status"] == "failed"),
    )


def in_artifacts(plan: Plan) -> Kept:
    """Read async-batch-llm's store."""
    query = "SELECT item_id FROM item_records WHERE success = 1"
    done = _selected(plan.folder / "artifacts.sqlite", query)
    return Kept(done, _keys(plan.folder / FAILED) - done)


def in_queue(plan: Plan) -> Kept:
    """Read the queue of the SQLAlchemy program."""
    store = plan.folder / "queue.sqlite"
    query = "SELECT key FROM job WHERE status = '{}'"
    return Kept(_selected(store, query.format("done")), _selected(store, query.format("failed")))


def in_cache(plan: Plan) -> Kept:
    """Read curator's responses; a line that the kill tore is no result."""
    done: set[str] = set()
    failed: set[str] = set()
    for path in (plan.folder / "cache").glob("*/responses_*.jsonl"):
        for line in _decoded(path.read_text().splitlines()):
            key = line["generic_request"]["original_row"]["key"]
            (failed if line["response_errors"] else done).add(key)
    return Kept(frozenset(done), frozenset(failed - done))


def _keys(path: Path) -> frozenset[str]:
    if not path.exists():
        return frozenset()
    return frozenset(line["key"] for line in _decoded(path.read_text().splitlines()))


def _decoded(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _selected(path: Path, query: str) -> frozenset[str]:
    if not path.exists():
        return frozenset()
    with closing(sqlite3.connect(path)) as connection:
        return frozenset(key for (key,) in connection.execute(query))
