"""The tokens of a send, by what came back: as they were reserved, as the answer says, or none."""

from __future__ import annotations

from typing import Final

from batchrunner.core.admission import Ledger
from batchrunner.core.counting import NO_TOKENS, after_answer
from batchrunner.engine.live import Outcome
from batchrunner.engine.token_estimates import TokenEstimates
from batchrunner.models import Decision

__all__ = ["count_tokens"]

#: Statuses with which a provider refuses a request that no model has read.
_UNREAD: Final = frozenset(range(400, 500)) - {408, 499}


def count_tokens(
    outcome: Outcome, decision: Decision, ledger: Ledger, tokens: TokenEstimates
) -> None:
    """Have the send count the tokens it took, in place of what was reserved for it."""
    claim, reply = outcome.claim, outcome.reply
    counting, reserved = claim.run.wire.counting, claim.grant.charge
    usage = decision.usage
    if usage is not None and usage.input_tokens is not None:
        took = after_answer(
            reserved,
            counting,
            input=usage.input_tokens,
            output=usage.output_tokens or 0,
            cached=usage.cache_read_tokens or 0,
            model=claim.lane.model,
        )
        tokens.learn(
            claim.job.job_id,
            claim.lane.model,
            claim.request.body,
            usage,
            now=outcome.ended_at,
            is_asked=reserved != NO_TOKENS,
        )
    elif reply is not None and reply.status in _UNREAD and not counting.refused:
        took = NO_TOKENS
    else:
        # It may have been executed: what was reserved stays.
        return
    ledger.correct(claim.grant, took)
    claim.grant = claim.grant._replace(charge=took)
