"""Processes attached to a database, and the runs they ask for.

A process is alive while it holds its own lock file; its row only says who it is. What it asks for
goes with its row; what a holder has taken up stays with the holder.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from batchrunner.models import RunId
from batchrunner.store.database import Database
from batchrunner.store.driver import Connection, DriverConnection, Lock
from batchrunner.store.moved import refuse_moved
from batchrunner.store.runs import driver

__all__ = [
    "STALE",
    "Process",
    "Role",
    "ask",
    "ask_again",
    "forget_waits",
    "is_taken",
    "note_on",
    "register_process",
    "restore",
    "role_of",
    "set_role",
    "sweep_dead_processes",
    "unask",
    "unregister",
]

#: A ``worker`` shares a queue with others, on PostgreSQL alone.
Role = Literal["holder", "follower", "loader", "worker"]

#: A process's id is when it began, with so many bits by chance.
_RANDOM_BITS: Final = 12
#: Among the options of an ask: until when its run was to wait, where it had stopped before.
STALE: Final = "stale_until"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """This process, as others on the database see it."""

    id: int
    role: Role
    lock: Lock


def register_process(db: Database, role: Role, *, now_ms: int) -> Process:
    """Attach this process to the database: take a lock file of its own and say who it is.

    Raises :class:`~batchrunner.errors.DatabaseError` where its work goes on elsewhere.
    """
    lock = db.process_lock()
    # Ids are never used again, so that a run's runner_id can't come to mean somebody else.
    process_id = now_ms << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    try:
        with db.write() as connection:
            refuse_moved(driver(connection), db.name, db.is_alive)
            restore(driver(connection), Process(id=process_id, role=role, lock=lock), role)
    except BaseException:
        lock.release(unlink=True)
        raise
    return Process(id=process_id, role=role, lock=lock)


def restore(conn: DriverConnection, process: Process, role: Role) -> bool:
    """Say who this process is; return whether nobody knew it, or others had taken it for dead."""
    inserted = conn.execute(
        "INSERT INTO process (id, pid, host, \"user\", since, role, lock_file)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
        (process.id, os.getpid(), socket.gethostname(), _user(), process.id >> _RANDOM_BITS, role,
         process.lock.name),
    )  # fmt: skip
    return inserted.rowcount == 1


def set_role(db: Database, process: Process, role: Role) -> Process:
    """Say what this process does now."""
    with db.write() as connection:
        driver(connection).execute("UPDATE process SET role = ? WHERE id = ?", (role, process.id))
    return Process(id=process.id, role=role, lock=process.lock)


def unregister(db: Database, process: Process) -> None:
    """Detach this process; its asks go with it. Its lock is given up even if the row can't be."""
    try:
        with db.write() as connection:
            _forget(driver(connection), process.id)
    finally:
        process.lock.release(unlink=True)


def sweep_dead_processes(db: Database) -> int:
    """Remove the rows and lock files of processes that are gone; return how many rows."""
    with db.write() as connection:
        conn = driver(connection)
        # A worker may have lost its lock with its connection: others of the queue tell the dead.
        rows = conn.execute("SELECT id, lock_file FROM process WHERE role != 'worker'").fetchall()
        is_alive = db.who_is_alive()
        dead = [id_ for id_, lock_file in rows if not is_alive(lock_file)]
        for process_id in dead:
            _forget(conn, process_id)
    db.sweep_locks()
    return len(dead)


def forget_waits(conn: DriverConnection, process_id: int) -> None:
    """Forget what runs wait for of which a process told that, where workers may take them up.

    Another tells then, and of none it would look like an end. With a file it stays said.
    """
    if not isinstance(conn, sqlite3.Connection):
        conn.execute(
            "UPDATE run SET stop_reason = NULL, stop_until = NULL, stop_detail = NULL, stop_fix = NULL"
            " WHERE runner_id = ?",
            (process_id,),
        )


def _forget(conn: DriverConnection, process_id: int) -> None:
    forget_waits(conn, process_id)
    conn.execute("UPDATE run SET runner_id = NULL WHERE runner_id = ?", (process_id,))
    conn.execute("DELETE FROM process WHERE id = ?", (process_id,))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a number that no name belongs to.
        return str(os.getuid())


def ask(db: Database, run_id: RunId, process: Process, options: Mapping[str, Any]) -> None:
    """Want a run drained, on behalf of ``process``; asking again replaces the options.

    Until when the run was to wait as it stopped is no reason to keep it from being taken up: that is
    noted (:data:`STALE`), until somebody takes it up and finds out anew.
    """
    with db.write() as connection:
        ask_again(driver(connection), run_id, process, options)


def ask_again(
    conn: DriverConnection, run_id: RunId, process: Process, options: Mapping[str, Any]
) -> None:
    """As :func:`ask`, in a transaction of somebody else's."""
    stopped = conn.execute(
        "SELECT stop_until FROM run WHERE id = ? AND runner_id IS NULL", (run_id,)
    ).fetchone()
    stale = {STALE: stopped[0]} if stopped and stopped[0] is not None else {}
    conn.execute(
        "INSERT INTO ask (run_id, process_id, options) VALUES (?, ?, ?)"
        " ON CONFLICT (run_id, process_id) DO UPDATE SET options = excluded.options, note = NULL",
        (run_id, process.id, json.dumps({**options, **stale})),
    )


def unask(db: Database, run_id: RunId, process: Process) -> None:
    """Want it no more."""
    with db.write() as connection:
        driver(connection).execute(
            "DELETE FROM ask WHERE run_id = ? AND process_id = ?", (run_id, process.id)
        )


def note_on(connection: Connection, run_id: RunId, process: Process) -> str | None:
    """Return what the holder has written on the process's ask; ``None`` where it wrote nothing."""
    row = (
        driver(connection)
        .execute("SELECT note FROM ask WHERE run_id = ? AND process_id = ?", (run_id, process.id))
        .fetchone()
    )
    return row[0] if row else None


def role_of(connection: Connection, process_id: int | None) -> str | None:
    """Return what a process does; ``None``: there is none of that number."""
    row = (
        driver(connection)
        .execute("SELECT role FROM process WHERE id = ?", (process_id,))
        .fetchone()
    )
    return row[0] if row else None


def is_taken(connection: Connection, run_id: RunId, process: Process) -> bool:
    """Return whether the holder has taken up what the process asked for."""
    row = (
        driver(connection)
        .execute(
            "SELECT taken_by FROM ask WHERE run_id = ? AND process_id = ?", (run_id, process.id)
        )
        .fetchone()
    )
    return row is not None and row[0] is not None
