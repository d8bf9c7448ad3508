"""What people are shown of the database, as values of :mod:`batchrunner.views`.

Counters, never a count: a view of a run costs the same whatever its size. Jobs are read in pages,
each a short read of its own, so that a slow reader holds nothing up.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from batchrunner.errors import UsageError
from batchrunner.models import RunId, Waiting, WaitingReason
from batchrunner.options import TAGS, JobFilter
from batchrunner.store.choose import JOB, PAYLOAD, RESPONSE, chosen
from batchrunner.store.codecs import GONE, codecs_of, plain_body
from batchrunner.store.database import Database
from batchrunner.store.driver import Connection
from batchrunner.store.limits import (
    DayZone,
    limits,
    limits_of_account,
    requests_in_last_minute,
    utc,
)
from batchrunner.store.runs import StoredRun, all_runs, driver, find_run, runner_of, state_of
from batchrunner.views import (
    JobDetail,
    JobView,
    RequestCounts,
    RunView,
    SendView,
)

__all__ = ["find_run", "jobs", "limits", "run_view", "runs", "show", "status"]

#: The text of an answer: (response body, the job's path or ``None``) → text.
OutputText = Callable[[bytes, str | None], str | None]
_PAGE: Final = 500
#: Bodies of a page are no larger together, but for the last few jobs.
_PAGE_BYTES: Final = 16 * 1024 * 1024
_PART: Final = 16

# Runs


def runs(db: Database, *, now_ms: int, day_zone: DayZone = utc) -> list[RunView]:
    """Return every run, newest first."""
    with db.read() as connection:
        found = all_runs(connection)
        workers = db.workers(connection, [run.id for run in found])
        return [
            replace(
                run_view(connection, db, run, now_ms=now_ms, day_zone=day_zone),
                workers=workers.of(run.id),
            )
            for run in found
        ]


def status(db: Database, name: str | None, *, now_ms: int, day_zone: DayZone = utc) -> RunView:
    """Return one run by name or id; ``None``: the latest. Raises :class:`UsageError`."""
    run = find_run(db, name)
    with db.read() as connection:
        view = run_view(connection, db, run, now_ms=now_ms, day_zone=day_zone)
        return replace(view, workers=db.workers(connection, [run.id]).of(run.id))


def run_view(
    connection: Connection,
    db: Database,
    run: StoredRun,
    *,
    now_ms: int,
    day_zone: DayZone = utc,
) -> RunView:
    """Return a run as it stands, live state told from locks; of a queue's workers nothing."""
    runner = runner_of(connection, db, run)
    in_force = (
        limits_of_account(connection, run.account_id, now_ms, day_zone) if run.account_id else []
    )
    pace = None
    if runner is not None and run.account_id is not None:
        pace = float(requests_in_last_minute(connection, run.account_id, now_ms))
    return RunView(
        id=run.uid,
        name=run.name,
        state=state_of(run, is_live=runner is not None),
        provider=run.provider,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
        runner=runner,
        tags=tuple(msgspec.json.decode(run.options).get(TAGS) or ()),
        jobs=run.counts,
        requests=RequestCounts(
            sent=run.n_sent,
            retried=run.n_retried,
            rate_limited=run.n_rate_limited,
            interrupted=run.n_interrupted,
        ),
        waiting=_waiting(run),
        limits=in_force,
        input_tokens=run.input_tokens,
        output_tokens=run.output_tokens,
        cost_usd=run.cost_usd,
        requests_per_minute=pace,
        eta=_eta(run, pace, now_ms),
        holds=_holds(connection, run.id),
        maybe_executed=run.n_interrupted,
        n_rejected=run.n_rejected,
    )


def _waiting(run: StoredRun) -> Waiting | None:
    if run.stop_reason is None:
        return None
    return Waiting(
        reason=WaitingReason(run.stop_reason),
        until=run.stop_until,
        detail=run.stop_detail or "",
        fix=run.stop_fix or "",
    )


def _holds(connection: Connection, run_id: RunId) -> dict[str, str]:
    rows = connection.exec_driver_sql(
        "SELECT m.name, h.message FROM hold h JOIN model m ON m.id = h.model_id"
        " WHERE h.run_id = ? ORDER BY m.name",
        (run_id,),
    )
    return {row.name: row.message for row in rows}


def _eta(run: StoredRun, pace: float | None, now_ms: int) -> int | None:
    left = run.counts.pending + run.counts.running
    if not pace or not left:
        return None
    start = max(now_ms, run.stop_until or 0)
    return start + int(left / pace * 60_000)


# Jobs


