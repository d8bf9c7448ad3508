"""What a person is shown of a plan; field names are the JSON keys of CONTRACT §6.

Instants are epoch milliseconds on the wall clock, as in :mod:`batchrunner.views`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Faster", "ModelPlan", "PlanDay", "PlanView", "PlannedLimit", "Range"]


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
    #: The days on which something is sent, of ``zone``.
    schedule: Sequence[PlanDay] = ()
    zone: str = "UTC"
    starts_at: int
    #: ``None``: never, or not in five years.
    finish_at: int | None = None
    duration_s: float | None = None
    #: What was assumed or left out, a sentence each.
    notes: Sequence[str] = ()
