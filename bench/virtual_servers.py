"""Servers of several kinds, and senders that keep so many requests in flight at them, on a fake clock.

Each server says of a request that arrives when it will be answered, and whether with an answer or with
trouble. Nothing here is known to what finds the bound (:mod:`batchrunner.core.adaptive`).
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple, Protocol

from batchrunner.core.adaptive import Adaptive
from batchrunner.core.outage import Outage
from batchrunner.models import ErrorKind, JobId

__all__ = ["SERVERS", "Fixed", "Result", "Server", "run"]

#: A refusal takes so long (ms).
QUICK_MS: Final = 5.0


class Server(Protocol):
    """One server."""

    def arrive(self, now: float) -> tuple[float, bool]:
        """Return when a request is over, and whether it was answered."""
        ...

    def leave(self) -> None:
        """Take note that a request was answered."""
        ...


def times(rand: random.Random, mean_ms: float, spread: float) -> Callable[[], float]:
    """Return what draws how long jobs take: log-normal about a mean, ``spread`` its deviation over it."""
    if not spread:
        return lambda: mean_ms
    sigma = math.sqrt(math.log(1 + spread * spread))
    mu = math.log(mean_ms) - sigma * sigma / 2
    return lambda: rand.lognormvariate(mu, sigma)


@dataclass
class Steady:
    """Takes as many as come, each as long as alone."""

    work: Callable[[], float]

    def arrive(self, now: float) -> tuple[float, bool]:
        """Answer."""
        return now + self.work(), True

    def leave(self) -> None:
        """Know nothing of it."""


@dataclass
class Queueing:
    """Works on ``n`` at once; the others wait in line."""

    work: Callable[[], float]
    n: int
    _free: list[float] = field(default_factory=list)

    def arrive(self, now: float) -> tuple[float, bool]:
        """Answer once a worker was free and has done the work."""
        begins = now
        if len(self._free) >= self.n:
            begins = max(now, heapq.heappop(self._free))
        ends = begins + self.work()
        heapq.heappush(self._free, ends)
        return ends, True

    def leave(self) -> None:
        """Know it already."""


@dataclass
class Slowing:
    """Shares itself among all: beyond ``n`` each takes longer, and all together a little longer yet."""

    work: Callable[[], float]
    n: int
    penalty: float = 0.1
    _n_here: int = 0

    def arrive(self, now: float) -> tuple[float, bool]:
        """Answer, the later the more are here."""
        self._n_here += 1
        load = max(1.0, self._n_here / self.n)
        return now + self.work() * load ** (1 + self.penalty), True

    def leave(self) -> None:
        """Have one less."""
        self._n_here -= 1


@dataclass
class Shedding:
    """Refuses what comes while ``n`` are here; quickly, as a 529 or a refused connection is."""

    work: Callable[[], float]
    n: int
    _n_here: int = 0

    def arrive(self, now: float) -> tuple[float, bool]:
        """Answer or refuse."""
        if self._n_here >= self.n:
            return now + QUICK_MS, False
        self._n_here += 1
        return now + self.work(), True

    def leave(self) -> None:
        """Have one less."""
        self._n_here -= 1


@dataclass
class Stalling(Shedding):
    """Lets what comes while ``n`` are here wait as long as an answer takes, and then fails it, as a timeout is."""

    _n_here: int = 0

    def arrive(self, now: float) -> tuple[float, bool]:
        """Answer or fail, both late."""
        until, is_answer = super().arrive(now)
        return (until, True) if is_answer else (now + self.work(), False)


@dataclass
class Capped(Shedding):
    """Refuses like :class:`Shedding`, and everybody has to stop for a while: a 429 with ``retry-after``."""

    stops_ms: float = 2_000.0


@dataclass
class Unlucky:
    """Answers everything but a share, whatever the load; from ``begins`` to ``ends`` (ms)."""

    work: Callable[[], float]
    share: float
    rand: random.Random
    begins: float = 0.0
    ends: float = math.inf

    def arrive(self, now: float) -> tuple[float, bool]:
        """Answer or fail."""
        is_sick = self.begins <= now < self.ends
        return now + self.work(), not is_sick or self.rand.random() >= self.share

    def leave(self) -> None:
        """Know nothing of it."""


@dataclass
class UnluckyShedding(Unlucky):
    """Fails a share whatever the load, and sheds beyond ``n`` besides."""

    n: int = 0
    _n_here: int = 0

    def arrive(self, now: float) -> tuple[float, bool]:
        """Refuse, answer or fail; a place is taken until either."""
        if self._n_here >= self.n:
            return now + QUICK_MS, False
        until, is_answer = super().arrive(now)
        self._n_here += is_answer
        return until, is_answer

    def leave(self) -> None:
        """Have one less."""
        self._n_here -= 1


#: What may be asked: name → the server for a seed, and how many in flight are best (at most).
SERVERS: Final[dict[str, Callable[[random.Random, float], Server]]] = {
    "steady": lambda rand, spread: Steady(times(rand, 1_000, spread)),
    "queues beyond 4": lambda rand, spread: Queueing(times(rand, 1_000, spread), 4),
    "queues beyond 48": lambda rand, spread: Queueing(times(rand, 1_000, spread), 48),
    "slows down beyond 24": lambda rand, spread: Slowing(times(rand, 1_000, spread), 24),
    "slows down beyond 150": lambda rand, spread: Slowing(times(rand, 1_000, spread), 150),
    "sheds beyond 5": lambda rand, spread: Shedding(times(rand, 1_000, spread), 5),
    "sheds beyond 70": lambda rand, spread: Shedding(times(rand, 1_000, spread), 70),
    "sheds beyond 300": lambda rand, spread: Shedding(times(rand, 1_000, spread), 300),
    "stalls beyond 70": lambda rand, spread: Stalling(times(rand, 1_000, spread), 70),
    "429 beyond 20, stops 2 s": lambda rand, spread: Capped(times(rand, 300, spread), 20),
    "fails 2 % anyhow": lambda rand, spread: Unlucky(times(rand, 1_000, spread), 0.02, rand),
    "fails 5 % anyhow": lambda rand, spread: Unlucky(times(rand, 1_000, spread), 0.05, rand),
    "fails 20 % anyhow": lambda rand, spread: Unlucky(times(rand, 1_000, spread), 0.20, rand),
    "fails 40 % anyhow": lambda rand, spread: Unlucky(times(rand, 1_000, spread), 0.40, rand),
    "fails 20 % anyhow, sheds beyond 70": lambda rand, spread: UnluckyShedding(
        times(rand, 1_000, spread), 0.20, rand, n=70
    ),
    "fails 60 % for 30 s": lambda rand, spread: Unlucky(
        times(rand, 1_000, spread), 0.60, rand, 60_000, 90_000
    ),
    "is away for 30 s": lambda rand, spread: Unlucky(
        times(rand, 1_000, spread), 1.0, rand, 60_000, 90_000
    ),
}


class Fixed:
    """A bound that stays."""

    def __init__(self, bound: int) -> None:
        """Take it."""
        self.bound = bound

    def answered(self, now: float, **_: float) -> None:
        """Learn nothing."""

    def troubled(self, **_: float) -> bool:
        """Learn nothing."""
        return False

    def outage_ended(self) -> None:
        """Go on."""


class Result(NamedTuple):
    """How a sender fared from some instant on."""

    #: Answers a second.
    rate: float
    #: Troubles of all requests.
    troubles: float
    #: In flight, on average.
    in_flight: float
    n_sent: int


class Drain:
    """What is out, and what may go: as the engine does, an outage is probed, and what stops everybody does."""

    def __init__(self, server: Server, bound: Adaptive | Fixed) -> None:
        """Begin with nothing."""
        self.server, self.bound = server, bound
        self.out: list[tuple[float, int, float, bool]] = []
        self.waits_until = 0.0
        self._order, self._outage = count(), Outage()
        self._n_answered, self._since = 0, math.inf
        self._stops_ms: float = getattr(server, "stops_ms", 0.0)

    def send(self, now: float) -> None:
        """Send as many as may be in flight."""
        while now >= self.waits_until:
            if len(self.out) >= (1 if self._outage.is_open else self.bound.bound):
                return
            until, is_answer = self.server.arrive(now)
            heapq.heappush(self.out, (until, next(self._order), now, is_answer))

    def answered(self, now: float, sent_at: float) -> None:
        """Take an answer."""
        self.server.leave()
        self._n_answered += 1
        if sent_at >= self._since:
            self.bound.outage_ended()
        self._since = math.inf
        self._outage.on_success()
        self.bound.answered(now, sent_at=sent_at, n_answered=self._n_answered, is_full=True)

    def failed(self, now: float, sent_at: float, n_th: int) -> None:
        """Take a trouble."""
        stops_ms = self._stops_ms
        if sent_at < self._since:
            self.bound.troubled(
                sent_at=sent_at, now=now, n_answered=self._n_answered, stops_ms=stops_ms
            )
        if stops_ms:
            self.waits_until = max(self.waits_until, now + stops_ms)
            return
        step = self._outage.on_failure(
            JobId(n_th), ErrorKind.OVERLOADED, sent_at=sent_at, now=now,
            concurrency=self.bound.bound, unfinished=1_000_000,
        )  # fmt: skip
        if step.pause_ms is not None:
            self.waits_until, self._since = now + step.pause_ms, min(self._since, now)


def run(
    server: Server, bound: Adaptive | Fixed, *, ends: float, counts_from: float = 0.0
) -> Result:
    """Send until ``ends`` (ms) while jobs never run out; what is counted begins at ``counts_from``."""
    drain = Drain(server, bound)
    now, n_answered, n_troubles, area = 0.0, 0, 0, 0.0
    while True:
        drain.send(now)
        happens_at = drain.out[0][0] if drain.out else math.inf
        is_waking = now < drain.waits_until < happens_at
        until = drain.waits_until if is_waking else happens_at
        if until > ends:
            break
        if until > counts_from:
            area += len(drain.out) * (until - max(now, counts_from))
        now = until
        if is_waking:
            continue
        _, n_th, sent_at, is_answer = heapq.heappop(drain.out)
        if now > counts_from:
            n_answered += is_answer
            n_troubles += not is_answer
        if is_answer:
            drain.answered(now, sent_at)
        else:
            drain.failed(now, sent_at, n_th)
    took = ends - counts_from
    n = n_answered + n_troubles
    return Result(n_answered / took * 1000, n_troubles / max(1, n), area / took, n)
