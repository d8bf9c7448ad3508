"""Whether a bound on money can be kept at all, asked before anything is stored or sent.

The holder asks the same of each run that it takes up (:meth:`~batchrunner.engine.costs.Costs.purse`):
the configuration may have changed since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from batchrunner.core.budget import NO_BUDGET, Budget
from batchrunner.engine.costs import is_free, is_whole, price_of, unpriced
from batchrunner.options import MAX_COST

__all__ = ["check_priced"]


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
