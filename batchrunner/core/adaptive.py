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
* **Trouble halves it at once**, where it is more than usual (:mod:`batchrunner.core.troubles`): an overload, a 5xx, a
  timeout, a refused or broken connection. Requests that were sent before the last step down tell nothing new.
  Then it is seen whether that helped. If as many fail with half as many in flight, it is none of the
  load's: the bound is what it was, and that share is usual from then on. If it helped, the level that met
  trouble is remembered: back to just below it quickly, then held, and passed only by small steps after some
  rounds; the longer after, the longer each trouble stops everybody.

With ``-c N`` nothing is tried out: N is the bound, reached by slow start where no limit is known, and only
trouble lowers it, for a while.

Pure: instants are arguments. The state is one run's and is not stored: a new process feels its way anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from math import ceil, inf
from typing import Final, NamedTuple

from batchrunner.core.measured import PAYS, Measured, gain, pays
from batchrunner.core.troubles import Trial, Troubles, Verdict

__all__ = ["START", "Adaptive", "Phase"]

#: Where nobody said how much a server takes, slow start begins with so many.
START: Final = 4

#: A climb tests itself at so many times the level where it began; slow start at each doubling.
CLIMB: Final = 1.5
#: The part of a level that a climb adds each round.
STEP: Final = 1 / 8
#: The same next to a level that met trouble.
SMALL_STEP: Final = 1 / 32
#: A level is measured by so many answers at least.
LEAST_MEASURED: Final = 96
#: Where more than this share of requests fails, slow start looks twice before it ends.
SOME: Final = 0.01
#: More than a server that queues needs, against the error of the estimate.
AIR: Final = 1.1
#: A climb that did not pay leaves a little less than there was, down to what the server needs.
EASE: Final = 0.8

#: What trouble leaves of the bound, and what it leaves where that level was known.
CUT: Final = 0.5
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
#: Of the time after a trouble that stopped everybody, at most this part (the divisor) is spent on the next one.
COSTS: Final = 30.0


class Phase(StrEnum):
    """What it does now."""

    #: One more for each answer, up to any level.
    START = "start"
    #: Half as many after trouble, to see whether that helps.
    TRIAL = "trial"
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


#: On the way back to a level.
_BELOW: Final = frozenset({Phase.TRIAL, Phase.RECOVER})


