"""Lets runs go: those that are over or shall stop, and at a holder's end all that are left."""

from __future__ import annotations

from functools import partial
from typing import Final

from batchrunner.clock import Clock
from batchrunner.core.outcomes import HALTS
from batchrunner.engine.feed import Feed
from batchrunner.engine.live import LiveRun
from batchrunner.engine.roster import Ending, Roster, finished_code
from batchrunner.engine.waits import STOP_CODES, is_sample_over
from batchrunner.failpoints import hit
from batchrunner.models import ExitCode, JobState, StoredRunState, Waiting, WaitingReason
from batchrunner.store import holder as statements
from batchrunner.store import sample, sharing, waits
from batchrunner.store.database import Writer
from batchrunner.store.processes import forget_waits
from batchrunner.store.runs import DriverConnection
from batchrunner.store.stops import cancel_some, end_run, let_go, put_back

__all__ = ["MAY_BE_OWN", "Departures"]

#: Stops by a call's own bounds: a signal, ``--max-time``, ``--max-wait``.
_OF_CALL: Final = frozenset(
    {
        WaitingReason.INTERRUPTED,
        WaitingReason.MAX_TIME,
        WaitingReason.RATE_LIMITED,
        WaitingReason.OVERLOADED,
        WaitingReason.DAILY_LIMIT,
    }
)
#: With an end they are a wait that was too long for the call.
_OF_CALL_IF_DATED: Final = frozenset({WaitingReason.SPEND_LIMIT, WaitingReason.BUDGET})
#: Stops that another machine, with another key, may not have met.
MAY_BE_OWN: Final = frozenset(halt.reason for halt in HALTS.values() if halt.halted)


class Departures:
    """Stores how runs ended, and notes it on the roster for the processes that asked for them."""

    def __init__(
        self,
        *,
        writer: Writer,
        clock: Clock,
        roster: Roster,
        feed: Feed,
        worker: int | None = None,
    ) -> None:
        """Take the runs, and who is told of an end; ``worker``: this one's number, where others send as well."""
        self._writer = writer
        self._clock = clock
        self._roster = roster
        self._feed = feed
        self._worker = worker

    async def end(self, run: LiveRun, interrupted_code: int | None = None) -> None:
        """Let a run go that is over or shall stop: nothing of it is out any more."""
        wall = int(self._clock.wall())
        is_alike = run.stop is not None and run.stop.reason is WaitingReason.SAME_ERROR
        is_cancelled = run.row.state == StoredRunState.CANCELLED
        if is_cancelled:
            await self._cancel_rest(run, wall)
        is_finished = run.counts.pending == 0 and not is_alike
        stop = None if is_finished and not is_cancelled else run.stop
        wall = int(self._clock.wall())
        times = run.take_times(self._clock.now(), wall)

        n_back = 0

        def leave(conn: DriverConnection) -> bool:
            nonlocal n_back
            if self._worker is not None:
                run.askers = sharing.askers(conn, run.id)
            if (
                is_over := self._is_over_for_others(conn, run, is_finished=is_finished)
            ) is not None:
                return is_over
            if is_alike:
                # Not before the run has stopped: others would take them.
                n_back = put_back(conn, run.id, list(run.first_failures))
            end_run(
                conn,
                run.id,
                None if is_cancelled else stop,
                finished=is_finished and not is_cancelled,
                wall=wall,
                only_for=run.asked_by if _is_of_call(stop) else None,
                times=times
                if self._worker is None
                else waits.with_rest(conn, run.id, times, run.times.cause, wall=wall),
            )
            if run.is_sample and (is_finished or is_sample_over(run)):
                sample.end_sample(conn, run.id, is_paused=not is_finished)
            return True

        hit("end.before")
        if not await self._writer.transact(leave):
            return
        hit("end.committed")
        run.add(JobState.FAILED, -n_back)
        run.add(JobState.PENDING, n_back)
        run.ended = True
        run.waiting = None
        for _ in range(len(run.senders)):
            run.queue.put(None)
        if is_finished and not is_cancelled:
            code = finished_code(run.counts.failed, run.row.n_rejected)
        else:
            code = _stop_code(stop, interrupted_code)
        self._roster.endings[run.id] = Ending(code, stop, is_told=True)
        self._feed.ended(run, stop)

    def _is_over_for_others(
        self, conn: DriverConnection, run: LiveRun, *, is_finished: bool
    ) -> bool | None:
        """Return whether a worker lets a run go that others have; ``None``: its end is to be stored.

        ``False``: it is not over, since others have jobs of it in flight or have put some back. A stop is
        all workers', whoever met it first; but what may be this one's alone (its key, its network) is no
        reason to stop others that have something in flight.
        """
        if self._worker is None:
            return None
        there = statements.load_run(conn, run.id)
        # Whoever stored that it is finished has told where its time went, to the end.
        if (
            there is None
            or there.state == StoredRunState.FINISHED
            or (there.state != StoredRunState.READY and not run.tells)
        ):
            return True
        if is_finished:
            if not there.counts.pending + there.counts.running:
                return None
            run.counts = there.counts
            return False
        if is_sample_over(run) and self._has_more(conn, run):
            return False
        is_over = run.is_ended_elsewhere or sharing.end_of(conn, run.id) is not None
        if not is_over and there.counts.running and run.stop and run.stop.reason in MAY_BE_OWN:
            sharing.hand_on(conn, run.id, self._worker, wall=int(self._clock.wall()))
            is_over = True
        return is_over or None

    @staticmethod
    def _has_more(conn: DriverConnection, run: LiveRun) -> bool:
        """Take over which of a sample others have put back; return whether there are any."""
        has_more = False
        for row in statements.load_lanes(conn, run.id):
            if row.next_due is not None:
                has_more = True
                if row.model_id in run.lanes:
                    run.lanes[row.model_id].next_due = row.next_due
        if has_more:
            run.stop = None
        return has_more

    async def _cancel_rest(self, run: LiveRun, wall: int) -> None:
        """Cancel what came back from the senders after the run was given up."""
        while n := await self._writer.transact(lambda conn: cancel_some(conn, run.id, wall=wall)):
            run.add(JobState.PENDING, -n)
            run.add(JobState.CANCELLED, n)

    async def leave(self) -> None:
        """Hand every run that is still live back, so that another process may take it up."""
        for run in self._roster.live:
            if not run.tells:
                continue
            wall = int(self._clock.wall())
            times = run.take_times(self._clock.now(), wall)
            if self._worker is not None:
                await self._writer.transact(partial(forget_waits, process_id=self._worker))
            await self._writer.transact(partial(let_go, run_id=run.id, wall=wall, times=times))


def _stop_code(stop: Waiting | None, interrupted_code: int | None) -> int:
    if stop is None:
        return ExitCode.WORK_LEFT
    if stop.reason is WaitingReason.INTERRUPTED and interrupted_code is not None:
        return interrupted_code
    return STOP_CODES[stop.reason]


def _is_of_call(stop: Waiting | None) -> bool:
    """Whether only the call that asked for a run wanted its stop, not what it met."""
    return stop is not None and (
        stop.reason in _OF_CALL or (stop.reason in _OF_CALL_IF_DATED and stop.until is not None)
    )
