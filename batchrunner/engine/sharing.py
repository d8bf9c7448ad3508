"""How a holder shares a queue with others: one ledger in the database, a turn for each cycle.

Within a turn nobody else books. It begins with what the others have used, planned and paused since the
last one, so that the same pure planner may decide as if it were alone; what it decides is committed
at the end of the turn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from batchrunner.clock import Clock
from batchrunner.core.admission import Blocked, DirtySlot, Grant, Ledger
from batchrunner.core.counting import Charge
from batchrunner.core.shared import SharedLedger
from batchrunner.engine.live import LiveRun
from batchrunner.engine.offers import Offers
from batchrunner.engine.scopes import Scopes
from batchrunner.engine.shared_purses import SharedPurses
from batchrunner.failpoints import hit
from batchrunner.store import sharing as statements
from batchrunner.store.cycle import run_cycle
from batchrunner.store.database import SharedWriter
from batchrunner.store.driver import DriverConnection
from batchrunner.store.records import Cycle
from batchrunner.store.worker_runs import Money

__all__ = ["Shared", "Sharing"]

#: How often the machine's clock is compared with the server's (milliseconds).
_CHECK_MS: Final = 5_000.0


class Shared(NamedTuple):
    """What a worker has besides a holder's own."""

    #: Which runs it takes.
    offers: Offers
    #: The holder's writer, as one that takes turns.
    writer: SharedWriter


class Sharing:
    """One worker's part in the ledger of all."""

    def __init__(
        self,
        writer: SharedWriter,
        ledger: Ledger,
        scopes: Scopes,
        clock: Clock,
        *,
        worker: int,
        purses: SharedPurses,
    ) -> None:
        """Take the connection, what is kept in memory, and this worker's number."""
        self._writer = writer
        self._ledger = ledger
        self._shared = SharedLedger(ledger)
        self._scopes = scopes
        self._clock = clock
        self._worker = worker
        self.purses = purses
        #: What of the usage was seen: the number of the transaction that wrote it.
        self._version = 0
        #: When the machine's clock is compared with the server's again.
        self._check_at = float("-inf")

    @asynccontextmanager
    async def turn(self, runs: Iterable[LiveRun] = ()) -> AsyncIterator[None]:
        """Have the ledger to ourselves; the next transaction of this task is the turn's."""
        live = {run.id: run for run in runs}
        version, known, fresh = self._version, list(self._ledger.scopes), self._shared.fresh

        def look(conn: DriverConnection) -> tuple[statements.Seen, Money | None]:
            if self._clock.now() >= self._check_at:
                statements.check_clock(conn, self._clock)
                self._check_at = self._clock.now() + _CHECK_MS
            seen = statements.look(
                conn, self._worker, version=version, known=known, fresh=fresh, runs=list(live)
            )
            # After the accounts: locks are taken in one order.
            return seen, self.purses.look(conn, live.values())

        async with self._writer.turn(look) as (seen, money):
            self._version = seen.version
            self._shared.take(seen.slots)
            for state in seen.scopes:
                self._scopes.adopt(state)
            for run_id, counts in seen.counts.items():
                live[run_id].counts = counts
            self.purses.take(live, money)
            hit("turn.begun")
            try:
                yield
            except BaseException:
                self.purses.undo()
                raise

    def stored(self, rows: Iterable[DirtySlot]) -> None:
        """Note what this turn's commit has stored."""
        self._shared.stored(rows)

    async def rebook(self, grant: Grant, charge: Charge | None) -> Grant | Blocked:
        """Move a late send, in a turn of its own: others may have booked what was free."""
        async with self.turn():
            now, wall = self._clock.now(), self._clock.wall()
            again = self._ledger.rebook(grant, now, wall, charge)
            cycle = Cycle(
                wall=int(wall),
                now=int(now),
                is_seen=False,
                usage=self._ledger.take_dirty(),
                scopes=self._scopes.take_changed(),
            )
            await self._writer.transact(lambda conn: run_cycle(conn, cycle))
            self.stored(cycle.usage)
        return again
