"""One clock for all who send from a server: the server's, carried on by each machine's monotonic one.

What a machine's calendar says does not matter. Steady time (:mod:`batchrunner.clock`) is the server's, and
a shift that all share (``meta.clock_shift``): where the server's clock is set, or another server with
another clock takes over, whoever notices changes the shift by as much, so that the steady time of all goes
on. It never steps back: where it would, it stands still until it has been caught up with.
"""

from __future__ import annotations

from math import inf
from typing import Final

from batchrunner.clock import SystemClock, ticks
from batchrunner.core.server_time import Reading, estimate_of, refined, step_of
from batchrunner.store.driver import DriverConnection
from batchrunner.store.seen import last_seen, note_clock

__all__ = ["STEADY", "ServerClock"]

#: Steady time as the server tells it (epoch ms): leases are measured by it.
STEADY: Final = (
    "(CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) + coalesce((SELECT"
    " CAST(value AS BIGINT) FROM meta WHERE key = 'clock_shift'), 0))"
)
_LOOK: Final = (
    "SELECT coalesce((SELECT value FROM meta WHERE key = 'changes'), '0'),"
    " CAST(extract(epoch FROM clock_timestamp()) * 1000 AS DOUBLE PRECISION),"
    " coalesce((SELECT value FROM meta WHERE key = 'clock_shift'), '0')"
)
_SHIFT: Final = (
    "INSERT INTO meta (key, value) VALUES ('clock_shift', ?)"
    " ON CONFLICT (key) DO UPDATE SET value = excluded.value"
)
#: Two processes of one machine differ by no more than that where nobody has set a clock (ms).
_SAME_MS: Final = 1_000.0


class ServerClock:
    """The server's clock, as this process knows it; see :class:`batchrunner.clock.Clock`."""

    def __init__(self, conn: DriverConnection, *, is_alone: bool) -> None:
        """Read it for the first time, in a writing transaction.

        Where nobody else sends (``is_alone``) it may have been set since somebody did: steady time goes on
        from what they stored, and from this machine's ticks if they were in this boot of it.
        """
        self._latest = -inf
        reading, shift, _ = _read(conn)
        #: What is known of the server's clock, and the shift: one value, since two threads read it.
        self._state = estimate_of(reading), shift
        last, steady = last_seen(conn), self._steady()
        before = SystemClock(last, is_alone=is_alone)
        goes_on = steady
        if is_alone:
            if before.boot == last.boot != "" and before.offset == last.offset:
                by_ticks = ticks() + before.offset
                goes_on = by_ticks if abs(by_ticks - steady) > _SAME_MS else steady
            goes_on = max(goes_on, last.at)
        if goes_on != steady:
            self._move(conn, goes_on - steady)
        note_clock(conn, self.now() - ticks(), before.boot, self.now())

    def now(self) -> float:
        """Return steady time, epoch milliseconds."""
        self._latest = max(self._latest, self._steady())
        return self._latest

    def wall(self) -> float:
        """Return what the server's calendar says now, epoch milliseconds."""
        return ticks() + self._state[0].offset

    def look(self, conn: DriverConnection) -> tuple[int, bool]:
        """Read it anew; return the number of others' changes, and whether :meth:`mend` is wanted."""
        reading, shift, n_changes = _read(conn)
        known = self._state[0]
        if step_of(known, reading):
            return n_changes, True
        self._state = refined(known, reading), shift
        return n_changes, False

    def mend(self, conn: DriverConnection) -> None:
        """Have the steady time of all go on, where the server's clock was set; nobody else does so meanwhile."""
        reading, shift, _ = _read(conn)
        step, expected = step_of(self._state[0], reading), self._steady()
        is_mended = shift != self._state[1]
        self._state = estimate_of(reading), shift
        # What others have stored tells whether it is this machine that stood still.
        is_ours = step > 0 and last_seen(conn).at > expected + step / 2
        if step and not is_mended and not is_ours:
            self._move(conn, -step)

    def _steady(self) -> float:
        known, shift = self._state
        return ticks() + known.offset + shift

    def _move(self, conn: DriverConnection, by: float) -> None:
        """Change the shift of all."""
        known, shift = self._state
        moved = round(shift + by)
        conn.execute(_SHIFT, (str(moved),))
        self._state = known, float(moved)


def _read(conn: DriverConnection) -> tuple[Reading, float, int]:
    """Return what the server's clock says, the shift that all have, and the number of changes."""
    before = ticks()
    changes, server, shift = conn.execute(_LOOK).fetchone()
    return Reading(before, server, ticks()), float(shift), int(changes)
