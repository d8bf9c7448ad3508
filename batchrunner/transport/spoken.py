"""What a proxy speaks that does not speak what was said of it; for the message alone.

A port does not say what it is, and the wrong first word mostly ends in silence. So, once a proxy
and only after it gave no way, three short connections ask in three tongues at once; nothing of a
request, a login or an address is on them.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, NamedTuple

from batchrunner.models import ErrorKind, Fault
from batchrunner.transport.proxies import Proxy
from batchrunner.transport.refusals import saying

__all__ = ["Tongues"]

#: What answers at all does so within this.
_ANSWER_S: Final = 1.5


class _Tongue(NamedTuple):
    """A way to begin, and how it is answered where it is understood."""

    title: str
    greeting: Callable[[], bytes]
    is_answer: Callable[[bytes], bool]


def _client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nothing is trusted or sent: it is looked at whether a handshake would begin.
    hello = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    return outgoing.read()


#: By the scheme to write, that to prefer first: a server with TLS may scold in plain HTTP.
_TONGUES: Final[Mapping[str, _Tongue]] = {
    "socks5h": _Tongue("SOCKS5", lambda: b"\x05\x01\x00", lambda data: data[:1] == b"\x05"),
    "https": _Tongue("HTTP over TLS", _client_hello, lambda data: data[:2] in (b"\x16\x03", b"\x15\x03")),
    "http": _Tongue("HTTP", lambda: b"HEAD / HTTP/1.0\r\n\r\n", lambda data: data[:5] == b"HTTP/"),
}  # fmt: skip
#: What was said, as one of those.
_SAID: Final[Mapping[str, tuple[str, str]]] = {
    "http": ("http", "plain HTTP"),
    "https": ("https", "HTTP over TLS"),
    "socks5": ("socks5h", "SOCKS"),
    "socks5h": ("socks5h", "SOCKS"),
    "socks4": ("", "SOCKS4"),
    "socks4a": ("", "SOCKS4"),
}


class Tongues:
    """What the proxies of one process were found to speak, asked once each."""

    def __init__(self) -> None:
        """Know none."""
        self._asked: dict[Proxy, asyncio.Future[str | None]] = {}

    async def fault_of(self, proxy: Proxy, at: str) -> Fault | None:
        """Return the fault of a proxy that speaks another tongue; ``None``: that is not known.

        ``at`` is the address on the way to which it gave none.
        """
        if proxy not in self._asked:
            # One asks, the others wait for it; whoever is called off takes nobody along.
            self._asked[proxy] = asyncio.ensure_future(_other_tongue(proxy))
        spoken = await asyncio.shield(self._asked[proxy])
        if spoken is None:
            return None
        said = _SAID[proxy.url.scheme][1]
        login = "USER:${PROXY_PASSWORD}@" if proxy.user is not None else ""
        place = f"{proxy.url.host_subcomponent}:{proxy.url.port}"
        return Fault(
            kind=ErrorKind.PROXY,
            message=f"The proxy {proxy} speaks {_TONGUES[spoken].title}, not {said} (on the way to {at})",
            maybe_executed=False,
            fix=f"Write {spoken}:// for it: {saying(proxy, f'{spoken}://{login}{place}')}",
            halts=True,
        )

    async def close(self) -> None:
        """Ask no more."""
        for asked in self._asked.values():
            asked.cancel()
        await asyncio.gather(*self._asked.values(), return_exceptions=True)


async def _other_tongue(proxy: Proxy) -> str | None:
    """Return the scheme of what is spoken there; ``None``: what was said, or nothing known."""
    host, port = proxy.url.host or "", proxy.url.port or 0
    answers = await asyncio.gather(
        *(_answer(host, port, tongue.greeting()) for tongue in _TONGUES.values())
    )
    spoken = [
        scheme
        for (scheme, tongue), data in zip(_TONGUES.items(), answers, strict=True)
        if tongue.is_answer(data)
    ]
    if _SAID[proxy.url.scheme][0] in spoken:
        return None
    return next(iter(spoken), None)


async def _answer(host: str, port: int, greeting: bytes) -> bytes:
    """Return the first bytes of an answer; none where there is none in time."""
    with suppress(OSError, EOFError):
        async with asyncio.timeout(_ANSWER_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(greeting)
                return await reader.readexactly(5 if greeting.startswith(b"HEAD") else 2)
            finally:
                writer.transport.abort()
    return b""
