"""Which runs a worker takes: all that are ready on the queue, as far as it can send them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from batchrunner.models import RunId
from batchrunner.options import TAGS
from batchrunner.store.holder import RunRow

__all__ = ["Offers", "Wanted"]

#: How often the queue is looked through (milliseconds).
LOOK_MS: Final = 1_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which runs a worker was started for."""

    #: Of that provider alone; ``None``: of any.
    provider: str | None = None
    #: What it has: it takes runs that ask for nothing else.
    tags: frozenset[str] = frozenset()
    #: Runs that ask for no tag are not for it.
    only_tagged: bool = False
    #: Accounts that its keys are said to be of.
    accounts: frozenset[str] = frozenset()

    def why_not(self, provider: str, tags: Collection[str]) -> str | None:
        """Return why a run is not for this worker; ``None``: it is."""
        if self.provider not in (None, provider):
            return (
                f"it is a run of {provider}, and this worker was started for {self.provider} alone"
            )
        if missing := sorted(set(tags) - self.tags):
            words = (
                f"the tag {missing[0]}" if len(missing) == 1 else f"the tags {', '.join(missing)}"
            )
            return f"it wants {words}, which this worker does not have (worker --tags)"
        if self.only_tagged and not tags:
            return "it has no tag, and this worker was started for runs with tags alone (--only-tagged)"
        return None


class Offers:
    """What a worker is told of the runs that it may take."""

    def __init__(
        self,
        *,
        defaults_of: Callable[[str], Mapping[str, Any]],
        wanted: Wanted = Wanted(),
        until_done: bool,
    ) -> None:
        """Take the configuration by provider, the runs wanted, and whether to end with the work."""
        self.defaults_of = defaults_of
        self.wanted = wanted
        self._until_done = until_done
        self._looked_at = float("-inf")
        self._said: dict[RunId, str | None] = {}
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
        return self.wanted.why_not(row.provider, row.options.get(TAGS) or ())

    def is_news(self, run_id: RunId, why: str | None) -> bool:
        """Whether this was not said of a run before; ``None``: it is taken."""
        if self._said.get(run_id) == why:
            return False
        self._said[run_id] = why
        return True

    def forget(self) -> None:
        """Say all of it again: what was said of this worker went with its row."""
        self._said.clear()

    def found(self, n_open: int, n_left: int) -> str | None:
        """Note how many runs there are that this worker sends or waits for, and how many it leaves.

        Returns what is to be said, where it has nothing to do any more.
        """
        was_idle, self._is_idle = self._is_idle, n_open == 0
        if was_idle or n_open:
            return None
        runs = "1 run is" if n_left == 1 else f"{n_left:,} runs are"
        left = f"; {runs} left to others" if n_left else ""
        what = "nothing is left that it could send" if self._until_done else "nothing to send now"
        return f"{what}{left}" if self._until_done else f"{what}{left}; waiting for runs"

    @property
    def is_over(self) -> bool:
        """Whether the worker may end: it was asked to with the work, and there is none."""
        return self._until_done and self._is_idle
