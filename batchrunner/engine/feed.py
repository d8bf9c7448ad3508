"""What watchers of a run are told: events after their commit, and pictures while it lives."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from batchrunner.clock import Clock
from batchrunner.core.pace import eta
from batchrunner.engine.live import LiveRun
from batchrunner.engine.roster import Roster
from batchrunner.engine.scopes import Scopes
from batchrunner.models import JobCounts, RunState, Waiting
from batchrunner.store.holder import RunRow
from batchrunner.store.records import Settle
from batchrunner.views import Event, LimitView, Listener, Progress, Runner, RunView

#: Outcomes of the send log that an event tells.
_JOB_EVENTS = {"completed": "job.completed", "failed": "job.failed", "retry": "job.retry"}
#: The rate shown is that of the last minute.
_RATE_MS = 60_000.0


def rfc3339(wall_ms: int | None) -> str | None:
    """Return an instant as CONTRACT §3 writes it, or ``None``."""
    if wall_ms is None:
        return None
    at = datetime.fromtimestamp(wall_ms / 1000, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{wall_ms % 1000:03d}Z"


def counts_json(counts: JobCounts) -> dict[str, int]:
    """Return a run's counts as JSON has them."""
    return {
        "total": counts.total,
        "pending": counts.pending,
        "running": counts.running,
        "completed": counts.completed,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
    }


def waiting_json(waiting: Waiting | None) -> dict[str, Any] | None:
    """Return why a run waits as JSON has it."""
    if waiting is None:
        return None
    return {
        "reason": waiting.reason.value,
        "until": rfc3339(waiting.until),
        "detail": waiting.detail,
        "fix": waiting.fix or None,
    }


class Feed:
    """Tells one listener of the runs it asked for; no listener hears of others' runs."""

    def __init__(
        self, listener: Listener | None, clock: Clock, me: Runner, *, is_worker: bool = False
    ) -> None:
        """Take who listens and what this process is called; a worker tells of all that it sends."""
        self._is_worker = is_worker
        self._listener = listener
        self._clock = clock
        self._me = me

    def notice(self, text: str) -> None:
        """Say one sentence to the person."""
        if self._listener is not None:
            self._listener.notice(text)

    def settled(self, settles: Sequence[Settle], roster: Roster) -> None:
        """Tell the jobs' events of one commit."""
        if self._listener is None or not self._listener.wants_jobs:
            return
        for settle in settles:
            name = _JOB_EVENTS.get(settle.outcome or "")
            run = roster[settle.run_id]
            if name is not None and self._is_told(run):
                self._emit(name, run, settle.ended_at, _job_data(settle, run))

    def _is_told(self, run: LiveRun) -> bool:
        return run.is_own or self._is_worker

    def started(self, run: LiveRun) -> None:
        """Tell that sending begins."""
        if self._is_told(run):
            self._emit("run.started", run, None, {"jobs": counts_json(run.counts)})

    def left(self, row: RunRow, why: str) -> None:
        """Tell that a worker leaves a run to others."""
        self.notice(f"{row.name} is left to others: {why}")
        self._tell("run.left", row, None, {"why": why})

    def waiting(self, run: LiveRun) -> None:
        """Tell that a wait began or is over."""
        if self._is_told(run):
            name = "limit.waiting" if run.waiting else "limit.resumed"
            self._emit(name, run, None, {"waiting": waiting_json(run.waiting)})

    def ended(self, run: LiveRun, stop: Waiting | None) -> None:
        """Tell that a run is over or stopped with work left."""
        if not self._is_told(run):
            return
        data: dict[str, Any] = {"jobs": counts_json(run.counts)}
        if stop is not None:
            data["waiting"] = waiting_json(stop)
        if self._is_worker:
            # Whoever asked for a run ends with a summary of it; a worker goes on.
            self.notice(_end_words(run, stop))
        self._emit("run.finished" if stop is None else "run.halted", run, None, data)

    def picture(self, run: LiveRun, scopes: Scopes, *, is_draining: bool) -> None:
        """Show where a run stands now."""
        if self._listener is None or not self._is_told(run):
            return
        self._listener.progress(self.progress(run, scopes, is_draining=is_draining))

    def progress(self, run: LiveRun, scopes: Scopes, *, is_draining: bool) -> Progress:
        """Return a picture of a run."""
        now, wall = self._clock.now(), self._clock.wall()
        limits = limit_views(run, scopes, now, wall)
        allowed = min(
            (limit.value for limit in limits if limit.limit == "rpm" and limit.value is not None),
            default=None,
        )
        rate = rate_per_minute(run, now)
        view = RunView(
            id=run.row.uid,
            name=run.row.name,
            state=RunState.WAITING if run.waiting else RunState.RUNNING,
            provider=run.row.provider,
            created_at=run.row.created_at,
            started_at=run.row.started_at,
            runner=self._me,
            jobs=run.counts,
            requests=run.requests,
            waiting=run.waiting or run.stop,
            limits=limits,
            input_tokens=run.input_tokens,
            output_tokens=run.output_tokens,
            cost_usd=run.cost_usd,
            requests_per_minute=rate,
            eta=eta(
                run.counts.pending + run.counts.running,
                rate if run.counts.completed else None,
                limits,
                wall=int(wall),
                waiting=run.waiting,
            ),
            holds={
                lane.model: run.holds[model_id][1]
                for model_id, lane in run.lanes.items()
                if model_id in run.holds
            },
            n_rejected=run.row.n_rejected,
        )
        return Progress(
            run=view,
            in_flight=run.in_flight,
            concurrency=run.allowed,
            is_auto=run.concurrency == "auto",
            allowed_per_minute=allowed,
            elapsed_s=(now - run.started_at) / 1000.0,
            recent_errors=tuple(run.recent_errors),
            draining=is_draining,
        )

    def _emit(self, name: str, run: LiveRun, at: int | None, data: dict[str, Any]) -> None:
        self._tell(name, run.row, at, data)

    def _tell(self, name: str, row: RunRow, at: int | None, data: dict[str, Any]) -> None:
        if self._listener is not None:
            self._listener.event(
                Event(
                    event=name,
                    at=at if at is not None else int(self._clock.wall()),
                    run_id=row.uid,
                    run_name=row.name,
                    data=data,
                )
            )


