"""Telling an outage from a job's own bad luck, by the streak of failures of one scope.

Outcomes are fed in the order in which they settle. A *streak* is a run of outage faults with no
success in between. While it lasts nobody knows whose fault they are, so charges are put off:

* A success ends the streak. If it was no outage by then, its failures were the jobs' own, and
  :meth:`Outage.on_success` returns whom to charge; if it was one, nobody is charged.
* From ``k = max(5, concurrency / 4)`` distinct jobs on the streak is an outage: the scope pauses,
  then one probe at a time goes (5 s → 5 min apart) until a success.
* Where fewer than k unfinished jobs are left, k distinct ones can't fail. Then faults that prove the
  request arrived or may have are charged at once, so that the run ends; the others
  never are, and make an outage as soon as all that is left has failed.
* Until the first answer of a call, a first request that does not reach the server is an outage from
  the first fault, and after 60 s (or ``--max-wait``, if shorter) halts the run.

The state is not stored: a new process starts with an open mind, and charges put off are forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import Final

from batchrunner.core.backoff import probe_delay_ms
from batchrunner.models import ErrorKind, JobId, WaitingReason

MIN_STREAK: Final = 5
#: How long a server that has never answered is tried.
UNREACHED_MS: Final = 60_000.0
FOREVER: Final = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    """How one kind takes part in a streak."""

    #: Charged at once where too few jobs are left to tell an outage.
    charged_at_the_end: bool
    #: The server was not reached at all; halts a call that has had no answer.
    unreached: bool
    #: An answer of the server, though a bad one.
    is_answer: bool = False
    reason: WaitingReason


#: Every kind that takes part in a streak. ``proxy`` stands for a proxy that refuses connections.
FAULTS: Final = {
    ErrorKind.OVERLOADED: _Fault(
        charged_at_the_end=False, unreached=False, is_answer=True, reason=WaitingReason.OVERLOADED
    ),
    ErrorKind.SERVER_ERROR: _Fault(
        charged_at_the_end=True, unreached=False, is_answer=True, reason=WaitingReason.OVERLOADED
    ),
    ErrorKind.TIMEOUT: _Fault(
        charged_at_the_end=True, unreached=False, reason=WaitingReason.OVERLOADED
    ),
    ErrorKind.CONNECTION_RESET: _Fault(
        charged_at_the_end=True, unreached=False, reason=WaitingReason.NETWORK
    ),
    ErrorKind.CONNECTION: _Fault(
        charged_at_the_end=False, unreached=True, reason=WaitingReason.NETWORK
    ),
    ErrorKind.DNS: _Fault(charged_at_the_end=False, unreached=True, reason=WaitingReason.NETWORK),
    ErrorKind.PROXY: _Fault(charged_at_the_end=False, unreached=True, reason=WaitingReason.PROXY),
}


class Charge(StrEnum):
    """What becomes of the attempt that a failure cost."""

    NOW = "now"
    #: Put off until the streak ends; the job waits for its next try as usual.
    LATER = "later"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do after a failure."""

    charge: Charge
    #: Pause the scope so long (ms), then let one probe go; ``None``: go on.
    pause_ms: int | None = None
    reason: WaitingReason | None = None
    #: Stop the run: the server was never reached.
    halt: bool = False


class Outage:
    """The streak of one scope."""

    def __init__(self, *, max_wait_ms: float | None = None) -> None:
        """Begin a call; ``max_wait_ms`` is ``--max-wait``, ``None`` without end."""
        self._patience_ms = UNREACHED_MS if max_wait_ms is None else min(UNREACHED_MS, max_wait_ms)
        #: Steady time of the first fault that found nobody there.
        self._unreached_at: float | None = None
        self._answered = False
        #: The jobs to charge if the streak turns out to be theirs, one entry a failure.
        self._put_off: list[JobId] = []
        self._failed: set[JobId] = set()
        self._is_open = False
        self._level = 0
        #: Steady time of the last pause; failures of earlier sends tell nothing about the probe.
        self._paused_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether there is an outage: then at most one request, the probe, may be in flight."""
        return self._is_open

    @staticmethod
    def is_fault(kind: ErrorKind) -> bool:
        """Return whether a failure of this kind is for :meth:`on_failure`."""
        return kind in FAULTS

    def on_answer(self) -> None:
        """Note that the server was reached, whatever it said."""
        self._answered = True

    def on_success(self) -> tuple[JobId, ...]:
        """End the streak; return the jobs to charge now, one entry for each failure put off."""
        charged = () if self._is_open else tuple(self._put_off)
        self._answered = True
        self._forget()
        return charged

    def on_failure(
        self,
        job: JobId,
        kind: ErrorKind,
        *,
        sent_at: float,
        now: float,
        concurrency: int,
        unfinished: int,
    ) -> Step:
        """Take one outage fault.

        Args:
            job: whose send it was.
            kind: one of :data:`FAULTS`.
            sent_at: steady time of the send.
            now: steady time.
            concurrency: requests in flight at most; makes the k of the streak.
            unfinished: jobs of the scope that are not settled for good, this one included.
        """
        fault = FAULTS[kind]
        self._answered = self._answered or fault.is_answer
        patience = self._patience_left(fault, now)
        if patience <= 0:
            return Step(charge=Charge.NEVER, reason=fault.reason, halt=True)
        self._failed.add(job)
        k = max(MIN_STREAK, concurrency // 4)
        charged_now = unfinished < k and fault.charged_at_the_end
        needed = k if charged_now else min(k, max(1, unfinished))
        if patience < FOREVER:
            needed = 1
        if self._is_open or len(self._failed) >= needed:
            return Step(
                charge=Charge.NOW if charged_now else Charge.NEVER,
                pause_ms=self._pause(patience, sent_at=sent_at, now=now),
                reason=fault.reason,
            )
        if charged_now:
            return Step(charge=Charge.NOW, reason=fault.reason)
        self._put_off.append(job)
        return Step(charge=Charge.LATER, reason=fault.reason)

    def _patience_left(self, fault: _Fault, now: float) -> float:
        """Return how long (ms) a server that was never reached is still tried."""
        if self._answered or not fault.unreached:
            return FOREVER
        if self._unreached_at is None:
            self._unreached_at = now
        return self._unreached_at + self._patience_ms - now

    def _pause(self, patience: float, *, sent_at: float, now: float) -> int | None:
        """Open the outage, or put the next probe off further; return for how long (ms)."""
        if self._is_open and sent_at < self._paused_at:
            return None
        # Of a server never reached the last try falls on the end of our patience.
        pause = ceil(min(probe_delay_ms(self._level), patience))
        self._is_open = True
        self._put_off = []
        self._level += 1
        self._paused_at = now
        return pause

    def _forget(self) -> None:
        self._put_off = []
        self._failed = set()
        self._is_open = False
        self._level = 0
