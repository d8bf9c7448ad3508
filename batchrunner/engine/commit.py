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
from batchrunner.errors import DatabaseError, LostTurnError
from batchrunner.store.codecs import DamagedBodyError
from batchrunner.store.cycle import book, execute, finish, prepare
from batchrunner.store.database import Writer
from batchrunner.store.faults import DiskFullError
from batchrunner.store.records import Cycle, CycleResult, Settle
from batchrunner.store.settling import Settling, compress

__all__ = ["Commits", "unstored"]

#: A full disk is tried again each second, so often.
DISK_TRIES: Final = 10
#: How many jobs a message names.
_NAMED: Final = 10


class Commits:
    """Stores cycles."""

    def __init__(
        self,
        *,
        writer: Writer,
        ledger: Ledger,
        more: Callable[[], Awaitable[list[Settle]]],
        damaged: Callable[[BaseException], None],
        is_shared: bool = False,
    ) -> None:
        """Take the writer, whose permissions they are, and:

        Args:
            writer: who commits.
            ledger: where permissions go back to.
            more: returns what came back while a full disk was waited for.
            damaged: is told of a request that can't be read back.
            is_shared: others book as well; what was planned in a turn holds in no other, so that
                whoever takes turns tries again (:meth:`wait_for_room`).
        """
        self._writer = writer
        self._ledger = ledger
        self._more = more
        self._damaged = damaged
        self._is_shared = is_shared
        #: How many turns in a row found the disk full.
        self._n_full = 0
        #: A cycle could not be stored: nothing more is tried.
        self.is_broken = False
        #: What came back and is not stored yet, since the server was away: it goes with the next cycle.
        self.kept: Cycle | None = None

    async def store(
        self, cycle: Cycle, plans: Sequence[LanePlan], settled: Settling | None = None
    ) -> CycleResult:
        """Commit a cycle; where it can't be, nothing is claimed in it, and its permissions are given back.

        ``settled``: what the transaction has settled already, which others go beside. Raises
        :class:`LostTurnError` where the server was away meanwhile, and in a turn :class:`DiskFullError`:
        what came back is kept.
        """
        if self.kept is not None:
            cycle.go_on_from(self.kept)
            self.kept = None
        for tries in range(DISK_TRIES + 1):
            try:
                prepared = prepare(cycle, packs=self._writer.packs, settled=settled)
                rest = execute if settled is None else partial(book, is_shared=True)
                executed = await self._writer.transact(
                    lambda conn: rest(conn, prepared),  # noqa: B023 (awaited here)
                    before=partial(compress, prepared.settling),
                    once=True,
                )
                self._n_full = 0
                return finish(executed)
            except LostTurnError:
                # Planned in another time: it is planned anew.
                self._give_back(cycle, plans)
                self._ledger.put_back(cycle.usage)
                self.kept = cycle
                raise
            except DiskFullError as error:
                # Claim nothing more, keep the answers in memory, and see whether space comes back.
                self._give_back(cycle, plans)
                if self._is_shared:
                    # In a turn of its own: what this one has settled is taken back with it.
                    self._ledger.put_back(cycle.usage)
                    self.kept = cycle
                    raise
                if tries == DISK_TRIES:
                    self.is_broken = True
                    raise unstored(error, cycle.settles) from error
                # What is in the log already may fit where the log can't grow.
                with suppress(DatabaseError):
                    await self._writer.checkpoint("TRUNCATE")
                await asyncio.sleep(1.0)
                cycle.settles = [*cycle.settles, *await self._more()]
                cycle.usage = _latest([*cycle.usage, *self._ledger.take_dirty()])
            except DamagedBodyError as error:
                # A request can't be read back: what came meanwhile is stored, then the call ends.
                self._give_back(cycle, plans)
                self._damaged(error)
                if self._is_shared:
                    # In a turn of its own: what this one has settled is taken back with it.
                    self._ledger.put_back(cycle.usage)
                    self.kept = cycle
                    raise LostTurnError(error.message, fix=error.fix) from error
            except DatabaseError as error:
                self.is_broken = True
                raise unstored(error, cycle.settles) from error
        raise AssertionError("the loop returns or raises")

    def keep(self, settles: Sequence[Settle], *, now: int, wall: int) -> None:
        """Have the next cycle store what a turn could not settle that failed as it began."""
        self.kept = self.kept or Cycle(now=now, wall=wall)
        self.kept.settles = settles

    async def wait_for_room(
        self, error: DiskFullError, settles: Sequence[Settle], *, now: int, wall: int
    ) -> None:
        """Keep what came back for a turn a second later, which sees whether there is room.

        Raises what :func:`unstored` returns where so many in a row found none.
        """
        self._n_full += 1
        if self._n_full > DISK_TRIES:
            self.is_broken = True
            raise unstored(error, settles) from error
        self.keep(settles, now=now, wall=wall)
        await asyncio.sleep(1.0)

    def lost(self, error: DatabaseError, settles: Sequence[Settle]) -> DatabaseError:
        """Return what a turn fails with that could not even settle, and try nothing more."""
        self.is_broken = True
        return unstored(error, settles)

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


def unstored(error: DatabaseError, settles: Sequence[Settle]) -> DatabaseError:
    """Return the error that names the jobs whose answers could not be stored."""
    keys = [settle.key for settle in settles if settle.outcome is not None]
    if not keys:
        return error
    named = ", ".join(keys[:_NAMED]) + (
        f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    )
    return type(error)(
        f"{error.message} The answers of these jobs could not be stored, they may be executed"
        f" again: {named}. Everything committed before is kept.",
        fix=error.fix,
        kind=error.kind,
    )


def _latest(rows: Sequence[DirtySlot]) -> list[DirtySlot]:
    """Keep the last count of each slot."""
    return list({row[:4]: row for row in rows}.values())
