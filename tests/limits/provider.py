"""A provider on simulated time: it keeps its own limits by its own code, and writes down what comes.

Its windows share nothing with ``batchrunner.core``; its log is all that the judge reads of the
sends. What a killed process has written to the network still arrives.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from batchrunner.models import Reply, Request
from tests.limits.virtual import Killed, VirtualLoop

__all__ = ["CLEAR", "Bucket", "DayCap", "Fixed", "Provider", "Seen", "Sliding", "Way", "Weather"]


class Seen(NamedTuple):
    """One line of the server's log; instants are the server's clock, epoch seconds."""

    t: float
    key: str
    model: str
    run: str
    status: int
    #: Until when a 429 asked to wait, where it named a time.
    until: float | None = None
    #: Input tokens, as the server counts them.
    tokens: int = 9


class Window(Protocol):
    """One way in which a server counts."""

    def take(self, t: float) -> float:
        """Count a request at ``t``; return 0, or refuse it and return the seconds to wait."""
        ...


class Sliding:
    """At most n in any window of so many seconds; refused ones do not count."""

    def __init__(self, n: int, seconds: float = 60.0) -> None:
        self._n, self._seconds = n, seconds
        self._inside: deque[float] = deque()

    def take(self, t: float) -> float:
        while self._inside and self._inside[0] <= t - self._seconds:
            self._inside.popleft()
        if len(self._inside) < self._n:
            self._inside.append(t)
            return 0.0
        return self._inside[0] + self._seconds - t


class Fixed:
    """At most n in each window of a grid, such as the minutes of the clock."""

    def __init__(self, n: int, seconds: float = 60.0, phase: float = 0.0) -> None:
        self._n, self._seconds, self._phase = n, seconds, phase
        self._index, self._used = -1, 0

    def take(self, t: float) -> float:
        index = int((t - self._phase) // self._seconds)
        if index != self._index:
            self._index, self._used = index, 0
        if self._used < self._n:
            self._used += 1
            return 0.0
        return (index + 1) * self._seconds + self._phase - t


class Bucket:
    """A bucket that refills evenly and holds so much."""

    def __init__(self, n: int, size: float = 2.0) -> None:
        self._rate, self._size = n / 60.0, size
        self._level, self._at = size, 0.0

    def take(self, t: float) -> float:
        self._level = min(self._size, self._level + (t - self._at) * self._rate)
        self._at = t
        if self._level >= 1.0:
            self._level -= 1.0
            return 0.0
        return (1.0 - self._level) / self._rate


class DayCap:
    """At most n a day of a zone; refused ones do not count."""

    def __init__(self, n: int, zone: str) -> None:
        self._n, self._zone = n, ZoneInfo(zone)
        self._used: Counter[Any] = Counter()

    def take(self, t: float) -> float:
        today = datetime.fromtimestamp(t, self._zone).date()
        if self._used[today] < self._n:
            self._used[today] += 1
            return 0.0
        return 3_600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What the server does beside its limits, and the network on the way to it."""

    #: This share of the requests is refused at random.
    refused: float = 0.0
    #: This share of all refusals names the time to wait.
    hinted: float = 1.0
    #: Seconds from receipt to answer.
    latency_s: tuple[float, float] = (0.3, 2.5)
    #: Seconds from the first byte written to its receipt.
    wire_s: tuple[float, float] = (0.005, 0.06)
    #: The limit a minute that headers name.
    named: int | None = None
    #: This share of the connections takes up to 3 s to make.
    stalls: float = 0.001


#: Nothing is refused without a limit.
CLEAR: Final = Weather()

#: The longest that a random 429 asks to wait (seconds).
LONGEST_HINT_S: Final = 90.0


@dataclass(slots=True)
class Provider:
    """The server, over all lives of the processes that ask it."""

    weather: Weather
    rand: random.Random
    windows: tuple[Window, ...] = ()
    log: list[Seen] = field(default_factory=list)

    def receive(self, t: float, body: Mapping[str, Any]) -> Reply:
        """Write a request down and return the answer to it."""
        key, model = body["metadata"]["user_id"], body["model"]
        wait = max((window.take(t) for window in self.windows), default=0.0)
        if not wait and self.rand.random() < self.weather.refused:
            wait = self.rand.uniform(1.0, LONGEST_HINT_S)
        said = wait > 0 and self.rand.random() < self.weather.hinted
        until = t + float(int(wait) + 1) if said else None
        status = 429 if wait else 200
        tokens = _tokens(body)
        self.log.append(Seen(t, key, model, key.partition("-")[0], status, until, tokens))
        return _refusal(t, until) if wait else _answer(t, model, tokens, self.weather.named)


def _tokens(body: Mapping[str, Any]) -> int:
    """Count a request's tokens in a way of its own: words, and a few more."""
    return 9 + sum(message["content"].count(" ") for message in body["messages"])


def _answer(t: float, model: str, tokens: int, named: int | None) -> Reply:
    message = {
        "type": "message",
        "model": model,
        "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "yes"}],
        "usage": {"input_tokens": tokens, "output_tokens": 1},
    }
    headers = {}
    if named is not None:
        reset = datetime.fromtimestamp(t + 60.0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        told = {"limit": str(named), "remaining": str(named - 1), "reset": reset}
        headers = {f"anthropic-ratelimit-requests-{name}": word for name, word in told.items()}
    return Reply(status=200, headers=headers, body=json.dumps(message).encode())


def _refusal(t: float, until: float | None) -> Reply:
    headers = {"date": datetime.fromtimestamp(t, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")}
    if until is not None:
        headers["retry-after"] = str(round(until - t))
    error = {"type": "rate_limit_error", "message": "too many requests"}
    return Reply(
        status=429, headers=headers, body=json.dumps({"type": "error", "error": error}).encode()
    )


class Way:
    """One process's way to the provider: asks the gate right before the first byte, like the real one."""

    def __init__(
        self, provider: Provider, loop: VirtualLoop, ask: Callable[[Any], Any], seed: object
    ) -> None:
        """Take the gate (``ask``) that a limited send passes."""
        self._provider, self._loop, self._ask = provider, loop, ask
        self._rand = random.Random(f"way {seed}")
        self._written: dict[object, tuple[float, Mapping[str, Any]]] = {}
        self._is_dead = False

    async def send(self, request: Request, ticket: object | None = None) -> Reply:
        """Send once."""
        rand, weather = self._rand, self._provider.weather
        stalled = rand.random() < weather.stalls
        await asyncio.sleep(rand.uniform(0.2, 3.0) if stalled else rand.uniform(0.0, 0.008))
        if ticket is not None:
            await self._ask(ticket)
        if self._is_dead:
            raise Killed
        written = object()
        body = json.loads(request.body)
        arrives = self._loop.time() + rand.uniform(*weather.wire_s)
        self._written[written] = arrives, body
        await asyncio.sleep(arrives - self._loop.time())
        if self._written.pop(written, None) is None:
            raise Killed
        reply = self._provider.receive(arrives, body)
        await asyncio.sleep(rand.uniform(*weather.latency_s))
        return reply

    def kill(self) -> None:
        """Die: what was written arrives, nothing else goes out, no answer is read."""
        self._is_dead = True
        for arrives, body in sorted(self._written.values(), key=lambda item: item[0]):
            self._provider.receive(arrives, body)
        self._written.clear()
