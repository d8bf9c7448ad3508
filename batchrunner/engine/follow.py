"""A follower: another process sends; this one watches its own runs, and takes over when it can."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Iterable, Mapping
from math import inf
from typing import Final

from batchrunner.clock import Clock
from batchrunner.engine.live import CallLimits
from batchrunner.engine.patience import Waiter
from batchrunner.engine.roster import Ending, finished_code
from batchrunner.engine.stops import Stops
from batchrunner.engine.waits import OUTAGES, STOP_CODES
from batchrunner.errors import AwayError
from batchrunner.models import ExitCode, RunId, RunState, Waiting, WaitingReason
from batchrunner.store.database import Database
from batchrunner.store.driver import Lock
from batchrunner.store.processes import Process, note_on, role_of
from batchrunner.store.runs import run_by_id
from batchrunner.store.views import run_view
from batchrunner.views import Listener, Progress, RunView

#: How often a follower looks (seconds).
LOOK_S: Final = 0.25
#: How long a holder that handed over waits before it wants the lock again (seconds).
PATIENCE_S: Final = 2.0
#: A person has stopped it; what is in flight is still answered and stored.
_STOPPED: Final = frozenset({RunState.CANCELLED, RunState.PAUSED})


class Follower:
    """Watches runs that another process drains."""

    def __init__(
        self,
        *,
        db: Database,
        lock: Lock,
        process: Process,
        own: Mapping[RunId, CallLimits],
        clock: Clock,
        stops: Stops,
        listener: Listener | None,
        waiter: Waiter,
    ) -> None:
        """Take the lock to wait for, the runs to watch, and who waits for a server that is away."""
        self._waiter = waiter
        self._db = db
        self._lock = lock
        self._process = process
        self._own = own
        self._clock = clock
        self._stops = stops
        self._listener = listener
        self._wake = asyncio.Event()
        self._said: set[tuple[RunId, str]] = set()
        #: Since when a run's provider fails, as far as it was seen here (steady ms).
        self._outage_since: dict[RunId, float] = {}
        self._started_at = clock.now()
        self.endings: dict[RunId, Ending] = {}

    async def follow(self, *, patience_s: float = 0.0) -> bool:
        """Watch until the lock is ours (``True``) or there is nothing left to watch (``False``)."""
        self._stops.watch(self._wake.set)
        not_before = self._clock.now() + patience_s * 1000.0
        while True:
            try:
                self._waiter.come_back()
                is_ours = self._clock.now() >= not_before and self._lock.try_acquire()
                # Also with the lock in hand: its holder may have ended our runs just before it let go.
                await self._look_at_all(is_ours)
            except AwayError as error:
                self._lock.release()
                await self._waiter.wait(error)
                continue
            if all(run_id in self.endings for run_id in self._own):
                if is_ours:
                    self._lock.release(unlink=True)
                return False
            if is_ours:
                return True
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def _look_at_all(self, is_ours: bool) -> None:
        for run_id in [run_id for run_id in self._own if run_id not in self.endings]:
            view, note, is_workers = await asyncio.to_thread(self._look, run_id)
            # Whoever sends stores what is in flight of a run that was stopped; without one nobody does.
            is_settling = not is_ours and view is not None and view.jobs.running > 0
            self._judge(run_id, view, note, is_workers, is_settling=is_settling)

    def _look(self, run_id: RunId) -> tuple[RunView | None, str | None, bool]:
        with self._db.read() as connection:
            run = run_by_id(connection, run_id)
            if run is None:
                return None, None, False
            view = run_view(connection, self._db, run, now_ms=int(self._clock.wall()))
            is_workers = role_of(connection, run.runner_id) == "worker"
            return view, note_on(connection, run_id, self._process), is_workers

    def _judge(
        self,
        run_id: RunId,
        view: RunView | None,
        note: str | None,
        is_workers: bool,
        *,
        is_settling: bool,
    ) -> None:
        """Note how a run ended, or show where it stands."""
        if view is None:
            self.endings[run_id] = Ending(ExitCode.WORK_LEFT, None)
        elif view.state is RunState.FINISHED:
            self.endings[run_id] = Ending(finished_code(view.jobs.failed, view.n_rejected), None)
        elif view.state in _STOPPED and not is_settling:
            self.endings[run_id] = Ending(ExitCode.WORK_LEFT, view.waiting)
        elif self._stops.asked:
            assert self._stops.exit_code is not None
            self.endings[run_id] = Ending(
                self._stops.exit_code,
                Waiting(
                    reason=WaitingReason.INTERRUPTED,
                    until=None,
                    detail="this process stopped following; the run goes on where it is sent",
                ),
            )
        elif note == "ended" and view.waiting is not None:
            self.endings[run_id] = Ending(STOP_CODES[view.waiting.reason], view.waiting)
        elif (limit := self._own[run_id].deadline) is not None and self._clock.now() >= limit:
            waiting = Waiting(
                reason=WaitingReason.MAX_TIME, until=None, detail="--max-time is over"
            )
            self.endings[run_id] = Ending(ExitCode.WORK_LEFT, waiting)
        elif (too_long := self._waits_too_long(run_id, view, is_workers)) is not None:
            self.endings[run_id] = Ending(STOP_CODES[too_long.reason], too_long)
        else:
            self._show(run_id, view, note)

    def _waits_too_long(self, run_id: RunId, view: RunView, is_workers: bool) -> Waiting | None:
        """Return why a call waits no more beside workers, who wait without end; ``None``: it does.

        The one sender of a database ends such a run by itself.
        """
        waiting, longest = view.waiting, self._own[run_id].max_wait_s
        if waiting is None or view.state is not RunState.WAITING or not is_workers:
            self._outage_since.pop(run_id, None)
            return None
        now = self._clock.now()
        ends_at = inf if waiting.until is None else waiting.until - self._clock.wall()
        if waiting.reason in OUTAGES:
            # One request at a time is tried: what lasts is the outage.
            ends_at = now - self._outage_since.setdefault(run_id, now)
        if longest is None or ends_at <= longest * 1000.0:
            return None
        return Waiting(
            reason=waiting.reason,
            until=waiting.until,
            detail=f"{waiting.detail.rstrip('.')}: longer than this call may wait; the workers go on waiting",
            fix=f"look with: batchrunner status {shlex.quote(view.name)}; or follow it again with:"
            f" batchrunner resume {shlex.quote(view.name)} --wait",
        )

    def _show(self, run_id: RunId, view: RunView, note: str | None) -> None:
        if self._listener is None:
            return
        if note and note != "ended" and (run_id, note) not in self._said:
            self._said.add((run_id, note))
            self._listener.notice(f"{view.name} waits: {note}")
        self._listener.progress(
            Progress(
                run=view,
                in_flight=view.jobs.running,
                concurrency=0,
                allowed_per_minute=_allowed(view),
                elapsed_s=(self._clock.now() - self._started_at) / 1000.0,
                following=view.runner,
            )
        )


def _allowed(view: RunView) -> float | None:
    values: Iterable[float] = (
        limit.value for limit in view.limits if limit.limit == "rpm" and limit.value is not None
    )
    return min(values, default=None)
