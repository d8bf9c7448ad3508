"""What stands between the program and a provider: proxies, TLS and certificates, over real sockets.

Each runs in a thread of the test's own process and ends with its block.

    with running_proxy("socks5", login=("joe", "s3cret")) as proxy:
        ...                      # send by way of proxy.url
    assert proxy.asked == ["127.0.0.1:8080"]
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = [
    "Authority",
    "Proxy",
    "answering",
    "closing",
    "running_proxy",
    "serving",
    "silent",
    "tls_front",
]

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]


@contextmanager
def serving(handler: Handler, *, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve in a thread; yields the port."""
    ready = threading.Event()
    ends: list[Callable[[], object]] = []
    ports: list[int] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError, asyncio.CancelledError, ssl.SSLError):
            await handler(reader, writer)
        writer.transport.abort()

    async def serve() -> None:
        loop, over = asyncio.get_running_loop(), asyncio.Event()
        writers: list[asyncio.StreamWriter] = []

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Here, since a task that is cancelled before its first step closes nothing.
            writers.append(writer)
            handling.add(asyncio.ensure_future(handle(reader, writer)))

        handling: set[asyncio.Future[None]] = set()
        loop.set_exception_handler(lambda _loop, _context: None)  # refused handshakes
        server = await asyncio.start_server(accept, "127.0.0.1", port, ssl=tls)
        ports.append(server.sockets[0].getsockname()[1])
        ends.append(lambda: loop.call_soon_threadsafe(over.set))
        ready.set()
        await over.wait()
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(5):
            # What was accepted last begins, and what is aborted closes, in the loop's next rounds.
            for writer in writers:
                writer.transport.abort()
            await asyncio.sleep(0)
        for task in handling:
            task.cancel()
        await asyncio.gather(*handling, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield ports[0]
    finally:
        ends[0]()
        thread.join(10)


async def _join(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
) -> None:
    """Pass bytes both ways between a connection and ``host``."""
    far_reader, far_writer = await asyncio.open_connection(host, port)

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                target.write(data)
                await target.drain()
        except OSError:
            target.transport.abort()
            return
        if target.can_write_eof():
            with suppress(OSError):
                target.write_eof()
        else:
            target.close()

    try:
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
    finally:
        far_writer.transport.abort()


class Proxy:
    """A running proxy."""

    def __init__(self, kind: str, login: tuple[str, str] | None) -> None:
        """Take what it speaks, and whom it lets in."""
        self.kind = kind
        self.login = login
        self.port = 0
        #: Where it was asked to connect, in order.
        self.asked: list[str] = []
        #: Names that it finds where DNS has none.
        self.hosts: dict[str, str] = {}

    @property
    def url(self) -> str:
        """Its address, without a login."""
        return f"{self.kind}://127.0.0.1:{self.port}"

    def url_of(self, user: str, password: str) -> str:
        """Its address with a login."""
        return f"{self.kind}://{user}:{password}@127.0.0.1:{self.port}"

    async def _connect(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int
    ) -> None:
        self.asked.append(f"{host}:{port}")
        await _join(reader, writer, self.hosts.get(host, host), port)

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer CONNECT."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(" ", 2)
        if self.login is not None:
            pair = base64.b64encode(":".join(self.login).encode()).decode()
            if f"Basic {pair}" not in head:
                status = "401 Unauthorized" if "Basic " in head else "407 Authentication Required"
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
                return
        if method != "CONNECT":
            writer.write(b"HTTP/1.1 405 Only CONNECT\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        host, _, port = target.rpartition(":")
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await self._connect(reader, writer, host, int(port))

    async def socks5(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Speak RFC 1928, and RFC 1929 with a login."""
        version, n = await reader.readexactly(2)
        if version != 5:
            writer.write(b"\x05\xff")
            await writer.drain()
            return
        methods = await reader.readexactly(n)
        wanted = 2 if self.login else 0
        if wanted not in methods:
            writer.write(b"\x05\xff")
            await writer.drain()
            return
        writer.write(bytes([5, wanted]))
        if self.login is not None:
            _, n = await reader.readexactly(2)
            user = await reader.readexactly(n)
            password = await reader.readexactly((await reader.readexactly(1))[0])
            is_known = (user.decode(), password.decode()) == self.login
            writer.write(b"\x01\x00" if is_known else b"\x01\x01")
            await writer.drain()
            if not is_known:
                return
        _, _, _, kind = await reader.readexactly(4)
        if kind == 1:
            host = ".".join(str(part) for part in await reader.readexactly(4))
        else:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        port = int.from_bytes(await reader.readexactly(2), "big")
        writer.write(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        await self._connect(reader, writer, host, port)


@contextmanager
def running_proxy(
    kind: str = "http",
    *,
    login: tuple[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    port: int = 0,
) -> Iterator[Proxy]:
    """Run a proxy that speaks ``http``, ``https``, ``socks5`` or ``socks5h``."""
    proxy = Proxy(kind, login)
    handler = proxy.socks5 if kind.startswith("socks") else proxy.http
    with serving(handler, tls=tls, port=port) as proxy.port:
        yield proxy


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Answer the head of every request with the same bytes; yields the port, and the heads so far."""
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        await writer.drain()
        writer.write_eof()
        await reader.read()

    with serving(handle) as port:
        yield port, heads


@contextmanager
def closing(at: int, *, how: str = "end") -> Iterator[int]:
    """Close each connection at the ``at``-th byte, by an ``end`` or a ``reset``; yields the port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(at)
        if how == "reset":
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        else:
            # What is left unread would make a reset of the end.
            await reader.read(65_536)

    with serving(handle) as port:
        yield port


@contextmanager
def silent() -> Iterator[int]:
    """Take each connection, and say nothing; yields the port."""
    with serving(lambda reader, _writer: reader.read(-1)) as port:
        yield port


@contextmanager
def tls_front(port: int, context: ssl.SSLContext, *, host: str = "localhost") -> Iterator[str]:
    """Serve https in front of a plain server on ``port``; yields its base URL."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _join(reader, writer, "127.0.0.1", port)

    with serving(handle, tls=context) as front:
        yield f"https://{host}:{front}"


class Authority:
    """A certificate authority of one's own, as a company that inspects TLS has; needs ``openssl``."""

    def __init__(self, folder: Path, name: str = "Example Corp Inspection CA") -> None:
        """Make its certificate in ``folder``."""
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._n = 0
        #: What has to be trusted.
        self.file = folder / "ca.pem"
        self._key = folder / "ca.key"
        self._openssl(
            f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
            f" -keyout {self._key} -out {self.file}", "-subj", f"/O=Example Corp/CN={name}",
            "-addext", "basicConstraints=critical,CA:TRUE",
        )  # fmt: skip

    def context(
        self, names: str = "DNS:localhost,IP:127.0.0.1", *, days: int = 2, signed: bool = True
    ) -> ssl.SSLContext:
        """Return a server's context with a certificate for ``names``; negative days: expired."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files(names, days=days, signed=signed))
        return context

    def files(
        self,
        names: str = "DNS:localhost,IP:127.0.0.1",
        *,
        days: int = 2,
        signed: bool = True,
        subject: str = "",
    ) -> tuple[Path, Path]:
        """Return the files of such a certificate, of a certain ``subject``, and of its key."""
        self._n += 1
        key, request, certificate = (
            self._folder / f"{self._n}.{ending}" for ending in ("key", "csr", "pem")
        )
        self._openssl(
            f"req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {key}"
            f" -out {request}", "-subj", f"/CN={subject or f'server {self._n}'}",
        )  # fmt: skip
        extensions = self._folder / f"{self._n}.cnf"
        extensions.write_text(f"subjectAltName={names}\n")
        signer = (
            f"-CA {self.file} -CAkey {self._key} -CAcreateserial" if signed else f"-signkey {key}"
        )
        self._openssl(
            f"x509 -req -in {request} {signer} -out {certificate} -extfile {extensions}"
            f" -days {days}"
        )
        return certificate, key

    @staticmethod
    def _openssl(words: str, *more: str) -> None:
        subprocess.run(["openssl", *words.split(), *more], check=True, capture_output=True)
