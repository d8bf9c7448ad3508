"""Which of several ways to the same thing is taken: addresses of a provider, or proxies.

The first is preferred, the rest are fail-over. Nothing here knows what a way is; time and jobs are
arguments. The rules:

* A way that can't be reached at all is down at once; one that answers badly (5xx, a reset, a
  timeout) is down once three distinct jobs in a row met that, so that one poisonous job moves
  nobody.
* A way that is down is left alone for a cool-down (10 s, doubling to 5 min). Then one request
  tries it, and its success brings everybody back.
* Where all are down, that which may be tried first is taken: an outage probes it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

from batchrunner.models import JobId

__all__ = ["Nodes", "Switch"]

FIRST_COOL_DOWN_MS: Final = 10_000.0
LONGEST_COOL_DOWN_MS: Final = 300_000.0
#: So many distinct jobs in a row that a way answers badly put it down.
BAD_ANSWERS: Final = 3


class Switch(NamedTuple):
    """Everybody takes another way from now on."""

    before: int
    now: int


@dataclass(slots=True)
class _Node:
    """What is known of one way."""

    #: Steady ms until which nobody goes there; 0: it is up.
    down_until: float = 0.0
    #: How often in a row it was put down.
    level: int = 0
    #: Whether a request is under way that tries it.
    is_tried: bool = False
    #: Jobs that it answered badly since its last success; so many as it takes to put it down.
    failed: set[JobId] = field(default_factory=set)


class Nodes:
    """The health of several ways, the first preferred."""

    def __init__(self, n: int) -> None:
        """Begin with ``n`` ways that are all up."""
        self._nodes = [_Node() for _ in range(n)]
        #: The way that everybody takes.
        self.current = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._nodes)

    def choose(self, now: float) -> int:
        """Return the way for a request at ``now``; it may be the one that tries a way again."""
        for index, node in enumerate(self._nodes):
            if not node.down_until:
                return index
            if now >= node.down_until and not node.is_tried:
                node.is_tried = True
                return index
        return min(range(len(self)), key=lambda index: self._nodes[index].down_until)

    def other(self, tried: set[int], now: float) -> int | None:
        """Return the best way for a job that has failed on those ``tried``; ``None``: none is left.

        One that is down and may not be tried again yet is none, unless all of them are down.
        """
        is_any_up = any(not node.down_until for node in self._nodes)
        left = [
            index
            for index, node in enumerate(self._nodes)
            if index not in tried and not (is_any_up and node.down_until > now)
        ]
        return min(left, key=lambda index: (self._nodes[index].down_until > 0, index), default=None)

    def is_up(self, index: int) -> bool:
        """Whether a way is not known to be down."""
        return not self._nodes[index].down_until

    def unsent(self, index: int) -> None:
        """Note that a request did not go out: if it was to try a way, another may."""
        self._nodes[index].is_tried = False

    def answered(self, index: int) -> Switch | None:
        """Note that a way works, whatever it said to the request."""
        node = self._nodes[index]
        node.failed.clear()
        node.is_tried = False
        if not node.down_until:
            return None
        node.down_until, node.level = 0.0, 0
        return self._switch()

    def failed(
        self, index: int, job: JobId, now: float, *, at_once: bool, until: float = 0.0
    ) -> Switch | None:
        """Note that a way failed a job; ``at_once``: it can't be reached at all.

        ``until`` is when the way itself said it would be back.
        """
        node = self._nodes[index]
        if len(node.failed) < BAD_ANSWERS:
            node.failed.add(job)
        was_tried, node.is_tried = node.is_tried, False
        if node.down_until > now and not was_tried:
            return None
        is_again = node.down_until > 0
        if not (is_again or at_once or len(node.failed) >= BAD_ANSWERS):
            return None
        cool_down = min(LONGEST_COOL_DOWN_MS, FIRST_COOL_DOWN_MS * 2.0**node.level)
        node.down_until = max(now + cool_down, min(until, now + LONGEST_COOL_DOWN_MS))
        node.level += 1
        return self._switch()

    def _switch(self) -> Switch | None:
        before = self.current
        self.current = next(
            (index for index, node in enumerate(self._nodes) if not node.down_until), before
        )
        return None if self.current == before else Switch(before, self.current)
