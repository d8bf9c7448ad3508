"""Scopes: accounts and pools, with their caps, their usage and their organization.

Like :mod:`batchrunner.store.cycle`, every function takes a connection inside a transaction that
somebody else began and will commit.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from batchrunner.core.admission import SlotRow
from batchrunner.models import ScopeId
from batchrunner.store.driver import DriverConnection

_GRAIN_MS: Final = 250
_MINUTE_MS: Final = 60_000


#: The columns of :class:`Standing`.
STANDING: Final = (
    "id, next_send_at, last_send_at, pause_set_at, pause_until, pause_reason, pause_detail,"
    " pause_generation, pause_level"
)


class Standing(NamedTuple):
    """What of a scope changes as it is used, as stored."""

    id: ScopeId
    next_send_at: float
    last_send_at: float
    pause_set_at: int | None
    pause_until: int | None
    pause_reason: str | None
    pause_detail: str | None
    pause_generation: int
    pause_level: int


class ScopeState(NamedTuple):
    """A scope with its caps, as stored."""

    kind: str
    parent_id: ScopeId | None
    key: str
    organization: str | None
    standing: Standing
    #: (limit_name, value or None for none, zone, source)
    caps: tuple[tuple[str, float | None, str | None, str], ...]


def scope_id(
    conn: DriverConnection, *, kind: str, provider: str, key: str, parent_id: ScopeId | None
) -> ScopeId:
    """Return the id of a scope, made where it did not exist, by whichever worker is first."""
    found = (
        "SELECT id FROM scope WHERE provider = ? AND kind = ? AND key = ?"
        " AND coalesce(parent_id, 0) = ?"
    )
    identity = (provider, kind, key, parent_id or 0)
    row = conn.execute(found, identity).fetchone()
    if row is None:
        conn.execute(
            "INSERT INTO scope (kind, provider, key, parent_id) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (kind, provider, key, parent_id),
        )
        row = conn.execute(found, identity).fetchone()
    return ScopeId(row[0])


def load_scope(conn: DriverConnection, scope: ScopeId) -> ScopeState:
    """Return a scope with its caps."""
    kind, parent, key, organization, *standing = conn.execute(
        f"SELECT kind, parent_id, key, organization, {STANDING} FROM scope WHERE id = ?",  # noqa: S608 (constants)
        (scope,),
    ).fetchone()
    caps = conn.execute(
        "SELECT limit_name, value, zone, source FROM cap WHERE scope_id = ?", (scope,)
    ).fetchall()
    return ScopeState(kind, parent, key, organization, Standing._make(standing), tuple(caps))


def load_usage(conn: DriverConnection, scope: ScopeId, *, now: int, wall: int) -> list[SlotRow]:
    """Return the usage slots of a scope that any window may still look at."""
    return [
        SlotRow(*row)
        for row in conn.execute(
            "SELECT unit, grain, slot, n FROM usage_slot WHERE scope_id = ?"
            " AND ((grain = 250 AND slot >= ?) OR (grain = 60000 AND slot >= ?))",
            (scope, (now - 180_000) // _GRAIN_MS, (wall - 50 * 3_600_000) // _MINUTE_MS),
        )
    ]


def prune_usage(conn: DriverConnection, *, now: int, wall: int) -> None:
    """Drop the usage slots that no window looks at any more."""
    conn.execute(
        "DELETE FROM usage_slot WHERE (grain = 250 AND slot < ?) OR (grain = 60000 AND slot < ?)",
        ((now - 180_000) // _GRAIN_MS, (wall - 50 * 3_600_000) // _MINUTE_MS),
    )


def set_cap(
    conn: DriverConnection,
    *,
    scope: ScopeId,
    limit: str,
    value: float | None,
    zone: str | None,
    source: str,
    wall: int,
) -> None:
    """Store a limit of a scope from one source."""
    conn.execute(
        "INSERT INTO cap (scope_id, limit_name, value, zone, source, set_at)"
        " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (scope_id, limit_name, source)"
        " DO UPDATE SET value = excluded.value,"
        " zone = excluded.zone, set_at = excluded.set_at",
        (scope, limit, value, zone, source, wall),
    )


def carry_typed_caps(conn: DriverConnection, old: ScopeId, new: ScopeId) -> None:
    """Have what a person typed for one account hold for another, unless it has a later word."""
    conn.execute(
        "INSERT INTO cap (scope_id, limit_name, value, zone, source, set_at)"
        " SELECT ?, limit_name, value, zone, source, set_at FROM cap"
        " WHERE scope_id = ? AND source IN ('flag', 'config')"
        " ON CONFLICT (scope_id, limit_name, source) DO UPDATE SET value = excluded.value,"
        " zone = excluded.zone, set_at = excluded.set_at WHERE excluded.set_at >= cap.set_at",
        (new, old),
    )


def set_organization(conn: DriverConnection, scope: ScopeId, organization: str) -> None:
    """Remember which organization an account's responses name."""
    conn.execute("UPDATE scope SET organization = ? WHERE id = ?", (organization, scope))


def account_of_organization(
    conn: DriverConnection, provider: str, organization: str
) -> ScopeId | None:
    """Return the account whose responses named this organization."""
    row = conn.execute(
        "SELECT id FROM scope WHERE kind = 'account' AND provider = ? AND organization = ?"
        " ORDER BY id LIMIT 1",
        (provider, organization),
    ).fetchone()
    return ScopeId(row[0]) if row else None
