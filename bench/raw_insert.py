"""What a submit is measured against: the same lines into the same tables with ``executemany``.

    python -m bench.raw_insert JOBS DB same|plain|unindexed

Each line is parsed with ``json.loads`` for its key and body; the body stored is that object written
with ``json.dumps``. Nothing is checked, no digest made, no line remembered. One transaction.
``same`` has our connections' settings, ``plain`` those of a bare ``sqlite3.connect``; ``unindexed``
is ``same`` without the indexes and the UNIQUE key of the jobs.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from batchrunner.store.sqlite.connecting import PRAGMAS

_CHUNK = 5_000
_INDEXES = ("job_fresh", "job_due", "job_running", "job_failed")
_UNIQUE = "UNIQUE (run_id, key),"


def rows(jobs: Path) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Yield each line's row of ``job`` and of ``payload``."""
    base = 1 << 32
    with jobs.open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            line = json.loads(raw)
            body = json.dumps(line["body"]).encode()
            yield (
                (base + number, 1, line["custom_id"], 1),
                (base + number, "url", None, None, None, body, None),
            )


def drop_indexes(connection: sqlite3.Connection) -> None:
    """Leave the jobs without an index but their primary key."""
    for name in _INDEXES:
        connection.execute(f"DROP INDEX {name}")
    (made,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'job'").fetchone()
    if _UNIQUE not in made:
        raise RuntimeError("the schema has changed; look at bench/raw_insert.py")
    connection.execute("DROP TABLE job")
    connection.execute(made.replace(_UNIQUE, ""))


def insert(connection: sqlite3.Connection, jobs: Path) -> None:
    """Insert everything in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO model (id, name) VALUES (1, 'm')")
    connection.execute(
        "INSERT INTO run (id, uid, name, state, provider, created_at)"
        " VALUES (1, 'u', 'bench', 'ready', 'openai', 0)"
    )
    reading = rows(jobs)
    while chunk := list(islice(reading, _CHUNK)):
        connection.executemany(
            "INSERT INTO job (id, run_id, key, model_id) VALUES (?, ?, ?, ?)",
            [job for job, _ in chunk],
        )
        connection.executemany(
            "INSERT INTO payload (job_id, shape, method, url, headers, body, metadata)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [payload for _, payload in chunk],
        )
    connection.execute("COMMIT")


def main() -> None:
    """Store a file in a database that has the schema and nothing in it."""
    jobs, db, how = sys.argv[1:]
    connection = sqlite3.connect(db, isolation_level=None)
    if how != "plain":
        for name, value in PRAGMAS:
            connection.execute(f"PRAGMA {name} = {value}")
    if how == "unindexed":
        connection.execute("PRAGMA foreign_keys = OFF")
        drop_indexes(connection)
        connection.execute("PRAGMA foreign_keys = ON")
    insert(connection, Path(jobs))
    connection.close()


if __name__ == "__main__":
    main()
