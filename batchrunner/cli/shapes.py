"""Views as JSON: the shapes of CONTRACT §6, and how they are written.

One object with ``"version": 1``; times are RFC 3339 in UTC with milliseconds; unknown is null.
Lists are written row by row, so that a million jobs need no memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

import msgspec

from batchrunner.cli.text import rfc3339
from batchrunner.errors import BatchrunnerError, InputError
from batchrunner.formats.rows import answer
from batchrunner.models import Waiting
from batchrunner.planned import CompareView, PlanView
from batchrunner.views import (
    BudgetView,
    CheckView,
    CopyView,
    ErrorGroup,
    Event,
    ExplainView,
    JobDetail,
    JobView,
    LimitView,
    PruneView,
    Runner,
    RunView,
    SaidView,
    SendView,
    Standing,
    UsageView,
    WorkerView,
)

VERSION: Final = 1
Json = dict[str, Any]
#: (a fix, the run it is about) → the fix, fit to be pasted where the call was typed.
Placed = Callable[[str, str], str]


def write_json(value: Mapping[str, Any]) -> None:
    """Print one object: a line, indented where a person looks at it."""
    data = msgspec.json.encode({"version": VERSION, **value})
    if sys.stdout.isatty():
        data = msgspec.json.format(data, indent=2)
    sys.stdout.write(data.decode() + "\n")
    sys.stdout.flush()


def write_list(name: str, rows: Iterable[Json], **beside: Any) -> None:
    """Print ``{"version":1, name: […]}`` as the rows come; ``beside`` are keys before the list."""
    head = msgspec.json.encode({"version": VERSION, **beside})[:-1].decode()
    write = sys.stdout.write
    write(f'{head},"{name}":[')
    separator = "\n"
    for row in rows:
        write(separator + msgspec.json.encode(row).decode())
        separator = ",\n"
    write("\n]}\n")
    sys.stdout.flush()


def plan_object(plan: PlanView) -> Json:
    """Return the object that ``plan`` and ``submit --dry-run`` print."""
    faster = plan.faster
    return {
        "provider": plan.provider,
        "account": plan.account or None,
        "jobs": plan.jobs,
        "models": [asdict(model) for model in plan.models],
        "tokens": {"input": asdict(plan.input_tokens), "output": asdict(plan.output_tokens)},
        "cost_usd": None if plan.cost_usd is None else asdict(plan.cost_usd),
        "limits": [asdict(limit) for limit in plan.limits],
        "estimates": [asdict(estimate) for estimate in plan.estimates],
        "counted": [asdict(count) for count in plan.counted],
        "binding_limit": plan.binding_limit,
        "faster": None
        if faster is None
        else {
            "value": faster.value,
            "finish_at": rfc3339(faster.finish_at),
            "free_finish_at": rfc3339(faster.free_finish_at),
        },
        "days": len(plan.schedule) if plan.finish_at is not None else None,
        "zone": plan.zone,
        "schedule": [
            {**asdict(day), "first": rfc3339(day.first), "last": rfc3339(day.last)}
            for day in plan.schedule
        ],
        "duration_s": plan.duration_s,
        "finish_at": rfc3339(plan.finish_at),
        "notes": list(plan.notes),
    }


def compare_object(view: CompareView) -> Json:
    """Return the object that ``plan --compare`` prints."""
    return {
        "run": {"id": view.run_id, "name": view.run_name, "finished": view.is_finished},
        "jobs": {"total": view.jobs, "answered": view.answered},
        "compare": {
            figure.name: {
                "planned": figure.planned,
                "low": figure.low,
                "high": figure.high,
                "took": figure.took,
                "off": figure.off,
            }
            for figure in view.figures
        },
        "models": [asdict(model) for model in view.models],
        "as_begun": view.is_as_begun,
        "plan": plan_object(view.plan),
        "notes": list(view.notes),
    }


def run_object(run: RunView) -> Json:
    """Return the object that ``status`` prints and ``runs`` lists."""
    return {
        "run": {
            "id": run.id,
            "name": run.name,
            "state": run.state,
            "provider": run.provider,
            "created_at": rfc3339(run.created_at),
            "started_at": rfc3339(run.started_at),
            "finished_at": rfc3339(run.finished_at),
            "runner": runner_object(run.runner),
            "tags": list(run.tags),
        },
        "jobs": {"total": run.jobs.total, **asdict(run.jobs)},
        "requests": asdict(run.requests),
        "waiting": waiting_object(run.waiting),
        "limits": [limit_row(limit) for limit in run.limits],
        "tokens": {"input": run.input_tokens, "output": run.output_tokens},
        "cost_usd": run.cost_usd,
        "rate": {"requests_per_minute": run.requests_per_minute, "eta": rfc3339(run.eta)},
        "holds": dict(run.holds),
        "maybe_executed": run.maybe_executed,
        "n_rejected": run.n_rejected,
        "workers": [worker_object(worker) for worker in run.workers],
    }


def worker_object(worker: WorkerView) -> Json:
    """Return a worker of the queue, and what it has of the run."""
    return {
        **asdict(worker),
        "since": rfc3339(worker.since),
        "beat_at": rfc3339(worker.beat_at),
    }


def runner_object(runner: Runner | None) -> Json | None:
    """Return the live process that drains a run."""
    return None if runner is None else {**asdict(runner), "since": rfc3339(runner.since)}


def waiting_object(waiting: Waiting | None) -> Json | None:
    """Return why a run waits or stopped."""
    if waiting is None:
        return None
    return {
        "reason": waiting.reason,
        "until": rfc3339(waiting.until),
        "detail": waiting.detail,
        "fix": waiting.fix or None,
    }


def limit_row(limit: LimitView) -> Json:
    """Return one limit in force."""
    value = limit.value
    return {
        **asdict(limit),
        "value": int(value) if value is not None and float(value).is_integer() else value,
        "resets_at": rfc3339(limit.resets_at),
    }


def budget_object(views: Iterable[BudgetView]) -> Json:
    """Return what is spent and left of the budget, by ``day`` and ``month``."""
    return {
        view.unit: {
            "amount_usd": view.amount_usd,
            "spent_usd": view.spent_usd,
            "lost_usd": view.lost_usd,
            "left_usd": view.left_usd,
            "resets_at": rfc3339(view.resets_at),
        }
        for view in views
    }


def said_row(said: SaidView) -> Json:
    """Return one of a provider's limits in its own words."""
    return {
        **asdict(said),
        "resets_at": rfc3339(said.resets_at),
        "said_at": rfc3339(said.said_at),
    }


