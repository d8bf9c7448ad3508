"""The money of a worker's runs, of which other workers spend too.

A turn begins with what all have spent, lost and set apart. In it jobs are claimed only as far as there
is money for them, and what is set apart for them is stored with the claims: nobody else claims of it
meanwhile. So the bound holds over all workers as it does for one, and whatever dies leaves what it may
have spent behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf

from batchrunner.clock import Clock
from batchrunner.engine.costs import Costs
from batchrunner.engine.live import LiveRun
from batchrunner.engine.planning import LanePlan
from batchrunner.engine.purse import Purse
from batchrunner.models import ModelId, RunId
from batchrunner.store import worker_runs
from batchrunner.store.driver import DriverConnection
from batchrunner.store.records import Apart, ClaimedJob, Cycle
from batchrunner.store.worker_runs import Money

__all__ = ["SharedPurses"]


class SharedPurses:
    """Keeps the purses of one worker as the queue has them."""

    def __init__(self, costs: Costs, clock: Clock, worker: int) -> None:
        """Take what counts all runs' costs, and this worker's number."""
        self._costs = costs
        self._clock = clock
        self._worker = worker
        #: What is stored as set apart here, by run.
        self._stored: Mapping[RunId, float] = {}
        #: Runs of which this worker itself stored that.
        self._ours: set[RunId] = set()

    def look(self, conn: DriverConnection, runs: Iterable[LiveRun]) -> Money | None:
        """Read what is spent and set apart; ``None``: nothing here is bound."""
        bound = [run.id for run in runs if run.purse is not None]
        if not bound and not self._ours:
            return None
        is_budget = self._costs.spending is not None
        at = self._clock.wall() if is_budget else None
        return worker_runs.look(conn, self._worker, bound, budget_at=at)

    def take(self, live: Mapping[RunId, LiveRun], money: Money | None) -> None:
        """Have the purses know it."""
        if money is None:
            return
        self._stored = money.ours
        for run_id, of_run in money.runs.items():
            if (purse := live[run_id].purse) is not None:
                purse.adopt(spent=of_run.spent, lost=of_run.lost, others=of_run.others)
        if self._costs.spending is not None:
            self._costs.spending.adopt(money.by_day, money.others)

    def join(self, cycle: Cycle, plans: Sequence[LanePlan], runs: Iterable[LiveRun]) -> None:
        """Have a cycle claim what there is money for, and store what is set apart then."""
        purses = {run.id: run.purse for run in runs if run.purse is not None}
        if not purses and not self._ours:
            return
        cycle.asks = [
            ask._replace(fits=_fits(plan.run.purse, plan.lane.model_id)) if plan.run.purse else ask
            for ask, plan in zip(cycle.asks, plans, strict=True)
        ]
        lost: dict[RunId, float] = {}
        for settle in cycle.settles:
            purse = purses.get(settle.run_id)
            if settle.lost_usd and purse is not None and purse.most < inf:
                lost[settle.run_id] = lost.get(settle.run_id, 0.0) + settle.lost_usd

        def apart() -> Apart:
            kept = self._kept(purses)
            self._ours = {*self._ours, *kept} & purses.keys()
            return Apart(kept, lost)

        if cycle.asks or lost or self._kept(purses):
            cycle.apart, cycle.worker = apart, self._worker

    def _kept(self, purses: Mapping[RunId, Purse]) -> dict[RunId, float]:
        """Return what is to be stored as set apart: it is not what is stored."""
        now = {run: purses[run].kept if run in purses else 0.0 for run in {*self._ours, *purses}}
        return {run: kept for run, kept in now.items() if kept != self._stored.get(run, 0.0)}


def _fits(purse: Purse, model: ModelId) -> Callable[[ClaimedJob], bool]:
    return lambda job: purse.reserve(job.job_id, job.key, model, job.body)
