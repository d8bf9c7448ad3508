"""What a plan says of its own tokens and of the money that is left, a sentence each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from math import ceil
from typing import Final

from batchrunner.core.dollars import as_bound, as_dollars
from batchrunner.core.tokens import Counted, Seen
from batchrunner.planned import PlanView
from batchrunner.views import BudgetView

__all__ = ["of_budget", "of_max_cost", "of_prices", "of_tokens"]

#: So many models are named in a sentence, or have one each.
_NAMED: Final = 5


def of_prices(lacking: Iterable[tuple[str, str, int]]) -> Iterator[str]:
    """Yield what is not in the cost; ``lacking``: what is not known, of which model, for how many jobs."""
    models_of: dict[str, dict[str, int]] = {}
    for what, model, n_jobs in lacking:
        models_of.setdefault(what, {})[model] = n_jobs
    for what, models in models_of.items():
        n, whose = sum(models.values()), "its" if len(models) == 1 else "their"
        jobs = "job is" if n == 1 else f"{n:,} jobs are"
        yield f"{what} of {_named(models)} is known: {whose} {jobs} not in the cost"


def _named(models: Collection[str]) -> str:
    """Return the names of models, of many the first."""
    first = ", ".join(list(models)[:_NAMED])
    return first if len(models) <= _NAMED else f"{first} and {len(models) - _NAMED:,} more"


def of_tokens(
    jobs: Mapping[str, int], seen: Mapping[str, Seen], counts: Mapping[str, Counted]
) -> Iterator[str]:
    """Yield by what the tokens of each model are told, and how good that was; ``jobs`` by model."""
    for name, count in counts.items():
        yield (
            f"the provider counted {count.n:,} of the {jobs[name]:,} requests for {name}: what is sent is right to"
            f" {count.error:.1%} in all (19 of 20 times)"
        )
    told = {name: seen.get(name, Seen()) for name in jobs if name not in counts}
    corrected = {
        name: known
        for name, known in told.items()
        if known.error is not None and known.mean_output is not None
    }
    for name, known in list(corrected.items())[:_NAMED]:
        yield (
            f"tokens of {name} are corrected by its latest answers here: what is sent by"
            f" {known.factor:.3g} (job by job that was {known.error:.0%} off), answers to"
            f" {known.mean_output:,.0f} tokens each"
        )
    if (n_more := len(corrected) - _NAMED) > 0:
        yield f"tokens of {n_more:,} more model{'s' if n_more > 1 else ''} are corrected likewise"
    unseen = [name for name, known in told.items() if known.error is None]
    if unseen:
        yield f"no answer of {_named(unseen)} was seen here yet: tokens are told from the text alone"


def of_max_cost(view: PlanView, most: float | None, least: float | None) -> Iterator[str]:
    """Yield what ``--max-cost`` (dollars) has no room for; ``least``: the lowest worst case of a job."""
    cost = view.cost_usd
    if not most or cost is None or cost.low is None or cost.high is None:
        return
    said = f"--max-cost {as_bound(most)}"
    if least is not None and least > most:
        yield f"{said} sends nothing: each job may cost {as_dollars(least)} or more"
    elif cost.low > most:
        yield f"{said} stops it before the end: it costs {as_dollars(cost.low)} at least"
    elif cost.high > most:
        yield f"{said} may stop it before the end: it costs up to {as_dollars(cost.high)}"


def of_budget(view: PlanView, bounds: Iterable[BudgetView]) -> Iterator[str]:
    """Yield what of the likely cost a budget has no room for now, of which the times know nothing."""
    cost = sum(model.cost_usd or 0.0 for model in view.models)
    for bound in bounds:
        if cost > bound.left_usd:
            more = ceil((cost - bound.left_usd) / bound.amount_usd)
            yield (
                f"[budget] allows ${bound.amount_usd:,.2f} a {bound.unit} and has ${bound.left_usd:,.2f} left of this"
                f" one: ${cost:,.2f} takes {more} more {bound.unit}{'s' if more > 1 else ''}, which is not in the"
                " times above"
            )
