"""What comes to a holder to be drained: at its start, and whenever other processes changed something."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from batchrunner.clock import Clock
from batchrunner.engine.asks import Asks
from batchrunner.engine.binding import Binding
from batchrunner.engine.feed import Feed
from batchrunner.engine.live import CallLimits
from batchrunner.engine.offered import Offered
from batchrunner.engine.offers import Offers
from batchrunner.engine.rescue import Rescue
from batchrunner.engine.roster import Roster
from batchrunner.engine.scopes import Scopes
from batchrunner.engine.take_up import TakeUp
from batchrunner.engine.wire import Wire
from batchrunner.models import RunId
from batchrunner.store.database import Database, Writer
from batchrunner.store.holder import RunRow
from batchrunner.store.processes import Process

__all__ = ["Arrivals"]


class Arrivals:
    """Rescues, has runs taken up, and keeps those that are live as the database has them.

    The one sender of a database takes what processes ask for; a worker takes what the queue offers.
    """

    def __init__(
        self,
        *,
        writer: Writer,
        clock: Clock,
        process: Process,
        wires: Callable[[RunRow], Wire],
        own: Mapping[RunId, CallLimits],
        roster: Roster,
        scopes: Scopes,
        feed: Feed,
        database: Database,
        binding: Binding,
        offers: Offers | None = None,
    ) -> None:
        """Take what runs are made of; ``own`` are this process's, with the bounds of its call.

        ``offers``: which runs a worker takes, nobody's in particular.
        """
        self._own = own
        self._roster = roster
        is_shared = offers is not None
        self._rescue = Rescue(writer, clock, feed, database, is_shared=is_shared)
        self._take_up = TakeUp(
            writer=writer,
            clock=clock,
            process=process,
            wires=wires,
            roster=roster,
            scopes=scopes,
            binding=binding,
            feed=feed,
            is_shared=is_shared,
        )
        self.asks = Asks(
            writer=writer,
            clock=clock,
            process=process,
            database=database,
            roster=roster,
            take_up=self._take_up,
            feed=feed,
        )
        self._offered: Offered | None = None
        if offers is not None:
            self._offered = Offered(
                writer=writer,
                clock=clock,
                process=process,
                roster=roster,
                take_up=self._take_up,
                rescue=self._rescue,
                offers=offers,
                feed=feed,
            )

    async def begin(self) -> None:
        """Rescue what a dead holder left, then take up what is asked for."""
        await self._rescue.begin(self._own.values())
        await self.asks.begin(self._own)
        await self.reload(is_taking=True, is_changed=True)

    async def reload(self, *, is_taking: bool, is_changed: bool) -> None:
        """Read what other processes may have changed, and with ``is_taking`` take up what came.

        ``is_changed``: they have, for sure; else only what other workers put back may be there.
        """
        await self._take_up.renew(is_changed=is_changed)
        is_taking = is_taking and not self._roster.is_leaving
        if self._offered is None:
            await self.asks.look(is_taking=is_taking)
        elif is_taking:
            await self._offered.take()

    async def rebind(self) -> None:
        """Bind runs to the account of the organization that their responses name."""
        await self._take_up.rebind()
