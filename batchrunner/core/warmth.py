"""Which starts of requests are in the provider's cache by now, as far as answers tell.

A start is kept from the moment the first answer to a request with it begins. Whoever sends all of them
at once pays for writing it with each. So the first job with a start, its *lead*, goes alone; once it
was answered the others follow, while the cache is warm: each that reads it keeps it so. Where starts
have their own beginning in common (:func:`~batchrunner.core.caching.family_of`), the first lead of all
warms that. One for each lane, whose jobs ask for one model of one account; nothing of it is stored,
since a new process finds out with one request a start.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from batchrunner.core.caching import family_of
from batchrunner.models import JobId

__all__ = ["Order", "Warmth"]

#: A start that stays for less than this share of its time comes before others: reading it keeps it.
_HURRY: Final = 0.5


class Order(NamedTuple):
    """Which starts' jobs come next; what is not named is cold."""

    #: In the cache, those first that leave it soonest.
    warm: tuple[int, ...]
    #: Their lead is on its way: they wait for it.
    waiting: tuple[int, ...]
    #: Families of which not even the shortest start is in the cache yet, and a lead is on its way.
    waiting_families: tuple[int, ...]


class _Kept(NamedTuple):
    until: float
    length_ms: float


class Warmth:
    """The starts of one lane's jobs; instants are steady ms. Start 0 stands for none."""

    __slots__ = ("_families", "_family_leads", "_kept", "_leads", "_out", "is_stalled")

    def __init__(self) -> None:
        """Begin with a cold cache."""
        #: In the order in which they were first warm.
        self._kept: dict[int, _Kept] = {}
        #: Family → until when its shortest start is kept.
        self._families: dict[int, float] = {}
        #: Start → the job that warms it; family → the same.
        self._leads: dict[int, JobId] = {}
        self._family_leads: dict[int, JobId] = {}
        #: The start of each job that has permission and is not back.
        self._out: dict[JobId, int] = {}
        #: Whether all that is left waits for leads.
        self.is_stalled = False

    @property
    def n_leads(self) -> int:
        """How many leads are on their way."""
        return len(self._leads)

    def is_warm(self, start: int, now: float) -> bool:
        """Whether the start is in the cache; what has none needs none."""
        if not start:
            return True
        kept = self._kept.get(start)
        return kept is not None and now < kept.until

    def may_go(self, start: int, now: float) -> bool:
        """Whether a job with this start may go, as a lead where it is cold."""
        return self.is_warm(start, now) or (
            start not in self._leads and family_of(start) not in self._family_leads
        )

    def goes(self, job: JobId, start: int, now: float) -> None:
        """Note that a job has permission."""
        if not start:
            return
        self._out[job] = start
        if self.is_warm(start, now):
            return
        self._kept.pop(start, None)
        self._leads[start] = job
        family = family_of(start)
        if self._families.get(family, now) <= now:
            self._family_leads[family] = job

    def back(self, job: JobId, *, sent_at: float, kept_ms: float | None) -> None:
        """Note that a job is back; ``kept_ms``: how long its start is kept, ``None``: it was not read."""
        start = self._out.pop(job, 0)
        if not start:
            return
        family = family_of(start)
        if self._family_leads.get(family) == job:
            del self._family_leads[family]
        is_lead = self._leads.get(start) == job
        if is_lead:
            del self._leads[start]
            self.is_stalled = False
        if kept_ms is None:
            return
        until = sent_at + kept_ms
        self._families[family] = max(until, self._families.get(family, until))
        if is_lead or start in self._kept:
            self._kept[start] = _Kept(until, kept_ms)

    def forget(self, start: int) -> None:
        """Drop a start of which no job is left that was never sent."""
        self._kept.pop(start, None)

    def order(self, now: float) -> Order:
        """Return whose jobs come next."""
        for start in [start for start, kept in self._kept.items() if kept.until <= now]:
            del self._kept[start]
        for family in [family for family, until in self._families.items() if until <= now]:
            del self._families[family]
        hurried = sorted(
            (kept.until, start)
            for start, kept in self._kept.items()
            if kept.until - now < _HURRY * kept.length_ms
        )
        first = dict.fromkeys(start for _, start in hurried)
        rest = (start for start in self._kept if start not in first)
        return Order((*first, *rest), tuple(self._leads), tuple(self._family_leads))
