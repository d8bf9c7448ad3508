"""One sender: takes a claim, waits for its instant, sends it once, and hands the outcome over.

There are as many as the run's concurrency and never one a job. A sender's slot is free as soon as
the answer is read: it never waits for the commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from batchrunner.clock import Clock
from batchrunner.engine.gate import Gate
from batchrunner.engine.live import Claim, Fate, LiveRun, Outcome
from batchrunner.failpoints import hit
from batchrunner.models import Reply
from batchrunner.transport import Aborted


async def sender(
    run: LiveRun, gate: Gate, clock: Clock, hand_over: Callable[[Outcome], None]
) -> None:
    """Send what the run's queue brings until it brings ``None``.

    Cancelled mid-request it hands over ``interrupted`` (possibly executed), so that no claim is lost.
    """
    while (claim := await run.queue.get()) is not None:
        fate: Fate = "unsent"
        reply: Reply | None = None
        cancelled = False
        try:
            if await gate.approach(claim):
                run.in_flight += 1
                try:
                    reply = await _send(claim, gate)
                    fate = "replied"
                    hit("send.answered")
                finally:
                    run.in_flight -= 1
        except Aborted:
            pass
        except asyncio.CancelledError:
            cancelled = True
            fate = "interrupted" if claim.sent_at else "unsent"
        hand_over(
            Outcome(
                claim=claim,
                fate=fate,
                reply=reply,
                ended_at=clock.now(),
                ended_wall=int(clock.wall()),
            )
        )
        if cancelled:
            raise asyncio.CancelledError


async def _send(claim: Claim, gate: Gate) -> Reply:
    transport = claim.run.wire.transport
    if claim.run.account.limits or claim.lane.pool.limits:
        return await transport.send(claim.request, claim)
    gate.unlimited_send(claim)
    return await transport.send(claim.request, None)
