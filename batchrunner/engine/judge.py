"""What an outcome means for its job, its scope and its run.

The verdict comes from the rule table (:mod:`batchrunner.core.classify`); this module carries it
out on the living picture and returns the row that the next cycle stores. It decides with what it
is given and touches neither the database nor the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec

from batchrunner.clock import Clock
from batchrunner.core.admission import Ledger, Limit
from batchrunner.core.backoff import retry_delay_ms
from batchrunner.core.caps import WORDS
from batchrunner.core.counting import NO_TOKENS, after_answer
from batchrunner.core.lifecycle import JobEvent, after_failure, step
from batchrunner.core.outage import FAULTS
from batchrunner.core.outcomes import HALTS
from batchrunner.core.pause import begin, is_own_refusal, on_rate_limited, on_success
from batchrunner.core.said import with_used_up
from batchrunner.core.wordings import OTHER_MODEL
from batchrunner.engine import in_flight
from batchrunner.engine.live import Claim, LiveRun, Outcome, Refused
from batchrunner.engine.token_estimates import TokenEstimates
from batchrunner.engine.waits import too_many_failures
from batchrunner.models import (
    Decision,
    ErrorKind,
    JobState,
    Verdict,
    Waiting,
    WaitingReason,
)
from batchrunner.providers.fixes import SHORTEN
from batchrunner.store.records import Hold, Settle

#: So many distinct jobs ending alike, before any completed, stop the run.
SAME_ERROR_JOBS: Final = 10
#: A job larger than a whole token limit, sent when nothing else counts, and refused so often will
#: never be taken.
TOO_LARGE_REFUSALS: Final = 2
#: Statuses with which a provider refuses a request that no model has read.
_UNREAD: Final = frozenset(range(400, 500)) - {408, 499}
#: The send log's word for what is given back, by kind; ``halted`` for the rest.
GIVEN_BACK: Final[Mapping[ErrorKind, str]] = {
    ErrorKind.RATE_LIMITED: "rate_limited",
    ErrorKind.DAILY_LIMIT: "daily_limit",
    ErrorKind.SPEND_LIMIT: "daily_limit",
    ErrorKind.INTERRUPTED: "interrupted",
    ErrorKind.MODEL_NOT_FOUND: "held",
}
#: Failures that no change of the requests mends.
_NOT_THE_REQUESTS: Final = frozenset({*FAULTS, ErrorKind.BAD_RESPONSE})
#: What helps where answers are not the JSON that the run expects.
_ASK_PLAINLY: Final = (
    "see an answer with batchrunner show; ask more plainly for JSON (--set), or correct what is"
    " expected"
)


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
            return [_settle(outcome, JobEvent.GIVE_BACK, None, outcome_word=None)]
        if outcome.fate == "interrupted":
            kind = ErrorKind.INTERRUPTED
            return [
                _settle(
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
                message=run.wire.secrets.hide(outcome.unmet), fix=_ASK_PLAINLY,
            )  # fmt: skip
        if outcome.reply.status is not None:
            run.streak.answered()
        settles = self._verdicts[decision.verdict](outcome, decision)
        self._count_tokens(outcome, decision)
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

    def _count_tokens(self, outcome: Outcome, decision: Decision) -> None:
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
            self._tokens.learn(
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
        self._ledger.correct(claim.grant, took)
        claim.grant = claim.grant._replace(charge=took)

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
        settles.append(_settle(outcome, JobEvent.COMPLETE, decision, outcome_word="completed"))
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
            return self._fail(outcome, _too_large(claim, decision, limit))
        scope.pause = on_rate_limited(
            scope.pause,
            sent_at=claim.sent_at,
            now=outcome.ended_at,
            received_wall=outcome.ended_wall,
            hint_until_wall=decision.retry_at,
            rand=self._rand(),
            reason=HALTS[decision.kind or ErrorKind.RATE_LIMITED].reason,
            detail=_words_of(outcome, decision),
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
                detail=_words_of(outcome, decision),
            )
        else:
            scope.pause = begin(
                scope.pause,
                until=until,
                reason=reason,
                detail=_words_of(outcome, decision),
                now=outcome.ended_at,
                wall=outcome.ended_wall,
            )
        return [self._uncharged(outcome, decision)]

    def _fail(self, outcome: Outcome, decision: Decision) -> list[Settle]:
        run = outcome.claim.run
        settles = self._streak_over(run)
        run.proved = True
        in_flight.served(outcome)
        settles.append(_settle(outcome, JobEvent.FAIL, decision, outcome_word="failed"))
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
            return _settle(outcome, event, decision, outcome_word="failed")
        delay = retry_delay_ms(claim.job.attempts + 1, self._rand())
        if decision.retry_at is not None:
            delay = max(delay, decision.retry_at - outcome.ended_wall)
        claim.run.recent_errors.append(
            (outcome.ended_wall, claim.job.key, str(decision.kind), decision.message)
        )
        return _settle(
            outcome,
            event,
            decision,
            outcome_word="retry",
            not_before=self._after(delay),
        )

    def _after(self, delay_ms: float) -> int:
        return max(1, int(self._clock.now() + delay_ms))

    def _uncharged(self, outcome: Outcome, decision: Decision, *, not_before: int = 0) -> Settle:
        word = "outage" if decision.kind in FAULTS else "halted"
        if decision.kind is not None:
            word = GIVEN_BACK.get(decision.kind, word)
        return _settle(
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
            run.stop = Waiting(
                reason=WaitingReason.SAME_ERROR,
                until=None,
                detail=f"the first {SAME_ERROR_JOBS} jobs all failed alike ({decision.kind.value}"
                f"{f', HTTP {status}' if status else ''}): {decision.message}",
                fix=_fix_of_all(decision, run.typed_name),
            )


def _fix_of_all(decision: Decision, run: str) -> str:
    """Return what helps where all jobs failed alike."""
    resume = f"batchrunner resume {run}"
    if decision.fix is _ASK_PLAINLY:
        return f"{_ASK_PLAINLY}: {resume} --expect-json SCHEMA"
    if decision.meant_base:
        return f"correct the base URL: {resume} --base-url {decision.meant_base}"
    if decision.kind in _NOT_THE_REQUESTS:
        return f"check the base URL and what answers there, then: {resume}"
    return (
        "mend what they share (a wrong field can be replaced with --set FIELD=VALUE), then:"
        f" {resume}"
    )


def _words_of(outcome: Outcome, decision: Decision) -> str:
    """Return what a pause is for, the tokens or requests that ran out included."""
    assert outcome.reply is not None
    return with_used_up(decision.message, outcome.reply.headers, at_wall=outcome.ended_wall)


def _too_large(claim: Claim, decision: Decision, limit: Limit) -> Decision:
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


def _settle(
    outcome: Outcome,
    event: JobEvent,
    decision: Decision | None,
    *,
    outcome_word: str | None,
    not_before: int = 0,
    maybe_executed: bool = False,
) -> Settle:
    claim, reply = outcome.claim, outcome.reply
    run, job = claim.run, claim.job
    kind = decision.kind if decision else None
    after = _STEPS[event] if kind is None else _words(event, kind)
    if run.is_sample and after.state == JobState.PENDING.value:
        # What comes back stays one of the sample.
        not_before = max(1, not_before)
    settle = Settle(
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
        settle.request = job.body
    if decision is None:
        return settle
    if kind is not None:
        settle.kind = kind.value
        settle.message = decision.message
        if after.charged:
            settle.error_kind = kind.value
    if reply is not None:
        settle.http_status = reply.status
        settle.request_id = run.wire.request_id(reply)
        if reply.fault is not None:
            settle.maybe_executed = reply.fault.maybe_executed and bool(claim.sent_at)
            settle.request = job.body if settle.maybe_executed else None
        if claim.sent_at:
            settle.latency_ms = round(outcome.ended_at - claim.sent_at)
        if after.charged:
            settle.is_attempt = True
            settle.body = reply.body or None
    if (usage := decision.usage) is not None:
        settle.model = usage.model
        settle.finish_reason = usage.finish_reason
        settle.input_tokens = usage.input_tokens
        settle.output_tokens = usage.output_tokens
        settle.usage = usage
    return settle


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
