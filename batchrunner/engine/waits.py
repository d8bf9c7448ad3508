"""What a run waits for, when to look at it again, and when it shall stop with work left."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from batchrunner.core.admission import PAUSE, Blocked, ScopeLedger
from batchrunner.core.caps import DAILY, MIN_INTERVAL, RPM, TOKEN_LIMITS, WORDS
from batchrunner.core.outage import FAULTS
from batchrunner.core.outcomes import HALTS
from batchrunner.engine.live import LiveRun
from batchrunner.engine.planning import HORIZON_MS
from batchrunner.models import ErrorKind, ExitCode, Waiting, WaitingReason

#: Exit codes of runs that stop with work left, by reason.
STOP_CODES: Final[Mapping[WaitingReason, int]] = {
    **dict.fromkeys(WaitingReason, ExitCode.WORK_LEFT),
    **{halt.reason: halt.exit_code for halt in HALTS.values() if halt.halted},
    WaitingReason.SPEND_LIMIT: ExitCode.REFUSED,
    WaitingReason.INTERRUPTED: ExitCode.INTERRUPT,
}
#: Waits in which one request at a time is tried until one succeeds.
OUTAGES: Final = frozenset(fault.reason for fault in FAULTS.values())
#: After so many 429s in a row without a time and without a success, with pauses that double from
#: 5 s, more than a minute's limit has passed.
DAILY_LEVEL: Final = 5
_DAILY: Final = (
    " ({n} such answers in a row and none says until when: it looks like a daily cap, or another"
    " program uses the same key; one request is tried after ever longer pauses, an hour at most)"
)
_KNOWN_CAP: Final = "if you know the cap, say it: batchrunner limits set rpd=N"
#: A wait for tokens that is shorter is none to tell of (ms).
_SHORT_MS: Final = 3_000.0
#: A time that nobody waits for (ms).
_FAR = 366 * 86_400_000.0


def next_look(run: LiveRun, now: float, *, lead_ms: float = HORIZON_MS / 2) -> float:
    """Return when (steady ms) the run may have something to send, or must be looked at.

    ``lead_ms``: how long before its instant a claim is to begin, so that it is committed by then.
    """
    at = now + _FAR
    if run.limits.deadline is not None:
        at = min(at, run.limits.deadline)
    if run.streak.is_outage:
        return min(at, max(run.streak.probe_at, now)) if not run.outstanding else at
    if run.room(now) <= 0 or not run.counts.pending:
        return at
    for model_id, lane in run.lanes.items():
        if model_id in run.holds:
            continue
        if lane.blocked is not None:
            if lane.blocked.until is not None:
                at = min(at, lane.blocked.until - lead_ms)
        elif lane.is_stalled:
            # The lead that it waits for wakes it; what falls due meanwhile is looked at.
            if lane.ahead_until is not None:
                at = min(at, lane.ahead_until)
        elif lane.next_due is not None and not lane.fresh:
            at = min(at, lane.next_due)
        elif lane.is_ready(now):
            at = now
    return at


def what_it_waits_for(run: LiveRun, now: float, wall: float) -> Waiting | None:
    """Return why nothing of the run goes out, or ``None`` where it is on its way.

    Pacing and backoff are no waits; a pause, a day's end and an outage are.
    """
    if run.streak.is_outage:
        return Waiting(
            reason=run.streak.reason,
            until=int(wall + max(0.0, run.streak.probe_at - now)),
            detail=f"{run.streak.message}; one request at a time is tried until one succeeds",
        )
    if run.outstanding or not run.counts.pending:
        return None
    of_money = run.purse.waiting() if run.purse is not None else None
    return of_money or _limited(run, now)


def _limited(run: LiveRun, now: float) -> Waiting | None:
    """Return the limit or the pause that a run waits for."""
    first: Blocked | None = None
    for model_id, lane in run.lanes.items():
        if model_id in run.holds:
            continue
        if lane.blocked is None:
            if lane.is_ready(now) or lane.next_due is not None:
                return None
            continue
        if first is None or _until(lane.blocked) < _until(first):
            first = lane.blocked
    if first is None or (first.limit in (RPM, MIN_INTERVAL) and first.until is not None):
        return None
    if first.limit in TOKEN_LIMITS and _until(first) < now + _SHORT_MS:
        return None  # as good as on its way
    return Waiting(
        reason=first.reason,
        until=first.until_wall,
        detail=_detail(run, first),
        fix=_KNOWN_CAP if _looks_daily(run, first) else "",
    )


def _until(blocked: Blocked) -> float:
    return blocked.until if blocked.until is not None else _FAR * 1e3


def _looks_daily(run: LiveRun, blocked: Blocked) -> bool:
    """Whether bare 429s have gone on for so long that no limit a minute explains them."""
    pause = _scope_of(run, blocked).pause
    return (
        blocked.limit == PAUSE
        and pause.reason is WaitingReason.RATE_LIMITED
        and pause.level >= DAILY_LEVEL
    )


def _scope_of(run: LiveRun, blocked: Blocked) -> ScopeLedger:
    scopes = (run.account, *(lane.pool for lane in run.lanes.values()))
    return next(scope for scope in scopes if scope.id == blocked.scope)


def _detail(run: LiveRun, blocked: Blocked) -> str:
    scope = _scope_of(run, blocked)
    if blocked.limit == PAUSE:
        asked = scope.pause.detail or "the provider asked to wait"
        return asked + _DAILY.format(n=scope.pause.level) if _looks_daily(run, blocked) else asked
    limit = next((limit for limit in scope.limits if limit.name == blocked.limit), None)
    if limit is None:
        return f"the limit {blocked.limit} is used up"
    if blocked.until is None:
        return f"the limit {blocked.limit} is {limit.n:g}: nothing may be sent"
    words = WORDS[limit.name]
    if limit.name in DAILY:
        day = "any 24 hours" if limit.zone == "rolling" else f"a day ({limit.zone})"
        words = words.replace("a day", day)
    if limit.name in TOKEN_LIMITS:
        return f"the limit of {limit.n:,.0f} {words} leaves no room for the next request"
    return f"the limit of {limit.n:g} {words} is used up"


def stop_reason(run: LiveRun, now: float, wall: float) -> Waiting | None:
    """Return why the run shall stop now with work left, or ``None``."""
    resume = f"batchrunner resume {run.typed_name}"
    if not run.counts.pending and not run.counts.running:
        return None
    if run.streak.is_hopeless:
        return Waiting(
            reason=run.streak.reason,
            until=None,
            detail=run.streak.message,
            fix=_mended(run, run.streak.reason, resume),
        )
    if run.limits.deadline is not None and now >= run.limits.deadline:
        return Waiting(
            reason=WaitingReason.MAX_TIME,
            until=None,
            detail="--max-time is over",
            fix=f"go on with: {resume}",
        )
    if (failures := too_many_failures(run)) is not None:
        return failures
    if run.purse is not None and not (run.outstanding or run.counts.running):
        spent = run.purse.stop(run.counts.pending, run.counts.completed)
        if spent is not None:
            return spent
    return _held_back(run, now) or _sampled(run, resume) or _waits_too_long(run, now, wall, resume)


def is_sample_over(run: LiveRun) -> bool:
    """Whether a run whose sample goes first has nothing left of it."""
    return (
        run.is_sample
        and not (run.outstanding or run.counts.running)
        and all(lane.next_due is None for lane in run.lanes.values())
    )


def _sampled(run: LiveRun, resume: str) -> Waiting | None:
    """Pause after the sample, for a person to look at it."""
    if not is_sample_over(run):
        return None
    return Waiting(
        reason=WaitingReason.PAUSED,
        until=None,
        detail=f"the sample is done ({run.counts.completed} completed, {run.counts.failed} failed);"
        f" {run.counts.pending} jobs are left",
        fix=f"look at it with: batchrunner export {run.typed_name} --status completed; then send the"
        f" rest with: {resume}",
    )


def too_many_failures(run: LiveRun) -> Waiting | None:
    """Return why ``--max-failures`` stops the run now, those not yet committed included."""
    n_failed = run.counts.failed + run.failing
    if run.max_failures is None or n_failed < max(1.0, _most_failures(run)):
        return None
    return Waiting(
        reason=WaitingReason.MAX_FAILURES,
        until=None,
        detail=f"{n_failed} jobs have failed; --max-failures is {run.max_failures}",
        fix=f"see why with: batchrunner errors {run.typed_name}; then: batchrunner resume {run.typed_name} --max-failures N",
    )


def _most_failures(run: LiveRun) -> float:
    assert run.max_failures is not None
    if run.max_failures.endswith("%"):
        return float(run.max_failures[:-1]) / 100.0 * run.counts.total
    return float(run.max_failures)


def _held_back(run: LiveRun, now: float) -> Waiting | None:
    """Halt where only jobs of held models are left."""
    if not run.holds or run.outstanding or run.counts.running:
        return None
    for model_id, lane in run.lanes.items():
        if model_id not in run.holds and (lane.is_ready(now) or lane.next_due is not None):
            return None
    kind, message, fix = next(iter(run.holds.values()))
    models = [lane.model for model_id, lane in run.lanes.items() if model_id in run.holds]
    return Waiting(
        reason=HALTS[ErrorKind(kind)].reason,
        until=None,
        detail=f"{message} (the jobs left ask for {', '.join(sorted(models)) or 'that model'})",
        fix=fix,
    )


def _mended(run: LiveRun, reason: WaitingReason, resume: str) -> str:
    """Return what helps: in the words of the last failure, else of its like."""
    fix = run.streak.fix
    if not fix:
        return f"{_mend(reason)}: {resume}"
    return fix if "resume" in fix else f"{fix} Then: {resume}"


def _mend(reason: WaitingReason) -> str:
    """Return what comes before going on after an outage."""
    if reason in (WaitingReason.NETWORK, WaitingReason.PROXY):
        return "check the network, the base URL and the proxy, then"
    return "when the provider answers again"


def _waits_too_long(run: LiveRun, now: float, wall: float, resume: str) -> Waiting | None:
    longest = run.limits.max_wait_s
    if longest is None:
        return None
    waiting = what_it_waits_for(run, now, wall)
    if waiting is None:
        return None
    if run.streak.is_outage and run.streak.since is not None:
        is_too_long = now - run.streak.since > longest * 1000.0
    else:
        is_too_long = waiting.until is None or waiting.until - wall > longest * 1000.0
    if not is_too_long:
        return None
    if run.streak.is_outage:
        return Waiting(
            reason=waiting.reason,
            until=None,
            detail=f"{run.streak.message}; it lasted longer than this call may wait",
            fix=f"{_mended(run, waiting.reason, resume).rstrip('.')}; or wait for it with:"
            f" {resume} --wait",
        )
    if waiting.until is None:
        return Waiting(
            reason=waiting.reason,
            until=None,
            detail=waiting.detail,
            fix=f"change the limit, then: {resume}",
        )
    at = datetime.fromtimestamp(waiting.until / 1000, UTC)
    return Waiting(
        reason=waiting.reason,
        until=waiting.until,
        detail=f"{waiting.detail.rstrip('.')}, until {at:%Y-%m-%d %H:%M} UTC: longer than this call may wait",
        fix=f"then go on with: {resume}; or wait for it with: {resume} --wait",
    )
