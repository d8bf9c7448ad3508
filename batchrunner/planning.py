"""What files would take, were they submitted now: read and checked, estimated, laid out in time.

Nothing is sent and nothing stored; with --count-tokens some requests, drawn at random, are counted by
their provider. Where there is a database, what it knows of the account holds:
limits that were typed or learned, what is used of them, what answers took. Memory is flat, as for
``submit``: of a job only its sums stay.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple

from batchrunner.checking import check_name, check_options, check_variables
from batchrunner.config import Config
from batchrunner.core.budget import NO_BUDGET
from batchrunner.core.ceiling import most_of
from batchrunner.core.counting import Counting
from batchrunner.core.prices import Price
from batchrunner.core.tokens import Counted, Seen
from batchrunner.engine.priced import check_priced, endless_of
from batchrunner.errors import UsageError
from batchrunner.formats.sets import apply_sets, model_of
from batchrunner.layout import Layout, Sum, price_now, told_of
from batchrunner.models import LineFault
from batchrunner.options import MAX_COST, CallOptions, LimitOptions, RunOptions, in_force
from batchrunner.places import Place
from batchrunner.plan_notes import of_budget, of_max_cost
from batchrunner.planned import PlanView
from batchrunner.preparing import account_of, address_of, fill_of, stored_options
from batchrunner.providers import Profile, Providers
from batchrunner.reading import LISTED, Endless, Order, Reading, rows_of
from batchrunner.routes import check_routes
from batchrunner.store.allowances import Allowances, allowances
from batchrunner.store.database import Database
from batchrunner.store.keys import SeenKeys
from batchrunner.store.opening import open_if_current
from batchrunner.store.runs import StoredRun
from batchrunner.store.spending import budget_views
from batchrunner.store.tokens import seen_tokens

__all__ = ["Asked", "Sample", "plan", "sample"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a plan is asked for, as ``submit`` is."""

    place: Place
    files: Sequence[str]
    stdin: BinaryIO | None
    run: RunOptions
    limits: LimitOptions
    call: CallOptions
    environ: Mapping[str, str]
    config: Config
    providers: Providers


@dataclass(slots=True)
class _Faults:
    """Lines that can't become jobs: the first few, and how many."""

    first: list[LineFault] = field(default_factory=list)
    n: int = 0

    def add(self, fault: LineFault) -> None:
        self.n += 1
        if self.n <= LISTED:
            self.first.append(fault)


class _Draw:
    """Jobs drawn at random, each as likely as any other, from so many as come."""

    def __init__(self, n: int) -> None:
        """Draw ``n``; the same of the same files each time."""
        self._n = n
        self._dice = random.Random(n)  # noqa: S311 (nobody's secret)
        self._jobs: list[tuple[str, bytes]] = []
        #: How many there are of each model.
        self.n_of: Counter[str] = Counter()

    def add(self, model: str, body: bytes) -> None:
        """Take one more job."""
        self.n_of[model] += 1
        if len(self._jobs) < self._n:
            self._jobs.append((model, body))
        elif (place := self._dice.randrange(self.n_of.total())) < self._n:
            self._jobs[place] = (model, body)

    def jobs(self) -> list[tuple[str, bytes]]:
        """Return what was drawn, so that the first few of it are drawn at random as well."""
        return self._dice.sample(self._jobs, len(self._jobs))


