"""``[budget]``: what all runs of a database may cost in a day and in a month, and what they did.

Days and months are UTC's, like those of ``usage``. What a request costs belongs to the day on which it
was sent. While it is in flight its worst case counts for whatever day it is: for today, because it
was admitted today, and for tomorrow, because it may go out then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import inf
from typing import Final, NamedTuple

__all__ = [
    "DAY_MS",
    "NO_BUDGET",
    "UNITS",
    "Budget",
    "Spending",
    "month_start",
    "span",
]

DAY_MS: Final = 86_400_000


class Budget(NamedTuple):
    """Dollars; ``None``: as many as one likes."""

    day: float | None = None
    month: float | None = None

    def of(self, unit: str) -> float:
        """Return what a unit of :data:`UNITS` may cost."""
        amount: float | None = getattr(self, unit)
        return inf if amount is None else amount


NO_BUDGET: Final = Budget()


def month_start(wall: float) -> int:
    """Return the first instant (ms) of the month that ``wall`` is in."""
    return _month(wall)[0]


def _day(wall: float) -> tuple[int, int]:
    start = int(wall // DAY_MS) * DAY_MS
    return start, start + DAY_MS


def _month(wall: float) -> tuple[int, int]:
    at = datetime.fromtimestamp(wall // 1000, UTC)
    first = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    # No month has more than 31 days, and none has 32 of them left after its 1st.
    after = datetime.fromtimestamp(first.timestamp() + 32 * 86_400, UTC).replace(day=1)
    return int(first.timestamp()) * 1000, int(after.timestamp()) * 1000


#: What a budget may be for → (an instant) → when that day or month begins and ends.
UNITS: Final[Mapping[str, Callable[[float], tuple[int, int]]]] = {"day": _day, "month": _month}


def span(unit: str, wall: float) -> tuple[int, int]:
    """Return when the day or month that ``wall`` is in begins and ends (ms)."""
    return UNITS[unit](wall)


class Spending:
    """What all runs of a database spent by day, and what is in flight may still cost."""

    def __init__(self, by_day: Mapping[int, float], wall: float) -> None:
        """Take what was spent since the month began, by days since the epoch."""
        self._by_day = dict(by_day)
        #: What of it is not stored yet.
        self._unstored: dict[int, float] = {}
        self._n_reserved = 0
        #: The worst cases of what is in flight.
        self.reserved = 0.0
        #: Those of what other workers have in flight.
        self.others = 0.0
        #: How often a day has begun.
        self.turn = -1
        self._bounds: dict[str, tuple[int, int]] = {"day": (0, 0)}
        self._spent: dict[str, float] = {}
        self.look(wall)

    def look(self, wall: float) -> None:
        """Take the time: another day may have begun, or the clock been set."""
        first, last = self._bounds["day"]
        if first <= wall < last:
            return
        self.turn += 1
        for unit in UNITS:
            self._bounds[unit] = span(unit, wall)
        self._sum()

    def _sum(self) -> None:
        for unit, (first, last) in self._bounds.items():
            days = range(first // DAY_MS, last // DAY_MS)
            self._spent[unit] = sum(self._by_day.get(day, 0.0) for day in days)

    def adopt(self, by_day: Mapping[int, float], others: float) -> None:
        """Take what all workers together have spent on these days, as it is stored, and set apart."""
        for day, dollars in by_day.items():
            self._by_day[day] = dollars + self._unstored.get(day, 0.0)
        self.others = others
        self._sum()

    def stored(self) -> None:
        """Note that what was spent here is stored."""
        self._unstored.clear()

    def spend(self, at: float, dollars: float) -> None:
        """Count what a request cost that was sent at ``at`` (wall)."""
        day = int(at // DAY_MS)
        self._by_day[day] = self._by_day.get(day, 0.0) + dollars
        self._unstored[day] = self._unstored.get(day, 0.0) + dollars
        for unit, (first, last) in self._bounds.items():
            if first <= at < last:
                self._spent[unit] += dollars

    def reserve(self, dollars: float) -> None:
        """Set a request's worst case apart."""
        self._n_reserved += 1
        self.reserved += dollars

    def release(self, dollars: float) -> None:
        """Let go what was set apart for a request."""
        self._n_reserved -= 1
        self.reserved = self.reserved - dollars if self._n_reserved else 0.0

    def spent(self, unit: str) -> float:
        """Return what was spent in this day or month."""
        return self._spent[unit]

    def ends(self, unit: str) -> int:
        """Return when this day or month ends (wall)."""
        return self._bounds[unit][1]

    def passed(self, budget: Budget, dollars: float, *, in_flight: bool = True) -> list[str]:
        """Return the units whose budget so much more would pass.

        ``in_flight`` false: as if everything that is in flight cost nothing.
        """
        more = dollars + (self.reserved + self.others if in_flight else 0.0)
        return [unit for unit in UNITS if self._spent[unit] + more > budget.of(unit)]
