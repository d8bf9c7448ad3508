"""The money of one run: what is spent of ``--max-cost`` and ``[budget]``, and what is in flight may cost.

No request goes out unless the sum of what is spent, of the worst case of everything in flight, and of
its own is within each bound. Answers that were lost (a crash, a timeout) may have been paid: they stay
counted at their worst case. ``--max-cost`` counts the run's whole life; a budget counts a day or a month of
all runs (:class:`~batchrunner.core.budget.Spending`), and what it has no room for waits for the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final

from batchrunner.core.budget import NO_BUDGET, UNITS, Budget, Spending
from batchrunner.core.ceiling import LEAST_MARGIN, Most, ceiling, most_of
from batchrunner.core.dollars import as_bound, as_dollars
from batchrunner.core.prices import Price, worst
from batchrunner.core.tokens import Seen
from batchrunner.models import JobId, ModelId, Waiting, WaitingReason
from batchrunner.store.records import Settle
from batchrunner.store.spending import LostAnswer

__all__ = ["WARN_AT", "Purse"]

#: On top of the most that was seen beyond an estimate.
_AGAIN: Final = 1.2
#: What bounds an answer where it is not ``max_tokens``, by provider.
_BOUNDS: Final = {
    "openai": "max_completion_tokens",
    "gemini": "generationConfig.maxOutputTokens",
}
#: Share of a bound that is warned of.
WARN_AT: Final = 0.8


class Purse:
    """What one run may spend, and does."""

    def __init__(
        self,
        most: float,
        *,
        run: str,
        provider: str,
        spent: float,
        budget: Budget = NO_BUDGET,
        spending: Spending | None = None,
    ) -> None:
        """Take the bound and what was spent before, in dollars; ``run`` is its name as a shell takes it.

        ``most`` may be infinite. ``spending`` is that of all runs, of which ``budget`` is bound.
        """
        self.most = most
        self.budget = budget
        self._spending = spending
        self._run = run
        self._provider = provider
        self._bound = _BOUNDS.get(provider, "max_tokens")
        #: Known costs, and worst cases of what was lost.
        self.spent = spent
        self.lost = 0.0
        #: What other workers have set apart, and what was lost besides what their queue has counted.
        self.others = 0.0
        self._lost_before = 0.0
        #: Counted here and not stored yet: spent, lost.
        self._unstored = (0.0, 0.0)
        #: What the run's models cost, at any hour of the day.
        self.prices: dict[ModelId, Sequence[Price]] = {}
        #: What they are called.
        self.names: dict[ModelId, str] = {}
        #: Models that nobody pays for.
        self.free: set[ModelId] = set()
        self._reserved: dict[JobId, tuple[float, int]] = {}
        self._n_reserved = 0.0
        self._margin = LEAST_MARGIN
        #: The worst case of the job that did not fit; ``None``: the last one did.
        self.short_of: float | None = None
        #: A job whose worst case can't be told, and why where it is not its answer that nothing bounds.
        self.unbounded = ""
        self._why = ""
        self.is_near = False
        #: The turn of the day in which a budget had no room for a job.
        self._near_in: int | None = None
        self._is_warned = False

    def worst_case(self, model: ModelId, body: bytes) -> Most:
        """Return the most that a request may cost."""
        return most_of(
            self.prices.get(model, ()),
            body,
            self._margin,
            provider=self._provider,
            model=self.names.get(model, ""),
        )

    def expect(self, seen: Seen) -> None:
        """Begin with what earlier calls learned of how far a model's inputs pass their estimates."""
        self._margin = max(self._margin, _AGAIN * seen.factor * (1 + (seen.error or 0.0)))

    def count_lost(self, lost: LostAnswer) -> bool:
        """Count a request of an earlier call whose answer was lost; return whether that has a bound."""
        if lost.tokens is not None:
            # Faster than an estimate: there may be as many as the run has jobs.
            told = ceiling(self._provider, self.names.get(lost.model_id, ""), lost.body)
            most = worst(
                self.prices.get(lost.model_id, ()),
                *lost.tokens,
                is_dearer=told.is_dearer,
                caches=told.caches,
            )
        else:
            most = self.worst_case(lost.model_id, lost.body).dollars
        self.lost += most or 0.0
        return most is not None

    def reserve(self, job: JobId, key: str, model: ModelId, body: bytes) -> bool:
        """Set a request's worst case apart, once; return whether it may go out."""
        if model in self.free or job in self._reserved:
            return True
        most, n_input, why = self.worst_case(model, body)
        if most is None:
            self._give_up(key, why)
            self.short_of = 0.0
            return False
        if not self._fits(most):
            self.short_of = most
            if self._passes(most):
                self.is_near = True
            elif self._spending is not None:
                self._near_in = self._spending.turn
            return False
        self._keep(job, most, n_input)
        return True

    def keep(self, job: JobId, request: LostAnswer) -> None:
        """Set apart what a request may cost that is out already, within the bound or not."""
        if request.model_id in self.free:
            return
        most, n_input, why = self.worst_case(request.model_id, request.body)
        if most is None:
            self._give_up(request.key, why)
        else:
            self._keep(job, most, n_input)

    def worth(self, request: LostAnswer) -> float:
        """Return what a request may cost that is out elsewhere."""
        most, _, why = self.worst_case(request.model_id, request.body)
        if most is None and request.model_id not in self.free:
            self._give_up(request.key, why)
        return most or 0.0

    def _give_up(self, key: str, why: str) -> None:
        """Note the first job whose worst case can't be told."""
        if not self.unbounded:
            self.unbounded, self._why = key, why

    def _keep(self, job: JobId, most: float, n_input: int) -> None:
        self._reserved[job] = (most, n_input)
        self._n_reserved += most
        if self._spending is not None:
            self._spending.reserve(most)

    def release(self, job: JobId) -> None:
        """Let go what was set apart for a request that has not gone out."""
        if (kept := self._reserved.pop(job, None)) is None:
            return
        self._n_reserved = self._n_reserved - kept[0] if self._reserved else 0.0
        if self._spending is not None:
            self._spending.release(kept[0])

    def release_all(self) -> None:
        """Let everything go that was set apart: another purse takes it over."""
        for job in list(self._reserved):
            self.release(job)

    @property
    def kept(self) -> float:
        """What is set apart here."""
        return self._n_reserved

    def share(self, lost: float) -> None:
        """Begin to share the run's money with other workers, who have counted so much as lost."""
        self._lost_before = self.lost - lost

    def adopt(self, *, spent: float, lost: float, others: float) -> None:
        """Take what all workers together have spent, lost and set apart, as it is stored."""
        self.spent = spent + self._unstored[0]
        self.lost = self._lost_before + lost + self._unstored[1]
        self.others = others

    def stored(self) -> None:
        """Note that what was settled is stored."""
        self._unstored = (0.0, 0.0)

    def _passes(self, most: float) -> bool:
        """Whether so much more would pass the run's own bound."""
        return self.spent + self.lost + self._n_reserved + self.others + most > self.most

    def _fits(self, most: float) -> bool:
        """Whether so much more is within every bound."""
        if self._passes(most):
            return False
        return self._spending is None or not self._spending.passed(self.budget, most)

    def settle(self, settle: Settle) -> bool:
        """Count what became of a request; return whether to warn now of how much is spent."""
        kept = self._reserved.pop(settle.job_id, None)
        most, estimated = kept or (0.0, 0)
        if kept is not None and self._spending is not None:
            self._spending.release(most)
        self._n_reserved = self._n_reserved - most if self._reserved else 0.0
        is_answer = settle.http_status is not None and 200 <= settle.http_status < 300
        spent, lost = self._unstored
        if settle.cost_usd is not None:
            self.spent += settle.cost_usd
            self._unstored = (spent + settle.cost_usd, lost)
        elif settle.outcome is not None and (settle.maybe_executed or is_answer):
            self.lost += most
            settle.lost_usd = most
            self._unstored = (spent, lost + most)
        usage = settle.usage
        if usage is not None and usage.input_tokens and estimated:
            self._margin = max(self._margin, _AGAIN * usage.input_tokens / estimated)
        if most:
            # What was set apart too much is free again.
            self.short_of = None
        if self._is_warned or self.spent + self.lost < WARN_AT * self.most:
            return False
        self._is_warned = True
        return True

    def room(self, room: int) -> int:
        """Return how many more jobs may be claimed: one by one near the end, to give few back."""
        if self.unbounded:
            return 0
        if self.short_of is not None:
            if not self._fits(self.short_of):
                return 0
            # Another run's answers left room, or another day has begun.
            self.short_of = None
        is_near = self.is_near or (
            self._spending is not None and self._near_in == self._spending.turn
        )
        return min(room, 1) if is_near else room

    def stop(self, n_pending: int, n_done: int) -> Waiting | None:
        """Return why a run stops of which nothing is in flight any more."""
        if self.unbounded and self._why:
            without = (
                f"batchrunner resume {self._run} --max-cost none"
                if self.most < inf
                else f"take [budget] out of the configuration, then: batchrunner resume {self._run}"
            )
            return Waiting(
                reason=WaitingReason.BUDGET,
                until=None,
                detail=f"nobody knows what job {self.unbounded} may cost at most: {self._why}",
                fix=f"mend that, or go on without the bound: {without}",
            )
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
        if not self._passes(self.short_of):
            return self._too_large(self.short_of)
        return Waiting(
            reason=WaitingReason.BUDGET,
            until=None,
            detail=f"{self.words()} of --max-cost {as_bound(self.most)} spent; the next job may cost"
            f" {as_dollars(self.short_of or 0.0)}, which would pass it",
            fix=f"batchrunner resume {self._run} --max-cost {self._enough(n_pending, n_done):.2f}",
        )

    def _too_large(self, most: float) -> Waiting | None:
        """Return why a job is never sent that may cost more than a whole day or month."""
        unit = next((unit for unit in UNITS if most > self.budget.of(unit)), None)
        if unit is None:
            return None
        return Waiting(
            reason=WaitingReason.BUDGET,
            until=None,
            detail=f"the next job may cost {as_dollars(most)}, and [budget] allows {as_bound(self.budget.of(unit))}"
            f" a {unit}",
            fix=f"allow more in [budget] of the configuration, or bound the answers with:"
            f" batchrunner resume {self._run} --set {self._bound}=N",
        )

    def waiting(self) -> Waiting | None:
        """Return until when a budget has no room for the next job; ``None``: that is not why it waits."""
        if self.short_of is None or self._spending is None:
            return None
        # What others have in flight may leave room in a moment.
        units = self._spending.passed(self.budget, self.short_of, in_flight=False)
        if not units:
            return None
        unit = max(units, key=self._spending.ends)
        return Waiting(
            reason=WaitingReason.BUDGET,
            until=self._spending.ends(unit),
            detail=f"{as_dollars(self._spending.spent(unit))} of the {as_bound(self.budget.of(unit))} that [budget] allows"
            f" a {unit} (UTC) is spent; the next job may cost {as_dollars(self.short_of or 0.0)}, which would pass it",
            fix=f"allow more in [budget] of the configuration, then: batchrunner resume {self._run}",
        )

    def words(self) -> str:
        """Return what is spent, in words."""
        if not self.lost:
            return as_dollars(self.spent)
        return f"{as_dollars(self.spent)}, and up to {as_dollars(self.lost)} for answers that were lost,"

    def _enough(self, n_pending: int, n_done: int) -> float:
        """Return a bound that should do for the rest, if jobs go on costing what they did."""
        mean = self.spent / n_done if n_done and self.spent else self.short_of or 0.0
        more = max(1.1 * mean * n_pending, 0.0) + (self.short_of or 0.0)
        return max(self.spent + self.lost + more, self.most) + 0.01
