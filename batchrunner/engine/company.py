"""What the other workers on a run mean for how much of it one may send.

After a start the first job goes alone until it is answered, so that a bad account costs one request; and
where the first ten jobs end alike the run stops. Both hold over all workers together: who comes to a run
that others have just begun waits for their first answer, and until a job has completed no more are in
flight, all told, than it takes to see that all fail alike.
"""

from __future__ import annotations

from typing import Final

from batchrunner.core.outcomes import SAME_ERROR_JOBS
from batchrunner.models import JobCounts

__all__ = ["Company"]

#: After others' first request came back without an answer its worker has so long to say what that means.
AFTERMATH_MS: Final = 5_000.0
#: Nobody waits longer than this for others' first answer.
PATIENCE_MS: Final = 10_000.0


class Company:
    """One run's other workers, as its counts tell of them."""

    def __init__(self, *, is_led: bool = False) -> None:
        """Begin as one that has not looked yet; ``is_led``: another had the run before.

        What that one has sent may have come back just now, and what it means not be said yet.
        """
        self._is_led = is_led
        #: Jobs that were over, failed, and the time (steady ms), at the first look.
        self._over_at_first: int | None = None
        self._failed_at_first = 0
        self._began_at = 0.0
        self._held_until = 0.0
        self._most: int | None = None
        #: How many had failed when it was asked whether all did alike.
        self._asked_at: int | None = None

    def look(self, counts: JobCounts, *, outstanding: int, is_proved: bool, now: float) -> None:
        """Take a run's counts, of which ``outstanding`` are in flight here."""
        n_over = counts.completed + counts.failed
        if self._over_at_first is None:
            self._over_at_first, self._failed_at_first = n_over, counts.failed
            self._began_at = now
            self._held_until = now + AFTERMATH_MS if self._is_led else 0.0
        is_open = not is_proved and n_over == self._over_at_first
        if not is_open or now - self._began_at > PATIENCE_MS:
            self._held_until = 0.0
        elif counts.running > outstanding:
            self._held_until = now + AFTERMATH_MS
        self._most = None
        if not counts.completed and counts.failed < SAME_ERROR_JOBS:
            self._most = max(0, SAME_ERROR_JOBS - counts.failed - counts.running)

    def is_holding(self, now: float) -> bool:
        """Whether nothing goes out before it is known what others' first request came to."""
        return now < self._held_until

    def room(self, room: int, now: float) -> int:
        """Return how many more jobs may be claimed here, of ``room``."""
        if self.is_holding(now):
            return 0
        return room if self._most is None else min(room, self._most)

    def is_to_ask(self, counts: JobCounts) -> bool:
        """Whether it is to be asked if all jobs failed alike: so many have, and none completed.

        Once: where they did not, more of them change nothing, unless some were put back.
        """
        if self._over_at_first is None or counts.completed:
            return False
        is_new = self._asked_at is None or counts.failed < self._asked_at
        return is_new and counts.failed - self._failed_at_first >= SAME_ERROR_JOBS

    def asked(self, counts: JobCounts) -> None:
        """Note that it was, and that they had not."""
        self._asked_at = counts.failed