class Place(NamedTuple):
    """Where a step down was taken from, for the way back if it was in vain."""

    bound: int
    phase: Phase
    until: float
    met_at: float
    hold: int
    rounds_left: int
    anchor: Measured | None
    goal: int
    step: int


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
        self._until: float = inf
        #: The level that met trouble, until a higher one did not.
        self._met_at: float = inf
        self._lowered_at = -inf
        #: The bound before the first of several steps down; before the last, and how many failed then.
        self._before = self.bound
        self._met = self.bound
        self._n_burst = 0
        self._is_known = False
        #: The bound at which an outage came, until it was held for long.
        self._fell_at = inf
        self._hold = HOLD_FIRST
        self._rounds_left = 0
        #: What a climb is measured against, and what it goes up to.
        self._anchor: Measured | None = None
        self._goal = 0
        self._step = 1
        #: Slow start goes on if the test is passed.
        self._goes_on = False
        #: Time that an answer takes (ms) at the level at which it took least.
        self._latency = inf
        self._troubles = Troubles()
        self._trial: Trial | None = None
        #: Where the bound was before a trial, or the first of several.
        self._tried_from: Place | None = None
        #: No more is tried before (ms): the last time stopped everybody.
        self._rests_until = -inf
        self._may_climb = True
        # The round.
        self._began_at = -inf
        self._level = self.bound
        self._n = 0
        self._n_full = 0
        self._n_round = self.bound
        #: What the end of a round does.
        self._ends: Final[Mapping[Phase, Callable[[Measured | None], None]]] = {
            Phase.START: self._started,
            Phase.TRIAL: self._waited,
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

    def answered(self, now: float, *, sent_at: float, n_answered: int, is_full: bool) -> None:
        """Take one answer.

        Args:
            now: when it came.
            sent_at: when its request went out.
            n_answered: how many of the run's were answered so far, this one included.
            is_full: nothing but the bound held more of the run back.
        """
        self._n += 1
        if is_full:
            self._n_full += 1
        if self._trial is not None:
            self._try(sent_at, now, n_answered, is_trouble=False)
        elif is_full and self.bound < self._until and self.bound < self.most:
            self.bound += 1
        if self._n >= self._n_round:
            self._end_round(now)

    def troubled(
        self, *, sent_at: float, now: float, n_answered: int, stops_ms: float = 0.0
    ) -> bool:
        """Take the trouble of one request, and return whether the bound is lower now.

        Args:
            sent_at: when it went out.
            now: when it failed.
            n_answered: how many of the run's were answered so far, those of a settled bound included.
            stops_ms: it stops everybody for so long, so that one is enough.
        """
        if sent_at <= self._lowered_at:
            if self._trial is not None:
                self._trial.late(is_trouble=True)
            return self._count_burst()
        if stops_ms:
            self._rests_until = now + COSTS * stops_ms
            self._troubles.blame_load(n_answered)
            self._lower(now, min(self.bound, self.most))
            return True
        if self._trial is not None:
            return self._try(sent_at, now, n_answered, is_trouble=True)
        if not self._troubles.met(n_answered):
            return False
        return self._alarmed(now, n_answered)

    def outage_ended(self) -> None:
        """Feel the way up again to where it was before an outage, which was none of the load's.

        Where another follows as soon as it is there, it may be: then it goes a little less far.
        """
        before = self._before if self.phase in _BELOW else min(self.bound, self.most)
        is_again = before >= ALIKE * self._fell_at
        self._until = max(1, int(BELOW * before)) if is_again else max(before, START)
        self._fell_at, self._before = before, self._until
        self.bound = min(self.bound, START)
        self._met_at = inf
        self._hold = HOLD_FIRST
        self._enter(Phase.RECOVER)
        self._begin_round(self._began_at)

    # --- trouble

    def _alarmed(self, now: float, n_answered: int) -> bool:
        """Have half as many in flight, and see whether that helps; where a level is known, it does."""
        met = min(self.bound, self.most)
        troubles = self._troubles
        if met <= 1:
            # Nobody can have fewer: that is what comes anyhow.
            troubles.accept(n_answered, 0, 0)
            return False
        place = self._place()
        seen, usual = troubles.seen(), troubles.usual
        self._lower(now, met)
        if self._is_known:
            troubles.blame_load(n_answered)
        else:
            self._begin_trial(place, Trial(seen, usual=usual, part=self.bound / met))
        return True

    def _begin_trial(self, place: Place, trial: Trial) -> None:
        self._trial, self._tried_from = trial, place
        self.phase = Phase.TRIAL

    def _try(self, sent_at: float, now: float, n_answered: int, *, is_trouble: bool) -> bool:
        """Have a request speak in the trial; return whether the bound is lower then."""
        trial, place = self._trial, self._tried_from
        assert trial is not None
        assert place is not None
        if sent_at <= self._lowered_at:
            trial.late(is_trouble=is_trouble)
            return False
        verdict = trial.take(is_trouble=is_trouble)
        if verdict is None:
            return False
        k, n = trial.seen
        bound, usual = self.bound, self._troubles.usual
        if verdict is Verdict.IN_VAIN:
            self._troubles.accept(n_answered, k, n)
            self._return_to(place, now)
            return False
        if verdict is Verdict.NOT_ENOUGH and bound > 1:
            self._lower(now, bound)
            part = self.bound / bound
            self._begin_trial(place._replace(bound=bound), Trial((k, n), usual=usual, part=part))
            return True
        self._troubles.blame_load(n_answered)
        self._enter(Phase.RECOVER)
        self._begin_round(now)
        return False

    def _place(self) -> Place:
        return Place(
            min(self.bound, self.most), self.phase, self._until, self._met_at, self._hold,
            self._rounds_left, self._anchor, self._goal, self._step,
        )  # fmt: skip

    def _return_to(self, place: Place, now: float) -> None:
        """Go on as if nothing had been lowered."""
        self._enter(place.phase)
        self.bound = min(place.bound, self.most)
        self._until, self._met_at, self._hold = place.until, place.met_at, place.hold
        self._rounds_left, self._anchor = place.rounds_left, place.anchor
        self._goal, self._step = place.goal, place.step
        self._begin_round(now)

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
        self._may_climb = now >= self._rests_until
        self._ends[self.phase](measured)
        self._begin_round(now)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._anchor = None
        self._trial = None
        self._goes_on = False

    # --- what a round's end does, by phase

    def _started(self, measured: Measured | None) -> None:
        before, self._anchor = self._anchor, measured
        if measured is None or self._is_typed:
            return
        if before is not None and not pays(before, measured):
            if self._troubles.usual > SOME:
                # Where many fail a round's rate is a matter of luck: look again, for longer.
                self._until, self._anchor, self.phase = 0, before, Phase.TEST
                self._goes_on = True
                return
            self._latency = min(self._latency, before.latency)
            self.bound = max(1, min(self.bound, self._need(measured)))
            self._hold_on()
        elif measured.n >= START:
            self._latency = min(self._latency, measured.latency)

    def _waited(self, _: Measured | None) -> None:
        """Learn nothing of a trial's rounds but what became of its requests."""

    def _recovered(self, _: Measured | None) -> None:
        if self.bound >= min(self._until, self.most):
            self._hold_on()

    def _held(self, measured: Measured | None) -> None:
        self._anchor = measured or self._anchor
        if measured is None:
            # A limit holds back, or nothing is left: of that level nothing is learned.
            return
        self._rounds_left -= 1
        if self._rounds_left <= 0 and self._may_climb:
            self._fell_at = inf
            if self.bound < self.most:
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
        goes_on, self._goes_on = self._goes_on, False
        if goes_on and pays(before, measured):
            self._until, self.phase, self._anchor = inf, Phase.START, measured
            return
        if measured.level >= self._met_at:
            # What it met there is no more.
            self._met_at = inf
        if self._is_typed or pays(before, measured):
            self._hold = HOLD_FIRST
            if gain(before, measured) > 1.0 - PAYS / 2:
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
        if self._is_known or self.phase not in _BELOW:
            return False
        fits = max(1, self._met // BURST, self._met - self._n_burst)
        self._met_at = min(self._met_at, fits + 1)
        self._until = max(1, min(fits, int(BELOW * self._met_at)))
        if fits >= self.bound:
            return False
        self.bound = fits
        return True

    def _lower(self, now: float, met: int) -> None:
        is_recovering = self.phase in _BELOW
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
        self._enter(Phase.RECOVER)
        self._begin_round(now)

    def _need(self, measured: Measured) -> int:
        """Return what a server needs in flight to answer at that rate without queueing (Little)."""
        return ceil(AIR * measured.rate * self._latency) + 1
