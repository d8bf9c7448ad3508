"""How connections are made: direct, and through an HTTP proxy.

The whole making keeps within one time (address, TCP, proxy and TLS together; aiohttp's own timers
leave the first and the third out), and its phases are noted. A proxy that was reached and said
nothing that can be understood is a :class:`TunnelError`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any, Final

import aiohttp

from batchrunner.transport.phases import MAKING, Making, Phase

__all__ = [
    "CLOSED",
    "NOT_HTTP",
    "SILENT",
    "Connector",
    "TimedConnector",
    "TunnelError",
    "keep_alive",
]

_KEEPALIVE_S: Final = 15.0
#: As Anthropic's SDK sets them, so that a firewall does not drop a connection that waits for a
#: long answer. Values in seconds but for the count.
_TCP_OPTIONS: Final = (
    ("TCP_KEEPIDLE", 60),
    ("TCP_KEEPALIVE", 60),  # macOS's name for the same
    ("TCP_KEEPINTVL", 60),
    ("TCP_KEEPCNT", 5),
)
#: What a proxy did that said nothing which can be understood.
NOT_HTTP: Final = "not HTTP"
CLOSED: Final = "it closed the connection"
SILENT: Final = "it said nothing"


class TunnelError(aiohttp.ClientConnectionError):
    """A proxy was reached and gave no way to the server, and no HTTP status either."""

    def __init__(self, words: str, code: int | None) -> None:
        """Take the proxy's words, and its reply code where it gave one."""
        super().__init__(words)
        self.words = words
        self.code = code


class TimedConnector(aiohttp.TCPConnector):
    """Bounds the making of a connection, and notes how it went."""

    def __init__(self, *, connect_timeout_s: float, **options: Any) -> None:
        """Take the time that all of it may take."""
        super().__init__(keepalive_timeout=_KEEPALIVE_S, **options)
        self._connect_timeout_s = connect_timeout_s

    def _enter(self, phase: Phase) -> None:
        if (making := MAKING.get()) is not None:
            making.enter(phase, self._loop.time())

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        making = Making(self._loop.time())
        MAKING.set(making)
        async with asyncio.timeout(self._connect_timeout_s):
            made = await super()._create_connection(*args, **kwargs)
        making.ready_at = self._loop.time()
        return made


class Connector(TimedConnector):
    """Direct connections, and such through HTTP proxies."""

    def __init__(self, **options: Any) -> None:
        """Take aiohttp's options."""
        super().__init__(socket_factory=_open_socket, **options)

    async def _resolve_host(self, *args: Any, **kwargs: Any) -> Any:
        self._enter(Phase.RESOLVING)
        return await super()._resolve_host(*args, **kwargs)

    async def _wrap_create_connection(self, *args: Any, **kwargs: Any) -> Any:
        self._enter(Phase.CONNECTING)
        return await super()._wrap_create_connection(*args, **kwargs)

    async def _create_direct_connection(self, *args: Any, **kwargs: Any) -> Any:
        made = await super()._create_direct_connection(*args, **kwargs)
        if kwargs.get("client_error") is aiohttp.ClientProxyConnectionError:
            self._enter(Phase.PROXY)
        return made

    async def _create_proxy_connection(self, req: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            made = await super()._create_proxy_connection(req, *args, **kwargs)
        except (aiohttp.ClientHttpProxyError, aiohttp.ClientConnectorError, TimeoutError):
            raise
        except aiohttp.ClientResponseError as error:
            raise TunnelError(NOT_HTTP, None) from error
        except (aiohttp.ServerDisconnectedError, OSError) as error:
            raise TunnelError(CLOSED, None) from error
        except aiohttp.ClientConnectionError as error:
            # asyncio (3.11) has a defect in TLS within TLS: it fails while it refuses a certificate.
            if (refused := _refused_certificate(error)) is not None:
                raise aiohttp.ClientConnectorCertificateError(
                    req.connection_key, refused
                ) from error
            raise
        if made[0].is_closing():
            # uvloop, in a TLS within a proxy's TLS: closed in the handshake, and not raised.
            raise aiohttp.ClientConnectorError(req.connection_key, ConnectionResetError())
        return made


def _refused_certificate(error: BaseException) -> ssl.SSLCertVerificationError | None:
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, ssl.SSLCertVerificationError):
        seen = seen.__cause__ or seen.__context__
    return seen


def _open_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    opened = socket.socket(family, kind, protocol)
    opened.setblocking(False)
    keep_alive(opened)
    return opened


def keep_alive(opened: Any) -> None:
    """Set a socket's options (a loop's own kind of socket has the same method)."""
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_OPTIONS:
        if (option := getattr(socket, name, None)) is not None:
            opened.setsockopt(socket.IPPROTO_TCP, option, value)
