"""The limits of accounts: what a person said of them, and what is used of them.

``cap`` keeps a row for each source of a limit; a person's own has the source ``flag``, that of a
configuration file ``config``. Usage is counted on slots that end within the window, later ones
included: what a holder has planned is used.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Self

import msgspec
import sqlalchemy as sa

from batchrunner.core.caps import (
    DAY_MS,
    DAY_RESETS,
    MIN_INTERVAL,
    MINUTE_MS,
    ROLLING,
    RPD,
    RPM,
    SOURCES,
    Cap,
    effective_caps,
    pool_caps,
)
from batchrunner.core.days import day_start, next_reset
from batchrunner.core.said import said
from batchrunner.models import ScopeId
from batchrunner.options import LimitOptions, LimitValue
from batchrunner.store import holder
from batchrunner.store.database import Database
from batchrunner.store.runs import driver
from batchrunner.views import LimitView, SaidView

__all__ = [
    "DayZone",
    "LimitChange",
    "clear_limit",
    "limits",
    "limits_of_account",
    "requests_in_last_minute",
    "said_limits",
    "scope_for",
    "set_limit",
    "store_limits",
    "sync_config_limits",
    "typed_limits",
]

#: The provider's own day, where nobody named one: provider → zone or ``rolling``.
DayZone = Callable[[str], str]

_MINUTE_GRAIN: Final = 250
_DAY_GRAIN: Final = 60_000


def utc(provider: str) -> str:  # noqa: ARG001 -- has the shape of DayZone
    """Return the zone of days where nobody said one."""
    return "UTC"


def limits(db: Database, *, now_ms: int, day_zone: DayZone = utc) -> list[LimitView]:
    """Return the limits in force of every account, with what is used and left."""
    with db.read() as connection:
        accounts = connection.exec_driver_sql(
            "SELECT id FROM scope WHERE kind = 'account' ORDER BY provider, key"
        ).scalars()
        return [
            view
            for account in accounts.all()
            for view in limits_of_account(connection, account, now_ms, day_zone)
        ]


def said_limits(db: Database) -> list[SaidView]:
    """Return what the headers of each pool's last answer said of the provider's own count."""
    with db.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT coalesce(a.organization, a.key) || '/' || s.key AS name, s.headers, s.headers_at"
            " FROM scope s JOIN scope a ON a.id = s.parent_id WHERE s.headers IS NOT NULL"
            " ORDER BY a.provider, a.key, s.key"
        ).all()
    return [
        SaidView(
            scope=row.name,
            what=one.what,
            limit=one.limit,
            remaining=one.remaining,
            resets_at=one.resets_at,
            said_at=row.headers_at,
        )
        for row in rows
        for one in said(
            msgspec.json.decode(row.headers, type=dict[str, str]), at_wall=row.headers_at
        )
    ]


class _Scope(NamedTuple):
    id: ScopeId
    name: str
    provider: str


def limits_of_account(
    connection: sa.Connection, account: ScopeId, now_ms: int, day_zone: DayZone
) -> list[LimitView]:
    """Return the limits in force of one account and of its pools."""
    rows = connection.exec_driver_sql(
        "SELECT s.id, s.provider, s.key, s.kind, a.key AS account_key FROM scope s"
        " LEFT JOIN scope a ON a.id = s.parent_id"
        " WHERE s.id = ?1 OR s.parent_id = ?1 ORDER BY s.kind, s.key",
        (account,),
    ).all()
    of_account = _caps(connection, account)
    views: list[LimitView] = []
    for row in rows:
        is_pool = row.kind == "pool"
        name = f"{row.account_key}/{row.key}" if is_pool else row.key
        caps = pool_caps(_caps(connection, row.id), of_account) if is_pool else of_account
        scope = _Scope(row.id, name, row.provider)
        views += _limits_of_scope(connection, scope, caps, now_ms, day_zone)
    return views


def _caps(connection: sa.Connection, scope: ScopeId) -> list[Cap]:
    return [
        Cap(*row)
        for row in connection.exec_driver_sql(
            "SELECT limit_name, value, zone, source FROM cap WHERE scope_id = ?", (scope,)
        )
    ]


def _limits_of_scope(
    connection: sa.Connection, scope: _Scope, caps: list[Cap], now_ms: int, day_zone: DayZone
) -> Iterable[LimitView]:
    in_force = effective_caps(caps, day_zone(scope.provider))
    for limit in in_force:
        used, resets_at = _used(connection, scope.id, limit.name, limit.zone, now_ms)
        yield LimitView(
            scope=scope.name,
            limit=limit.name,
            value=limit.n,
            source=limit.source,
            used=used,
            remaining=None if used is None else max(0, int(limit.n) - used),
            resets_at=resets_at,
            zone=limit.zone,
        )
    named = {limit.name for limit in in_force} | {DAY_RESETS}
    for cap in sorted(caps, key=lambda cap: SOURCES.index(cap.source)):
        if cap.limit_name not in named:
            named.add(cap.limit_name)
            used, _ = _used(connection, scope.id, cap.limit_name, ROLLING, now_ms)
            yield LimitView(
                scope=scope.name,
                limit=cap.limit_name,
                value=None,
                source=cap.source,
                used=used,
                remaining=None,
                resets_at=None,
            )


def _used(
    connection: sa.Connection, scope: ScopeId, limit: str, zone: str | None, now_ms: int
) -> tuple[int | None, int | None]:
    """Return what is used of a limit, and when some of it comes back."""
    if limit == RPM:
        return _window(connection, scope, _MINUTE_GRAIN, now_ms - MINUTE_MS, MINUTE_MS)
    if limit == RPD and zone == ROLLING:
        return _window(connection, scope, _DAY_GRAIN, now_ms - DAY_MS, DAY_MS)
    if limit == RPD:
        zone = zone or "UTC"
        used, _ = _window(connection, scope, _DAY_GRAIN, day_start(now_ms, zone), DAY_MS)
        return used, next_reset(now_ms, zone)
    return None, None


def _window(
    connection: sa.Connection, scope: ScopeId, grain: int, since: int, length: int
) -> tuple[int, int | None]:
    """Sum the slots that end after ``since``, and say when the first of them drops out."""
    row = connection.exec_driver_sql(
        "SELECT coalesce(sum(n), 0) AS used, min(slot) AS first FROM usage_slot"
        " WHERE scope_id = ? AND unit = 'requests' AND grain = ? AND slot > ? AND n > 0",
        (scope, grain, since // grain - 1),
    ).one()
    return int(row.used), None if row.first is None else (row.first + 1) * grain + length


def requests_in_last_minute(connection: sa.Connection, account: ScopeId, now_ms: int) -> int:
    """Return how many requests an account has sent in the last 60 s."""
    row = connection.exec_driver_sql(
        "SELECT coalesce(sum(n), 0) FROM usage_slot WHERE scope_id = ? AND unit = 'requests'"
        " AND grain = ? AND slot > ? AND slot <= ?",
        (account, _MINUTE_GRAIN, (now_ms - MINUTE_MS) // _MINUTE_GRAIN, now_ms // _MINUTE_GRAIN),
    ).scalar_one()
    return int(row)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitChange:
    """What a person's word did to one limit of an account."""

    scope: ScopeId
    limit: str
    old: LimitValue
    new: LimitValue
    old_zone: str | None = None
    new_zone: str | None = None

    @property
    def is_change(self) -> bool:
        """Whether anything is different now."""
        return (self.old, self.old_zone) != (self.new, self.new_zone)


