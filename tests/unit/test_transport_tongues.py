"""Proxies that speak something else than was said of them, and TLS that is closed, over real sockets."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

from batchrunner.models import ErrorKind, Reply, Request
from batchrunner.transport import Transport, socks
from batchrunner.transport.proxies import read_proxies
from batchrunner.transport.trust import tls_context
from tests.fakes import ApiServer, running_server
from tests.fakes.network import (
    Authority,
    answering,
    closing,
    running_proxy,
    serving,
    silent,
    tls_front,
)

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs the openssl command to make certificates"
)
LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(lambda: import_module("uvloop").new_event_loop(), id="uvloop"),
]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that this machine does not know."""
    return Authority(tmp_path_factory.mktemp("authority"))


async def send(
    url: str, *proxies: str, ca_file: Path | None = None, timeout_s: float = 10.0
) -> list[Reply]:
    """Send one request by each proxy in turn, or directly, on one transport each."""
    replies = []
    for proxy in proxies or ("none",):
        (typed,) = read_proxies([proxy], {})
        async with Transport(
            connect_timeout_s=timeout_s, total_timeout_s=20.0, pool_size=2, max_response=1_000_000,
            environ={}, proxy_before=lambda _url, typed=typed: typed,
            tls=tls_context(str(ca_file) if ca_file else None, {}),
        ) as way:  # fmt: skip
            request = Request(method="POST", url=f"{url}/v1/messages", headers={}, body=b"{}")
            replies.append(await way.send(request))
    return replies


def run(loop: Callable[[], asyncio.AbstractEventLoop], *args: str, **how: object) -> list[Reply]:
    """Send on a loop of that kind."""
    try:
        with asyncio.Runner(loop_factory=loop) as runner:
            return runner.run(send(*args, **how))  # type: ignore[arg-type]
    except ModuleNotFoundError:
        pytest.skip("uvloop is not installed: pip install 'batchrunner[fast]'")


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """A provider that answers everything."""
    with running_server() as api:
        yield api


# --- each kind, on each loop


@needs_openssl
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("kind", ["https", "http", "socks5h"])
def test_each_kind_takes_both_schemes_on_both_loops(
    loop: Callable[[], asyncio.AbstractEventLoop],
    kind: str,
    server: ApiServer,
    authority: Authority,
) -> None:
    """TLS within a proxy's TLS works on uvloop as on asyncio, and a login goes along."""
    tls = authority.context() if kind == "https" else None
    with (
        running_proxy(kind, tls=tls, login=("joe", "pw")) as proxy,
        tls_front(server.port, authority.context()) as https,
    ):
        (reply,) = run(loop, https, proxy.url_of("joe", "pw"), ca_file=authority.file)
    assert reply.fault is None, reply.fault
    assert len(proxy.asked) == 1


# --- another tongue


@needs_openssl
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("is_kind", "said_kind", "says", "write"),
    [
        ("http", "socks5h", "speaks HTTP, not SOCKS", "http"),
        ("http", "socks5", "speaks HTTP, not SOCKS", "http"),
        ("http", "socks4a", "speaks HTTP, not SOCKS4", "http"),
        ("https", "socks5h", "speaks HTTP over TLS, not SOCKS", "https"),
        ("socks5", "http", "speaks SOCKS5, not plain HTTP", "socks5h"),
        ("https", "http", "speaks HTTP over TLS, not plain HTTP", "https"),
        ("http", "https", "speaks HTTP, not HTTP over TLS", "http"),
        ("socks5", "https", "speaks SOCKS5, not HTTP over TLS", "socks5h"),
    ],
)
async def test_a_proxy_of_another_kind_is_told_with_what_it_is(
    is_kind: str, said_kind: str, says: str, write: str, scheme: str, authority: Authority
) -> None:
    """It halts at once, long before the connect timeout; the fix is the same place with the right kind."""
    tls = authority.context() if is_kind == "https" else None
    with running_proxy(is_kind, tls=tls) as proxy:
        place = f"127.0.0.1:{proxy.port}"
        (reply,) = await send(
            f"{scheme}://127.0.0.1:9",
            f"{said_kind}://{place}",
            timeout_s=1.0,
            ca_file=authority.file,
        )
    fault = reply.fault
    assert fault is not None
    assert (fault.kind, fault.halts, fault.maybe_executed) == (ErrorKind.PROXY, True, False)
    assert f"The proxy {said_kind}://{place} (--proxy) {says}" in fault.message
    assert f"Write {write}:// for it: batchrunner resume --proxy {write}://{place}" in fault.fix
    assert proxy.asked == []


