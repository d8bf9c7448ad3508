"""The loop that everybody writes: a task a job, a semaphore, ``asyncio.gather``, saved at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from bench.peers.tools.plan import Plan

#: Sends one body and returns the answer, or raises.
Call = Callable[[dict[str, Any]], Awaitable[Any]]


async def gather(plan: Plan, call: Call, given_up: type[Exception]) -> None:
    """Call for every job; one that raises ``given_up`` is noted, and has no result."""
    results: dict[str, Any] = {}
    semaphore = asyncio.Semaphore(plan.concurrency)

    async def work(key: str, body: dict[str, Any]) -> None:
        async with semaphore:
            try:
                results[key] = await call(body)
            except given_up as error:
                plan.give_up(key, error)

    await asyncio.gather(*(work(key, body) for key, body in plan.bodies()))
    plan.save(results)
