"""What was claimed on its way to the senders, and what is known of the jobs that come next.

After each cycle the jobs that it claimed meet the permissions that were taken for them: each pair is a
:class:`Claim`, which waits in its run's queue for a sender. What was taken in vain goes back at once.
Where a limit asks what jobs take, or the provider's cache in which order they go, the next ones of a
lane were looked up in the same cycle; they are kept with it for the next plan.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Final

from batchrunner.clock import Clock
from batchrunner.core.admission import Ledger
from batchrunner.core.caching import kept_ms
from batchrunner.core.counting import NO_TOKENS, Charge
from batchrunner.core.warmth import Warmth
from batchrunner.engine.gate import Gate
from batchrunner.engine.live import Claim, Lane, LiveRun, Outcome
from batchrunner.engine.planning import LanePlan
from batchrunner.engine.sender import sender
from batchrunner.engine.token_estimates import Ahead, TokenEstimates
from batchrunner.errors import BatchrunnerError
from batchrunner.models import JobId, Request, Waiting, WaitingReason
from batchrunner.store.records import CycleResult, LaneClaim, NextJobs

__all__ = ["Claiming", "charge_of", "forget_leads", "note_warmth"]

#: In the order of the provider's cache the next jobs are looked up anew so often: what is warm cools
#: down (milliseconds).
ORDER_MS: Final = 15_000.0
#: Stands for a request that could not be made; it is never sent.
_UNSENDABLE: Final = Request(method="", url="", headers={}, body=b"")


class Claiming:
    """Takes what a cycle claimed and looked up."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        clock: Clock,
        tokens: TokenEstimates,
        gate: Gate,
        hand_over: Callable[[Outcome], None],
        give_up: Callable[[Claim], None],
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:
        """Take what claims are made of.

        Args:
            ledger: where permissions that nobody took go back to.
            clock: what time it is.
            tokens: what jobs should take.
            gate: what senders pass.
            hand_over: takes what became of a claim.
            give_up: takes a claim that is not to be sent.
            ended: is told of each sender's end.
        """
        self._ledger = ledger
        self._clock = clock
        self._tokens = tokens
        self._gate = gate
        self._hand_over = hand_over
        self._give_up = give_up
        self._ended = ended

    def note_claimed(self, plans: Sequence[LanePlan], result: CycleResult) -> None:
        """Hand the jobs that were claimed to the senders, and give back what they did not take."""
        for plan, claimed in zip(plans, result.lanes, strict=False):
            run, lane = plan.run, plan.lane
            n = len(claimed.jobs)
            if plan.jobs:
                self._keep_grants(plan, claimed)
            for grant in reversed(plan.grants[n:]):
                self._ledger.release(grant)
            if n < len(plan.grants) and not claimed.cut and not plan.jobs:
                lane.fresh = False
            if plan.looks_due:
                lane.next_due = claimed.next_due
            if claimed.jobs:
                # One of each claim is enough to know about how large they are.
                n_bytes, seen = float(len(claimed.jobs[0].body)), run.request_bytes
                run.request_bytes = 0.9 * seen + 0.1 * n_bytes if seen else n_bytes
            run.outstanding += n
            request, put, version = run.wire.request, run.queue.put, plan.version
            for job, grant in zip(claimed.jobs, plan.grants, strict=False):
                try:
                    made = request(job)
                except BatchrunnerError as error:
                    # A variable that a header wants is not set: the gate sends nothing more.
                    made = _UNSENDABLE
                    run.stop = run.stop or _lacking(run, error)
                claim = Claim(
                    run=run, lane=lane, job=job, request=made, grant=grant, version=version
                )
                if run.purse is None or run.purse.reserve(
                    job.job_id, job.key, lane.model_id, job.body
                ):
                    put(claim)
                else:
                    self._give_up(claim)
            self._staff(run)

    def _keep_grants(self, plan: LanePlan, claimed: LaneClaim) -> None:
        """Put the grants of the jobs that were claimed first, in their order."""
        if len(claimed.jobs) == len(plan.jobs):
            return
        # Some are no longer pending, or too large together: whoever comes next is looked up.
        plan.lane.forget_ahead()
        grants = dict(zip(plan.jobs, plan.grants, strict=True))
        kept = [grants.pop(job.job_id) for job in claimed.jobs]
        forget_leads(plan.lane, grants)
        plan.grants[:] = [*kept, *grants.values()]

    def note_next(
        self, looked_up: Sequence[tuple[LiveRun, Lane]], found: Sequence[NextJobs]
    ) -> None:
        """Take what is next in lanes whose tokens are limited."""
        for (run, lane), following in zip(looked_up, found, strict=False):
            lane.ahead_is_charged = self._ledger.counts_tokens(run.account.id, lane.pool.id)
            starts = following.starts or repeat(0)
            lane.ahead = deque(
                Ahead(job_id, self._reckoned(run, lane, job_id, body), start)
                for (job_id, body), start in zip(following.jobs, starts, strict=False)
            )
            lane.next_due, lane.ahead_until = following.next_due, following.due_later
            if lane.warmth is not None:
                self._note_order(lane, lane.warmth, following)
            elif not lane.ahead:
                lane.fresh = False

    def _reckoned(self, run: LiveRun, lane: Lane, job_id: JobId, body: bytes) -> Charge:
        if not lane.ahead_is_charged:
            return NO_TOKENS
        return self._tokens.charge(job_id, lane.model, body, run.wire.counting)

    def _note_order(self, lane: Lane, warmth: Warmth, following: NextJobs) -> None:
        """Have a lane that goes in the cache's order wait for its leads, or look again soon."""
        for start in following.gone:
            warmth.forget(start)
        if not lane.ahead:
            # What is left waits for leads, or there is nothing left.
            warmth.is_stalled = lane.fresh = warmth.n_leads > 0
        soon = self._clock.now() + ORDER_MS
        lane.ahead_until = min(lane.ahead_until or soon, soon)

    def _staff(self, run: LiveRun) -> None:
        """Have as many senders as may be in flight, and no more."""
        while len(run.senders) - run.n_leaving < min(run.outstanding, run.in_flight_bound()):
            task = asyncio.create_task(sender(run, self._gate, self._clock, self._hand_over))
            run.senders.add(task)
            task.add_done_callback(run.sender_left)
            task.add_done_callback(self._ended)


def charge_of(tokens: TokenEstimates, claim: Claim) -> Charge:
    """Return what to reserve for a claim that asks for its permission anew."""
    return tokens.charge(
        claim.job.job_id, claim.lane.model, claim.request.body, claim.run.wire.counting
    )


def note_warmth(outcome: Outcome) -> None:
    """Note what an answer tells of the provider's cache."""
    claim = outcome.claim
    if (warmth := claim.lane.warmth) is None:
        return
    status = outcome.reply.status if outcome.reply is not None else None
    is_read = status is not None and 200 <= status < 300
    warmth.back(
        claim.job.job_id,
        sent_at=claim.sent_at,
        kept_ms=kept_ms(claim.request.body) if is_read else None,
    )


def forget_leads(lane: Lane, jobs: Iterable[JobId]) -> None:
    """Take back that jobs go which were not claimed after all."""
    if lane.warmth is not None:
        for job in jobs:
            lane.warmth.back(job, sent_at=0.0, kept_ms=None)


def _lacking(run: LiveRun, error: BatchrunnerError) -> Waiting:
    """Return the halt of a run whose jobs want a credential that this process lacks."""
    return Waiting(
        reason=WaitingReason.AUTHENTICATION,
        until=None,
        detail=error.message,
        fix=error.fix or f"then: batchrunner resume {run.typed_name}",
    )
