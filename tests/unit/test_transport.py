"""The transport over real sockets: what comes back for answers, and for every way to fail."""

from __future__ import annotations

import asyncio
import gzip
import shutil
import socket
import ssl
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from batchrunner.models import ErrorKind, Reply, Request
from batchrunner.transport import Aborted, Transport
from batchrunner.transport.faults import EXPECTED, FAULTS, fault_of
from batchrunner.transport.proxies import UnusableProxyError, environment_proxy

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

#: Those of every request, by which the short way is taken.
COMMON: dict[str, str] = {}


@pytest.fixture(autouse=True, params=["express", "session"])
def way_taken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hold everything of this module by both ways to send."""
    if request.param == "session":
        monkeypatch.setattr("batchrunner.transport.session.is_tried", lambda: False)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Thing: a\r\nX-Thing: b\r\n\r\n{}"


@asynccontextmanager
async def serving(handler: Handler, **options: object) -> AsyncIterator[str]:
    """Serve ``handler`` on loopback; yields the base URL."""
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            await handler(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0, **options)  # type: ignore[arg-type]
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


async def read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return (head, body) of one request with a Content-Length."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return head, await reader.readexactly(length)


def answering(
    answer: bytes, *, then: Callable[[asyncio.StreamWriter], None] | None = None
) -> Handler:
    """Answer each request on a connection with ``answer``; then do ``then``."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(answer)
            await writer.drain()
            if then is not None:
                then(writer)
                return

    return handle


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def close(writer: asyncio.StreamWriter) -> None:
    """Close in an orderly way."""
    writer.close()


def wait_for_ever(_writer: asyncio.StreamWriter) -> None:
    """Leave the connection open without a word."""


def transport(**changes: object) -> Transport:
    """A transport with short timeouts and no proxies."""
    options = {
        "connect_timeout_s": 5.0,
        "total_timeout_s": 5.0,
        "pool_size": 10,
        "max_response": 1_000_000,
        "environ": {},
        "headers": COMMON,
        **changes,
    }
    return Transport(**options)  # type: ignore[arg-type]


def post(url: str, body: bytes = b"{}", **headers: str) -> Request:
    """A POST."""
    return Request(method="POST", url=url, headers=headers or COMMON, body=body)


async def send(url: str, **changes: object) -> Reply:
    """Send one POST with a new transport."""
    async with transport(**changes) as way:
        return await way.send(post(url))


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


async def test_an_answer_comes_back_whole() -> None:
    """Status, headers found in any case with the first of a repeated one, and body arrive."""
    async with serving(answering(OK)) as url:
        reply = await send(url)
    assert (reply.status, reply.body, reply.fault) == (200, b"{}", None)
    assert reply.headers["x-thing"] == reply.headers["X-Thing"] == "a"


async def test_the_request_arrives_as_given() -> None:
    """Method, path, headers and the exact bytes of the body go out; a GET has no body."""
    seen: list[tuple[bytes, bytes]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await read_request(reader))
            writer.write(OK)

    body = '{"a": "é"}'.encode()
    async with serving(handle) as url, transport() as way:
        await way.send(post(f"{url}/v1/x?y=1", body, **{"x-api-key": "k"}))
        await way.send(Request(method="GET", url=url, headers={}, body=b""))
    assert seen[0][0].startswith(b"POST /v1/x?y=1 HTTP/1.1\r\n")
    assert b"x-api-key: k\r\n" in seen[0][0]
    assert seen[0][1] == body
    assert seen[1][0].startswith(b"GET / HTTP/1.1\r\n")
    assert b"content-length" not in seen[1][0].lower()


