"""A worker's time on a queue: send beside others until it is told to stop, or nothing is left."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Final

from batchrunner.engine.feed import Feed
from batchrunner.engine.holder import Holder
from batchrunner.engine.live import WireFactory
from batchrunner.engine.offers import Offers
from batchrunner.engine.stops import Stops
from batchrunner.store import processes
from batchrunner.store.database import Database
from batchrunner.store.holder import go_on_from
from batchrunner.store.processes import Process
from batchrunner.store.runs import driver
from batchrunner.store.sharing import check_clock
from batchrunner.views import Listener, Runner

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
    lock = db.worker_lock(process.id)
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
            check_clock(driver(connection), clock)
        processes.set_role(db, process, "worker")
        me = Runner(pid=os.getpid(), host=socket.gethostname(), user="", since=int(clock.wall()))
        async with db.writer() as writer:
            holder = Holder(
                writer=writer,
                clock=clock,
                process=process,
                wires=wires,
                own={},
                feed=Feed(listener, clock, me, is_worker=True),
                stops=stops,
                database=db,
                offers=offers,
            )
            await holder.drain()
    finally:
        lock.release()
