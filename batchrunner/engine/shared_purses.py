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
from batchrunner.models import JobId, ModelId, RunId
from batchrunner.store import worker_runs
from batchrunner.store.driver import DriverConnection
from batchrunner.store.records import Apart, ClaimedJob, Cycle, Settle
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
        #: What was set apart for claims that are not committed yet.
        self._begun: list[tuple[Purse, JobId]] = []
        #: Those of the last cycle.
        self._purses: Sequence[Purse] = ()

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

    def join(self, cycle: Cycle, plans: Sequence[LanePlan], runs: Iterable[LiveRun]) -> bool:
        """Have a cycle claim what there is money for, and store what is set apart then.

        Return whether what is stored is no longer right.
        """
        purses = {run.id: run.purse for run in runs if run.purse is not None}
        self._purses = list(purses.values())
        if not purses and not self._ours:
            return False
        cycle.asks = [
            ask._replace(fits=self._fits(plan.run.purse, plan.lane.model_id))
            if plan.run.purse
            else ask
            for ask, plan in zip(cycle.asks, plans, strict=True)
        ]

        def apart() -> Apart:
            kept = self._kept(purses)
            self._ours = {*self._ours, *kept} & purses.keys()
            return Apart(kept, _lost(cycle.settles, purses))

        cycle.apart, cycle.worker = apart, self._worker
        return bool(self._kept(purses))

    def stored(self) -> None:
        """Note that the turn's cycle is committed."""
        self._begun.clear()
        for purse in self._purses:
            purse.stored()
        if self._costs.spending is not None:
            self._costs.spending.stored()

    def undo(self) -> None:
        """Let go what was set apart for claims that were not committed."""
        while self._begun:
            purse, job = self._begun.pop()
            purse.release(job)

    def _fits(self, purse: Purse, model: ModelId) -> Callable[[ClaimedJob], bool]:
        def fits(job: ClaimedJob) -> bool:
            self._begun.append((purse, job.job_id))
            return purse.reserve(job.job_id, job.key, model, job.body)

        return fits

    def _kept(self, purses: Mapping[RunId, Purse]) -> dict[RunId, float]:
        """Return what is to be stored as set apart: it is not what is stored."""
        now = {run: purses[run].kept if run in purses else 0.0 for run in {*self._ours, *purses}}
        return {run: kept for run, kept in now.items() if kept != self._stored.get(run, 0.0)}


def _lost(settles: Iterable[Settle], purses: Mapping[RunId, Purse]) -> dict[RunId, float]:
    """Return what these answers may have cost that were lost, of runs with a bound of their own."""
    lost: dict[RunId, float] = {}
    for settle in settles:
        purse = purses.get(settle.run_id)
        if settle.lost_usd and purse is not None and purse.most < inf:
            lost[settle.run_id] = lost.get(settle.run_id, 0.0) + settle.lost_usd
    return lost
