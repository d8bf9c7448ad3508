"""A schema that a copy is put into: in one transaction, so that it is there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from batchrunner.errors import BusyError, UsageError
from batchrunner.places import Server
from batchrunner.store.driver import DriverConnection, driver
from batchrunner.store.postgres.database import PgDatabase
from batchrunner.store.processes import sweep_dead_processes
from batchrunner.store.sharing import forget_dead

__all__ = ["receiving_schema"]

#: A row in one of these is something that somebody would miss.
_USED: Final = ("run", "process", "scope")
#: What an unused database may have rows of besides.
_CLEARED: Final = ("model", "meta")
#: Tables that the claim's plans are made for.
_LARGE: Final = ("job", "payload", "response", "send", "usage_slot")
#: Every column that counts up by itself.
_COUNTERS: Final = """
    SELECT table_name FROM information_schema.columns
    WHERE table_schema = current_schema() AND is_identity = 'YES' AND column_name = 'id'"""


@contextmanager
def receiving_schema(place: Server) -> Iterator[DriverConnection]:
    """Give a connection in the one transaction that fills the schema; it is committed at the end."""
    db = PgDatabase.open_at(place, create=True)
    try:
        sender = db.sender_lock()
        if not sender.try_acquire():
            raise BusyError(
                f"A process sends from {place}, or waits there as a worker.",
                fix="Stop it, or name another place to copy to.",
            )
        try:
            sweep_dead_processes(db)
            with db.write() as connection:
                conn = driver(connection)
                # No worker is there while nobody else may send.
                forget_dead(conn, db.who_is_alive)
                _refuse_used(conn, place)
                # Nobody waits for it, and where rows come from may be slow.
                conn.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
                yield conn
                _count_on(conn)
        finally:
            sender.release()
    finally:
        db.close()


def _refuse_used(conn: DriverConnection, place: Server) -> None:
    for table in _USED:
        if conn.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():  # noqa: S608 (constants)
            raise UsageError(
                f"The schema {place.schema} at {place} is in use, and a copy never overwrites.",
                fix="Name another one in the address: ?schema=NAME",
            )
    for table in _CLEARED:
        conn.execute(f"DELETE FROM {table}")  # noqa: S608 (constants)


def _count_on(conn: DriverConnection) -> None:
    """Have the next row of each table get an id of its own, and the planner know what is there."""
    for (table,) in conn.execute(_COUNTERS).fetchall():
        conn.execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"  # noqa: S608 (a table's name)
        )
    conn.execute(f"ANALYZE {', '.join(_LARGE)}")
