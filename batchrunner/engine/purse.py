"""The money of one run under ``--max-cost``: what is spent, and what is in flight may still cost.

No request goes out unless the sum of what is spent, of the worst case of everything in flight, and of
its own is within the bound. Answers that were lost (a crash, a timeout) may have been paid: they stay
counted at their worst case.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from batchrunner.core.prices import Price, worst
from batchrunner.core.tokens import estimate
from batchrunner.models import JobId, ModelId, Waiting, WaitingReason
from batchrunner.store.records import Settle

__all__ = ["Purse"]

#: How much larger than its estimate an input is taken to be while no answer proved more.
_LEAST_MARGIN: Final = 1.5
#: On top of the most that was seen beyond an estimate.
_AGAIN: Final = 1.2
#: What bounds an answer where it is not ``max_tokens``, by provider.
_BOUNDS: Final = {
    "openai": "max_completion_tokens",
    "gemini": "generationConfig.maxOutputTokens",
}
#: Share of the bound that is warned of.
_WARN_AT: Final = 0.8


class Purse:
    """What one run may spend, and does."""

    def __init__(self, most: float, *, run: str, provider: str, spent: float) -> None:
        """Take the bound and what was spent before, in dollars; ``run`` is its name as a shell takes it."""
        self.most = most
        self._run = run
        self._bound = _BOUNDS.get(provider, "max_tokens")
        #: Known costs, and worst cases of what was lost.
        self.spent = spent
        self.lost = 0.0
        #: What the run's models cost, at any hour of the day.
        self.prices: dict[ModelId, Sequence[Price]] = {}
        self._reserved: dict[JobId, tuple[float, int]] = {}
        self._n_reserved = 0.0
        self._margin = _LEAST_MARGIN
        #: The worst case of the job that did not fit; ``None``: the last one did.
        self.short_of: float | None = None
        #: Why a job's worst case can't be told.
        self.unbounded = ""
        self.is_near = False
        self._is_warned = False

    def worst_case(self, model: ModelId, body: bytes) -> tuple[float | None, int]:
        """Return the most that a request may cost, and its estimated input; ``None``: no bound."""
        estimated = estimate(body)
        if estimated.most_output is None:
            return None, estimated.input
        n_input = int(estimated.input * self._margin) + 1
        return worst(
            self.prices.get(model, ()), n_input, estimated.most_output, body
        ), estimated.input

    def count_lost(self, model: ModelId, body: bytes) -> None:
        """Count a request of an earlier call whose answer was lost."""
        most, _ = self.worst_case(model, body)
        self.lost += most or 0.0

    def reserve(self, job: JobId, key: str, model: ModelId, body: bytes) -> bool:
        """Set a request's worst case apart; return whether it may go out."""
        most, n_input = self.worst_case(model, body)
        if most is None:
            self.unbounded = self.unbounded or key
            self.short_of = 0.0
            return False
        if self.spent + self.lost + self._n_reserved + most > self.most:
            self.short_of = most
            self.is_near = True
            return False
        self._reserved[job] = (most, n_input)
        self._n_reserved += most
        return True

    def settle(self, settle: Settle) -> bool:
        """Count what became of a request; return whether to warn now of how much is spent."""
        most, estimated = self._reserved.pop(settle.job_id, (0.0, 0))
        self._n_reserved = self._n_reserved - most if self._reserved else 0.0
        is_answer = settle.http_status is not None and 200 <= settle.http_status < 300
        if settle.cost_usd is not None:
            self.spent += settle.cost_usd
        elif settle.outcome is not None and (settle.maybe_executed or is_answer):
            self.lost += most
        usage = settle.usage
        if usage is not None and usage.input_tokens and estimated:
            self._margin = max(self._margin, _AGAIN * usage.input_tokens / estimated)
        if most:
            # What was set apart too much is free again.
            self.short_of = None
        if self._is_warned or self.spent + self.lost < _WARN_AT * self.most:
            return False
        self._is_warned = True
        return True

    def room(self, room: int) -> int:
        """Return how many more jobs may be claimed: one by one near the end, to give few back."""
        if self.short_of is not None or self.unbounded:
            return 0
        return min(room, 1) if self.is_near else room

    def stop(self, n_pending: int, n_done: int) -> Waiting | None:
        """Return why a run stops of which nothing is in flight any more."""
        if self.unbounded:
            return Waiting(
                reason=WaitingReason.BUDGET,
                until=None,
                detail=f"nobody knows what job {self.unbounded} may cost at most: nothing bounds its"
                " answer, or its model has no price",
                fix=f"bound the answers with: batchrunner resume {self._run} --set {self._bound}=1024",
            )
        if self.short_of is None:
            return None
        return Waiting(
            reason=WaitingReason.BUDGET,
            until=None,
            detail=f"{self.words()} of --max-cost ${self.most:,.2f} spent; the next job may cost"
            f" ${self.short_of:,.4f}, which would pass it",
            fix=f"batchrunner resume {self._run} --max-cost {self._enough(n_pending, n_done):.2f}",
        )

    def words(self) -> str:
        """Return what is spent, in words."""
        if not self.lost:
            return f"${self.spent:,.4f}"
        return f"${self.spent:,.4f}, and up to ${self.lost:,.4f} for answers that were lost,"

    def _enough(self, n_pending: int, n_done: int) -> float:
        """Return a bound that should do for the rest, if jobs go on costing what they did."""
        mean = self.spent / n_done if n_done and self.spent else self.short_of or 0.0
        more = max(1.1 * mean * n_pending, 0.0) + (self.short_of or 0.0)
        return max(self.spent + self.lost + more, self.most) + 0.01
