"""A cycle into the database, also where the disk is full or a body damaged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from batchrunner.core.admission import DirtySlot, Ledger
from batchrunner.engine.claiming import forget_leads
from batchrunner.engine.planning import LanePlan
from batchrunner.engine.roster import Roster
from batchrunner.errors import DatabaseError
from batchrunner.store.codecs import DamagedBodyError
from batchrunner.store.cycle import compress, execute, finish, prepare
from batchrunner.store.faults import DiskFullError
from batchrunner.store.records import Cycle, CycleResult, Settle
from batchrunner.store.writer import Writer

__all__ = ["Commits"]

#: A full disk is tried again each second, so often.
DISK_TRIES: Final = 10


class Commits:
    """Stores cycles."""

    def __init__(
        self,
        *,
        writer: Writer,
        roster: Roster,
        ledger: Ledger,
        more: Callable[[], Awaitable[list[Settle]]],
        damaged: Callable[[BaseException], None],
        is_shared: bool = False,
    ) -> None:
        """Take the writer, whose runs and permissions they are, and:

        Args:
            writer: who commits.
            roster: names the jobs whose answers could not be stored.
            ledger: where permissions go back to.
            more: returns what came back while a full disk was waited for.
            damaged: is told of a request that can't be read back.
            is_shared: others book as well; what was planned in a turn holds in no other, so that
                nothing is tried again.
        """
        self._writer = writer
        self._roster = roster
        self._ledger = ledger
        self._more = more
        self._damaged = damaged
        self._is_shared = is_shared
        #: A cycle could not be stored: nothing more is tried.
        self.is_broken = False

    async def store(self, cycle: Cycle, plans: Sequence[LanePlan]) -> CycleResult:
        """Commit a cycle; where it can't be, nothing is claimed in it, and its permissions are given back."""
        for tries in range(DISK_TRIES + 1):
            try:
                prepared = prepare(cycle, packs=self._writer.packs)
                executed = await self._writer.transact(
                    lambda conn: execute(conn, prepared),  # noqa: B023 (awaited here)
                    before=partial(compress, prepared),
                )
                return finish(executed)
            except DiskFullError as error:
                # Claim nothing more, keep the answers in memory, and see whether space comes back.
                self._give_back(cycle, plans)
                if tries == DISK_TRIES or self._is_shared:
                    self.is_broken = True
                    raise self._roster.unstored(error, cycle.settles) from error
                # What is in the log already may fit where the log can't grow.
                with suppress(DatabaseError):
                    await self._writer.checkpoint("TRUNCATE")
                await asyncio.sleep(1.0)
                cycle.settles = [*cycle.settles, *await self._more()]
                cycle.usage = _latest([*cycle.usage, *self._ledger.take_dirty()])
            except DamagedBodyError as error:
                # A request can't be read back: what came meanwhile is stored, then the call ends.
                if self._is_shared:
                    self.is_broken = True
                    raise
                self._give_back(cycle, plans)
                self._damaged(error)
            except DatabaseError as error:
                self.is_broken = True
                raise self._roster.unstored(error, cycle.settles) from error
        raise AssertionError("the loop returns or raises")

    def _give_back(self, cycle: Cycle, plans: Sequence[LanePlan]) -> None:
        """Claim nothing in this cycle, and give its permissions back."""
        for plan in plans:
            for grant in plan.grants:
                self._ledger.release(grant)
            plan.grants.clear()
            forget_leads(plan.lane, plan.jobs)
            plan.lane.forget_ahead()
        cycle.asks, cycle.planned, cycle.looks = (), (), ()
        cycle.usage = _latest([*cycle.usage, *self._ledger.take_dirty()])


def _latest(rows: Sequence[DirtySlot]) -> list[DirtySlot]:
    """Keep the last count of each slot."""
    return list({row[:4]: row for row in rows}.values())
