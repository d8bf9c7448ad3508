"""async-batch-llm with its OpenAI model, bounded queues and its SQLite store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from async_batch_llm import (  # type: ignore[import-not-found]
    OpenAIModel,
    OpenAIStrategy,
    ProcessorConfig,
    ResumePolicy,
    SqliteArtifactStore,
    process_stream,
)

from bench.common import MODEL
from bench.peers.tools.plan import KEY, Plan, told

STORE = "artifacts.sqlite"


async def main(plan: Plan) -> None:
    """Ask for what the store does not have."""
    model = OpenAIModel.from_api_key(
        MODEL,
        KEY,
        base_url=plan.openai_url,
        api_surface="chat_completions",
        extra_body={"max_tokens": 64},
    )
    config = ProcessorConfig(
        concurrency=plan.concurrency,
        max_requests_per_minute=plan.rpm,
        max_queue_size=4 * plan.concurrency,
        max_result_queue_size=4 * plan.concurrency,
    )

    def prompts() -> Iterator[tuple[str, str]]:
        for key, body in plan.bodies():
            yield key, body["messages"][0]["content"]

    async for result in process_stream(
        OpenAIStrategy(model),
        prompts(),
        config=config,
        artifact_store=SqliteArtifactStore(plan.folder / STORE),
        resume=ResumePolicy.REUSE_SUCCESSES,
    ):
        if not result.success:
            plan.give_up(result.item_id, result.error)


if __name__ == "__main__":
    asyncio.run(main(told()))
