"""Time, as a thing that is passed in.

Two readings, both in epoch milliseconds as floats:

``now``   *steady*: a monotonic clock that counts suspend where the system has one, plus an offset
          taken once at start, so that it reads like a date but never steps. Minute windows,
          pacing and backoff live on it.
``wall``  what the calendar says now; it may step. Days, resets and pauses follow it.
"""

from __future__ import annotations

import time
from typing import Protocol

#: Counts the time a machine was suspended, which ``time.monotonic`` does not on Linux.
#: macOS has no CLOCK_BOOTTIME; its CLOCK_MONOTONIC already counts sleep.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock(Protocol):
    """Where the program reads time."""

    def now(self) -> float:
        """Return steady time, epoch milliseconds."""
        ...

    def wall(self) -> float:
        """Return wall time, epoch milliseconds."""
        ...


class SystemClock:
    """The machine's clocks; ``now`` starts at the later of wall time and ``last_seen``.

    ``last_seen`` is the steady time a former process stored, so that a clock set back between
    two runs does not open a window twice.
    """

    def __init__(self, last_seen: float = 0.0) -> None:
        """Take the offset between the monotonic and the wall clock."""
        self._offset = max(time.time() * 1000.0, last_seen) - time.clock_gettime(_CLOCK) * 1000.0

    def now(self) -> float:
        """Return steady time, epoch milliseconds."""
        return time.clock_gettime(_CLOCK) * 1000.0 + self._offset

    def wall(self) -> float:
        """Return wall time, epoch milliseconds."""
        return time.time() * 1000.0


def wall_ms() -> int:
    """Return the machine's wall clock, whole epoch milliseconds, for verbs that take no clock."""
    return int(time.time() * 1000)
