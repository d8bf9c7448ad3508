"""Every exception of aiohttp as a :class:`Fault`: one literal table, specific classes first.

Measured with aiohttp 3.14.5; a test sends over real sockets for each row. What matters most is
``maybe_executed``: a POST on which the connection broke after its first byte may have been acted
on and billed, and only the rows that say ``False`` are certain that it was not.

A trap: aiohttp reports an answer that is no HTTP as ``ClientResponseError`` with status 400. That
is a local parse fault, never a provider's 400.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Final, NamedTuple

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError
from yarl import URL

from batchrunner.models import ErrorKind, Fault

__all__ = ["EXPECTED", "FAULTS", "Row", "fault_of"]


class Row(NamedTuple):
    """What an exception means."""

    exception: type[BaseException]
    kind: ErrorKind
    maybe_executed: bool
    #: ``{at}`` is the address, ``{why}`` the exception's own words.
    words: str
    #: Only where it was raised from one of this class.
    cause: type[BaseException] | None = None


FAULTS: Final[Sequence[Row]] = (
    Row(aiohttp.ClientHttpProxyError, ErrorKind.PROXY, False, "The proxy answered {why} when asked for {at}"),
    Row(aiohttp.ClientProxyConnectionError, ErrorKind.PROXY, False, "Can't reach the proxy on the way to {at}: {why}"),
    Row(aiohttp.ClientConnectorDNSError, ErrorKind.DNS, False, "Can't find the address of {at}: {why}"),
    Row(aiohttp.ClientConnectorCertificateError, ErrorKind.TLS, False, "The certificate of {at} is not trusted: {why}"),
    Row(aiohttp.ClientSSLError, ErrorKind.TLS, False, "No TLS with {at}: {why}"),
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

#: What a send may raise and :func:`fault_of` can tell; anything else is a defect.
EXPECTED: Final = (aiohttp.ClientError, OSError, ValueError)

_WHY_BOUND: Final = 200


def fault_of(error: BaseException, url: str) -> Fault:
    """Return what ``error`` means for a request to ``url``.

    The message names the address without path, query and password. ``error`` is one of
    :data:`EXPECTED`.
    """
    for row in FAULTS:
        if isinstance(error, row.exception) and (
            row.cause is None or _is_caused_by(error, row.cause)
        ):
            return Fault(
                kind=row.kind,
                message=row.words.format(at=address_of(url), why=_why(error)),
                maybe_executed=row.maybe_executed,
            )
    raise error


def address_of(url: str) -> str:
    """Return scheme, host and port of ``url``, for messages."""
    try:
        parsed = URL(url)
        return str(parsed.origin()) if parsed.host else url.partition("?")[0]
    except ValueError:
        return url.partition("?")[0]


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
        words = (inner.strerror or str(inner)) if inner.strerror else str(inner)
    elif isinstance(error, aiohttp.ClientResponseError):
        words = error.message if error.status == 400 else f"{error.status} {error.message}"
    elif isinstance(error, OSError):
        words = error.strerror or str(error)
    else:
        words = str(error)
    return " ".join(words.split())[:_WHY_BOUND] or type(error).__name__
