"""Providers by name: built in, described in the configuration, or brought by an installed package.

:class:`Providers` is a value that a :class:`~batchrunner.app.Batchrunner` holds and passes on, so
that two of them in one process may know different ones. A package brings a provider by an entry
point of the group ``batchrunner.providers`` that leads to a :class:`~.profile.Profile`; it is looked
for only where nobody else has the name.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from batchrunner.errors import UsageError
from batchrunner.providers.anthropic import ANTHROPIC
from batchrunner.providers.azure import AZURE
from batchrunner.providers.deepseek import DEEPSEEK
from batchrunner.providers.gemini import GEMINI
from batchrunner.providers.groq import GROQ
from batchrunner.providers.http import HTTP
from batchrunner.providers.mistral import MISTRAL
from batchrunner.providers.openai import OPENAI
from batchrunner.providers.openrouter import OPENROUTER
from batchrunner.providers.profile import Profile

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["BUILT_IN", "GROUP", "NAMES", "Providers"]

#: The group of entry points that bring providers.
GROUP: Final = "batchrunner.providers"

#: Speaks Anthropic's language; the program starts the server, so it has no address and no key.
SIMULATOR: Final = dataclasses.replace(
    ANTHROPIC,
    name="simulator",
    title="Simulator",
    default_base_url=None,
    base_url_env="",
    key_envs=(),
    count=None,
)

_PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            ANTHROPIC,
            OPENAI,
            GEMINI,
            GROQ,
            OPENROUTER,
            MISTRAL,
            DEEPSEEK,
            AZURE,
            HTTP,
            SIMULATOR,
        )
    }
)
#: The names of those built in, in the order of help texts.
NAMES: Final = tuple(_PROFILES)


class Providers:
    """The providers that are known."""

    def __init__(self, custom: Mapping[str, Profile] = MappingProxyType({})) -> None:
        """Take those of the configuration; the names of built-in ones are not theirs to take."""
        if taken := next((name for name in custom if name in _PROFILES), None):
            raise UsageError(
                f"The provider {taken!r} of the configuration has the name of a built-in one.",
                fix="Give it another name.",
            )
        self._custom = MappingProxyType(dict(custom))

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, the built-in ones first."""
        return tuple(dict.fromkeys((*NAMES, *self._custom, *_entry_points())))

    def profile(self, name: str) -> Profile:
        """Return the profile of that name.

        :raises UsageError: there is none, or its package can't be loaded; the fix lists the names.
        """
        wanted = name.lower()
        found = _PROFILES.get(wanted) or self._custom.get(wanted)
        if found is None and (entry_point := _entry_points().get(wanted)) is not None:
            found = _load(entry_point)
        if found is None:
            near = difflib.get_close_matches(wanted, self.names, n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(
                f"There is no provider {name!r}.{meant}",
                fix=f"Use one of: {', '.join(self.names)}; or describe it in the configuration, under"
                f" [providers.{wanted}].",
            )
        return found

    def day_zone_of(self, name: str) -> str:
        """Return a provider's own day, where nobody named one: an IANA zone or ``rolling``.

        A run may be that of a provider that nobody knows any more; it can still be looked at.
        """
        try:
            return self.profile(name).day_zone
        except UsageError:
            return "UTC"


def pool_of(provider: str, model: str) -> str:
    """Return the name of the pool of models that share a limit; jobs without a model share one.

    Each model of a provider that is not built in is a pool of its own.
    """
    known = _PROFILES.get(provider)
    return (known.pool_of(model) if known is not None else model) or "all"


@cache
def _entry_points() -> Mapping[str, EntryPoint]:
    """Return what packages bring; what is installed does not change while a process lives."""
    from importlib.metadata import entry_points  # noqa: PLC0415 (slow, and seldom needed)

    return {point.name.lower(): point for point in entry_points(group=GROUP)}


@cache
def _load(entry_point: EntryPoint) -> Profile:
    package = entry_point.dist.name if entry_point.dist is not None else entry_point.value
    try:
        found = entry_point.load()
    except Exception as error:
        raise UsageError(
            f"The provider {entry_point.name!r} of the package {package} can't be loaded: {error!r}.",
            fix="Upgrade that package, or remove it.",
        ) from error
    if not isinstance(found, Profile):
        raise UsageError(
            f"The provider {entry_point.name!r} of the package {package} is not a Profile.",
            fix=f"Its entry point {entry_point.value} must lead to a batchrunner.providers.Profile.",
        )
    # Its pools are asked for by name alone.
    return dataclasses.replace(found, name=entry_point.name.lower(), pool_of=lambda model: model)


#: Those that need no configuration.
BUILT_IN: Final = Providers()
