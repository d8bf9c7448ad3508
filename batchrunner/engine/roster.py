"""The runs that one holder drains or drained, and how each ended."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from batchrunner.engine.live import LiveRun
from batchrunner.models import ExitCode, RunId, Waiting

__all__ = ["Ending", "Roster", "finished_code"]


class Ending:
    """How a run ended, for the process that asked for it."""

    __slots__ = ("exit_code", "is_told", "waiting")

    def __init__(self, exit_code: int, waiting: Waiting | None, *, is_told: bool = False) -> None:
        """Take the exit code, why work is left, and whether an event told so."""
        self.exit_code = exit_code
        self.waiting = waiting
        self.is_told = is_told


def finished_code(n_failed: int, n_rejected: int) -> int:
    """Return the exit code of a run with nothing left to send."""
    return ExitCode.SOME_FAILED if n_failed or n_rejected else ExitCode.DONE


class Roster:
    """The live runs of one holder: a list, and nothing that is done with them."""

    def __init__(self, own: Collection[RunId]) -> None:
        """Take the runs that this process itself asked for; none of them is live yet."""
        self._own = own
        self._runs: dict[RunId, LiveRun] = {}
        self.endings: dict[RunId, Ending] = {}
        #: The own runs are over: finish what is in flight, start nothing new.
        self.is_leaving = False

    def __getitem__(self, run_id: RunId) -> LiveRun:
        """Return a run that is or was live here."""
        return self._runs[run_id]

    def add(self, run: LiveRun) -> None:
        """Have a run that was just taken up, in the place of what it was here before."""
        self._runs[run.id] = run

    def is_live(self, run_id: RunId) -> bool:
        """Whether a run was taken up here and has not ended."""
        run = self._runs.get(run_id)
        return run is not None and not run.ended

    def last(self, run_id: RunId) -> LiveRun | None:
        """Return a run that was live here and has ended; ``None``: it never was, or still is."""
        run = self._runs.get(run_id)
        return run if run is not None and run.ended else None

    def is_own(self, run_id: RunId) -> bool:
        """Whether this process itself asked for a run."""
        return run_id in self._own

    @property
    def every(self) -> Iterator[LiveRun]:
        """Every run that is or was live here."""
        return iter(self._runs.values())

    @property
    def live(self) -> list[LiveRun]:
        """The runs that have not ended."""
        return [run for run in self._runs.values() if not run.ended]

    @property
    def own_left(self) -> bool:
        """Whether a run of this process is not over."""
        return any(run_id not in self.endings for run_id in self._own)
