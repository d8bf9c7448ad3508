"""What answers cost: each is counted before it is stored, at its model's price when it was asked."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import TYPE_CHECKING, Final

from batchrunner.core.budget import NO_BUDGET, UNITS, Budget, Spending
from batchrunner.core.prices import as_said, cost, saved
from batchrunner.engine.live import LiveRun
from batchrunner.engine.purse import WARN_AT, Purse
from batchrunner.errors import UsageError
from batchrunner.models import ModelId
from batchrunner.options import BUDGET, MAX_COST, PRICES
from batchrunner.providers.pricing import TABLES, Listed, listed_price
from batchrunner.store.holder import RunRow
from batchrunner.store.records import Settle

if TYPE_CHECKING:
    from batchrunner.engine.roster import Roster

#: Providers that nobody pays: the built-in one, and plain HTTP.
_FREE: Final = frozenset({"simulator", "http"})
#: So many models' prices are remembered: answers may name ever others.
_MOST: Final = 1_024


class Costs:
    """Counts the costs of one holder's runs."""

    def __init__(self, notice: Callable[[str], None]) -> None:
        """Take whom to tell of models whose price is unknown."""
        self._notice = notice
        #: Models whose price is unknown, by provider.
        self._told: set[tuple[str, str]] = set()
        #: What all runs of the database spent; ``None``: nobody bounds it.
        self.spending: Spending | None = None
        #: The budgets that hold for runs here, and what was warned of: of which, until when.
        self._budgets: set[Budget] = set()
        self._warned: set[tuple[Budget, str, int]] = set()

    def look(self, wall: float) -> None:
        """Take the time for the budgets."""
        if self.spending is not None:
            self.spending.look(wall)

    async def count(self, settles: Sequence[Settle], roster: Roster) -> None:
        """Say in each settle what its answer cost, where that can be known."""
        for settle in settles:
            usage = settle.usage
            if usage is None or usage.input_tokens is None:
                continue
            run = roster[settle.run_id]
            listed = run.prices.get((settle.model_id, usage.model))
            at = settle.sent_at or 0
            if listed is None or listed.until <= at:
                listed = await self.look_up(run, settle.model_id, usage.model, wall=at)
            if listed.price is not None:
                settle.cost_usd = cost(listed.price, usage)
                if usage.cache_read_tokens or usage.cache_write_tokens:
                    settle.saved_usd = saved(listed.price, usage)
        for settle in settles:
            run = roster[settle.run_id]
            if run.purse is not None and run.purse.settle(settle):
                self._notice(
                    f"{run.purse.words()} of --max-cost ${run.purse.most:,.2f} spent by {run.row.name}"
                )
        if self.spending is not None:
            self._spend(settles, self.spending)

    def _spend(self, settles: Sequence[Settle], spending: Spending) -> None:
        """Count what these cost, and warn of budgets that are nearly used up."""
        for settle in settles:
            if dollars := settle.cost_usd or settle.lost_usd:
                spending.spend(settle.sent_at or settle.ended_at or 0, dollars)
        for budget in self._budgets:
            for unit in UNITS:
                one, spent = (budget, unit, spending.ends(unit)), spending.spent(unit)
                if one not in self._warned and spent >= WARN_AT * budget.of(unit):
                    self._warned.add(one)
                    self._notice(
                        f"${spent:,.4f} of the ${budget.of(unit):,.2f} that [budget] allows a {unit} (UTC) is spent"
                    )

    def purse(self, row: RunRow, *, spent: float) -> Purse:
        """Return the money of a run with ``--max-cost`` or under a budget, with no model's price yet."""
        budget = budget_of(row)
        if budget != NO_BUDGET:
            self._budgets.add(budget)
        return Purse(
            row.options.get(MAX_COST) or inf,
            run=shlex.quote(row.name),
            provider=row.provider,
            spent=spent,
            budget=budget,
            spending=self.spending if budget != NO_BUDGET else None,
        )

    async def price(
        self, purse: Purse, row: RunRow, models: Iterable[tuple[ModelId, str]], *, wall: float
    ) -> None:
        """Tell a run's purse what those of these models cost that it does not know.

        Raises :class:`UsageError` where one has no price.
        """
        for model_id, model in models:
            if model_id in purse.prices or model_id in purse.free:
                continue
            listed = await self._listed(row, [model], wall=wall)
            known = listed.price
            if known is not None and None not in (known.rates.input, known.rates.output):
                purse.prices[model_id] = listed.all_day
            elif purse.most == inf and row.provider in _FREE:
                purse.free.add(model_id)
            else:
                raise _unpriced(row, model, "[budget]" if purse.most == inf else "--max-cost")

    async def look_up(
        self, run: LiveRun, model_id: ModelId, answered: str | None, *, wall: float
    ) -> Listed:
        """Return and remember what a model costs; what a person said comes before the table."""
        asked, provider = run.lanes[model_id].model, run.row.provider
        names = list(dict.fromkeys(name for name in (asked, answered) if name))
        listed = await self._listed(run.row, names, wall=wall)
        if len(run.prices) >= _MOST:
            run.prices.clear()
        run.prices[model_id, answered] = listed
        if listed.price is None:
            self._tell(provider, names)
        return listed

    @staticmethod
    async def _listed(row: RunRow, names: Sequence[str], *, wall: float) -> Listed:
        listed = Listed(None, float("inf"))
        if row.provider in TABLES:
            listed = await asyncio.to_thread(listed_price, row.provider, names, wall=wall)
        said = row.options.get(PRICES) or {}
        of_model = next((said[name] for name in names if name in said), None)
        if of_model is None:
            return listed
        prices = [as_said(of_model, price) for price in listed.all_day or (None,)]
        return Listed(prices[0], listed.until, tuple(price for price in prices if price))

    def _tell(self, provider: str, names: Sequence[str]) -> None:
        if provider in _FREE or not names or (provider, names[0]) in self._told:
            return
        self._told.add((provider, names[0]))
        self._notice(
            f"No price of {names[0]} is known, so what it costs is not counted; say it in the"
            f' configuration: [prices."{names[0]}"] with input and output, in dollars per million'
            " tokens"
        )


def budget_of(row: RunRow) -> Budget:
    """Return the budget that whoever asked for a run has in its configuration."""
    return Budget(**row.options.get(BUDGET) or {})


def _unpriced(row: RunRow, model: str, bound: str) -> UsageError:
    """Return why a bound can't be kept for a run."""
    run = shlex.quote(row.name)
    if model:
        return UsageError(
            f"{bound} can't be kept: no price of {model} is known. Nothing more of {row.name} is sent.",
            fix=f'Say it in batchrunner.toml: [prices."{model}"] with input and output, in'
            f" dollars per million tokens; then: batchrunner resume {run}",
        )
    without = "--set model=NAME" if bound == "[budget]" else "--max-cost none"
    said = "Name one" if bound == "[budget]" else "Go on without it"
    return UsageError(
        f"{bound} can't be kept: jobs of {row.name} name no model, so nobody knows what they cost."
        " Nothing more is sent.",
        fix=f"{said}: batchrunner resume {run} {without}",
    )
