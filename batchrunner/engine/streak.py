"""A run's failures in a row, and whether they are an outage.

Binds :mod:`batchrunner.core.outage` to outcomes: while a streak is open, its outcomes wait here
unsettled (their jobs stay ``running``), since only its end tells whether they are charged. It is
short: at most a quarter of the concurrency, or it is an outage; with a low concurrency as many as
that, and the older ones go back uncharged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from batchrunner.core.outage import FAULTS, Charge, Outage
from batchrunner.models import Decision, WaitingReason

if TYPE_CHECKING:
    from batchrunner.engine.live import Outcome

#: Failures whose job is charged though nothing succeeded, once nobody else is left to tell.
_OWN_AT_LAST: Final = frozenset(kind for kind, fault in FAULTS.items() if fault.charged_at_the_end)

Fate = Literal["charged", "uncharged", "waits"]


class Streak:
    """The streak of one run's way to its provider."""

    def __init__(self, max_wait_s: float | None = None) -> None:
        """Begin a call that waits at most ``max_wait_s`` at a time (``None``: without end)."""
        self._outage = Outage(max_wait_ms=None if max_wait_s is None else max_wait_s * 1000.0)
        self._open: list[tuple[Outcome, Decision]] = []
        self._is_calm = True
        self._is_answered = False
        #: Steady ms of the next probe; nobody sends before it.
        self.probe_at = 0.0
        #: Steady ms at which the outage began.
        self.since: float | None = None
        self.reason = WaitingReason.OVERLOADED
        self.message = ""
        #: What the last failure's own place says helps; empty where it says nothing.
        self.fix = ""
        #: The provider was never reached and patience is over: the run halts.
        self.is_hopeless = False

    @property
    def is_outage(self) -> bool:
        """Whether one probe at a time goes, and nothing else."""
        return self._outage.is_open

    @property
    def is_calm(self) -> bool:
        """Whether nothing has failed since the last success."""
        return self._is_calm

    @property
    def n_open(self) -> int:
        """How many outcomes wait for the end of the streak."""
        return len(self._open)

    def answered(self) -> None:
        """Note that the server was reached, whatever it said."""
        if not self._is_answered:
            self._is_answered = True
            self._outage.on_answer()

    def succeeded(self) -> None:
        """End the streak."""
        self._outage.on_success()
        self._is_calm = True
        self.since = None

    def failed(
        self, outcome: Outcome, decision: Decision, *, concurrency: int, unfinished: int
    ) -> Fate:
        """Take a failure that may be an outage's, and say what becomes of its charge."""
        assert decision.kind is not None
        self._is_calm = False
        claim = outcome.claim
        step = self._outage.on_failure(
            claim.job.job_id,
            decision.kind,
            sent_at=claim.sent_at or claim.grant.instant,
            now=outcome.ended_at,
            concurrency=concurrency,
            unfinished=unfinished,
        )
        if step.reason is not None:
            self.reason = step.reason
        self.message, self.fix = decision.message, decision.fix
        self.is_hopeless = self.is_hopeless or step.halt
        if step.pause_ms is not None:
            self.probe_at = outcome.ended_at + step.pause_ms
            if self.since is None:
                self.since = outcome.ended_at
        if step.charge is Charge.LATER:
            self._open.append((outcome, decision))
            return "waits"
        return "charged" if step.charge is Charge.NOW else "uncharged"

    def take_open(self) -> list[tuple[Outcome, Decision]]:
        """Return what waits for the end of the streak, and wait for it no more."""
        taken, self._open = self._open, []
        return taken

    def take_surplus(self, most: int) -> list[tuple[Outcome, Decision]]:
        """Return the oldest of more than ``most`` that wait, and wait for them no more.

        Their jobs are in flight to a crash, which may leave twice the concurrency of those.
        """
        n = max(0, len(self._open) - most)
        taken, self._open = self._open[:n], self._open[n:]
        return taken

    @staticmethod
    def is_own_at_last(decision: Decision) -> bool:
        """Whether a failure is its job's own where no other job is left to tell."""
        return decision.kind in _OWN_AT_LAST
