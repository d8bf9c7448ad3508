"""OpenAI's SDK in a gather loop, with its own retries as they come (two)."""

from __future__ import annotations

import asyncio
from typing import Any

import openai  # type: ignore[import-not-found]

from bench.peers.tools.gather import gather
from bench.peers.tools.plan import KEY, Plan, told


async def main(plan: Plan) -> None:
    """Ask for every completion."""
    async with openai.AsyncOpenAI(base_url=plan.openai_url, api_key=KEY) as client:

        async def call(body: dict[str, Any]) -> Any:
            return (await client.chat.completions.create(**body)).model_dump()

        await gather(plan, call, openai.OpenAIError)


if __name__ == "__main__":
    asyncio.run(main(told()))
