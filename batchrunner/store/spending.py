"""What all runs of a database spent by UTC day: what answers cost, and what lost ones may have.

The former stands in ``usage_day``. What a request may have cost whose answer was lost (a crash, a
timeout) is a row of ``meta`` a day, which like it outlives its run. What one run's lost answers may have
cost is told from its sends, in whatever state their jobs are by now.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from batchrunner.core.budget import DAY_MS, UNITS, Budget, month_start, span
from batchrunner.models import JobId, ModelId, RunId
from batchrunner.store.asked import load_asked
from batchrunner.store.choose import run_range
from batchrunner.store.codecs import codecs_of, plain_body
from batchrunner.store.database import Database
from batchrunner.store.driver import DriverConnection
from batchrunner.store.records import Settle
from batchrunner.store.runs import driver
from batchrunner.views import BudgetView

__all__ = [
    "COUNT_LOST",
    "LostAnswer",
    "SaidPrices",
    "budget_views",
    "claimed_requests",
    "load_spending",
    "load_uncounted",
    "lost_answers",
    "lost_models",
    "lost_row",
    "lost_rows",
    "note_prices",
    "prices_key",
    "said_prices",
    "spending_since",
    "uncounted_row",
]

#: Before a day's number in ``meta.key``.
_KEY: Final = "lost:"
#: Before a day's number and a model's name: how many lost answers nobody knows a price of.
_UNCOUNTED: Final = "uncounted:"

#: What a person says of models' prices, by model.
SaidPrices = Mapping[str, Mapping[str, float | None]]

#: Takes what :func:`lost_row` returns.
COUNT_LOST: Final = (
    "INSERT INTO meta (key, value) VALUES (?, ?)"
    " ON CONFLICT (key) DO UPDATE SET value = CAST(CAST(meta.value AS DOUBLE PRECISION)"
    " + CAST(excluded.value AS DOUBLE PRECISION) AS TEXT)"
)

#: Sends that may have been acted on, their answer lost, and answers without a cost.
_LOST: Final = (
    " FROM send s JOIN job j ON j.id = s.job_id LEFT JOIN response r ON r.job_id = j.id{}"
    " WHERE s.job_id > ? AND s.job_id < ? AND (s.maybe_executed = 1"
    " OR (s.http_status BETWEEN 200 AND 299 AND r.cost_usd IS NULL))"
)


class LostAnswer(NamedTuple):
    """A request that may have been paid, and whose cost nobody knows."""

    model_id: ModelId
    key: str
    body: bytes
    #: Input and output tokens of an answer that came, of which only the price was unknown.
    tokens: tuple[int, int] | None = None


def lost_models(conn: DriverConnection, run_id: RunId) -> list[tuple[ModelId, str]]:
    """Return the models, with their names, that a run's lost answers were asked of."""
    rows = conn.execute(
        f"SELECT DISTINCT m.id, m.name{_LOST.format(' JOIN model m ON m.id = j.model_id')}",
        run_range(run_id),
    )
    found = {ModelId(model_id): name for model_id, name in rows}
    names = dict(conn.execute("SELECT id, name FROM model"))
    for kept in load_asked(conn, run_id).values():
        found |= {asked.model_id: names[asked.model_id] for asked in kept}
    return list(found.items())


def lost_answers(conn: DriverConnection, run_id: RunId) -> Iterator[LostAnswer]:
    """Yield each request of a run that may have been paid and whose cost nobody knows.

    Those of a job's answers that came are one: their tokens are stored as a sum.
    """
    codecs, asked = codecs_of(conn, run_id), load_asked(conn, run_id)
    rows = conn.execute(
        "SELECT j.model_id, j.key, p.body, p.codec, s.job_id, s.claim,"
        " CASE WHEN s.maybe_executed = 1 THEN NULL ELSE r.input_tokens END, r.output_tokens"
        + _LOST.format(" JOIN payload p ON p.job_id = j.id")
        + " ORDER BY s.job_id",
        run_range(run_id),
    )
    told = None
    for model, key, body, codec, job, claim, n_input, n_output in rows:
        if n_input is not None:
            if job == told:
                continue
            told = job
        tokens = None if n_input is None else (n_input, n_output or 0)
        then = next((one for one in asked.get(job, ()) if one.claims >= claim), None)
        if then is not None:
            yield LostAnswer(then.model_id, key, then.body, tokens)
        else:
            plain = plain_body(codecs, codec, body, part="request", key=key)
            yield LostAnswer(ModelId(model), key, plain, tokens)


