"""What a request costs: a model's prices, and an answer's usage counted on them.

Tokens of the input are of one kind each: read from the provider's cache, written to it (for five
minutes or an hour), or neither. What is not known makes a cost unknown, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from batchrunner.models import Usage

__all__ = [
    "HALVED",
    "TIERS",
    "WINDOW",
    "Price",
    "Rates",
    "as_said",
    "cost",
    "lacking",
    "saved",
    "worst",
]

#: How answers say that they were processed otherwise than usual (as JSON) → our word for it.
TIERS: Final[Mapping[bytes, str]] = MappingProxyType(
    {f'"{name}"'.encode(): name for name in ("batch", "flex", "priority", "fast")}
)
#: What every provider that has it sells at half its price.
HALVED: Final = frozenset({"batch", "flex"})

#: What a person calls :attr:`Price.window` among a model's prices.
WINDOW: Final = "context_window"

_PER: Final = 1e-6


class Rates(NamedTuple):
    """Dollars per million tokens; ``None``: unknown."""

    input: float | None
    output: float | None
    cache_read: float | None
    cache_write: float | None
    cache_write_1h: float | None


#: Half of every rate.
_HALVES: Final = dict.fromkeys(Rates._fields, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model costs."""

    rates: Rates
    #: Input of more tokens than these has rates of its own, the fewest tokens first.
    steps: tuple[tuple[int, Rates], ...] = ()
    #: What is processed otherwise than usual (:data:`TIERS`), where that has a price of its own.
    tiers: Mapping[str, Price] = field(default_factory=dict)
    #: Tokens that it reads and writes at most in one request; ``None``: unknown.
    window: int | None = None

    def at(self, n_input: int) -> Rates:
        """Return the rates of a request with so many tokens of input."""
        rates = self.rates
        for more_than, of_step in self.steps:
            if n_input > more_than:
                rates = of_step
        return rates


def cost(price: Price, usage: Usage) -> float | None:
    """Return what an answer cost, in dollars; ``None``: its usage or a price it needs is unknown."""
    n_input = usage.input_tokens
    if n_input is None:
        return None
    if not usage.is_billed:
        return 0.0
    if usage.tier is not None:
        price = price.tiers.get(usage.tier, price)
    rates = price.at(n_input) if price.steps else price.rates
    dollars = 0.0
    rest = n_input
    # Cached tokens are some of the input's, whatever an answer says.
    if usage.cache_read_tokens:
        read = min(max(0, usage.cache_read_tokens), rest)
        rest -= read
        if rates.cache_read is None:
            return None
        dollars += read * rates.cache_read
    if usage.cache_write_tokens:
        written = min(max(0, usage.cache_write_tokens), rest)
        rest -= written
        for_long = min(max(0, usage.cache_write_1h_tokens or 0), written)
        if rates.cache_write is None or rates.cache_write_1h is None:
            return None
        dollars += (written - for_long) * rates.cache_write + for_long * rates.cache_write_1h
    # What embeds or moderates answers with no tokens, and says nothing of them.
    n_output = usage.output_tokens or 0
    if (rest and rates.input is None) or (n_output and rates.output is None):
        return None
    return (dollars + rest * (rates.input or 0.0) + n_output * (rates.output or 0.0)) * _PER


def lacking(price: Price | None) -> str:
    """Return what is not known of a price, for a sentence: all of it, or which half."""
    if price is None or price.rates.input is price.rates.output is None:
        return "no price"
    return "no price of what is sent" if price.rates.input is None else "no price of the answers"


def saved(price: Price, usage: Usage) -> float | None:
    """Return what the provider's cache saved of an answer's cost, in dollars; ``None``: unknown.

    Below 0 where it was written to: that is paid for, and only reading brings it back.
    """
    paid = cost(price, usage)
    bare = msgspec.structs.replace(usage, cache_read_tokens=None, cache_write_tokens=None)
    uncached = cost(price, bare)
    return None if paid is None or uncached is None else uncached - paid


