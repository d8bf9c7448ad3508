"""A server that is slow, may enforce a limit, and notes every request and every answer.

    python -m bench.peers.judge LOG --latency S --tell N [--rpm N]

Prints its address, and ``answered`` once it has answered N requests. The limit is N requests in any
60 seconds; what goes over gets 429 with ``retry-after``, both providers' limit headers go with every
answer. A line of the log is ``SECONDS EVENT JOB``, written before anything else happens to it, and
right after the last byte of an answer was handed to the kernel. It shares no code with batchrunner.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import signal
import time
from collections import deque
from pathlib import Path

from aiohttp import web

from bench.peers.answers import Dialect, answer, refusal

WINDOW_S = 60.0
#: Events of the log.
RECEIVED, REFUSED, ANSWERED = "received", "refused", "answered"


class Judge:
    """The server's state."""

    def __init__(self, log: Path, latency_s: float, tell: int, rpm: int | None) -> None:
        """Open the log; nothing was received yet."""
        self._log = log.open("a", buffering=1)
        self._latency_s = latency_s
        self._left_to_tell = tell
        self._rpm = rpm
        self._inside: deque[float] = deque()
        self._drawn = random.Random(0)

    def _note(self, event: str, job: str) -> None:
        self._log.write(f"{time.time():.6f} {event} {job}\n")

    def _wait_s(self, now: float) -> float:
        """Count one request; return 0, or how long it would have to wait."""
        if self._rpm is None:
            return 0.0
        while self._inside and self._inside[0] <= now - WINDOW_S:
            self._inside.popleft()
        if len(self._inside) >= self._rpm:
            return self._inside[0] + WINDOW_S - now
        self._inside.append(now)
        return 0.0

    def _headers(self) -> dict[str, str]:
        if self._rpm is None:
            return {}
        limit, left = str(self._rpm), str(self._rpm - len(self._inside))
        return {
            "x-ratelimit-limit-requests": limit,
            "x-ratelimit-remaining-requests": left,
            "anthropic-ratelimit-requests-limit": limit,
            "anthropic-ratelimit-requests-remaining": left,
        }

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; a client that was killed gets none."""
        try:
            return await self._serve(request)
        except ConnectionResetError:
            return web.Response(status=499)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        dialect = Dialect.ANTHROPIC if request.path == Dialect.ANTHROPIC else Dialect.OPENAI
        try:
            messages = json.loads(await request.read())["messages"]
            job = str(int(messages[0]["content"].partition(":")[0]))
        except (ValueError, LookupError, TypeError):
            # A tool that asks for the limits sends such a thing.
            return _json(400, refusal(dialect, 400, "No job's prompt."), self._headers())
        self._note(RECEIVED, job)
        if wait_s := self._wait_s(time.monotonic()):
            self._note(REFUSED, job)
            message = f"Rate limit reached for requests per minute: Limit {self._rpm}, Requested 1."
            headers = self._headers() | {"retry-after": str(math.ceil(wait_s))}
            return _json(429, refusal(dialect, 429, message), headers)
        # Else all that began together would be answered, and killed, together.
        await asyncio.sleep(self._latency_s * self._drawn.uniform(0.5, 1.5))
        response = _json(200, answer(dialect), self._headers())
        await response.prepare(request)
        await response.write_eof()
        self._note(ANSWERED, job)
        self._left_to_tell -= 1
        if self._left_to_tell == 0:
            print(ANSWERED, flush=True)
        return response


def _json(status: int, body: str, headers: dict[str, str]) -> web.Response:
    return web.Response(status=status, text=body, headers=headers, content_type="application/json")


async def run(judge: Judge) -> None:
    """Serve on a free port of the loopback until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    runner = web.ServerRunner(
        web.Server(judge.serve, access_log=None, keepalive_timeout=600), shutdown_timeout=0.2
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await stop.wait()
    await runner.cleanup()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers.judge")
    parser.add_argument("log", type=Path)
    parser.add_argument("--latency", type=float, required=True)
    parser.add_argument("--tell", type=int, required=True)
    parser.add_argument("--rpm", type=int)
    given = parser.parse_args()
    asyncio.run(run(Judge(given.log, given.latency, given.tell, given.rpm)))


if __name__ == "__main__":
    main()
