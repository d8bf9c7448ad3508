"""What a server's clock says, as far as who asks it can tell.

A reading is the server's time between two of our own monotonic clock (its ticks). The difference of the two
clocks, the offset, lies within it; the narrowest reading tells most, and less the longer ago it was, since
clocks drift. All times in milliseconds.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["Estimate", "Reading", "estimate_of", "refined", "step_of"]

#: Two clocks drift apart by so much of the time that passes, where both are steered by the network.
DRIFT: Final = 500e-6
#: A server's clock that differs by more than this, beside what can't be told, was set.
STEP_MS: Final = 50.0


class Reading(NamedTuple):
    """What a server said, and our ticks before it was asked and after."""

    before: float
    #: Epoch.
    server: float
    after: float


class Estimate(NamedTuple):
    """How far a server's clock is ahead of our ticks."""

    offset: float
    #: It is no further off than that, at the tick ``at``.
    error: float
    at: float

    def error_at(self, tick: float) -> float:
        """Return how far off it may be by then."""
        return self.error + max(0.0, tick - self.at) * DRIFT


def estimate_of(reading: Reading) -> Estimate:
    """Return what a reading alone tells."""
    middle = (reading.before + reading.after) / 2
    return Estimate(reading.server - middle, (reading.after - reading.before) / 2, reading.after)


def refined(known: Estimate, reading: Reading) -> Estimate:
    """Return the better one of what is known and of what a reading tells, which agree."""
    new = estimate_of(reading)
    return new if new.error <= known.error_at(new.at) else known


def step_of(known: Estimate, reading: Reading) -> float:
    """Return by how much the server's clock was set ahead since (below 0: back); 0: it was not."""
    new = estimate_of(reading)
    apart = new.offset - known.offset
    return apart if abs(apart) > STEP_MS + new.error + known.error_at(new.at) else 0.0
