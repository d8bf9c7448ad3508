"""How many requests may be in flight: found by trying, since no server says it.

Fed with every answer and every trouble, :class:`Adaptive` keeps one number, its ``bound``. Three rules:

* **It grows only while it is what held the run back** (``is_full``), never while a limit did or jobs
  were lacking. Slow start: one more for each answer, which doubles it in a *round* (as many
  answers as may be in flight). After that additively: an eighth of where it began to climb a round.
* **It grows only as long as that pays.** Whoever doubles what is in flight at a server that keeps up gets
  twice the answers a second; at one that queues, the same answers later. The rates of two
  levels are compared, never latencies, since ours are of jobs of any length. Less than half of what
  was to be gained, beyond chance, ends the climb: back to what the server needs (its rate times the
  latency before it queued, and a little), and another try after some rounds, ever more of them.
* **Trouble lowers it at once**: an overload, a 5xx, a timeout, a refused or broken connection. Requests that were
  sent before the last step down tell nothing new. The level that met trouble is remembered:
  back to just below it quickly, then held, and passed only by small steps after some rounds.
  Trouble that comes as often at any level is none of the load's and does not count.

With ``-c N`` nothing is tried out: N is the bound, reached by slow start where no limit is known, and only
trouble lowers it, for a while.

Pure: instants are arguments. The state is one run's and is not stored: a new process feels its way anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from math import ceil, inf, log, sqrt
from typing import Final, NamedTuple

__all__ = ["START", "Adaptive", "Phase"]

#: Where nobody said how much a server takes, slow start begins with so many.
START: Final = 4

#: A climb tests itself at so many times the level where it began; slow start at each doubling.
CLIMB: Final = 1.5
#: The part of a level that a climb adds each round.
STEP: Final = 1 / 8
#: The same next to a level that met trouble.
SMALL_STEP: Final = 1 / 32
#: Of what a perfect server would gain (as a power of the level) at least so much must be seen.
PAYS: Final = 0.5
#: How widely the latencies of jobs spread about their mean; makes what chance may do to a rate.
SPREAD: Final = 1.0
#: A level is measured by so many answers at least.
LEAST_MEASURED: Final = 96
#: More than a server that queues needs, against the error of the estimate.
AIR: Final = 1.1
#: A climb that did not pay leaves a little less than there was, down to what the server needs.
EASE: Final = 0.8

#: What trouble leaves of the bound, and what it leaves where that level was known.
CUT: Final = 0.7
KNOWN_CUT: Final = 0.85
#: Where almost all that was out fails together, that part is left (the divisor).
BURST: Final = 4
#: A level is known where trouble comes within a tenth of it.
ALIKE: Final = 0.9
#: So much of the level that met trouble is held.
BELOW: Final = 0.95

#: Rounds that a level is held before more is tried; doubled each time that was in vain.
HOLD_FIRST: Final = 8
HOLD_MOST: Final = 64
#: The share of troubles is that of about so many requests.
MEMORY: Final = 128.0
#: Three times that share is taken as it comes, but at least and at most so much of all requests.
USUAL: Final = 0.1
USUAL_MOST: Final = 0.9
#: More troubles than these beyond what is usual lower the bound; by their share so many more.
ALARM: Final = 2.0
ALARM_SHARE: Final = 100.0
ALARM_MORE: Final = 10.0


class Phase(StrEnum):
    """What it does now."""

    #: One more for each answer, up to any level.
    START = "start"
    #: The same, up to just below the level that met trouble.
    RECOVER = "recover"
    #: Nothing but measuring how fast answers come.
    HOLD = "hold"
    #: A step more each round, up to where the climb is tested.
    CLIMB = "climb"
    #: A round at the top, so that what is measured is that level's.
    SETTLE = "settle"
    #: Whether the climb paid.
    TEST = "test"


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


class Adaptive:
    """The bound of one run, and what it knows of the server."""

    def __init__(self, *, most: int, start: int = START, is_typed: bool = False) -> None:
        """Begin with ``start`` in flight.

        Args:
            most: never more than these; may be changed at any time.
            start: the first bound.
            is_typed: ``most`` is what a person typed, so it is reached whether that pays or not.
        """
        self.most = most
        self.bound = max(1, min(start, most))
        self._is_typed = is_typed
        self.phase = Phase.START
        #: Slow start goes up to here.
        self._until = inf
        #: The level that met trouble, until a higher one did not.
        self._met_at: float = inf
        self._lowered_at = -inf
        #: The bound before the first of several steps down; before the last, and how many failed then.
        self._before = self.bound
        self._met = self.bound
        self._n_burst = 0
        self._is_known = False
        self._hold = HOLD_FIRST
        self._rounds_left = 0
        #: What a climb is measured against, and what it goes up to.
        self._anchor: Measured | None = None
        self._goal = 0
        self._step = 1
        #: Time that an answer takes (ms) at the level at which it took least.
        self._latency = inf
        #: The share of requests that met trouble, those that their own number made left out.
        self._share = 0.0
        self._share_before = 0.0
        #: Troubles beyond what is usual, added up.
        self._score = 0.0
        self._n_weighed = 0
        # The round.
        self._began_at = -inf
        self._level = self.bound
        self._n = 0
        self._n_full = 0
        self._n_round = self.bound
        #: What the end of a round does.
        self._ends: Final[Mapping[Phase, Callable[[Measured | None], None]]] = {
            Phase.START: self._started,
            Phase.RECOVER: self._recovered,
            Phase.HOLD: self._held,
            Phase.CLIMB: self._climbed,
            Phase.SETTLE: self._settled,
            Phase.TEST: self._tested,
        }

    @property
    def is_settled(self) -> bool:
        """Whether answers can change nothing: what was typed is in force."""
        return self._is_typed and self.bound >= self.most

    def begin_at(self, bound: int) -> None:
        """Have at least ``bound``, since the limits are known; nothing happens once something was learned."""
        if self.phase is Phase.START and self.bound < bound and self.bound < self.most:
            self.bound = min(bound, self.most)
            self._begin_round(self._began_at)

    def answered(self, now: float, *, is_full: bool) -> None:
        """Take one answer; ``is_full``: nothing but the bound held more of the run back."""
        self._n += 1
        if is_full:
            self._n_full += 1
            if self.bound < self._until and self.bound < self.most:
                self.bound += 1
        if self._n >= self._n_round:
            self._end_round(now)

    def troubled(
        self, *, sent_at: float, now: float, n_answered: int, is_costly: bool = False
    ) -> bool:
        """Take the trouble of one request, and return whether the bound is lower now.

        Args:
            sent_at: when it went out.
            now: when it failed.
            n_answered: how many of the run's were answered so far, those of a settled bound included.
            is_costly: it stops everybody for a while, so that one is enough.
        """
        if sent_at < self._lowered_at:
            return self._count_burst()
        self._weigh_answers(n_answered)
        if not self._score:
            self._share_before = self._share
        self._score += 1.0
        self._share += (1.0 - self._share) / MEMORY
        usual = ALARM + min(ALARM_MORE, ALARM_SHARE * self._share_before)
        if self._score <= usual and not is_costly:
            return False
        # Those were the load's; that there was some trouble is kept.
        self._share = self._share_before + (1.0 - self._share_before) / MEMORY
        self._lower(now, min(self.bound, self.most))
        return True

    def outage_ended(self) -> None:
        """Feel the way up again to where it was before an outage, which was none of the load's."""
        self._until = max(self._before, START)
        self.bound = min(self.bound, START)
        self._met_at = inf
        self._hold = HOLD_FIRST
        self._enter(Phase.RECOVER)
        self._begin_round(self._began_at)

    # --- rounds

    def _begin_round(self, now: float) -> None:
        self._began_at = now
        self._level = min(self.bound, self.most)
        self._n = self._n_full = 0
        is_measured = self.phase in (Phase.HOLD, Phase.TEST)
        self._n_round = max(2 * self._level, LEAST_MEASURED) if is_measured else self._level

    def _end_round(self, now: float) -> None:
        took = now - self._began_at
        is_full = self._n_full >= 0.9 * self._n
        measured = None
        if is_full and 0 < took < inf:
            measured = Measured(self._level, self._n / took, self._n)
        self._ends[self.phase](measured)
        self._begin_round(now)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._anchor = None

    def _weigh_answers(self, n_answered: int) -> None:
        """Let the answers since the last trouble speak against it."""
        n = n_answered - self._n_weighed
        self._n_weighed = n_answered
        usual = min(max(USUAL, 3.0 * self._share), USUAL_MOST)
        self._score = max(0.0, self._score - n * usual)
        self._share *= (1.0 - 1.0 / MEMORY) ** n

    # --- what a round's end does, by phase

    def _started(self, measured: Measured | None) -> None:
        before, self._anchor = self._anchor, measured
        if measured is None or self._is_typed:
            return
        if before is not None and not self._pays(before, measured):
            self._latency = min(self._latency, before.latency)
            self.bound = max(1, min(self.bound, self._need(measured)))
            self._hold_on()
        elif measured.n >= START:
            self._latency = min(self._latency, measured.latency)

    def _recovered(self, _: Measured | None) -> None:
        if self.bound >= min(self._until, self.most):
            self._hold_on()

    def _held(self, measured: Measured | None) -> None:
        self._anchor = measured or self._anchor
        if measured is None:
            # A limit holds back, or nothing is left: of that level nothing is learned.
            return
        self._rounds_left -= 1
        if self._rounds_left <= 0 and self.bound < self.most:
            self._climb(measured)

    def _climbed(self, measured: Measured | None) -> None:
        if measured is None:
            return
        self.bound = min(self.bound + self._step, self._goal, self.most)
        if self.bound >= min(self._goal, self.most):
            self.phase = Phase.SETTLE

    def _settled(self, measured: Measured | None) -> None:
        if measured is not None:
            self.phase = Phase.TEST

    def _tested(self, measured: Measured | None) -> None:
        before = self._anchor
        if measured is None or before is None:
            self.phase = Phase.SETTLE
            return
        if measured.level >= self._met_at:
            # What it met there is no more.
            self._met_at = inf
        if self._is_typed or self._pays(before, measured):
            self._hold = HOLD_FIRST
            if self._gain(before, measured) > 1.0 - PAYS / 2:
                # More in flight made nobody wait: that is what an answer takes now.
                self._latency = measured.latency
            if self.bound < self.most:
                self._climb(measured)
            else:
                self._hold_on()
            return
        self._latency = min(self._latency, before.latency)
        self.bound = max(1, int(EASE * before.level), min(self.bound, self._need(measured)))
        self._hold = min(2 * self._hold, HOLD_MOST)
        self._hold_on()

    # --- what they share

    def _climb(self, measured: Measured) -> None:
        """Go up from a level that was measured."""
        self._anchor = measured
        level = measured.level
        self.phase = Phase.CLIMB
        self._goal = max(level + 1, ceil(CLIMB * level))
        self._step = max(1, int(STEP * level))
        if self._met_at < inf:
            self._goal = max(level + 1, ceil(self._met_at * (1 + SMALL_STEP)))
            self._step = max(1, int(SMALL_STEP * level))

    def _hold_on(self) -> None:
        self._until = 0
        n = 2 * self._hold * self.bound
        self._rounds_left = max(2, n // max(2 * self.bound, LEAST_MEASURED))
        self._enter(Phase.HOLD)

    def _count_burst(self) -> bool:
        """Take another of those that were out when it was lowered: what of them was not refused fits."""
        self._n_burst += 1
        fits = max(1, self._met // BURST, self._met - self._n_burst)
        if fits >= self.bound or self._is_known or self.phase is not Phase.RECOVER:
            return False
        self.bound = fits
        self._met_at = min(self._met_at, fits + 1)
        self._until = max(1, min(fits, int(BELOW * self._met_at)))
        return True

    def _lower(self, now: float, met: int) -> None:
        is_recovering = self.phase is Phase.RECOVER
        is_known = not is_recovering and self._met_at < inf and met >= ALIKE * self._met_at
        self._is_known = is_known
        if not is_recovering:
            self._before = met
        self._met, self._n_burst = met, 1
        self._hold = min(2 * self._hold, HOLD_MOST) if is_known else HOLD_FIRST
        self._met_at = met
        self._until = max(1, min(met - 1, int(BELOW * met)))
        self.bound = max(1, int((KNOWN_CUT if is_known else CUT) * met))
        self._lowered_at = now
        self._score = 0.0
        self._enter(Phase.RECOVER)
        self._begin_round(now)

    def _need(self, measured: Measured) -> int:
        """Return what a server needs in flight to answer at that rate without queueing (Little)."""
        return ceil(AIR * measured.rate * self._latency) + 1

    @staticmethod
    def _gain(before: Measured, after: Measured) -> float:
        """Return the power of the level that the rate grew by: 1 where it grew as much, 0 where not at all."""
        if after.level <= before.level:
            return 1.0
        return log(after.rate / before.rate) / log(after.level / before.level)

    def _pays(self, before: Measured, after: Measured) -> bool:
        """Whether a higher level was worth it, chance in its favour."""
        if after.level < 1.1 * before.level:
            return True
        chance = SPREAD * sqrt(1 / before.n + 1 / after.n) / log(after.level / before.level)
        return self._gain(before, after) + chance > PAYS
