"""The limits of accounts in force, and what is used of them.

``cap`` keeps a row for each source of a limit (:mod:`batchrunner.store.caps`, and response headers).
Usage is counted on slots that end within the window, later ones included: what a holder has planned
is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final, NamedTuple

import msgspec

from batchrunner.core.caps import (
    DAILY,
    DAY_MS,
    DAY_RESETS,
    INPUT_TOKENS,
    METERS,
    MINUTE_MS,
    OUTPUT_TOKENS,
    ROLLING,
    SOURCES,
    TOKENS,
    Cap,
    effective_caps,
    pool_caps,
)
from batchrunner.core.counting import TOTAL_IS_INPUT
from batchrunner.core.days import day_start, next_reset
from batchrunner.core.said import said
from batchrunner.models import ScopeId
from batchrunner.store.database import Database
from batchrunner.store.driver import Connection
from batchrunner.views import LimitView, SaidView

__all__ = [
    "DayZone",
    "limits",
    "limits_of_account",
    "requests_in_last_minute",
    "said_limits",
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
            "SELECT id, provider, key FROM scope WHERE kind = 'account' ORDER BY provider, key"
        ).all()
        n_named = Counter(account.key for account in accounts)
        return [
            # One name may be several providers'.
            view
            if n_named[account.key] == 1
            else replace(view, scope=f"{account.provider}/{view.scope}")
            for account in accounts
            for view in limits_of_account(connection, account.id, now_ms, day_zone)
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
    connection: Connection, account: ScopeId, now_ms: int, day_zone: DayZone
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


def _caps(connection: Connection, scope: ScopeId) -> list[Cap]:
    return [
        Cap(*row)
        for row in connection.exec_driver_sql(
            "SELECT limit_name, value, zone, source FROM cap WHERE scope_id = ?", (scope,)
        )
    ]


def _limits_of_scope(
    connection: Connection, scope: _Scope, caps: list[Cap], now_ms: int, day_zone: DayZone
) -> Iterable[LimitView]:
    in_force = effective_caps(caps, day_zone(scope.provider))
    for limit in in_force:
        used, resets_at = _used(connection, scope, limit.name, limit.zone, now_ms)
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
            used, _ = _used(connection, scope, cap.limit_name, ROLLING, now_ms)
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
    connection: Connection, scope: _Scope, limit: str, zone: str | None, now_ms: int
) -> tuple[int | None, int | None]:
    """Return what is used of a limit, and when some of it comes back."""
    if limit not in METERS:
        return None, None
    units = _units(METERS[limit].unit, scope.provider)
    if limit not in DAILY:
        slots = _Slots(scope.id, units, _MINUTE_GRAIN)
        return _window(connection, slots, now_ms - MINUTE_MS, MINUTE_MS)
    slots = _Slots(scope.id, units, _DAY_GRAIN)
    if zone == ROLLING:
        return _window(connection, slots, now_ms - DAY_MS, DAY_MS)
    zone = zone or "UTC"
    used, _ = _window(connection, slots, day_start(now_ms, zone), DAY_MS)
    return used, next_reset(now_ms, zone)


def _units(unit: str, provider: str) -> tuple[str, ...]:
    """Return the stored units that a limit's unit is the sum of."""
    if unit != TOKENS:
        return (unit,)
    return (INPUT_TOKENS,) if provider in TOTAL_IS_INPUT else (INPUT_TOKENS, OUTPUT_TOKENS)


class _Slots(NamedTuple):
    scope: ScopeId
    units: tuple[str, ...]
    grain: int


def _window(
    connection: Connection, slots: _Slots, since: int, length: int
) -> tuple[int, int | None]:
    """Sum the slots that end after ``since``, and say when the first of them drops out."""
    grain, used, first = slots.grain, 0, None
    for unit in slots.units:
        row = connection.exec_driver_sql(
            "SELECT coalesce(sum(n), 0) AS used, min(slot) AS first FROM usage_slot"
            " WHERE scope_id = ? AND unit = ? AND grain = ? AND slot > ? AND n > 0",
            (slots.scope, unit, grain, since // grain - 1),
        ).one()
        used += int(row.used)
        if row.first is not None:
            first = row.first if first is None else min(first, row.first)
    return used, None if first is None else (first + 1) * grain + length


def requests_in_last_minute(connection: Connection, account: ScopeId, now_ms: int) -> int:
    """Return how many requests an account has sent in the last 60 s."""
    row = connection.exec_driver_sql(
        "SELECT coalesce(sum(n), 0) FROM usage_slot WHERE scope_id = ? AND unit = 'requests'"
        " AND grain = ? AND slot > ? AND slot <= ?",
        (account, _MINUTE_GRAIN, (now_ms - MINUTE_MS) // _MINUTE_GRAIN, now_ms // _MINUTE_GRAIN),
    ).scalar_one()
    return int(row)
