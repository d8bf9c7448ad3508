"""What answers cost: each is counted before it is stored, at its model's price when it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from batchrunner.core.prices import as_said, cost
from batchrunner.engine.live import LiveRun
from batchrunner.models import ModelId
from batchrunner.options import PRICES
from batchrunner.providers.pricing import TABLES, Listed, listed_price
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

    async def look_up(
        self, run: LiveRun, model_id: ModelId, answered: str | None, *, wall: float
    ) -> Listed:
        """Return and remember what a model costs; what a person said comes before the table."""
        asked, provider = run.lanes[model_id].model, run.row.provider
        names = list(dict.fromkeys(name for name in (asked, answered) if name))
        listed = Listed(None, float("inf"))
        if provider in TABLES:
            listed = await asyncio.to_thread(listed_price, provider, names, wall=wall)
        said = run.row.options.get(PRICES) or {}
        of_model = next((said[name] for name in names if name in said), None)
        if of_model is not None:
            listed = listed._replace(price=as_said(of_model, listed.price))
        if len(run.prices) >= _MOST:
            run.prices.clear()
        run.prices[model_id, answered] = listed
        if listed.price is None:
            self._tell(provider, names)
        return listed

    def _tell(self, provider: str, names: Sequence[str]) -> None:
        if provider in _FREE or not names or (provider, names[0]) in self._told:
            return
        self._told.add((provider, names[0]))
        self._notice(
            f"No price of {names[0]} is known, so what it costs is not counted; say it in the"
            f' configuration: [prices."{names[0]}"] with input and output, in dollars per million'
            " tokens"
        )
