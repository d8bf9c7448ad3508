"""What bounds jobs in time: limits as speeds and as places of a day, told in jobs.

A limit of tokens is one of jobs that take so many each, on average: so all limits are of one kind,
and what is left of them can be compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import floor, inf
from typing import Final, NamedTuple, Self

from batchrunner.core.caps import (
    INPUT_TOKENS,
    METERS,
    MIN_INTERVAL,
    MINUTE_MS,
    OUTPUT_TOKENS,
    REQUESTS,
    TOKENS,
    Limit,
    pace_of,
)
from batchrunner.core.token_use import DAY_GRAIN, SlotRow

__all__ = ["Bounds", "DayCap", "Speed", "bounds_of"]

#: A minute as windows of tokens count it: with the slot that it ends in.
_TOKEN_MINUTE_MS: Final = MINUTE_MS + 250.0


class Speed(NamedTuple):
    """At most so many jobs a millisecond, by the limit of that name."""

    name: str
    per_ms: float


class DayCap(NamedTuple):
    """At most so many jobs a day, by the limit of that name."""

    name: str
    n: float
    #: An IANA zone or ``rolling``.
    zone: str
    #: What counts already: when, and how many jobs' worth.
    used: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Everything that bounds the jobs of one scope."""

    speeds: tuple[Speed, ...] = ()
    days: tuple[DayCap, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The limits that have a part in it."""
        return frozenset([*(speed.name for speed in self.speeds), *(day.name for day in self.days)])

    @property
    def per_ms(self) -> float:
        """The speed of the slowest."""
        return min((speed.per_ms for speed in self.speeds), default=inf)

    def times(self, name: str, factor: float) -> Self:
        """Return them with one limit raised; ``inf``: without it."""
        if factor == inf:
            return replace(
                self,
                speeds=tuple(speed for speed in self.speeds if speed.name != name),
                days=tuple(day for day in self.days if day.name != name),
            )
        return replace(
            self,
            speeds=tuple(
                speed._replace(per_ms=speed.per_ms * (factor if speed.name == name else 1))
                for speed in self.speeds
            ),
            days=tuple(
                day._replace(n=day.n * (factor if day.name == name else 1)) for day in self.days
            ),
        )


def bounds_of(
    limits: Iterable[Limit],
    each: Mapping[str, float],
    slots: Iterable[SlotRow] = (),
    *,
    total_has_output: bool = True,
) -> Bounds:
    """Return what limits are to jobs that take ``each`` of a unit, requests being 1.

    ``slots`` hold what is used already; whether answers count to the total of tokens is the provider's. A limit of something that the jobs take nothing of is none.
    """
    rows = list(slots)
    total = (INPUT_TOKENS, OUTPUT_TOKENS) if total_has_output else (INPUT_TOKENS,)
    speeds, days = [], []
    for limit in limits:
        if limit.name == MIN_INTERVAL:
            speeds.append(Speed(limit.name, 1 / limit.n))
            continue
        meter = METERS.get(limit.name)
        of_one = each.get(meter.unit, 0.0) if meter is not None else 0.0
        if meter is None or of_one <= 0:
            continue
        if meter.window_ms == MINUTE_MS:
            speeds.append(Speed(limit.name, _per_ms(limit.n, meter.unit, of_one)))
            continue
        units = total if meter.unit == TOKENS else (meter.unit,)
        used = tuple(
            (float(row.slot * DAY_GRAIN), row.n / of_one)
            for row in rows
            if row.grain == DAY_GRAIN and row.unit in units and row.n > 0
        )
        # A job that is larger than the limit goes alone.
        n = max(1, floor(limit.n / of_one)) if limit.n > 0 else 0
        days.append(DayCap(limit.name, n, limit.zone or "UTC", used))
    return Bounds(speeds=tuple(speeds), days=tuple(days))


def _per_ms(n: float, unit: str, of_one: float) -> float:
    if n <= 0:
        return 0.0
    if unit == REQUESTS:
        return 1 / pace_of(n, MINUTE_MS).interval_ms
    return n / of_one / _TOKEN_MINUTE_MS