async def test_both_ways_send_the_same() -> None:
    """The short way sends the headers that aiohttp's session sends, whatever is on them, and the same body."""
    seen: list[tuple[bytes, bytes]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await read_request(reader))
            writer.write(OK)

    common = {"x-api-key": "kéy", "Content-Type": "application/json", "user-agent": "mine"}
    body = b"{}" * 100_000
    async with serving(handle) as url, transport(headers=common) as way:
        target = f"{url}/v1/é?y=a b"
        await way.send(Request(method="POST", url=target, headers=common, body=body))
        await way.send(Request(method="POST", url=target, headers=dict(common), body=body))
    (one, sent), (other, sent_too) = seen
    assert sent == sent_too == body
    assert one.split(b"\r\n")[0] == other.split(b"\r\n")[0]
    assert sorted(one.split(b"\r\n")) == sorted(other.split(b"\r\n"))


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
async def test_an_early_answer_is_taken_and_its_connection_given_up() -> None:
    """An answer that comes before a large request was read is heard; what is next has another connection."""
    n_connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n_connections
        n_connections += 1
        head = await reader.readuntil(b"\r\n\r\n")
        if b"Content-Length: 2\r\n" not in head:
            writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await asyncio.Event().wait()
        await reader.readexactly(2)
        writer.write(OK)

    async with serving(handle) as url, transport(pool_size=1) as way:
        reply = await way.send(post(url, b"x" * 30_000_000))
        assert (reply.status, reply.fault) == (413, None)
        assert (await way.send(post(url))).status == 200
    assert n_connections == 2


async def test_a_step_on_the_way_is_no_answer() -> None:
    """Statuses of 1xx are passed over; the answer is what comes after."""
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK
    async with serving(answering(answer)) as url:
        reply = await send(url)
    assert (reply.status, reply.body) == (200, b"{}")


async def test_a_redirect_is_brought_back_not_followed() -> None:
    """A 307 to another place is one request and a reply with status 307."""
    answer = b"HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(answer)) as url:
        reply = await send(url)
    assert reply.status == 307
    assert reply.headers["location"] == "http://127.0.0.1:1/"


async def test_no_cookie_is_kept() -> None:
    """A cookie that one answer sets does not go out with the next request."""
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append((await read_request(reader))[0])
            writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")

    async with serving(handle) as url, transport() as way:
        await way.send(post(url))
        await way.send(post(url))
    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()


async def test_a_gzipped_answer_is_unpacked() -> None:
    """Content-Encoding gzip comes back as the plain body."""
    packed = gzip.compress(b'{"a":1}')
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(
        packed
    )
    async with serving(answering(answer + packed)) as url:
        assert (await send(url)).body == b'{"a":1}'


LONG = b"x" * 5000
PACKED = gzip.compress(b"x" * 3_000_000)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + LONG,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n" + LONG + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PACKED)
        + PACKED,
    ],
    ids=["length", "chunked", "gzip-bomb"],
)
async def test_an_answer_beyond_the_bound_is_a_fault(answer: bytes) -> None:
    """However it says its length, an answer over ``max_response`` is given up and told."""
    async with serving(answering(answer)) as url:
        reply = await send(url, max_response=4999)
    assert reply.status == 200
    assert reply.body == b""
    assert reply.fault is not None
    assert reply.fault.kind is ErrorKind.BAD_RESPONSE
    assert reply.fault.message.startswith("answer longer than 4999 bytes")


