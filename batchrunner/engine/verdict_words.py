"""What a verdict says to a person: why it stops or waits, and what helps."""

from __future__ import annotations

from typing import Final

import msgspec

from batchrunner.core.admission import Limit
from batchrunner.core.caps import WORDS
from batchrunner.core.outage import FAULTS
from batchrunner.core.outcomes import SAME_ERROR_JOBS
from batchrunner.core.said import with_used_up
from batchrunner.engine.live import Claim, LiveRun, Outcome
from batchrunner.models import Decision, ErrorKind, Verdict, Waiting, WaitingReason
from batchrunner.providers.fixes import SHORTEN
from batchrunner.store.stops import Alike

__all__ = [
    "ASK_PLAINLY",
    "TOO_LARGE_REFUSALS",
    "all_alike",
    "fix_of_all",
    "stop_alike",
    "too_large",
    "words_of",
]

#: A job larger than a whole token limit, sent when nothing else counts, and refused so often will
#: never be taken.
TOO_LARGE_REFUSALS: Final = 2
#: Failures that no change of the requests mends.
_NOT_THE_REQUESTS: Final = frozenset({*FAULTS, ErrorKind.BAD_RESPONSE})
#: What helps where answers are not the JSON that the run expects.
ASK_PLAINLY: Final = (
    "see an answer with batchrunner show; ask more plainly for JSON (--set), or correct what is"
    " expected"
)


def all_alike(decision: Decision, status: int | None, run: str) -> Waiting:
    """Return the stop of a run whose first jobs all ended alike."""
    http = f", HTTP {status}" if status else ""
    return Waiting(
        reason=WaitingReason.SAME_ERROR,
        until=None,
        detail=f"the first {SAME_ERROR_JOBS} jobs all failed alike ({decision.kind}{http}): {decision.message}",
        fix=fix_of_all(decision, run),
    )


def stop_alike(run: LiveRun, failed: Alike) -> None:
    """Stop a run whose first jobs all ended alike at several workers; they are put back."""
    kind = ErrorKind(failed.kind)
    decision = Decision(verdict=Verdict.FAIL_JOB, kind=kind, message=failed.message)
    run.first_failures = dict.fromkeys(failed.jobs, (kind, failed.http_status))
    run.stop = all_alike(decision, failed.http_status, run.typed_name)


def fix_of_all(decision: Decision, run: str) -> str:
    """Return what helps where all jobs failed alike."""
    resume = f"batchrunner resume {run}"
    if decision.fix is ASK_PLAINLY:
        return f"{ASK_PLAINLY}: {resume} --expect-json SCHEMA"
    if decision.meant_base:
        return f"correct the base URL: {resume} --base-url {decision.meant_base}"
    if decision.kind in _NOT_THE_REQUESTS:
        return f"check the base URL and what answers there, then: {resume}"
    return (
        "mend what they share (a wrong field can be replaced with --set FIELD=VALUE), then:"
        f" {resume}"
    )


def words_of(outcome: Outcome, decision: Decision) -> str:
    """Return what a pause is for, the tokens or requests that ran out included."""
    assert outcome.reply is not None
    return with_used_up(decision.message, outcome.reply.headers, at_wall=outcome.ended_wall)


def too_large(claim: Claim, decision: Decision, limit: Limit) -> Decision:
    """Return the failure of a job that no waiting can help."""
    tokens = sum(claim.grant.charge)
    return msgspec.structs.replace(
        decision,
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.REQUEST_TOO_LARGE,
        message=(
            f"the request takes about {tokens:,} tokens, more than the limit of {limit.n:,.0f}"
            f" {WORDS[limit.name]}; it was sent alone and refused {TOO_LARGE_REFUSALS} times:"
            f" {decision.message}"
        )[:500],
        fix=SHORTEN,
    )
