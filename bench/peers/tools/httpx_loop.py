"""httpx's client in a gather loop: no retries, no limits, results in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx  # type: ignore[import-not-found]

from bench.peers.tools.gather import gather
from bench.peers.tools.plan import KEY, Plan, told


async def main(plan: Plan) -> None:
    """Post every job once."""
    # By default it waits 5 s at most, and keeps 20 connections of however many it opens.
    timeout = httpx.Timeout(600, connect=30)
    n = plan.concurrency
    limits = httpx.Limits(max_connections=n, max_keepalive_connections=n)
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(timeout=timeout, limits=limits, headers=headers) as client:

        async def call(body: dict[str, Any]) -> Any:
            response = await client.post(f"{plan.openai_url}/chat/completions", json=body)
            return response.raise_for_status().json()

        await gather(plan, call, httpx.HTTPError)


if __name__ == "__main__":
    asyncio.run(main(told()))
