"""The short way to a server: aiohttp's connections and its parser, without what a session does besides.

A run sends the same headers to the same address thousands of times. A session looks for cookies,
credentials, redirects and middlewares each time, builds and checks the headers anew, and writes each body
in a task of its own. Here the session itself makes one request, which is written down instead of sent;
from then on each request is that head, its length and its body.

What goes out are the headers that the session would send; what comes back is read by the same parser on the same
kept connections, and failures are raised as the session raises them. An answer that comes before
its request is written to the end is taken, and the connection given up.

How an answer is read on a connection is not documented by aiohttp, so that versions of it that this was not tried
with go by the session (:data:`TRIED`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, NoReturn

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

__all__ = ["TRIED", "Answer", "Express", "Head", "Passage", "is_tried", "read_bounded"]

#: The versions of aiohttp that the tests passed with: from the first on, below the second.
TRIED: Final = ((3, 12), (3, 15))
#: Longer bodies are not copied behind their head.
_LONGEST_JOINED: Final = 65_536
_MOST_HEADS: Final = 256
_LENGTH: Final = "Content-Length"
#: What the session refuses in a header; there, with its own words.
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class Head(NamedTuple):
    """What is the same in each request to an address."""

    #: The session's own request, by which a connection is found or made.
    request: aiohttp.ClientRequest
    #: Request line and headers, up to the length of the body.
    text: bytes


class Answer(NamedTuple):
    """What came back; ``body`` is ``None`` where it was longer than allowed."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None


class Passage:
    """How far one request came: by the gate before its first byte, and to its answer."""

    __slots__ = ("_ask", "is_answered", "passed", "ticket")

    def __init__(self, ticket: object, ask: Callable[[Any], Awaitable[None]] | None) -> None:
        """Take whom to ask for the first byte; ``None``: nobody."""
        self.ticket = ticket
        self._ask = ask
        #: The first byte may have gone out.
        self.passed = False
        #: The status is there.
        self.is_answered = False

    async def pass_gate(self) -> None:
        """Ask for the first byte; what that raises keeps the request from going out."""
        if self._ask is not None:
            await self._ask(self.ticket)
        self.passed = True


class _Prepared(Exception):  # noqa: N818  # not an error: what was wanted has come
    """Ends a session's request before it is connected."""

    def __init__(self, request: aiohttp.ClientRequest) -> None:
        super().__init__()
        self.request = request


def is_tried(version: str = aiohttp.__version__) -> bool:
    """Return whether the short way was tried with a version of aiohttp.

    >>> is_tried("3.14.5"), is_tried("4.0.0a1"), is_tried("3.11.18")
    (True, False, False)
    """
    major, minor = version.split(".")[:2]
    return TRIED[0] <= (int(major), int(minor)) < TRIED[1]


class Express:
    """Posts bodies on a session's connections."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        connector: aiohttp.BaseConnector,
        timeout: aiohttp.ClientTimeout,
        max_response: int,
    ) -> None:
        """Take the session whose headers go out; ``max_response`` is in bytes, after unpacking."""
        self._session = session
        self._connector = connector
        self._timeout = timeout
        self._max_response = max_response
        self._heads: dict[URL, Head | None] = {}

    async def head(self, url: URL) -> Head | None:
        """Return what requests to ``url`` have in common; ``None``: the session has something against it.

        :raises aiohttp.ClientError, ValueError: what the session says of such an address.
        """
        try:
            return self._heads[url]
        except KeyError:
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            head = self._heads[url] = await self._written(url)
            return head

    async def post(self, head: Head, body: bytes, passage: Passage) -> Answer:
        """Send one request, once ``passage`` lets it, and return its answer.

        :raises aiohttp.ClientError, OSError: what a session raises.
        """
        try:
            connection = await self._connector.connect(
                head.request, traces=[], timeout=self._timeout
            )
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError(
                f"Connection timeout to host {head.request.url}"
            ) from error
        except OSError as error:
            _raise_as_session(error)
        # A connection whose request or answer is unfinished is of no use to the next.
        is_reusable = True
        try:
            await passage.pass_gate()
            is_reusable = False
            protocol: Any = connection.protocol
            protocol.set_response_params(read_until_eof=True)
            _write(connection.transport, head.text, body)
            message, content = await _message(protocol, head.request)
            passage.is_answered = True
            read = await read_bounded(content, message.headers, self._max_response)
            is_reusable = read is not None and _is_written(connection.transport)
            return Answer(message.code, message.headers, read)
        except OSError as error:
            _raise_as_session(error)
        finally:
            if is_reusable:
                connection.release()
            else:
                connection.close()

    async def _prepared(self, url: URL) -> aiohttp.ClientRequest:
        try:
            response = await self._session.post(url, data=b"-", middlewares=(_stop,))
        except _Prepared as prepared:
            return prepared.request
        raise AssertionError(response)

    async def _written(self, url: URL) -> Head | None:
        request = await self._prepared(url)
        headers = [(name, value) for name, value in request.headers.items() if name != _LENGTH]
        line = f"{request.method} {request.url.raw_path_qs} HTTP/1.1"
        if _FORBIDDEN.search("".join((line, *(text for header in headers for text in header)))):
            return None
        lines = [line, *(f"{name}: {value}" for name, value in headers), f"{_LENGTH}: "]
        return Head(request, "\r\n".join(lines).encode())


async def _message(protocol: Any, request: aiohttp.ClientRequest) -> tuple[Any, Any]:
    """Return the status with its headers, and the stream of the body, past what is only on the way."""
    while True:
        try:
            message, content = await protocol.read()
        except HttpProcessingError as error:
            raise aiohttp.ClientResponseError(
                request.request_info,
                (),
                status=error.code,
                message=error.message,
                headers=error.headers,
            ) from error
        if not 100 <= message.code <= 199 or message.code == 101:
            return message, content


async def read_bounded(
    content: aiohttp.StreamReader, headers: Mapping[str, str], most: int
) -> bytes | None:
    """Return a body of at most ``most`` bytes, unpacked; ``None`` where it is longer."""
    length = headers.get(_LENGTH)
    if length is not None and length.isdecimal() and "Content-Encoding" not in headers:
        return await content.read() if int(length) <= most else None
    chunks: list[bytes] = []
    total = 0
    async for chunk in content.iter_any():
        total += len(chunk)
        if total > most:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _write(transport: asyncio.Transport | None, head: bytes, body: bytes) -> None:
    """Hand over a request to be sent; what is not taken at once is kept by the transport."""
    if transport is None or transport.is_closing():
        raise aiohttp.ClientConnectionResetError("Cannot write to closing transport")
    if len(body) <= _LONGEST_JOINED:
        transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
    else:
        transport.write(b"%b%d\r\n\r\n" % (head, len(body)))
        transport.write(body)


def _is_written(transport: asyncio.Transport | None) -> bool:
    """Return whether all of a request went out: an early answer may come before its end."""
    return transport is None or not transport.get_write_buffer_size()


async def _stop(request: aiohttp.ClientRequest, _handler: object) -> NoReturn:
    """End a session's request where it would be connected (aiohttp's form of a middleware)."""
    raise _Prepared(request)


def _raise_as_session(error: OSError) -> NoReturn:
    """Raise a failure of the system as aiohttp's own kind, as its session does."""
    if isinstance(error, aiohttp.ClientError) or (
        error.errno is None and isinstance(error, TimeoutError)
    ):
        raise error
    raise aiohttp.ClientOSError(*error.args) from error
