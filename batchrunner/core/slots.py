"""Usage in slots of time, and the two questions the limits ask of it.

A slot counts the sends of ``grain`` milliseconds, or their tokens. Sums over slots have no upper end:
bookings in the future count, so that the order of bookings does not matter. An amount larger than a
whole limit is admitted where nothing else counts: it goes alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from batchrunner.core.days import day_start, next_reset

#: What a slot's end is taken later by; a send may be that late without a window holding too many.
GUARD_MS: Final = 250
#: Nothing is planned this close to a reset: our clock and the provider's differ.
RESET_GUARD_MS: Final = 5_000
#: More calendar days than usage is kept for.
_MAX_DAYS: Final = 4

FOREVER: Final = float("inf")


class _Watcher(Protocol):
    """Who follows the counts of a :class:`Slots`."""

    def changed(self, slot: int, by: int) -> None: ...
    def recount(self) -> None: ...


class Slots:
    """Counts by slot number; only slots that changed are dirty."""

    __slots__ = ("_watchers", "counts", "dirty", "grain", "newest", "oldest")

    def __init__(self, grain: int, rows: Iterable[tuple[int, int]] = ()) -> None:
        """Take the stored ``(slot, n)`` rows."""
        self.grain = grain
        self.counts: dict[int, int] = {slot: n for slot, n in rows if n > 0}
        self.dirty: set[int] = set()
        self.oldest = min(self.counts, default=0)
        self.newest = max(self.counts, default=0)
        self._watchers: tuple[_Watcher, ...] = ()

    def watch(self, watchers: Iterable[_Watcher]) -> None:
        """Tell these, and no others, of every change."""
        self._watchers = tuple(watchers)
        for watcher in self._watchers:
            watcher.recount()

    def add(self, slot: int, by: int) -> None:
        """Count ``by`` more (or fewer) in a slot; never below 0."""
        counts = self.counts
        before = counts.get(slot)
        if before is None:
            if by < 0:
                return  # given back so late that the slot is no longer kept
            if not counts:
                self.oldest = self.newest = slot
            elif slot < self.oldest:
                self.oldest = slot
            elif slot > self.newest:
                self.newest = slot
            counts[slot] = by
        else:
            by = max(by, -before)
            counts[slot] = before + by
        self.dirty.add(slot)
        for watcher in self._watchers:
            watcher.changed(slot, by)

    def adopt(self, slot: int, by: int) -> None:
        """Count what somebody else has stored already: the slot is no more to be stored for it."""
        was_dirty = slot in self.dirty
        self.add(slot, by)
        if not was_dirty:
            self.dirty.discard(slot)

    def forget_before(self, slot: int) -> None:
        """Drop the slots before ``slot``."""
        if slot <= self.oldest or not self.counts:
            return
        for old in [s for s in self.counts if s < slot]:
            del self.counts[old]
            self.dirty.discard(old)
        self.oldest = min(self.counts, default=0)
        for watcher in self._watchers:
            watcher.recount()

    def since(self, slot: int) -> int:
        """Return what ``slot`` and all later ones count."""
        return sum(n for s, n in self.counts.items() if s >= slot)

    def take_dirty(self) -> Iterator[tuple[int, int]]:
        """Yield ``(slot, n)`` with absolute counts for what changed, and take it as stored."""
        dirty, self.dirty = self.dirty, set()
        for slot in dirty:
            yield slot, self.counts[slot]


class Window:
    """At most ``n`` in any ``window_ms``.

    A cursor stands on the newest slot from which on the slots leave no room for the amount that was
    asked for last; that may go when the slot has left the window. It moves with the bookings, so
    that asking costs the same at 3 and at 1,000,000 a minute.
    """

    __slots__ = ("_head", "_n", "_slots", "_total", "window_ms")

    def __init__(self, slots: Slots, n: int, window_ms: int) -> None:
        """Watch over ``slots``; the caller registers the window with :meth:`Slots.watch`."""
        self._slots, self._n, self.window_ms = slots, n, window_ms
        self._head = self._total = 0

    def recount(self) -> None:
        """Start again from the oldest slot."""
        self._head = self._slots.oldest
        self._total = sum(self._slots.counts.values())

    def changed(self, slot: int, by: int) -> None:
        """Follow a booking."""
        if slot >= self._head:
            self._total += by

    def earliest(self, t: float, amount: int = 1) -> float:
        """Return the first instant from ``t`` on at which ``amount`` more is admitted."""
        if self._n <= 0:
            return FOREVER
        # So much in the window leaves no room; nothing at all must be, where it is more than all.
        n = max(1, self._n - amount + 1)
        slots, total = self._slots, self._total
        counts, oldest = slots.counts, slots.oldest
        head = max(self._head, oldest)
        while (rest := total - counts.get(head, 0)) >= n:
            total = rest
            head += 1
        while total < n and head > oldest:
            head -= 1
            total += counts.get(head, 0)
        self._head, self._total = head, total
        if total < n:
            return t
        return max(t, (head + 1) * slots.grain + self.window_ms + GUARD_MS)

    def earliest_moved(self, t: float, late_ms: float, amount: int = 1) -> float:
        """Return the first instant from ``t`` on for a send booked ``late_ms`` before it.

        Its own booking must have been taken out. Bookings after ``t`` were admitted while it counted
        earlier in their windows; it still does, so only the window that ends at ``t`` is asked.
        """
        slots = self._slots
        if late_ms < self.window_ms / 2:
            first = (t - self.window_ms - GUARD_MS) // slots.grain
            last = t // slots.grain
            used = sum(n for slot, n in slots.counts.items() if first <= slot <= last)
            if used + min(amount, self._n) <= self._n:
                return t
        return self.earliest(t, amount)

    def used(self, t: float) -> int:
        """Return what counts at ``t``."""
        return self._slots.since(int((t - self.window_ms - GUARD_MS) // self._slots.grain))


class Day:
    """At most ``n`` in a calendar day of ``zone``; its instants are wall time."""

    __slots__ = ("_end", "_n", "_slots", "_start", "_used", "zone")

    def __init__(self, slots: Slots, n: int, zone: str) -> None:
        """Watch over ``slots``; the caller registers the day with :meth:`Slots.watch`."""
        self._slots, self._n, self.zone = slots, n, zone
        self._start = self._end = self._used = 0

    def recount(self) -> None:
        """Forget what was summed."""
        self._start = self._end = 0

    def changed(self, slot: int, by: int) -> None:
        """Follow a booking."""
        if slot * self._slots.grain >= self._start:
            self._used += by

    def _turn_to(self, t: float) -> None:
        if not self._start <= t < self._end:
            self._start, self._end = day_start(t, self.zone), next_reset(t, self.zone)
            self._used = self._slots.since(-(-self._start // self._slots.grain))

    def earliest(self, t: float, amount: int = 1) -> float:
        """Return the first instant from ``t`` on at which ``amount`` more is admitted."""
        if self._n <= 0:
            return FOREVER
        most = self._n - min(amount, self._n)
        for _ in range(_MAX_DAYS):
            self._turn_to(t)
            if t <= self._end - RESET_GUARD_MS and self._used <= most:
                return max(t, self._start + RESET_GUARD_MS)
            t = self._end + RESET_GUARD_MS
        return t

    def used(self, t: float) -> int:
        """Return what counts of the day that ``t`` is in."""
        self._turn_to(t)
        return self._used

    def resets_at(self, t: float) -> int:
        """Return when the next day begins."""
        return next_reset(t, self.zone)
