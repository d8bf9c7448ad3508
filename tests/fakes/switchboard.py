"""A pooler of transactions of the tests' own, harsher than pgbouncer: each transaction is on the next session.

It lets everybody in, refuses what pgbouncer refuses at the beginning of a session, and copies bytes: from
a client's first word until the server says that it is in no transaction, both are connected.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.fakes.network import serving
from tests.fakes.postgres_server import PostgresServer

_PROTOCOL = 196_608
_SSL_REQUEST = 80_877_103
#: What pgbouncer takes of what a session is told at its beginning.
_TAKEN = {"user", "database", "client_encoding", "application_name"}


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return a message's kind and its bytes, all of them."""
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)


Session = tuple[asyncio.StreamReader, asyncio.StreamWriter]
#: Messages of a client; ``None``: it has gone.
Said = asyncio.Queue[bytes | None]


class Switchboard:
    """Sessions of one user on one database, lent for a transaction each."""

    def __init__(self, server: PostgresServer, size: int) -> None:
        """Know where they are; they are made with the first client, and end with the last."""
        self._server = server
        self._size = size
        self._greeting = b""
        self._sessions: set[asyncio.StreamWriter] = set()
        self._free: asyncio.Queue[Session] | None = None
        self._lock = asyncio.Lock()
        self._n_clients = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Be the server of one client."""
        settings = await self._startup(reader, writer)
        if refused := sorted(set(settings) - _TAKEN):
            words = f"unsupported startup parameter: {refused[0]}".encode()
            writer.write(_message(b"E", b"SFATAL\0C08P01\0M" + words + b"\0\0"))
            await writer.drain()
            return
        self._n_clients += 1
        said: Said = asyncio.Queue()
        listening = asyncio.ensure_future(_listen(reader, said))
        try:
            free = await self._pool()
            writer.write(self._greeting)
            while (words := await said.get()) is not None:
                session = await free.get()
                if not await _connected(said, writer, session, words):
                    # Its transaction goes with it.
                    self._sessions.discard(session[1])
                    session[1].transport.abort()
                    free.put_nowait(await self._session())
                    return
                # The next one's turn is on the session that has waited longest.
                free.put_nowait(session)
        finally:
            listening.cancel()
            self._n_clients -= 1
            if not self._n_clients:
                self._free = None
                for session_writer in self._sessions:
                    session_writer.transport.abort()
                self._sessions.clear()

    async def _startup(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> dict[str, str]:
        while True:
            (length,) = struct.unpack("!I", await reader.readexactly(4))
            body = await reader.readexactly(length - 4)
            (code,) = struct.unpack("!I", body[:4])
            if code != _SSL_REQUEST:
                words = body[4:].rstrip(b"\0").decode().split("\0")
                return dict(zip(words[::2], words[1::2], strict=True))
            writer.write(b"N")

    async def _pool(self) -> asyncio.Queue[Session]:
        async with self._lock:
            if self._free is None:
                free: asyncio.Queue[Session] = asyncio.Queue()
                for _ in range(self._size):
                    free.put_nowait(await self._session())
                self._free = free
            return self._free

    async def _session(self) -> Session:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        self._sessions.add(writer)
        words = b"user\0tester\0database\0postgres\0client_encoding\0UTF8\0\0"
        writer.write(struct.pack("!II", len(words) + 8, _PROTOCOL) + words)
        greeting = kind = b""
        while kind != b"Z":
            kind, some = await _read(reader)
            greeting += some
        self._greeting = greeting
        return reader, writer


async def _listen(reader: asyncio.StreamReader, said: Said) -> None:
    """Read what a client says, to its end."""
    with suppress(EOFError, OSError):
        while (message := await _read(reader))[0] != b"X":
            said.put_nowait(message[1])
    said.put_nowait(None)


async def _connected(
    said: Said, writer: asyncio.StreamWriter, session: Session, words: bytes
) -> bool:
    """Connect both until the server is in no transaction; return whether the client is still there."""
    theirs, ours = session
    ours.write(words)

    async def up() -> None:
        while (some := await said.get()) is not None:
            ours.write(some)
            await ours.drain()

    async def down() -> None:
        kind = some = b""
        while (kind, some[-1:]) != (b"Z", b"I"):
            kind, some = await _read(theirs)
            writer.write(some)
            await writer.drain()

    upwards, downwards = asyncio.ensure_future(up()), asyncio.ensure_future(down())
    try:
        await asyncio.wait((upwards, downwards), return_when=asyncio.FIRST_COMPLETED)
        return downwards.done() and downwards.exception() is None
    finally:
        for task in (upwards, downwards):
            task.cancel()
            with suppress(asyncio.CancelledError, EOFError, OSError):
                await task


@contextmanager
def running_switchboard(server: PostgresServer, *, size: int) -> Iterator[int]:
    """Run one while the context lasts; gives its port."""
    board = Switchboard(server, size)
    with serving(board.serve) as port:
        yield port
