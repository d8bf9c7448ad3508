"""How connections are made: direct or through an HTTP proxy, and through a SOCKS proxy.

Both keep the whole making within one time (address, TCP, proxy and TLS together; aiohttp's own
timers leave the first and the third out) and note its phases. What aiohttp-socks raises becomes
one of aiohttp's errors here, or :class:`TunnelError`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any, Final

import aiohttp
from aiohttp_socks import (
    ProxyConnectionError,
    ProxyConnector,
    ProxyError,
    ProxyTimeoutError,
    ProxyType,
)

from batchrunner.transport.phases import MAKING, Making, Phase
from batchrunner.transport.proxies import Proxy

__all__ = ["Connector", "SocksConnector", "TunnelError"]

_KEEPALIVE_S: Final = 15.0
#: As Anthropic's SDK sets them, so that a firewall does not drop a connection that waits for a
#: long answer. Values in seconds but for the count.
_TCP_OPTIONS: Final = (
    ("TCP_KEEPIDLE", 60),
    ("TCP_KEEPALIVE", 60),  # macOS's name for the same
    ("TCP_KEEPINTVL", 60),
    ("TCP_KEEPCNT", 5),
)
_SOCKS_TYPES: Final = {
    "socks5": ProxyType.SOCKS5,
    "socks5h": ProxyType.SOCKS5,
    "socks4": ProxyType.SOCKS4,
    "socks4a": ProxyType.SOCKS4,
}


#: What a proxy did that said nothing which can be understood.
NOT_HTTP: Final = "not HTTP"
CLOSED: Final = "it closed the connection"


class TunnelError(aiohttp.ClientConnectionError):
    """A proxy was reached and gave no way to the server, and no HTTP status either."""

    def __init__(self, words: str, code: int | None) -> None:
        """Take the proxy's words, and its reply code where it gave one."""
        super().__init__(words)
        self.words = words
        self.code = code


class _Timed(aiohttp.TCPConnector):
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


class Connector(_Timed):
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

    async def _create_proxy_connection(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super()._create_proxy_connection(*args, **kwargs)
        except (aiohttp.ClientHttpProxyError, aiohttp.ClientConnectorError, TimeoutError):
            raise
        except aiohttp.ClientResponseError as error:
            raise TunnelError(NOT_HTTP, None) from error
        except (aiohttp.ServerDisconnectedError, OSError) as error:
            raise TunnelError(CLOSED, None) from error


class SocksConnector(_Timed, ProxyConnector):
    """Connections through one SOCKS proxy."""

    def __init__(self, proxy: Proxy, *, connect_timeout_s: float, **options: Any) -> None:
        """Take the proxy, and aiohttp's options."""
        super().__init__(
            connect_timeout_s=connect_timeout_s,
            host=proxy.url.host,
            port=proxy.url.port,
            proxy_type=_SOCKS_TYPES[proxy.url.scheme],
            username=proxy.user,
            password=proxy.password if proxy.password or proxy.user is None else "",
            rdns=proxy.resolves,
            **options,
        )

    async def _wrap_create_connection(self, *args: Any, **kwargs: Any) -> Any:
        key = kwargs["req"].connection_key
        self._enter(Phase.PROXY)
        try:
            return await super()._wrap_create_connection(*args, **kwargs)
        except ProxyConnectionError as error:
            cause = error.__cause__
            raise aiohttp.ClientProxyConnectionError(
                key, cause if isinstance(cause, OSError) else OSError(str(error))
            ) from error
        except ProxyTimeoutError as error:
            raise TimeoutError from error
        except ProxyError as error:
            raise TunnelError(str(error) or CLOSED, error.error_code) from error
        except EOFError as error:
            raise TunnelError(CLOSED, None) from error
        except ssl.SSLCertVerificationError as error:
            raise aiohttp.ClientConnectorCertificateError(key, error) from error
        except ssl.SSLError as error:
            raise aiohttp.ClientConnectorSSLError(key, error) from error
        except socket.gaierror as error:
            raise aiohttp.ClientConnectorDNSError(key, error) from error
        except TimeoutError:
            raise
        except OSError as error:
            raise aiohttp.ClientConnectorError(key, error) from error

    async def _connect_via_proxy(self, *args: Any, **kwargs: Any) -> Any:
        # The time is kept above; the library's own would end a longer one after a minute.
        kwargs["timeout"] = self._connect_timeout_s
        return await super()._connect_via_proxy(*args, **kwargs)


def _open_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    opened = socket.socket(family, kind, protocol)
    opened.setblocking(False)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_OPTIONS:
        if (option := getattr(socket, name, None)) is not None:
            opened.setsockopt(socket.IPPROTO_TCP, option, value)
    return opened
