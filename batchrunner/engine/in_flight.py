"""What outcomes tell of how many requests may be in flight (:mod:`batchrunner.core.adaptive`)."""

from __future__ import annotations

from typing import Final

from batchrunner.core.adaptive import START
from batchrunner.core.outage import FAULTS
from batchrunner.core.pause import PauseState, remaining_ms
from batchrunner.engine.live import Claim, Outcome
from batchrunner.models import Decision, ErrorKind

#: Failures that fewer requests in flight may mend.
_OF_LOAD: Final = frozenset(FAULTS) - {ErrorKind.DNS}
#: A limit of which at most so much is left explains a 429.
_NEARLY: Final = 0.1


def served(outcome: Outcome) -> None:
    """Note how long an answer took, and have more in flight where that helps."""
    claim = outcome.claim
    run = claim.run
    latency, seen = outcome.ended_at - claim.sent_at, run.latency_ms
    run.latency_ms = latency if seen is None else 0.9 * seen + 0.1 * latency
    if not run.adaptive.is_settled:
        run.adaptive.answered(
            outcome.ended_at,
            sent_at=claim.sent_at,
            n_answered=run.successes,
            is_full=run.is_full,
        )


def failed(outcome: Outcome, decision: Decision) -> None:
    """Have fewer in flight where the load may be what a request met."""
    if decision.kind in _OF_LOAD:
        _lower(outcome)


def refused(outcome: Outcome, decision: Decision, pause: PauseState, *, wall: float) -> None:
    """Have fewer in flight after a 429 that no limit explains; each stops everybody for the pause's length."""
    if not _is_explained(outcome.claim, decision, now=outcome.ended_at, wall=wall):
        stops_ms = remaining_ms(pause, now=outcome.ended_at, wall=outcome.ended_wall)
        _lower(outcome, stops_ms=max(1.0, stops_ms))


def _lower(outcome: Outcome, *, stops_ms: float = 0.0) -> None:
    run = outcome.claim.run
    since, sent_at = run.streak.since, outcome.claim.sent_at or outcome.ended_at
    if since is not None and sent_at >= since:
        # A probe of an outage tells nothing of the load.
        return
    if run.adaptive.troubled(
        sent_at=sent_at, now=outcome.ended_at, n_answered=run.successes, stops_ms=stops_ms
    ):
        run.send_home()


def _is_explained(claim: Claim, decision: Decision, *, now: float, wall: float) -> bool:
    """Whether a 429 is the ledger's matter: a limit is nearly used up, or the server says until when it was.

    Where no limit is known it may be one on what is in flight; where some are and have much left too,
    unless few are in flight.
    """
    scopes = (claim.run.account, claim.lane.pool)
    if not any(scope.limits for scope in scopes):
        return False
    if decision.retry_at is not None or claim.run.in_flight_bound() <= START:
        return True
    return any(
        use.remaining is not None and use.remaining <= _NEARLY * use.limit.n
        for scope in scopes
        for use in scope.uses(now=now, wall=wall)
    )
