"""Looking at an answer before it is judged: is it the JSON that the run expects?

A large one is looked at in a thread, so that the loop goes on sending meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from batchrunner.core.expected import Expected
from batchrunner.engine.live import Claim
from batchrunner.engine.wire import Wire
from batchrunner.models import Reply

__all__ = ["Looked", "look"]

#: Answers over so many bytes are looked at beside the loop.
_LARGE: Final = 16 * 1024


class Looked(NamedTuple):
    """What was seen."""

    #: Why the answer is not what was expected; ``None``: it is, or it is no answer at all.
    unmet: str | None
    #: Whether the sender was cancelled meanwhile; what came is judged all the same.
    cancelled: bool


async def look(wire: Wire, expected: Expected, claim: Claim, reply: Reply) -> Looked:
    """Look at a reply; what is no success is for the rules alone."""
    if reply.fault is not None or reply.status is None or not 200 <= reply.status < 300:
        return Looked(None, False)
    if len(reply.body) <= _LARGE:
        return Looked(_unmet(wire, expected, claim, reply), False)
    looking = asyncio.ensure_future(asyncio.to_thread(_unmet, wire, expected, claim, reply))
    cancelled = False
    while not looking.done():
        try:
            await asyncio.shield(looking)
        except asyncio.CancelledError:
            # It was paid for and is here: it takes milliseconds more to keep it.
            cancelled = True
    return Looked(looking.result(), cancelled)


def _unmet(wire: Wire, expected: Expected, claim: Claim, reply: Reply) -> str | None:
    path = claim.job.url
    text = wire.profile.output_text(reply.body, path)
    return expected.unmet(text, wire.profile.usage(reply.body, path or "").finish_reason)
