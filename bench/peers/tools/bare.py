"""aiohttp, and nothing else: no retries, no limits, results in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from bench.peers.tools.gather import gather
from bench.peers.tools.plan import KEY, Plan, told


async def main(plan: Plan) -> None:
    """Post every job once."""
    connector = aiohttp.TCPConnector(limit=plan.concurrency)
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def call(body: dict[str, Any]) -> Any:
            url = f"{plan.openai_url}/chat/completions"
            async with session.post(url, json=body, raise_for_status=True) as response:
                return await response.json()

        await gather(plan, call, aiohttp.ClientError)


if __name__ == "__main__":
    asyncio.run(main(told()))
