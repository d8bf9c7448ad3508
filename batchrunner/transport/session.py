"""Sends one request and brings back one :class:`Reply`, whatever happens on the way.

Promises:

- No redirect is followed, no cookie kept, no proxy guessed, nothing sent twice.
- A reply's body is bounded; the connection is given up when it grows longer.
- Every failure of the network is a ``Reply`` with a ``Fault``. Only three things are raised:
  cancellation, :class:`Aborted`, and defects.
- A request with a ticket asks ``on_headers(ticket)`` when everything stands ready (connection,
  proxy, TLS) and not a byte of it is written; what that raises keeps it from being sent.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import types
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, Self

import aiohttp
from msgspec.structs import replace
from multidict import CIMultiDict
from yarl import URL

from batchrunner import __version__
from batchrunner.models import ErrorKind, Fault, Reply, Request
from batchrunner.transport.connector import Connector
from batchrunner.transport.deadlines import Deadlines
from batchrunner.transport.distrust import Distrusts
from batchrunner.transport.express import Answer, Express, Passage, is_tried, read_bounded
from batchrunner.transport.faults import (
    EXPECTED,
    address_of,
    fault_of,
    is_silent,
    is_suspect,
    late_fault,
    unconnected,
)
from batchrunner.transport.own_answers import own_answer
from batchrunner.transport.proxies import Proxy, UnusableProxyError, environment_proxy
from batchrunner.transport.spoken import Tongues
from batchrunner.transport.trust import tls_context

__all__ = ["Aborted", "Transport"]

#: Addresses whose way is remembered; a run asks a handful.
_MOST_WAYS: Final = 256


class Aborted(Exception):  # noqa: N818  # not an error: the send was called off
    """Raised by ``on_headers`` to call a send off; the request did not go out."""


class _Sessions(NamedTuple):
    """The connections of one kind: direct and by HTTP proxies, or by one SOCKS proxy."""

    #: For requests that ask nobody before their first byte.
    plain: aiohttp.ClientSession
    traced: aiohttp.ClientSession
    connector: aiohttp.BaseConnector
    #: For posts with the headers of all; ``None`` where it wasn't tried with this aiohttp.
    express: Express | None


class _Way(NamedTuple):
    """How requests to one address go."""

    url: URL
    #: What stands before it; ``None``: nothing.
    proxy: Proxy | None
    sessions: _Sessions


class Transport:
    """One process's connections to a provider. Made and used inside a running event loop."""

    def __init__(
        self,
        *,
        connect_timeout_s: float,
        total_timeout_s: float,
        pool_size: int,
        max_response: int,
        headers: Mapping[str, str] | None = None,
        on_headers: Callable[[Any], Awaitable[None]] | None = None,
        environ: Mapping[str, str] | None = None,
        proxy_before: Callable[[URL], Proxy | None] | None = None,
        tls: ssl.SSLContext | None = None,
        answers_json: bool = False,
    ) -> None:
        """Set up the pool; nothing is connected yet.

        ``pool_size`` is at least the concurrency, since ``total_timeout_s`` counts the wait for a
        connection too. ``max_response`` is in bytes, after unpacking. ``headers`` go with every
        request (a request's own win), and cost nothing where a request has these very ones.
        ``proxy_before`` says which proxy stands before an address, ``tls`` what is trusted; where
        they are left out ``environ`` tells (``None``: the process's own). ``answers_json`` is whether
        the server is an API that has its errors in JSON, so that a page is somebody else's.
        """
        self._headers = {} if headers is None else headers
        self._max_response = max_response
        self._on_headers = on_headers
        self._environ = os.environ if environ is None else environ
        self._proxy_before = proxy_before or (lambda url: environment_proxy(url, self._environ))
        self._proxies: dict[tuple[str, str], Proxy | UnusableProxyError | None] = {}
        self._tls = tls_context(None, self._environ) if tls is None else tls
        self._pool_size = pool_size
        self._connect_timeout_s = connect_timeout_s
        self._total_timeout_s = total_timeout_s
        self._deadlines = Deadlines(total_timeout_s)
        #: Both times are kept elsewhere: in :class:`Deadlines`, and by the connectors.
        self._timeout = aiohttp.ClientTimeout(total=None)
        self._direct = self._open(Connector(**self._pool()))
        self._by_socks: dict[Proxy, _Sessions] = {}
        self._ways: dict[str, _Way] = {}
        self._distrusts = Distrusts()
        self._tongues = Tongues()
        self._answers_json = answers_json

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close."""
        await self.close()

    async def close(self) -> None:
        """Close every connection. What is in flight fails."""
        for sessions in (self._direct, *self._by_socks.values()):
            await sessions.plain.close()
            await sessions.traced.close()
            await sessions.connector.close()
        await self._tongues.close()
        self._deadlines.close()

    async def send(self, request: Request, ticket: object | None = None) -> Reply:
        """Send ``request`` once and return the whole answer, or the fault.

        With a ticket (and an ``on_headers``) permission is asked right before the first byte.

        :raises Aborted: ``on_headers`` did; nothing went out.
        """
        way = self._ways.get(request.url) or self._way(request.url)
        if isinstance(way, Fault):
            return Reply(fault=way)
        passage = Passage(ticket, self._on_headers if ticket is not None else None)
        reply = await self._exchange(way, request, passage)
        if (
            reply.fault is not None
            and reply.fault.maybe_executed
            and ticket is not None
            and not passage.passed
        ):
            return replace(reply, fault=replace(reply.fault, maybe_executed=False))
        return reply

    def _way(self, address: str) -> _Way | Fault:
        """Find how requests to an address go, and remember it; or why none can."""
        try:
            url = URL(address)
            proxy = self._proxy_for(url)
        except ValueError as error:
            return fault_of(error, address)
        if isinstance(proxy, UnusableProxyError):
            return Fault(
                kind=ErrorKind.PROXY,
                message=f"{proxy} (on the way to {address_of(address)})",
                maybe_executed=False,
                fix=proxy.fix,
                halts=True,
            )
        sessions = self._direct if proxy is None or not proxy.is_socks else self._socks(proxy)
        if len(self._ways) >= _MOST_WAYS:
            self._ways.clear()
        way = self._ways[address] = _Way(url, proxy, sessions)
        return way

    async def _exchange(self, way: _Way, request: Request, passage: Passage) -> Reply:
        deadline = self._deadlines.begin()
        try:
            answer = await self._answer(way, request, passage)
        except asyncio.CancelledError:
            if not deadline.has_passed or deadline.task.uncancel() > 0:
                raise
            return Reply(
                fault=late_fault(
                    request.url,
                    self._total_timeout_s,
                    deadline.ends_at,
                    is_read=passage.is_answered,
                )
            )
        except EXPECTED as error:
            # What is looked at from here on is for the message, past the request's own time.
            self._deadlines.end(deadline)
            return Reply(fault=await self._fault(error, way, request.url))
        finally:
            self._deadlines.end(deadline)
        return self._reply(answer.status, _readable(answer.headers), answer.body, way)

    async def _answer(self, way: _Way, request: Request, passage: Passage) -> Answer:
        """Send a request by the shortest way that is open to it."""
        url, proxy, sessions = way
        is_common = request.headers is self._headers and request.method == "POST" and request.body
        if sessions.express is not None and is_common and (proxy is None or proxy.is_socks):
            head = await sessions.express.head(url)
            if head is not None:
                return await sessions.express.post(head, request.body, passage)
        return await self._by_session(way, request, passage)

    async def _by_session(self, way: _Way, request: Request, passage: Passage) -> Answer:
        url, proxy, sessions = way
        headers: Mapping[str, str] | None = request.headers
        if headers is self._headers:
            headers = None
        proxy_url: URL | None = None
        proxy_headers: Mapping[str, str] | None = None
        if proxy is not None and not proxy.is_socks:
            proxy_url, proxy_headers = proxy.url, proxy.headers
            if proxy_headers and url.scheme == "http":
                # Without a tunnel the proxy reads the request itself, so its password goes there.
                headers = {**(self._headers if headers is None else headers), **proxy_headers}
        session = sessions.plain if passage.ticket is None else sessions.traced
        response = await session.request(
            request.method,
            url,
            data=aiohttp.BytesPayload(request.body) if request.body else None,
            headers=headers,
            allow_redirects=False,
            timeout=self._timeout,
            proxy=proxy_url,
            proxy_headers=proxy_headers,
            trace_request_ctx=passage,
        )
        passage.is_answered = True
        try:
            return Answer(response.status, response.headers, await self._body(response))
        finally:
            # Gives up a connection whose answer was not read to its end; else it is back already.
            response.close()

    def _reply(
        self, status: int, headers: Mapping[str, str], body: bytes | None, way: _Way
    ) -> Reply:
        """Return what an answer is; ``body`` is ``None`` where it was too long."""
        url, proxy, _ = way
        if body is None:
            return Reply(status=status, headers=headers, fault=self._too_long(str(url)))
        # Through a tunnel, and by SOCKS, nobody answers but the server.
        if proxy is not None and not proxy.is_socks and url.scheme == "http":
            is_json = self._answers_json
            own = own_answer(status, headers, body, url=url, proxy=proxy, answers_json=is_json)
            if own is not None:
                return Reply(fault=own)
        return Reply(status=status, headers=headers, body=body)

    async def _fault(self, error: Exception, way: _Way, url: str) -> Fault:
        """Return what an exception means, looking closer where it does not tell by itself."""
        proxy = way.proxy
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return await self._distrusts.fault_of(error, way.sessions.plain, way.url, proxy)
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            fault = unconnected(url, self._connect_timeout_s, proxy)
            is_odd = proxy is not None and is_silent(proxy)
        else:
            fault = fault_of(error, url, proxy=proxy)
            is_odd = proxy is not None and is_suspect(error, proxy, url)
        if proxy is not None and is_odd:
            return await self._tongues.fault_of(proxy, address_of(url)) or fault
        return fault

    async def _body(self, response: aiohttp.ClientResponse) -> bytes | None:
        """Read the body; ``None`` where it is longer than allowed."""
        return await read_bounded(response.content, response.headers, self._max_response)

    def _too_long(self, url: str) -> Fault:
        return Fault(
            kind=ErrorKind.BAD_RESPONSE,
            message=f"answer longer than {self._max_response} bytes from {address_of(url)}",
            maybe_executed=True,
        )

    def _proxy_for(self, url: URL) -> Proxy | UnusableProxyError | None:
        key = url.raw_authority or "", url.scheme
        if key not in self._proxies:
            try:
                self._proxies[key] = self._proxy_before(url)
            except UnusableProxyError as error:
                self._proxies[key] = error
        return self._proxies[key]

    def _socks(self, proxy: Proxy) -> _Sessions:
        from batchrunner.transport.socks import SocksConnector  # noqa: PLC0415 (few have one)

        if proxy not in self._by_socks:
            self._by_socks[proxy] = self._open(SocksConnector(proxy, **self._pool()))
        return self._by_socks[proxy]

    def _pool(self) -> dict[str, Any]:
        return {
            "limit": self._pool_size,
            "ssl": self._tls,
            "connect_timeout_s": self._connect_timeout_s,
        }

    def _open(self, connector: aiohttp.BaseConnector) -> _Sessions:
        plain = traced = self._session(connector, [])
        if self._on_headers is not None:
            trace = aiohttp.TraceConfig()
            trace.on_request_headers_sent.append(self._pass_gate)
            traced = self._session(connector, [trace])
        express: Express | None = None
        if is_tried():
            express = Express(plain, connector, self._timeout, self._max_response)
        return _Sessions(plain, traced, connector, express)

    def _session(
        self, connector: aiohttp.BaseConnector, traces: list[aiohttp.TraceConfig]
    ) -> aiohttp.ClientSession:
        headers = CIMultiDict({"User-Agent": f"batchrunner/{__version__}"})
        # In whatever case a name is written: one of each goes out.
        headers.update(self._headers)
        session = aiohttp.ClientSession(
            connector=connector,
            connector_owner=False,
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            trace_configs=traces,
            trust_env=False,
        )
        # aiohttp sends a GET again by itself where a kept connection turns out closed; each send
        # is counted against a limit, so there must be none that we don't see.
        session._retry_connection = False  # noqa: SLF001
        return session

    async def _pass_gate(
        self,
        _session: aiohttp.ClientSession,
        context: types.SimpleNamespace,
        _params: aiohttp.TraceRequestHeadersSentParams,
    ) -> None:
        passage: Passage = context.trace_request_ctx
        await passage.pass_gate()


def _readable(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return headers as they can be stored: aiohttp leaves half a character for each byte that is no UTF-8."""
    if "".join(headers.values()).isascii():
        return headers
    return CIMultiDict(
        (name, value.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
        for name, value in headers.items()
    )