class _Least:
    """The lowest of the worst cases of jobs: what ``--max-cost`` has to have room for at least."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        #: In dollars; ``None``: of none it can be told.
        self.cost: float | None = None

    def add(self, price: Price | None, body: bytes, *, provider: str, model: str) -> None:
        """Take one more job."""
        if price is None:
            return
        most = most_of((price,), body, provider=provider, model=model).dollars
        if most is not None and (self.cost is None or most < self.cost):
            self.cost = most


class _Reader(Reading):
    """Reads an order for its sums alone."""

    def sums(
        self,
        sets: Sequence[tuple[str, str]],
        price_of: Callable[[str, str | None], Price | None],
        seen: Mapping[str, Seen],
        counts: Mapping[str, Counted],
        *,
        draw: _Draw | None = None,
        least: _Least | None = None,
    ) -> tuple[Profile, dict[str | None, Sum], int]:
        """Return whose jobs they are, what they take by model, and how many lines are no jobs.

        Some of the jobs go to ``draw``, all of them to ``least``. Raises :class:`InputError` as ``submit`` does.
        """
        rules, lines = self.provider()
        counting = _counting(rules, self._order)
        sums: dict[str | None, Sum] = {}
        faults = _Faults()
        with SeenKeys.opened() as keys:
            for value in self._held(self._read(rules, lines), rules):
                if isinstance(value, LineFault):
                    faults.add(value)
                    continue
                if (duplicate := keys.add(value)) is not None:
                    faults.add(duplicate)
                    continue
                body, model = value.body, value.model
                if sets:
                    body = apply_sets(body, sets)
                    model = model_of(body) or model
                if model not in sums:
                    sums[model] = Sum(price=price_of(rules.name, model))
                sums[model].add(told_of(body, model, seen, counting, counts))
                if draw is not None and model is not None:
                    draw.add(model, body)
                if least is not None:
                    least.add(sums[model].price, body, provider=rules.name, model=model or "")
        if faults.n and not self._order.skips_invalid:
            raise self._refuse(faults.n, faults.first)
        if not sums:
            raise self._no_jobs()
        return rules, sums, faults.n


class Sample(NamedTuple):
    """Some jobs of the files, drawn at random, and how their provider is reached."""

    known: Profile
    #: In force for the run that it would be.
    options: Mapping[str, Any]
    db: Database | None
    #: A model and a body each.
    jobs: Sequence[tuple[str, bytes]]
    #: How many jobs there are of each model.
    n_of: Mapping[str, int]


def sample(asked: Asked, n: int) -> Sample:
    """Return ``n`` jobs of the files, which are read whole and checked as for a plan.

    Raises :class:`UsageError` where they could not be read a second time, for the plan.
    """
    if any(name == "-" or not Path(name).is_file() for name in asked.files):
        raise UsageError(
            "--count-tokens reads the files twice, and one of them can be read only once.",
            fix="Write the jobs into a file, and name that.",
        )
    _check(asked)
    draw = _Draw(n)
    reader = _Reader(_order(asked), is_stopped=lambda: False)
    known, _, _ = reader.sums(asked.call.sets, lambda _provider, _model: None, {}, {}, draw=draw)
    options = in_force(stored_options({}, asked.run), asked.config.run_defaults(known.name))
    return Sample(known, options, open_if_current(asked.place), draw.jobs(), draw.n_of)


def plan(
    asked: Asked, *, now_ms: int, counts: Mapping[str, Counted] = MappingProxyType({})
) -> PlanView:
    """Return what the files would take from now on; ``counts`` are the provider's own, by model."""
    _check(asked)
    run, config = asked.run, asked.config
    db = open_if_current(asked.place)
    seen = {} if db is None else seen_tokens(db)
    order = replace(_order(asked), endless=partial(_endless, asked, now_ms))
    reader = _Reader(order, is_stopped=lambda: False)
    price_of = partial(price_now, config.said_prices, now_ms)
    is_bound = run.max_cost is not None or config.setting(MAX_COST, None) is not None
    least = _Least() if is_bound else None
    known, sums, n_rejected = reader.sums(asked.call.sets, price_of, seen, counts, least=least)
    options = in_force(stored_options({}, run), config.run_defaults(known.name))
    check_priced(
        known.name, [model or "" for model in sums], options,
        said=config.said_prices, budget=config.budget, wall=now_ms,
    )  # fmt: skip
    key = account_of(known.name, options, asked.environ, asked.providers)
    found = Allowances() if db is None else allowances(db, known.name, key, now_ms=now_ms)
    view = Layout(
        known=known,
        counting=_counting(known, order),
        sums=sums,
        found=found,
        said=(config.limits(known.name), asked.limits),
        in_flight=options.get("concurrency"),
        seen=seen,
        counts=counts,
        now_ms=now_ms,
    ).view(n_rejected=n_rejected)
    bounds = [] if config.budget == NO_BUDGET else budget_views(db, config.budget, now_ms=now_ms)
    told = [
        *of_max_cost(view, options.get(MAX_COST), None if least is None else least.cost),
        *of_budget(view, bounds),
    ]
    return replace(view, notes=[*told, *view.notes]) if told else view


def _counting(known: Profile, order: Order) -> Counting:
    """Return how tokens are counted where the jobs would go."""
    address = order.address(known)
    return known.counting if address is None else known.counting_at(address)


def _check(asked: Asked) -> None:
    """Refuse options that can't be right."""
    run, config = asked.run, asked.config
    named = run.provider or config.provider
    check_name(asked.call.name)
    check_options(run, asked.limits, asked.providers)
    check_variables(run, asked.environ, config.headers(named))
    check_routes(
        run,
        config.run_defaults(named) if named else {},
        asked.environ,
        asked.providers.profile(named) if named else None,
    )


def _endless(asked: Asked, now_ms: int, known: Profile, _into: StoredRun | None) -> Endless | None:
    """Return what refuses the jobs that ``submit`` would refuse under a bound on money."""
    options = in_force(stored_options({}, asked.run), asked.config.run_defaults(known.name))
    return endless_of(
        known.name, options, said=asked.config.said_prices, budget=asked.config.budget,
        wall=now_ms, sets=asked.call.sets,
    )  # fmt: skip


def _order(asked: Asked) -> Order:
    run, config, call = asked.run, asked.config, asked.call
    return Order(
        files=asked.files,
        stdin=asked.stdin,
        provider=run.provider or config.provider,
        providers=asked.providers,
        address=lambda known: address_of(run, known, config, asked.environ),
        fill=fill_of(run, config),
        name=call.name,
        uid="",
        options_json="{}",
        priority=0,
        is_new=False,
        is_update=False,
        skips_invalid=call.skip_invalid,
        is_compressed=lambda _known, _run: False,
        rows=rows_of(call.template, call.key),
    )
