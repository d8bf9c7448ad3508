"""Bytes from the network before there is an answer: certificates, proxies, and what is no HTTP."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from batchrunner.core.certificates import distrust, read_certificate
from batchrunner.models import ErrorKind, Reply, Request
from batchrunner.transport import Transport
from batchrunner.transport.proxies import Proxy
from tests.fakes.network import Authority
from tests.fuzz.effort import fuzzed, within
from tests.fuzz.foreign import mutated

NOW: Final = datetime(2026, 8, 25, tzinfo=UTC)


@cache
def certificate() -> bytes:
    """Return a certificate with names and addresses, in DER."""
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(Path(folder))
        authority.context("DNS:localhost,DNS:*.example,IP:127.0.0.1,IP:0:0:0:0:0:0:0:1")
        return ssl.PEM_cert_to_DER_cert(Path(folder, "1.pem").read_text())


@fuzzed(200)
@given(st.one_of(st.deferred(lambda: mutated([certificate()])), st.binary(max_size=60)))
@example(b"")
@example(b"\x30\x84\xff\xff\xff\xff")
@example(b"\x30\x80" * 200)
def test_a_certificate_is_read_or_is_none(der: bytes) -> None:
    """Any bytes are a certificate in words or a ``ValueError``, and then there are words as well."""
    try:
        with within():
            found = read_certificate(der)
    except ValueError:
        found = None
    for code in (9, 10, 18, 20, 62, 64, 99):
        said = distrust(found, code, "reason", host="h", port=1, now=NOW)
        assert said.why
        assert said.fix


#: What a server or a proxy may say, each part more than once.
PARTS: Final = st.sampled_from(
    [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 407 Login\r\n", b"HTTP/9.9 000\r\n", b"HTTP/1.0 200 OK\r\n", b"Content-Length: 2\r\n",
     b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n",
     b"Content-Encoding: gzip\r\n", b"Content-Encoding: zstd\r\n", b"Content-Encoding: br, x\r\n", b"Location: //[\r\n",
     b"Connection: Upgrade\r\nUpgrade: x\r\n", b"Content-Type: a/\xff; charset=\x01\r\n", b"A: " + b"x" * 9_000 + b"\r\n",
     b"A" * 9_000, b"\r\n", b"{}", b"2\r\n{}\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n", b"-2\r\n", b"\x1f\x8b\x08", b"\x00",
     b"\xff", b"data: {}\n\n", b"\x15\x03\x01\x00\x02\x02\x28", b"Set-Cookie: a=b\r\n", b"X: \xff\x1b[2J\r\n",
     b"\x05\x00", b"\x05\x02", b"\x05\xff", b"\x01\x00", b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50", b"\x05\x01\x00\x09",
     b"\x05\x00\x00\x03\xff", b"\x00\x5a\x00\x00\x00\x00\x00\x00", b"\x00\x5b", b"\x04"]
)  # fmt: skip
SAID: Final = st.one_of(
    st.lists(PARTS, min_size=1, max_size=8).map(b"".join), st.binary(max_size=80), st.just(b"")
)


def asked(answers: list[bytes], scheme: str | None) -> Reply:
    """Return the reply of a server (or of a proxy of that scheme) that says these, then closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            for answer in answers:
                await reader.read(65_536)
                writer.write(answer)
                await writer.drain()
        writer.close()

    async def ask() -> Reply:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        proxy = None
        if scheme is not None:
            proxy = Proxy(
                url=URL.build(scheme=scheme, host="127.0.0.1", port=port),
                source="--proxy", user="u", password="p" * 8,
            )  # fmt: skip
        url = f"http://127.0.0.1:{port}/v1" if proxy is None else "https://api.example/v1"
        try:
            async with Transport(
                connect_timeout_s=0.15, total_timeout_s=0.15, pool_size=1, max_response=1_000_000,
                environ={}, proxy_before=lambda _url: proxy,
            ) as transport:  # fmt: skip
                return await transport.send(
                    Request(method="POST", url=url, headers={"a": "b"}, body=b"{}")
                )
        finally:
            server.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("scheme", [None, "http", "socks5h", "socks5", "socks4a"])
@fuzzed(10)
@given(st.lists(SAID, min_size=1, max_size=4))
@example([b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8b\x08"])
@example([b"\x05\x00", b"\x05\x00\x00\x03\x05\xff\xff\xff\xff\xff\x00\x50", b"\x15"])
@example([b"\x05\x02", b"\x01\x01"])
def test_what_is_no_http_is_a_fault(scheme: str | None, answers: list[bytes]) -> None:
    """Whatever a server or a proxy says, one reply comes of it: a status, or a fault in words."""
    reply = asked(answers, scheme)
    if reply.fault is None:
        assert reply.status is not None
        assert 100 <= reply.status < 1_000
        # What is stored of it fits into a database.
        "".join(reply.headers.values()).encode()
        return
    assert reply.fault.kind in ErrorKind
    assert reply.fault.message
    assert "pppppppp" not in f"{reply.fault.message} {reply.fault.fix}"
