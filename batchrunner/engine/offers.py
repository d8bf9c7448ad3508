"""Which runs a worker takes: all that are ready on the queue, as far as it can send them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from batchrunner.models import RunId
from batchrunner.options import BUDGET, MAX_COST
from batchrunner.store.holder import RunRow

__all__ = ["Offers"]

#: How often the queue is looked through (milliseconds).
LOOK_MS: Final = 1_000.0
#: What keeps its count in one process's memory, by the option that asks for it.
_OF_ONE: Final = {
    MAX_COST: "its money is bounded (--max-cost)",
    "sample": "a sample of it goes first",
}


class Offers:
    """What a worker is told of the runs that it may take."""

    def __init__(
        self,
        *,
        defaults_of: Callable[[str], Mapping[str, Any]],
        provider: str | None,
        until_done: bool,
    ) -> None:
        """Take the configuration by provider, the one provider wanted, and whether to end with the work."""
        self.defaults_of = defaults_of
        self._provider = provider
        self._until_done = until_done
        self._looked_at = float("-inf")
        self._said: dict[RunId, str] = {}
        #: Nothing was left that this worker could do, or that others do.
        self._is_idle = False

    def is_due(self, now: float) -> bool:
        """Whether the queue is to be looked through again; it is taken as done."""
        if now - self._looked_at < LOOK_MS:
            return False
        self._looked_at = now
        return True

    def why_not(self, row: RunRow) -> str | None:
        """Return why a run is left to others; ``None``: it may be taken."""
        if self._provider is not None and row.provider != self._provider:
            return ""
        options = {**self.defaults_of(row.provider), **row.options}
        if options.get(BUDGET):
            return "this configuration has a budget, which one process keeps"
        return next((why for name, why in _OF_ONE.items() if options.get(name)), None)

    def is_news(self, run_id: RunId, why: str) -> bool:
        """Whether this was not said of a run before."""
        if self._said.get(run_id) == why:
            return False
        self._said[run_id] = why
        return True

    def found(self, n_open: int) -> None:
        """Note how many runs there are that this worker may send or waits for."""
        self._is_idle = n_open == 0

    @property
    def is_over(self) -> bool:
        """Whether the worker may end: it was asked to with the work, and there is none."""
        return self._until_done and self._is_idle
