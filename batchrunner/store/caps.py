"""What was said of an account's limits: by a person, and by a configuration file.

``cap`` keeps a row for each source of a limit; a person's own has the source ``flag``, that of a
configuration file ``config``. What is used of them is told by :mod:`batchrunner.store.limits`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

from batchrunner.core.caps import DAY_RESETS, METERS, MIN_INTERVAL, Cap
from batchrunner.models import ScopeId
from batchrunner.options import LimitOptions, LimitValue
from batchrunner.store import scopes
from batchrunner.store.database import Database
from batchrunner.store.driver import DriverConnection
from batchrunner.store.runs import driver

__all__ = [
    "LimitChange",
    "clear_limit",
    "scope_for",
    "set_limit",
    "store_limits",
    "sync_config_limits",
    "typed_limits",
    "with_words",
]


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
        account = scopes.scope_id(
            conn, kind="account", provider=provider, key=account_key, parent_id=None
        )
        if pool is None:
            return account
        return scopes.scope_id(conn, kind="pool", provider=provider, key=pool, parent_id=account)


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


def _of_organization(conn: DriverConnection, scope: ScopeId) -> list[ScopeId]:
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
        # Each has a field of its name.
        (name, getattr(limits, name), None)
        for name in METERS
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


def _said(conn: DriverConnection, scope: ScopeId, source: str = "flag") -> dict[str, _Said]:
    return {
        name: _Said(value, zone)
        for name, value, zone in conn.execute(
            "SELECT limit_name, value, zone FROM cap WHERE scope_id = ? AND source = ?",
            (scope, source),
        )
    }


def _say(
    conn: DriverConnection,
    scope: ScopeId,
    limit: str,
    said: _Said,
    now_ms: int,
    *,
    source: str = "flag",
) -> LimitChange:
    old = _said(conn, scope, source).get(limit)
    scopes.set_cap(
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


def _unsay(conn: DriverConnection, scope: ScopeId, limit: str, source: str = "flag") -> LimitChange:
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


def with_words(caps: Iterable[Cap], limits: LimitOptions, source: str) -> list[Cap]:
    """Return an account's caps as they would be once ``limits`` was said by ``source``."""
    words = [word for word in _words_of(limits) if word[1] is not None]
    named = {name for name, _, _ in words}
    kept = [cap for cap in caps if cap.source != source or cap.limit_name not in named]
    said = [
        Cap(name, _Said.of(value, zone).value, zone, source)
        for name, value, zone in words
        if value is not None and value != "auto"
    ]
    return [*kept, *said]
