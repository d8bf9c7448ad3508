"""One job: why it is not done, and its life so far, in sentences for ``explain``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from batchrunner.core.time_use import cause_words
from batchrunner.models import ErrorKind, JobState, RunState
from batchrunner.options import DEFAULT_MAX_ATTEMPTS
from batchrunner.providers.fixes import fix_of
from batchrunner.store.database import Database
from batchrunner.store.explain import Held, JobRow, job_of, waits_between
from batchrunner.store.runs import StoredRun
from batchrunner.views import JobStory, Moment, RunView, SendView, Standing

__all__ = ["Case", "plural", "sentence", "story"]

#: Between two steps of a job's life so much must lie for its waits to be told (ms).
_TOLD_MS: Final = 5_000
#: So many waits are named in one step.
_NAMED: Final = 2


class Case(NamedTuple):
    """A job's run, as far as it tells why the job is where it is."""

    db: Database
    run: StoredRun
    view: RunView
    standing: Standing
    held: Sequence[Held]
    now_ms: int
    #: When the last process that ran the run died; ``None``: none did, or another has it by now.
    died_at: int | None

    @property
    def name(self) -> str:
        """The run's name as a shell takes it."""
        return shlex.quote(self.view.name)

    @property
    def watch(self) -> str:
        """What to do where time alone helps."""
        return f"nothing is to be done; watch it with: batchrunner status {self.name}"


