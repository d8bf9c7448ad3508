"""How connections are made through a SOCKS proxy; imported only where there is one.

What aiohttp-socks raises becomes one of aiohttp's errors here, or a :class:`TunnelError`.
"""

from __future__ import annotations

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

from batchrunner.transport.connector import CLOSED, TimedConnector, TunnelError
from batchrunner.transport.phases import Phase
from batchrunner.transport.proxies import Proxy

__all__ = ["SocksConnector"]

_SOCKS_TYPES: Final = {
    "socks5": ProxyType.SOCKS5,
    "socks5h": ProxyType.SOCKS5,
    "socks4": ProxyType.SOCKS4,
    "socks4a": ProxyType.SOCKS4,
}


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