def usage_row(usage: UsageView) -> Json:
    """Return what was used, with every name that rows can be told apart by."""
    waits = usage.waits
    return {**asdict(usage), "waited_s": None if waits is None else sum(waits.values())}


def explain_object(view: ExplainView) -> Json:
    """Return where a run's time went, and why it or one of its jobs is not done."""
    run, time, job = view.run, view.time, view.job
    return {
        "run": {"id": run.id, "name": run.name, "state": run.state},
        "standing": _standing_object(view.standing),
        "time": None
        if time is None
        else {
            "began_at": rfc3339(time.began_at),
            "ended_at": rfc3339(time.ended_at),
            "died_at": rfc3339(time.died_at),
            "seconds": sum(part.seconds for part in time.parts),
            "parts": [asdict(part) for part in time.parts],
            "n_waits": time.n_waits,
            "waits": [
                {
                    **asdict(wait),
                    "began_at": rfc3339(wait.began_at),
                    "ended_at": rfc3339(wait.ended_at),
                }
                for wait in time.waits
            ],
        },
        "advice": view.advice or None,
        "job": None
        if job is None
        else {
            "key": job.key,
            "status": job.status,
            "standing": _standing_object(job.standing),
            "moments": [{**asdict(one), "at": rfc3339(one.at)} for one in job.moments],
        },
    }


def _standing_object(standing: Standing) -> Json:
    return {**asdict(standing), "until": rfc3339(standing.until)}


def job_row(job: JobView) -> Json:
    """Return a job with the CSV's names, and its metadata as an object."""
    return {
        **asdict(job),
        "started_at": rfc3339(job.started_at),
        "finished_at": rfc3339(job.finished_at),
        "metadata": body(job.metadata),
    }


def send_row(send: SendView) -> Json:
    """Return one row of a job's send log."""
    return {
        **asdict(send),
        "planned_at": rfc3339(send.planned_at),
        "sent_at": rfc3339(send.sent_at),
        "ended_at": rfc3339(send.ended_at),
    }


def job_object(detail: JobDetail) -> Json:
    """Return one job whole."""
    return {
        "job": {
            **job_row(detail.job),
            "method": detail.method,
            "url": detail.url,
            "not_before": rfc3339(detail.not_before),
            "wait_reason": detail.wait_reason,
            "request": body(detail.request),
            "response": body(detail.response),
            "pruned": detail.is_pruned,
            "sends": [send_row(send) for send in detail.sends],
        }
    }


def prune_object(view: PruneView) -> Json:
    """Return what ``db prune`` took away."""
    return {
        "pruned": [
            {"run": {"id": run.id, "name": run.name}, "jobs": run.jobs} for run in view.runs
        ],
        "bodies": view.is_bodies,
        "size_before": view.size_before,
        "size_after": view.size_after,
        "shrunk": view.is_shrunk,
        "copies": list(view.copies),
    }


def copy_object(view: CopyView) -> Json:
    """Return what ``db copy`` took along."""
    return {
        "copy": {
            "from": view.source,
            "to": view.to,
            "runs": view.runs,
            "jobs": view.jobs,
            "rows": dict(view.rows),
            "replaced": view.n_replaced,
            "kept": view.is_kept,
        }
    }


def error_row(group: ErrorGroup) -> Json:
    """Return one kind of failure."""
    return {
        **asdict(group),
        "first_at": rfc3339(group.first_at),
        "last_at": rfc3339(group.last_at),
    }


def check_row(check: CheckView) -> Json:
    """Return one check of ``doctor``."""
    return {
        "check": check.check,
        "status": check.status.value,
        "detail": check.detail,
        "fix": check.fix,
        "took_ms": None if check.took_ms is None else round(check.took_ms, 1),
        "base_url": check.base_url,
        "proxy": check.proxy,
    }


def event_object(event: Event, placed: Placed) -> Json:
    """Return one line of ``submit --json``; ``placed`` makes a fix find the same database and run."""
    data = event.data
    if (waiting := data.get("waiting")) and waiting.get("fix"):
        data = {**data, "waiting": {**waiting, "fix": placed(waiting["fix"], event.run_name)}}
    return {
        "version": VERSION,
        "event": event.event,
        "at": rfc3339(event.at),
        "run": {"id": event.run_id, "name": event.run_name},
        **data,
    }


def failure(error: BatchrunnerError) -> Json:
    """Return the object that a failure prints."""
    faults = error.faults if isinstance(error, InputError) else ()
    return {
        "error": {
            "exit_code": error.exit_code,
            "kind": error.kind,
            "message": error.message,
            "fix": error.fix,
            "lines": [
                {"file": fault.file, "line": fault.line, "reason": fault.reason} for fault in faults
            ],
        }
    }


def body(data: bytes | None) -> msgspec.Raw | str | None:
    """Return stored bytes for embedding: JSON byte for byte save for blanks, anything else as text."""
    return answer(data) if data else None
