"""Providers: a profile each, found by name.

profile(name)      the profile; UsageError with near names where there is none
detect(model)      the provider that a model's name tells of, or None
pool_of(name, m)   the pool of models that share a limit
NAMES              the names, in the order of help texts
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from batchrunner.errors import UsageError
from batchrunner.providers.anthropic import ANTHROPIC
from batchrunner.providers.http import HTTP
from batchrunner.providers.openai import OPENAI
from batchrunner.providers.profile import Profile

__all__ = ["NAMES", "Profile", "day_zone_of", "detect", "pool_of", "profile"]

#: Speaks Anthropic's language; the program starts the server, so it has no address and no key.
SIMULATOR: Final = dataclasses.replace(
    ANTHROPIC,
    name="simulator",
    title="Simulator",
    default_base_url=None,
    base_url_env="",
    key_envs=(),
)

_PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {profile.name: profile for profile in (ANTHROPIC, OPENAI, HTTP, SIMULATOR)}
)
NAMES: Final = tuple(_PROFILES)

_MODELS: Final = (
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"(?:gpt-|chatgpt-|o[134](?:-|$)|text-embedding-|ft:gpt-)"), "openai"),
)


def profile(name: str) -> Profile:
    """Return the profile of that name.

    :raises UsageError: there is none; the fix lists the names.
    """
    found = _PROFILES.get(name.lower())
    if found is None:
        near = difflib.get_close_matches(name.lower(), NAMES, n=1)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise UsageError(
            f"There is no provider {name!r}.{meant}", fix=f"Use one of: {', '.join(NAMES)}."
        )
    return found


def detect(model: str) -> str | None:
    """Return the provider whose models are named like ``model``; ``None`` if none's are."""
    for pattern, name in _MODELS:
        if pattern.match(model):
            return name
    return None


def pool_of(provider: str, model: str) -> str:
    """Return the name of the pool of models that share a limit; jobs without a model share one."""
    return profile(provider).pool_of(model) or "all"


def day_zone_of(provider: str) -> str:
    """Return the provider's own day, where nobody named one: an IANA zone or ``rolling``."""
    return profile(provider).day_zone