async def test_an_answer_at_the_bound_is_taken() -> None:
    """The bound itself is allowed."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + LONG
    async with serving(answering(answer)) as url:
        assert (await send(url, max_response=5000)).body == LONG


CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"
CUT_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"
BAD_GZIP = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"
BIG_HEADER = b"HTTP/1.1 200 OK\r\nX-Big: " + b"a" * 20_000 + b"\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        (answering(b"", then=close), ErrorKind.CONNECTION_RESET),
        (answering(b"", then=reset), ErrorKind.CONNECTION_RESET),
        (answering(CUT, then=close), ErrorKind.CONNECTION_RESET),
        (answering(CUT, then=reset), ErrorKind.CONNECTION_RESET),
        (answering(CUT_CHUNK, then=close), ErrorKind.CONNECTION_RESET),
        (answering(BAD_GZIP), ErrorKind.BAD_RESPONSE),
        (answering(b"hello, I speak no HTTP\r\n\r\n", then=close), ErrorKind.BAD_RESPONSE),
        (answering(BIG_HEADER, then=wait_for_ever), ErrorKind.BAD_RESPONSE),
        (answering(CUT, then=wait_for_ever), ErrorKind.TIMEOUT),
        (answering(b"", then=wait_for_ever), ErrorKind.TIMEOUT),
    ],
    ids=[
        "close-before-answer",
        "rst-before-answer",
        "cut-body",
        "rst-in-body",
        "cut-chunk",
        "bad-gzip",
        "not-http",
        "huge-header",
        "slow-body",
        "no-answer",
    ],
)
async def test_a_break_after_sending_may_have_been_executed(
    handler: Handler, kind: ErrorKind
) -> None:
    """Whatever breaks after the request went out is told by kind and marked as ambiguous."""
    async with serving(handler) as url:
        reply = await send(url, total_timeout_s=0.2 if kind is ErrorKind.TIMEOUT else 5.0)
        assert reply.fault is not None
        assert reply.fault.kind is kind, reply.fault
        assert reply.fault.maybe_executed
        assert reply.status is None
        assert url in reply.fault.message


async def test_connection_refused_was_not_executed() -> None:
    """A port that nobody listens on is ``connection``, certainly not executed."""
    reply = await send(f"http://127.0.0.1:{free_port()}/secret/path?key=abc")
    assert reply.fault is not None
    assert (reply.fault.kind, reply.fault.maybe_executed) == (ErrorKind.CONNECTION, False)
    assert "secret" not in reply.fault.message
    assert "abc" not in reply.fault.message


async def test_an_unknown_name_is_dns() -> None:
    """A name that can't exist is ``dns``, certainly not executed."""
    reply = await send("http://no-such-host.invalid/")
    assert reply.fault is not None
    assert (reply.fault.kind, reply.fault.maybe_executed) == (ErrorKind.DNS, False)
    assert "no-such-host.invalid" in reply.fault.message


async def test_a_full_backlog_is_a_connection_fault() -> None:
    """A host that does not take the connection within the connect timeout is ``connection``."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = []
        try:
            for _ in range(4):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(address)
                fillers.append(filler)
            started = time.monotonic()
            reply = await send(f"http://127.0.0.1:{address[1]}", connect_timeout_s=0.3)
            took = time.monotonic() - started
        finally:
            for filler in fillers:
                filler.close()
    if reply.fault is not None and reply.fault.kind is ErrorKind.TIMEOUT:
        pytest.skip("this kernel queues connections beyond the backlog")
    assert reply.fault is not None
    assert (reply.fault.kind, reply.fault.maybe_executed) == (ErrorKind.CONNECTION, False)
    assert took < 3


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A server's TLS context with a certificate that nobody has signed."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder: Path = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            openssl,
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-keyout",
            str(key),
            "-out",
            str(cert),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


async def test_an_untrusted_certificate_is_tls(certificate: ssl.SSLContext) -> None:
    """A self-signed certificate is ``tls``, with the reason in words, certainly not executed."""
    async with serving(answering(OK), ssl=certificate) as url:
        reply = await send(url.replace("http:", "https:"))
    assert reply.fault is not None
    assert (reply.fault.kind, reply.fault.maybe_executed) == (ErrorKind.TLS, False)
    assert "certificate" in reply.fault.message


async def test_tls_to_a_plain_port_is_tls() -> None:
    """https spoken to an http port is ``tls``, certainly not executed."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with serving(handle) as url:
        reply = await send(url.replace("http:", "https:"))
    assert reply.fault is not None
    assert (reply.fault.kind, reply.fault.maybe_executed) == (ErrorKind.TLS, False)


