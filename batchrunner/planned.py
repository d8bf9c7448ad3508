"""What a person is shown of a plan; field names are the JSON keys of CONTRACT §6.

Instants are epoch milliseconds on the wall clock, as in :mod:`batchrunner.views`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "CompareView",
    "CountView",
    "EstimateView",
    "Faster",
    "Figure",
    "ModelCompare",
    "ModelPlan",
    "PlanDay",
    "PlanView",
    "PlannedLimit",
    "Range",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """What the jobs of one model should take; ``None``: unknown."""

    #: ``None``: requests that name none.
    model: str | None
    jobs: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """From the least to the most that is expected; ``None``: unknown."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDay:
    """What is sent on one day of a plan."""

    #: In the plan's zone, ``2026-11-23``.
    day: str
    requests: int
    #: When the first and the last of them go.
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLimit:
    """A limit that a plan keeps to."""

    #: The pool of models it is for; empty: the account's.
    scope: str
    limit: str
    value: float
    source: str
    zone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Faster:
    """What more of the limit that binds would bring."""

    #: That limit at twice its speed: doubled, or half an interval.
    value: float
    finish_at: int | None
    #: Without it.
    free_finish_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CountView:
    """What a provider's own count of some requests for a model says of all of them."""

    model: str
    counted: int
    #: Of so many.
    jobs: int
    #: What an estimate of the input is multiplied by.
    factor: float
    #: By what share the sum may be off, 19 of 20 times.
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateView:
    """By what the tokens of a model's requests are corrected, and how good that was of late."""

    model: str
    #: What an estimate of the input is multiplied by.
    factor: float
    #: By what share of the input such estimates were off, job by job; ``None``: unknown.
    error: float | None
    #: What an answer took; ``None``: unknown.
    mean_output: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """What files would take, were they submitted now."""

    provider: str
    #: Whose limits these are; empty: not known yet.
    account: str
    jobs: int
    models: Sequence[ModelPlan]
    input_tokens: Range = Range()
    output_tokens: Range = Range()
    #: ``None``: unknown.
    cost_usd: Range | None = None
    limits: Sequence[PlannedLimit] = ()
    #: The limit without which it would end the earliest; ``None``: none that is known.
    binding_limit: str | None = None
    faster: Faster | None = None
    #: What the tokens are corrected by, for the models of which answers were seen.
    estimates: Sequence[EstimateView] = ()
    #: What the provider counted, which comes before that.
    counted: Sequence[CountView] = ()
    #: The days on which something is sent, of ``zone``.
    schedule: Sequence[PlanDay] = ()
    zone: str = "UTC"
    starts_at: int
    #: ``None``: never, or not in five years.
    finish_at: int | None = None
    duration_s: float | None = None
    #: What was assumed or left out, a sentence each.
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing that a plan tells, and what it was; ``None``: unknown."""

    #: ``input_tokens``, ``output_tokens``, ``cost_usd``, ``duration_s``, ``days``.
    name: str
    planned: float | None
    low: float | None = None
    high: float | None = None
    took: float | None

    @property
    def off(self) -> float | None:
        """By what share of what it was the plan was off: above 0, it said too much."""
        if self.planned is None or not self.took:
            return None
        return self.planned / self.took - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCompare:
    """How good the estimates of one model's tokens were, as shares of what answers reported."""

    model: str
    jobs: int
    #: As answers reported.
    input_tokens: int
    #: All jobs together: by the text alone, and corrected as the plan was.
    text_alone_off: float | None
    planned_off: float | None
    #: One by one, corrected as the plan was.
    each_off: float | None
    output_tokens: int
    planned_output_off: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareView:
    """A run's forecast beside what it took."""

    run_id: str
    run_name: str
    is_finished: bool
    jobs: int
    #: Those that are compared.
    answered: int
    figures: Sequence[Figure]
    models: Sequence[ModelCompare]
    #: What would have been said of them.
    plan: PlanView
    #: Whether the forecast is of what was known when the run began.
    is_as_begun: bool
    notes: Sequence[str] = ()
