"""What the holder sees of other processes between its cycles, and what it shows of its runs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

from batchrunner.clock import Clock
from batchrunner.engine.arrivals import Arrivals
from batchrunner.engine.feed import Feed
from batchrunner.engine.gate import Gate
from batchrunner.engine.live import LiveRun
from batchrunner.engine.offers import Offers
from batchrunner.engine.roster import Roster
from batchrunner.engine.scopes import Scopes
from batchrunner.engine.stops import Stops
from batchrunner.engine.time_use import cause_of
from batchrunner.engine.waits import what_it_waits_for
from batchrunner.models import Waiting
from batchrunner.store import waits
from batchrunner.store.database import Database, Writer
from batchrunner.store.stops import set_waiting

__all__ = ["LOOK_S", "Lookout"]

#: How often other processes' changes are looked for (seconds).
LOOK_S: Final = 0.25
#: In a wait, in which nothing else is stored, where the time goes is stored so often (milliseconds).
UNSTORED_MS: Final = 10_000.0
#: The log is copied into the database once it has grown by so many bytes.
CHECKPOINT_BYTES: Final = 16 * 1024 * 1024
#: A log of so many times that size, which a reader keeps from being emptied, is told of.
LARGE_LOG: Final = 8


class Lookout:
    """Looks around four times a second."""

    def __init__(
        self,
        *,
        writer: Writer,
        clock: Clock,
        roster: Roster,
        arrivals: Arrivals,
        scopes: Scopes,
        gate: Gate,
        feed: Feed,
        stops: Stops,
        database: Database,
        offers: Offers | None = None,
    ) -> None:
        """Take what is looked at, and whom it is shown to; ``offers``: it is a worker."""
        self._offers = offers
        self._writer = writer
        self._clock = clock
        self._roster = roster
        self._arrivals = arrivals
        self._scopes = scopes
        self._gate = gate
        self._feed = feed
        self._stops = stops
        self._wal = database.log
        self._looked_at = 0.0
        self._version = -1
        #: The log's size that was told last, and may be passed by twice as much, in CHECKPOINT_BYTES.
        self._log_told = LARGE_LOG

    async def look(self) -> None:
        """See what other processes changed, and show where the runs stand."""
        now = self._clock.now()
        if now - self._looked_at < LOOK_S * 1000.0 and not self._stops.asked:
            return
        self._looked_at = now
        if self._stops.abort:
            for run in self._roster.live:
                for task in run.senders:
                    task.cancel()
        if (size := _size(self._wal)) > CHECKPOINT_BYTES:
            is_copied = await self._writer.checkpoint("PASSIVE")
            if not is_copied and size > self._log_told * CHECKPOINT_BYTES:
                self._tell_large_log(size)
        version = await self._writer.data_version()
        # Other workers' cycles are no changes; what they have left is.
        is_due = self._offers is not None and self._offers.is_due(now)
        is_changed = version != self._version
        if is_changed or is_due:
            self._version = version
            await self._arrivals.reload(is_taking=not self._stops.asked, is_changed=is_changed)
            self._gate.wake()
        for run in self._roster.live:
            await self.show(run)
        await self._store_times()

    async def _store_times(self) -> None:
        """Store where the runs' time went, of those of which that was not stored for long."""
        now, wall = self._clock.now(), self._clock.wall()
        due = [run for run in self._roster.live if now - run.times.stored_at >= UNSTORED_MS]
        if not due:
            return
        sums = [one for run in due for one in run.take_times(now, wall)]
        await self._writer.transact(lambda conn: waits.book(conn, sums))

    def _tell_large_log(self, size: int) -> None:
        """Say that the log can't be emptied: at 128 MB, and each time it has doubled."""
        while size > self._log_told * CHECKPOINT_BYTES:
            self._log_told *= 2
        path = shlex.quote(str(self._wal))
        self._feed.notice(
            f"The database's log has grown to {size / 1e6:,.0f} MB, since another program keeps reading an"
            f" old state of it (a browser of SQLite, a backup). Close that; who it is tells: lsof {path}"
        )

    async def show(self, run: LiveRun) -> None:
        """Store what a run waits for, where that has changed, and show where it stands."""
        now, wall = self._clock.now(), self._clock.wall()
        waiting = None if run.is_stopping else what_it_waits_for(run, now, wall)
        if is_news := _changed(run.waiting, waiting):
            run.waiting = waiting
        if run.tells and _changed(run.told, waiting):
            cause = cause_of(run, now, wall)
            await self._writer.transact(
                lambda conn: set_waiting(conn, run.id, waiting, cause=cause, wall=int(wall))
            )
            run.told = waiting
        if is_news:
            self._feed.waiting(run)
        self._feed.picture(run, self._scopes, is_draining=self._stops.asked)


def _size(path: Path | None) -> int:
    if path is None:
        return 0
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _changed(old: Waiting | None, new: Waiting | None) -> bool:
    if old is None or new is None:
        return old is not new
    return old.reason != new.reason or abs((old.until or 0) - (new.until or 0)) > 1_500
