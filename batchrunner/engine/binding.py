"""Puts ``--max-cost`` and ``[budget]`` in force: when a run is taken up, and while it is live.

A bound holds the run's whole life: before anything goes out under it, what was spent is known, and what
answers that were lost may have cost. Where that can't be told the bound is refused, never taken for 0.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from math import inf

from batchrunner.clock import Clock
from batchrunner.core.budget import NO_BUDGET, Spending
from batchrunner.engine.costs import Costs, budget_of
from batchrunner.engine.live import Claim, LiveRun
from batchrunner.engine.purse import Purse
from batchrunner.errors import UsageError
from batchrunner.models import Waiting, WaitingReason
from batchrunner.options import MAX_COST
from batchrunner.store import holder as statements
from batchrunner.store import worker_runs
from batchrunner.store.database import Writer
from batchrunner.store.holder import RunRow
from batchrunner.store.runs import DriverConnection
from batchrunner.store.spending import (
    claimed_requests,
    load_spending,
    load_uncounted,
    lost_answers,
    lost_models,
)

__all__ = ["Binding"]


class Binding:
    """Makes and renews the purses of one holder's runs."""

    def __init__(
        self,
        writer: Writer,
        clock: Clock,
        costs: Costs,
        give_up: Callable[[Claim], None],
        *,
        worker: int | None = None,
    ) -> None:
        """Take what purses are made of, and who gives a job back that is claimed, unsent.

        ``worker`` is this one's number where others send the same runs.
        """
        self._worker = worker
        self._writer = writer
        self._clock = clock
        self._costs = costs
        self._give_up = give_up

    async def purse(self, row: RunRow) -> Purse | None:
        """Return the money that a run may spend, with what was spent before; ``None``: nobody bounds it.

        Raises :class:`UsageError` where what it may cost, or may have cost, can't be told.
        """
        is_bound, has_budget = bool(row.options.get(MAX_COST)), budget_of(row) != NO_BUDGET
        if not is_bound and not has_budget:
            return None
        wall = int(self._clock.wall())
        if has_budget and self._costs.spending is None:
            by_day = await self._writer.query(lambda conn: load_spending(conn, wall))
            self._costs.spending = Spending(by_day, wall)
            self._costs.tell_uncounted(
                await self._writer.query(lambda conn: load_uncounted(conn, wall))
            )
        lanes = await self._writer.query(lambda conn: statements.load_lanes(conn, row.id))
        totals = await self._writer.query(lambda conn: statements.load_totals(conn, row.id))
        purse = self._costs.purse(row, spent=totals[3] or 0.0)
        models = [(lane.model_id, lane.model) for lane in lanes]
        await self._costs.price(purse, row, models, wall=wall)
        if is_bound:
            await self._count_lost(row, purse)
        return purse

    async def renew(self, run: LiveRun) -> None:
        """Put a bound in force that somebody may have said or changed while the run is live.

        Models that its jobs ask for by now get their price. What is out counts at its worst case; what is
        claimed, not out and has no room goes back.
        """
        most, purse = run.row.options.get(MAX_COST) or inf, run.purse
        if purse is not None and most == inf and purse.budget == NO_BUDGET:
            purse = run.purse = None
        try:
            if most < inf and (purse is None or purse.most == inf):
                await self._begin(run)
            elif purse is not None:
                await self._price(run, purse)
                is_less, purse.most = most < purse.most, most
                if is_less:
                    self._fit(run, purse)
        except UsageError as error:
            run.stop = run.stop or Waiting(
                reason=WaitingReason.BUDGET, until=None, detail=error.message, fix=error.fix
            )

    async def _price(self, run: LiveRun, purse: Purse) -> None:
        models = [(model_id, lane.model) for model_id, lane in run.lanes.items()]
        await self._costs.price(purse, run.row, models, wall=self._clock.wall())

    async def _begin(self, run: LiveRun) -> None:
        """Give a run that is under way a purse that knows of everything it has claimed."""
        purse = await self.purse(run.row)
        assert purse is not None
        # The last jobs of a model may be out.
        await self._price(run, purse)
        claimed = await self._writer.query(
            lambda conn: claimed_requests(conn, run.id, is_shared=self._worker is not None)
        )
        # Outcomes are counted between two looks only: what came back meanwhile is settled on this one.
        if run.purse is not None:
            run.purse.release_all()
        run.purse = purse
        theirs: dict[int, float] = {}
        for job, worker, request in claimed:
            if worker == self._worker:
                purse.keep(job, request)
            elif worker is not None:
                theirs[worker] = theirs.get(worker, 0.0) + purse.worth(request)
        if theirs:
            # Until they know of the bound themselves.
            await self._writer.transact(lambda conn: worker_runs.keep_for(conn, run.id, theirs))
            purse.others = sum(theirs.values())
        self._fit(run, purse)

    def _fit(self, run: LiveRun, purse: Purse) -> None:
        """Give back what no sender has taken yet and has no room any more."""
        claims = run.queue.take_back()
        for claim in claims:
            purse.release(claim.job.job_id)
        for claim in claims:
            job = claim.job
            if purse.reserve(job.job_id, job.key, claim.lane.model_id, job.body):
                run.queue.put(claim)
            else:
                self._give_up(claim)

    async def _count_lost(self, row: RunRow, purse: Purse) -> None:
        """Count what a run's requests may have cost whose answers were lost, in its whole life."""
        models = await self._writer.query(lambda conn: lost_models(conn, row.id))
        counted = 0.0
        if self._worker is not None:
            # Before they are: what is lost meanwhile counts twice, never not at all.
            counted = await self._writer.query(lambda conn: worker_runs.lost_of(conn, row.id))
        # Jobs of a model may all be done, or failed, whose answers were lost.
        await self._costs.price(purse, row, models, wall=self._clock.wall())

        def count(conn: DriverConnection) -> list[str]:
            purse.lost = 0.0
            return [lost.key for lost in lost_answers(conn, row.id) if not purse.count_lost(lost)]

        if unbounded := await self._writer.query(count):
            raise UsageError(
                f"--max-cost can't be kept: an answer to job {unbounded[0]} was lost, and nothing bounded"
                f" what it may have cost. Nothing more of {row.name} is sent.",
                fix=f"Go on without it: batchrunner resume {shlex.quote(row.name)} --max-cost none",
            )
        purse.share(counted)
