"""Requests that no job makes, such as a look at the list of models: booked like every other.

Statements only: each takes a connection in a transaction that somebody else began. Whoever books
holds the sender lock, since a live holder keeps the ledger in memory; beside one a request can only
be counted, where no limit is in force (:func:`count_beside`).
"""

from __future__ import annotations

from typing import Final

from batchrunner.models import RunId, ScopeId
from batchrunner.store import scopes
from batchrunner.store.driver import DriverConnection
from batchrunner.store.load import model_id

__all__ = [
    "begin_advice",
    "count_beside",
    "count_request",
    "known_account",
    "last_orphan_at",
    "mend_stop",
]

_MS_A_DAY: Final = 86_400_000
_MS_A_MINUTE: Final = 60_000
#: A live holder writes the slots it books in whole, from its memory; those that are over it leaves.
_SLOTS_OVER: Final = 2


def known_account(conn: DriverConnection, provider: str, key: str) -> ScopeId | None:
    """Return the account of a credential, or of its organization; ``None`` where none was used here."""
    row = conn.execute(
        "SELECT id, organization FROM scope WHERE kind = 'account' AND provider = ? AND key = ?",
        (provider, key),
    ).fetchone()
    if row is None:
        return None
    scope, organization = ScopeId(row[0]), row[1]
    if organization is None:
        return scope
    return scopes.account_of_organization(conn, provider, organization) or scope


def last_orphan_at(conn: DriverConnection) -> int | None:
    """Return the latest planned instant (steady ms) of a job that a crash left in flight.

    Until the next holder rescues it, what it used may be booked earlier than it was sent.
    """
    (at,) = conn.execute(
        "SELECT max(claimed_at) FROM job INDEXED BY job_running WHERE state = 'running'"
    ).fetchone()
    return None if at is None else int(at)


def count_request(
    conn: DriverConnection, *, account: ScopeId, model: str | None, run: RunId | None, wall: int
) -> None:
    """Count one request in the day's usage; ``run`` is ``None`` where none is behind it."""
    conn.execute(
        "INSERT INTO usage_day (day, account_id, model_id, run_id, requests)"
        " VALUES (?, ?, ?, ?, 1) ON CONFLICT (day, account_id, model_id, run_id)"
        " DO UPDATE SET requests = usage_day.requests + 1",
        (wall // _MS_A_DAY, account, model_id(conn, model), run or 0),
    )


def count_beside(conn: DriverConnection, *, scope: ScopeId, wall: int) -> None:
    """Count one request in the day's slots of a scope whose ledger another process has in memory.

    It goes into a minute that is over, for a minute that goes on would be written over. So it does
    not hold for a minute's limit, nor for the holder, which reads the slots when it begins.
    """
    conn.execute(
        "INSERT INTO usage_slot (scope_id, unit, grain, slot, n) VALUES (?, 'requests', ?, ?, 1)"
        " ON CONFLICT (scope_id, unit, grain, slot) DO UPDATE SET n = usage_slot.n + 1",
        (scope, _MS_A_MINUTE, wall // _MS_A_MINUTE - _SLOTS_OVER),
    )


def begin_advice(conn: DriverConnection, run: RunId) -> bool:
    """Note that models are asked about since a run halted; return whether nobody did before.

    A later halt is told by the requests that led to it.
    """
    (n_sent,) = conn.execute("SELECT n_sent FROM run WHERE id = ?", (run,)).fetchone()
    cursor = conn.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE"
        " SET value = excluded.value WHERE meta.value != excluded.value",
        (f"advised.{run}", str(n_sent)),
    )
    return cursor.rowcount == 1


def mend_stop(conn: DriverConnection, run: RunId, fix: str) -> bool:
    """Replace what helps a stopped run, unless somebody took it up meanwhile; return whether.

    What keeps its models back is told the same.
    """
    cursor = conn.execute(
        "UPDATE run SET stop_fix = ? WHERE id = ? AND stop_reason IS NOT NULL"
        " AND runner_id IS NULL",
        (fix, run),
    )
    if cursor.rowcount == 1:
        conn.execute("UPDATE hold SET fix = ? WHERE run_id = ?", (fix, run))
    return cursor.rowcount == 1
