"""How far a connection gets, step by step: the name, the port, the handshake. Nothing is asked.

A request meets these steps all at once; taken singly they show which of them works and how long
each takes. What a failing step means is said by the transport, which meets it in a run.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

__all__ = ["Handshake", "Step", "Stopwatch", "connect", "day_of", "look_up", "shake_hands"]

#: Addresses of a host that are named; the rest is counted.
_NAMED: Final = 2
_EXPECTED: Final = (OSError, TimeoutError, UnicodeError)


class Stopwatch:
    """Takes the time of a block."""

    def __init__(self) -> None:
        """Begin."""
        self._began = time.perf_counter()

    @property
    def ms(self) -> float:
        """How long it has been, in milliseconds."""
        return (time.perf_counter() - self._began) * 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step that was tried."""

    works: bool
    #: What came of it, in a sentence without an end.
    detail: str
    took_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Handshake:
    """A TLS handshake that succeeded."""

    version: str
    issuer: str
    #: Epoch seconds; ``None`` where the certificate does not say.
    ends_at: float | None
    took_ms: float


async def look_up(host: str, port: int, timeout_s: float) -> Step:
    """Find the addresses of a host."""
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return Step(works=True, detail=f"{host} is an address, not a name", took_ms=None)
    watch = Stopwatch()
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except _EXPECTED as error:
        return Step(works=False, detail=_why(error, timeout_s), took_ms=watch.ms)
    addresses = list(dict.fromkeys(row[4][0] for row in found))
    named = ", ".join(map(str, addresses[:_NAMED]))
    more = f" and {len(addresses) - _NAMED} more" if len(addresses) > _NAMED else ""
    return Step(works=True, detail=f"{host} is {named}{more}", took_ms=watch.ms)


async def connect(host: str, port: int, timeout_s: float) -> Step:
    """Open a connection and close it."""
    watch = Stopwatch()
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port)
    except _EXPECTED as error:
        return Step(works=False, detail=_why(error, timeout_s), took_ms=watch.ms)
    took_ms = watch.ms
    await _close(writer)
    return Step(works=True, detail=f"{host} takes connections on port {port}", took_ms=took_ms)


async def shake_hands(
    host: str, port: int, context: ssl.SSLContext, timeout_s: float
) -> Handshake | None:
    """Open a TLS connection and close it; ``None`` where there is none to be had."""
    watch = Stopwatch()
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except _EXPECTED:
        return None
    took_ms = watch.ms
    certificate = writer.get_extra_info("peercert") or {}
    secured = writer.get_extra_info("ssl_object")
    await _close(writer)
    return Handshake(
        version=(secured.version() if secured else None) or "TLS",
        issuer=_issuer(certificate),
        ends_at=_ends_at(certificate),
        took_ms=took_ms,
    )


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(*_EXPECTED):
        async with asyncio.timeout(1.0):
            await writer.wait_closed()


def _issuer(certificate: dict[str, Any]) -> str:
    fields = {name: value for part in certificate.get("issuer", ()) for name, value in part}
    return str(fields.get("organizationName") or fields.get("commonName") or "an unnamed authority")


def _ends_at(certificate: dict[str, Any]) -> float | None:
    text = certificate.get("notAfter")
    return ssl.cert_time_to_seconds(text) if text else None


def day_of(seconds: float) -> str:
    """Return the UTC day of an instant."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _why(error: BaseException, timeout_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came within {timeout_s:g} s"
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
