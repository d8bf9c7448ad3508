"""One sender: takes a claim, waits for its instant, sends it once, and hands the outcome over.

There are as many as the run's concurrency and never one a job. A sender's slot is free as soon as
the answer is read: it never waits for the commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from batchrunner.clock import Clock
from batchrunner.engine.expecting import look
from batchrunner.engine.gate import Gate
from batchrunner.engine.live import Fate, LiveRun, Outcome
from batchrunner.failpoints import hit
from batchrunner.models import Reply
from batchrunner.transport import Aborted


async def sender(
    run: LiveRun, gate: Gate, clock: Clock, hand_over: Callable[[Outcome], None]
) -> None:
    """Send what the run's queue brings until it brings ``None``.

    Cancelled mid-request it hands over ``interrupted`` (possibly executed), so that no claim is lost.
    """
    queue = run.queue
    while (claim := await queue.take() if queue.is_empty() else queue.take_now()) is not None:
        fate: Fate = "unsent"
        reply: Reply | None = None
        unmet: str | None = None
        cancelled = False
        try:
            is_limited = bool(run.account.limits or claim.lane.pool.limits)
            is_early = claim.grant.instant > clock.now()
            if (is_limited or is_early) and not await gate.approach(claim):
                raise Aborted
            if not is_limited:
                gate.send_now(claim)
            run.in_flight += 1
            try:
                ticket = claim if is_limited else None
                reply = await run.wire.transport.send(claim.request, ticket)
                hit("send.answered")
                fate = "replied"
            finally:
                run.in_flight -= 1
        except Aborted:
            pass
        except asyncio.CancelledError:
            cancelled = True
            fate = "interrupted" if claim.sent_at else "unsent"
        ended_at, ended_wall = clock.now(), int(clock.wall())
        if run.expected is not None and reply is not None:
            unmet, was_cancelled = await look(run.wire, run.expected, claim, reply)
            cancelled = cancelled or was_cancelled
        hand_over(
            Outcome(
                claim=claim,
                fate=fate,
                reply=reply,
                ended_at=ended_at,
                ended_wall=ended_wall,
                unmet=unmet,
            )
        )
        if cancelled:
            raise asyncio.CancelledError
