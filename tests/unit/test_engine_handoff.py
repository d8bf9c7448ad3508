"""Claims on their way to the senders: in order, none lost, senders sent home when told."""

from __future__ import annotations

import asyncio
from itertools import islice

from batchrunner.engine.handoff import Handoff
from batchrunner.engine.live import Claim
from tests.unit.live_scene import LiveScene, keys


def claims(n: int) -> list[Claim]:
    """Return claims k1, k2 …"""
    scene = LiveScene()
    run = scene.run()
    return [scene.claim(run) for _ in range(n)]


async def test_claims_come_in_order() -> None:
    """Who waits gets the next claim; what is put first comes first."""
    queue, (one, two, three) = Handoff[Claim](), claims(3)
    waiter = asyncio.create_task(queue.take())
    await asyncio.sleep(0)
    for claim in (one, two, three):
        queue.put(claim)
    assert keys([await waiter, await queue.take(), await queue.take()]) == ["k1", "k2", "k3"]
    assert queue.is_empty()


async def test_a_cancelled_taker_loses_no_claim() -> None:
    """A sender that is woken and cancelled at once leaves its claim to the next that waits."""
    queue, (claim,) = Handoff[Claim](), claims(1)
    first, second = (asyncio.create_task(queue.take()) for _ in range(2))
    await asyncio.sleep(0)
    queue.put(claim)
    first.cancel()
    async with asyncio.timeout(5):
        assert await second is claim
    assert first.cancelled()


async def test_dismissed_senders_go_before_they_take_another_claim() -> None:
    """Fewer senders are wanted: those that wait go home, and those that come next, before the claims."""
    queue, many = Handoff[Claim](), claims(2)
    idle = [asyncio.create_task(queue.take()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.dismiss(3)
    async with asyncio.timeout(5):
        assert await asyncio.gather(*idle) == [None, None]
    for claim in many:
        queue.put(claim)
    assert keys([await queue.take() for _ in islice(range(9), 3)]) == [None, "k1", "k2"]


async def test_what_nobody_has_taken_comes_back() -> None:
    """Claims that no sender has taken are given back at a stop."""
    queue, many = Handoff[Claim](), claims(3)
    for claim in many:
        queue.put(claim)
    await queue.take()
    assert keys(queue.take_back()) == ["k2", "k3"]
    assert queue.is_empty()
