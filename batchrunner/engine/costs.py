"""What answers cost: each is counted before it is stored, at its model's price when it was asked."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from batchrunner.core.prices import as_said, cost, saved
from batchrunner.engine.live import LiveRun
from batchrunner.engine.purse import Purse
from batchrunner.errors import UsageError
from batchrunner.models import ModelId
from batchrunner.options import MAX_COST, PRICES
from batchrunner.providers.pricing import TABLES, Listed, listed_price
from batchrunner.store.holder import LaneRow, RunRow
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

    async def purse(
        self, row: RunRow, lanes: Sequence[LaneRow], *, spent: float, wall: float
    ) -> Purse:
        """Return the money of a run with ``--max-cost``.

        Raises :class:`UsageError` where one of its models has no price.
        """
        purse = Purse(
            row.options[MAX_COST], run=shlex.quote(row.name), provider=row.provider, spent=spent
        )
        for lane in lanes:
            listed = await self._listed(row, [lane.model], wall=wall)
            known = listed.price
            if not lane.model:
                raise UsageError(
                    f"--max-cost can't be kept: jobs of {row.name} name no model, so nobody knows what"
                    " they cost. Nothing was sent.",
                    fix=f"Go on without it: batchrunner resume {shlex.quote(row.name)} --max-cost none",
                )
            if known is None or known.rates.input is None or known.rates.output is None:
                raise UsageError(
                    f"--max-cost can't be kept: no price of {lane.model} is known. Nothing of"
                    f" {row.name} was sent.",
                    fix=f'Say it in batchrunner.toml: [prices."{lane.model}"] with input and output, in'
                    f" dollars per million tokens; then: batchrunner resume {shlex.quote(row.name)}",
                )
            purse.prices[lane.model_id] = listed.all_day
        return purse

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
