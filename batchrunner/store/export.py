"""The jobs of a run with their requests and answers, for export: in input order, in flat memory.

Pages by key range in short reads, so that an export of any size, however slowly it is written,
keeps no transaction open and the log can be emptied meanwhile. A job may therefore be shown as it
stood at the moment its page was read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec
import sqlalchemy as sa

from batchrunner.models import RunId, Shape
from batchrunner.options import JobFilter
from batchrunner.store.choose import JOB, PAYLOAD, chosen, run_range
from batchrunner.store.database import Database
from batchrunner.store.views import OutputText, job_rows, job_view
from batchrunner.views import JobView

__all__ = ["ExportedJob", "export_rows", "metadata_names"]

_PAGE: Final = 500
_METADATA_PAGE: Final = 5_000


class ExportedJob(NamedTuple):
    """One job as an export wants it; the fields of the formats' ``ExportRow``."""

    job: JobView
    request: bytes | None
    response: bytes | None
    method: str | None
    url: str | None
    headers: bytes | None
    shape: Shape


def export_rows(
    db: Database, run_id: RunId, jobs: JobFilter, output_text: OutputText | None
) -> Iterator[ExportedJob]:
    """Yield the chosen jobs of a run in input order."""
    for row in job_rows(db, run_id, jobs, page=_PAGE):
        yield ExportedJob(
            job_view(row, output_text),
            row.request,
            row.response,
            row.method,
            row.url,
            row.headers,
            Shape(row.shape),
        )


def metadata_names(db: Database, run_id: RunId, jobs: JobFilter) -> list[str]:
    """Return the names of the chosen jobs' metadata fields, in first-seen order."""
    names: dict[str, None] = {}
    for metadata in _metadata(db, run_id, jobs):
        names.update(dict.fromkeys(msgspec.json.decode(metadata, type=dict[str, msgspec.Raw])))
    return list(names)


def _metadata(db: Database, run_id: RunId, jobs: JobFilter) -> Iterator[bytes]:
    if not _has_metadata(db, run_id):
        return
    after, left = 0, jobs.limit
    while left is None or left > 0:
        size = _METADATA_PAGE if left is None else min(_METADATA_PAGE, left)
        statement = (
            sa.select(JOB.c.id, PAYLOAD.c.metadata)
            .select_from(JOB.join(PAYLOAD, PAYLOAD.c.job_id == JOB.c.id))
            .where(*chosen(run_id, jobs, after=after))
            .order_by(JOB.c.id)
            .limit(size)
        )
        with db.read() as connection:
            rows = connection.execute(statement).all()
        if not rows:
            return
        yield from (row.metadata for row in rows if row.metadata is not None)
        after = rows[-1].id
        left = None if left is None else left - len(rows)


def _has_metadata(db: Database, run_id: RunId) -> bool:
    """Tell whether any job has some; stops at the first that does."""
    with db.read() as connection:
        found = connection.exec_driver_sql(
            "SELECT 1 FROM payload WHERE job_id > ? AND job_id < ? AND metadata IS NOT NULL LIMIT 1",
            run_range(run_id),
        ).first()
        return found is not None