def scope_for(db: Database, provider: str, account_key: str, *, pool: str | None = None) -> ScopeId:
    """Return the account's scope, or its pool's, made where it did not exist."""
    with db.write() as connection:
        conn = driver(connection)
        account = holder.scope_id(
            conn, kind="account", provider=provider, key=account_key, parent_id=None
        )
        if pool is None:
            return account
        return holder.scope_id(conn, kind="pool", provider=provider, key=pool, parent_id=account)


def set_limit(
    db: Database,
    scope: ScopeId,
    limit: str,
    value: float | Literal["none"],
    *,
    zone: str | None = None,
    now_ms: int,
) -> LimitChange:
    """Store a person's limit; ``zone`` goes with the name ``day_resets``, which has no number."""
    with db.write() as connection:
        return _say(driver(connection), scope, limit, _Said.of(value, zone), now_ms)


def clear_limit(db: Database, scope: ScopeId, limit: str) -> LimitChange:
    """Forget a person's limit, so that it is learned from response headers again (``auto``)."""
    with db.write() as connection:
        return _unsay(driver(connection), scope, limit)


def store_limits(
    db: Database, scope: ScopeId, limits: LimitOptions, *, now_ms: int
) -> list[LimitChange]:
    """Store everything ``limits`` says, in one transaction; return what it touched, old → new."""
    changes: list[LimitChange] = []
    with db.write() as connection:
        conn = driver(connection)
        for name, value, zone in _words_of(limits):
            if value == "auto":
                changes.append(_unsay(conn, scope, name))
            elif value is not None:
                changes.append(_say(conn, scope, name, _Said.of(value, zone), now_ms))
    return changes