async def test_a_close_in_the_handshake_is_a_connection_fault() -> None:
    """A peer that closes during the TLS handshake was not asked anything yet."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        reset(writer)

    async with serving(handle) as url:
        reply = await send(url.replace("http:", "https:"))
    assert reply.fault is not None
    assert (reply.fault.kind, reply.fault.maybe_executed) == (ErrorKind.CONNECTION, False)


async def test_an_end_of_file_in_the_handshake_is_told_as_such() -> None:
    """A peer that ends the connection instead of a handshake is no riddle: the message says it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # All of it: what is left unread would make a reset of the end.
        await reader.read(65536)
        writer.close()

    async with serving(handle) as url:
        reply = await send(url.replace("http:", "https:"))
    assert reply.fault is not None
    assert reply.fault.kind is ErrorKind.CONNECTION
    assert "closed the connection when TLS was begun" in reply.fault.message


@pytest.mark.parametrize(
    "url", ["ftp://host/", "http://", "nonsense", "http://[::1/", "http://host:99999/"]
)
async def test_an_impossible_address_fails_without_sending(url: str) -> None:
    """An address that can't be asked is the job's own fault, certainly not executed."""
    reply = await send(url)
    assert reply.fault is not None
    assert (reply.fault.kind, reply.fault.maybe_executed) == (ErrorKind.INVALID_REQUEST, False)


async def test_a_header_that_cannot_be_written_fails_without_sending() -> None:
    """A line break in a header is refused here, not sent."""
    async with serving(answering(OK)) as url, transport() as way:
        reply = await way.send(post(url, b"{}", **{"x-api-key": "secret-value\r\nx: y"}))
    assert reply.fault is not None
    assert (reply.fault.kind, reply.fault.maybe_executed) == (ErrorKind.INVALID_REQUEST, False)
    assert "secret-value" not in reply.fault.message
    common = {"x-api-key": "secret-value\r\nx: y"}
    async with serving(answering(OK)) as url, transport(headers=common) as way:
        reply = await way.send(Request(method="POST", url=url, headers=common, body=b"{}"))
    assert reply.fault is not None
    assert (reply.fault.kind, reply.fault.maybe_executed) == (ErrorKind.INVALID_REQUEST, False)
    assert "secret-value" not in reply.fault.message


async def test_permission_is_asked_before_the_first_byte() -> None:
    """``on_headers`` sees its ticket while the server has a connection but no byte of a request."""
    got = bytearray()
    order: list[object] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            got.extend(data)
            if got.endswith(b"}"):
                order.append("request")
                writer.write(OK)

    async def on_headers(ticket: object) -> None:
        await asyncio.sleep(0.02)
        assert not got
        order.append(ticket)

    async with serving(handle) as url, transport(on_headers=on_headers) as way:
        reply = await way.send(post(url), ticket="t1")
    assert reply.status == 200
    assert order == ["t1", "request"]


async def test_an_aborted_send_never_goes_out() -> None:
    """``Aborted`` from ``on_headers`` comes out of ``send``, and the server sees no request."""
    got = bytearray()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            got.extend(data)
            writer.write(OK)

    async def on_headers(ticket: object) -> None:
        if ticket == "no":
            raise Aborted

    async with serving(handle) as url, transport(on_headers=on_headers, pool_size=1) as way:
        with pytest.raises(Aborted):
            await way.send(post(url, b"first"), ticket="no")
        reply = await way.send(post(url, b"second"), ticket="yes")
    assert reply.status == 200
    assert b"first" not in got
    assert b"second" in got


async def test_a_timeout_before_permission_was_not_executed() -> None:
    """A send whose total timeout ends while it waits for permission certainly did not go out."""

    async def on_headers(ticket: object) -> None:
        await asyncio.Event().wait()

    way = transport(on_headers=on_headers, total_timeout_s=0.2)
    async with serving(answering(OK)) as url, way:
        reply = await way.send(post(url), ticket=1)
    assert reply.fault is not None
    assert (reply.fault.kind, reply.fault.maybe_executed) == (ErrorKind.TIMEOUT, False)


