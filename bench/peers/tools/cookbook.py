"""The OpenAI cookbook's way of pacing, written anew: capacity that refills, a retry queue, a file.

Capacity for requests and tokens starts at a full minute's worth and refills evenly; a loop looks a
thousand times a second whether the next request fits; five attempts, all errors alike; after a rate
limit error nothing starts for 15 s; each answer is appended to the results. Nothing reads them
again: a second run sends everything. Tokens are estimated as a quarter of the characters, where the
cookbook counts them with tiktoken; the error is told by the status 429.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiohttp

from bench.peers.tools.plan import KEY, Plan, told

ATTEMPTS = 5
PAUSE_S = 15.0
LOOK_S = 0.001
TPM = 1_000_000_000


class Request(NamedTuple):
    """One job still to be sent."""

    key: str
    body: dict[str, Any]
    tokens: int
    attempts_left: int


@dataclass
class Capacity:
    """What may still be started this minute."""

    rpm: float
    tpm: float
    at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Start full."""
        self.requests, self.tokens = self.rpm, self.tpm

    def takes(self, tokens: int) -> bool:
        """Refill, and use up one request if it fits."""
        now = time.monotonic()
        passed, self.at = (now - self.at) / 60, now
        self.requests = min(self.requests + self.rpm * passed, self.rpm)
        self.tokens = min(self.tokens + self.tpm * passed, self.tpm)
        if self.requests < 1 or self.tokens < tokens:
            return False
        self.requests -= 1
        self.tokens -= tokens
        return True


class Pacer:
    """The loop and what it remembers."""

    def __init__(self, plan: Plan, session: aiohttp.ClientSession) -> None:
        """Begin with nothing in flight."""
        self._plan = plan
        self._session = session
        self._retries: deque[Request] = deque()
        self._paused_until = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Send until nothing is left."""
        capacity = Capacity(self._plan.rpm_number, TPM)
        fresh = (
            Request(key, body, len(str(body)) // 4 + body["max_tokens"], ATTEMPTS)
            for key, body in self._plan.bodies()
        )
        waiting: Request | None = None
        while True:
            if waiting is None:
                waiting = self._retries.popleft() if self._retries else next(fresh, None)
            if waiting is None and not self._tasks:
                break
            if waiting is not None and capacity.takes(waiting.tokens):
                task = asyncio.create_task(self._send(waiting))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                waiting = None
            await asyncio.sleep(LOOK_S)
            if (pause := self._paused_until - time.monotonic()) > 0:
                await asyncio.sleep(pause)

    async def _send(self, request: Request) -> None:
        url = f"{self._plan.openai_url}/chat/completions"
        try:
            async with self._session.post(url, json=request.body) as response:
                if response.status == 429:
                    self._paused_until = time.monotonic() + PAUSE_S
                response.raise_for_status()
                self._plan.keep(request.key, await response.json())
        except aiohttp.ClientError as error:
            if request.attempts_left > 1:
                self._retries.append(request._replace(attempts_left=request.attempts_left - 1))
            else:
                self._plan.give_up(request.key, error)


async def main(plan: Plan) -> None:
    """Send every job."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        await Pacer(plan, session).run()


if __name__ == "__main__":
    asyncio.run(main(told()))
