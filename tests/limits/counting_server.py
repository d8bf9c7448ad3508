"""A provider in a process of its own that counts and writes down: ``python -m tests.limits.counting_server LOG``.

It refuses nothing, and tells what each request took by a count of its own, which no estimate knows:
words of the prompt, of which some weigh more than others. Each request is a line of the log: when it
came (this machine's monotonic clock, and the calendar), its key, its tokens. The only line on stdout
is the base URL. The process ends with its stdin.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

__all__ = ["CountingServer", "Seen", "counting_server", "tokens_of"]

#: How long an answer takes (seconds).
_LATENCY_S: Final = (0.05, 0.4)


class Seen(NamedTuple):
    """One request as it arrived."""

    mono: float
    wall: float
    key: str
    tokens: int


def tokens_of(prompt: str) -> int:
    """Return what a prompt takes: from 0.7 to 1.0 tokens a word, by its key, and a few."""
    key, _, words = prompt.partition(" ")
    weight = 0.7 + 0.3 * (zlib.crc32(key.encode()) % 1000) / 1000
    return 9 + int(weight * words.count(" "))


class CountingServer:
    """One that runs."""

    def __init__(self, url: str, log: Path) -> None:
        """Take its address and its log."""
        self.url = url
        self._log = log

    def seen(self) -> list[Seen]:
        """Return what came so far, in order."""
        rows = (line.split() for line in self._log.read_text().splitlines())
        return [Seen(float(mono), float(wall), key, int(n)) for mono, wall, key, n in rows]


class _Connection(asyncio.Protocol):
    """One client: a request, its answer, the next."""

    def __init__(self, log: TextIO, rand: random.Random) -> None:
        self._log, self._rand = log, rand
        self._read = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, found, rest = self._read.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if len(rest) < length:
            return
        self._read = rest[length:]
        prompt = json.loads(rest[:length])["messages"][-1]["content"]
        tokens = tokens_of(prompt)
        self._log.write(f"{time.monotonic():.6f} {time.time():.6f} {prompt.split()[0]} {tokens}\n")
        loop = asyncio.get_running_loop()
        loop.call_later(self._rand.uniform(*_LATENCY_S), self._answer, tokens)

    def _answer(self, tokens: int) -> None:
        body = json.dumps(
            {
                "id": "msg_1", "type": "message", "role": "assistant", "model": "sim-1",
                "content": [{"type": "text", "text": "yes"}], "stop_reason": "end_turn",
                "usage": {"input_tokens": tokens, "output_tokens": 1},
            }
        ).encode()  # fmt: skip
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)


async def _serve(log: TextIO) -> None:
    rand = random.Random(1)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(log, rand), "127.0.0.1", 0, backlog=512)
    is_over = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), is_over.set)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await is_over.wait()
    server.close()


@contextmanager
def counting_server(folder: Path) -> Iterator[CountingServer]:
    """Run one for the length of the block; its log is in ``folder``."""
    log = folder / "arrived"
    log.touch()
    with subprocess.Popen(
        [sys.executable, "-m", __name__, str(log)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        cwd=Path(__file__).parents[2],
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield CountingServer(process.stdout.readline().strip(), log)
        finally:
            process.stdin.close()
            process.wait(10)


if __name__ == "__main__":
    with Path(sys.argv[1]).open("a", buffering=1) as written:
        asyncio.run(_serve(written))
