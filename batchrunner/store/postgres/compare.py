"""Comparing new content with a run's, where no function of ours runs inside the database.

Bodies that are plain on both sides are compared there; of others the pairs come here in pages.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from batchrunner.models import RunId
from batchrunner.store.choose import run_range
from batchrunner.store.codecs import GONE, codecs_of, plain_body
from batchrunner.store.driver import DriverConnection

__all__ = ["compared"]

_PAGE: Final = 500
_PAIRS: Final = """
    FROM job k JOIN job j ON j.run_id = ?1 AND j.key = k.key
    JOIN payload n ON n.job_id = k.id JOIN payload p ON p.job_id = j.id
    WHERE k.id > ?2 AND k.id < ?3"""
_COMPRESSED: Final = f"""
    SELECT k.id, j.id, k.key, p.codec, p.body, n.codec, n.body {_PAIRS}
      AND p.codec IS DISTINCT FROM {GONE} AND (p.codec IS NOT NULL OR n.codec IS NOT NULL)
    ORDER BY k.id LIMIT ?4"""  # noqa: S608 (constants)
_COMPARE: Final = f"""
    WITH differing AS (SELECT value::bigint AS id FROM json_array_elements_text(?6::json) AS e(value)),
    matched AS (
        SELECT j.state, j.key,
               CASE WHEN p.codec = {GONE} THEN j.state != 'completed' ELSE
               p.method IS DISTINCT FROM n.method OR p.url IS DISTINCT FROM n.url
               OR p.headers IS DISTINCT FROM n.headers OR p.metadata IS DISTINCT FROM n.metadata
               OR (p.codec IS NULL AND n.codec IS NULL AND p.body != n.body)
               OR j.id IN (SELECT id FROM differing) END AS differs
        {_PAIRS}
    )
    SELECT count(*), count(*) FILTER (WHERE differs),
           count(*) FILTER (WHERE differs AND state = 'completed'),
           count(*) FILTER (WHERE differs AND state = 'completed' AND key ~ '^line-[0-9]'),
           (SELECT count(*) FROM job WHERE id > ?2 AND id < ?3),
           (SELECT count(*) FROM job WHERE id > ?4 AND id < ?5)
    FROM matched"""  # noqa: S608 (constants)


def compared(conn: DriverConnection, run_id: RunId, loading_run_id: RunId) -> Any:
    """Return what ``merge`` counts: matched, changed, of these completed, shifted, new, old."""
    differing = msgspec.json.encode(_differing(conn, run_id, loading_run_id)).decode()
    return conn.execute(
        _COMPARE, (run_id, *run_range(loading_run_id), *run_range(run_id), differing)
    ).fetchone()


def _differing(conn: DriverConnection, run_id: RunId, loading_run_id: RunId) -> list[int]:
    """Return the jobs of the run whose body differs, where one side is compressed."""
    codecs = codecs_of(conn, run_id) | codecs_of(conn, loading_run_id)
    found: list[int] = []
    if not codecs:
        return found
    after, high = run_range(loading_run_id)
    while rows := conn.execute(_COMPRESSED, (run_id, after, high, _PAGE)).fetchall():
        for _, job, key, codec, body, new_codec, new_body in rows:
            old = plain_body(codecs, codec, body, part="request", key=key)
            if old != plain_body(codecs, new_codec, new_body, part="request", key=key):
                found.append(job)
        after = rows[-1][0]
    return found
