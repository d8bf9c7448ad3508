"""When a holder's time is over: its own runs are, or another process shall send."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from batchrunner.clock import Clock
from batchrunner.engine.asks import Asks
from batchrunner.engine.gate import Gate
from batchrunner.engine.offers import Offers
from batchrunner.engine.roster import Roster
from batchrunner.engine.stops import Stops
from batchrunner.engine.waits import next_look

__all__ = ["Ending", "Left"]

#: A holder with nothing to send for so long gives way to a process that could (milliseconds).
IDLE_MS: Final = 5_000.0
#: Of several processes that all wait each holds the lock for so long (milliseconds).
TURN_MS: Final = 60_000.0


class Left(StrEnum):
    """How a holder's time ended."""

    #: Its own runs are over; nobody else's were left to it.
    DONE = "done"
    #: Another process shall send first; follow it.
    HANDED_OVER = "handed_over"


class Ending:
    """Decides it, from the runs and from who else is there."""

    def __init__(
        self,
        *,
        roster: Roster,
        asks: Asks,
        stops: Stops,
        clock: Clock,
        gate: Gate,
        offers: Offers | None = None,
    ) -> None:
        """Begin the holder's turn; ``offers``: it is a worker."""
        self._offers = offers
        self._roster = roster
        self._asks = asks
        self._stops = stops
        self._clock = clock
        self._gate = gate
        self._began_at = clock.now()

    def left(self) -> Left | None:
        """Return how the holder's time ends now; ``None``: it does not yet.

        Where others take over what is left, nothing new of it goes out from here.
        """
        roster = self._roster
        if self._offers is not None:
            return self._worker_left(self._offers)
        if roster.own_left:
            return Left.HANDED_OVER if self._shall_hand_over() else None
        if not roster.live:
            return Left.DONE
        if self._stops.asked or self._asks.askers_live():
            # The askers of what is left take it over.
            self._begin_to_leave()
            if not any(run.outstanding or run.counts.running for run in roster.live):
                return Left.DONE
        return None

    def _worker_left(self, offers: Offers) -> Left | None:
        """Whether a worker has been told to stop, or has nothing left that it waits for."""
        if not (self._stops.asked or offers.is_over):
            return None
        self._begin_to_leave()
        return None if any(run.outstanding for run in self._roster.live) else Left.DONE

    def _begin_to_leave(self) -> None:
        """Have nothing new go out of what others go on with."""
        if not self._roster.is_leaving:
            self._roster.is_leaving = True
            for run in self._roster.live:
                run.is_left = True
            self._gate.wake()

    def _shall_hand_over(self) -> bool:
        """Whether nothing goes out for 5 s here while an attached process could send.

        Now and then the lock also goes to one whose run waits: its limits may have been raised.
        """
        now = self._clock.now()
        may_wait = now - self._began_at >= TURN_MS
        by = float("inf") if may_wait else self._clock.wall() + IDLE_MS
        if self._stops.asked or not self._asks.untaken_live(by=by):
            return False
        return not any(
            run.outstanding or next_look(run, now) - now < IDLE_MS for run in self._roster.live
        )
