"""A worker's part in a queue: takes what is offered, as far as it can be sent here."""

from __future__ import annotations

from batchrunner.clock import Clock
from batchrunner.engine.departures import MAY_BE_OWN
from batchrunner.engine.feed import Feed
from batchrunner.engine.live import CallLimits
from batchrunner.engine.offers import Offers
from batchrunner.engine.rescue import Rescue
from batchrunner.engine.roster import Roster
from batchrunner.engine.take_up import TakeUp
from batchrunner.errors import BatchrunnerError
from batchrunner.models import RunId
from batchrunner.store import holder as statements
from batchrunner.store import sharing, workers
from batchrunner.store.database import Writer
from batchrunner.store.driver import DriverConnection
from batchrunner.store.holder import RunRow
from batchrunner.store.processes import Process

__all__ = ["Offered"]


class Offered:
    """Has the runs taken up that are ready on the queue, whoever asked for them."""

    def __init__(
        self,
        *,
        writer: Writer,
        clock: Clock,
        process: Process,
        roster: Roster,
        take_up: TakeUp,
        rescue: Rescue,
        offers: Offers,
        feed: Feed,
    ) -> None:
        """Take the queue, what this worker may take of it, and who takes it up."""
        self._writer = writer
        self._clock = clock
        self._process = process
        self._roster = roster
        self._take_up = take_up
        self._rescue = rescue
        self._offers = offers
        self._feed = feed

    async def take(self) -> None:
        """Take what the queue has, as far as this worker can send it, and what dead ones left."""
        await self._rescue.again()
        n_open = 0
        ready = await self._writer.query(sharing.ready_runs)
        waiting = await self._writer.query(sharing.untold)
        for run_id in ready:
            if self._roster.is_live(run_id):
                if not self._roster[run_id].is_ended_elsewhere:
                    await self._keep(run_id)
                n_open += 1
            else:
                n_open += await self._is_taken(run_id, is_waited_for=run_id in waiting)
        # What another has ended is over here too in the next turn.
        there = set(ready)
        n_ending = sum(run.id not in there for run in self._roster.live)
        n_open += n_ending
        if (words := self._offers.found(n_open, len(ready) + n_ending - n_open)) is not None:
            self._feed.notice(words)

    async def _keep(self, run_id: RunId) -> None:
        """See whether it is this worker that tells the database how a run stands."""
        me, wall, run = self._process.id, int(self._clock.wall()), self._roster[run_id]
        if not run.tells:
            # Whoever told is accounted for up to now: who tells from now on adds nothing of before.
            run.take_times(self._clock.now(), wall)
        # Who only looks keeps nobody waiting.
        if (tells := await self._writer.query(lambda conn: sharing.teller(conn, run_id))) != 0:
            run.tells = tells == me
            return
        run.tells = await self._writer.transact(
            lambda conn: sharing.is_to_tell(conn, run_id, me, wall=wall)
        )
        # What the former one had told went with it.
        run.told = None

    async def _is_taken(self, run_id: RunId, *, is_waited_for: bool) -> bool:
        """Take a run up if that is possible here; say why not, here once and to whoever asks for it."""
        row = await self._writer.query(lambda conn: statements.load_run(conn, run_id))
        if row is None:
            return False
        why = self._offers.why_not(row) or await self._why_halted(run_id)
        if why is None:
            limits = CallLimits(max_wait_s=None, defaults=self._offers.defaults_of(row.provider))
            try:
                await self._take_up.take(run_id, limits, self._process.id)
            except BatchrunnerError as error:
                why = error.message
        await self._tell(row, why, is_waited_for=is_waited_for)
        return why is None

    async def _why_halted(self, run_id: RunId) -> str | None:
        """Return what halted a run here that others still send; ``None``: nothing did, or somebody asks again."""
        run = self._roster.last(run_id)
        if run is None or run.stop is None or run.stop.reason not in MAY_BE_OWN:
            return None
        known = run.askers
        is_led = await self._writer.query(lambda conn: sharing.is_led(conn, run_id, knowing=known))
        return run.stop.detail if is_led else None

    async def _tell(self, row: RunRow, why: str | None, *, is_waited_for: bool) -> None:
        """Say where it is looked for whether a run is left to others, and whoever asks for it why."""
        me = self._process.id
        is_news = self._offers.is_news(row.id, why)
        if why is None:
            if is_news:
                await self._writer.transact(lambda conn: workers.keep(conn, row.id, me))
            return

        if not is_news and not is_waited_for:
            # Who has nothing to say keeps nobody waiting.
            return

        def note(conn: DriverConnection) -> None:
            sharing.note_left(conn, row.id, why, is_news=is_news)
            if is_news:
                workers.leave(conn, row.id, me, why)

        await self._writer.transact(note)
        if is_news:
            self._feed.left(row, why)
