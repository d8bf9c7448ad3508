"""A worker's time on a queue: send beside others until it is told to stop, or nothing is left."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

from batchrunner.engine.holding import hold
from batchrunner.engine.live import WireFactory
from batchrunner.engine.offers import Offers
from batchrunner.engine.patience import Waiter
from batchrunner.engine.sharing import Shared
from batchrunner.engine.stops import Stops
from batchrunner.errors import AwayError
from batchrunner.failpoints import hit
from batchrunner.store import processes, sharing, workers
from batchrunner.store.database import Database
from batchrunner.store.driver import DriverConnection
from batchrunner.store.inspection import holder_of
from batchrunner.store.processes import Process
from batchrunner.store.runs import driver
from batchrunner.views import Listener

__all__ = ["known_again", "work"]

#: How often a worker looks whether the one sender of a queue has ended (seconds).
_LOOK_S: Final = 0.25


async def work(
    db: Database,
    *,
    offers: Offers,
    wires: WireFactory,
    stops: Stops,
    listener: Listener | None,
    process: Process,
    longest_s: float | None,
) -> None:
    """Drain what the queue has, beside other workers; wait for its server so long where that is away."""
    queue = db.queue()
    lock = queue.worker_lock(process.id)
    told = asyncio.Event()
    stops.watch(told.set)
    is_told = False
    while not lock.try_acquire():
        if stops.asked:
            return
        if listener is not None and not is_told:
            listener.notice(_waits_for(db))
            is_told = True
        try:
            async with asyncio.timeout(_LOOK_S):
                await told.wait()
        except TimeoutError:
            pass
    try:
        with db.write() as connection:
            is_alone = not sharing.is_any_left(driver(connection), db.is_alive)
            clock = db.clock(connection, is_alone=is_alone)
            workers.begin(driver(connection), process.id, offers.wanted.tags)
        processes.set_role(db, process, "worker")
        waiter = Waiter(
            db=db,
            clock=clock,
            longest_s=longest_s,
            stops=stops,
            tell=lambda text: None if listener is None else listener.notice(text),
            returned=partial(known_again, process=process, offers=offers),
        )
        try:
            async with queue.writer(waiter) as writer:
                await hold(
                    db, writer, {}, clock=clock, wires=wires, stops=stops, listener=listener,
                    process=process, shared=Shared(offers, writer), waiter=waiter,
                )  # fmt: skip
        except AwayError:
            if not stops.asked or waiter.has_unstored():
                raise
            # Told to stop with nothing in its hands: others see that it is gone.
        hit("leave.before")
    finally:
        lock.release()


def _waits_for(db: Database) -> str:
    """Return what a worker says before it waits for the one that sends alone."""
    with db.read() as connection:
        holder = holder_of(connection, db)
    who = "another process" if holder is None else f"process {holder.pid} on {holder.host}"
    return f"{who} sends from this database alone; waiting until it has ended"


def known_again(conn: DriverConnection, process: Process, offers: Offers) -> None:
    """Be a worker as before, if others have taken this one for dead: its jobs are theirs by now."""
    if processes.restore(conn, process, "worker"):
        workers.begin(conn, process.id, offers.wanted.tags)
        offers.forget()
