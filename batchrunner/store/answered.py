"""The answered jobs of a run with what was asked and what it took, in flat memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from batchrunner.models import RunId
from batchrunner.store.choose import run_range
from batchrunner.store.codecs import GONE, codecs_of, plain_body
from batchrunner.store.database import Database
from batchrunner.store.runs import driver

__all__ = ["Answered", "Sent", "answered", "sent"]

#: Rows that are read at a time, so that no read keeps the log from being emptied.
_PAGE: Final = 1_000
_ROWS: Final = """
    SELECT j.id, j.key, m.name, p.codec, p.body, r.input_tokens, r.output_tokens, r.cost_usd
    FROM job j JOIN model m ON m.id = j.model_id JOIN payload p ON p.job_id = j.id
    JOIN response r ON r.job_id = j.id
    WHERE j.id > ? AND j.id < ? AND r.input_tokens IS NOT NULL ORDER BY j.id LIMIT ?"""
_SENT: Final = """
    SELECT min(sent_at), max(coalesce(ended_at, sent_at)) FROM send
    WHERE job_id > ? AND job_id < ? AND sent_at IS NOT NULL"""
#: In quarters of an hour: every zone's midnight is at the end of one.
_QUARTERS: Final = """
    SELECT DISTINCT sent_at / 900000 * 900000 FROM send
    WHERE job_id > ? AND job_id < ? AND sent_at IS NOT NULL"""


class Answered(NamedTuple):
    """One job and what its answers reported, over all tries."""

    model: str
    #: ``None``: it was pruned.
    body: bytes | None
    input_tokens: int
    output_tokens: int
    cost_usd: float | None


class Sent(NamedTuple):
    """When a run's requests went out; wall ms."""

    first: int
    #: The last answer.
    last: int
    #: Quarters of an hour in which something was sent.
    quarters: list[int]


def answered(db: Database, run_id: RunId) -> Iterator[Answered]:
    """Yield the jobs of a run whose answers said what they took, in input order."""
    after, high = run_range(run_id)
    while True:
        with db.read() as connection:
            conn = driver(connection)
            codecs = codecs_of(conn, run_id)
            rows = conn.execute(_ROWS, (after, high, _PAGE)).fetchall()
        for _, key, model, codec, stored, n_input, n_output, cost in rows:
            body = (
                None
                if codec == GONE
                else plain_body(codecs, codec, stored, part="request", key=key)
            )
            yield Answered(model, body, n_input, n_output or 0, cost)
        if len(rows) < _PAGE:
            return
        after = rows[-1][0]


def sent(db: Database, run_id: RunId) -> Sent | None:
    """Return when a run's requests went out; ``None``: none did."""
    with db.read() as connection:
        conn = driver(connection)
        first, last = conn.execute(_SENT, run_range(run_id)).fetchone()
        if first is None:
            return None
        quarters = conn.execute(_QUARTERS, run_range(run_id)).fetchall()
    return Sent(int(first), int(last), [int(at) for (at,) in quarters])
