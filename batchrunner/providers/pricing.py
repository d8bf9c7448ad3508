"""The public table of prices (``genai-prices``), read for one model at a time.

Importing it takes a fifth of a second, so it happens at the first model whose price is asked for, in
a thread of whoever asks. The table is the package's own: nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from batchrunner.core.ceiling import most_of
from batchrunner.core.prices import Price, Rates, as_said

__all__ = ["FREE", "TABLES", "Listed", "SaidPrices", "listed_price", "worst_case"]

#: Our name of a provider → the table's. Others have no price but what a person says.
TABLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "anthropic": "anthropic",
        "openai": "openai",
        "gemini": "google",
        "groq": "groq",
        "openrouter": "openrouter",
        "mistral": "mistral",
        "deepseek": "deepseek",
        "azure": "azure",
    }
)
#: Providers that nobody pays: the built-in one, and plain HTTP.
FREE: Final = frozenset({"simulator", "http"})
#: What a person says of models' prices, by model.
SaidPrices = Mapping[str, Mapping[str, float | None]]
#: The table's ways of saying how a request was processed, by our words.
_TIERS: Final[Mapping[str, tuple[Mapping[str, str], ...]]] = MappingProxyType(
    {
        "batch": ({"processing": "batch"},),
        "flex": ({"service_tier": "flex"},),
        "priority": ({"service_tier": "priority"},),
        "fast": ({"speed": "fast"}, {"service_tier": "fast"}),
    }
)
#: Prices that change with the hour are looked up again so often.
_QUARTER_MS: Final = 900_000
_ALWAYS: Final = float("inf")
#: What a model reads whose price changes at the end of its window.
_LONGEST: Final = 2**20


class Listed(NamedTuple):
    """What the table says of a model, and until when (wall ms)."""

    price: Price | None
    until: float
    #: What it costs at any hour of that day, the price itself included.
    all_day: tuple[Price, ...] = ()


def listed_price(provider: str, models: Iterable[str], *, wall: float) -> Listed:
    """Return the price of the first of ``models`` (names of one model) that the table has."""
    table = TABLES.get(provider)
    if table is None:
        return Listed(None, _ALWAYS)
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 (see above)

    snapshot, at = get_snapshot(), datetime.fromtimestamp(wall / 1000, UTC)
    for model in models:
        try:
            _, info = snapshot.find_provider_model(model.removeprefix("models/"), None, table, None)
        except LookupError:
            continue
        changes = isinstance(info.prices, list)
        until = (wall // _QUARTER_MS + 1) * _QUARTER_MS if changes else _ALWAYS
        price = _at(info, at)
        if price is None:
            continue
        hours = [at + timedelta(hours=n) for n in range(24)] if changes else []
        return Listed(price, until, (price, *(_at(info, hour) or price for hour in hours)))
    return Listed(None, _ALWAYS)


def worst_case(
    said: SaidPrices, wall: float
) -> Callable[[str, str, bytes, SaidPrices], float | None]:
    """Return what tells the most that a lost request may have cost, by a person's prices and the table's.

    Of provider, model, body, and the prices that were said where it was sent, which come before ``said``.
    It gives ``None`` where nothing bounds it or no price is known, and 0 of what nobody pays for.
    """

    def most(provider: str, model: str, body: bytes, of_run: SaidPrices) -> float | None:
        listed = listed_price(provider, (model,), wall=wall).all_day
        if (of_model := of_run.get(model) or said.get(model)) is not None:
            listed = tuple(filter(None, (as_said(of_model, price) for price in listed or (None,))))
        if not listed:
            return 0.0 if provider in FREE else None
        return most_of(listed, body, provider=provider, model=model, is_lost=True).dollars

    return most


def _at(info: Any, at: datetime) -> Price | None:
    """Return a model's price at an instant, with those of what is processed otherwise."""
    price = _price(info.get_prices(at))
    if price is None:
        return None
    tiers = {}
    for name, contexts in _TIERS.items():
        for context in contexts:
            if any(variant.when == context for variant in info.price_variants or ()):
                found = _price(info.get_prices(at, context))
                if found is not None:
                    tiers[name] = found
    window = info.context_window
    if window and any(start >= window for start, _ in price.steps):
        # It reads more than the table says, if it has a price for it.
        window = _LONGEST
    return Price(rates=price.rates, steps=price.steps, tiers=tiers, window=window)


#: The table's names, in the order of :class:`Rates`.
_FIELDS: Final = (
    "input_mtok",
    "output_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_1h_mtok",
)


def _price(listed: Any) -> Price | None:
    """Return one set of prices in our form; ``None`` where it has none for tokens."""
    values = [getattr(listed, name) for name in _FIELDS]
    if values[0] is None and values[1] is None:
        return None
    starts = sorted({tier.start for value in values for tier in getattr(value, "tiers", ())})
    return Price(
        rates=_rates(values, -1), steps=tuple((start, _rates(values, start)) for start in starts)
    )


def _rates(values: Iterable[Any], start: int) -> Rates:
    """Return the rates above so many tokens of input; tokens of the cache cost what others do
    where the table has nothing of them.
    """
    sent, got, read, write, for_long = (_rate(value, start) for value in values)
    read = sent if read is None else read
    write = sent if write is None else write
    return Rates(sent, got, read, write, write if for_long is None else for_long)


def _rate(value: Any, start: int) -> float | None:
    if value is None:
        return None
    tiers = getattr(value, "tiers", None)
    if tiers is None:
        return float(value)
    reached = [tier.price for tier in tiers if tier.start <= start]
    return float(reached[-1] if reached else value.base)
