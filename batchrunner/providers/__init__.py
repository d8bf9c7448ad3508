"""Providers: a profile each, found by name.

Providers          those that are known: built in, from the configuration, from packages
profile(name)      the profile of one that needs no configuration
detect(model)      the provider that a model's name tells of, or None
pool_of(name, m)   the pool of models that share a limit
NAMES              the names of those built in, in the order of help texts
"""

from __future__ import annotations

import re
from typing import Final

from batchrunner.providers.profile import Profile
from batchrunner.providers.registry import BUILT_IN, NAMES, Providers, pool_of

__all__ = ["BUILT_IN", "NAMES", "Profile", "Providers", "detect", "pool_of", "profile"]

profile: Final = BUILT_IN.profile

#: OpenRouter's names have a slash, and so have Groq's for some models and those of other gateways:
#: they tell nothing.
_MODELS: Final = (
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"(?:models/)?gemini-"), "gemini"),
    (
        re.compile(
            r"(?:open-)?(?:mistral|mixtral|ministral|magistral|codestral|devstral|pixtral|voxtral)-"
            r"(?!.*(?:\d+b-32768|saba-24b))"
        ),
        "mistral",
    ),
    (re.compile(r"deepseek-(?:chat|reasoner|v\d|flash)"), "deepseek"),
    (re.compile(r"(?:gpt-|chatgpt-|o[134](?:-|$)|text-embedding-|ft:gpt-)"), "openai"),
)


def detect(model: str) -> str | None:
    """Return the provider whose models are named like ``model``; ``None`` if none's are."""
    for pattern, name in _MODELS:
        if pattern.match(model):
            return name
    return None
