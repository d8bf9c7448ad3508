"""What was used day by day, from counters that outlive the runs.

A day is UTC's here, whatever zone a limit's day has: so a row never changes with a setting. What a
limit counts is told by :mod:`batchrunner.store.limits`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Final

from batchrunner.store.database import Database
from batchrunner.views import UsageView

__all__ = ["GROUPINGS", "usage"]

#: What rows can be told apart by → the expression.
GROUPINGS: Final[Mapping[str, str]] = {
    "day": "u.day",
    "model": "m.name",
    # A run that is gone keeps its usage.
    "run": "coalesce(r.name, '(deleted)')",
    "account": "coalesce(s.organization, s.key)",
    "provider": "s.provider",
}
_EPOCH: Final = date(1970, 1, 1)


def usage(db: Database, by: Sequence[str], *, since: date | None = None) -> list[UsageView]:
    """Return requests and tokens by ``by`` (names of :data:`GROUPINGS`), oldest day first.

    ``since`` leaves out the UTC days before it. Tokens are 0 where answers named none.
    """
    keys = ", ".join(f"{GROUPINGS[name]} AS {name}" for name in by)
    order = ", ".join(str(number) for number in range(1, len(by) + 1))
    with db.read() as connection:
        rows = connection.exec_driver_sql(
            f"SELECT {keys}, sum(u.requests) AS requests, sum(u.rate_limited) AS rate_limited,"  # noqa: S608 (constants)
            " sum(u.input_tokens) AS input_tokens, sum(u.output_tokens) AS output_tokens,"
            " sum(u.cost_usd) AS cost_usd, sum(u.cache_read_tokens) AS cache_read_tokens,"
            " sum(u.cache_write_tokens) AS cache_write_tokens,"
            " sum(u.cache_saved_usd) AS cache_saved_usd"
            " FROM usage_day u JOIN model m ON m.id = u.model_id JOIN scope s ON s.id = u.account_id"
            f" LEFT JOIN run r ON r.id = u.run_id WHERE u.day >= ? GROUP BY {order} ORDER BY {order}",
            (0 if since is None else (since - _EPOCH).days,),
        ).mappings()
        return [_view(dict(row)) for row in rows]


def _view(row: dict[str, object]) -> UsageView:
    if "day" in row:
        row["day"] = (_EPOCH + timedelta(days=int(str(row["day"])))).isoformat()
    return UsageView(**row)  # type: ignore[arg-type] # the names of the columns are its fields
