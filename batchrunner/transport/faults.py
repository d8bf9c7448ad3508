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
from batchrunner.transport.connector import CLOSED, NOT_HTTP, TunnelError
from batchrunner.transport.phases import MAKING, Phase
from batchrunner.transport.proxies import Proxy

__all__ = [
    "EXPECTED",
    "FAULTS",
    "Row",
    "address_of",
    "fault_of",
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


_FIX_PROXY_REACH: Final = (
    "See whether it runs, and say its right host and port: batchrunner resume --proxy"
    " {scheme}://HOST:PORT. The direct way is: batchrunner resume --proxy none"
)
_FIX_TLS_SPOKEN: Final = (
    "Check the port. If it speaks plain http: batchrunner resume --base-url http://… (to another"
    " machine with --allow-insecure-http)"
)

FAULTS: Final[Sequence[Row]] = (
    Row(aiohttp.ClientHttpProxyError, ErrorKind.PROXY, False, "The proxy {proxy} {why} on the way to {at}"),
    Row(TunnelError, ErrorKind.PROXY, False, "The proxy {proxy} {why} on the way to {at}"),
    Row(aiohttp.ClientProxyConnectionError, ErrorKind.PROXY, False, "Can't reach the proxy {proxy} on the way to {at}: {why}", fix=_FIX_PROXY_REACH),
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
    fix=_FIX_PROXY_REACH,
)
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

#: A server that speaks plain http closes like this, and so does what filters by the name asked for.
_CLOSED_IN_HANDSHAKE: Final = "it closed the connection when TLS was begun (a port that speaks plain http, or a filter on the way)"

#: What a send may raise and :func:`fault_of` can tell; anything else is a defect.
EXPECTED: Final = (aiohttp.ClientError, OSError, ValueError)

_WHY_BOUND: Final = 200


class _Refusal(NamedTuple):
    """What a proxy's answer means."""

    why: str
    fix: str
    halts: bool = True


_FIX_LOGIN: Final = (
    "Put its password into PROXY_PASSWORD and give its user name, just so: batchrunner resume --proxy"
    " '{scheme}://USER:${{PROXY_PASSWORD}}@{place}'"
)
_FIX_RULES: Final = (
    "Ask whoever runs the proxy to allow it, or go another way: batchrunner resume --proxy URL (none is"
    " the direct way)"
)
_FIX_NO_PROXY: Final = (
    "Check its port and kind; as one of another kind it is: batchrunner resume --proxy"
    " {other}://{place}"
)
_FIX_BEYOND: Final = (
    "Check the base URL, and whether the proxy itself has a network; another is: batchrunner resume"
    " --proxy URL"
)

_LOGIN_WANTED: Final = "wants a user name and password"
_LOGIN_REFUSED: Final = "does not accept the user name and password"
#: By status of the answer to CONNECT.
_HTTP_REFUSALS: Final[Mapping[int, _Refusal]] = {
    407: _Refusal("{login} (407)", _FIX_LOGIN),
    401: _Refusal("{login} (401)", _FIX_LOGIN),
    403: _Refusal("refuses to connect (403)", _FIX_RULES),
    400: _Refusal("does not know CONNECT (400)", _FIX_NO_PROXY),
    404: _Refusal("does not know CONNECT (404)", _FIX_NO_PROXY),
    405: _Refusal("does not know CONNECT (405)", _FIX_NO_PROXY),
    501: _Refusal("does not know CONNECT (501)", _FIX_NO_PROXY),
}
#: By reply code of SOCKS5.
_SOCKS_REFUSALS: Final[Mapping[int, _Refusal]] = {
    1: _Refusal("could not connect", _FIX_BEYOND, halts=False),
    2: _Refusal("refuses to connect by its rules", _FIX_RULES),
    3: _Refusal("has no network", _FIX_BEYOND, halts=False),
    4: _Refusal("can't reach the host", _FIX_BEYOND, halts=False),
    5: _Refusal("was refused the connection", _FIX_BEYOND, halts=False),
    6: _Refusal("can't reach the host (TTL expired)", _FIX_BEYOND, halts=False),
    7: _Refusal("can't make connections", _FIX_NO_PROXY),
    8: _Refusal("does not take this kind of address", _FIX_BEYOND),
}
#: Refusals that have no code, by our own words and those of aiohttp-socks.
_WORDS: Final[Sequence[tuple[str, _Refusal]]] = (
    (NOT_HTTP, _Refusal("does not speak HTTP", _FIX_NO_PROXY)),
    (CLOSED, _Refusal("closed the connection", _FIX_NO_PROXY, halts=False)),
    ("No acceptable authentication", _Refusal("{login}", _FIX_LOGIN)),
    ("authentication failure", _Refusal("{login}", _FIX_LOGIN)),
    ("SOCKS version", _Refusal("does not speak SOCKS", _FIX_NO_PROXY)),
    ("Malformed", _Refusal("does not speak SOCKS", _FIX_NO_PROXY)),
    ("Invalid", _Refusal("does not speak SOCKS", _FIX_NO_PROXY)),
)


def fault_of(error: BaseException, url: str, *, proxy: Proxy | None = None) -> Fault:
    """Return what ``error`` means for a request to ``url``, sent by way of ``proxy``.

    The message names addresses without path, query and password. ``error`` is one of
    :data:`EXPECTED`.
    """
    if (
        proxy is not None
        and isinstance(error, aiohttp.ClientConnectorDNSError)
        and error.host == proxy.url.raw_host
    ):
        return _fault(_PROXY_UNKNOWN, error, url, proxy)
    for row in FAULTS:
        if isinstance(error, row.exception) and (
            row.cause is None or _is_caused_by(error, row.cause)
        ):
            return _fault(row, error, url, proxy)
    raise error


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
            fix=_filled(f"{_FIX_PROXY_REACH}. {_FIX_NO_PROXY}", proxy),
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
    refusal = _refusal(error)
    why = refusal.why if refusal else _why(error)
    fix = refusal.fix if refusal else row.fix
    if _is_tls_on_http(error):
        return Fault(
            kind=ErrorKind.TLS,
            message=f"{address_of(url)} speaks TLS, and was asked in plain http",
            maybe_executed=False,
            fix="Write https: batchrunner resume --base-url https://…",
            halts=True,
        )
    if refusal is not None:
        has_login = proxy is not None and proxy.user is not None
        why = why.replace("{login}", _LOGIN_REFUSED if has_login else _LOGIN_WANTED)
    return Fault(
        kind=row.kind,
        message=row.words.format(at=address_of(url), why=why, proxy=proxy or "set here"),
        maybe_executed=row.maybe_executed,
        fix=_filled(fix, proxy),
        halts=refusal is not None and refusal.halts,
    )


def _filled(fix: str, proxy: Proxy | None) -> str:
    if proxy is None:
        return fix
    url = proxy.url
    other = "http" if proxy.is_socks else "socks5h"
    return fix.format(scheme=url.scheme, place=f"{url.host_subcomponent}:{url.port}", other=other)


def _refusal(error: BaseException) -> _Refusal | None:
    """Return what a proxy that was reached said instead of connecting."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        said = _Refusal(f"answered {error.status} {error.message}", _FIX_BEYOND, halts=False)
        return _HTTP_REFUSALS.get(error.status, said)
    if not isinstance(error, TunnelError):
        return None
    if error.code is not None and error.code in _SOCKS_REFUSALS:
        return _SOCKS_REFUSALS[error.code]
    said = _Refusal(f"gave no way: {error.words}", _FIX_BEYOND, halts=False)
    return next((known for words, known in _WORDS if words in error.words), said)


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
            # asyncio's word for an end of file within the handshake.
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
