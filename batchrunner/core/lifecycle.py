"""The life of a job: every transition there is, and what a settled send makes of its job.

``TRANSITIONS`` is the whole machine; what is not in it can't happen. Two counters go with it:
``attempts`` counts charged tries (a completed try is charged too), ``claims`` only grows and is
the fence that keeps a late answer from overwriting a newer one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from batchrunner.models import ErrorKind, JobState, WaitReason


class JobEvent(StrEnum):
    """What can happen to a job."""

    #: The holder took it to send it.
    CLAIM = "claim"
    #: Answered, billed, stored.
    COMPLETE = "complete"
    #: Its own failure, with tries left: waits for its backoff.
    RETRY = "retry"
    #: Its own failure, for good or with no try left.
    FAIL = "fail"
    #: Not its fault (429, day limit, outage, halt, hold, never sent): back, uncharged.
    GIVE_BACK = "give_back"
    #: A second Ctrl-C or a crash: back, uncharged, possibly executed.
    INTERRUPT = "interrupt"
    #: A person gave the run up.
    CANCEL = "cancel"
    #: A person put it back with ``retry`` or a changed line: attempts from 0.
    PUT_BACK = "put_back"


TRANSITIONS: Final[dict[tuple[JobState, JobEvent], JobState]] = {
    (JobState.PENDING, JobEvent.CLAIM): JobState.RUNNING,
    (JobState.PENDING, JobEvent.CANCEL): JobState.CANCELLED,
    (JobState.PENDING, JobEvent.PUT_BACK): JobState.PENDING,
    (JobState.RUNNING, JobEvent.COMPLETE): JobState.COMPLETED,
    (JobState.RUNNING, JobEvent.RETRY): JobState.PENDING,
    (JobState.RUNNING, JobEvent.FAIL): JobState.FAILED,
    (JobState.RUNNING, JobEvent.GIVE_BACK): JobState.PENDING,
    (JobState.RUNNING, JobEvent.INTERRUPT): JobState.PENDING,
    (JobState.FAILED, JobEvent.PUT_BACK): JobState.PENDING,
    (JobState.CANCELLED, JobEvent.PUT_BACK): JobState.PENDING,
}

#: Events that charge an attempt.
CHARGED: Final = frozenset({JobEvent.COMPLETE, JobEvent.RETRY, JobEvent.FAIL})

#: Why a job that was given back waits, told from what its send met; others wait for nothing.
WAIT_REASONS: Final[dict[ErrorKind, WaitReason]] = {
    ErrorKind.RATE_LIMITED: WaitReason.RATE_LIMITED,
    ErrorKind.DAILY_LIMIT: WaitReason.DAILY_LIMIT,
    ErrorKind.SPEND_LIMIT: WaitReason.DAILY_LIMIT,
    ErrorKind.INTERRUPTED: WaitReason.INTERRUPTED,
}


class Step(NamedTuple):
    """What one event makes of a job."""

    state: JobState
    #: Charged tries to add: 0 or 1.
    charged: int
    wait_reason: WaitReason | None


def step(state: JobState, event: JobEvent, kind: ErrorKind | None = None) -> Step:
    """Return what ``event`` makes of a job in ``state``.

    Raises ``KeyError`` for a transition that does not exist: a defect, never a user's fault.
    """
    after = TRANSITIONS[state, event]
    reason = None
    if after is JobState.PENDING:
        if event is JobEvent.RETRY:
            reason = WaitReason.RETRY
        elif event is JobEvent.INTERRUPT:
            reason = WaitReason.INTERRUPTED
        elif event is JobEvent.GIVE_BACK and kind is not None:
            reason = WAIT_REASONS.get(kind)
    return Step(after, int(event in CHARGED), reason)


def after_failure(attempts: int, max_attempts: int) -> JobEvent:
    """Return what a charged failure does to a job that had ``attempts`` charged before it."""
    return JobEvent.RETRY if attempts + 1 < max_attempts else JobEvent.FAIL
