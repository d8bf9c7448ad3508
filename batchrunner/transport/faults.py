"""Every exception of aiohttp as a :class:`Fault`: one literal table, specific classes first.

Measured with aiohttp 3.14.5; a test sends over real sockets for each row. What matters most is
``maybe_executed``: a POST on which the connection broke after its first byte may have been acted
on and billed, and only the rows that say ``False`` are certain that it was not.

A trap: aiohttp reports an answer that is no HTTP as ``ClientResponseError`` with status 400. That
is a local parse fault, never a provider's 400.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError
from yarl import URL

from batchrunner.models import ErrorKind, Fault
from batchrunner.transport.connector import TunnelError
from batchrunner.transport.phases import MAKING, Phase
from batchrunner.transport.proxies import Proxy
from batchrunner.transport.refusals import FIX_NO_PROXY, FIX_PROXY_REACH, filled, refusal_of

__all__ = [
    "EXPECTED",
    "FAULTS",
    "Row",
    "address_of",
    "fault_of",
    "is_silent",
    "is_suspect",
    "late_fault",
    "unconnected",
]


class Row(NamedTuple):
    """What an exception means."""

    exception: type[BaseException]
    kind: ErrorKind
    maybe_executed: bool
    #: ``{at}`` is the address, ``{why}`` the exception's own words, ``{proxy}`` the proxy's address.
    words: str
    #: Only where it was raised from one of this class.
    cause: type[BaseException] | None = None
    fix: str = ""


_FIX_TLS_SPOKEN: Final = (
    "Check the port. If it speaks plain http: batchrunner resume --base-url http://… (to another"
    " machine with --allow-insecure-http)"
)

FAULTS: Final[Sequence[Row]] = (
    Row(aiohttp.ClientHttpProxyError, ErrorKind.PROXY, False, "The proxy {proxy} {why} on the way to {at}"),
    Row(TunnelError, ErrorKind.PROXY, False, "The proxy {proxy} {why} on the way to {at}"),
    Row(aiohttp.ClientProxyConnectionError, ErrorKind.PROXY, False, "Can't reach the proxy {proxy} on the way to {at}: {why}", fix=FIX_PROXY_REACH),
    Row(aiohttp.ClientConnectorDNSError, ErrorKind.DNS, False, "Can't find the address of {at}: {why}"),
    Row(aiohttp.ClientConnectorCertificateError, ErrorKind.TLS, False, "The certificate of {at} is not trusted: {why}"),
    Row(aiohttp.ClientSSLError, ErrorKind.TLS, False, "No TLS with {at}: {why}", fix=_FIX_TLS_SPOKEN),
    Row(aiohttp.ServerFingerprintMismatch, ErrorKind.TLS, False, "The certificate of {at} is not the expected one"),
    Row(aiohttp.ClientConnectorError, ErrorKind.CONNECTION, False, "Can't connect to {at}: {why}"),
    Row(aiohttp.ConnectionTimeoutError, ErrorKind.CONNECTION, False, "Can't connect to {at} within the connect timeout"),
    Row(aiohttp.ServerTimeoutError, ErrorKind.TIMEOUT, True, "{at} sent nothing for too long"),
    Row(aiohttp.ServerDisconnectedError, ErrorKind.CONNECTION_RESET, True, "{at} closed the connection before it answered"),
    Row(aiohttp.ClientConnectionResetError, ErrorKind.CONNECTION_RESET, True, "The connection to {at} broke while sending"),
    Row(aiohttp.ClientOSError, ErrorKind.CONNECTION_RESET, True, "The connection to {at} broke before the answer: {why}"),
    Row(aiohttp.ClientPayloadError, ErrorKind.BAD_RESPONSE, True, "The answer of {at} can't be unpacked", ContentEncodingError),
    Row(aiohttp.ClientPayloadError, ErrorKind.CONNECTION_RESET, True, "The answer of {at} was cut off"),
    Row(aiohttp.InvalidURL, ErrorKind.INVALID_REQUEST, False, "{at} is not an address that can be asked"),
    Row(aiohttp.NonHttpUrlClientError, ErrorKind.INVALID_REQUEST, False, "{at} is not an http address"),
    Row(aiohttp.TooManyRedirects, ErrorKind.REDIRECT, False, "{at} redirects in a circle"),
    Row(aiohttp.ClientResponseError, ErrorKind.BAD_RESPONSE, True, "The answer of {at} is packed in a way that was not asked for: {why}", ContentEncodingError),
    Row(aiohttp.ClientResponseError, ErrorKind.BAD_RESPONSE, True, "{at} answered with something that is not HTTP: {why}"),
    Row(aiohttp.ClientConnectionError, ErrorKind.CONNECTION_RESET, True, "The connection to {at} broke: {why}"),
    Row(aiohttp.ClientError, ErrorKind.BAD_RESPONSE, True, "The exchange with {at} failed: {why}"),
    Row(TimeoutError, ErrorKind.TIMEOUT, True, "{at} did not answer in full within the timeout"),
    Row(ssl.SSLError, ErrorKind.CONNECTION_RESET, True, "TLS with {at} broke: {why}"),
    Row(OSError, ErrorKind.CONNECTION_RESET, True, "The connection to {at} broke: {why}"),
    # A header or an address that can't be written down; raised before anything is sent.
    Row(ValueError, ErrorKind.INVALID_REQUEST, False, "The request to {at} can't be sent: {why}"),
)  # fmt: skip

#: A proxy's own name without an address looks like the server's.
_PROXY_UNKNOWN: Final = Row(
    aiohttp.ClientConnectorDNSError,
    ErrorKind.PROXY,
    False,
    "Can't find the address of the proxy {proxy}: {why}",
    fix=FIX_PROXY_REACH,
)
#: And so does its TLS.
_PROXY_TLS: Final = Row(
    aiohttp.ClientSSLError,
    ErrorKind.PROXY,
    False,
    "No TLS with the proxy {proxy} on the way to {at}: {why}",
    fix=FIX_NO_PROXY,
)
_OF_PROXY: Final = (_PROXY_UNKNOWN, _PROXY_TLS)
#: OpenSSL's reasons in words.
_TLS_REASONS: Final[Mapping[str, str]] = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS, but perhaps plain http",
    "HTTP_REQUEST": "it does not speak TLS, but plain http",
    "RECORD_LAYER_FAILURE": "it does not speak TLS, but perhaps plain http",
    "UNSUPPORTED_PROTOCOL": "it speaks only versions of TLS that are too old",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it does not accept our version of TLS",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it refuses the handshake",
    "TLSV1_UNRECOGNIZED_NAME": "it has no certificate for that name",
}

#: A port that speaks plain http closes like this, and so does what filters by the name asked for.
_CLOSED_IN_HANDSHAKE: Final = "it closed the connection when TLS was begun"
_FIX_CLOSED_IN_HANDSHAKE: Final = (
    "What usually closes there: a filter on the way that does not let {host} pass (a firewall, a"
    " country's, a program that inspects TLS), a port that speaks plain http, or a server that does not"
    " know that name. To look: openssl s_client -connect {place} -servername {host}{by} </dev/null."
    " Another way: batchrunner resume --proxy URL, or --base-url URL"
)
#: Kinds of which a proxy that only passes things on may be the cause.
_PASSED_ON: Final = frozenset((ErrorKind.CONNECTION_RESET, ErrorKind.BAD_RESPONSE))

#: What a send may raise and :func:`fault_of` can tell; anything else is a defect.
EXPECTED: Final = (aiohttp.ClientError, OSError, ValueError)

_WHY_BOUND: Final = 200


def fault_of(error: BaseException, url: str, *, proxy: Proxy | None = None) -> Fault:
    """Return what ``error`` means for a request to ``url``, sent by way of ``proxy``.

    The message names addresses without path, query and password. ``error`` is one of
    :data:`EXPECTED`.
    """
    if proxy is not None and _is_proxys_own(error, proxy):
        return _fault(_OF_PROXY[isinstance(error, aiohttp.ClientSSLError)], error, url, proxy)
    if _is_closed_handshake(error):
        return _closed_in_handshake(url, proxy)
    for row in FAULTS:
        if isinstance(error, row.exception) and (
            row.cause is None or _is_caused_by(error, row.cause)
        ):
            return _fault(row, error, url, proxy)
    raise error


def is_suspect(error: BaseException, proxy: Proxy, url: str) -> bool:
    """Return whether a failure is one by which a proxy of another kind than was said shows itself."""
    if isinstance(error, TunnelError):
        refusal = refusal_of(error, proxy)
        return refusal is not None and refusal.fix is FIX_NO_PROXY
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return _phase() is Phase.TLS
    if isinstance(error, aiohttp.ClientConnectorError):
        return isinstance(error, aiohttp.ClientSSLError) and _is_proxys_own(error, proxy)
    # Without a tunnel the first word to the proxy is the request itself.
    is_plain = not proxy.is_socks and url.startswith("http:")
    return is_plain and isinstance(
        error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientResponseError)
    )


def is_silent(proxy: Proxy) -> bool:
    """Return whether the connection that was not made in time stood at the proxy, which said nothing."""
    making = MAKING.get()
    said = {Phase.PROXY, Phase.TLS} if proxy.url.scheme == "https" else {Phase.PROXY}
    return making is not None and not making.has_left_proxy and _phase() in said


def late_fault(url: str, timeout_s: float, ended: float, *, is_read: bool) -> Fault:
    """Return the fault of a request whose whole time is over at ``ended`` (on the loop's clock)."""
    begun = ended - timeout_s
    making = MAKING.get()
    phase = Phase.READING if is_read else Phase.FIRST_BYTE
    if making is None or making.begun < begun:
        # On a kept connection.
        words = str(phase)
    elif making.ready_at is None:
        words = making.words(ended)
    else:
        words = f"{making.words(ended)}, {phase} {ended - making.ready_at:.1f} s"
    return Fault(
        kind=ErrorKind.TIMEOUT,
        message=f"{address_of(url)} did not answer in full within {timeout_s:g} s: {words}",
        maybe_executed=True,
    )


def unconnected(url: str, timeout_s: float, proxy: Proxy | None) -> Fault:
    """Return the fault of a request for which no connection was made in time."""
    making = MAKING.get()
    words = ""
    if making is not None and making.phases:
        words = f": {making.words(asyncio.get_running_loop().time())}"
    is_beyond = making is not None and making.has_left_proxy
    if proxy is not None and not is_beyond:
        return Fault(
            kind=ErrorKind.PROXY,
            message=f"No way to {address_of(url)} by the proxy {proxy} within {timeout_s:g} s{words}",
            maybe_executed=False,
            fix=filled(f"{FIX_PROXY_REACH}. {FIX_NO_PROXY}", proxy),
        )
    return Fault(
        kind=ErrorKind.CONNECTION,
        message=f"Can't connect to {address_of(url)} within {timeout_s:g} s{words}",
        maybe_executed=False,
        fix="Check the address, the network and a firewall; where the way is only slow, give it longer,"
        " batchrunner resume --connect-timeout 2m",
    )


def address_of(url: str) -> str:
    """Return scheme, host and port of ``url``, for messages."""
    try:
        parsed = URL(url)
        return str(parsed.origin()) if parsed.host else url.partition("?")[0]
    except ValueError:
        return url.partition("?")[0]


def _fault(row: Row, error: BaseException, url: str, proxy: Proxy | None) -> Fault:
    if _is_tls_on_http(error):
        return Fault(
            kind=ErrorKind.TLS,
            message=f"{address_of(url)} speaks TLS, and was asked in plain http",
            maybe_executed=False,
            fix="Write https: batchrunner resume --base-url https://…",
            halts=True,
        )
    refusal = refusal_of(error, proxy)
    why, fix = (_why(error), row.fix) if refusal is None else (refusal.why, refusal.fix)
    message = row.words.format(at=address_of(url), why=why, proxy=proxy or "set here")
    if proxy is not None and row.kind in _PASSED_ON:
        message += f" (by the proxy {proxy})"
    return Fault(
        kind=row.kind,
        message=message,
        maybe_executed=row.maybe_executed,
        fix=filled(fix, proxy),
        halts=refusal is not None and refusal.halts,
    )


def _phase() -> Phase | None:
    """Return how far the making of the running task's connection came."""
    making = MAKING.get()
    return making.phases[-1][0] if making is not None and making.phases else None


def _is_proxys_own(error: BaseException, proxy: Proxy) -> bool:
    """Whether a failure that looks like the server's was met on the way to the proxy."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return error.host == proxy.url.raw_host
    return (
        proxy.url.scheme == "https"
        and isinstance(error, aiohttp.ClientConnectorError)
        and isinstance(error, aiohttp.ClientSSLError)
        and (error.host, error.port) == (proxy.url.raw_host, proxy.url.port)
    )


def _is_closed_handshake(error: BaseException) -> bool:
    """Whether the server, or what stands before it, closed instead of a TLS handshake.

    asyncio has a name of its own for each way to close, and for TLS within a proxy's TLS a defect
    (Python 3.11: a ``TypeError``).
    """
    if _phase() is not Phase.TLS or isinstance(error, aiohttp.ClientProxyConnectionError):
        return False
    if isinstance(error, aiohttp.ClientConnectorError):
        inner = error.os_error
        return isinstance(inner, (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)) or (
            inner.errno is None and "Failed to start TLS" in str(inner)
        )
    return type(error) is aiohttp.ClientConnectionError and isinstance(error.__cause__, TypeError)


def _closed_in_handshake(url: str, proxy: Proxy | None) -> Fault:
    parsed = URL(url)
    host = parsed.host_subcomponent or ""
    is_http = proxy is not None and not proxy.is_socks
    by = f" -proxy {proxy.url.host_subcomponent}:{proxy.url.port}" if proxy and is_http else ""
    through = f" through the proxy {proxy}" if proxy is not None else ""
    return Fault(
        kind=ErrorKind.CONNECTION,
        message=f"Can't connect to {address_of(url)}{through}: {_CLOSED_IN_HANDSHAKE}",
        maybe_executed=False,
        fix=_FIX_CLOSED_IN_HANDSHAKE.format(host=host, place=f"{host}:{parsed.port}", by=by),
    )


def _is_tls_on_http(error: BaseException) -> bool:
    """Whether the answer that is no HTTP is a TLS alert."""
    return isinstance(error, aiohttp.ClientResponseError) and "\\x15\\x03" in error.message


def _is_caused_by(error: BaseException, cause: type[BaseException]) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, cause):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _why(error: BaseException) -> str:
    """Return the innermost reason in few words, without aiohttp's own address."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        certificate_error = error.certificate_error
        words = getattr(certificate_error, "verify_message", "") or str(certificate_error)
    elif isinstance(error, aiohttp.ClientConnectorError):
        inner = error.os_error
        if isinstance(inner, ConnectionResetError) and not inner.args:
            # asyncio's word for an end of file within the handshake (here a proxy's).
            return _CLOSED_IN_HANDSHAKE
        if inner.errno is not None and inner.errno > 0 and not isinstance(inner, ssl.SSLError):
            return os.strerror(inner.errno)
        if isinstance(inner, ssl.SSLError) and (known := _TLS_REASONS.get(inner.reason or "")):
            return known
        words = (inner.strerror or str(inner)) if inner.strerror else str(inner)
    elif isinstance(error, aiohttp.ClientResponseError):
        words = error.message if error.status == 400 else f"{error.status} {error.message}"
    elif isinstance(error, OSError):
        words = error.strerror or str(error)
    else:
        words = str(error)
    return " ".join(words.split())[:_WHY_BOUND] or type(error).__name__
