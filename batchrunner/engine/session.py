"""One call's time on a database: hold the lock and send, or follow who holds it, until it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from batchrunner.engine.ending import Left
from batchrunner.engine.follow import LOOK_S, PATIENCE_S, Follower
from batchrunner.engine.holding import hold
from batchrunner.engine.live import CallLimits, WireFactory
from batchrunner.engine.patience import Waiter
from batchrunner.engine.roster import Ending, finished_code
from batchrunner.engine.stops import Stops
from batchrunner.errors import ReplacedError
from batchrunner.models import ExitCode, RunId, StoredRunState, Waiting, WaitingReason
from batchrunner.options import WAY, CallOptions
from batchrunner.store import processes
from batchrunner.store.database import Database
from batchrunner.store.driver import DriverConnection
from batchrunner.store.inspection import holder_of
from batchrunner.store.processes import Process
from batchrunner.store.runs import run_by_id
from batchrunner.views import Listener

#: How often a process that does not follow looks whether its run was taken up.
_OFFERS: Final = 8


async def run_session(
    db: Database,
    defaults: Mapping[RunId, Mapping[str, Any]],
    *,
    ways: Mapping[RunId, Mapping[str, str]],
    call: CallOptions,
    wires: WireFactory,
    stops: Stops,
    listener: Listener | None,
    process: Process,
) -> Mapping[RunId, Ending]:
    """Have the runs drained, here or by whoever holds the lock, and return how each ended.

    ``defaults`` names the runs, each with what holds where its own options say nothing; it goes
    with the ask, so that a run is sent alike whoever holds the lock, and so does what tells this
    process's way there from another's (``ways``). ``process`` is registered already; its lock is
    held as long as the caller holds it.
    """
    with db.write() as connection:
        is_alone = not db.is_sent_from()
        clock = db.clock(connection, is_alone=is_alone)
    deadline = None if call.max_time_s is None else clock.now() + call.max_time_s * 1000.0
    longest_s = call.longest_wait_s
    own = {
        run_id: CallLimits(max_wait_s=longest_s, deadline=deadline, defaults=of_run)
        for run_id, of_run in defaults.items()
    }
    bounds: dict[str, Any] = {"max_wait_s": longest_s, "max_time_s": call.max_time_s}
    asked = {
        run_id: {**bounds, "defaults": {**of_run, WAY: ways[run_id]}}
        for run_id, of_run in defaults.items()
    }
    tell = listener.notice if listener is not None else _unheard
    waiter = Waiter(
        db=db, clock=clock, longest_s=longest_s, stops=stops, tell=tell,
        returned=partial(_known_again, process=process, asked=asked),
    )  # fmt: skip
    for run_id, options in asked.items():
        await waiter.through(partial(processes.ask, db, run_id, process, options))
    endings: dict[RunId, Ending] = {}
    lock = db.sender_lock()
    patience_s = 0.0
    try:
        while True:
            left = {run_id: limits for run_id, limits in own.items() if run_id not in endings}
            if not left:
                return endings
            if patience_s or not await waiter.through(lock.try_acquire):
                if call.no_wait and not patience_s:
                    return endings | {
                        run_id: await _not_followed(db, run_id, process) for run_id in left
                    }
                follower = Follower(
                    db=db, lock=lock, process=process, own=left, clock=clock, stops=stops,
                    listener=listener, waiter=waiter,
                )  # fmt: skip
                is_ours = await follower.follow(patience_s=patience_s)
                endings |= follower.endings
                patience_s = 0.0
                if not is_ours:
                    return endings
                left = {run_id: own[run_id] for run_id in left if run_id not in endings}
            await waiter.through(partial(processes.set_role, db, process, "holder"))
            try:
                async with db.writer(waiter) as writer:
                    ended_as, ended = await hold(
                        db, writer, left, clock=clock, wires=wires, stops=stops, listener=listener,
                        process=process, waiter=waiter,
                    )  # fmt: skip
            except ReplacedError as error:
                # What another has begun meanwhile is no more ours.
                tell(f"{error.message} It is followed from here.")
                ended_as, ended = Left.HANDED_OVER, {}
            endings |= ended
            waiter.has_unstored = bool
            await waiter.through(partial(processes.set_role, db, process, "follower"))
            lock.release(unlink=True)
            if ended_as is Left.DONE:
                return endings
            patience_s = PATIENCE_S
    finally:
        if lock.is_held:
            lock.release(unlink=True)


def _unheard(_text: str) -> None:
    """Nobody listens."""


def _known_again(
    conn: DriverConnection, process: Process, asked: Mapping[RunId, Mapping[str, Any]]
) -> None:
    """Be attached as before, if others have taken this process for dead: its asks went with it."""
    if processes.restore(conn, process, "follower"):
        for run_id, options in asked.items():
            processes.ask_again(conn, run_id, process, options)


async def _not_followed(db: Database, run_id: RunId, process: Process) -> Ending:
    """Return what a call says of its run that leaves it to the process that sends.

    That one gets a moment to take the run up, or to end it: the ask goes with this process.
    """
    is_taken = False
    for _ in range(_OFFERS):
        with db.read() as connection:
            run = run_by_id(connection, run_id)
            is_taken = processes.is_taken(connection, run_id, process)
        if run is not None and run.state is StoredRunState.FINISHED:
            return Ending(finished_code(run.counts.failed, run.n_rejected), None)
        if is_taken:
            break
        await asyncio.sleep(LOOK_S)
    with db.read() as connection:
        who = holder_of(connection, db)
    sender = f"process {who.pid} on {who.host}" if who is not None else "another process"
    return Ending(
        ExitCode.WORK_LEFT,
        Waiting(
            reason=WaitingReason.INTERRUPTED,
            until=None,
            detail=f"{sender} sends on this database; with --no-wait it is not followed",
            fix=(
                "that process has taken the run up; look with: batchrunner status"
                if is_taken
                else "the run is stored; when that process is done: batchrunner resume"
            ),
        ),
    )
