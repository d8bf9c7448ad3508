"""Whether requests fail because too many are in flight, or would fail anyhow.

Two questions, asked one after the other by :mod:`batchrunner.core.adaptive`:

* :class:`Troubles`: is there *more* trouble than is usual? Each trouble adds one to a score, each answer takes
  off twice the odds of what is usual; an alarm is a score that chance alone hardly reaches. Where nothing is
  known yet, three troubles close together are one.
* :class:`Trial`: did it *help* that fewer are in flight since the alarm? The requests that were sent since are
  held against those from before, as a sequential test: a dozen or two are enough where the shares are far apart.
  Where the share is the same with half as many, the number in flight is not the reason: it is usual from then on.

Pure: nothing here knows the time. Only shares are looked at, never how long answers take.
"""

from __future__ import annotations

from enum import StrEnum
from math import log, sqrt
from typing import Final

__all__ = ["Trial", "Troubles", "Verdict"]

#: The share of troubles is that of about so many requests.
MEMORY: Final = 128.0
#: An answer takes at least so much off the score, and so many times the odds of a trouble.
LEAST_TAKEN: Final = 0.1
ODDS_TAKEN: Final = 2.0
#: A share is not thought to be higher than this: a server that fails more is left to itself.
MOST: Final = 0.8
#: A score above this is an alarm; by the usual share so much more, up to some more.
ALARM: Final = 2.0
ALARM_SHARE: Final = 100.0
ALARM_MORE: Final = 20.0

#: An alarm by itself says that the share is as high as this.
LEAST_ALARMING: Final = 0.2
#: Where the load was the reason, at least this part of the troubles is gone with it (the divisor).
HELPED: Final = 4.0
#: What the load explains and what it does not have to differ by this factor, to be told apart.
APART: Final = 0.75
#: A verdict is given once it is e^4 times likelier than the other, or after so many requests.
SURE: Final = 4.0
LONGEST: Final = 200
#: Of the requests since the alarm so many are looked at, at least.
SHORTEST: Final = 8


class Verdict(StrEnum):
    """What came of having fewer in flight."""

    #: The trouble has ended, or is a small part of what it was.
    HELPED = "helped"
    #: There is as much as before, so it is none of the load's, or some that was not known of.
    IN_VAIN = "in_vain"
    #: There is less, or almost everything fails: still too many.
    NOT_ENOUGH = "not_enough"


class Troubles:
    """The share of requests that meet trouble anyhow, and what came beyond it of late."""

    def __init__(self) -> None:
        """Begin without any."""
        #: Troubles and requests, older ones counting less.
        self._k = self._n = 0.0
        #: The same before those that make the score.
        self._usual = (0.0, 0.0)
        self._score = 0.0
        self._n_weighed = 0

    @property
    def usual(self) -> float:
        """The share that comes anyhow, as far as is known, chance in favour of the server."""
        k, n = self._usual
        if not n:
            return 0.0
        share = k / n
        return min(MOST, share + sqrt(share * (1.0 - share) / n))

    def met(self, n_answered: int) -> bool:
        """Take a trouble, with how many were answered so far; return whether it is an alarm."""
        self._weigh(n_answered)
        if not self._score:
            self._usual = (self._k, self._n)
        self._add(1.0, 1.0)
        self._score += 1.0
        return self._score > ALARM + min(ALARM_MORE, ALARM_SHARE * self.usual)

    def blame_load(self, n_answered: int) -> None:
        """Forget those that made the score, since they were the load's; there was some trouble, all the same."""
        self._weigh(n_answered)
        self._k, self._n = self._usual
        self._add(1.0, 1.0)
        self._score = 0.0

    def accept(self, n_answered: int, k: int, n: int) -> None:
        """Take what a trial saw for usual, besides those that made the score."""
        self._n_weighed = n_answered
        self._k, self._n = self._k + k, self._n + n
        if self._n > MEMORY:
            self._k, self._n = self._k * MEMORY / self._n, MEMORY
        self._usual = (self._k, self._n)
        self._score = 0.0

    def seen(self) -> tuple[float, float]:
        """Return troubles and requests of late, those that make the score included."""
        return self._k, self._n

    def _weigh(self, n_answered: int) -> None:
        """Let the answers since the last trouble speak against it."""
        n = n_answered - self._n_weighed
        self._n_weighed = n_answered
        usual = self.usual
        taken = max(LEAST_TAKEN, ODDS_TAKEN * usual / (1.0 - usual))
        self._score = max(0.0, self._score - n * taken)
        self._add(0.0, n)

    def _add(self, k: float, n: float) -> None:
        left = (1.0 - 1.0 / MEMORY) ** n
        self._k = self._k * left + k
        self._n = self._n * left + MEMORY * (1.0 - left)


class Trial:
    """Requests from before an alarm, and since."""

    def __init__(self, before: tuple[float, float], *, usual: float, part: float) -> None:
        """Begin.

        Args:
            before: troubles and requests of late.
            usual: what share is usual.
            part: what is in flight since, of what was before.
        """
        self._k_before, self._n_before = before
        self._usual, self._part = usual, part
        self._k = self._n = 0

    @property
    def seen(self) -> tuple[int, int]:
        """Troubles and requests since."""
        return self._k, self._n

    def late(self, *, is_trouble: bool) -> None:
        """Take what became of a request from before."""
        self._k_before += is_trouble
        self._n_before += 1.0

    def take(self, *, is_trouble: bool) -> Verdict | None:
        """Take what became of a request that was sent since; ``None``: more have to be seen."""
        self._k += is_trouble
        self._n += 1
        if self._n < SHORTEST:
            return None
        k, n = self._k, self._n
        high = min(max(self._k_before / self._n_before, LEAST_ALARMING), MOST)
        # Who refuses what is beyond some number, and takes that, explains no more than this.
        explained = 1.0 - (1.0 - high) / self._part
        low = min(APART * high, max(self._usual, high / HELPED, explained))
        same = k * log(high / low) + (n - k) * log((1.0 - high) / (1.0 - low))
        if abs(same) < SURE and n < LONGEST:
            return None
        share = k / n
        if share >= MOST:
            return Verdict.NOT_ENOUGH
        if same > 0:
            return Verdict.IN_VAIN
        if share > max(LEAST_TAKEN, 2.0 * self._usual):
            return Verdict.NOT_ENOUGH
        # Some come here too, which was not known: whether there were more before is asked again.
        return Verdict.HELPED if share <= self._usual else Verdict.IN_VAIN