async def test_cancellation_passes_through() -> None:
    """A cancelled send raises ``CancelledError`` and leaves the transport usable."""
    arrived = asyncio.Event()
    answers = iter([b"", OK])

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            arrived.set()
            writer.write(next(answers))

    async with serving(handle) as url, transport(pool_size=1) as way:
        task = asyncio.create_task(way.send(post(url)))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await way.send(post(url))).status == 200


async def test_nothing_is_sent_twice_by_itself() -> None:
    """A GET on a kept connection that the server closes is sent once, and the fault is told."""
    n_requests = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n_requests
        while True:
            await read_request(reader)
            n_requests += 1
            if n_requests == 2:
                writer.close()
                return
            writer.write(OK)

    async with serving(handle) as url, transport() as way:
        get = Request(method="GET", url=url, headers={}, body=b"")
        assert (await way.send(get)).status == 200
        reply = await way.send(get)
    assert reply.fault is not None
    assert reply.fault.kind is ErrorKind.CONNECTION_RESET
    assert n_requests == 2


async def test_connections_are_kept_and_kept_alive() -> None:
    """Ten sends one after the other use one connection, with TCP keep-alive on it."""
    n_connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n_connections
        n_connections += 1
        await answering(OK)(reader, writer)

    async with serving(handle) as url, transport() as way:
        for _ in range(10):
            await way.send(post(url))
        (kept,) = next(iter(way._direct.connector._conns.values()))
        assert kept[0].transport is not None
        raw = kept[0].transport.get_extra_info("socket")
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert n_connections == 1


async def test_a_refused_proxy_is_a_proxy_fault() -> None:
    """Nobody at the proxy's address: ``proxy``, not executed, no password in the message."""
    environ = {"HTTPS_PROXY": f"http://user:hunter22@127.0.0.1:{free_port()}"}
    reply = await send("https://api.example.invalid/", environ=environ)
    assert reply.fault is not None
    assert (reply.fault.kind, reply.fault.maybe_executed) == (ErrorKind.PROXY, False)
    assert "hunter22" not in reply.fault.message


@pytest.mark.parametrize(("status", "phrase"), [(407, b"Auth"), (403, b"No"), (502, b"Bad")])
async def test_a_proxy_that_refuses_the_tunnel_is_told(status: int, phrase: bytes) -> None:
    """A CONNECT answered with an error is ``proxy`` and names the status."""
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 %d %s\r\nContent-Length: 0\r\n\r\n" % (status, phrase))

    async with serving(handle) as url:
        proxy = url.replace("http://", "http://us%40er:p%3Aw@")
        reply = await send("https://api.example.invalid/", environ={"https_proxy": proxy})
    assert reply.fault is not None
    assert (reply.fault.kind, reply.fault.maybe_executed) == (ErrorKind.PROXY, False)
    assert str(status) in reply.fault.message
    assert heads[0].startswith(b"CONNECT api.example.invalid:443 ")
    assert b"Proxy-Authorization: Basic dXNAZXI6cDp3" in heads[0]


async def test_plain_http_goes_through_the_proxy() -> None:
    """An http address is asked of the proxy in absolute form, with the proxy's password."""
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await read_request(reader))[0])
        writer.write(OK)

    async with serving(handle) as url:
        environ = {"ALL_PROXY": url.replace("http://", "u:p@")}
        reply = await send("http://api.example.invalid/x", environ=environ)
    assert reply.status == 200
    assert heads[0].startswith(b"POST http://api.example.invalid/x HTTP/1.1")
    assert b"Proxy-Authorization: Basic dTpw\r\n" in heads[0]


