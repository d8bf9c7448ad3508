"""The mark on a database whose work goes on elsewhere since it was copied.

Two databases with the same pending jobs would send each of them twice, and each up to the limits.
So whoever wants to send from a database, or to store jobs in it, is refused once it has the mark;
views stay. ``db reopen`` takes the mark away. A copy that goes on marks it too, with the lock of its
process, and that holds for as long as the process lives.
"""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Callable
from typing import Final

import msgspec

from batchrunner.errors import BusyError, DatabaseError
from batchrunner.store.database import Database
from batchrunner.store.driver import DriverConnection, driver

__all__ = ["MOVED", "Moved", "mark", "moved", "refuse_moved", "refuse_moved_at", "unmark"]

#: The key of the mark in ``meta``.
MOVED: Final = "moved"


class Moved(msgspec.Struct, frozen=True):
    """Where a database was copied to."""

    #: As it may be shown.
    to: str
    #: Wall ms.
    at: int
    #: The lock of the process that copies; ``None``: it has done so.
    by: str | None = None


_decode: Final = msgspec.json.Decoder(Moved).decode


def moved(conn: DriverConnection) -> Moved | None:
    """Return the mark, ``None`` where there is none."""
    row = conn.execute("SELECT value FROM meta WHERE key = ?", (MOVED,)).fetchone()
    return None if row is None else _decode(row[0])


def mark(conn: DriverConnection, found: Moved) -> None:
    """Set the mark, in place of an earlier one."""
    conn.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (MOVED, msgspec.json.encode(found).decode()),
    )


def unmark(conn: DriverConnection) -> bool:
    """Take the mark away; return whether there was one."""
    return bool(conn.execute("DELETE FROM meta WHERE key = ?", (MOVED,)).rowcount)


def refuse_moved(conn: DriverConnection, name: str, is_alive: Callable[[str], bool]) -> None:
    """Raise :class:`DatabaseError` where the work of the database ``name`` goes on elsewhere."""
    found = moved(conn)
    if found is None:
        return
    there = shlex.quote(found.to)
    if found.by is None:
        day = datetime.datetime.fromtimestamp(found.at / 1000, datetime.UTC).date()
        raise DatabaseError(
            f"The database {name} was copied to {found.to} ({day}), and its work goes on there.",
            fix=f"export BATCHRUNNER_DB={there}; to go on here after all, where what is pending there too"
            " would be sent twice: batchrunner db reopen",
            kind="moved",
        )
    if is_alive(found.by):
        raise BusyError(
            f"The database {name} is just being copied to {found.to}.",
            fix=f"Wait until that is done, then go on there: export BATCHRUNNER_DB={there}",
        )


def refuse_moved_at(db: Database) -> None:
    """As :func:`refuse_moved`, before anything is written there."""
    with db.read() as connection:
        refuse_moved(driver(connection), db.name, db.is_alive)
