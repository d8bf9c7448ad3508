"""What an account may still send, for a plan: its limits, what is used of them, how fast it answers.

Only read: an account that is not known is not made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from batchrunner.core.caps import Cap
from batchrunner.core.token_use import SlotRow
from batchrunner.models import RunId, ScopeId, job_id
from batchrunner.store import scopes
from batchrunner.store.database import Database
from batchrunner.store.driver import DriverConnection
from batchrunner.store.runs import driver

__all__ = ["Allowances", "ScopeNow", "allowances", "allowances_of"]

#: Runs whose answers are looked at, and how many of them.
_LATEST: Final = 10
_ANSWERS: Final = 500


class ScopeNow(NamedTuple):
    """An account, or a pool of its models."""

    caps: tuple[Cap, ...] = ()
    slots: tuple[SlotRow, ...] = ()
    #: The provider has it wait until then (wall).
    pause_until: int | None = None


class Allowances(NamedTuple):
    """What is known of an account and of its pools."""

    #: As people name it; empty: the account is not known.
    name: str = ""
    account: ScopeNow = ScopeNow()
    pools: Mapping[str, ScopeNow] = {}
    #: What an answer of this provider took, of late; ``None``: there was none.
    latency_ms: float | None = None
    #: Jobs of other runs that wait for the same limits.
    n_left: int = 0


def allowances(db: Database, provider: str, key: str | None, *, now_ms: int) -> Allowances:
    """Return what is known of an account; ``key`` ``None``: the provider's only one, if it is that."""
    with db.read() as connection:
        conn = driver(connection)
        account = _account(conn, provider, key)
        found = allowances_of(conn, provider, account, now_ms=now_ms)
        return found if account is None else found._replace(n_left=_n_left(conn, account))


def allowances_of(
    conn: DriverConnection, provider: str, account: ScopeId | None, *, now_ms: int
) -> Allowances:
    """Return what is known of an account (``None``: it is not), but for what waits for it."""
    latency_ms = _latency_ms(conn, provider)
    if account is None:
        return Allowances(latency_ms=latency_ms)
    state = scopes.load_scope(conn, account)
    pools = conn.execute("SELECT id, key FROM scope WHERE parent_id = ?", (account,)).fetchall()
    return Allowances(
        name=state.organization or state.key,
        account=_now(conn, account, now_ms),
        pools={name: _now(conn, pool, now_ms) for pool, name in pools},
        latency_ms=latency_ms,
    )


def _account(conn: DriverConnection, provider: str, key: str | None) -> ScopeId | None:
    rows = conn.execute(
        "SELECT id, key, organization FROM scope WHERE kind = 'account' AND provider = ?",
        (provider,),
    ).fetchall()
    if key is None:
        return ScopeId(rows[0][0]) if len(rows) == 1 else None
    for account, its_key, organization in rows:
        if its_key == key and organization is not None:
            return scopes.account_of_organization(conn, provider, organization)
        if key in (its_key, organization):
            return ScopeId(account)
    return None


def _now(conn: DriverConnection, scope: ScopeId, now_ms: int) -> ScopeNow:
    state = scopes.load_scope(conn, scope)
    slots = scopes.load_usage(conn, scope, now=now_ms, wall=now_ms)
    return ScopeNow(
        tuple(Cap(*cap) for cap in state.caps), tuple(slots), state.standing.pause_until
    )


def _latency_ms(conn: DriverConnection, provider: str) -> float | None:
    """Return what answers of the provider's latest runs took, from the first that has any."""
    runs = conn.execute(
        "SELECT id FROM run WHERE provider = ? ORDER BY id DESC LIMIT ?", (provider, _LATEST)
    ).fetchall()
    for (run_id,) in runs:
        (mean,) = conn.execute(
            # A refusal comes at once, and says nothing of answers.
            "SELECT avg(latency_ms) FROM (SELECT latency_ms FROM response WHERE job_id > ?"
            " AND job_id < ? AND http_status BETWEEN 200 AND 299 ORDER BY job_id DESC LIMIT ?)"
            " latest",
            (job_id(run_id, 0), job_id(RunId(run_id + 1), 0), _ANSWERS),
        ).fetchone()
        if mean is not None:
            return float(mean)
    return None


def _n_left(conn: DriverConnection, account: ScopeId) -> int:
    """Return how many jobs of runs that go on have the account."""
    (n,) = conn.execute(
        "SELECT coalesce(sum(n_pending), 0) FROM run WHERE account_id = ? AND state = 'ready'",
        (account,),
    ).fetchone()
    return int(n)