def _end_words(run: LiveRun, stop: Waiting | None) -> str:
    """Return what a worker says of a run that it has no more of."""
    counts = run.counts
    done = f"{counts.completed:,} of {counts.total:,} completed"
    if counts.failed:
        done += f", {counts.failed:,} failed"
    if stop is None:
        return f"{run.row.name} is finished: {done}"
    why = (stop.detail or stop.reason.replace("_", " ")).rstrip(".")
    return f"{run.row.name} stopped, {done}: {why}." + (f" {stop.fix}" if stop.fix else "")


def _job_data(settle: Settle, run: LiveRun) -> dict[str, Any]:
    lane = run.lanes.get(settle.model_id)
    return {
        "key": settle.key,
        "status": settle.state,
        "attempts": settle.attempts,
        "http_status": settle.http_status,
        "error_kind": settle.kind,
        "error_message": settle.message,
        "model": settle.model or (lane.model if lane else None) or None,
        "finish_reason": settle.finish_reason,
        "input_tokens": settle.input_tokens,
        "output_tokens": settle.output_tokens,
        "cost_usd": settle.cost_usd,
        "latency_ms": settle.latency_ms,
        "request_id": settle.request_id,
        "started_at": rfc3339(settle.started_at),
        "finished_at": rfc3339(settle.finished_at),
    }


def rate_per_minute(run: LiveRun, now: float) -> float | None:
    """Return the sends of the last minute, scaled up while the run is younger than that."""
    while run.sends and run.sends[0] < now - _RATE_MS:
        run.sends.popleft()
    if len(run.sends) < 2:
        return None
    span = max(min(_RATE_MS, now - run.started_at), now - run.sends[0], 1_000.0)
    if len(run.sends) == run.sends.maxlen:
        span = max(now - run.sends[0], 1.0)
    # A young run's sends are the intervals between them and one more.
    n = len(run.sends) if span >= _RATE_MS else len(run.sends) - 1
    return n * 60_000.0 / span


def limit_views(run: LiveRun, scopes: Scopes, now: float, wall: float) -> list[LimitView]:
    """Return the limits a run is under, the account's first."""
    views = []
    account = scopes.names[run.account.id]
    seen = set()
    pools = (lane.pool for lane in run.lanes.values())
    for scope in (run.account, *pools):
        if scope.id in seen:
            continue
        seen.add(scope.id)
        name = account if scope is run.account else f"{account}/{scopes.names[scope.id]}"
        views += [
            LimitView(
                scope=name,
                limit=use.limit.name,
                value=use.limit.n,
                source=use.limit.source,
                used=use.used,
                remaining=use.remaining,
                resets_at=use.resets_at,
                zone=use.limit.zone,
            )
            for use in scope.uses(now=now, wall=wall)
        ]
    return views
