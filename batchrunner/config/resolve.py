"""The configuration in force: the files that were found, one over the other, under one profile.

Each file is up to two *layers*: its profile's keys, then those at its top. The project's file comes
before the user's. A key that is about a provider (its address, its key, its limits …) holds only
for runs of the provider that its layer names, so that no key goes to another's address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from batchrunner.config.decode import Bound, Described, Price, Setting
from batchrunner.config.keys import KEYS, PRICE_KEYS, Goes
from batchrunner.core.budget import Budget
from batchrunner.core.expected import Expected
from batchrunner.errors import UsageError
from batchrunner.options import LimitOptions
from batchrunner.places import Place, place_of
from batchrunner.providers.registry import Providers
from batchrunner.values import read_text

__all__ = ["Config", "Fills", "Layer", "LookedAt"]


class LookedAt(NamedTuple):
    """A file that was looked for."""

    path: Path
    #: ``--config``, ``project`` or ``user``.
    role: str
    is_there: bool


class Layer(NamedTuple):
    """The keys of one table."""

    settings: Mapping[str, Setting]
    #: The provider its keys are about; ``None``: any.
    provider: str | None


class Fills(NamedTuple):
    """What is filled in where a job's line leaves it out."""

    model: str | None
    max_tokens: int | None
    system: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the configuration files say, for whoever asks."""

    #: The strongest first.
    layers: Sequence[Layer] = ()
    files: Sequence[LookedAt] = ()
    #: The profile asked for, and who asked: ``--profile`` or the variable.
    profile: str | None = None
    profile_said_by: str = ""
    prices: Mapping[str, Price] = field(default_factory=dict)
    #: ``[budget]``, by its keys.
    bounds: Mapping[str, Bound] = field(default_factory=dict)
    #: The providers that the files describe.
    described: Mapping[str, Described] = field(default_factory=dict)
    #: Every provider there is, those that the files describe included.
    providers: Providers = field(default_factory=Providers)

    @property
    def provider(self) -> str | None:
        """The provider for job files that name none, in lower case."""
        found = self.setting("provider", None)
        return None if found is None else str(found.value).lower()

    @property
    def db(self) -> Place | None:
        """Where the database is."""
        found = self.setting("db", None)
        return None if found is None else place_of(found.value)

    @property
    def max_wait_s(self) -> float | None:
        """The longest single wait; ``None``: not said."""
        found = self.setting("max_wait", None)
        return None if found is None else float(found.value)

    def said(self, name: str) -> str | None:
        """Return what is said of a key that is about no provider; ``None``: nothing."""
        found = self.setting(name, None)
        return None if found is None else str(found.value)

    def setting(self, name: str, provider: str | None) -> Setting | None:
        """Return what is said of a key for a provider's runs; for ``None``, for anybody's."""
        key = KEYS[name]
        about = {None} if provider is None else {None, provider.lower()}
        for layer in self.layers:
            is_for_it = not key.of_provider or provider is None or layer.provider in about
            if is_for_it and name in layer.settings:
                return layer.settings[name]
        return None

    @property
    def said_prices(self) -> dict[str, dict[str, float]]:
        """What models cost, in dollars per million tokens; fit for JSON."""
        return {
            model: {
                name: value for name in PRICE_KEYS if (value := getattr(price, name)) is not None
            }
            for model, price in self.prices.items()
        }

    @property
    def budget(self) -> Budget:
        """What a day and a month may cost over all runs, in dollars."""
        return Budget(**{unit: bound.dollars for unit, bound in self.bounds.items()})

    def expect_json(self) -> str | None:
        """Return the JSON Schema that answers have to meet, as text; a file that is named is read now."""
        found = self.setting("expect_json", None)
        if found is None:
            return None
        try:
            text = read_text(found.value)
            return Expected(text).text if text else text
        except ValueError as error:
            raise UsageError(
                f"{found.place}: expect_json: {error}.", fix="Mend the schema, or its name there."
            ) from error

    def headers(self, provider: str | None) -> Sequence[str]:
        """Return the headers for a provider's runs, ``NAME: VALUE`` with ``${VAR}`` unfilled."""
        found = self.setting("headers", provider)
        return () if found is None else tuple(found.value)

    def fills(self, provider: str | None) -> Fills:
        """Return what is filled in in jobs; a file named for ``system`` is read now."""
        found = {name: self.setting(name, provider) for name in Fills._fields}
        values = {name: setting and setting.value for name, setting in found.items()}
        system = found["system"]
        if system is not None:
            try:
                values["system"] = read_text(system.value)
            except ValueError as error:
                raise UsageError(
                    f"{system.place}: system: {error}.", fix="Mend the name there."
                ) from error
        return Fills(**values)

    def run_defaults(self, provider: str) -> Mapping[str, Any]:
        """Return what holds for a provider's run where its own options say nothing.

        Fit for JSON, with ``${VAR}`` unfilled.
        """
        return {key.field: value for key, value in self._values(Goes.RUN, provider)}

    def limits(self, provider: str) -> LimitOptions:
        """Return the limits for a provider's account."""
        return LimitOptions(
            **{key.field: value for key, value in self._values(Goes.LIMITS, provider)}
        )

    def _values(self, goes: Goes, provider: str) -> list[tuple[Any, Any]]:
        found = (
            (key, self.setting(key.name, provider)) for key in KEYS.values() if key.goes is goes
        )
        return [
            (key, list(setting.value) if isinstance(setting.value, tuple) else setting.value)
            for key, setting in found
            if setting is not None
        ]


#: No file at all.
EMPTY: Final = Config()
