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
class Unlucky:
    """Answers everything but a share, whatever the load."""

    work: Callable[[], float]
    share: float
    rand: random.Random

    def arrive(self, now: float) -> tuple[float, bool]:
        """Answer or fail."""
        return now + self.work(), self.rand.random() >= self.share

    def leave(self) -> None:
        """Know nothing of it."""


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
    "fails 2 % anyhow": lambda rand, spread: Unlucky(times(rand, 1_000, spread), 0.02, rand),
    "fails 20 % anyhow": lambda rand, spread: Unlucky(times(rand, 1_000, spread), 0.20, rand),
}


class Fixed:
    """A bound that stays."""

    def __init__(self, bound: int) -> None:
        """Take it."""
        self.bound = bound

    def answered(self, now: float, *, is_full: bool) -> None:
        """Learn nothing."""

    def troubled(self, *, sent_at: float, now: float, n_answered: int) -> bool:  # noqa: ARG002 (as above)
        """Learn nothing."""
        return False


class Result(NamedTuple):
    """How a sender fared from some instant on."""

    #: Answers a second.
    rate: float
    #: Troubles of all requests.
    troubles: float
    #: In flight, on average.
    in_flight: float
    n_sent: int


def run(
    server: Server, bound: Adaptive | Fixed, *, ends: float, counts_from: float = 0.0
) -> Result:
    """Send until ``ends`` (ms) while jobs never run out; what is counted begins at ``counts_from``."""
    out: list[tuple[float, int, float, bool]] = []
    order = count()
    now, n_total, n_answered, n_troubles, area = 0.0, 0, 0, 0, 0.0
    while True:
        while len(out) < bound.bound:
            until, is_answer = server.arrive(now)
            heapq.heappush(out, (until, next(order), now, is_answer))
        until, _, sent_at, is_answer = heapq.heappop(out)
        if until > ends:
            break
        if until > counts_from:
            area += (len(out) + 1) * (until - max(now, counts_from))
        now = until
        if is_answer:
            server.leave()
        if now > counts_from:
            n_answered += is_answer
            n_troubles += not is_answer
        if is_answer:
            n_total += 1
            bound.answered(now, is_full=True)
        else:
            bound.troubled(sent_at=sent_at, now=now, n_answered=n_total)
    took = ends - counts_from
    n = n_answered + n_troubles
    return Result(n_answered / took * 1000, n_troubles / max(1, n), area / took, n)