def claimed_requests(
    conn: DriverConnection, run_id: RunId, *, is_shared: bool = False
) -> list[tuple[JobId, int | None, LostAnswer]]:
    """Return what a run has claimed and not settled: its answers may be lost, and paid, as well.

    ``is_shared``: with the worker that has claimed it.
    """
    codecs = codecs_of(conn, run_id)
    worker = "j.worker_id" if is_shared else "NULL"
    rows = conn.execute(
        f"SELECT j.id, {worker}, j.model_id, j.key, p.body, p.codec FROM job j INDEXED BY job_running"  # noqa: S608 (constants)
        " JOIN payload p ON p.job_id = j.id WHERE j.run_id = ? AND j.state = 'running'",
        (run_id,),
    )
    return [
        (
            JobId(job),
            worker_id,
            LostAnswer(
                ModelId(model), key, plain_body(codecs, codec, body, part="request", key=key)
            ),
        )
        for job, worker_id, model, key, body, codec in rows
    ]


def lost_row(at: float, dollars: float) -> tuple[str, str]:
    """Return the row that counts a lost answer to a request of ``at`` (wall)."""
    # As wide as any day, so that they are in order.
    return f"{_KEY}{int(at // DAY_MS):08}", repr(dollars)


def lost_rows(settles: Iterable[Settle]) -> list[tuple[str, str]]:
    """Return the rows that count the answers that these lost, priced or not, in the order of their keys.

    Workers write the same rows: in one order none waits for one that waits for it.
    """
    return sorted(
        lost_row(at, s.lost_usd) if s.lost_usd else uncounted_row(at, s.uncounted or "")
        for s in settles
        if s.lost_usd or s.uncounted
        for at in (s.sent_at or s.ended_at or 0,)
    )


def uncounted_row(at: float, model: str) -> tuple[str, str]:
    """Return the row that counts a lost answer to a request of ``at`` (wall) that nobody can price."""
    return f"{_UNCOUNTED}{int(at // DAY_MS):08}:{model}", "1"


def load_uncounted(conn: DriverConnection, wall: float) -> dict[str, int]:
    """Return by model how many answers were lost in the month of ``wall`` that nobody can price."""
    n_of = defaultdict[str, int](int)
    for key, n in conn.execute(
        "SELECT key, CAST(value AS BIGINT) FROM meta WHERE key >= ? AND key < ?",
        (f"{_UNCOUNTED}{month_start(wall) // DAY_MS:08}", f"{_UNCOUNTED[:-1]};"),
    ):
        n_of[key.split(":", 2)[2]] += n
    return n_of


def prices_key(run_id: RunId) -> str:
    """Return under which key of ``meta`` the prices are that were said where a run is sent."""
    return f"prices.{run_id}"


def note_prices(conn: DriverConnection, run_id: RunId, said: SaidPrices | None) -> None:
    """Keep the prices that are said where a run is sent, for whoever rescues what a death leaves of it."""
    if said:
        conn.execute(
            "INSERT INTO meta (key, value) VALUES (?, ?)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (prices_key(run_id), json.dumps(said)),
        )
    else:
        conn.execute("DELETE FROM meta WHERE key = ?", (prices_key(run_id),))


def said_prices(conn: DriverConnection, run_id: RunId) -> SaidPrices:
    """Return the prices that were said where a run was last sent."""
    row = conn.execute("SELECT value FROM meta WHERE key = ?", (prices_key(run_id),)).fetchone()
    return {} if row is None else dict(json.loads(row[0]))


def load_spending(conn: DriverConnection, wall: float) -> dict[int, float]:
    """Return what was spent, by days since the epoch, in the month of ``wall`` and later."""
    return spending_since(conn, month_start(wall) // DAY_MS)


def spending_since(conn: DriverConnection, first: int) -> dict[int, float]:
    """Return what was spent, by days since the epoch, from ``first`` on."""
    known, lost = _by_day(conn, first)
    return {day: known[day] + lost[day] for day in {*known, *lost}}


def _by_day(
    conn: DriverConnection, first: int
) -> tuple[defaultdict[int, float], defaultdict[int, float]]:
    """Return what answers cost, and what lost ones may have, from that day on."""
    known, lost = defaultdict[int, float](float), defaultdict[int, float](float)
    known.update(
        conn.execute(
            "SELECT day, sum(cost_usd) FROM usage_day WHERE day >= ? AND cost_usd IS NOT NULL"
            " GROUP BY day",
            (first,),
        )
    )
    for key, dollars in conn.execute(
        "SELECT key, CAST(value AS DOUBLE PRECISION) FROM meta WHERE key >= ? AND key < ?",
        (f"{_KEY}{first:08}", f"{_KEY[:-1]};"),
    ):
        lost[int(key.removeprefix(_KEY))] = dollars
    return known, lost


def budget_views(db: Database | None, budget: Budget, *, now_ms: int) -> list[BudgetView]:
    """Return what is spent and left of each bound of a budget; without a database all is left."""
    known, lost = defaultdict[int, float](float), defaultdict[int, float](float)
    if db is not None:
        with db.read() as connection:
            known, lost = _by_day(driver(connection), month_start(now_ms) // DAY_MS)
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
