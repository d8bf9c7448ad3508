"""What a simulated provider is like: limits, latency, faults. A value, checked when it is made.

Rates are shares of requests between 0 and 1. A fault is drawn from the seed and the prompt, not
from the order of arrival, so that the same jobs meet the same faults whatever the concurrency.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

DAY_S: Final = 86_400.0


class WindowKind(StrEnum):
    """How a per-minute limit is enforced."""

    #: At most N in any stretch of one minute.
    SLIDING = "sliding"
    #: At most N between two ticks of the minute.
    FIXED = "fixed"
    #: Refilled continuously, with room for a sixtieth of the minute's allowance (at least 2).
    BUCKET = "bucket"


class Fault(StrEnum):
    """What a send can meet instead of a whole answer."""

    #: 429 though the limit was kept.
    RATE_LIMITED = "rate_limited"
    #: 529.
    OVERLOADED = "overloaded"
    #: 500.
    SERVER_ERROR = "server_error"
    #: TCP reset before any answer.
    RESET = "reset"
    #: Headers and half of the body, then the connection ends.
    CUT = "cut"
    #: The connection ends in order, without an answer.
    CLOSE = "close"
    #: No answer until the client leaves.
    HANG = "hang"
    #: Bytes that are not HTTP.
    GARBAGE = "garbage"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorConfig:
    """How the simulator behaves; the defaults answer everything at once, without limits.

    Raises ``ValueError`` where a value makes no sense.
    """

    #: Requests a minute; ``None``: no limit, and no limit headers.
    rpm: int | None = None
    window: WindowKind = WindowKind.SLIDING
    #: Seconds in a minute of the limit. Resets and ``retry-after`` follow it; the limit's number
    #: does not, so a client that paces itself by the headers sees a more generous server.
    minute_s: float = 60.0
    #: Requests a day; ``None``: no limit.
    rpd: int | None = None
    #: An IANA zone, whose midnight ends the day, or ``rolling``.
    day_resets: str = "UTC"
    #: Seconds in a day. Other than 86,400, days are slices of the epoch and the zone is not used.
    day_s: float = DAY_S

    #: Median time to an answer; log-normal with the spread ``latency_sigma``.
    latency_s: float = 0.0
    latency_sigma: float = 0.5

    seed: int = 0
    rate_429: float = 0.0
    rate_529: float = 0.0
    rate_500: float = 0.0
    rate_reset: float = 0.0
    rate_cut: float = 0.0
    rate_hang: float = 0.0
    #: One prompt meets at most so many faults, then it is answered; ``None``: no end.
    max_faults: int | None = 2
    #: Seconds that the 429 of ``rate_429`` and of ``throttle_at`` ask for.
    retry_after_s: int = 2
    #: The n-th requests (from 1) that start a throttle: all get 429 until ``retry_after_s`` passed.
    throttle_at: tuple[int, ...] = ()

    #: The fewest tokens of a marked prefix that the prompt cache keeps, and for how many seconds where
    #: not for an hour.
    cache_least: int = 1_024
    cache_s: float = 300.0

    #: Where set, any other credential gets 401.
    api_key: str | None = None
    #: From this request on (counted from 0 answered) every credential gets 401.
    unauthorized_after: int | None = None
    #: Models that exist; empty: all but those whose name starts with ``no-such-``.
    models: tuple[str, ...] = ()
    #: Whether a Messages request without ``anthropic-version`` gets 400, as at the provider.
    require_version: bool = True
    organization: str = "org_simulated"

    def __post_init__(self) -> None:
        """Refuse what can't be simulated."""
        for name in ("rpm", "rpd"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        if self.minute_s <= 0 or self.day_s <= 0:
            raise ValueError("minute_s and day_s must be positive")
        if self.latency_s < 0 or self.latency_sigma < 0 or self.retry_after_s < 0:
            raise ValueError("latencies and retry_after_s can't be negative")
        rates = [rate for _, rate in self.fault_rates()]
        if min(rates) < 0 or sum(rates) > 1:
            raise ValueError("fault rates must be between 0 and 1, and 1 at most together")

    def fault_rates(self) -> tuple[tuple[Fault, float], ...]:
        """Return each fault that is drawn, with its share of requests."""
        return (
            (Fault.RATE_LIMITED, self.rate_429),
            (Fault.OVERLOADED, self.rate_529),
            (Fault.SERVER_ERROR, self.rate_500),
            (Fault.RESET, self.rate_reset),
            (Fault.CUT, self.rate_cut),
            (Fault.HANG, self.rate_hang),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorStats:
    """What the simulator has seen since it started."""

    received: int = 0
    #: Whole answers with status 200 begun (a client that left did not read all of them).
    answered: int = 0
    #: 429 because the minute's limit was passed: what a careful client never causes.
    over_minute: int = 0
    #: 429 because the day's limit was passed.
    over_day: int = 0
    #: 429 that the configuration asked for.
    throttled: int = 0
    #: Other faults that the configuration asked for.
    faults: int = 0
    #: Other answers with an error status.
    refused: int = 0
