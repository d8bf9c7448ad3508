"""What an outcome means for its job, its scope and its run.

The verdict comes from the rule table (:mod:`batchrunner.core.classify`); this module carries it
out on the living picture and returns the row that the next cycle stores. It decides with what it
is given and touches neither the database nor the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from batchrunner.clock import Clock
from batchrunner.core.admission import Ledger
from batchrunner.core.backoff import retry_delay_ms
from batchrunner.core.lifecycle import JobEvent, after_failure
from batchrunner.core.outage import FAULTS
from batchrunner.core.outcomes import HALTS, SAME_ERROR_JOBS
from batchrunner.core.pause import begin, is_own_refusal, on_rate_limited, on_success
from batchrunner.core.wordings import OTHER_MODEL
from batchrunner.engine import in_flight
from batchrunner.engine.live import Claim, LiveRun, Outcome, Refused
from batchrunner.engine.settling import given_back_as, settle_of
from batchrunner.engine.token_estimates import TokenEstimates
from batchrunner.engine.token_use import count_tokens
from batchrunner.engine.verdict_words import (
    ASK_PLAINLY,
    TOO_LARGE_REFUSALS,
    all_alike,
    too_large,
    words_of,
)
from batchrunner.engine.waits import too_many_failures
from batchrunner.models import (
    Decision,
    ErrorKind,
    Verdict,
    Waiting,
    WaitingReason,
)
from batchrunner.store.records import Hold, Settle


class Judge:
    """Turns outcomes into settles, and changes pauses, holds, streaks and stops on the way."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        rand: Callable[[], float],
        tokens: TokenEstimates | None = None,
    ) -> None:
        """Take what is asked for allowance, time and jitter, and what learns of tokens."""
        self._tokens = tokens or TokenEstimates()
        self._ledger = ledger
        self._clock = clock
        self._rand = rand
        #: Holds to store with the next cycle.
        self.new_holds: list[Hold] = []
        #: Grows with every pause, hold, outage and stop: sleepers must look again.
        self.n_changes = 0
        self._verdicts: Mapping[Verdict, Callable[[Outcome, Decision], list[Settle]]] = {
            Verdict.COMPLETE: self._complete,
            Verdict.RETRY: self._retry,
            Verdict.PAUSE: self._pause,
            Verdict.WAIT_FOR_DAY: self._wait_for_day,
            Verdict.FAIL_JOB: self._fail,
            Verdict.HOLD_MODEL: self._hold,
            Verdict.HALT_RUN: self._halt,
        }

    def judge(self, outcome: Outcome) -> list[Settle]:
        """Return the settles this outcome makes: none yet, its own, or also earlier ones' of its streak."""
        claim = outcome.claim
        if outcome.fate == "unsent":
            self._give_back(claim)
            return [settle_of(outcome, JobEvent.GIVE_BACK, None, outcome_word=None)]
        if outcome.fate == "interrupted":
            kind = ErrorKind.INTERRUPTED
            return [
                settle_of(
                    outcome,
                    JobEvent.INTERRUPT,
                    Decision(
                        verdict=Verdict.RETRY, kind=kind, message="aborted while it was in flight"
                    ),
                    outcome_word="interrupted",
                    maybe_executed=True,
                )
            ]
        assert outcome.reply is not None
        fault = outcome.reply.fault
        if fault is not None and not fault.maybe_executed:
            self._give_back(claim)
        run = claim.run
        # What is looked at, told and stored from here on holds no secret.
        outcome.reply = run.wire.clean(outcome.reply)
        decision = run.wire.decide(
            outcome.reply, claim.request, wall=outcome.ended_wall, job=claim.job.job_id
        )
        if outcome.unmet is not None and decision.verdict is Verdict.COMPLETE:
            # Paid for, and so counted, but no answer: it is asked for again.
            decision = msgspec.structs.replace(
                decision, verdict=Verdict.RETRY, kind=ErrorKind.BAD_RESPONSE,
                message=run.wire.secrets.hide(outcome.unmet), fix=ASK_PLAINLY,
            )  # fmt: skip
        if outcome.reply.status is not None:
            run.streak.answered()
        settles = self._verdicts[decision.verdict](outcome, decision)
        count_tokens(outcome, decision, self._ledger, self._tokens)
        return settles

    def flush(self, run: LiveRun) -> list[Settle]:
        """Return what still waits for the end of a streak, uncharged: an outage, or the run ends."""
        return [self._uncharged(outcome, decision) for outcome, decision in run.streak.take_open()]

    def _put_back_surplus(self, run: LiveRun) -> list[Settle]:
        """Return, uncharged, the oldest of what waits beyond the concurrency, for later.

        After the backoff of a charged try, so that others go first and tell whether it is an outage.
        """
        return [
            self._uncharged(
                outcome,
                decision,
                not_before=self._after(
                    retry_delay_ms(outcome.claim.job.attempts + 1, self._rand())
                ),
            )
            for outcome, decision in run.streak.take_surplus(run.adaptive.most)
        ]

    def flush_idle(self, run: LiveRun) -> list[Settle]:
        """Return what waits for a streak that nobody else is left to end."""
        return [
            self._charged(outcome, decision)
            if run.streak.is_own_at_last(decision)
            else self._uncharged(outcome, decision)
            for outcome, decision in run.streak.take_open()
        ]

    # --- one method a verdict

    def _complete(self, outcome: Outcome, decision: Decision) -> list[Settle]:
        run, pool = outcome.claim.run, outcome.claim.lane.pool
        if run.streak.since is not None and outcome.claim.sent_at >= run.streak.since:
            run.adaptive.outage_ended()
        settles = self._streak_over(run)
        run.proved = True
        run.successes += 1
        if run.stop is None:
            run.first_failures.clear()
        if run.refused:
            run.refused.pop(outcome.claim.job.job_id, None)
        in_flight.served(outcome)
        for scope in (pool, run.account):
            if scope.pause.level:
                scope.pause = on_success(scope.pause, sent_at=outcome.claim.sent_at)
        settles.append(settle_of(outcome, JobEvent.COMPLETE, decision, outcome_word="completed"))
        return settles

    def _retry(self, outcome: Outcome, decision: Decision) -> list[Settle]:
        run = outcome.claim.run
        if decision.elsewhere:
            run.recent_errors.append(
                (outcome.ended_wall, outcome.claim.job.key, str(decision.kind), decision.message)
            )
            return [self._uncharged(outcome, decision)]
        if decision.kind not in FAULTS:
            run.proved = True
            return [*self._streak_over(run), self._charged(outcome, decision)]
        bound = run.in_flight_bound()
        in_flight.failed(outcome, decision)
        fate = run.streak.failed(
            outcome,
            decision,
            concurrency=bound,
            unfinished=run.counts.pending + run.counts.running,
        )
        # An outage: everything of the streak goes back uncharged, one probe at a time.
        settles = self.flush(run) if run.streak.is_outage else self._put_back_surplus(run)
        if run.streak.is_outage:
            self.n_changes += 1
        if fate == "charged":
            settles.append(self._charged(outcome, decision))
        elif fate == "uncharged":
            settles.append(self._uncharged(outcome, decision))
        return settles

    def _pause(self, outcome: Outcome, decision: Decision) -> list[Settle]:
        self.n_changes += 1
        claim = outcome.claim
        run = claim.run
        is_repeated = claim.job.job_id in run.refused
        scope = run.account if decision.account_wide else claim.lane.pool
        if self._is_the_job(claim):
            return [self._charged(outcome, decision)]
        if run.refused[claim.job.job_id].n >= TOO_LARGE_REFUSALS and (
            limit := self._ledger.larger_than(claim.grant)
        ):
            return self._fail(outcome, too_large(claim, decision, limit))
        scope.pause = on_rate_limited(
            scope.pause,
            sent_at=claim.sent_at,
            now=outcome.ended_at,
            received_wall=outcome.ended_wall,
            hint_until_wall=decision.retry_at,
            rand=self._rand(),
            reason=HALTS[decision.kind or ErrorKind.RATE_LIMITED].reason,
            detail=words_of(outcome, decision),
        )
        in_flight.refused(outcome, decision, scope.pause, wall=self._clock.wall())
        settle = self._uncharged(outcome, decision)
        if is_repeated:
            # Behind the others: if it is the job, they show it; first in line it would block them.
            settle.not_before = max(1, int(outcome.ended_at))
        return [settle]

    def _wait_for_day(self, outcome: Outcome, decision: Decision) -> list[Settle]:
        self.n_changes += 1
        claim = outcome.claim
        until = decision.reset_at or decision.retry_at
        scope = claim.run.account if decision.account_wide else claim.lane.pool
        reason = (
            WaitingReason.SPEND_LIMIT
            if decision.kind is ErrorKind.SPEND_LIMIT
            else WaitingReason.DAILY_LIMIT
        )
        if until is None or until <= outcome.ended_wall:
            # Used up, but until when is not said or is past: look again, ever less often.
            scope.pause = on_rate_limited(
                scope.pause,
                sent_at=claim.sent_at,
                now=outcome.ended_at,
                received_wall=outcome.ended_wall,
                hint_until_wall=None,
                rand=self._rand(),
                reason=reason,
                detail=words_of(outcome, decision),
            )
        else:
            scope.pause = begin(
                scope.pause,
                until=until,
                reason=reason,
                detail=words_of(outcome, decision),
                now=outcome.ended_at,
                wall=outcome.ended_wall,
            )
        return [self._uncharged(outcome, decision)]

    def _fail(self, outcome: Outcome, decision: Decision) -> list[Settle]:
        run = outcome.claim.run
        settles = self._streak_over(run)
        run.proved = True
        in_flight.served(outcome)
        settles.append(settle_of(outcome, JobEvent.FAIL, decision, outcome_word="failed"))
        self._note_failure(outcome, decision)
        return settles

    def _hold(self, outcome: Outcome, decision: Decision) -> list[Settle]:
        self.n_changes += 1
        claim = outcome.claim
        kind = decision.kind or ErrorKind.MODEL_NOT_FOUND
        held = (kind.value, decision.message, decision.fix or OTHER_MODEL)
        if claim.lane.model_id not in claim.run.holds:
            claim.run.holds[claim.lane.model_id] = held
            self.new_holds.append(Hold(claim.run.id, claim.lane.model_id, *held))
            claim.run.recent_errors.append(
                (outcome.ended_wall, claim.job.key, kind.value, decision.message)
            )
        return [self._uncharged(outcome, decision)]

    def _halt(self, outcome: Outcome, decision: Decision) -> list[Settle]:
        run = outcome.claim.run
        kind = decision.kind or ErrorKind.PERMISSION
        if kind is ErrorKind.PERMISSION and run.wire.profile.allow_any_url and run.successes:
            # Of any addresses one may be forbidden; the account that others succeed with is not.
            return self._fail(outcome, decision)
        self.n_changes += 1
        if run.stop is None:
            halt = HALTS[kind]
            run.stop = Waiting(
                reason=halt.reason, until=None, detail=decision.message, fix=decision.fix
            )
            run.recent_errors.append(
                (outcome.ended_wall, outcome.claim.job.key, kind.value, decision.message)
            )
        return [self._uncharged(outcome, decision)]

    # --- what they share

    def _is_the_job(self, claim: Claim) -> bool:
        """Note a 429 of this job, and tell whether it is by now the job's own failure."""
        run = claim.run
        refused = run.refused.setdefault(
            claim.job.job_id,
            Refused(successes_before=run.successes, refusals_before=run.refusals),
        )
        run.refusals += 1
        refused.n += 1
        if run.successes > refused.successes_seen:
            refused.n_alone += 1
        refused.successes_seen = run.successes
        return is_own_refusal(
            refused.n_alone,
            successes=run.successes - refused.successes_before,
            refusals=run.refusals - refused.refusals_before - refused.n,
        )

    def _give_back(self, claim: Claim) -> None:
        """Give a grant back that no request used, once."""
        if claim.is_booked:
            claim.is_booked = False
            self._ledger.release(claim.grant)

    def _charged(self, outcome: Outcome, decision: Decision) -> Settle:
        """Charge a failure: wait for the backoff, or fail with no try left."""
        claim = outcome.claim
        event = after_failure(claim.job.attempts, claim.run.max_attempts)
        if event is JobEvent.FAIL:
            self._note_failure(outcome, decision)
            return settle_of(outcome, event, decision, outcome_word="failed")
        delay = retry_delay_ms(claim.job.attempts + 1, self._rand())
        if decision.retry_at is not None:
            delay = max(delay, decision.retry_at - outcome.ended_wall)
        claim.run.recent_errors.append(
            (outcome.ended_wall, claim.job.key, str(decision.kind), decision.message)
        )
        return settle_of(
            outcome,
            event,
            decision,
            outcome_word="retry",
            not_before=self._after(delay),
        )

    def _after(self, delay_ms: float) -> int:
        return max(1, int(self._clock.now() + delay_ms))

    def _uncharged(self, outcome: Outcome, decision: Decision, *, not_before: int = 0) -> Settle:
        word = given_back_as(decision.kind)
        return settle_of(
            outcome, JobEvent.GIVE_BACK, decision, outcome_word=word, not_before=not_before
        )

    def _streak_over(self, run: LiveRun) -> list[Settle]:
        """A job was answered: the failures before it were their jobs' own."""
        if run.streak.is_calm:
            return []
        settles = [self._charged(outcome, decision) for outcome, decision in run.streak.take_open()]
        run.streak.succeeded()
        return settles

    def _note_failure(self, outcome: Outcome, decision: Decision) -> None:
        claim = outcome.claim
        run = claim.run
        assert decision.kind is not None
        run.recent_errors.append(
            (outcome.ended_wall, claim.job.key, decision.kind.value, decision.message)
        )
        run.failing += 1
        if run.stop is None and (stop := too_many_failures(run)) is not None:
            run.stop = stop
            self.n_changes += 1
        status = outcome.reply.status if outcome.reply else None
        met = (decision.kind, status)
        if run.stop is not None and run.stop.reason is WaitingReason.SAME_ERROR:
            # What was in flight when it stopped goes back with the others.
            if met in run.first_failures.values():
                run.first_failures[claim.job.job_id] = met
            return
        if run.counts.completed or run.successes or len(run.first_failures) >= SAME_ERROR_JOBS:
            return
        run.first_failures[claim.job.job_id] = met
        alike = set(run.first_failures.values())
        if len(alike) == 1 and len(run.first_failures) == SAME_ERROR_JOBS and run.stop is None:
            run.stop = all_alike(decision, status, run.typed_name)


def is_trouble(outcome: Outcome) -> bool:
    """Whether it may mean that nothing more should go out."""
    reply = outcome.reply
    return reply is not None and (reply.status is None or reply.status >= 300)
