"""Whether more in flight brought more answers, by the rates of two levels.

Rates, never latencies: ours are of jobs of any length. Whoever doubles what is in flight at a server that keeps up gets
twice the answers a second; at one that queues, the same answers later.
"""

from __future__ import annotations

from math import log, sqrt
from typing import Final, NamedTuple

__all__ = ["PAYS", "Measured", "gain", "pays"]

#: Of what a perfect server would gain (as a power of the level) at least so much must be seen.
PAYS: Final = 0.5
#: How widely the latencies of jobs spread about their mean; makes what chance may do to a rate.
SPREAD: Final = 1.0


class Measured(NamedTuple):
    """How fast answers came at one level."""

    level: int
    #: Answers a millisecond.
    rate: float
    n: int

    @property
    def latency(self) -> float:
        """How long an answer took there (ms, by Little's law), with what chance may have taken off."""
        return self.level / self.rate * (1.0 + SPREAD / 2 / sqrt(self.n))


def gain(before: Measured, after: Measured) -> float:
    """Return the power of the level that the rate grew by: 1 where it grew as much, 0 where not at all."""
    if after.level <= before.level:
        return 1.0
    return log(after.rate / before.rate) / log(after.level / before.level)


def pays(before: Measured, after: Measured) -> bool:
    """Whether a higher level was worth it, chance in its favour."""
    if after.level < 1.1 * before.level:
        return True
    chance = SPREAD * sqrt(1 / before.n + 1 / after.n) / log(after.level / before.level)
    return gain(before, after) + chance > PAYS