_COLUMNS: Final = (
    JOB.c.id,
    JOB.c.key,
    JOB.c.state,
    JOB.c.attempts,
    JOB.c.error_kind,
    JOB.c.finished_at,
    RESPONSE.c.http_status,
    RESPONSE.c.error_message,
    RESPONSE.c.model,
    RESPONSE.c.finish_reason,
    RESPONSE.c.input_tokens,
    RESPONSE.c.output_tokens,
    RESPONSE.c.cost_usd,
    RESPONSE.c.latency_ms,
    RESPONSE.c.request_id,
    RESPONSE.c.body.label("response"),
    RESPONSE.c.codec.label("response_codec"),
    PAYLOAD.c.shape,
    PAYLOAD.c.method,
    PAYLOAD.c.url,
    PAYLOAD.c.headers,
    PAYLOAD.c.body.label("request"),
    PAYLOAD.c.codec.label("request_codec"),
    PAYLOAD.c.metadata,
    sa.literal_column("(SELECT name FROM model WHERE model.id = job.model_id)", sa.String).label(
        "asked_model"
    ),
    # The primary key of the send log begins with the job, so that this is one look-up.
    sa.literal_column(
        "(SELECT coalesce(s.sent_at, s.planned_at) FROM send s WHERE s.job_id = job.id"
        " ORDER BY s.claim LIMIT 1)",
        sa.Integer,
    ).label("started_at"),
)
_SOURCE: Final = JOB.join(PAYLOAD, PAYLOAD.c.job_id == JOB.c.id).outerjoin(
    RESPONSE, RESPONSE.c.job_id == JOB.c.id
)


def job_rows(db: Database, run_id: RunId, jobs: JobFilter, *, page: int = _PAGE) -> Iterator[Any]:
    """Yield the chosen jobs with request and response, in input order, a page a read.

    A page is as many jobs as are asked for, or fewer whose bodies are as large as memory should hold.
    """
    after, left = 0, jobs.limit
    while left is None or left > 0:
        statement = (
            sa.select(*_COLUMNS)
            .select_from(_SOURCE)
            .where(*chosen(run_id, jobs, after=after))
            .order_by(JOB.c.id)
            .limit(page if left is None else min(page, left))
        )
        with db.read() as connection:
            rows = _page(connection.execute(statement))
            codecs = codecs_of(driver(connection), run_id)
        if not rows:
            return
        is_plain = not codecs and all(row.request_codec is None for row in rows)
        yield from rows if is_plain else (_plain_row(row, codecs) for row in rows)
        after = rows[-1].id
        left = None if left is None else left - len(rows)


def _page(result: sa.Result[*tuple[Any, ...]]) -> Sequence[Any]:
    """Return the rows of a result up to a bound of bytes; the rest is left for the next read."""
    rows: list[Any] = []
    n_bytes = 0
    with result:
        for some in result.partitions(_PART):
            rows += some
            n_bytes += sum(len(row.request or b"") + len(row.response or b"") for row in some)
            if n_bytes >= _PAGE_BYTES:
                break
    return rows


def _plain_row(row: Any, codecs: Mapping[int, bytes]) -> Any:
    """Return a row with its bodies as they were, with none where they were pruned."""
    if row.request_codec is None and row.response_codec is None:
        return row
    if row.request_codec == GONE:
        return SimpleNamespace(**{**row._asdict(), "request": None, "response": None})
    request = plain_body(codecs, row.request_codec, row.request, part="request", key=row.key)
    response = plain_body(codecs, row.response_codec, row.response, part="response", key=row.key)
    return SimpleNamespace(**{**row._asdict(), "request": request, "response": response})


def job_view(row: Any, output_text: OutputText | None) -> JobView:
    """Make the values of the export's columns of a row of :func:`job_rows`."""
    text = None
    if output_text is not None and row.state == "completed" and row.response is not None:
        text = output_text(row.response, row.url)
    return JobView(
        key=row.key,
        status=row.state,
        attempts=row.attempts,
        http_status=row.http_status,
        error_kind=row.error_kind,
        error_message=row.error_message if row.state != "completed" else None,
        model=row.model or row.asked_model or None,
        output_text=text,
        finish_reason=row.finish_reason,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cost_usd=row.cost_usd,
        latency_ms=row.latency_ms,
        request_id=row.request_id,
        started_at=row.started_at,
        finished_at=row.finished_at,
        metadata=row.metadata,
    )


def jobs(
    db: Database, run: StoredRun, jobs: JobFilter, output_text: OutputText | None = None
) -> Iterator[JobView]:
    """Yield the chosen jobs of a run in input order."""
    for row in job_rows(db, run.id, jobs):
        yield job_view(row, output_text)


def show(
    db: Database, run: StoredRun, key: str, output_text: OutputText | None = None
) -> JobDetail:
    """Return one job whole. Raises :class:`UsageError` where the run has none of this key."""
    row = next(job_rows(db, run.id, JobFilter(keys=(key,))), None)
    if row is None:
        raise UsageError(
            f"Run {run.name} has no job {key!r}.",
            fix=f"`batchrunner jobs {shlex.quote(run.name)}` lists them.",
        )
    with db.read() as connection:
        sends = connection.exec_driver_sql(
            "SELECT claim, planned_at, sent_at, ended_at, outcome, kind, http_status, request_id,"
            " message, maybe_executed FROM send WHERE job_id = ? ORDER BY claim",
            (row.id,),
        ).mappings()
        log = [
            SendView(**{**send, "maybe_executed": bool(send["maybe_executed"])}) for send in sends
        ]
        held = connection.exec_driver_sql(
            "SELECT not_before, wait_reason FROM job WHERE id = ?", (row.id,)
        ).one()
    return JobDetail(
        job=job_view(row, output_text),
        method=row.method or "POST",
        url=row.url,
        request=row.request,
        response=row.response,
        sends=log,
        # One of a sample is due from the start.
        not_before=held.not_before if held.not_before > 1 else None,
        wait_reason=held.wait_reason,
        is_pruned=row.request_codec == GONE,
    )
