"""A :class:`~batchrunner.options.JobFilter` as SQL, the same for views, exports and ``retry``."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from batchrunner.models import RunId
from batchrunner.options import JobFilter

__all__ = ["JOB", "PAYLOAD", "RESPONSE", "chosen", "run_range"]


def _table(name: str, columns: str) -> sa.TableClause:
    return sa.table(name, *(sa.column(column) for column in columns.split()))


JOB: Final = _table(
    "job",
    "id run_id key model_id state not_before wait_reason attempts claims claimed_at finished_at"
    " error_kind start",
)
PAYLOAD: Final = _table("payload", "job_id shape method url headers body metadata codec")
RESPONSE: Final = _table(
    "response",
    "job_id http_status error_message model finish_reason input_tokens output_tokens cost_usd"
    " latency_ms request_id body codec",
)

#: Jobs of a run are one range of ids.
_RUN_SPAN: Final = 1 << 32


def run_range(run_id: RunId) -> tuple[int, int]:
    """Return the ids between which, both excluded, a run's jobs lie."""
    return run_id * _RUN_SPAN, (run_id + 1) * _RUN_SPAN


def chosen(run_id: RunId, jobs: JobFilter, *, after: int = 0) -> list[sa.ColumnElement[bool]]:
    """Return the conditions on :data:`JOB` that choose a run's jobs; ``limit`` is the caller's.

    ``after`` is the last id of the page before. It must not be a condition of its own: of two lower
    bounds SQLite searches by the first, and would read every page before again.
    """
    low, high = run_range(run_id)
    conditions = [JOB.c.id > max(low, after), JOB.c.id < high]
    if jobs.statuses:
        conditions.append(JOB.c.state.in_(jobs.statuses))
    if jobs.errors:
        conditions.append(JOB.c.error_kind.in_(jobs.errors))
    if jobs.keys:
        conditions += [JOB.c.run_id == run_id, JOB.c.key.in_(jobs.keys)]
    return conditions
