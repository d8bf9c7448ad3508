"""How long keys are, and how all of a provider's begin: what was cut when it was copied.

Only what is certain is here, and every bound lies well below the keys that are known: a key that is
refused wrongly costs more than a request that the provider refuses. Pure tables, and one function.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["fault_of_length"]


class _Length(NamedTuple):
    """How long a provider's keys of one form are."""

    start: re.Pattern[str]
    #: A shorter one was cut: well below what any key of that form is known to have.
    least: int
    #: What they have, in words.
    usual: str


def _length(start: str, least: int, usual: str) -> _Length:
    return _Length(re.compile(start), least, usual)


#: Provider → the forms whose length is known, the longest start first.
_LENGTHS: Final[Mapping[str, tuple[_Length, ...]]] = {
    "anthropic": (_length("sk-ant-api03-", 96, "108"),),
    "openai": (
        _length("sk-(?:proj|svcacct)-", 48, "56 or more"),
        _length("sk-", 32, "51 or more"),
    ),
    "gemini": (_length("AIza", 39, "39"), _length(r"AQ\.", 23, "more than 50")),
    "groq": (_length("gsk_", 40, "56"),),
    "openrouter": (_length("sk-or-v1-", 60, "73"),),
    "deepseek": (_length("sk-", 32, "35"),),
}

#: Provider → how every key of it begins; one that is not here has had others, or has none.
_STARTS: Final[Mapping[str, str]] = {"anthropic": "sk-ant-", "openai": "sk-"}

#: No key of any provider above is shorter.
_LEAST: Final = 16


def fault_of_length(value: str, provider: str, *, is_bearer: bool) -> str:
    """Return what tells a key that was cut, or something else, where that is certain."""
    known = next((one for one in _LENGTHS.get(provider, ()) if one.start.match(value)), None)
    if known is not None and len(value) < known.least:
        return (
            f"is {_characters(value)} long, and keys of this form have {known.usual}: it was cut"
            " when it was copied"
        )
    start = _STARTS.get(provider, "")
    if is_bearer:
        # What tokens for workloads look like nobody promises.
        return ""
    if not value.startswith(start):
        return f"holds something that does not start with {start}"
    if len(value) < _LEAST:
        return f"is {_characters(value)} long, which no key of this provider is"
    return ""


def _characters(value: str) -> str:
    return "1 character" if len(value) == 1 else f"{len(value)} characters"
