"""What was used day by day, from counters that outlive the runs.

A day is UTC's here, whatever zone a limit's day has: so a row never changes with a setting. What a
limit counts is told by :mod:`batchrunner.store.limits`. Rows of days are read, never jobs or sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final, NamedTuple

from batchrunner.core.time_use import WAITS, kind_of
from batchrunner.errors import UsageError
from batchrunner.models import RunId
from batchrunner.store.database import Database
from batchrunner.store.driver import Connection
from batchrunner.views import UsageView

__all__ = ["GROUPINGS", "Chosen", "usage"]

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
#: Tokens that answers tell, by the names of the view's fields → those without which they are unknown.
_TOKENS: Final[Mapping[str, str]] = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "input_tokens",
    "cache_write_tokens": "input_tokens",
}
_COUNTERS: Final = ("requests", "rate_limited", *_TOKENS)
#: Sums of a day that may be unknown too.
_DOLLARS: Final = ("cost_usd", "cache_saved_usd")
_SUMS: Final = (*_COUNTERS, *_DOLLARS)
_OF_ACCOUNT: Final = "JOIN scope s ON s.id = u.account_id LEFT JOIN run r ON r.id = u.run_id"


def _sum(name: str) -> str:
    """Return the expression of a sum; that of tokens is unknown where no answer told any.

    A day's counters begin at 0, a run's own at nothing: so 0 that an answer told is known of its run.
    """
    told = _TOKENS.get(name)
    if told is None:
        return f"sum(u.{name}) AS {name}"
    return (
        f"CASE WHEN sum(u.{told}) > 0 OR sum(CASE WHEN r.{told} = 0 THEN 1 ELSE 0 END) > 0"
        " OR sum(u.requests) = 0"
        f" THEN sum(u.{name}) END AS {name}"
    )


_USED: Final = f"""
    SELECT {{keys}}, {", ".join(map(_sum, _SUMS))}
    FROM usage_day u JOIN model m ON m.id = u.model_id {_OF_ACCOUNT}
    WHERE {{chosen}} GROUP BY {{places}}"""  # noqa: S608 (constants)
_TIME: Final = f"""
    SELECT {{keys}}, u.cause, sum(u.ms) AS ms FROM time_day u {_OF_ACCOUNT}
    WHERE {{chosen}} GROUP BY {{places}}, u.cause ORDER BY ms DESC"""  # noqa: S608 (constants)


class Chosen(NamedTuple):
    """What usage is asked for; ``None``: all of it."""

    #: Leaves out the UTC days before it.
    since: date | None = None
    run: RunId | None = None
    model: str | None = None


EVERYTHING: Final = Chosen()


def usage(db: Database, by: Sequence[str], chosen: Chosen = EVERYTHING) -> list[UsageView]:
    """Return what was used by ``by`` (names of :data:`GROUPINGS`), in their order.

    Tokens are ``None`` where no answer told any. A day in which a run only waited is a row too. Raises
    :class:`UsageError` for a model that nothing was sent to.
    """
    with db.read() as connection:
        if chosen.model is not None:
            _refuse_unknown_model(connection, chosen.model)
        rows = {
            _key(row, by): {name: row[name] for name in _SUMS}
            for row in _rows(connection, _USED, by, chosen, has_model=True)
        }
        waits: dict[tuple[Any, ...], dict[str, float]] | None = None
        if "model" not in by and chosen.model is None:
            waits = {}
            for row in _rows(connection, _TIME, by, chosen, has_model=False):
                if kind_of(row["cause"]) in WAITS:
                    waits.setdefault(_key(row, by), {})[row["cause"]] = row["ms"] / 1000.0
    nothing = {**dict.fromkeys(_COUNTERS, 0), **dict.fromkeys(_DOLLARS)}
    return [
        UsageView(
            **_named(key, by),
            **rows.get(key, nothing),
            waits=None if waits is None else waits.get(key, {}),
        )
        for key in sorted({*rows, *(waits or ())})
    ]


def _rows(
    connection: Connection, statement: str, by: Sequence[str], chosen: Chosen, *, has_model: bool
) -> Iterable[Any]:
    """Return the rows of a statement, its keys named, its conditions filled in."""
    conditions: list[tuple[str, object]] = [
        ("u.day >= ?", 0 if chosen.since is None else (chosen.since - _EPOCH).days)
    ]
    if chosen.run is not None:
        conditions.append(("u.run_id = ?", chosen.run))
    if has_model and chosen.model is not None:
        conditions.append(("m.name = ?", chosen.model))
    return connection.exec_driver_sql(
        statement.format(
            keys=", ".join(f"{GROUPINGS[name]} AS {name}" for name in by),
            chosen=" AND ".join(condition for condition, _ in conditions),
            places=", ".join(str(number) for number in range(1, len(by) + 1)),
        ),
        tuple(value for _, value in conditions),
    ).mappings()


def _key(row: Mapping[str, Any], by: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[name] for name in by)


def _named(key: tuple[Any, ...], by: Sequence[str]) -> dict[str, Any]:
    named = dict(zip(by, key, strict=True))
    if "day" in named:
        named["day"] = (_EPOCH + timedelta(days=int(named["day"]))).isoformat()
    return named


def _refuse_unknown_model(connection: Connection, model: str) -> None:
    names = list(
        connection.exec_driver_sql(
            "SELECT DISTINCT m.name FROM usage_day u JOIN model m ON m.id = u.model_id"
            " WHERE m.name != '' ORDER BY 1"
        ).scalars()
    )
    if model not in names:
        raise UsageError(
            f"Nothing was sent to a model {model!r}.",
            fix=f"There was to: {', '.join(names)}." if names else "Nothing was sent to any yet.",
        )
