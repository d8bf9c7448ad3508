"""What processes store of steady time, and how the next one goes on from it (:mod:`batchrunner.clock`)."""

from __future__ import annotations

import json

from batchrunner.clock import LastSeen, SystemClock
from batchrunner.store.driver import DriverConnection

__all__ = ["go_on_from", "last_seen", "note_clock"]


def last_seen(conn: DriverConnection) -> LastSeen:
    """Return what former processes stored of steady time."""
    stored = dict(
        conn.execute("SELECT key, value FROM meta WHERE key IN ('seen_at', 'clock')").fetchall()
    )
    offset, boot = json.loads(stored.get("clock", '[0.0, ""]'))
    return LastSeen(float(stored.get("seen_at", 0.0)), offset, boot)


def go_on_from(conn: DriverConnection, *, is_alone: bool) -> SystemClock:
    """Return the clock of a process that begins, and store what the next one goes on from.

    ``is_alone`` is false where another sends.
    """
    last = last_seen(conn)
    clock = SystemClock(last, is_alone=is_alone)
    if clock.boot and (clock.offset, clock.boot) != last[1:]:
        note_clock(conn, clock.offset, clock.boot, clock.now())
    return clock


def note_clock(conn: DriverConnection, offset: float, boot: str, now: float) -> None:
    """Store what is added to the ticks of a boot of this machine for steady time, as it is now."""
    conn.executemany(
        "INSERT INTO meta (key, value) VALUES (?, ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        [("clock", json.dumps([offset, boot])), ("seen_at", str(int(now)))],
    )
