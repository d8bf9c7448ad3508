"""Whether a bound on money can be kept at all, asked before anything is stored or sent.

The holder asks the same of each run that it takes up (:meth:`~batchrunner.engine.costs.Costs.purse`):
the configuration may have changed since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from batchrunner.core.budget import NO_BUDGET, Budget
from batchrunner.core.ceiling import most_of
from batchrunner.engine.costs import is_free, is_whole, price_of, unpriced
from batchrunner.formats.sets import apply_sets, model_of
from batchrunner.models import JobLine
from batchrunner.options import MAX_COST
from batchrunner.providers.pricing import Listed

__all__ = ["check_priced", "endless_of"]


def check_priced(
    provider: str,
    models: Iterable[str],
    options: Mapping[str, Any],
    *,
    said: Mapping[str, Mapping[str, float | None]],
    budget: Budget,
    wall: float,
    run: str | None = None,
) -> None:
    """Refuse a bound that can't be kept: one of ``models`` has no price.

    ``options`` are in force for the run, ``said`` the configuration's prices; ``run`` is its name if it
    is stored. Raises :class:`~batchrunner.errors.UsageError`.
    """
    is_bound = bool(options.get(MAX_COST))
    if not is_bound and budget == NO_BUDGET:
        return
    bound = "--max-cost" if is_bound else "[budget]"
    for model in models:
        listed = price_of(provider, [model], said, wall=wall)
        if not is_whole(listed) and (is_bound or not is_free(provider)):
            raise unpriced(run, model, bound, listed.price)


def endless_of(
    provider: str,
    options: Mapping[str, Any],
    *,
    said: Mapping[str, Mapping[str, float | None]],
    budget: Budget,
    wall: float,
    sets: Sequence[tuple[str, str]] = (),
) -> Callable[[JobLine], str] | None:
    """Return what tells of a job why no bound can be kept for it: what of it nothing bounds.

    ``None``: nothing is bound, or nobody pays. A model without a price is somebody else's to tell.
    """
    is_bound = bool(options.get(MAX_COST))
    if not is_bound and (budget == NO_BUDGET or is_free(provider)):
        return None
    bound = "--max-cost" if is_bound else "[budget]"

    @cache
    def listed_of(model: str) -> Listed:
        return price_of(provider, [model] if model else [], said, wall=wall)

    def why(job: JobLine) -> str:
        body = apply_sets(job.body, sets) if sets else job.body
        model = (model_of(body) if sets else None) or job.model or ""
        listed = listed_of(model)
        most = most_of(listed.all_day, body, provider=provider, model=model)
        found = most.why
        if not found and most.dollars is None and is_whole(listed):
            found = "nothing bounds its answer"
        return f"{bound} can't be kept: {found}" if found else ""

    return why
