"""What a drain is measured against: so many tasks that post and read, and nothing else.

    python -m bench.bare JOBS URL CONCURRENCY LOOP

No limits, no retries, nothing stored, the answer not even decoded. The bodies are in memory before
the first request goes out.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import aiohttp

from bench.common import API_KEY


async def drain(bodies: list[bytes], url: str, concurrency: int) -> None:
    """Post every body once."""
    waiting: Iterator[bytes] = iter(bodies)
    headers = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def work() -> None:
            for body in waiting:
                async with session.post(url, data=body, headers=headers) as response:
                    await response.read()
                    if response.status != 200:
                        raise RuntimeError(f"{url} answered {response.status}")

        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())


def main() -> None:
    """Read the bodies, then post them."""
    jobs, url, concurrency, loop = sys.argv[1:]
    with Path(jobs).open("rb") as lines:
        bodies = [json.dumps(json.loads(line)["body"]).encode() for line in lines]
    factory = import_module("uvloop").new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(drain(bodies, f"{url}/v1/chat/completions", int(concurrency)))


if __name__ == "__main__":
    main()
