"""Sending for as long as a lock is held, whichever of a database's locks that is."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from batchrunner.clock import Clock
from batchrunner.engine.ending import Left
from batchrunner.engine.feed import Feed
from batchrunner.engine.holder import Holder
from batchrunner.engine.live import CallLimits, WireFactory
from batchrunner.engine.patience import Waiter
from batchrunner.engine.roster import Ending
from batchrunner.engine.sharing import Shared
from batchrunner.engine.stops import Stops
from batchrunner.models import RunId
from batchrunner.store.database import Database, Writer
from batchrunner.store.processes import Process
from batchrunner.views import Listener, Runner

__all__ = ["hold"]


async def hold(
    db: Database,
    writer: Writer,
    own: dict[RunId, CallLimits],
    *,
    clock: Clock,
    wires: WireFactory,
    stops: Stops,
    listener: Listener | None,
    process: Process,
    shared: Shared | None = None,
    waiter: Waiter | None = None,
) -> tuple[Left, Mapping[RunId, Ending]]:
    """Drain what is asked for; return why that ended, and how the runs did.

    ``shared``: it is a worker, which takes what a queue has beside others. ``waiter``: who waits for
    the writer's server where that is away.
    """
    me = Runner(pid=os.getpid(), host=socket.gethostname(), user="", since=int(clock.wall()))
    holder = Holder(
        writer=writer,
        clock=clock,
        process=process,
        wires=wires,
        own=own,
        feed=Feed(listener, clock, me, is_worker=shared is not None),
        stops=stops,
        database=db,
        shared=shared,
    )
    if waiter is not None:
        waiter.has_unstored, waiter.went_away = holder.has_unstored, holder.cut_off
    left = await holder.drain()
    return left, holder.roster.endings
