"""What response headers and error texts say about time and about limits.

Everything here is read defensively: servers send negative, absurd and malformed values, and a
wrong wait is worse than none. So whatever can't be read as an instant gives ``None`` and the next
place is tried; an instant in the past is now. Instants are wall time, epoch milliseconds, at the
moment the reply was received.

Absolute instants are taken relative to the response's own ``Date`` where there is one, so that a
wrong clock on this machine does not lengthen or shorten a wait.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, Literal

import msgspec

__all__ = [
    "LIMIT_HEADERS",
    "LearnedLimit",
    "instant_of",
    "learn_limits",
    "parse_wait",
    "server_date",
]

#: Error texts are searched for hints in their first characters only.
_TEXT_BOUND: Final = 16_384
#: 9999-12-31: nothing later is an instant.
_LATEST_MS: Final = 253_402_214_400_000
#: Plain numbers: below this they are seconds from now, then epoch seconds, then milliseconds.
_DELTA_BELOW: Final = 1e7
_EPOCH_S_BELOW: Final = 1e11

_MINUTE_S: Final = 60.0
_DAY_S: Final = 86_400.0
#: How much longer than a minute a minute's reset may read, rounded or late.
_ROUNDING_S: Final = 5.0
#: How far a day's bucket may be off, by rounding.
_BUCKET_ERROR: Final = 0.02

_UNIT_MS: Final[Mapping[str, float]] = {
    "d": 86_400_000.0,
    "h": 3_600_000.0,
    "m": 60_000.0,
    "s": 1_000.0,
    "ms": 1.0,
    "us": 0.001,
    "µs": 0.001,  # U+00B5, what Go prints
    "μs": 0.001,  # U+03BC, what some gateways make of it
    "ns": 0.000_001,
}
_UNIT_WORDS: Final[Mapping[str, str]] = {
    "day": "d",
    "hour": "h",
    "hr": "h",
    "minute": "m",
    "min": "m",
    "second": "s",
    "sec": "s",
    "millisecond": "ms",
}
_PIECE: Final = re.compile(
    r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*"
    r"(milliseconds?|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|ms|us|µs|μs|ns|d|h|m|s)"
    r"(?![a-zµμ])\s*",
    re.IGNORECASE,
)
#: ``6m0s`` has no word boundary between its pieces, so a unit may be followed by a digit.
_NUMBER: Final = re.compile(r"[+-]?\d{1,18}(?:\.\d{1,18})?", re.ASCII)
_ISO_START: Final = re.compile(r"\d{4}-\d\d-\d\d")

_PROSE_WAIT: Final = re.compile(
    r"(?:try again|retry|wait)\s+(?:in|after|for)\s+(?=\d)", re.IGNORECASE
)
_PROSE_DATE: Final = re.compile(
    r"regain access (?:on|at) (\d{4}-\d\d-\d\d)(?:(?: at |T)(\d\d:\d\d)(?::\d\d)?)?", re.IGNORECASE
)
#: Azure API Management: ``Quota will be replenished in 00:54:20.``
_PROSE_CLOCK: Final = re.compile(r"replenished in (\d{1,3}):(\d\d):(\d\d)", re.IGNORECASE)
#: OpenRouter repeats the headers of a refusal in its body.
_RESET_IN_BODY: Final = re.compile(r'"x-ratelimit-reset"\s*:\s*"?(\d{1,16})', re.IGNORECASE)
_RETRY_DELAY: Final = re.compile(
    r'"retry_?delay"\s*:\s*("[^"]{1,64}"|\{[^{}]{1,200}\})', re.IGNORECASE
)

#: Without the blanks around it: with them, a run of blanks would be cut up in every way there is.
_POLICY_NAME: Final = re.compile(r'"?([^";,=]*)"?')
_PARAM: Final = re.compile(r';\s*([a-z]+)\s*=\s*("[^"]*"|[^;\s]+)')

LimitName = Literal["rpm", "rpd", "tpm", "itpm", "otpm", "tpd"]


def _triple(form: str) -> tuple[str, str, str]:
    return form.format("limit"), form.format("remaining"), form.format("reset")


#: (limit header, remaining header, reset header) of Anthropic's request limit, always a minute's.
_ANTHROPIC: Final = (
    "anthropic-ratelimit-requests-limit",
    "anthropic-ratelimit-requests-remaining",
    "anthropic-ratelimit-requests-reset",
)
#: The OpenAI family's; whether they tell of the minute or the day differs by model and tier.
_OPENAI: Final = (
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
)
#: Mistral's, the minute's by name; it names no reset.
_MISTRAL: Final = (
    "x-ratelimit-limit-req-minute",
    "x-ratelimit-remaining-req-minute",
    "x-ratelimit-reset-req-minute",
)
#: Triples that tell of one limit, whichever server sends them; Anthropic's of input and output
#: tokens, Mistral's of the minute.
_TOLD: Final[tuple[tuple[tuple[str, str, str], LimitName], ...]] = (
    (_ANTHROPIC, "rpm"),
    (_triple("anthropic-ratelimit-input-tokens-{}"), "itpm"),
    (_triple("anthropic-ratelimit-output-tokens-{}"), "otpm"),
    (_MISTRAL, "rpm"),
    (_triple("x-ratelimit-{}-tokens-minute"), "tpm"),
)
#: Where it has both of the above, its ``tokens`` repeat the one that is nearer to its end.
_ANTHROPIC_TOKENS: Final = _triple("anthropic-ratelimit-tokens-{}")
#: The OpenAI family's tokens.
_OPENAI_TOKENS: Final = _triple("x-ratelimit-{}-tokens")
#: The headers that name a limit: without any of them there is nothing to learn.
LIMIT_HEADERS: Final = (
    *(names[0] for names, _ in _TOLD),
    _ANTHROPIC_TOKENS[0],
    _OPENAI[0],
    _OPENAI_TOKENS[0],
    "ratelimit-policy",
)


@dataclass(frozen=True, slots=True)
class LearnedLimit:
    """A limit that a server told of."""

    limit: LimitName
    #: Requests or tokens a window; at least 1.
    value: int
    remaining: int | None
    #: When the allowance is whole again, epoch ms; ``None``: not said.
    reset_at: int | None


def server_date(headers: Mapping[str, str]) -> int | None:
    """Return the instant of the ``Date`` header, epoch ms; ``None`` where it is missing or bad."""
    text = headers.get("date")
    return None if text is None else _http_date(text)


def parse_wait(headers: Mapping[str, str], body_text: str, *, now_wall_ms: float) -> int | None:
    """Return the earliest instant at which the server invites a retry, ``None`` without a word.

    ``headers`` has lower-case names. The most explicit source wins: ``retry-after-ms``,
    ``Retry-After``, a ``retryDelay`` in the body, prose in the body, a ``RateLimit`` field's ``t``,
    ``X-RateLimit-Reset`` of a spent allowance.
    """
    now = int(now_wall_ms)
    text = headers.get("retry-after-ms")
    if text is not None and (number := _number(text)) is not None:
        return _bounded(now + number)
    if (found := _instant(headers.get("retry-after"), headers, now)) is not None:
        return found
    if (found := _from_body(body_text[:_TEXT_BOUND], headers, now)) is not None:
        return found
    for item in _fields(headers.get("ratelimit")):
        if item.get("r", "0") == "0" and (number := _number(item.get("t"))) is not None:
            return _bounded(now + number * 1000.0)
    for family in ("x-ratelimit-", "ratelimit-"):
        if headers.get(f"{family}remaining", "").strip() == "0":
            return _instant(headers.get(f"{family}reset"), headers, now)
    return None


def learn_limits(
    headers: Mapping[str, str],
    *,
    now_wall_ms: float,
    requests_limit: Literal["rpm", "rpd"] | None = None,
    tokens_limit: Literal["tpm"] | None = None,
) -> list[LearnedLimit]:
    """Return the limits that ``headers`` (lower-case names) tell of, certain ones only.

    ``requests_limit`` is whose limit the provider's ``x-ratelimit-limit-requests`` always is,
    ``tokens_limit`` the same of its tokens; ``None``: it is told by its refill.

    A value of zero or less stands for unknown, as Azure sends it, and is left out; so is a limit
    of which it can't be told whether it is the minute's or the day's.
    """
    found: list[LearnedLimit] = []
    now = int(now_wall_ms)
    for names, limit in _TOLD:
        if names[0] in headers and (learned := _headed(names, limit, headers, now)):
            found.append(learned)
    is_split = any(learned.limit in ("itpm", "otpm") for learned in found)
    if not is_split and (learned := _headed(_ANTHROPIC_TOKENS, "tpm", headers, now)):
        found.append(learned)
    if _OPENAI[0] in headers and (learned := _headed(_OPENAI, requests_limit, headers, now)):
        found.append(learned)
    if _OPENAI_TOKENS[0] in headers and (
        learned := _headed(_OPENAI_TOKENS, tokens_limit, headers, now, unit="t")
    ):
        found.append(learned)
    if "ratelimit-policy" in headers:
        found.extend(_from_policy(headers, now))
    return found


def _headed(
    names: tuple[str, str, str],
    limit: LimitName | None,
    headers: Mapping[str, str],
    now: int,
    *,
    unit: Literal["r", "t"] = "r",
) -> LearnedLimit | None:
    """Return the limit that a triple of headers tells of; ``limit=None``: tell it from the reset."""
    value = _whole(headers.get(names[0]))
    if value is None or value <= 0:
        return None
    remaining = _whole(headers.get(names[1]))
    reset_at = _instant(headers.get(names[2]), headers, now)
    if limit is None and (window := _window_of(value, remaining, reset_at, now)) is not None:
        limit = _OF_UNIT[unit, window]
    if limit is None:
        return None
    return LearnedLimit(limit, value, remaining, reset_at)


_OF_UNIT: Final[Mapping[tuple[str, str], LimitName]] = {
    ("r", "minute"): "rpm",
    ("r", "day"): "rpd",
    ("t", "minute"): "tpm",
    ("t", "day"): "tpd",
}


def _window_of(
    value: int, remaining: int | None, reset_at: int | None, now: int
) -> Literal["minute", "day"] | None:
    """Return whose limit it is, ``None`` where that is not certain.

    A bucket that lacks k of n is full again after k/n of its window. One that is counted in whole
    minutes lacks anything for up to a minute, which must not be taken for a day's share: a day's
    limit is one that takes longer, or that is a bucket to the point.
    """
    if remaining is None or reset_at is None or not 0 <= remaining < value or reset_at <= now:
        return None
    reset_s = (reset_at - now) / 1000.0
    window_s = reset_s * value / (value - remaining)
    is_longer = reset_s > _MINUTE_S + _ROUNDING_S
    if window_s < math.sqrt(_MINUTE_S * _DAY_S):
        return None if is_longer else "minute"
    return "day" if is_longer or abs(window_s / _DAY_S - 1.0) < _BUCKET_ERROR else None


def _from_policy(headers: Mapping[str, str], now: int) -> list[LearnedLimit]:
    """Return the limits of a ``RateLimit-Policy`` field (draft-ietf-httpapi-ratelimit-headers)."""
    state = {item["name"]: item for item in _fields(headers.get("ratelimit"))}
    found = []
    for item in _fields(headers["ratelimit-policy"]):
        limit: Literal["rpm", "rpd"] | None = {"60": "rpm", "86400": "rpd"}.get(item.get("w", ""))  # type: ignore[assignment]  # dict.get widens the literals
        # Up to draft 06 the quota was the item itself: ``100;w=60``.
        value = _whole(item.get("q", item["name"]))
        if limit is None or value is None or value <= 0 or item.get("qu", "requests") != "requests":
            continue
        now_left = state.get(item["name"], {})
        seconds = _number(now_left.get("t"))
        found.append(
            LearnedLimit(
                limit,
                value,
                _whole(now_left.get("r")),
                None if seconds is None else _bounded(now + seconds * 1000.0),
            )
        )
    return found


def _fields(text: str | None) -> list[dict[str, str]]:
    """Split a structured list of named items into parameters, each with its ``name``."""
    found = []
    for part in (text or "").split(","):
        named, semicolon, parameters = part.partition(";")
        match = _POLICY_NAME.fullmatch(named.strip())
        if match is not None:
            pairs = _PARAM.findall(semicolon + parameters)
            item = {name: value.strip('"') for name, value in pairs}
            found.append({**item, "name": match[1].strip()})
    return found


def _from_body(text: str, headers: Mapping[str, str], now: int) -> int | None:
    """Return the instant that a body names: a protobuf delay, a date, or words."""
    if (match := _RETRY_DELAY.search(text)) is not None and (
        delay := _delay_ms(match[1])
    ) is not None:
        return _bounded(now + delay)
    if (match := _PROSE_DATE.search(text)) is not None:
        return _instant(f"{match[1]}T{match[2] or '00:00'}:00Z", {}, now)
    if (match := _PROSE_WAIT.search(text)) is not None:
        rest = text[match.end() : match.end() + 80]
        if (wait := _duration_ms(rest, whole=False)) is not None:
            return _bounded(now + wait)
        word = rest.split()[0].rstrip(".,;\"'")
        return _instant(word, headers, now) if _ISO_START.match(word) else None
    return _from_form(text, headers, now)


def _from_form(text: str, headers: Mapping[str, str], now: int) -> int | None:
    """Return the instant that a body names as a clock's reading or as a header that it repeats."""
    if (match := _PROSE_CLOCK.search(text)) is not None:
        hours, minutes, seconds = (int(number) for number in match.groups())
        return _bounded(now + (hours * 3600 + minutes * 60 + seconds) * 1000.0)
    if (match := _RESET_IN_BODY.search(text)) is not None:
        return _instant(match[1], headers, now)
    return None


