"""What a submit on PostgreSQL is measured against: the same lines into the same tables by COPY.

    python -m bench.raw_copy JOBS PORT SCHEMA

Each line is parsed and its body written as in :mod:`bench.raw_insert`; nothing is checked. One
transaction, so that its one commit is on the disk at the end.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import islice
from pathlib import Path

import asyncpg

from bench.raw_insert import rows

_CHUNK = 5_000
_JOB = ("id", "run_id", "key", "model_id")
_PAYLOAD = ("job_id", "shape", "method", "url", "headers", "body", "metadata")


async def insert(jobs: Path, port: int, schema: str) -> None:
    """Insert everything in one transaction."""
    connection = await asyncpg.connect(
        host="127.0.0.1", port=port, user="tester", database="postgres",
        server_settings={"search_path": schema, "jit": "off"},
    )  # fmt: skip
    async with connection.transaction():
        await connection.execute("INSERT INTO model (id, name) VALUES (1, 'm')")
        await connection.execute(
            "INSERT INTO run (id, uid, name, state, provider, created_at)"
            " VALUES (1, 'u', 'bench', 'ready', 'openai', 0)"
        )
        reading = rows(jobs)
        while chunk := list(islice(reading, _CHUNK)):
            await connection.copy_records_to_table(
                "job", records=[job for job, _ in chunk], columns=_JOB
            )
            await connection.copy_records_to_table(
                "payload", records=[payload for _, payload in chunk], columns=_PAYLOAD
            )
    await connection.close()


def main() -> None:
    """Store a file in a schema that has the tables and nothing in them."""
    jobs, port, schema = sys.argv[1:]
    asyncio.run(insert(Path(jobs), int(port), schema))


if __name__ == "__main__":
    main()
