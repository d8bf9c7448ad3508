"""Limits in force on a scope: which of several stored caps holds, and how fast it may be used.

What a person typed wins, ``none`` included; a learned cap fills in only where nothing was typed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

RPM: Final = "rpm"
RPD: Final = "rpd"
TPM: Final = "tpm"
ITPM: Final = "itpm"
OTPM: Final = "otpm"
TPD: Final = "tpd"
MIN_INTERVAL: Final = "min_interval"
#: No limit: a cap row of this name holds only the zone a person typed for the day.
DAY_RESETS: Final = "day_resets"

ROLLING: Final = "rolling"
DEFAULT_ZONE: Final = "UTC"

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000

REQUESTS: Final = "requests"
INPUT_TOKENS: Final = "input_tokens"
OUTPUT_TOKENS: Final = "output_tokens"
#: What counts to ``tpm`` and ``tpd``: both, or input alone; derived from these, never stored.
TOKENS: Final = "tokens"


class Meter(NamedTuple):
    """What a limit counts, and over how long."""

    unit: str
    window_ms: int


#: Every limit that counts something. Those of a day have a zone.
METERS: Final = {
    RPM: Meter(REQUESTS, MINUTE_MS),
    TPM: Meter(TOKENS, MINUTE_MS),
    ITPM: Meter(INPUT_TOKENS, MINUTE_MS),
    OTPM: Meter(OUTPUT_TOKENS, MINUTE_MS),
    RPD: Meter(REQUESTS, DAY_MS),
    TPD: Meter(TOKENS, DAY_MS),
}
#: Those that a day's zone belongs to.
DAILY: Final = frozenset(name for name, meter in METERS.items() if meter.window_ms == DAY_MS)
#: Those that count tokens.
TOKEN_LIMITS: Final = frozenset(name for name, meter in METERS.items() if meter.unit != REQUESTS)
#: A limit in a sentence: *the limit of 50 requests a minute*.
WORDS: Final = {
    RPM: "requests a minute",
    TPM: "tokens a minute",
    ITPM: "input tokens a minute",
    OTPM: "output tokens a minute",
    RPD: "requests a day",
    TPD: "tokens a day",
}

#: The sources of a cap, the strongest first.
SOURCES: Final = ("flag", "config", "header", "default")

#: Those that a person said.
TYPED: Final = frozenset({"flag", "config"})


class Cap(NamedTuple):
    """A row of the table ``cap``."""

    limit_name: str
    #: Requests or tokens, or milliseconds for ``min_interval``; ``None``: told to be none.
    value: float | None
    #: For a day's: an IANA zone or ``rolling``; ``None``: not said.
    zone: str | None
    source: str


class Limit(NamedTuple):
    """One limit in force: at most ``n`` sends or tokens in a window, or in a day of ``zone``."""

    name: str
    #: Sends or tokens; for ``min_interval`` milliseconds between two.
    n: float
    source: str
    zone: str | None = None


class Pace(NamedTuple):
    """How sends are spread: one each ``interval_ms``, and up to ``slack_ms`` early."""

    interval_ms: float
    slack_ms: float


def pool_caps(caps: Iterable[Cap], account: Iterable[Cap]) -> list[Cap]:
    """Return the caps of a pool that may hold: what a person typed for its account wins over what
    the pool has learned, *none* included."""
    typed = {cap.limit_name for cap in account if cap.source in TYPED}
    return [cap for cap in caps if cap.limit_name not in typed]


def effective_caps(rows: Iterable[Cap], default_zone: str = DEFAULT_ZONE) -> tuple[Limit, ...]:
    """Return the limits in force; a name whose strongest cap says *none* is left out.

    Args:
        rows: all caps of one scope.
        default_zone: the provider's day, where no cap says one.
    """
    ranked = sorted(rows, key=lambda cap: SOURCES.index(cap.source))
    strongest: dict[str, Cap] = {}
    for cap in ranked:
        strongest.setdefault(cap.limit_name, cap)
    typed_zone = strongest.pop(DAY_RESETS, None)
    limits = []
    for name, cap in strongest.items():
        if cap.value is None or (name == MIN_INTERVAL and cap.value <= 0):
            continue
        zone = None
        if name in DAILY:
            zone = (typed_zone and typed_zone.zone) or cap.zone or default_zone
        limits.append(Limit(name, cap.value, cap.source, zone))
    return tuple(limits)


def pace_of(n: float, window_ms: int) -> Pace:
    """Return the pace at which ``n`` sends a window arrive evenly.

    The window is taken a little longer (half a second a minute) against jitter of the network,
    since what counts is what the server sees; a burst of 50 ms of the rate saves wake-ups.
    """
    guard_ms = min(500.0, window_ms / 120)
    burst = max(1.0, n * 50.0 / window_ms)
    interval = (window_ms + guard_ms) / (n + 1 - burst)
    return Pace(interval, (burst - 1) * interval)
