"""What a plan says of its own tokens and of the money that is left, a sentence each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import ceil

from batchrunner.core.dollars import as_bound, as_dollars
from batchrunner.core.tokens import Counted, Seen
from batchrunner.planned import PlanView
from batchrunner.views import BudgetView

__all__ = ["of_budget", "of_max_cost", "of_tokens"]


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
    for name, known in told.items():
        if known.error is not None and known.mean_output is not None:
            yield (
                f"tokens of {name} are corrected by its latest answers here: what is sent by"
                f" {known.factor:.3g} (job by job that was {known.error:.0%} off), answers to"
                f" {known.mean_output:,.0f} tokens each"
            )
    unseen = [name for name, known in told.items() if known.error is None]
    if unseen:
        yield f"no answer of {', '.join(unseen)} was seen here yet: tokens are told from the text alone"


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
