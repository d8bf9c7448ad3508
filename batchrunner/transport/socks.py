"""How connections are made through a SOCKS proxy; imported only where there is one.

What aiohttp-socks raises becomes one of aiohttp's errors here, or a :class:`TunnelError`. A proxy
answers SOCKS5's first word before it has to ask anybody; so that answer has a short time of its
own, within that of the whole making, while the way to a slow server may take all of it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any, Final, Self

import aiohttp
from aiohttp_socks import ProxyConnector, ProxyError, ProxyTimeoutError, ProxyType
from python_socks.async_.asyncio.v2 import Proxy as SocksProxy

from batchrunner.transport.connector import (
    CLOSED,
    SILENT,
    TimedConnector,
    TunnelError,
    keep_alive,
)
from batchrunner.transport.phases import Phase
from batchrunner.transport.proxies import Proxy

__all__ = ["SocksConnector"]

_SOCKS_TYPES: Final = {
    "socks5": ProxyType.SOCKS5,
    "socks5h": ProxyType.SOCKS5,
    "socks4": ProxyType.SOCKS4,
    "socks4a": ProxyType.SOCKS4,
}
#: For the answer to SOCKS5's first word.
_FIRST_ANSWER_S: Final = 5.0


class SocksConnector(TimedConnector, ProxyConnector):
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
        except _UnreachedError as error:
            raise aiohttp.ClientProxyConnectionError(key, error.reason) from error
        except ProxyTimeoutError as error:
            raise TimeoutError from error
        except ProxyError as error:
            raise TunnelError(str(error) or CLOSED, error.error_code) from error
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

    async def _connect_via_proxy(
        self,
        host: str,
        port: int,
        ssl: ssl.SSLContext | None = None,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 (kept above)
    ) -> Any:
        proxy = SocksProxy(
            proxy_type=self._proxy_type,
            host=self._proxy_host,
            port=self._proxy_port,
            username=self._proxy_username,
            password=self._proxy_password,
            rdns=self._rdns,
            forward=_Opening(is_socks5=self._proxy_type is ProxyType.SOCKS5),  # type: ignore[arg-type]  # has what is used of one
        )
        # The time is kept above; the library's own would end a longer one after a minute.
        stream = await proxy.connect(host, port, dest_ssl=ssl, timeout=self._connect_timeout_s)
        protocol = _Protocol(self._loop, stream.writer)
        transport = stream.writer.transport
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        return transport, protocol


class _UnreachedError(Exception):
    """The proxy itself can't be reached."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class _Protocol(aiohttp.client_proto.ResponseHandler):
    """Reads answers; keeps the writer, which would close the connection at its own end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, writer: asyncio.StreamWriter) -> None:
        super().__init__(loop)
        self._writer = writer


class _Opening:
    """Opens the connection to the proxy, in the place of the library."""

    def __init__(self, *, is_socks5: bool) -> None:
        self._first_answer_s = _FIRST_ANSWER_S if is_socks5 else None

    async def connect(self, dest_host: str, dest_port: int) -> _Stream:
        try:
            reader, writer = await asyncio.open_connection(dest_host, dest_port)
        except OSError as error:
            raise _UnreachedError(error) from error
        keep_alive(writer.get_extra_info("socket"))
        return _Stream(reader, writer, self._first_answer_s)


class _Stream:
    """A connection to the proxy: bounds the first answer, and closes without waiting for anybody."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        first_answer_s: float | None,
    ) -> None:
        self._reader = reader
        self.writer = writer
        self._answer_s = first_answer_s

    async def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def read_exactly(self, n: int) -> bytes:
        try:
            async with asyncio.timeout(self._answer_s):
                data = await self._reader.readexactly(n)
        except TimeoutError as error:
            raise TunnelError(SILENT, None) from error
        except (OSError, EOFError) as error:
            raise TunnelError(CLOSED, None) from error
        self._answer_s = None
        return data

    async def start_tls(self, hostname: str, ssl_context: ssl.SSLContext) -> Self:
        await self.writer.start_tls(ssl_context, server_hostname=hostname)
        return self

    async def close(self) -> None:
        # An orderly end of TLS would wait for a peer that may be gone, past every timeout.
        self.writer.transport.abort()
