"""Anthropic's SDK in a gather loop, with its own retries as they come (two)."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic  # type: ignore[import-not-found]

from bench.peers.tools.gather import gather
from bench.peers.tools.plan import KEY, Plan, told


async def main(plan: Plan) -> None:
    """Ask for every message."""
    async with anthropic.AsyncAnthropic(base_url=plan.url, api_key=KEY) as client:

        async def call(body: dict[str, Any]) -> Any:
            return (await client.messages.create(**body)).model_dump()

        await gather(plan, call, anthropic.AnthropicError)


if __name__ == "__main__":
    asyncio.run(main(told()))
