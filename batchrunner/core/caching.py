"""Which requests share a start that their provider's cache keeps, told from each request alone.

A provider keeps the start of a request, in the order tools, system, messages, where that is long
enough: Anthropic up to what is marked with ``cache_control``, others by themselves. Here a start becomes
a number, the same for all requests that have it in common: jobs in the order of their numbers follow
one another as their starts do. Its upper bits, the *family*, stand for the shortest start that is
kept, the lower for the longest, so that questions about one document lie together among all that
share a system prompt. Nothing is remembered from one request to the next, and no request is altered.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from batchrunner.core.tokens import text_tokens

__all__ = [
    "AUTOMATIC",
    "FAMILY_SHIFT",
    "KEPT_MS",
    "Caching",
    "Found",
    "Start",
    "family_of",
    "kept_ms",
    "start_of",
]

#: Fields of a request as a model reads them; the rest is no part of what is kept.
_ORDER: Final = (
    "tools",
    "functions",
    "response_format",
    "instructions",
    "system",
    "systemInstruction",
    "system_instruction",
    "messages",
    "input",
    "contents",
    "prompt",
)
#: Where a message has its parts.
_PARTS: Final = ("content", "parts")
_MARK: Final = "cache_control"
#: An estimate may be short by so much of what it turns out to be: better one group too many.
_AIR: Final = 0.8
#: A start that ends within a text is cut at a multiple of so many bytes.
_STEP: Final = 512
#: Of a longer part the first bytes tell that it is long enough.
_ENOUGH: Final = 64 * 1024
_FAMILY_BITS: Final = 24
#: Where the family begins in a start's number.
FAMILY_SHIFT: Final = 38

#: How long what is kept stays, from when it was last read (ms).
KEPT_MS: Final = 300_000.0
_KEPT_LONG_MS: Final = 3_600_000.0
#: What asks for longer: Anthropic's hour, OpenAI's day.
_LONG: Final = re.compile(rb'"ttl"\s*:\s*"1h"|"prompt_cache_retention"\s*:\s*"24h"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Caching:
    """What a provider keeps of requests."""

    #: Whether only what is marked is kept.
    is_marked: bool = False
    #: Pattern of a model's name → the fewest tokens that are kept; the first that is found counts.
    least_of: Sequence[tuple[re.Pattern[str], int]] = ()
    #: Of all others.
    least: int = 1_024

    def least_for(self, model: str) -> int:
        """Return the fewest tokens of a start that are kept."""
        return next((n for pattern, n in self.least_of if pattern.search(model)), self.least)


#: Long starts are kept, nobody has to ask for it.
AUTOMATIC: Final = Caching()


class Found(Enum):
    """What was found of a request's start."""

    KEPT = "kept"
    #: It is shorter than what is kept.
    SHORT = "short"
    #: Only what is marked is kept, and nothing is.
    UNMARKED = "unmarked"


class Start(NamedTuple):
    """A request's start: its number, 0 where nothing of it is kept."""

    number: int
    found: Found


class _Part(NamedTuple):
    text: bytes
    is_marked: bool


def start_of(body: bytes, model: str, caching: Caching) -> Start:
    """Return the start that a request shares with others."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return Start(0, Found.SHORT)
    if not isinstance(fields, dict):
        return Start(0, Found.SHORT)
    parts = list(_parts(fields))
    if _MARK in fields and parts:
        # Of the whole request: up to its last part.
        parts[-1] = parts[-1]._replace(is_marked=True)
    least = int(caching.least_for(model) * _AIR)
    if any(part.is_marked for part in parts):
        return _marked(parts, least)
    if caching.is_marked:
        return Start(0, Found.UNMARKED)
    return _by_itself(parts, least)


def family_of(start: int) -> int:
    """Return the family of a start: all that have its shortest start in common."""
    return start >> FAMILY_SHIFT


def kept_ms(body: bytes) -> float:
    """Return how long what is kept of a request stays, from when it was last read."""
    return _KEPT_LONG_MS if _LONG.search(body) else KEPT_MS


def _parts(fields: dict[str, Any]) -> Iterator[_Part]:
    """Yield what a model reads, piece by piece as it can be marked."""
    for name in _ORDER:
        value = fields.get(name)
        if value is None:
            continue
        for item in value if isinstance(value, list) else [value]:
            yield from _parts_of(name, item)


def _parts_of(name: str, item: object) -> Iterator[_Part]:
    if isinstance(item, dict):
        for of_message in _PARTS:
            if isinstance(pieces := item.get(of_message), list) and pieces:
                head = f"{name} {item.get('role', '')} ".encode()
                for piece in pieces:
                    yield _Part(head + _text(piece), isinstance(piece, dict) and _MARK in piece)
                    head = b""
                return
    yield _Part(f"{name} ".encode() + _text(item), isinstance(item, dict) and _MARK in item)


def _text(piece: object) -> bytes:
    if isinstance(piece, dict) and _MARK in piece:
        piece = {name: value for name, value in piece.items() if name != _MARK}
    return msgspec.json.encode(piece)


def _marked(parts: Sequence[_Part], least: int) -> Start:
    """Return the start up to the first mark that is far enough, and up to the last."""
    shortest = b""
    so_far, tokens = blake2b(digest_size=8), 0
    last = max(n for n, part in enumerate(parts) if part.is_marked)
    for part in parts[: last + 1]:
        so_far.update(part.text)
        if tokens < least:
            tokens += text_tokens(part.text[:_ENOUGH])
        if part.is_marked and tokens >= least and not shortest:
            shortest = so_far.digest()
    if not shortest:
        return Start(0, Found.SHORT)
    return Start(_number(shortest, so_far.digest()), Found.KEPT)


def _by_itself(parts: Sequence[_Part], least: int) -> Start:
    """Return the start up to as many tokens as are kept at least, and all but the last part."""
    shortest = b""
    so_far, tokens = blake2b(digest_size=8), 0
    for n, part in enumerate(parts):
        if shortest and n == len(parts) - 1:
            break
        for at in range(0, len(part.text), _STEP) if not shortest else ():
            piece = part.text[at : at + _STEP]
            tokens += text_tokens(piece)
            if tokens >= least:
                cut = so_far.copy()
                cut.update(part.text[: at + _STEP])
                shortest = cut.digest()
                break
        if n < len(parts) - 1:
            so_far.update(part.text)
    if not shortest:
        return Start(0, Found.SHORT)
    # All but the last part; the shortest again, where that ends within the last.
    longest = so_far.digest() if _is_beyond(parts, least) else shortest
    return Start(_number(shortest, longest), Found.KEPT)


def _is_beyond(parts: Sequence[_Part], least: int) -> bool:
    """Whether all but the last part is long enough to be kept."""
    tokens = 0
    for part in parts[:-1]:
        tokens += text_tokens(part.text[:_ENOUGH])
        if tokens >= least:
            return True
    return False


def _number(shortest: bytes, longest: bytes) -> int:
    family = int.from_bytes(shortest) & ((1 << _FAMILY_BITS) - 1)
    within = int.from_bytes(longest) & ((1 << FAMILY_SHIFT) - 1)
    return (family << FAMILY_SHIFT | within) or 1
