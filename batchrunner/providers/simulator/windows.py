"""The simulator's own limit arithmetic, on purpose shared with nothing else.

The simulator judges the limiter of batchrunner in tests; a mistake in common code would be blind
to itself. All instants are epoch seconds and are arguments. A refused request uses nothing up.
"""

from __future__ import annotations

import math
from collections import deque
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from batchrunner.providers.simulator.config import DAY_S, SimulatorConfig, WindowKind

#: A bucket holds the allowance of this part of its minute.
_BURST_SHARE: Final = 60


class Standing(NamedTuple):
    """Where a limit stands."""

    limit: int
    remaining: int
    #: When it will be whole again.
    whole_at: float
    #: When the next request will be let in; not after the moment it was asked for if one is now.
    free_at: float


class Window(Protocol):
    """A limit of N requests in some stretch of time."""

    def standing(self, now: float) -> Standing:
        """Say where the limit stands."""
        ...

    def take(self) -> None:
        """Use up one request at the instant that :meth:`standing` was last asked for."""
        ...


class SlidingWindow:
    """At most ``limit`` requests in any stretch of ``length`` seconds."""

    def __init__(self, limit: int, length: float) -> None:
        """Start with nothing used."""
        self._limit, self._length = limit, length
        self._taken: deque[float] = deque()
        self._now = 0.0

    def standing(self, now: float) -> Standing:
        """Say where the limit stands."""
        self._now = now
        while self._taken and self._taken[0] + self._length <= now:
            self._taken.popleft()
        remaining = self._limit - len(self._taken)
        whole_at = self._taken[-1] + self._length if self._taken else now
        free_at = now if remaining > 0 else self._taken[0] + self._length
        return Standing(self._limit, remaining, whole_at, free_at)

    def take(self) -> None:
        """Use up one request."""
        self._taken.append(self._now)


class FixedWindow:
    """At most ``limit`` requests between two multiples of ``length`` seconds."""

    def __init__(self, limit: int, length: float) -> None:
        """Start with nothing used."""
        self._limit, self._length = limit, length
        self._slice, self._used = -1, 0

    def standing(self, now: float) -> Standing:
        """Say where the limit stands."""
        current = math.floor(now / self._length)
        if current != self._slice:
            self._slice, self._used = current, 0
        end = (current + 1) * self._length
        remaining = self._limit - self._used
        return Standing(
            self._limit, remaining, end if self._used else now, now if remaining > 0 else end
        )

    def take(self) -> None:
        """Use up one request."""
        self._used += 1


class TokenBucket:
    """A bucket refilled by ``limit`` in ``length`` seconds that holds a sixtieth of it."""

    def __init__(self, limit: int, length: float) -> None:
        """Start with a full bucket."""
        self._limit = limit
        self._rate = limit / length
        self._capacity = max(2.0, limit / _BURST_SHARE)
        self._level, self._seen = self._capacity, -math.inf

    def standing(self, now: float) -> Standing:
        """Say where the limit stands; ``limit`` is the minute's, as providers report it."""
        if now > self._seen:
            self._level = min(self._capacity, self._level + (now - self._seen) * self._rate)
            self._seen = now
        # Rounding must not refuse who comes at exactly the moment that was named.
        remaining = math.floor(self._level + 1e-6)
        return Standing(
            self._limit,
            remaining,
            now + (self._capacity - self._level) / self._rate,
            now if remaining else now + (1 - self._level) / self._rate,
        )

    def take(self) -> None:
        """Use up one request."""
        self._level -= 1


class CalendarDay:
    """At most ``limit`` requests a day of ``zone``."""

    def __init__(self, limit: int, zone: ZoneInfo) -> None:
        """Start with nothing used."""
        self._limit, self._zone = limit, zone
        self._ends, self._used = -math.inf, 0

    def standing(self, now: float) -> Standing:
        """Say where the limit stands."""
        if now >= self._ends:
            tomorrow = datetime.fromtimestamp(now, self._zone).date() + timedelta(days=1)
            midnight = datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=self._zone)
            self._ends, self._used = midnight.timestamp(), 0
        remaining = self._limit - self._used
        return Standing(
            self._limit,
            remaining,
            self._ends if self._used else now,
            now if remaining > 0 else self._ends,
        )

    def take(self) -> None:
        """Use up one request."""
        self._used += 1


_MINUTES: Final[dict[WindowKind, type[SlidingWindow | FixedWindow | TokenBucket]]] = {
    WindowKind.SLIDING: SlidingWindow,
    WindowKind.FIXED: FixedWindow,
    WindowKind.BUCKET: TokenBucket,
}


def minute_window(config: SimulatorConfig) -> Window | None:
    """Make the per-minute limit; ``None`` where there is none."""
    if config.rpm is None:
        return None
    return _MINUTES[config.window](config.rpm, config.minute_s)


def day_window(config: SimulatorConfig) -> Window | None:
    """Make the per-day limit; ``None`` where there is none."""
    if config.rpd is None:
        return None
    if config.day_resets == "rolling":
        return SlidingWindow(config.rpd, config.day_s)
    if config.day_s != DAY_S:
        return FixedWindow(config.rpd, config.day_s)
    return CalendarDay(config.rpd, ZoneInfo(config.day_resets))
