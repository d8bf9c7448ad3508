"""A worker's time on a queue: send beside others until it is told to stop, or nothing is left."""

from __future__ import annotations

import asyncio
from typing import Final

from batchrunner.engine.holding import hold
from batchrunner.engine.live import WireFactory
from batchrunner.engine.offers import Offers
from batchrunner.engine.sharing import Shared
from batchrunner.engine.stops import Stops
from batchrunner.failpoints import hit
from batchrunner.store import processes, workers
from batchrunner.store.database import Database
from batchrunner.store.holder import go_on_from
from batchrunner.store.processes import Process
from batchrunner.store.runs import driver
from batchrunner.views import Listener

__all__ = ["work"]

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
) -> None:
    """Drain what the queue has, beside other workers."""
    queue = db.queue()
    lock = queue.worker_lock(process.id)
    told = asyncio.Event()
    stops.watch(told.set)
    while not lock.try_acquire():
        if stops.asked:
            return
        try:
            async with asyncio.timeout(_LOOK_S):
                await told.wait()
        except TimeoutError:
            pass
    try:
        with db.write() as connection:
            clock = go_on_from(driver(connection), is_alone=False)
            # Before anything is stored that others would go on from.
            db.check_clock(connection, clock)
            workers.begin(driver(connection), process.id, offers.wanted.tags)
        processes.set_role(db, process, "worker")
        async with queue.writer() as writer:
            await hold(
                db, writer, {}, clock=clock, wires=wires, stops=stops, listener=listener,
                process=process, shared=Shared(offers, writer),
            )  # fmt: skip
        hit("leave.before")
    finally:
        lock.release()
