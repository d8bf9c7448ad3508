"""Claims from the cycle that commits them to the senders that wait."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

__all__ = ["Handoff"]

T = TypeVar("T")


class Handoff(Generic[T]):
    """A run's claims on their way to its senders, in order; a waiting sender gets the next at once.

    What ``asyncio.Queue`` does, at a third of its cost, since nobody waits to put.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._claims: deque[T | None] = deque()
        self._takers: deque[asyncio.Future[None]] = deque()
        # Kept, since each look for it asks the kernel for the process's id (Python 3.11).
        self._loop: asyncio.AbstractEventLoop | None = None

    def is_empty(self) -> bool:
        """Whether a sender that comes now has to wait."""
        return not self._claims

    def put(self, claim: T | None) -> None:
        """Hand over a claim; ``None`` sends one sender home."""
        self._claims.append(claim)
        self._wake_one()

    def dismiss(self, n: int) -> None:
        """Send the next ``n`` senders home that come for a claim, before they take one."""
        for _ in range(n):
            self._claims.appendleft(None)
            self._wake_one()

    def _wake_one(self) -> None:
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                return

    def take_back(self) -> list[T]:
        """Return the claims that no sender has taken yet, and hold them no more."""
        kept = [claim for claim in self._claims if claim is not None]
        # Senders that were sent home go all the same.
        self._claims = deque([None] * (len(self._claims) - len(kept)))
        return kept

    def take_now(self) -> T | None:
        """Return the next claim; there must be one."""
        return self._claims.popleft()

    async def take(self) -> T | None:
        """Return the next claim, waiting for it."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        while not self._claims:
            taker = self._loop.create_future()
            self._takers.append(taker)
            try:
                await taker
            except asyncio.CancelledError:
                # Woken and cancelled at once: somebody else must look in its place.
                if self._claims:
                    self._wake_one()
                raise
        return self._claims.popleft()