async def test_socks_first_word_has_a_short_time_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A port that says nothing does not take the whole connect timeout, and is tried again."""
    monkeypatch.setattr(socks, "_FIRST_ANSWER_S", 0.2)
    begun = asyncio.get_running_loop().time()
    with silent() as port:
        (reply,) = await send("https://api.example.invalid", f"socks5h://127.0.0.1:{port}")
    assert asyncio.get_running_loop().time() - begun < 8.0
    assert reply.fault is not None
    assert (reply.fault.kind, reply.fault.halts) == (ErrorKind.PROXY, False)
    assert "did not answer to SOCKS's first word" in reply.fault.message
    assert f"--proxy http://127.0.0.1:{port}" in reply.fault.fix


async def test_an_answer_that_is_not_socks_is_told_at_once() -> None:
    """What answers the first word in HTTP is recognised by it."""
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"

    async def scold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        await writer.drain()

    with serving(scold) as port:
        (reply,) = await send("https://api.example.invalid", f"socks5h://joe:pw@127.0.0.1:{port}")
    assert reply.fault is not None
    assert "speaks HTTP, not SOCKS" in reply.fault.message
    assert f"'http://USER:${{PROXY_PASSWORD}}@127.0.0.1:{port}'" in reply.fault.fix


async def test_a_way_that_socks_takes_long_to_find_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, server: ApiServer
) -> None:
    """Only the first word is short: the proxy may ask its own way for as long as the rest allows."""
    monkeypatch.setattr(socks, "_FIRST_ANSWER_S", 0.3)

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(3)
        writer.write(b"\x05\x00")
        await reader.read(300)
        await asyncio.sleep(0.8)
        writer.write(b"\x05\x05\x00\x01" + bytes(6))
        await reader.read()

    with serving(slow) as port:
        (reply,) = await send(server.url, f"socks5h://127.0.0.1:{port}")
    assert reply.fault is not None
    assert "was refused the connection" in reply.fault.message


async def test_tongues_are_asked_once_a_proxy() -> None:
    """Many requests at once that meet the same proxy make three more connections in all."""
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
    with answering(answer) as (port, heads):
        (typed,) = read_proxies([f"socks4a://127.0.0.1:{port}"], {})
        async with Transport(
            connect_timeout_s=0.5, total_timeout_s=5.0, pool_size=8, max_response=1000,
            environ={}, proxy_before=lambda _url: typed,
        ) as way:  # fmt: skip
            request = Request(method="POST", url="http://api.invalid/", headers={}, body=b"{}")
            replies = await asyncio.gather(*(way.send(request) for _ in range(6)))
            replies.append(await way.send(request))
    told = {reply.fault.message for reply in replies if reply.fault}
    (one,) = told
    assert f"socks4a://127.0.0.1:{port} (--proxy) speaks HTTP, not SOCKS4" in one
    assert len(heads) == 1


# --- TLS that is closed


@needs_openssl
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("how", ["end", "reset"])
def test_tls_that_is_closed_in_the_handshake_says_what_usually_does(
    loop: Callable[[], asyncio.AbstractEventLoop], how: str, authority: Authority
) -> None:
    """An end and a reset are told alike, directly and by proxies; it is tried again like the network."""
    with closing(1, how=how) as port:
        url = f"https://127.0.0.1:{port}"
        ways: list[str] = ["none"]
        with (
            running_proxy("http") as http,
            running_proxy("socks5h") as socks5,
            running_proxy("https", tls=authority.context()) as https,
        ):
            ways += [http.url, socks5.url, https.url]
            replies = run(loop, url, *ways, ca_file=authority.file)
    for way, reply in zip(ways, replies, strict=True):
        fault = reply.fault
        assert fault is not None
        assert (fault.kind, fault.halts, fault.maybe_executed) == (
            ErrorKind.CONNECTION, False, False,
        ), fault  # fmt: skip
        assert "it closed the connection when TLS was begun" in fault.message
        assert (f"through the proxy {way}" in fault.message) == (way != "none")
        assert f"openssl s_client -connect 127.0.0.1:{port} -servername 127.0.0.1" in fault.fix
        assert ("-proxy 127.0.0.1" in fault.fix) == way.startswith("http")
        assert "a program that inspects TLS" in fault.fix


async def test_the_connect_timeout_ends_tls_by_socks_too() -> None:
    """A server that says nothing to TLS behind a SOCKS proxy costs that time, not the whole request's."""
    begun = asyncio.get_running_loop().time()
    with silent() as port, running_proxy("socks5h") as proxy:
        (reply,) = await send(f"https://127.0.0.1:{port}", proxy.url, timeout_s=0.5)
    assert asyncio.get_running_loop().time() - begun < 5.0
    assert reply.fault is not None
    assert reply.fault.kind is ErrorKind.CONNECTION
    assert "the TLS handshake 0." in reply.fault.message


async def test_a_socks_proxys_connections_are_kept_alive_too(
    monkeypatch: pytest.MonkeyPatch, server: ApiServer
) -> None:
    """A firewall must not drop what waits for a long answer, whichever the proxy is."""
    seen: list[int] = []
    real = socks.keep_alive

    def noted(opened: socket.socket) -> None:
        real(opened)
        seen.append(opened.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))

    monkeypatch.setattr(socks, "keep_alive", noted)
    with running_proxy("socks5h") as proxy:
        (reply,) = await send(server.url, proxy.url)
    assert reply.fault is None
    assert seen
    assert all(seen)
