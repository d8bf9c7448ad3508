"""Puts back what nobody sends any more, and says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from batchrunner.clock import Clock
from batchrunner.engine.feed import Feed
from batchrunner.engine.live import CallLimits
from batchrunner.failpoints import hit
from batchrunner.options import PRICES
from batchrunner.providers import pool_of
from batchrunner.providers.pricing import worst_case
from batchrunner.store import scopes, sharing
from batchrunner.store.database import Database, Writer
from batchrunner.store.rescue import Rescued, has_orphans, rescue
from batchrunner.store.runs import DriverConnection

__all__ = ["PRUNE_MS", "Rescue"]

#: How often a worker drops what is past keeping of the usage (milliseconds): it may live for months.
PRUNE_MS: Final = 600_000.0


class Rescue:
    """Rescues the jobs that were in flight when a process died.

    The one sender of a database rescues whatever is claimed, before it claims itself. On a queue of workers
    that is what the dead had claimed, whenever one is found.
    """

    def __init__(
        self, writer: Writer, clock: Clock, feed: Feed, database: Database, *, is_shared: bool
    ) -> None:
        """Take whom to ask who lives, and whom to tell; ``is_shared``: others send as well."""
        self._writer = writer
        self._clock = clock
        self._feed = feed
        self._database = database
        self._is_shared = is_shared
        #: When the usage was pruned last (steady ms).
        self._pruned_at = 0.0

    async def begin(self, own: Iterable[CallLimits]) -> None:
        """Rescue what a dead holder left; what is past keeping of the usage goes with it.

        ``own`` are the calls that this process drains for: what they say of prices counts for what was lost.
        """
        said = {
            model: price
            for limits in own
            for model, price in (limits.defaults.get(PRICES) or {}).items()
        }

        def begin(conn: DriverConnection) -> Rescued:
            self._prune(conn)
            return self._rescued(conn, said)

        self._tell(await self._writer.transact(begin))

    async def again(self) -> None:
        """Rescue what workers left that died since, and drop usage that is past keeping now and then."""
        if self._clock.now() - self._pruned_at >= PRUNE_MS:
            await self._writer.transact(self._prune)
        # Who only looks keeps nobody waiting.
        if await self._writer.query(self._has_left):
            self._tell(await self._writer.transact(self._rescued))

    def _prune(self, conn: DriverConnection) -> None:
        self._pruned_at = self._clock.now()
        scopes.prune_usage(conn, now=int(self._pruned_at), wall=int(self._clock.wall()))

    def _has_left(self, conn: DriverConnection) -> bool:
        gone, living = sharing.roll_call(conn, self._database.who_is_alive)
        return bool(gone) or has_orphans(conn, living)

    def _rescued(
        self, conn: DriverConnection, said: Mapping[str, Any] = MappingProxyType({})
    ) -> Rescued:
        now, wall = int(self._clock.now()), int(self._clock.wall())
        living = None
        if self._is_shared:
            living = sharing.forget_dead(conn, self._database.who_is_alive)
        return rescue(
            conn, now=now, wall=wall, pool_of=pool_of, worst_of=worst_case(said, wall),
            living=living,
        )  # fmt: skip

    def _tell(self, rescued: Rescued) -> None:
        if rescued.n_jobs:
            hit("rescue.committed")
            were = "1 job was" if rescued.n_jobs == 1 else f"{rescued.n_jobs:,} jobs were"
            go = "it goes" if rescued.n_jobs == 1 else "they go"
            self._feed.notice(
                f"{were} in flight when the last process died; {go} again and may have been executed twice"
            )
