"""Time, as a thing that is passed in.

Two readings, both in epoch milliseconds as floats:

``now``   *steady*: a monotonic clock that counts suspend where the system has one, plus an offset,
          so that it reads like a date but never steps. Minute windows, pacing and backoff live on
          it, also over processes: whoever comes soon after another on the same database, in the
          same boot of the machine, takes over its offset, wherever the calendar was set meanwhile.
``wall``  what the calendar says now; it may step. Days, resets and pauses follow it.

Who sends from a server reads both from the server's clock (:mod:`batchrunner.store.server_clock`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, NamedTuple, Protocol

#: Counts the time a machine was suspended, which ``time.monotonic`` does not on Linux.
#: macOS has no CLOCK_BOOTTIME; its CLOCK_MONOTONIC already counts sleep.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


#: Names this boot of the machine; only Linux tells.
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
#: After so long without a send no window looks back at what was before (ms): the steady time may
#: read like a date again.
_LONGEST_MS: Final = 3_600_000.0


def ticks() -> float:
    """Return the machine's monotonic clock, milliseconds since its boot."""
    return time.clock_gettime(_CLOCK) * 1000.0


class LastSeen(NamedTuple):
    """What former processes stored of steady time."""

    #: The latest that was stored; 0: none was.
    at: float = 0.0
    #: What they added to the monotonic clock, and in which boot; empty: not known.
    offset: float = 0.0
    boot: str = ""


NEVER: Final = LastSeen()


class Clock(Protocol):
    """Where the program reads time."""

    def now(self) -> float:
        """Return steady time, epoch milliseconds."""
        ...

    def wall(self) -> float:
        """Return wall time, epoch milliseconds."""
        ...


class SystemClock:
    """The machine's clocks; ``now`` goes on from where former processes were.

    In another boot, or long after, it starts at the later of wall time and the last that was
    stored. So a clock that was set, forward or back, between two processes or in the life of the
    first, opens no window twice.
    """

    def __init__(self, last_seen: LastSeen = NEVER, *, is_alone: bool = True) -> None:
        """Take the offset between the monotonic and the steady clock.

        Where another process may be sending (not ``is_alone``) its offset is taken however long
        it has sent nothing.
        """
        tick = ticks()
        self.boot = _boot()
        since = tick + last_seen.offset - last_seen.at
        longest = _LONGEST_MS if is_alone else float("inf")
        if self.boot == last_seen.boot != "" and 0.0 <= since < longest:
            self.offset = last_seen.offset
        else:
            self.offset = max(time.time() * 1000.0, last_seen.at) - tick

    def now(self) -> float:
        """Return steady time, epoch milliseconds."""
        return time.clock_gettime(_CLOCK) * 1000.0 + self.offset

    def wall(self) -> float:
        """Return wall time, epoch milliseconds."""
        return time.time() * 1000.0


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def wall_ms() -> int:
    """Return the machine's wall clock, whole epoch milliseconds, for verbs that take no clock."""
    return int(time.time() * 1000)
