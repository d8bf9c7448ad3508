"""What all runs of a database spent by UTC day: what answers cost, and what lost ones may have.

The former stands in ``usage_day``. What a request may have cost whose answer was lost (a crash, a
timeout) is a row of ``meta`` a day, which like it outlives its run.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from batchrunner.core.budget import DAY_MS, UNITS, Budget, month_start, span
from batchrunner.store.database import Database
from batchrunner.store.records import Settle
from batchrunner.store.runs import driver
from batchrunner.views import BudgetView

__all__ = ["COUNT_LOST", "budget_views", "load_spending", "lost_row", "lost_rows"]

#: Before a day's number in ``meta.key``.
_KEY: Final = "lost:"

#: Takes what :func:`lost_row` returns.
COUNT_LOST: Final = (
    "INSERT INTO meta (key, value) VALUES (?, ?)"
    " ON CONFLICT DO UPDATE SET value = value + excluded.value"
)


def lost_row(at: float, dollars: float) -> tuple[str, str]:
    """Return the row that counts a lost answer to a request of ``at`` (wall)."""
    # As wide as any day, so that they are in order.
    return f"{_KEY}{int(at // DAY_MS):08}", repr(dollars)


def lost_rows(settles: Iterable[Settle]) -> list[tuple[str, str]]:
    """Return the rows that count the answers that these lost."""
    return [lost_row(s.sent_at or s.ended_at or 0, s.lost_usd) for s in settles if s.lost_usd]


def load_spending(conn: sqlite3.Connection, wall: float) -> dict[int, float]:
    """Return what was spent, by days since the epoch, in the month of ``wall`` and later."""
    known, lost = _by_day(conn, wall)
    return {day: known[day] + lost[day] for day in {*known, *lost}}


def _by_day(
    conn: sqlite3.Connection, wall: float
) -> tuple[defaultdict[int, float], defaultdict[int, float]]:
    """Return what answers cost, and what lost ones may have."""
    first = month_start(wall) // DAY_MS
    known, lost = defaultdict[int, float](float), defaultdict[int, float](float)
    known.update(
        conn.execute(
            "SELECT day, sum(cost_usd) FROM usage_day WHERE day >= ? AND cost_usd IS NOT NULL"
            " GROUP BY day",
            (first,),
        )
    )
    for key, dollars in conn.execute(
        "SELECT key, CAST(value AS REAL) FROM meta WHERE key >= ? AND key < ?",
        (f"{_KEY}{first:08}", f"{_KEY[:-1]};"),
    ):
        lost[int(key.removeprefix(_KEY))] = dollars
    return known, lost


def budget_views(db: Database | None, budget: Budget, *, now_ms: int) -> list[BudgetView]:
    """Return what is spent and left of each bound of a budget; without a database all is left."""
    known, lost = defaultdict[int, float](float), defaultdict[int, float](float)
    if db is not None:
        with db.read() as connection:
            known, lost = _by_day(driver(connection), now_ms)
    views = []
    for unit in UNITS:
        amount = getattr(budget, unit)
        if amount is None:
            continue
        first, last = span(unit, now_ms)
        days = range(first // DAY_MS, last // DAY_MS)
        spent, maybe = (sum(sums[day] for day in days if day in sums) for sums in (known, lost))
        views.append(
            BudgetView(
                unit=unit,
                amount_usd=amount,
                spent_usd=spent,
                lost_usd=maybe,
                left_usd=max(0.0, amount - spent - maybe),
                resets_at=last,
            )
        )
    return views
