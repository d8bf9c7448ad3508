"""One request as it came in, and what shall become of it.

A plan is a value: whoever decides does not touch the connection, whoever acts on it decides nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp
from statistics import NormalDist
from typing import Any, Final, NamedTuple

from batchrunner.providers.simulator.config import Fault, SimulatorConfig

_NORMAL: Final = NormalDist()

#: What the provider says with a status, where nothing better is known.
MESSAGES: Final[Mapping[int, str]] = {
    400: "messages: this prompt is marked to be refused",
    401: "invalid x-api-key",
    402: "Your credit balance is too low to access the API.",
    403: "Your API key does not have permission to use the specified resource.",
    404: "Not found",
    409: "Conflict",
    413: "Request exceeds the maximum size",
    429: "This request would exceed your organization's rate limit. Please try again later.",
    500: "Internal server error",
    503: "Service unavailable",
    504: "The request timed out",
    529: "Overloaded",
}

#: ``[[404]]`` in a prompt asks for that status, each time.
MARK: Final = re.compile(r"\[\[([45]\d\d)\]\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One request, read whole."""

    #: Counted from 1 over all requests but those for the model list.
    n: int
    #: Received, epoch seconds.
    t: float
    method: str
    path: str
    query: Mapping[str, str]
    #: Names as the client wrote them, looked up in any case.
    headers: Mapping[str, str]
    body: bytes
    #: The user's text; empty where the body has none.
    prompt: str = ""
    #: The decoded body; ``None`` where it is no JSON.
    decoded: Any = None

    @property
    def key(self) -> str:
        """What tells two requests apart: the SHA-256 of the body, in hex."""
        return hashlib.sha256(self.body).hexdigest()

    @property
    def credential(self) -> str:
        """The key in ``x-api-key`` or ``authorization``; empty where there is none."""
        given = self.headers.get("x-api-key") or self.headers.get("authorization", "")
        return given.removeprefix("Bearer ").strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What becomes of a request."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay_s: float = 0.0
    #: A fault of the connection; one that is an error status stands in ``status``.
    fault: Fault | None = None
    #: Why the request was not answered, in a word for the log.
    cause: str | None = None


class Drawn(NamedTuple):
    """What fate has for a send."""

    fault: Fault | None
    latency_s: float


class Fate:
    """Draws faults and latencies from the seed and the prompt; the same whatever the order."""

    def __init__(self, config: SimulatorConfig) -> None:
        """Start with nobody hit."""
        self._config = config
        self._rates = tuple((fault, rate) for fault, rate in config.fault_rates() if rate)
        #: Faults a prompt has met; prompts without one are not in it.
        self._met: dict[bytes, int] = {}

    def draw(self, prompt: str) -> Drawn:
        """Draw for the next send of a prompt."""
        if not self._rates and not self._config.latency_s:
            return Drawn(None, 0.0)
        key = hashlib.blake2b(prompt.encode(errors="replace"), digest_size=12).digest()
        met = self._met.get(key, 0)
        dice = hashlib.blake2b(key, salt=f"{self._config.seed},{met}".encode()[:16]).digest()
        latency_s = self._latency(_share(dice[8:16]))
        if self._config.max_faults is not None and met >= self._config.max_faults:
            return Drawn(None, latency_s)
        left = _share(dice[:8])
        for fault, rate in self._rates:
            if left < rate:
                self._met[key] = met + 1
                return Drawn(fault, latency_s)
            left -= rate
        return Drawn(None, latency_s)

    def _latency(self, share: float) -> float:
        if not self._config.latency_s:
            return 0.0
        z = _NORMAL.inv_cdf(min(max(share, 1e-6), 1 - 1e-6))
        return self._config.latency_s * exp(self._config.latency_sigma * z)


def _share(data: bytes) -> float:
    """Return eight random bytes as a number from 0 up to 1."""
    return int.from_bytes(data) / 2**64
