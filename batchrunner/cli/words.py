"""What a run is doing, as sentences that the panel, the lines and the summary share."""

from __future__ import annotations

from typing import Final, NamedTuple

from batchrunner.cli.text import local_time, number, printable, when
from batchrunner.models import ExitCode, Waiting, WaitingReason
from batchrunner.views import Event, Progress, RunView

#: Exit code → what it means, as the end of "exit 3: …" (CONTRACT §4).
EXIT_MEANINGS: Final = {
    ExitCode.DONE: "everything asked for is done",
    ExitCode.SOME_FAILED: "the run finished, and some jobs failed or lines were rejected",
    ExitCode.WORK_LEFT: "stopped with work left",
    ExitCode.REFUSED: "the account cannot be used",
    ExitCode.NETWORK: "the network cannot reach the provider",
    ExitCode.HANGUP: "hung up; everything is stored",
    ExitCode.INTERRUPT: "interrupted; everything is stored",
    ExitCode.TERMINATED: "terminated; everything is stored",
}

INTERRUPT_HINT: Final = (
    "Ctrl-C once: finish what is in flight, store it and stop; twice: abort that too"
)
WAITING_HINT: Final = "Ctrl-C stops the waiting at once; everything is stored"
DRAINING_HINT: Final = "Ctrl-C again aborts them; they go back to pending, maybe sent"
STOPPING_HINT: Final = "stopping; everything is stored"
FOLLOWING_HINT: Final = "Ctrl-C stops watching; the run goes on"


class Tally(NamedTuple):
    """A run's jobs as its progress shows them; nothing is counted before its commit."""

    total: int
    done: int
    failed: int
    in_flight: int
    left: int

    @classmethod
    def of(cls, progress: Progress) -> Tally:
        """Count the jobs of one picture."""
        jobs = progress.run.jobs
        ended = jobs.completed + jobs.failed + jobs.cancelled
        in_flight = min(progress.in_flight, jobs.total - ended)
        return cls(
            jobs.total, jobs.completed, jobs.failed, in_flight, jobs.total - ended - in_flight
        )


def pace(progress: Progress) -> str:
    """Return ``58/min of 60``; empty where nothing is known yet."""
    rate, allowed = progress.run.requests_per_minute, progress.allowed_per_minute
    if rate is None:
        return f"limit {number(allowed)}/min" if allowed is not None else ""
    words = f"{rate:,.0f}/min" if rate >= 10 else f"{rate:,.1f}/min"
    return f"{words} of {number(allowed)}" if allowed is not None else words


def reason_words(waiting: Waiting) -> str:
    """Return the reason and its detail in one sentence."""
    reason = waiting.reason.replace("_", " ")
    detail = printable(waiting.detail).rstrip(".")
    if not detail:
        return reason
    # Who paused or cancelled it is the whole of it.
    is_told = reason in detail.lower() or waiting.reason is WaitingReason.PAUSED
    return detail if is_told else f"{reason}: {detail}"


def waiting_words(waiting: Waiting, now_ms: float) -> str:
    """Return why a run waits, until when and how long."""
    until = f", until {when(waiting.until, now_ms)}" if waiting.until is not None else ""
    return reason_words(waiting) + until


def eta_words(run: RunView, now_ms: float) -> str:
    """Return the local time at which the run should be done; empty where it can't be told."""
    return local_time(run.eta, now_ms) if run.eta is not None else ""


def zone_words(zone: str) -> str:
    """Return when a limit's day ends, for beside a reset in local time, which it would belie."""
    return zone if zone == "rolling" else f"midnight in {zone}"


def hint(progress: Progress) -> str:
    """Return what Ctrl-C does now."""
    if progress.following is not None:
        return FOLLOWING_HINT
    if progress.draining:
        return DRAINING_HINT if progress.in_flight else STOPPING_HINT
    return INTERRUPT_HINT if progress.in_flight else WAITING_HINT


def event_words(event: Event) -> str:
    """Return one event as a short line for ``-v``."""
    data = event.data
    parts = [event.event]
    parts += [
        str(data[name])
        for name in ("key", "http_status", "error_kind")
        if data.get(name) is not None
    ]
    message = data.get("error_message") or _detail(data.get("waiting"))
    if message:
        parts.append(f"({message})")
    return printable(" ".join(parts), limit=300)


def _detail(waiting: object) -> str:
    return str(waiting.get("detail") or "") if isinstance(waiting, dict) else ""
