"""One run, one job, one kind of failure as a list of named facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

import msgspec

from batchrunner.cli.settings import Settings
from batchrunner.cli.text import local_time, number, plural, printable, printable_block, when
from batchrunner.cli.words import reason_words, zone_words
from batchrunner.core.dollars import as_bound, as_dollars
from batchrunner.models import RunState
from batchrunner.views import BudgetView, ErrorGroup, JobDetail, LimitView, RunView, WorkerView

Fact = tuple[str, str]
#: Nobody reads a longer body line by line; indented it takes thirty times its size.
_INDENTED: Final = 1024 * 1024
#: Workers that the screen has room for.
_WORKERS: Final = 12


def status_facts(
    run: RunView, settings: Settings, now_ms: float, budget: Iterable[BudgetView] = ()
) -> Iterator[Fact]:
    """Yield the screen of ``status``, top to bottom; ``budget`` is that of all runs."""
    jobs, requests = run.jobs, run.requests
    yield "run", f"{printable(run.name)} ({printable(run.id)}, {printable(run.provider)})"
    yield "state", run.state
    if run.waiting is not None:
        yield "why", reason_words(run.waiting)
        yield "until", when(run.waiting.until, now_ms) if run.waiting.until is not None else ""
        yield "fix", settings.placed(run.waiting.fix, run.name)
    if run.runner is not None and not run.workers:
        runner = run.runner
        since = local_time(runner.since, now_ms)
        yield (
            "runner",
            printable(f"process {runner.pid} on {runner.host} ({runner.user}) since {since}"),
        )
    yield from worker_facts(run, now_ms)
    counts = (
        (jobs.failed, "failed"),
        (jobs.cancelled, "cancelled"),
        (jobs.running, "in flight"),
        (jobs.pending, "pending"),
    )
    others = "".join(f", {n:,} {word}" for n, word in counts if n)
    yield "jobs", f"{jobs.completed:,} of {jobs.total:,} completed{others}"
    if run.n_rejected:
        yield "rejected", f"{plural(run.n_rejected, 'line')} of its files"
    for model, message in run.holds.items():
        yield "held", f"{printable(model)}: {printable(message)}"
    sends = (
        (requests.sent, "sent"),
        (requests.retried, "retried"),
        (requests.rate_limited, "rate limited"),
        (requests.interrupted, "interrupted"),
    )
    yield "requests", ", ".join(f"{n:,} {word}" for n, word in sends)
    if run.maybe_executed:
        yield "note", f"{plural(run.maybe_executed, 'send')} may have been acted on, answer lost"
    for limit in run.limits:
        yield "limits", limit_words(limit, now_ms)
    if run.input_tokens is not None or run.output_tokens is not None:
        yield "tokens", f"{number(run.input_tokens)} in, {number(run.output_tokens)} out"
    yield "cost", as_dollars(run.cost_usd) if run.cost_usd is not None else ""
    yield "rate", rate_words(run, now_ms)
    yield from _budget_facts(budget)
    yield "created", local_time(run.created_at, now_ms)
    yield "finished", local_time(run.finished_at, now_ms) if run.finished_at is not None else ""
    yield "database", settings.db_name
    yield "next", next_command(run, settings)


def worker_facts(run: RunView, now_ms: float) -> Iterator[Fact]:
    """Yield who drains the queue, and what each has of a run; where nobody takes that, why."""
    for why, n in run.why_left:
        yield "why", f"left by {plural(n, 'worker')}: {printable(why)}"
    yield "tags", printable(", ".join(run.tags))
    if not run.workers:
        return
    n_left = sum(worker.leaves is not None for worker in run.workers)
    left = f", {n_left:,} {'leaves' if n_left == 1 else 'leave'} this run to others"
    yield "workers", plural(len(run.workers), "worker") + (left if n_left else "")
    # Those that have something of it first.
    ordered = sorted(run.workers, key=lambda worker: (-worker.in_flight, -worker.answered))
    for worker in ordered[:_WORKERS]:
        yield "workers", worker_words(worker, now_ms)
    if (more := len(ordered) - _WORKERS) > 0:
        yield "workers", f"and {more:,} more: status --json has all"


def worker_words(worker: WorkerView, now_ms: float) -> str:
    """Return ``4242 on box (ci): 4 in flight, 395 answered (26 %), since 12:01:00, beat 0.2 s ago``."""
    has = f"{worker.in_flight:,} in flight, {worker.answered:,} answered"
    if worker.share is not None:
        has += f" ({worker.share:.0%})"
    if worker.leaves is not None and not (worker.in_flight or worker.answered):
        has = "leaves it"
    tags = f", tags {','.join(worker.tags)}" if worker.tags else ""
    since = local_time(worker.since, now_ms)
    return printable(
        f"{worker.pid} on {worker.host} ({worker.user}{tags}): {has}, since {since},"
        f" beat {worker.beat_age_ms / 1000:.1f} s ago"
    )


def _budget_facts(views: Iterable[BudgetView]) -> Iterator[Fact]:
    """Yield what is spent of the budget of all runs."""
    for view in views:
        lost = f", up to {as_dollars(view.lost_usd)} more for answers that were lost"
        yield (
            "budget",
            f"{as_dollars(view.spent_usd)} of {as_bound(view.amount_usd)} a {view.unit} (UTC) spent by all runs"
            + (lost if view.lost_usd else ""),
        )


def next_command(run: RunView, settings: Settings) -> str:
    """Return the command that is most likely wanted next."""
    if run.state in {RunState.READY, RunState.PAUSED, RunState.HALTED}:
        return settings.command("resume", run.name)
    if run.state is RunState.CANCELLED:
        return settings.command("retry", run.name)
    if run.state is RunState.FINISHED:
        verb = "errors" if run.jobs.failed else "export"
        return settings.command(verb, run.name)
    return ""


def limit_words(limit: LimitView, now_ms: float) -> str:
    """Return ``rpm 50 (flag): 23 used, 27 left, resets 12:01:00 (in 30s)``."""
    value = number(limit.value) if limit.value is not None else "none"
    parts = []
    if limit.used is not None:
        parts.append(f"{limit.used:,} used")
    if limit.remaining is not None:
        parts.append(f"{limit.remaining:,} left")
    if limit.resets_at is not None:
        parts.append(f"resets {when(limit.resets_at, now_ms)}")
    if limit.zone:
        parts.append(printable(zone_words(limit.zone)))
    scope = f", {printable(limit.scope)}" if "/" in limit.scope else ""
    words = f"{printable(limit.limit)} {value} ({printable(limit.source)}{scope})"
    return f"{words}: {', '.join(parts)}" if parts else words


def rate_words(run: RunView, now_ms: float) -> str:
    """Return the pace and when the run should be done; empty where nothing is known."""
    rate, words = run.requests_per_minute, []
    if rate is not None:
        words.append(f"{rate:,.1f} requests/min")
    if run.eta is not None:
        words.append(f"done about {local_time(run.eta, now_ms)}")
    return ", ".join(words)


def job_facts(detail: JobDetail, now_ms: float) -> Iterator[Fact]:
    """Yield the head of ``show``."""
    job = detail.job
    yield "job", printable(job.key)
    yield "status", printable(job.status)
    yield "attempts", str(job.attempts)
    yield (
        "error",
        printable(": ".join(word for word in (job.error_kind, job.error_message) if word)),
    )
    yield "waits", printable(detail.wait_reason or "")
    yield "next try", when(detail.not_before, now_ms) if detail.not_before else ""
    yield "bodies", "removed by `db prune --bodies`" if detail.is_pruned else ""
    yield "target", printable(f"{detail.method} {detail.url or ''}".strip())
    yield "model", printable(job.model or "")
    yield "http", str(job.http_status) if job.http_status is not None else ""
    yield "finish", printable(job.finish_reason or "")
    if job.input_tokens is not None or job.output_tokens is not None:
        yield "tokens", f"{number(job.input_tokens)} in, {number(job.output_tokens)} out"
    yield "cost", f"${job.cost_usd:,.6f}" if job.cost_usd is not None else ""
    yield "latency", f"{job.latency_ms:,} ms" if job.latency_ms is not None else ""
    yield "request id", printable(job.request_id or "")
    yield "started", local_time(job.started_at, now_ms) if job.started_at is not None else ""
    yield "finished", local_time(job.finished_at, now_ms) if job.finished_at is not None else ""
    yield "metadata", printable(job.metadata.decode(errors="replace")) if job.metadata else ""


def error_facts(group: ErrorGroup, run: str, settings: Settings, now_ms: float) -> Iterator[Fact]:
    """Yield one kind of failure of the run of that name."""
    status = f" ({group.http_status})" if group.http_status is not None else ""
    jobs = plural(group.count, "job")
    if group.held_model is not None:
        verb = "waits" if group.count == 1 else "wait"
        jobs += f" of {printable(group.held_model)} {verb}, nothing has failed"
    yield "error", f"{printable(group.kind)}{status}: {jobs}"
    if group.n_causes > 1:
        for cause in group.causes:
            yield (
                "causes",
                f"{plural(cause.count, 'job')}: {printable(cause.message)} ({printable(cause.example_key)})",
            )
        others = group.n_causes - len(group.causes)
        yield "causes", f"and {plural(others, 'cause')} more" if others else ""
    else:
        yield "example", f"{printable(group.example_key)}: {printable(group.example_message)}"
    times = [local_time(at, now_ms) for at in (group.first_at, group.last_at) if at is not None]
    yield "when", times[0] if len(set(times)) == 1 else " to ".join(times)
    yield "fix", settings.placed(group.fix, run)


def pretty_body(data: bytes) -> str:
    """Return a stored body for reading: JSON indented, other text as it is, all of it harmless."""
    # To format it proves that it is JSON, and builds nothing of it.
    with suppress(msgspec.DecodeError, RecursionError):
        data = msgspec.json.format(data, indent=2 if len(data) <= _INDENTED else -1)
    return printable_block(data.decode(errors="replace"))
