"""The row that stores what became of a claim: made of the outcome, the step it is and the decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from batchrunner.core.lifecycle import JobEvent, step
from batchrunner.core.outage import FAULTS
from batchrunner.engine.live import Outcome
from batchrunner.models import Decision, ErrorKind, JobState
from batchrunner.store.records import Settle

__all__ = ["given_back_as", "settle_of"]


#: The send log's word for what is given back, by kind; ``halted`` for the rest.
_GIVEN_BACK: Final[Mapping[ErrorKind, str]] = {
    ErrorKind.RATE_LIMITED: "rate_limited",
    ErrorKind.DAILY_LIMIT: "daily_limit",
    ErrorKind.SPEND_LIMIT: "daily_limit",
    ErrorKind.INTERRUPTED: "interrupted",
    ErrorKind.MODEL_NOT_FOUND: "held",
}


class _Words(NamedTuple):
    """A step in the words that are stored."""

    state: str
    charged: int
    wait_reason: str | None


def _words(event: JobEvent, kind: ErrorKind | None = None) -> _Words:
    after = step(JobState.RUNNING, event, kind)
    return _Words(
        after.state.value, after.charged, after.wait_reason.value if after.wait_reason else None
    )


_FINAL: Final = frozenset({JobState.COMPLETED.value, JobState.FAILED.value})
#: Steps of sends that met no failure, looked up for each of them.
_STEPS: Final = {event: _words(event) for event in (JobEvent.COMPLETE, JobEvent.GIVE_BACK)}


def given_back_as(kind: ErrorKind | None) -> str:
    """Return the send log's word for a send whose job goes back uncharged."""
    word = "outage" if kind in FAULTS else "halted"
    return word if kind is None else _GIVEN_BACK.get(kind, word)


def settle_of(
    outcome: Outcome,
    event: JobEvent,
    decision: Decision | None,
    *,
    outcome_word: str | None,
    not_before: int = 0,
    maybe_executed: bool = False,
) -> Settle:
    """Return it, for the next cycle.

    Args:
        outcome: what became of the claim.
        event: the step of the job's life that it is.
        decision: what the reply means; ``None``: nothing was sent.
        outcome_word: the send log's word; ``None``: no row of it.
        not_before: when the job may go again (steady ms); 0: at once.
        maybe_executed: the provider may have worked for it.
    """
    claim, reply = outcome.claim, outcome.reply
    run, job = claim.run, claim.job
    kind = decision.kind if decision else None
    after = _STEPS[event] if kind is None else _words(event, kind)
    if run.is_sample and after.state == JobState.PENDING.value:
        # What comes back stays one of the sample.
        not_before = max(1, not_before)
    row = Settle(
        job_id=job.job_id,
        key=job.key,
        attempts=job.attempts + after.charged,
        started_at=job.started_at or claim.sent_wall or None,
        claim=job.claim,
        run_id=run.row.id,
        model_id=claim.lane.model_id,
        account_id=run.account.id,
        pool_id=claim.lane.pool.id,
        planned_at=int(claim.grant.instant),
        state=after.state,
        charged=after.charged,
        not_before=not_before,
        wait_reason=after.wait_reason,
        # Only final states have one; the cycle that stores it says when.
        finished_at=outcome.ended_wall if after.state in _FINAL else None,
        outcome=outcome_word,
        sent_at=claim.sent_wall or None,
        ended_at=outcome.ended_wall,
        maybe_executed=maybe_executed,
    )
    if maybe_executed:
        row.request = job.body
    if decision is None:
        return row
    if kind is not None:
        row.kind = kind.value
        row.message = decision.message
        if after.charged:
            row.error_kind = kind.value
    if reply is not None:
        row.http_status = reply.status
        row.request_id = run.wire.request_id(reply)
        if reply.fault is not None:
            row.maybe_executed = reply.fault.maybe_executed and bool(claim.sent_at)
            row.request = job.body if row.maybe_executed else None
        if claim.sent_at:
            row.latency_ms = round(outcome.ended_at - claim.sent_at)
        if after.charged:
            row.is_attempt = True
            row.body = reply.body or None
    if (usage := decision.usage) is not None:
        row.model = usage.model
        row.finish_reason = usage.finish_reason
        row.input_tokens = usage.input_tokens
        row.output_tokens = usage.output_tokens
        row.usage = usage
    return row
