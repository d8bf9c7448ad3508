"""What comes next in lanes whose jobs are claimed by name, where others claim beside.

Permission for a certain job is worth nothing once another worker has it, and the pace that it took is
lost. So a turn begins with whether the jobs that were looked up still wait, and looks for more in the
same transaction; nobody else claims of the same account until its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from batchrunner.clock import Clock
from batchrunner.engine.claiming import Claiming
from batchrunner.engine.live import Lane, LiveRun
from batchrunner.engine.planning import AHEAD, Planner
from batchrunner.models import JobId
from batchrunner.store.driver import DriverConnection
from batchrunner.store.next_jobs import look, still_next
from batchrunner.store.records import Look, NextJobs

__all__ = ["Foresight", "Glance"]

#: With fewer that still wait the next ones are looked up anew.
_ENOUGH: Final = AHEAD // 2


class Glance(NamedTuple):
    """What is to be seen of one lane."""

    run: LiveRun
    lane: Lane
    #: Those that were to come next.
    jobs: tuple[JobId, ...]
    look: Look


class Foresight:
    """Keeps what is known of the next jobs true, turn by turn."""

    def __init__(self, planner: Planner, claiming: Claiming, clock: Clock) -> None:
        """Take who asks for certain jobs, and who keeps what was looked up."""
        self._planner = planner
        self._claiming = claiming
        self._clock = clock

    def glances(self, runs: Iterable[LiveRun]) -> list[Glance]:
        """Return what a turn must see to plan for these runs."""
        now = self._clock.now()
        return [
            Glance(run, lane, tuple(job.job_id for job in lane.ahead or ()), asked)
            for run, lane in _that_may_claim(runs, now)
            if (asked := self._planner.look_of(run, lane, now)) is not None
        ]

    def read(
        self, conn: DriverConnection, glances: Sequence[Glance]
    ) -> list[set[JobId] | NextJobs]:
        """Return which of the jobs still wait, or where those are few which come next."""
        now = int(self._clock.now())
        found: list[set[JobId] | NextJobs] = []
        for glance in glances:
            still = still_next(conn, glance.jobs, now) if glance.jobs else set[JobId]()
            found.append(still if len(still) >= _ENOUGH else look(conn, glance.look, now))
        return found

    def take(self, glances: Sequence[Glance], found: Sequence[set[JobId] | NextJobs]) -> None:
        """Have the lanes know it."""
        for (run, lane, _, _), seen in zip(glances, found, strict=True):
            if isinstance(seen, NextJobs):
                lane.due_turn = not lane.due_turn
                self._claiming.note_next([(run, lane)], [seen])
            elif lane.ahead is not None:
                lane.ahead = deque(job for job in lane.ahead if job.job_id in seen)


def _that_may_claim(runs: Iterable[LiveRun], now: float) -> Iterator[tuple[LiveRun, Lane]]:
    for run in runs:
        if run.is_stopping or not run.counts.pending or run.room(now) <= 0:
            continue
        for model_id, lane in run.lanes.items():
            if model_id not in run.holds and lane.is_ready(now):
                yield run, lane
