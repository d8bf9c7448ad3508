"""What answers cost: each is counted before it is stored, at its model's price when it was asked."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import Final

from batchrunner.core.budget import NO_BUDGET, UNITS, Budget, Spending
from batchrunner.core.ceiling import most_of
from batchrunner.core.dollars import as_bound, as_dollars
from batchrunner.core.prices import Price, as_said, cost, lacking, saved
from batchrunner.engine.live import LiveRun
from batchrunner.engine.purse import WARN_AT, Purse
from batchrunner.engine.roster import Roster
from batchrunner.engine.token_estimates import TokenEstimates
from batchrunner.errors import UsageError
from batchrunner.models import ModelId, RunId
from batchrunner.options import BUDGET, MAX_COST, PRICES
from batchrunner.providers.pricing import FREE, TABLES, Listed, listed_price
from batchrunner.store.holder import RunRow
from batchrunner.store.records import Settle

#: So many models' prices are remembered: answers may name ever others.
_MOST: Final = 1_024


class Costs:
    """Counts the costs of one holder's runs."""

    def __init__(self, notice: Callable[[str], None], tokens: TokenEstimates) -> None:
        """Take whom to tell of models whose price is unknown, and what is known of their tokens."""
        self._notice = notice
        self._tokens = tokens
        #: Models whose price is unknown, by provider.
        self._told: set[tuple[str, str]] = set()
        #: What all runs of the database spent; ``None``: nobody bounds it.
        self.spending: Spending | None = None
        #: What models cost of which an answer was lost, by run.
        self._lost: dict[tuple[RunId, ModelId], Listed] = {}
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
                if settle.cost_usd is None and not is_whole(listed):
                    self._tell(run.row.provider, [run.lanes[settle.model_id].model], listed.price)
                if usage.cache_read_tokens or usage.cache_write_tokens:
                    settle.saved_usd = saved(listed.price, usage)
        for settle in settles:
            run = roster[settle.run_id]
            if run.purse is not None and run.purse.settle(settle):
                self._notice(
                    f"{run.purse.words()} of --max-cost {as_bound(run.purse.most)} spent by {run.row.name}"
                )
            elif run.purse is None and settle.request is not None and settle.cost_usd is None:
                await self._count_lost(settle, run)
        if self.spending is not None:
            self._spend(settles, self.spending)

    async def _count_lost(self, settle: Settle, run: LiveRun) -> None:
        """Say what an answer that was lost may have cost, of a run that nobody bounds: budgets count it."""
        provider, model = run.row.provider, run.lanes[settle.model_id].model
        if settle.outcome is None or settle.request is None or is_free(provider) or not model:
            return
        listed = self._lost.get((run.id, settle.model_id))
        if listed is None:
            listed = await self._listed(run.row, [model], wall=settle.sent_at or 0)
            self._lost[run.id, settle.model_id] = listed
        most = most_of(
            listed.all_day, settle.request, provider=provider, model=model, is_lost=True
        ).dollars
        if most is None:
            settle.uncounted = model
        else:
            settle.lost_usd = most

    def _spend(self, settles: Sequence[Settle], spending: Spending) -> None:
        """Count what these cost, and warn of budgets that are nearly used up."""
        for settle in settles:
            if lost := settle.cost_usd or settle.lost_usd:
                spending.spend(settle.sent_at or settle.ended_at or 0, lost)
        for budget in self._budgets:
            for unit in UNITS:
                one, spent = (budget, unit, spending.ends(unit)), spending.spent(unit)
                if one not in self._warned and spent >= WARN_AT * budget.of(unit):
                    self._warned.add(one)
                    self._notice(
                        f"{as_dollars(spent)} of the {as_bound(budget.of(unit))} that [budget] allows a {unit} (UTC) is spent"
                    )

    def tell_uncounted(self, lost: Mapping[str, int]) -> None:
        """Say that a budget can't count what lost answers cost, by model: nobody knows their price."""
        for model, n in lost.items():
            were = "1 answer" if n == 1 else f"{n:,} answers"
            self._notice(
                f"{were} of {model} may have been paid this month and was lost, and nobody knows for how much:"
                f' [budget] does not count that. For later ones say it: [prices."{model}"] with input, output and'
                " context_window"
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
            if is_whole(listed):
                purse.prices[model_id] = listed.all_day
                purse.names[model_id] = model
                purse.expect(self._tokens.seen(model))
            elif purse.most == inf and is_free(row.provider):
                purse.free.add(model_id)
            else:
                bound = "[budget]" if purse.most == inf else "--max-cost"
                raise unpriced(row.name, model, bound, listed.price)

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
        said = row.options.get(PRICES) or {}
        if row.provider not in TABLES:
            return price_of(row.provider, names, said, wall=wall)
        # Reading the table for the first time takes a while.
        return await asyncio.to_thread(price_of, row.provider, names, said, wall=wall)

    def _tell(self, provider: str, names: Sequence[str], half: Price | None = None) -> None:
        if provider in FREE or not names or (provider, names[0]) in self._told:
            return
        self._told.add((provider, names[0]))
        self._notice(
            f"{lacking(half).capitalize()} of {names[0]} is known, so what it costs is not counted; say it in the"
            f' configuration: [prices."{names[0]}"] with input and output, in dollars per million'
            " tokens"
        )


def budget_of(row: RunRow) -> Budget:
    """Return the budget that whoever asked for a run has in its configuration."""
    return Budget(**row.options.get(BUDGET) or {})


def price_of(
    provider: str,
    names: Sequence[str],
    said: Mapping[str, Mapping[str, float | None]],
    *,
    wall: float,
) -> Listed:
    """Return what a model (by any of its names) costs; what a person said comes before the table."""
    listed = listed_price(provider, names, wall=wall)
    of_model = next((said[name] for name in names if name in said), None)
    if of_model is None:
        return listed
    prices = [as_said(of_model, price) for price in listed.all_day or (None,)]
    return Listed(prices[0], listed.until, tuple(price for price in prices if price))


def is_whole(listed: Listed) -> bool:
    """Whether a price bounds what a request may cost: what is sent and what comes both have one."""
    known = listed.price
    return known is not None and None not in (known.rates.input, known.rates.output)


def is_free(provider: str) -> bool:
    """Whether nobody pays that provider."""
    return provider in FREE


def unpriced(name: str | None, model: str, bound: str, half: Price | None = None) -> UsageError:
    """Return why a bound can't be kept for a run; without a ``name`` it is not stored yet.

    ``half`` is what is known of the model's price.
    """
    run = shlex.quote(name or "")
    done = "Nothing was stored." if name is None else f"Nothing more of {name} is sent."
    if model:
        lacks = lacking(half)
        again = "submit it again" if name is None else f"batchrunner resume {run}"
        return UsageError(
            f"{bound} can't be kept: {lacks} of {model} is known. {done}",
            fix=f'Say it in batchrunner.toml: [prices."{model}"] with input and output, in'
            f" dollars per million tokens; then: {again}",
        )
    without = "--set model=NAME" if bound == "[budget]" else "--max-cost none"
    said = "Name one" if bound == "[budget]" else "Go on without it"
    jobs = "jobs" if name is None else f"jobs of {name}"
    again = "submit it again with" if name is None else f"batchrunner resume {run}"
    return UsageError(
        f"{bound} can't be kept: {jobs} name no model, so nobody knows what they cost. {done}",
        fix=f"{said}: {again} {without}",
    )
