"""What was known when a run first began, kept so that its forecast can be made again and judged.

A row of ``meta`` a run: the limits in force, what was used of the day's, how fast answers came, and
what earlier answers had taught of tokens. Written once, before the first request; goes with its run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from batchrunner.core.caps import DAILY
from batchrunner.core.token_use import DAY_GRAIN, SlotRow
from batchrunner.core.tokens import Seen
from batchrunner.models import RunId, ScopeId
from batchrunner.store.allowances import Allowances, ScopeNow, allowances_of
from batchrunner.store.driver import DriverConnection
from batchrunner.store.tokens import load_seen

__all__ = ["Begun", "begun_key", "load_begun", "note_begun"]

#: Slots of a day are kept in quarters of an hour: every zone's midnight is at the end of one.
_QUARTER: Final = 15


class Begun(msgspec.Struct, frozen=True, kw_only=True):
    """What was known at one moment."""

    #: Wall ms.
    at: int
    found: Allowances
    seen: Mapping[str, Seen]
    #: ``-c``; ``None``: ``auto``.
    in_flight: int | None


_decode: Final = msgspec.json.Decoder(Begun).decode


def begun_key(run_id: RunId) -> str:
    """Return the key in ``meta`` of what was known when a run began."""
    return f"begun.{run_id}"


def note_begun(
    conn: DriverConnection,
    run_id: RunId,
    *,
    provider: str,
    account: ScopeId | None,
    in_flight: int | None,
    now_ms: int,
) -> None:
    """Keep what is known now, in place of what was kept before."""
    found = allowances_of(conn, provider, account, now_ms=now_ms)
    begun = Begun(
        at=now_ms,
        found=found._replace(
            account=_kept(found.account),
            pools={name: _kept(pool) for name, pool in found.pools.items()},
        ),
        seen=load_seen(conn),
        in_flight=in_flight,
    )
    conn.execute(
        "INSERT INTO meta (key, value) VALUES (?, ?)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (begun_key(run_id), msgspec.json.encode(begun).decode()),
    )


def load_begun(conn: DriverConnection, run_id: RunId) -> Begun | None:
    """Return what was known when a run began; ``None``: an earlier version began it."""
    row = conn.execute("SELECT value FROM meta WHERE key = ?", (begun_key(run_id),)).fetchone()
    return None if row is None else _decode(row[0])


def _kept(scope: ScopeNow) -> ScopeNow:
    """Return a scope with no more of its usage than a forecast asks for."""
    sums: dict[tuple[str, int], int] = {}
    if any(cap.limit_name in DAILY and cap.value is not None for cap in scope.caps):
        for row in scope.slots:
            if row.grain == DAY_GRAIN and row.n > 0:
                slot = row.unit, row.slot // _QUARTER * _QUARTER
                sums[slot] = sums.get(slot, 0) + row.n
    return scope._replace(
        slots=tuple(SlotRow(unit, DAY_GRAIN, at, n) for (unit, at), n in sums.items())
    )
