"""How a holder shares a queue with others: one ledger in the database, a turn for each cycle.

Within a turn nobody else books. It begins with what the others have used, planned and paused since the
last one, so that the same pure planner may decide as if it were alone; what it decides is committed
at the end of the turn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from batchrunner.clock import Clock
from batchrunner.core.admission import Blocked, DirtySlot, Grant, Ledger, SlotRow
from batchrunner.core.counting import Charge
from batchrunner.engine.live import LiveRun
from batchrunner.engine.scopes import Scopes
from batchrunner.models import ScopeId
from batchrunner.store import sharing as statements
from batchrunner.store.cycle import run_cycle
from batchrunner.store.records import Cycle
from batchrunner.store.writer import Writer

__all__ = ["Sharing"]

_Key = tuple[ScopeId, str, int, int]


class Sharing:
    """One worker's part in the ledger of all."""

    def __init__(
        self, writer: Writer, ledger: Ledger, scopes: Scopes, clock: Clock, worker: int
    ) -> None:
        """Take the connection, what is kept in memory, and this worker's number."""
        self._writer = writer
        self._ledger = ledger
        self._scopes = scopes
        self._clock = clock
        self._worker = worker
        #: What was stored of each slot when it was last seen here.
        self._stored: dict[_Key, int] = {}
        self._seen: set[ScopeId] = set()
        self._version = 0

    @asynccontextmanager
    async def turn(self, runs: Iterable[LiveRun] = ()) -> AsyncIterator[None]:
        """Have the ledger to ourselves; the next transaction of this task is the turn's."""
        live = {run.id: run for run in runs}
        known = list(self._ledger.scopes)
        fresh = [scope for scope in known if scope not in self._seen]
        version = self._version
        async with self._writer.turn(
            lambda conn: statements.look(
                conn, self._worker, version=version, known=known, fresh=fresh, runs=list(live)
            )
        ) as seen:
            self._take(seen, fresh)
            for run_id, counts in seen.counts.items():
                live[run_id].counts = counts
            yield

    def _take(self, seen: statements.Seen, fresh: Sequence[ScopeId]) -> None:
        self._version = seen.version
        for scope in fresh:
            # What was loaded with it is what was stored then.
            for unit, slots in self._ledger[scope].stored_slots():
                for slot, n in slots.counts.items():
                    self._stored[scope, unit, slots.grain, slot] = n
            self._seen.add(scope)
        for row in seen.slots:
            if row.scope_id not in self._seen:
                continue
            before = self._stored.get(row[:4], 0)
            self._stored[row[:4]] = row.n
            self._ledger[row.scope_id].adopt(SlotRow(*row[1:]), before)
        for state in seen.scopes:
            self._scopes.adopt(state)
        self._sweep()

    def _sweep(self) -> None:
        """Forget what the ledger has forgotten, now and then."""
        counts = {
            (scope, unit, slots.grain): slots.counts
            for scope in self._seen
            for unit, slots in self._ledger[scope].stored_slots()
        }
        if len(self._stored) > 2 * sum(map(len, counts.values())) + 1_000:
            self._stored = {key: n for key, n in self._stored.items() if key[3] in counts[key[:3]]}

    def stored(self, rows: Iterable[DirtySlot]) -> None:
        """Note what this turn's commit has stored."""
        for row in rows:
            self._stored[row[:4]] = row.n

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