@pytest.mark.parametrize("scheme", ["socks6", "ftp", "quic"])
async def test_an_unknown_kind_of_proxy_never_goes_direct(scheme: str) -> None:
    """A proxy of a kind we don't speak is a fault that says so; nothing is sent around it."""
    environ = {"HTTP_PROXY": f"{scheme}://user:hunter22@127.0.0.1:1080"}
    reply = await send("http://api.example.invalid/", environ=environ)
    assert reply.fault is not None
    assert (reply.fault.kind, reply.fault.maybe_executed) == (ErrorKind.PROXY, False)
    assert "of a kind that is not known" in reply.fault.message
    assert "socks5h" in reply.fault.fix
    assert "hunter22" not in reply.fault.message


@pytest.mark.parametrize(
    ("url", "environ", "expected"),
    [
        ("https://a.com", {}, None),
        ("https://a.com", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.com", {"HTTP_PROXY": "http://p:1"}, None),
        ("https://a.com", {"HTTPS_PROXY": "http://p:1", "https_proxy": "http://q:2"}, "http://q:2"),
        ("https://a.com", {"ALL_PROXY": "p:1"}, "http://p:1"),
        ("https://a.com", {"all_proxy": "http://p:1", "NO_PROXY": "b.com,a.com"}, None),
        ("https://x.a.com", {"all_proxy": "http://p:1", "NO_PROXY": ".a.com"}, None),
        ("https://x.a.com", {"all_proxy": "http://p:1", "NO_PROXY": "*.a.com"}, None),
        ("https://xa.com", {"all_proxy": "http://p:1", "NO_PROXY": "a.com"}, "http://p:1"),
        ("https://a.com", {"all_proxy": "http://p:1", "no_proxy": "*"}, None),
        ("https://a.com", {"all_proxy": "http://p:1", "no_proxy": "a.com:8443"}, "http://p:1"),
        ("https://a.com:8443", {"all_proxy": "http://p:1", "no_proxy": "a.com:8443"}, None),
        ("https://10.1.2.3", {"all_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, None),
        ("https://11.1.2.3", {"all_proxy": "http://p:1", "no_proxy": "10.0.0.0/8"}, "http://p:1"),
        ("http://localhost:1", {"all_proxy": "http://p:1"}, None),
        ("http://127.0.0.2:1", {"all_proxy": "http://p:1"}, None),
        ("http://[::1]:1", {"all_proxy": "http://p:1"}, None),
    ],
)
def test_the_proxy_is_told_from_the_environment(
    url: str, environ: dict[str, str], expected: str | None
) -> None:
    """Scheme, then ALL_PROXY, in either case; NO_PROXY and loopback go direct."""
    found = environment_proxy(URL(url), environ)
    assert (None if found is None else str(found.url).rstrip("/")) == expected


def test_a_proxy_that_is_no_address_is_refused() -> None:
    """Nonsense in a proxy variable is refused by the variable's name."""
    with pytest.raises(UnusableProxyError, match="HTTPS_PROXY"):
        environment_proxy(URL("https://a.com"), {"HTTPS_PROXY": "http://p:port"})


def test_every_client_error_has_a_row() -> None:
    """Each public exception of aiohttp's client is an expected one and gets a fault."""
    for name in aiohttp.client_exceptions.__all__:
        exception = getattr(aiohttp, name)
        if name == "WSMessageTypeError":
            continue  # of web sockets, which are never opened
        assert issubclass(exception, EXPECTED), name
        assert any(issubclass(exception, row.exception) for row in FAULTS), name


def test_no_row_hides_a_more_specific_one() -> None:
    """Rows are ordered: none comes after a row of a base class that would catch it first."""
    for index, row in enumerate(FAULTS):
        for earlier in FAULTS[:index]:
            if earlier.cause is None and earlier.exception is not row.exception:
                assert not issubclass(row.exception, earlier.exception), (row, earlier)


def test_a_defect_is_not_called_a_fault() -> None:
    """An exception that no send raises is passed on as it is."""
    with pytest.raises(ZeroDivisionError):
        fault_of(ZeroDivisionError(), "http://x")
