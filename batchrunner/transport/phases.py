"""On the way to a server: which phase took how long, for the message of a timeout.

A connection is made inside the task that sends, so a context variable tells whose it is. Nothing
is noted for a request that finds a kept connection.
"""

from __future__ import annotations

from contextvars import ContextVar
from enum import StrEnum
from typing import Final

__all__ = ["MAKING", "Making", "Phase"]


class Phase(StrEnum):
    """What is being done, in the words of a message."""

    RESOLVING = "finding its address"
    CONNECTING = "connecting"
    TLS = "the TLS handshake"
    PROXY = "the proxy's way to it"
    FIRST_BYTE = "waiting for the first byte"
    READING = "reading the answer"


class Making:
    """How one connection came about; instants are the loop's clock."""

    __slots__ = ("begun", "phases", "ready_at")

    def __init__(self, now: float) -> None:
        """Begin at ``now``."""
        self.begun = now
        self.phases: list[tuple[Phase, float]] = []
        #: When it stood; ``None`` until then.
        self.ready_at: float | None = None

    def enter(self, phase: Phase, now: float) -> None:
        """Begin a phase, which ends the one before."""
        self.phases.append((phase, now))

    @property
    def has_left_proxy(self) -> bool:
        """Whether a proxy gave its way to the server, so that what comes now is the server's."""
        named = [phase for phase, _ in self.phases]
        return Phase.PROXY in named and named[-1] is not Phase.PROXY

    def words(self, ended: float) -> str:
        """Return the phases so far and their lengths, the last one unfinished at ``ended``."""
        ends = [at for _, at in self.phases[1:]] + [
            ended if self.ready_at is None else self.ready_at
        ]
        return ", ".join(
            f"{phase} {end - at:.1f} s" for (phase, at), end in zip(self.phases, ends, strict=True)
        )


#: The making of the running task's latest connection.
MAKING: Final[ContextVar[Making | None]] = ContextVar("batchrunner-making", default=None)
