"""Why a run or a job is where it is, in sentences, and what to do next.

For somebody who is stuck: each state there is has its sentence and its next step. What was stored
is put into words here, for the screen and for ``--json`` alike; nothing is changed and nothing sent.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Final

from batchrunner.core.time_use import Kind
from batchrunner.models import RunState, Waiting, WaitingReason
from batchrunner.store.database import Database
from batchrunner.store.explain import Held, held_models, time_of
from batchrunner.store.runs import StoredRun
from batchrunner.story import Case, plural, sentence, story
from batchrunner.views import ExplainView, RunView, Standing, TimeView

__all__ = ["explain"]

#: Of a run's time a part that is less than this is no reason for advice.
_MATTERS: Final = 0.1

#: What would have made a run faster, by what most of its time went into.
_ADVICE: Final[Mapping[str, str]] = {
    "rpm": "The limit of requests a minute set its pace. If the account allows more: batchrunner limits set"
    " rpm=N; what the provider said of that: batchrunner limits",
    **dict.fromkeys(
        ("tpm", "itpm", "otpm"),
        "Tokens a minute set its pace. Shorter prompts or a lower --max-tokens reserve fewer; if the"
        " account allows more: batchrunner limits set {cause}=N",
    ),
    **dict.fromkeys(
        ("rpd", "tpd"),
        "The day's limit set its pace: only a higher one makes it faster. If the account allows more:"
        " batchrunner limits set {cause}=N",
    ),
    "min_interval": "The least time between two sends set its pace; another: batchrunner limits set"
    " min-interval=SECONDS",
    "rate_limited": "The provider refused requests with 429. If you know its limits, say them, so that they"
    " are not found by refusals: batchrunner limits set rpm=N",
    "daily_limit": "The provider's daily cap set its pace. If you know it, say it: batchrunner limits set"
    " rpd=N; only a higher one makes it faster",
    "spend_limit": "The provider's spend limit held it up: raise it in the provider's console",
    "outage": "Provider or network failed; what is between here and there: batchrunner doctor",
    "retry": "Failed jobs waited before they were tried again; which and why: batchrunner errors {run}",
    "budget": "The budget held it up; more with --max-cost, or in the configuration",
    "sending": "Answers set its pace. If -c bounds it, more at once may help, as far as the provider allows:"
    " -c auto, or a higher -c N",
}
#: What a run waits for that may be mended on the way to the provider.
_ON_THE_WAY: Final = frozenset(
    {WaitingReason.OVERLOADED, WaitingReason.NETWORK, WaitingReason.TLS, WaitingReason.PROXY}
)
_DIED: Final = "the process that did ended without a word (it was killed, or the machine went down)"
_NOBODY_ADVICE: Final = (
    "Most of the time nobody ran it. To have runs carried on by themselves, call this from cron or"
    " systemd: batchrunner resume --all"
)


def explain(
    db: Database, run: StoredRun, view: RunView, key: str | None, *, now_ms: int
) -> ExplainView:
    """Return where a run's time went and why it is not done; with ``key`` the same of that job."""
    time = time_of(db, run, view.state, now_ms=now_ms)
    held = held_models(db, run)
    died_at = time.died_at if time is not None else None
    standing = _of_run(view, held, is_dead=died_at is not None)
    case = Case(db, run, view, standing, held, now_ms, died_at)
    return ExplainView(
        run=view,
        standing=standing,
        time=time,
        advice=_advice(view, time),
        job=None if key is None else story(case, key),
    )


# --- the run


def _of_run(view: RunView, held: Sequence[Held], *, is_dead: bool) -> Standing:
    """Return why a run is where it is."""
    match view.state:
        case RunState.FINISHED | RunState.CANCELLED:
            return _over(view)
        case RunState.RUNNING | RunState.WAITING:
            return _live(view, held)
        case RunState.PAUSED | RunState.READY | RunState.HALTED:
            return _left(view, is_dead=is_dead)


