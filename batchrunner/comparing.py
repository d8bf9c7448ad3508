"""A run's forecast beside what it took: what ``plan`` would have said before its first request.

The forecast is made again from the stored requests and from what was known when the run first began
(:mod:`batchrunner.store.begun`): limits, what was used of them, how fast answers came, what earlier
answers had taught of tokens. It is of the jobs that are answered, so that like is compared with like.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from zoneinfo import ZoneInfo

from batchrunner.config import Config
from batchrunner.core.counting import Counting
from batchrunner.core.tokens import Seen
from batchrunner.errors import UsageError
from batchrunner.layout import Layout, Sum, expected_of, price_now, told_of
from batchrunner.models import StoredRunState
from batchrunner.planned import CompareView, Figure, ModelCompare, PlanView
from batchrunner.preparing import options_in_force
from batchrunner.providers import Providers
from batchrunner.routes import said_base_urls
from batchrunner.store.allowances import allowances_of
from batchrunner.store.answered import Sent, answered, sent
from batchrunner.store.begun import Begun, load_begun
from batchrunner.store.database import Database
from batchrunner.store.runs import StoredRun, driver, find_run

__all__ = ["compare"]


@dataclass(slots=True)
class _Model:
    """What the answered jobs of one model were expected to take, and took."""

    jobs: int = 0
    #: Input tokens: by the text alone, as planned, as answers reported.
    bare: int = 0
    planned: int = 0
    took: int = 0
    #: By how much the jobs were off as planned, one by one.
    missed: int = 0
    planned_output: int = 0
    took_output: int = 0


@dataclass(slots=True)
class _Totals:
    """What all answered jobs were expected to take, and took."""

    sums: dict[str | None, Sum] = field(default_factory=dict)
    models: dict[str, _Model] = field(default_factory=dict)
    cost_usd: float | None = None


def compare(
    db: Database, name: str | None, *, config: Config, providers: Providers, now_ms: int
) -> CompareView:
    """Return a run's forecast beside what it took.

    Raises :class:`UsageError` where nothing of it is answered, or its requests were pruned.
    """
    run = find_run(db, name)
    begun, is_stored = _begun(db, run, config, now_ms)
    known = providers.profile(run.provider)
    bases = said_base_urls(known, options_in_force(run, config), {})
    counting = known.counting_at(bases[0]) if bases else known.counting
    totals, when = _totals(db, run, begun, config, counting), sent(db, run.id)
    if not totals.models or when is None:
        raise UsageError(
            f"No job of {run.name} has an answer that says what it took; there is nothing to compare.",
            fix=f"See where it stands with: batchrunner status {shlex.quote(run.name)}",
        )
    layout = Layout(
        known=known,
        counting=counting,
        sums=totals.sums,
        found=begun.found,
        said=None,
        in_flight=begun.in_flight,
        now_ms=begun.at,
        seen=begun.seen,
    )
    plan = layout.view()
    jobs = sum(model.jobs for model in totals.models.values())
    return CompareView(
        run_id=run.uid,
        run_name=run.name,
        is_finished=run.state is StoredRunState.FINISHED,
        jobs=run.counts.total,
        answered=jobs,
        figures=list(_figures(plan, totals, when)),
        models=[_model(name, model) for name, model in totals.models.items()],
        plan=plan,
        is_as_begun=is_stored,
        notes=list(_notes(run, jobs, begun, is_as_begun=is_stored)),
    )


def _begun(db: Database, run: StoredRun, config: Config, now_ms: int) -> tuple[Begun, bool]:
    """Return what was known when the run began, and whether that was kept."""
    with db.read() as connection:
        conn = driver(connection)
        kept = load_begun(conn, run.id)
        if kept is not None:
            return kept, True
        found = allowances_of(conn, run.provider, run.account_id, now_ms=now_ms)
    at = run.created_at if run.started_at is None else run.started_at
    # What is used now, and the pauses and speeds of now, are nothing that a plan had known.
    bare = {name: pool._replace(slots=(), pause_until=None) for name, pool in found.pools.items()}
    account = found.account._replace(slots=(), pause_until=None)
    found = found._replace(account=account, pools=bare, latency_ms=None)
    in_flight = options_in_force(run, config).get("concurrency")
    return Begun(
        at=at, found=found, seen={}, in_flight=in_flight if isinstance(in_flight, int) else None
    ), False


def _totals(
    db: Database, run: StoredRun, begun: Begun, config: Config, counting: Counting
) -> _Totals:
    price_of = partial(price_now, config.said_prices, begun.at, run.provider)
    totals, nothing = _Totals(), dict[str, Seen]()
    for job in answered(db, run.id):
        if job.body is None:
            raise UsageError(
                f"The requests of {run.name} were taken away (`db prune --bodies`), so that its"
                " forecast can't be made again.",
                fix="Compare a run that still has them: batchrunner runs",
            )
        told = told_of(job.body, job.model, begun.seen, counting)
        bare = expected_of(job.body, job.model, nothing)
        assert told is not None
        assert bare is not None
        expected, _ = told
        if job.model not in totals.sums:
            totals.sums[job.model] = Sum(price=price_of(job.model))
        totals.sums[job.model].add(told)
        model = totals.models.setdefault(job.model, _Model())
        model.jobs += 1
        model.bare += bare.input
        model.planned += expected.input
        model.took += job.input_tokens
        model.missed += abs(expected.input - job.input_tokens)
        model.planned_output += expected.output
        model.took_output += job.output_tokens
        if job.cost_usd is not None:
            totals.cost_usd = (totals.cost_usd or 0.0) + job.cost_usd
    return totals


def _figures(plan: PlanView, totals: _Totals, when: Sent) -> Iterator[Figure]:
    models = totals.models.values()
    yield Figure(
        name="input_tokens",
        planned=sum(model.planned for model in models),
        low=plan.input_tokens.low,
        high=plan.input_tokens.high,
        took=sum(model.took for model in models),
    )
    yield Figure(
        name="output_tokens",
        planned=sum(model.planned_output for model in models),
        low=plan.output_tokens.low,
        high=plan.output_tokens.high,
        took=sum(model.took_output for model in models),
    )
    known = [model.cost_usd for model in plan.models if model.cost_usd is not None]
    span = plan.cost_usd
    yield Figure(
        name="cost_usd",
        planned=sum(known) if known else None,
        low=None if span is None else span.low,
        high=None if span is None else span.high,
        took=totals.cost_usd,
    )
    yield Figure(
        name="duration_s", planned=plan.duration_s, took=round((when.last - when.first) / 1000.0, 1)
    )
    days = len(plan.schedule) if plan.finish_at is not None else None
    yield Figure(name="days", planned=days, took=_n_days(when.quarters, plan.zone))


def _n_days(quarters: Sequence[int], zone: str) -> int:
    info = ZoneInfo(zone)
    return len({datetime.fromtimestamp(at // 1000, UTC).astimezone(info).date() for at in quarters})


def _model(name: str, model: _Model) -> ModelCompare:
    return ModelCompare(
        model=name,
        jobs=model.jobs,
        input_tokens=model.took,
        text_alone_off=model.bare / model.took - 1 if model.took else None,
        planned_off=model.planned / model.took - 1 if model.took else None,
        each_off=model.missed / model.took if model.took else None,
        output_tokens=model.took_output,
        planned_output_off=(
            model.planned_output / model.took_output - 1 if model.took_output else None
        ),
    )


def _notes(run: StoredRun, jobs: int, begun: Begun, *, is_as_begun: bool) -> Iterator[str]:
    if jobs < run.counts.total:
        yield f"of the {jobs:,} jobs of {run.counts.total:,} that are answered"
    if is_as_begun:
        at = datetime.fromtimestamp(begun.at // 1000, UTC)
        yield (
            f"forecast from what was known when the run began ({at:%Y-%m-%d %H:%M} UTC): limits, what was"
            " used of them, speed and corrections of then; prices of now"
        )
    else:
        yield (
            "an earlier version began this run: the forecast takes the limits of now, nothing used of them,"
            " and no corrections"
        )
    scopes = (begun.found.account, *begun.found.pools.values())
    if not any(scope.caps for scope in scopes):
        yield "no limit was known then, so that the forecast knows none"
    yield (
        "the time is from the first request to the last answer, stops and other runs' requests in between"
        " included; tokens and cost are of all tries"
    )
