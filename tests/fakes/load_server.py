"""A provider in its own process that can do only so much at once: ``python tests/fakes/load_server.py``.

    --latency S --spread S      a request alone takes so long (log-normal about it)
    --workers N                 N are worked on at once, the others wait in line
    --sheds N                   what comes while N are here gets 529 at once
    --refuses N                 with N connections open nobody listens: the next is refused
    --accepts N                 with N connections open the next waits; each is closed after its answer
    --fails SHARE               so many get 500, whatever the load

``GET /_seen`` returns ``{"served": [...], "refused": n, "most": n, "mean": x}``: answers in each tenth of a
second since the first request, what was not answered, requests here at most and on average. The only
line on stdout is the base URL. The process ends with its stdin.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.request import ProxyHandler, build_opener

BIN_S: Final = 0.1
_BODY: Final = json.dumps(
    {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "sim-1",
        "content": [{"type": "text", "text": "ok"}], "stop_reason": "end_turn",
        "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 2},
    }
).encode()  # fmt: skip
_ERRORS: Final = {
    529: b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
    500: b'{"type":"error","error":{"type":"api_error","message":"Internal server error"}}',
}


class LoadServer:
    """What is here, what was served, and who may come in."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Take the limits; 0: there is none."""
        self.options = options
        self.rand = random.Random(7)
        self.workers = asyncio.Semaphore(options.workers or 1_000_000)
        self.n_here = self.n_open = self.most = self.refused = 0
        self.served: list[int] = []
        self.area = 0.0
        self.began_at = self.changed_at = 0.0
        self.port = 0
        self.has_room = asyncio.Event()
        self.is_ready = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> None:
        """Open the door, and let in who may come."""
        loop = asyncio.get_running_loop()
        door = socket.create_server(("127.0.0.1", self.port), backlog=4096, reuse_port=False)
        door.setblocking(False)
        self.port = door.getsockname()[1]
        self.has_room.set()
        self.is_ready.set()
        while True:
            if self.options.refuses and not self.has_room.is_set():
                door.close()
                await self.has_room.wait()
                return
            await self.has_room.wait()
            accepted, _ = await loop.sock_accept(door)
            self.n_open += 1
            if self.n_open >= (self.options.refuses or self.options.accepts or math.inf):
                self.has_room.clear()
            task = loop.create_task(self.connected(accepted))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def connected(self, accepted: socket.socket) -> None:
        """Serve one connection to its end."""
        reader, writer = await asyncio.open_connection(sock=accepted)
        try:
            while await self.exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.n_open -= 1
            self.has_room.set()

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether another may come on that connection."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        await reader.readexactly(length)
        if head.startswith(b"GET /_seen"):
            await self.write(writer, 200, json.dumps(self.seen()).encode(), close=True)
            return False
        status = await self.work()
        body = _BODY if status == 200 else _ERRORS[status]
        await self.write(writer, status, body, close=bool(self.options.accepts))
        return not self.options.accepts

    async def write(
        self, writer: asyncio.StreamWriter, status: int, body: bytes, *, close: bool
    ) -> None:
        """Send an answer."""
        end = b"connection: close\r\n" if close else b""
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        writer.write(head.encode() + end + b"\r\n" + body)
        await writer.drain()

    async def work(self) -> int:
        """Do a request's work, and return its status."""
        options, loop = self.options, asyncio.get_running_loop()
        if not self.began_at:
            self.began_at = self.changed_at = loop.time()
        if options.sheds and self.n_here >= options.sheds:
            self.refused += 1
            return 529
        self.count(1)
        try:
            async with self.workers:
                await asyncio.sleep(self.takes_s())
        finally:
            self.count(-1)
        if options.fails and self.rand.random() < options.fails:
            self.refused += 1
            return 500
        at = int((loop.time() - self.began_at) / BIN_S)
        self.served += [0] * (at + 1 - len(self.served))
        self.served[at] += 1
        return 200

    def takes_s(self) -> float:
        """Draw how long a request takes."""
        mean, spread = self.options.latency, self.options.spread
        if not spread:
            return float(mean)
        sigma = math.sqrt(math.log(1 + spread * spread))
        return self.rand.lognormvariate(math.log(mean) - sigma * sigma / 2, sigma)

    def count(self, change: int) -> None:
        """Note that a request came or went."""
        now = asyncio.get_running_loop().time()
        self.area += self.n_here * (now - self.changed_at)
        self.changed_at = now
        self.n_here += change
        self.most = max(self.most, self.n_here)

    def seen(self) -> dict[str, Any]:
        """Return what came so far."""
        took = max(BIN_S, self.changed_at - self.began_at)
        return {
            "served": self.served, "refused": self.refused, "most": self.most,
            "mean": self.area / took,
        }  # fmt: skip


def parsed() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.1)
    parser.add_argument("--spread", type=float, default=0.0)
    for name in ("workers", "sheds", "refuses", "accepts"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--fails", type=float, default=0.0)
    return parser.parse_args()


async def main() -> None:
    """Serve until stdin ends."""
    server = LoadServer(parsed())
    is_over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), is_over.set)

    async def serve() -> None:
        while True:
            await server.listen()

    serving = loop.create_task(serve())
    await server.is_ready.wait()
    sys.stdout.write(f"http://127.0.0.1:{server.port}\n")
    sys.stdout.flush()
    await is_over.wait()
    serving.cancel()


class Seen:
    """What a running server tells."""

    def __init__(self, url: str) -> None:
        """Take its address."""
        self.url = url

    def seen(self) -> dict[str, Any]:
        """Ask it."""
        with build_opener(ProxyHandler({})).open(f"{self.url}/_seen", timeout=10) as answer:
            told: dict[str, Any] = json.load(answer)
        return told


@contextmanager
def load_server(**options: float) -> Iterator[Seen]:
    """Run one in its own process for the length of the block."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    with subprocess.Popen(
        [sys.executable, __file__, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Seen(process.stdout.readline().strip())
        finally:
            process.stdin.close()
            process.wait(10)


if __name__ == "__main__":
    asyncio.run(main())
