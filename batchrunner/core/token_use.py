"""The tokens of one scope: what was used of them in slots, and the limits that count them.

Booked at the instant of the send: an estimate before it, corrected in place once an answer says what
it took. What ``tpm`` and ``tpd`` count is derived from input and output and never stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from batchrunner.core.caps import (
    DAY_MS,
    INPUT_TOKENS,
    METERS,
    MINUTE_MS,
    OUTPUT_TOKENS,
    ROLLING,
    TOKENS,
    Limit,
)
from batchrunner.core.counting import NO_TOKENS, Charge
from batchrunner.core.slots import Day, Slots, Window

__all__ = ["DAY_GRAIN", "MINUTE_GRAIN", "SlotRow", "TokenUse", "Used"]

MINUTE_GRAIN: Final = 250
DAY_GRAIN: Final = 60_000
#: What is stored, in the order of a charge.
_STORED: Final = (INPUT_TOKENS, OUTPUT_TOKENS)


class SlotRow(NamedTuple):
    """A row of ``usage_slot`` of one scope, as it is loaded."""

    unit: str
    grain: int
    slot: int
    n: int


class Used(NamedTuple):
    """What of a limit is used, and when (wall ms) some of it comes back."""

    used: int
    resets_at: int
    is_calendar: bool


class _Meter(NamedTuple):
    name: str
    unit: str
    window: Window


class TokenUse:
    """The token slots of a scope, and its windows and days over them."""

    __slots__ = (
        "_days",
        "_limits",
        "_rolling",
        "_slots",
        "_total_has_output",
        "_windows",
        "is_limited",
    )

    def __init__(self, rows: Iterable[SlotRow], *, total_has_output: bool) -> None:
        """Take the stored rows; those of other units are not ours."""
        self._total_has_output = total_has_output
        self._slots = {
            (unit, grain): Slots(grain)
            for unit in (*_STORED, TOKENS)
            for grain in (MINUTE_GRAIN, DAY_GRAIN)
        }
        for row in rows:
            if row.unit in _STORED and row.n > 0:
                self._slots[row.unit, row.grain].add(row.slot, row.n)
                if self._is_of_total(row.unit):
                    self._slots[TOKENS, row.grain].add(row.slot, row.n)
        for slots in self._slots.values():
            slots.dirty.clear()
        self._limits: tuple[Limit, ...] = ()
        self._windows: list[_Meter] = []
        self._rolling: list[_Meter] = []
        self._days: list[tuple[str, str, Day]] = []
        #: Whether any limit counts tokens.
        self.is_limited = False

    def _is_of_total(self, unit: str) -> bool:
        return unit == INPUT_TOKENS or self._total_has_output

    def set_limits(self, limits: Iterable[Limit]) -> None:
        """Put these token limits in force, each above 0."""
        self._limits = tuple(limits)
        self._windows, self._rolling, self._days = [], [], []
        for limit in self._limits:
            unit, length = METERS[limit.name]
            slots = self._slots[unit, MINUTE_GRAIN if length == MINUTE_MS else DAY_GRAIN]
            if length == DAY_MS and limit.zone != ROLLING:
                self._days.append((limit.name, unit, Day(slots, int(limit.n), limit.zone or "UTC")))
                continue
            of_its_kind = self._windows if length == MINUTE_MS else self._rolling
            of_its_kind.append(_Meter(limit.name, unit, Window(slots, int(limit.n), length)))
        for (unit, grain), slots in self._slots.items():
            watchers: list[Window | Day] = [
                meter.window
                for meter in (self._windows if grain == MINUTE_GRAIN else self._rolling)
                if meter.unit == unit
            ]
            if grain == DAY_GRAIN:
                watchers += [day for _, of, day in self._days if of == unit]
            slots.watch(watchers)
        self.is_limited = bool(self._windows or self._rolling or self._days)

    def book(self, minute_slot: int, day_slot: int, charge: Charge, sign: int = 1) -> None:
        """Count a charge, or a difference, in the slots of its send; ``sign`` -1 takes it out."""
        if charge == NO_TOKENS:
            return
        total = 0
        for unit, n in zip(_STORED, charge, strict=True):
            if n:
                self._slots[unit, MINUTE_GRAIN].add(minute_slot, sign * n)
                self._slots[unit, DAY_GRAIN].add(day_slot, sign * n)
                total += n if self._is_of_total(unit) else 0
        if total:
            self._slots[TOKENS, MINUTE_GRAIN].add(minute_slot, sign * total)
            self._slots[TOKENS, DAY_GRAIN].add(day_slot, sign * total)

    def _amount(self, unit: str, charge: Charge) -> int:
        if unit == INPUT_TOKENS:
            return charge.input
        if unit == OUTPUT_TOKENS:
            return charge.output
        return charge.input + (charge.output if self._total_has_output else 0)

    def larger_than(self, charge: Charge) -> Limit | None:
        """Return a limit that the charge alone is larger than."""
        for limit in self._limits:
            if self._amount(METERS[limit.name].unit, charge) > limit.n:
                return limit
        return None

    def after_minute(self, t: float, late_ms: float | None, charge: Charge) -> tuple[float, str]:
        """Move ``t`` (steady) to where the minute's windows admit the charge, and say what moved it."""
        return self._after(self._windows, t, late_ms, charge)

    def after_day(self, at: float, late_ms: float | None, charge: Charge) -> tuple[float, str]:
        """Move ``at`` (wall) to where the days admit the charge, and say what moved it."""
        at, moved_by = self._after(self._rolling, at, late_ms, charge)
        for name, unit, day in self._days:
            amount = self._amount(unit, charge)
            if amount and (free := day.earliest(at, amount)) > at:
                at, moved_by = free, name
        return at, moved_by

    def _after(
        self, meters: Iterable[_Meter], t: float, late_ms: float | None, charge: Charge
    ) -> tuple[float, str]:
        moved_by = ""
        for name, unit, window in meters:
            amount = self._amount(unit, charge)
            if not amount:
                continue
            if late_ms is None:
                free = window.earliest(t, amount)
            else:
                free = window.earliest_moved(t, late_ms, amount)
            if free > t:
                t, moved_by = free, name
        return t, moved_by

    def uses(self, now: float, wall: float) -> dict[str, Used]:
        """Return what is used of each limit."""
        uses = {}
        for name, _, window in self._windows:
            uses[name] = Used(window.used(now), int(window.earliest(now) + wall - now), False)
        for name, _, rolling in self._rolling:
            uses[name] = Used(rolling.used(wall), int(rolling.earliest(wall)), False)
        for name, _, day in self._days:
            uses[name] = Used(day.used(wall), day.resets_at(wall), True)
        return uses

    def slots(self, unit: str, window_ms: int) -> Slots:
        """Return the slots that a limit of so long a window counts."""
        return self._slots[unit, MINUTE_GRAIN if window_ms == MINUTE_MS else DAY_GRAIN]

    def count_others(self, unit: str, slot: int, n: int, grain: int) -> None:
        """Count what others used; what is used of both is taken for input."""
        self._slots[INPUT_TOKENS if unit == TOKENS else unit, grain].add(slot, n)
        if unit == TOKENS or self._is_of_total(unit):
            self._slots[TOKENS, grain].add(slot, n)

    def adopt(self, unit: str, grain: int, slot: int, by: int) -> None:
        """Count what somebody else has stored already."""
        self._slots[unit, grain].adopt(slot, by)
        if self._is_of_total(unit):
            self._slots[TOKENS, grain].adopt(slot, by)

    def stored(self) -> Iterator[tuple[str, Slots]]:
        """Yield the slots that are stored, with their unit."""
        for unit in _STORED:
            yield unit, self._slots[unit, MINUTE_GRAIN]
            yield unit, self._slots[unit, DAY_GRAIN]

    def forget_before(self, minute_slot: int, day_slot: int) -> None:
        """Drop slots that no limit looks at any more."""
        for (_, grain), slots in self._slots.items():
            slots.forget_before(minute_slot if grain == MINUTE_GRAIN else day_slot)
        for grain in (MINUTE_GRAIN, DAY_GRAIN):
            self._slots[TOKENS, grain].dirty.clear()