def sentence(text: str) -> str:
    """Return words of others with an end."""
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def plural(n: int, noun: str) -> str:
    """Return ``1 job``, ``2 jobs``."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def story(case: Case, key: str) -> JobStory:
    """Return the story of the job of that key. Raises :class:`UsageError` where there is none."""
    job = job_of(case.db, case.run, key, fix=f"`batchrunner jobs {case.name}` lists them.")
    return JobStory(
        key=job.key,
        status=job.state,
        standing=_standing(case, job),
        moments=list(_life(case, job)),
    )


def _standing(case: Case, job: JobRow) -> Standing:
    """Return why a job is where it is."""
    match JobState(job.state):
        case JobState.PENDING:
            return _held(case, job) or _pending(case, job)
        case JobState.RUNNING:
            return _in_flight(case)
        case JobState.COMPLETED | JobState.FAILED | JobState.CANCELLED:
            return _over(case, job)


def _over(case: Case, job: JobRow) -> Standing:
    key = shlex.quote(job.key)
    if job.state == JobState.COMPLETED:
        ended = f" ({job.finish_reason})" if job.finish_reason else ""
        return Standing(
            reason="completed",
            detail=f"It is answered{ended}.",
            next=f"batchrunner show {case.name} {key}",
        )
    if job.state == JobState.CANCELLED:
        return Standing(
            reason="cancelled",
            detail="It was given up with its run.",
            next=f"batchrunner retry {case.name} --job {key}",
        )
    kind = ErrorKind(job.error_kind or ErrorKind.INVALID_REQUEST)
    message = job.error_message or (job.sends[-1].message if job.sends else None) or ""
    tries = "one charged try" if job.attempts == 1 else f"{job.attempts} charged tries"
    return Standing(
        reason=kind.value,
        detail=f"It failed for good after {tries}: {sentence(message or kind.value)}",
        next=fix_of(kind, case.view.name, message),
    )


def _in_flight(case: Case) -> Standing:
    if case.view.runner is None:
        return Standing(
            reason="interrupted",
            detail="It was in flight when its process died, and may have been executed. It goes again.",
            next=f"batchrunner resume {case.name}",
        )
    return Standing(reason="running", detail="It is in flight, or about to be.", next=case.watch)


def _held(case: Case, job: JobRow) -> Standing | None:
    """Return what is with its model, where that is held back."""
    keeper = next((one for one in case.held if one.model == job.model), None)
    if keeper is None:
        return None
    return Standing(
        reason="held",
        detail=f"Its model {keeper.model} is held back: {sentence(keeper.message)}",
        next=keeper.fix or f"batchrunner resume {case.name}",
    )


def _pending(case: Case, job: JobRow) -> Standing:
    """Return what a job waits for: its run, its backoff, its turn."""
    view, run_stands = case.view, case.standing
    if view.runner is not None and job.not_before is not None and job.not_before > case.now_ms:
        return Standing(
            reason=job.wait_reason or "retry",
            detail=f"{_tried(case, job)}It waits before its next try.",
            until=job.not_before,
            next=case.watch,
        )
    if view.runner is None or view.state is RunState.WAITING:
        of_run = "" if view.runner is None else "Its run waits: "
        return Standing(
            reason=run_stands.reason,
            detail=f"{_tried(case, job)}{of_run}{run_stands.detail}",
            until=run_stands.until,
            next=run_stands.next,
        )
    if job.n_before is not None and json.loads(case.run.options).get("sample"):
        return Standing(
            reason="sample",
            detail="Only the run's sample is sent now; then the run pauses for a look.",
            next=f"once it has: batchrunner resume {case.name}",
        )
    return _in_line(case, job)


def _in_line(case: Case, job: JobRow) -> Standing:
    if not job.n_before:
        first, until = "It goes next", None
    else:
        asks = f" that ask for {job.model}" if job.model else ""
        first = f"{plural(job.n_before, 'job')}{asks} come before it"
        pace = case.view.requests_per_minute
        until = case.now_ms + round(job.n_before / pace * 60_000.0) if pace else None
    return Standing(
        reason="in_line", detail=f"{_tried(case, job)}{first}.", until=until, next=case.watch
    )


def _tried(case: Case, job: JobRow) -> str:
    """Return which try it waits for, and how the last one ended; empty for one never sent."""
    if not job.sends:
        return ""
    most = json.loads(case.run.options).get("max_attempts") or DEFAULT_MAX_ATTEMPTS
    last = job.sends[-1]
    why = f": {last.message}" if last.message else ""
    said = f"the last one ended with {last.kind or last.outcome}{why}"
    return sentence(f"Try {job.attempts + 1} of {most} is to come; {said}") + " "


# --- its life


def _life(case: Case, job: JobRow) -> Iterator[Moment]:
    """Yield what happened to a job, oldest first, with its run's waits in the gaps."""
    last = case.run.created_at
    yield Moment(at=last, what="stored")
    for send in job.sends:
        at = send.sent_at if send.sent_at is not None else send.planned_at
        yield from _gap(case, last, at)
        yield _sent(send, at)
        last = send.ended_at or at
    state = JobState(job.state)
    if state in (JobState.PENDING, JobState.RUNNING):
        yield from _gap(case, last, case.now_ms)
    elif job.finished_at is not None:
        yield Moment(at=job.finished_at, what=state.value)


def _gap(case: Case, begin: int, end: int) -> Iterator[Moment]:
    """Yield how long it waited between two steps, and the run's longest waits meanwhile."""
    if end - begin < _TOLD_MS:
        return
    waits = waits_between(case.db, case.run, begin, end, died_at=case.died_at)
    told = dict.fromkeys(wait.detail or cause_words(wait.cause) for wait in waits[:_NAMED])
    yield Moment(
        at=begin,
        what="waited",
        took_s=(end - begin) / 1000.0,
        detail="; ".join(told)
        or (
            "for its turn"
            if case.view.runner or end < case.now_ms
            else "for somebody to run its run"
        ),
    )


def _sent(send: SendView, at: int) -> Moment:
    took = None if send.ended_at is None else max(0, send.ended_at - at) / 1000.0
    words = [
        send.kind or send.outcome or "in flight",
        str(send.http_status) if send.http_status is not None and send.kind else "",
        send.message or "",
        "may have been executed" if send.maybe_executed else "",
    ]
    return Moment(at=at, what="sent", took_s=took, detail=": ".join(word for word in words if word))
