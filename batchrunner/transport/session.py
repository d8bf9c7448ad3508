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
import socket
import ssl
import types
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Any, Final, Self

import aiohttp
from msgspec.structs import replace
from yarl import URL

from batchrunner import __version__
from batchrunner.models import ErrorKind, Fault, Reply, Request
from batchrunner.transport.deadlines import Deadlines
from batchrunner.transport.faults import EXPECTED, address_of, fault_of
from batchrunner.transport.proxies import Proxy, UnusableProxyError, find_proxy

__all__ = ["Aborted", "Transport"]

_KEEPALIVE_S: Final = 15.0
#: As Anthropic's SDK sets them, so that a firewall does not drop a connection that waits for a
#: long answer. Values in seconds but for the count.
_TCP_OPTIONS: Final = (
    ("TCP_KEEPIDLE", 60),
    ("TCP_KEEPALIVE", 60),  # macOS's name for the same
    ("TCP_KEEPINTVL", 60),
    ("TCP_KEEPCNT", 5),
)


class Aborted(Exception):  # noqa: N818  # not an error: the send was called off
    """Raised by ``on_headers`` to call a send off; the request did not go out."""


class _Passage:
    """One request's way through the gate before its first byte."""

    __slots__ = ("passed", "ticket")

    def __init__(self, ticket: object) -> None:
        self.ticket = ticket
        self.passed = False


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
    ) -> None:
        """Set up the pool; nothing is connected yet.

        ``pool_size`` is at least the concurrency, since ``total_timeout_s`` counts the wait for a
        connection too. ``max_response`` is in bytes, after unpacking. ``headers`` go with every
        request (a request's own win), and cost nothing where a request has these very ones.
        ``environ`` tells of proxies; ``None``: the process's own.
        """
        self._headers = {} if headers is None else headers
        self._max_response = max_response
        self._on_headers = on_headers
        self._environ = os.environ if environ is None else environ
        self._proxies: dict[tuple[str, str], Proxy | UnusableProxyError | None] = {}
        self._connector = aiohttp.TCPConnector(
            limit=pool_size,
            keepalive_timeout=_KEEPALIVE_S,
            ssl=ssl.create_default_context(),
            socket_factory=_open_socket,
        )
        self._deadlines = Deadlines(total_timeout_s)
        #: ``sock_connect`` covers TCP and TLS; a proxy's CONNECT is covered by ``connect`` only,
        #: which costs a timer a request.
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)
        self._proxied_timeout = aiohttp.ClientTimeout(
            total=None, connect=connect_timeout_s, sock_connect=connect_timeout_s
        )
        self._plain = self._session([])
        self._traced = self._plain
        if on_headers is not None:
            trace = aiohttp.TraceConfig()
            trace.on_request_headers_sent.append(self._pass_gate)
            self._traced = self._session([trace])

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close."""
        await self.close()

    async def close(self) -> None:
        """Close every connection. What is in flight fails."""
        await self._plain.close()
        if self._traced is not self._plain:
            await self._traced.close()
        await self._connector.close()
        self._deadlines.close()

    async def send(self, request: Request, ticket: object | None = None) -> Reply:
        """Send ``request`` once and return the whole answer, or the fault.

        With a ticket (and an ``on_headers``) permission is asked right before the first byte.

        :raises Aborted: ``on_headers`` did; nothing went out.
        """
        try:
            url = _url(request.url)
            proxy = self._proxy_for(url)
        except ValueError as error:
            return Reply(fault=fault_of(error, request.url))
        if isinstance(proxy, UnusableProxyError):
            message = f"{proxy} (on the way to {address_of(request.url)})"
            return Reply(fault=Fault(kind=ErrorKind.PROXY, message=message, maybe_executed=False))
        if ticket is None or self._on_headers is None:
            return await self._exchange(self._plain, request, url, proxy, None)
        passage = _Passage(ticket)
        reply = await self._exchange(self._traced, request, url, proxy, passage)
        if reply.fault is not None and reply.fault.maybe_executed and not passage.passed:
            return replace(reply, fault=replace(reply.fault, maybe_executed=False))
        return reply

    async def _exchange(
        self,
        session: aiohttp.ClientSession,
        request: Request,
        url: URL,
        proxy: Proxy | None,
        passage: _Passage | None,
    ) -> Reply:
        response: aiohttp.ClientResponse | None = None
        headers: Mapping[str, str] | None = request.headers
        if headers is self._headers:
            headers = None
        if proxy is not None and proxy.headers and url.scheme == "http":
            # Without a tunnel the proxy reads the request itself, so its password goes there.
            headers = {**(headers or {}), **proxy.headers}
        deadline = self._deadlines.begin()
        try:
            response = await session.request(
                request.method,
                url,
                # Ready-made: what else would look up how to send bytes, for each request anew.
                data=aiohttp.BytesPayload(request.body) if request.body else None,
                headers=headers,
                allow_redirects=False,
                timeout=self._timeout if proxy is None else self._proxied_timeout,
                proxy=None if proxy is None else proxy.url,
                proxy_headers=None if proxy is None else proxy.headers,
                trace_request_ctx=passage,
            )
            body = await self._body(response)
        except asyncio.CancelledError:
            if not deadline.has_passed or deadline.task.uncancel() > 0:
                raise
            return Reply(fault=fault_of(TimeoutError(), request.url))
        except EXPECTED as error:
            return Reply(fault=fault_of(error, request.url))
        finally:
            self._deadlines.end(deadline)
            # Gives up a connection whose answer was not read to its end; else it is back already.
            if response is not None:
                response.close()
        got = response.headers
        if body is None:
            return Reply(status=response.status, headers=got, fault=self._too_long(request.url))
        return Reply(status=response.status, headers=got, body=body)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes | None:
        """Read the body; ``None`` where it is longer than allowed."""
        length = response.content_length
        if length is not None and "Content-Encoding" not in response.headers:
            return await response.read() if length <= self._max_response else None
        chunks: list[bytes] = []
        total = 0
        async for chunk in response.content.iter_any():
            total += len(chunk)
            if total > self._max_response:
                return None
            chunks.append(chunk)
        return b"".join(chunks)

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
                self._proxies[key] = find_proxy(url, self._environ)
            except UnusableProxyError as error:
                self._proxies[key] = error
        return self._proxies[key]

    def _session(self, traces: list[aiohttp.TraceConfig]) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            headers={"User-Agent": f"batchrunner/{__version__}", **self._headers},
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
        passage: _Passage = context.trace_request_ctx
        assert self._on_headers is not None
        await self._on_headers(passage.ticket)
        passage.passed = True


@lru_cache(maxsize=256)
def _url(text: str) -> URL:
    """Return the parsed address; a run asks a handful."""
    return URL(text)


def _open_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    opened = socket.socket(family, kind, protocol)
    opened.setblocking(False)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _TCP_OPTIONS:
        if (option := getattr(socket, name, None)) is not None:
            opened.setsockopt(socket.IPPROTO_TCP, option, value)
    return opened
