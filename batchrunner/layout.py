"""Jobs under an account's limits: when they are through, day by day, which limit binds, what helps.

Told from sums by model; the arithmetic is :mod:`batchrunner.core.forecast`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from math import inf
from types import MappingProxyType
from typing import Final, Literal
from zoneinfo import ZoneInfo

from batchrunner.core.adaptive import START
from batchrunner.core.bounds import Bounds, Speed, bounds_of
from batchrunner.core.caps import (
    DAILY,
    INPUT_TOKENS,
    MIN_INTERVAL,
    OUTPUT_TOKENS,
    REQUESTS,
    ROLLING,
    TOKENS,
    Limit,
    effective_caps,
    pool_caps,
)
from batchrunner.core.counting import NO_TOKENS, Charge, Counting, likely_charge
from batchrunner.core.forecast import Forecast, forecast
from batchrunner.core.prices import Price, as_said, cost, lacking
from batchrunner.core.tokens import Counted, Expected, Seen, estimate, expect
from batchrunner.engine.live import AUTO_MOST
from batchrunner.models import Usage
from batchrunner.options import LimitOptions
from batchrunner.plan_notes import of_prices, of_tokens
from batchrunner.planned import (
    CountView,
    EstimateView,
    Faster,
    ModelPlan,
    PlanDay,
    PlannedLimit,
    PlanView,
    Range,
)
from batchrunner.providers import Profile
from batchrunner.providers.pricing import listed_price
from batchrunner.providers.registry import pool_of
from batchrunner.store.allowances import Allowances, ScopeNow
from batchrunner.store.caps import with_words

__all__ = ["Layout", "Sum", "expected_of", "price_now", "told_of"]

#: What an answer takes where none was seen.
_LATENCY_MS: Final = 10_000.0
#: What ``-c`` is as a limit.
_CONCURRENCY: Final = "concurrency"
#: An end that is nearer by less than this share is none that helps.
_HELPS: Final = 0.01
_NOTHING: Final = Expected(0, 0, 0, 0, 0, 0)
_NOTHING_SEEN: Final = Seen()


@dataclass(slots=True)
class Sum:
    """What the jobs of one model take together."""

    jobs: int = 0
    #: ``None``: of requests that ask no model.
    tokens: Expected | None = None
    #: What that counts to limits of tokens.
    charged: Charge = NO_TOKENS
    #: What a token costs; ``None``: unknown.
    price: Price | None = None
    #: What is not known of it, where half of it is.
    lacks: str = ""
    #: Dollars at least, likely, at most; ``None``: unknown.
    cost: tuple[float, ...] | None = None

    def add(self, told: tuple[Expected, Charge] | None) -> None:
        """Take one more job, by what :func:`told_of` says of it."""
        self.jobs += 1
        if told is None:
            return
        expected, charge = told
        self.tokens = _plus(self.tokens or _NOTHING, expected)
        self.charged = Charge(
            self.charged.input + charge.input, self.charged.output + charge.output
        )
        if self.price is None:
            return
        # Job by job: long inputs have prices of their own.
        costs = [
            cost(self.price, Usage(input_tokens=sent, output_tokens=got))
            for sent, got in zip(expected[:3], expected[3:], strict=True)
        ]
        known = [dollars for dollars in costs if dollars is not None]
        if len(known) == len(costs):
            before = self.cost or (0.0,) * len(known)
            self.cost = tuple(a + b for a, b in zip(before, known, strict=True))
        else:
            self.lacks = lacking(self.price)
            self.price = self.cost = None


class Layout:
    """Sums under limits."""

    def __init__(
        self,
        *,
        known: Profile,
        counting: Counting,
        sums: Mapping[str | None, Sum],
        found: Allowances,
        said: tuple[LimitOptions, LimitOptions] | None,
        in_flight: int | Literal["auto"] | None,
        now_ms: int,
        seen: Mapping[str, Seen],
        counts: Mapping[str, Counted] = MappingProxyType({}),
    ) -> None:
        """Take what is known; ``counting``: how tokens count where the jobs go; ``said``: the limits of the configuration, and those typed.

        ``None``: all of them are among what was found. ``seen`` and ``counts``: what the sums are corrected by.
        """
        self._known = known
        self._counting = counting
        self._sums = sums
        self._found = found
        self._now = now_ms
        self._latency = _LATENCY_MS if found.latency_ms is None else found.latency_ms
        self._in_flight = in_flight if isinstance(in_flight, int) else None
        self._seen = seen
        self._counts = counts
        self._caps = list(found.account.caps)
        if said is not None:
            # The configuration's are read anew, as by a submit.
            caps = [cap for cap in self._caps if cap.source != "config"]
            self._caps = with_words(with_words(caps, said[0], "config"), said[1], "flag")
        self._limits = effective_caps(self._caps, known.day_zone)
        account = self._bounds(self._limits, sums.values(), found.account)
        self._account = replace(account, speeds=(*account.speeds, self._speed_in_flight()))
        self._of_pools: dict[str, tuple[Limit, ...]] = {}
        self._pools: list[tuple[int, Bounds]] = []
        pauses = [found.account.pause_until]
        for name, parts in self._by_pool().items():
            pool = found.pools.get(name, ScopeNow())
            limits = effective_caps(pool_caps(pool.caps, self._caps), known.day_zone)
            self._of_pools[name] = limits
            self._pools.append(
                (sum(part.jobs for part in parts), self._bounds(limits, parts, pool))
            )
            pauses.append(pool.pause_until)
        # With several pools the account's pause alone holds all of them.
        paused = pauses if len(self._pools) == 1 else pauses[:1]
        self._starts = max([now_ms, *(until for until in paused if until is not None)])

    # --- what bounds them

    def _by_pool(self) -> dict[str, list[Sum]]:
        pools: dict[str, list[Sum]] = {}
        for model, part in self._sums.items():
            pools.setdefault(pool_of(self._known.name, model or ""), []).append(part)
        return pools

    def _bounds(self, limits: Iterable[Limit], parts: Iterable[Sum], scope: ScopeNow) -> Bounds:
        parts = list(parts)
        jobs = sum(part.jobs for part in parts)
        # Of jobs that ask no model nobody knows, and what is known of the others is no mean of all.
        is_known = all(part.tokens is not None for part in parts)
        charged = [part.charged for part in parts] if is_known else []
        sent, got = sum(c.input for c in charged) / jobs, sum(c.output for c in charged) / jobs
        has_output = self._counting.total_has_output
        each = {
            REQUESTS: 1.0,
            INPUT_TOKENS: sent,
            OUTPUT_TOKENS: got,
            TOKENS: sent + (got if has_output else 0.0),
        }
        return bounds_of(limits, each, scope.slots, total_has_output=has_output)

    def _speed_in_flight(self) -> Speed:
        """Return Little's law: so many at once, each for the time of an answer."""
        name = "" if self._in_flight is None else _CONCURRENCY
        return Speed(name, (self._in_flight or AUTO_MOST) / max(1.0, self._latency))

    # --- what comes of it

    def view(self, *, n_rejected: int = 0) -> PlanView:
        """Return the plan."""
        jobs = sum(part.jobs for part in self._sums.values())
        laid = self._forecast()
        ends = self._end(laid)
        binding = self._binding(ends)
        total = _total(self._sums.values())
        zone = self._zone()
        return PlanView(
            provider=self._known.name,
            account=self._found.name,
            jobs=jobs,
            models=[_model_plan(model, part) for model, part in self._sums.items()],
            input_tokens=Range(low=total.input_low, high=total.input_high) if total else Range(),
            output_tokens=Range(low=total.output_low, high=total.output_high) if total else Range(),
            cost_usd=_cost(self._sums.values()),
            limits=list(self._planned_limits()),
            binding_limit=binding,
            faster=self._faster(binding) if binding is not None else None,
            schedule=[] if ends == inf else list(_days(laid, zone)),
            estimates=[
                EstimateView(
                    model=name, factor=seen.factor, error=seen.error, mean_output=seen.mean_output
                )
                for name in self._sums
                if name is not None and (seen := self._seen.get(name)) is not None
            ],
            counted=[
                CountView(
                    model=name,
                    counted=count.n,
                    jobs=self._sums[name].jobs,
                    factor=count.factor,
                    error=count.error,
                )
                for name, count in self._counts.items()
            ],
            zone=zone,
            starts_at=self._starts,
            finish_at=None if ends == inf else int(ends),
            duration_s=None if ends == inf else round((ends - self._now) / 1000.0, 1),
            notes=list(self._notes(n_rejected)),
        )

    def _forecast(self, limit: str = "", factor: float = 1.0) -> Forecast:
        """Return how the jobs go out; with one limit raised, or ``inf``: without it."""
        pools = [(n, pool.times(limit, factor)) for n, pool in self._pools]
        account = self._account.times(limit, factor)
        if limit == _CONCURRENCY and factor == inf:
            at_most = Speed("", AUTO_MOST / max(1.0, self._latency))
            account = replace(account, speeds=(*account.speeds, at_most))
        return forecast(account, pools, now=self._starts)

    def _end(self, laid: Forecast) -> float:
        return inf if laid.last_at is None else laid.last_at + self._latency

    def _binding(self, ends: float) -> str | None:
        """Return the limit without which it would end the earliest."""
        names = {name for bounds in self._all() for name in bounds.names} - {""}
        free = {name: self._end(self._forecast(name, inf)) for name in sorted(names)}
        best = min(free, key=lambda name: free[name], default=None)
        if best is not None and free[best] < ends - _HELPS * (
            ends - self._now if ends < inf else 0
        ):
            return best
        if ends == inf or ends - self._starts <= self._latency + 1_000:
            return None
        # Two that are alike hide one another.
        speeds = [speed for bounds in self._all() for speed in bounds.speeds]
        return min(speeds, key=lambda speed: speed.per_ms).name or None

    def _all(self) -> list[Bounds]:
        return [self._account, *(bounds for _, bounds in self._pools)]

    def _faster(self, binding: str) -> Faster | None:
        free = self._end(self._forecast(binding, inf))
        more = self._end(self._forecast(binding, 2.0))
        value = self._value(binding)
        if value is None:
            return None
        return Faster(
            value=value / 2 if binding == MIN_INTERVAL else value * 2,
            finish_at=None if more == inf else int(more),
            free_finish_at=None if free == inf else int(free),
        )

    def _value(self, name: str) -> float | None:
        if name == _CONCURRENCY:
            return self._in_flight
        return next((limit.n for limit in self._every_limit() if limit.name == name), None)

    def _every_limit(self) -> list[Limit]:
        return [*self._limits, *(limit for pool in self._of_pools.values() for limit in pool)]

    def _zone(self) -> str:
        """Return whose days are shown: a daily limit's."""
        every = self._every_limit()
        zones = (limit.zone for limit in every if limit.name in DAILY and limit.zone != ROLLING)
        return next((zone for zone in zones if zone), "UTC")

    def _planned_limits(self) -> Iterator[PlannedLimit]:
        scopes = [("", self._limits), *self._of_pools.items()]
        for scope, limits in scopes:
            for limit in limits:
                yield PlannedLimit(
                    scope=scope,
                    limit=limit.name,
                    value=limit.n,
                    source=limit.source,
                    zone=limit.zone,
                )

    def _at_once_words(self) -> str:
        if self._in_flight is not None:
            return (
                f"{self._in_flight:,} request{'s go' if self._in_flight > 1 else ' goes'} at once"
            )
        if self._every_limit():
            return f"as many requests go at once as the limits can use, {AUTO_MOST:,} at most"
        return (
            f"{AUTO_MOST:,} requests go at once: -c auto begins with {START} and goes that far only while more"
            " bring more answers, so that it may end much later; -c N says how many"
        )

    def _notes(self, n_rejected: int) -> Iterator[str]:
        if n_rejected:
            yield (
                "1 line can't become a job and is left out"
                if n_rejected == 1
                else f"{n_rejected:,} lines can't become jobs and are left out"
            )
        if None in self._sums:
            yield "requests that name no model: their tokens are unknown"
        yield from of_prices(
            (part.lacks or lacking(None), model, part.jobs)
            for model, part in self._sums.items()
            if model is not None and part.cost is None
        )
        if any(part.cost is not None for part in self._sums.values()):
            on = datetime.fromtimestamp(self._now // 1000, UTC).date()
            yield (
                f"prices of {on}: genai-prices {version('genai-prices')}, and the configuration's;"
                " nothing is taken to come from a cache"
            )
        jobs = {name: part.jobs for name, part in self._sums.items() if name is not None}
        yield from of_tokens(jobs, self._seen, self._counts)
        if not self._every_limit():
            yield (
                "no limit of this account is known: the first answers tell, unless --rpm and --rpd do"
            )
        seconds = f"{self._latency / 1000:.3g} s"
        seen = "as of late" if self._found.latency_ms is not None else "none was seen yet"
        yield f"assumed: an answer takes {seconds} ({seen}), {self._at_once_words()}"
        if self._found.n_left:
            yield (
                f"{self._found.n_left:,} jobs that are stored already wait for the same limits and are not"
                " counted here: it ends that much later, unless they are these"
            )


def expected_of(
    body: bytes,
    model: str | None,
    seen: Mapping[str, Seen],
    counts: Mapping[str, Counted] = MappingProxyType({}),
) -> Expected | None:
    """Return what a request should take, corrected by what answers taught; ``None``: it asks no model.

    A provider's own ``counts`` come before that.
    """
    if model is None:
        return None
    return expect(estimate(body), seen.get(model, _NOTHING_SEEN), counts.get(model))


def told_of(
    body: bytes,
    model: str | None,
    seen: Mapping[str, Seen],
    counting: Counting,
    counts: Mapping[str, Counted] = MappingProxyType({}),
) -> tuple[Expected, Charge] | None:
    """Return what a request should take, as :func:`expected_of`, and what that counts to limits."""
    if model is None:
        return None
    estimated = estimate(body)
    expected = expect(estimated, seen.get(model, _NOTHING_SEEN), counts.get(model))
    return expected, likely_charge(expected, estimated.most_output, counting)


def price_now(
    said: Mapping[str, Mapping[str, float | None]], now_ms: int, provider: str, model: str | None
) -> Price | None:
    """Return what a model's tokens cost now: as a person says, else the table."""
    if model is None:
        return None
    listed = listed_price(provider, (model,), wall=now_ms).price
    return listed if model not in said else as_said(said[model], listed)


def _cost(parts: Iterable[Sum]) -> Range | None:
    """Return what those cost whose price is known; ``None``: of none."""
    costs = [part.cost for part in parts if part.cost is not None]
    if not costs:
        return None
    low, _, high = (sum(dollars) for dollars in zip(*costs, strict=True))
    return Range(low=low, high=high)


def _total(parts: Iterable[Sum]) -> Expected | None:
    """Return what all take; ``None``: nobody knows of one of them."""
    total = _NOTHING
    for part in parts:
        if part.tokens is None:
            return None
        total = _plus(total, part.tokens)
    return total


def _plus(one: Expected, other: Expected) -> Expected:
    return Expected(*(a + b for a, b in zip(one, other, strict=True)))


def _model_plan(model: str | None, part: Sum) -> ModelPlan:
    tokens = part.tokens
    return ModelPlan(
        model=model,
        jobs=part.jobs,
        input_tokens=tokens.input if tokens else None,
        output_tokens=tokens.output if tokens else None,
        cost_usd=part.cost[1] if part.cost else None,
    )


def _days(laid: Forecast, zone: str) -> Sequence[PlanDay]:
    info = ZoneInfo(zone)
    return [
        PlanDay(
            day=datetime.fromtimestamp(day.first // 1000, UTC).astimezone(info).date().isoformat(),
            requests=day.n,
            first=day.first,
            last=day.last,
        )
        for day in laid.days(zone)
    ]
