"""What response headers say of a provider's own limits, kept and shown as the provider's word.

Unlike a learned limit nothing follows from it: it is there to be compared with our own count, and
to show what other programs on the same key have used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from batchrunner.core.credentials import Secrets
from batchrunner.core.headers import instant_of

__all__ = ["Said", "kept_headers", "said", "with_used_up"]

#: How much of an answer's headers is kept.
_MOST_HEADERS: Final = 40
_LONGEST_VALUE: Final = 200
#: ``anthropic-ratelimit-input-tokens-remaining``, ``x-ratelimit-remaining-requests``,
#: ``x-ratelimit-limit-req-minute``, ``x-ratelimit-remaining``.
_FORMS: Final = (
    re.compile(r"[a-z]+-ratelimit-(?P<what>[a-z-]+)-(?P<field>limit|remaining|reset)"),
    re.compile(r"x-ratelimit-(?P<field>limit|remaining|reset)(?:-(?P<what>[a-z-]+))?"),
)


@dataclass(frozen=True, slots=True)
class Said:
    """One limit in a provider's words."""

    #: ``requests``, ``input-tokens``, ``tokens`` …, as its headers call it.
    what: str
    limit: str | None
    remaining: str | None
    #: Wall epoch ms; ``None``: not said, or not an instant.
    resets_at: int | None


def kept_headers(headers: Mapping[str, str], secrets: Secrets) -> dict[str, str]:
    """Return the headers that tell of limits, with ``date``, lower-case names, bounded.

    A server may throw ``secrets`` back there as well; they go before anything is cut.
    """
    told = [
        (name.lower(), secrets.hide(value)[:_LONGEST_VALUE])
        for name, value in headers.items()
        if "ratelimit" in name.lower() or name.lower() == "date"
    ]
    return dict(told[:_MOST_HEADERS])


def with_used_up(message: str, headers: Mapping[str, str], *, at_wall: int) -> str:
    """Return the words of a refusal with what its headers say is used up, where they don't name it.

    *Rate limited* alone leaves open whether requests or tokens ran out.
    """
    spent = [
        one.what.replace("-", " ") for one in said(headers, at_wall=at_wall) if one.remaining == "0"
    ]
    missing = [what for what in spent if what not in message.lower()]
    return f"{message} (used up: {', '.join(missing)})" if missing else message


def said(headers: Mapping[str, str], *, at_wall: int) -> list[Said]:
    """Return the limits that kept headers tell of; ``at_wall`` is when they came (epoch ms)."""
    fields: dict[str, dict[str, str]] = {}
    for name, value in headers.items():
        for form in _FORMS:
            if (match := form.fullmatch(name)) is not None:
                fields.setdefault(match["what"] or "requests", {})[match["field"]] = value
                break
    return [
        Said(
            what,
            told.get("limit"),
            told.get("remaining"),
            instant_of(told.get("reset"), headers, at_wall),
        )
        for what, told in fields.items()
        if "limit" in told or "remaining" in told
    ]