def sync_config_limits(
    db: Database, scope: ScopeId, limits: LimitOptions, *, now_ms: int
) -> list[LimitChange]:
    """Have the configuration's limits of an account be exactly ``limits``; return what changed.

    They hold for every key of the account's organization. What a person typed stays above them.
    """
    wanted = {
        name: _Said.of(value, zone)
        for name, value, zone in _words_of(limits)
        if value is not None and value != "auto"
    }
    changes: list[LimitChange] = []
    with db.read() as connection:
        is_same = all(
            _said(driver(connection), account, "config") == wanted
            for account in _of_organization(driver(connection), scope)
        )
    if is_same:
        return changes
    with db.write() as connection:
        conn = driver(connection)
        for account in _of_organization(conn, scope):
            stored = _said(conn, account, "config")
            for name in {**wanted, **stored}:
                said = wanted.get(name)
                if said == stored.get(name):
                    continue
                change = (
                    _unsay(conn, account, name, "config")
                    if said is None
                    else _say(conn, account, name, said, now_ms, source="config")
                )
                if account == scope:
                    changes.append(change)
    return changes


def typed_limits(db: Database, scope: ScopeId) -> frozenset[str]:
    """Return the names of the limits that a person typed for an account."""
    with db.read() as connection:
        return frozenset(_said(driver(connection), scope))


def _of_organization(conn: sqlite3.Connection, scope: ScopeId) -> list[ScopeId]:
    """Return an account, and those of its organization's other keys."""
    rows = conn.execute(
        "SELECT other.id FROM scope s JOIN scope other ON other.id = s.id OR"
        " (other.kind = 'account' AND other.provider = s.provider"
        " AND other.organization = s.organization) WHERE s.id = ?",
        (scope,),
    )
    return [ScopeId(row[0]) for row in rows]


def _words_of(limits: LimitOptions) -> list[tuple[str, LimitValue | float, str | None]]:
    """Return what ``limits`` says as (name, value, zone)."""
    said: list[tuple[str, LimitValue | float, str | None]] = [
        (RPM, limits.rpm, None),
        (RPD, limits.rpd, None),
    ]
    if limits.day_resets is not None:
        said.append((DAY_RESETS, "none", limits.day_resets))
    if limits.min_interval_s is not None:
        said.append((MIN_INTERVAL, limits.min_interval_s * 1000.0 or "none", None))
    return said


class _Said(NamedTuple):
    """A person's word on one limit; ``value`` ``None``: no such limit."""

    value: float | None
    zone: str | None

    @classmethod
    def of(cls, value: float | str, zone: str | None) -> Self:
        return cls(None if isinstance(value, str) else float(value), zone)

    @property
    def word(self) -> LimitValue:
        return "none" if self.value is None else int(self.value)


def _said(conn: sqlite3.Connection, scope: ScopeId, source: str = "flag") -> dict[str, _Said]:
    return {
        name: _Said(value, zone)
        for name, value, zone in conn.execute(
            "SELECT limit_name, value, zone FROM cap WHERE scope_id = ? AND source = ?",
            (scope, source),
        )
    }


def _say(
    conn: sqlite3.Connection,
    scope: ScopeId,
    limit: str,
    said: _Said,
    now_ms: int,
    *,
    source: str = "flag",
) -> LimitChange:
    old = _said(conn, scope, source).get(limit)
    holder.set_cap(
        conn,
        scope=scope,
        limit=limit,
        value=said.value,
        zone=said.zone,
        source=source,
        wall=now_ms,
    )
    return LimitChange(
        scope=scope,
        limit=limit,
        old=old.word if old else "auto",
        new=said.word,
        old_zone=old.zone if old else None,
        new_zone=said.zone,
    )


def _unsay(
    conn: sqlite3.Connection, scope: ScopeId, limit: str, source: str = "flag"
) -> LimitChange:
    old = _said(conn, scope, source).get(limit)
    conn.execute(
        "DELETE FROM cap WHERE scope_id = ? AND limit_name = ? AND source = ?",
        (scope, limit, source),
    )
    return LimitChange(
        scope=scope,
        limit=limit,
        old=old.word if old else "auto",
        new="auto",
        old_zone=old.zone if old else None,
    )