def instant_of(text: str | None, headers: Mapping[str, str], now_wall: int) -> int | None:
    """Return the instant (epoch ms) that a header's value means; ``None`` where it means none."""
    return _instant(text, headers, now_wall)


def _delay_ms(raw: str) -> float | None:
    """Return a JSON ``google.protobuf.Duration``: ``"18.4s"`` or ``{"seconds": "18", "nanos": 1}``."""
    try:
        value = msgspec.json.decode(raw)
    except ValueError:
        return None
    if isinstance(value, str):
        return _duration_ms(value)
    seconds = _number(str(value.get("seconds", 0)))
    nanos = _number(str(value.get("nanos", 0)))
    return None if seconds is None or nanos is None else seconds * 1000.0 + nanos / 1e6


def _instant(text: str | None, headers: Mapping[str, str], now: int) -> int | None:
    """Return the instant that one value means, whichever of the known forms it has."""
    text = (text or "").strip()
    if not text:
        return None
    if _NUMBER.fullmatch(text):
        number = _number(text)
        if number is None:
            return None
        if number < _DELTA_BELOW:
            return _bounded(now + number * 1000.0)
        return _relative(number * (1000.0 if number < _EPOCH_S_BELOW else 1.0), headers, now)
    if (duration := _duration_ms(text)) is not None:
        return _bounded(now + duration)
    at = _iso_date(text) if _ISO_START.match(text) else _http_date(text)
    return None if at is None else _relative(at, headers, now)