def _over(view: RunView) -> Standing:
    name, jobs = shlex.quote(view.name), view.jobs
    if view.state is RunState.CANCELLED:
        return Standing(
            reason="cancelled",
            detail=f"Somebody gave it up; {plural(jobs.cancelled, 'job')} were not done.",
            next=f"batchrunner retry {name} --status cancelled",
        )
    if jobs.failed:
        return Standing(
            reason="finished",
            detail=f"Nothing is left to send; {jobs.failed:,} of {plural(jobs.total, 'job')} failed.",
            next=f"batchrunner errors {name}",
        )
    return Standing(
        reason="finished",
        detail=f"Nothing is left to send; {jobs.completed:,} of {plural(jobs.total, 'job')} are"
        " completed.",
        next=f"batchrunner export {name} -o results.csv",
    )


def _live(view: RunView, held: Sequence[Held]) -> Standing:
    waiting, jobs = view.waiting, view.jobs
    if waiting is not None:
        return Standing(
            reason=waiting.reason.value,
            detail=sentence(waiting.detail or waiting.reason.value.replace("_", " ")),
            until=waiting.until,
            next=waiting.fix or _while_waiting(waiting),
        )
    kept = "".join(
        f" Jobs that ask for {one.model} are held back: {sentence(one.message)}" for one in held
    )
    watch = f"nothing is to be done; watch it with: batchrunner status {shlex.quote(view.name)}"
    return Standing(
        reason="running",
        detail=f"It is being sent; {jobs.pending + jobs.running:,} of {plural(jobs.total, 'job')} are"
        f" left.{kept}",
        until=view.eta,
        next=held[0].fix if held and held[0].fix else watch,
    )


def _while_waiting(waiting: Waiting) -> str:
    """Return what a person may do while a run waits, where its wait does not say."""
    if waiting.reason in _ON_THE_WAY:
        return "it goes on by itself once that works; what is wrong on the way: batchrunner doctor"
    if waiting.until is None:
        return (
            "see the limits with: batchrunner limits; change one with: batchrunner limits set rpm=N"
        )
    return "nothing is to be done: it goes on by itself"


def _left(view: RunView, *, is_dead: bool) -> Standing:
    """Return why a run that nobody has is not done."""
    resume = f"batchrunner resume {shlex.quote(view.name)}"
    waiting, left = view.waiting, view.jobs.pending + view.jobs.running
    reason = "paused" if view.state is RunState.PAUSED else None
    if waiting is not None and waiting.detail and is_dead:
        return Standing(
            reason=reason or waiting.reason.value,
            detail=f"Nobody runs it: {_DIED} while it waited: {sentence(waiting.detail)}",
            until=waiting.until,
            next=resume,
        )
    if waiting is not None and waiting.detail:
        return Standing(
            reason=reason or waiting.reason.value,
            detail=f"Nobody runs it. It stopped: {sentence(waiting.detail)}",
            until=waiting.until,
            next=waiting.fix or resume,
        )
    if reason:
        detail = "Somebody paused it."
    elif view.why_left:
        (why, n), *_ = view.why_left
        tags = f" --tags {shlex.quote(','.join(view.tags))}" if view.tags else ""
        return Standing(
            reason="nobody",
            detail=f"Workers are there and leave it to others. {plural(n, 'worker')}: {sentence(why)}"
            f" Left: {plural(left, 'job')}.",
            next=f"batchrunner worker{tags}",
        )
    elif view.started_at is None:
        detail = "It is stored, and nobody has run it yet."
    elif is_dead:
        detail = f"Nobody runs it: {_DIED}. What was in flight goes again."
    else:
        detail = "Nobody runs it now."
    return Standing(
        reason=reason or "nobody", detail=f"{detail} Left: {plural(left, 'job')}.", next=resume
    )


def _advice(view: RunView, time: TimeView | None) -> str:
    """Return what would have made a run faster."""
    if time is None:
        return ""
    total = sum(part.seconds for part in time.parts)
    for part in time.parts:
        if part.seconds < _MATTERS * total or total < 1.0:
            return ""
        words = _NOBODY_ADVICE if part.kind == Kind.NOBODY else _ADVICE.get(part.cause)
        if words is not None:
            return words.format(run=shlex.quote(view.name), cause=part.cause)
    return ""
