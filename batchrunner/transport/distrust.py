"""Why a certificate is not trusted: OpenSSL's reason, and what the certificate itself says.

OpenSSL does not hand out a certificate that it refuses. So, once an address, a second connection
is made that looks at it and closes; nothing is sent on it, and nothing is trusted for it.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import aiohttp
from yarl import URL

from batchrunner.core.certificates import Certificate, distrust, read_certificate
from batchrunner.models import ErrorKind, Fault
from batchrunner.transport.proxies import Proxy

__all__ = ["Distrusts"]

#: A certificate is looked at for so long; the reason alone is worth telling.
_GLANCE_S: Final = 5.0


class Distrusts:
    """The faults of certificates, looked at once each."""

    def __init__(self) -> None:
        """Know none."""
        self._seen: dict[tuple[str, int, int], Fault] = {}

    async def fault_of(
        self,
        error: aiohttp.ClientConnectorCertificateError,
        session: aiohttp.ClientSession,
        url: URL,
        proxy: Proxy | None,
    ) -> Fault:
        """Return the fault of a server's certificate, or of an ``https://`` proxy's."""
        cause = error.certificate_error
        code = cause.verify_code if isinstance(cause, ssl.SSLCertVerificationError) else 0
        key = (error.host, error.port or 0, code)
        if key not in self._seen:
            self._seen[key] = await self._look(error, code, session, url, proxy)
        return self._seen[key]

    async def _look(
        self,
        error: aiohttp.ClientConnectorCertificateError,
        code: int,
        session: aiohttp.ClientSession,
        url: URL,
        proxy: Proxy | None,
    ) -> Fault:
        whose, at, way = str(url.origin()), url, proxy
        if proxy is not None and _is_of(proxy, error):
            whose, at, way = f"the proxy {proxy}", proxy.url, None
        cause = error.certificate_error
        told = distrust(
            await _certificate(session, at, way),
            code,
            getattr(cause, "verify_message", "") or str(cause),
            host=at.host or "",
            port=at.port or 443,
            now=datetime.now(UTC),
        )
        return Fault(
            kind=ErrorKind.TLS,
            message=f"The certificate of {whose} is not trusted: {told.why}",
            maybe_executed=False,
            fix=told.fix,
            halts=True,
        )


def _is_of(proxy: Proxy, error: aiohttp.ClientConnectorCertificateError) -> bool:
    """Whether it is the proxy's own certificate: a server may have the proxy's host, never its port."""
    peer = (error.host, error.port)
    return proxy.url.scheme == "https" and peer == (proxy.url.raw_host, proxy.url.port)


class _SeenError(aiohttp.ClientError):
    """The certificate was seen; there is nothing else to connect for."""


class _Glance(aiohttp.Fingerprint):
    """Takes a peer's certificate and calls the connection off."""

    def __init__(self) -> None:
        super().__init__(bytes(32))
        self.der: bytes | None = None

    def check(self, transport: asyncio.Transport) -> None:
        peer = transport.get_extra_info("ssl_object")
        self.der = peer.getpeercert(binary_form=True) if peer is not None else None
        # At once: an orderly end of TLS would wait for a peer that is not trusted.
        transport.abort()
        raise _SeenError


async def _certificate(
    session: aiohttp.ClientSession, url: URL, proxy: Proxy | None
) -> Certificate | None:
    if proxy is not None and proxy.url.scheme == "https":
        # The glance would be the proxy's, and a login would go to one that nobody has verified.
        return None
    glance = _Glance()
    is_http = proxy is not None and not proxy.is_socks
    with suppress(aiohttp.ClientError, OSError, ValueError):
        async with asyncio.timeout(_GLANCE_S):
            await session.head(
                url.origin(),
                ssl=glance,
                allow_redirects=False,
                proxy=proxy.url if proxy is not None and is_http else None,
                proxy_headers=proxy.headers if proxy is not None and is_http else None,
            )
    with suppress(ValueError):
        return read_certificate(glance.der) if glance.der else None
    return None