def _relative(at: float, headers: Mapping[str, str], now: int) -> int | None:
    """Move an instant on the server's clock to ours; past ones are now."""
    date = server_date(headers)
    return _bounded(max(now, at if date is None else now + at - date))


def _bounded(at: float) -> int | None:
    return math.ceil(at) if at <= _LATEST_MS else None


def _number(text: str | None) -> float | None:
    """Return a finite number that is not negative."""
    if text is None or not _NUMBER.fullmatch(text.strip()):
        return None
    number = float(text)
    return number if number >= 0 else None


def _whole(text: str | None) -> int | None:
    number = _number(text)
    return None if number is None else int(number)


def _duration_ms(text: str, *, whole: bool = True) -> float | None:
    """Return a Go or spelt-out duration (``6m11.52s``, ``6m 11.5s``, ``37 seconds``) in ms.

    With ``whole=False`` words may follow it.
    """
    position, total = 0, 0.0
    while (match := _PIECE.match(text, position)) is not None:
        unit = match[2].lower()
        word = unit.rstrip("s") if len(unit) > 2 else unit
        total += float(match[1]) * _UNIT_MS[_UNIT_WORDS.get(word, unit)]
        position = match.end()
    if position == 0 or (whole and position < len(text)):
        return None
    return total


def _iso_date(text: str) -> int | None:
    try:
        parsed = datetime.fromisoformat(text)
        at = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
        return int(at.timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def _http_date(text: str) -> int | None:
    try:
        parsed = parsedate_to_datetime(text)
        at = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=UTC)
        return int(at.timestamp() * 1000)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