def as_said(said: Mapping[str, float | None], price: Price | None) -> Price | None:
    """Return a price with what a person said in the place of what the table says.

    Only what was said is replaced, for long inputs too. Batches and flex are half of it; what is dearer
    than usual is as much dearer as by the table. Where neither says what the cache costs, its tokens
    cost what others do.
    """
    rates = {name: rate for name, rate in said.items() if rate is not None}
    if (window := rates.pop(WINDOW, None)) is not None:
        price = as_said(rates, price)
        return None if price is None else replace(price, window=int(window))
    bare = Rates(None, None, None, None, None)
    if price is None:
        if not rates:
            return None
        halved = Price(rates=_said(bare, rates, _HALVES))
        return Price(rates=_said(bare, rates, {}), tiers=dict.fromkeys(HALVED, halved))
    if not rates:
        return price

    def replaced(old: Price, shares: Mapping[str, float]) -> Price:
        return Price(
            rates=_said(old.rates, rates, shares),
            steps=tuple((start, _said(of_step, rates, shares)) for start, of_step in old.steps),
        )

    half = {name: replaced(price.tiers.get(name) or _half(price), _HALVES) for name in HALVED}
    other = {
        name: replaced(tier, _shares(tier.rates, price.rates))
        for name, tier in price.tiers.items()
        if name not in HALVED
    }
    return replace(replaced(price, {}), tiers={**other, **half})


def _half(price: Price) -> Price:
    """Return a price for what is sold at its half, and the table does not have."""

    def half(rates: Rates) -> Rates:
        return Rates(*(None if rate is None else rate / 2 for rate in rates))

    return Price(
        rates=half(price.rates),
        steps=tuple((start, half(of_step)) for start, of_step in price.steps),
    )


def _shares(dearer: Rates, usual: Rates) -> dict[str, float]:
    """Return by rate how many times as much the table wants for what is processed otherwise."""
    return {
        name: there / here
        for name, there, here in zip(Rates._fields, dearer, usual, strict=True)
        if there and here
    }


def _said(old: Rates, said: Mapping[str, float], shares: Mapping[str, float]) -> Rates:
    new = old._replace(**{name: rate * shares.get(name, 1.0) for name, rate in said.items()})
    if new.input is not None:
        read = new.input if new.cache_read is None else new.cache_read
        write = new.input if new.cache_write is None else new.cache_write
        new = new._replace(cache_read=read, cache_write=write)
    if "cache_write" in said or new.cache_write_1h is None:
        # An hour costs as much more than five minutes as it does by the table.
        dearer = (
            old.cache_write_1h / old.cache_write if old.cache_write_1h and old.cache_write else 1.0
        )
        new = new._replace(
            cache_write_1h=None if new.cache_write is None else new.cache_write * dearer
        )
    return new


def worst(
    prices: Sequence[Price], n_input: int, n_output: int, *, is_dearer: bool, caches: bool
) -> float | None:
    """Return the most that a request may cost, in dollars; ``None``: a price it may need is unknown.

    ``prices`` are a model's at all hours. The request may be processed at a dearer price than usual
    (``is_dearer``), and write to the cache (``caches``).
    """
    offers = [*prices, *(tier for price in prices if is_dearer for tier in price.tiers.values())]
    most = 0.0 if offers else None
    for offer in offers:
        for rates in (offer.rates, *(of_step for start, of_step in offer.steps if n_input > start)):
            reads = [rates.input]
            if caches:
                reads += [rates.cache_write, rates.cache_write_1h]
            known = [rate for rate in reads if rate is not None]
            if (n_input and len(known) < len(reads)) or (n_output and rates.output is None):
                return None
            dollars = n_input * max(known, default=0.0) + n_output * (rates.output or 0.0)
            most = max(most or 0.0, dollars * _PER)
    return most
