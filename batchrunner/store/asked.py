"""Requests as they went out, where others took their place and nobody knows what their answers cost.

``--set`` and ``--update`` replace the requests of jobs that are to be sent again. What a lost answer may
have cost is told from what was asked then: that stays, as a row of ``meta`` a job and the claims it had.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from batchrunner.models import JobId, ModelId, RunId
from batchrunner.store.choose import run_range
from batchrunner.store.codecs import GONE, codecs_of, plain_body
from batchrunner.store.driver import DriverConnection

__all__ = ["Asked", "forget_asked", "keep_asked", "load_asked"]

#: Before a job's id and its claims, both as wide as any, in ``meta.key``.
_KEY: Final = "asked."
_LEAD: Final = len(_KEY)


class Asked(NamedTuple):
    """What a job's claims up to :attr:`claims` asked for."""

    claims: int
    model_id: ModelId
    body: bytes


def keep_asked(conn: DriverConnection, run_id: RunId, ids: Sequence[int]) -> None:
    """Keep what those of these jobs asked for that may have been paid; others are about to be written."""
    rows = conn.execute(
        "SELECT j.id, j.claims, j.model_id, j.key, p.codec, p.body FROM job j"
        " JOIN payload p ON p.job_id = j.id WHERE j.id IN (SELECT value FROM json_each(?))"
        " AND p.codec IS NOT ? AND EXISTS (SELECT 1 FROM send s WHERE s.job_id = j.id"
        " AND (s.maybe_executed = 1 OR s.http_status BETWEEN 200 AND 299))",
        (json.dumps(list(ids)), GONE),
    ).fetchall()
    codecs = codecs_of(conn, run_id) if rows else {}
    conn.executemany(
        # At the same count of claims the first is the one that went out.
        "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO NOTHING",
        [
            (
                f"{_KEY}{job:020}.{claims:010}",
                json.dumps(
                    [model, plain_body(codecs, codec, body, part="request", key=key).decode()]
                ),
            )
            for job, claims, model, key, codec, body in rows
        ],
    )


def _between(run_id: RunId) -> tuple[str, str]:
    low, high = run_range(run_id)
    return f"{_KEY}{low:020}", f"{_KEY}{high:020}"


def load_asked(conn: DriverConnection, run_id: RunId) -> Mapping[JobId, Sequence[Asked]]:
    """Return what was kept of a run, by job, the earliest first."""
    kept: dict[JobId, list[Asked]] = {}
    for key, value in conn.execute(
        "SELECT key, value FROM meta WHERE key > ? AND key < ? ORDER BY key", _between(run_id)
    ):
        job, claims = key[_LEAD:].split(".")
        model, body = json.loads(value)
        kept.setdefault(JobId(int(job)), []).append(
            Asked(int(claims), ModelId(model), body.encode())
        )
    return kept


def forget_asked(conn: DriverConnection, run_id: RunId) -> None:
    """Delete what was kept of a run."""
    conn.execute("DELETE FROM meta WHERE key > ? AND key < ?", _between(run_id))
