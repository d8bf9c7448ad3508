"""Proxies and TLS over real sockets: what goes through, and what each refusal is called."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from yarl import URL

from batchrunner.models import ErrorKind, Fault, Reply, Request
from batchrunner.transport import Transport
from batchrunner.transport.proxies import (
    UnusableProxyError,
    environment_proxy,
    read_proxies,
    without_password,
)
from batchrunner.transport.trust import UnusableTrustError, tls_context
from tests.fakes import ApiServer, running_server
from tests.fakes.network import Authority, answering, running_proxy, tls_front

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs the openssl command to make certificates"
)
LOGIN = ("j@e", "p:ss/w%rd")
QUOTED = ("j%40e", "p%3Ass%2Fw%25rd")


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    """A provider that answers everything."""
    with running_server() as api:
        yield api


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that this machine does not know."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def https(server: ApiServer, authority: Authority) -> Iterator[str]:
    """The provider behind TLS."""
    with tls_front(server.port, authority.context()) as url:
        yield url


async def send(
    url: str,
    *,
    proxy: str | None = None,
    environ: Mapping[str, str] | None = None,
    ca_file: Path | None = None,
    connect_timeout_s: float = 5.0,
) -> Reply:
    """Send one request by way of a proxy that was typed, or of the environment's."""
    environ = environ or {}
    typed = read_proxies([proxy], environ) if proxy else None
    way = Transport(
        connect_timeout_s=connect_timeout_s,
        total_timeout_s=10.0,
        pool_size=2,
        max_response=1_000_000,
        environ=environ,
        proxy_before=(lambda _url: typed[0]) if typed else None,
        tls=tls_context(str(ca_file) if ca_file else None, environ),
    )
    body = b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"hi"}]}'
    async with way:
        return await way.send(
            Request(method="POST", url=f"{url}/v1/messages", headers={}, body=body)
        )


def fault_in(reply: Reply, kind: ErrorKind, *, halts: bool) -> Fault:
    """The fault of a reply, which was certainly not executed and shows no password."""
    assert reply.fault is not None, reply
    fault = reply.fault
    assert (fault.kind, fault.halts, fault.maybe_executed) == (kind, halts, False), fault
    assert fault.fix
    for part in (*LOGIN, *QUOTED[1:]):
        assert part not in fault.message + fault.fix
    return fault


# --- proxies that work


@needs_openssl
@pytest.mark.parametrize("login", [None, LOGIN], ids=["open", "login"])
@pytest.mark.parametrize("kind", ["http", "https", "socks5", "socks5h"])
async def test_every_kind_of_proxy_takes_https(
    kind: str, login: tuple[str, str] | None, https: str, authority: Authority
) -> None:
    """A request goes through, the proxy was asked for the server, and TLS is the server's own."""
    tls = authority.context() if kind == "https" else None
    with running_proxy(kind, login=login, tls=tls) as proxy:
        url = proxy.url_of(*QUOTED) if login else proxy.url
        reply = await send(https, proxy=url, ca_file=authority.file)
    assert reply.status == 200, reply
    (asked,) = proxy.asked
    host = URL(https)
    # socks5 looks the name up here, the others leave that to the proxy.
    names = ("127.0.0.1", "::1") if kind == "socks5" else ("localhost",)
    assert asked in {f"{name}:{host.port}" for name in names}


@pytest.mark.parametrize("kind", ["socks5", "socks5h"])
async def test_socks_takes_plain_http(kind: str, server: ApiServer) -> None:
    """Plain http by SOCKS is the same request that the server would get directly."""
    with running_proxy(kind) as proxy:
        reply = await send(server.url, proxy=proxy.url)
    assert reply.status == 200
    assert proxy.asked == [f"127.0.0.1:{server.port}"]


async def test_socks5h_leaves_the_name_to_the_proxy(server: ApiServer) -> None:
    """A name that only the proxy knows is reached by socks5h, and is a DNS fault by socks5."""
    url = f"http://inside.invalid:{server.port}"
    with running_proxy("socks5h") as proxy:
        proxy.hosts["inside.invalid"] = "127.0.0.1"
        assert (await send(url, proxy=proxy.url)).status == 200
        reply = await send(url, proxy=proxy.url.replace("socks5h", "socks5"))
    assert reply.fault is not None
    assert (reply.fault.kind, reply.fault.maybe_executed) == (ErrorKind.DNS, False)
    assert proxy.asked == [f"inside.invalid:{server.port}"]


@pytest.mark.parametrize("variable", ["ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy"])
async def test_the_environments_proxy_is_used(variable: str, server: ApiServer) -> None:
    """Each variable is honoured in both cases, for SOCKS too."""
    with running_proxy("socks5h") as proxy:
        proxy.hosts["api.invalid"] = "127.0.0.1"
        environ = {variable: proxy.url}
        reply = await send(f"http://api.invalid:{server.port}", environ=environ)
    assert reply.status == 200
    assert proxy.asked == [f"api.invalid:{server.port}"]


# --- proxies that do not


@pytest.mark.parametrize("kind", ["http", "socks5h"])
@pytest.mark.parametrize(
    ("user", "password", "says"),
    [
        ("", "", "wants a user name and password"),
        ("j%40e", "wrong-password", "does not accept the user name and password"),
    ],
    ids=["none", "wrong"],
)
async def test_a_login_that_is_not_accepted_halts(
    kind: str, user: str, password: str, says: str
) -> None:
    """407, 401 to CONNECT and both refusals of SOCKS say which it was, and how to give a login."""
    with running_proxy(kind, login=LOGIN) as proxy:
        url = proxy.url_of(user, password) if user else proxy.url
        reply = await send("https://api.example.invalid", proxy=url)
        fault = fault_in(reply, ErrorKind.PROXY, halts=True)
    assert says in fault.message
    assert f"127.0.0.1:{proxy.port} (--proxy)" in fault.message
    assert f"--proxy '{kind}://USER:${{PROXY_PASSWORD}}@127.0.0.1:{proxy.port}'" in fault.fix
    assert "wrong-password" not in fault.message + fault.fix
    assert proxy.asked == []


@pytest.mark.parametrize("status", [400, 404, 405, 501])
async def test_a_web_server_is_no_proxy_of_another_kind(status: int) -> None:
    """It speaks HTTP: another scheme, which leads back to this one, is not proposed."""
    with answering(f"HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n".encode()) as (port, heads):
        reply = await send("https://api.example.invalid", proxy=f"http://127.0.0.1:{port}")
    fault = fault_in(reply, ErrorKind.PROXY, halts=True)
    assert f"does not know CONNECT ({status})" in fault.message
    assert "batchrunner resume --proxy http://HOST:PORT" in fault.fix
    assert "socks" not in fault.fix
    assert [head.split()[0] for head in heads] == [b"CONNECT"]


@pytest.mark.parametrize("kind", ["http", "https", "socks5", "socks5h"])
async def test_nobody_at_the_proxys_address_is_told(kind: str) -> None:
    """A refused proxy is named, with its address and where it was said; it may come back."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    environ = {"HTTPS_PROXY": f"{kind}://{':'.join(QUOTED)}@127.0.0.1:{port}"}
    reply = await send("https://api.example.invalid", environ=environ)
    if kind == "socks5" and reply.fault is not None and reply.fault.kind is ErrorKind.DNS:
        pytest.fail("the proxy comes before the name")
    fault = fault_in(reply, ErrorKind.PROXY, halts=False)
    assert f"{kind}://127.0.0.1:{port} (HTTPS_PROXY)" in fault.message
    assert "Connection refused" in fault.message


async def test_a_proxys_unknown_name_is_the_proxys_fault() -> None:
    """A proxy whose own name has no address is ``proxy``, not ``dns``."""
    reply = await send("https://api.example.invalid", proxy="http://no-such-proxy.invalid:3128")
    fault = fault_in(reply, ErrorKind.PROXY, halts=False)
    assert "no-such-proxy.invalid:3128" in fault.message


async def test_a_proxy_that_says_nothing_is_told_after_the_connect_timeout() -> None:
    """A dead proxy costs the connect timeout, and the message says that it was the proxy's."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        reply = await send("https://api.example.invalid", proxy=url, connect_timeout_s=0.5)
    fault = fault_in(reply, ErrorKind.PROXY, halts=False)
    assert "within 0.5 s" in fault.message
    assert "the proxy's way to it 0." in fault.message


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["ftp://p:1"], "of a kind that is not known: ftp://"),
        (["http://p:port"], "is no address"),
        (["http://"], "is no address"),
        (["http://u:hunter22@p:1/path"], "is no address"),
        (["http://u:hunter22@p:1?x"], "is no address"),
        (["http://hunter22 @ p:1"], "is no address"),
        (["none", "http://p:1"], "exclude one another"),
        (["http://u:${HUNTER}@p:1"], "HUNTER is not set"),
        (["http://u:***@p:1"], "is not stored with the run"),
        (["http://***@p:1"], "is not stored with the run"),
    ],
)
def test_a_proxy_that_cannot_be_right_is_refused(texts: list[str], says: str) -> None:
    """Bad schemes, addresses and passwords are refused with a fix; no password is shown."""
    with pytest.raises(UnusableProxyError) as refused:
        read_proxies(texts, {})
    assert says in str(refused.value)
    assert refused.value.fix
    assert "hunter22" not in str(refused.value) + refused.value.fix


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("http://p:1", "http://p:1"),
        ("http://me:pw@p:1", "http://me:***@p:1"),
        ("me:pw@p:1", "http://me:***@p:1"),
        ("socks5h://token@p:1", "socks5h://***@p:1"),
        ("http://me:${PW}@p:1", "http://me:${PW}@p:1"),
        ("http://me:a@b@p:1", "http://me:***@p:1"),
        ("none", "none"),
    ],
)
def test_no_password_is_stored(text: str, stored: str) -> None:
    """What is stored and shown has no password; a variable's name is none."""
    assert without_password(text) == stored


@pytest.mark.parametrize(
    ("typed", "environ", "password"),
    [
        (["http://me:pw@p:1"], {}, "pw"),
        ([], {"HTTPS_PROXY": "http://me:pw2@p:1"}, "pw2"),
        ([], {"all_proxy": "http://me:pw3@p:1/"}, "pw3"),
        ([], {"HTTPS_PROXY": "http://me:pw@other:1"}, None),
        ([], {"HTTPS_PROXY": "http://you:pw@p:1"}, None),
        ([], {"HTTPS_PROXY": "http://p:1"}, None),
    ],
)
def test_a_password_is_found_again_only_for_the_same_proxy(
    typed: list[str], environ: dict[str, str], password: str | None
) -> None:
    """A stored proxy takes its password from this call or the environment's same proxy, else is refused."""
    if password is None:
        with pytest.raises(UnusableProxyError, match="does not go around a proxy"):
            read_proxies(["http://me:***@p:1"], environ, typed=typed)
        return
    (proxy,) = read_proxies(["http://me:***@p:1"], environ, typed=typed)
    assert proxy is not None
    assert (proxy.user, proxy.password) == ("me", password)
    assert password not in f"{proxy} {proxy!r}"


@pytest.mark.parametrize("password", ["a#b", "a/b", "a:b", "a@b", "a?b", "a%40b"])
def test_a_password_need_not_be_escaped(password: str) -> None:
    """What stands before the last @ is the login, whatever is in it."""
    (proxy,) = read_proxies([f"http://me:{password}@p:1"], {})
    assert proxy is not None
    assert proxy.password == password.replace("%40", "@")
    assert proxy.url.host == "p"


def test_a_variable_is_filled_in() -> None:
    """``${VAR}`` in a password is the environment's value, whatever characters it has."""
    (proxy,) = read_proxies(["http://me:${PW}@p:1"], {"PW": "a@b:c/d%"})
    assert proxy is not None
    assert proxy.password == "a@b:c/d%"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("http://p", "http://p:80"),
        ("https://p", "https://p:443"),
        ("socks5://p", "socks5://p:1080"),
        ("socks://p", "socks5h://p:1080"),
        ("socks5h://[::1]:9", "socks5h://[::1]:9"),
        ("SOCKS5://P:1", "socks5://p:1"),
    ],
)
def test_each_kind_has_its_port(text: str, place: str) -> None:
    """A port that was left out is the kind's usual one."""
    proxy = environment_proxy(URL("https://a.com"), {"ALL_PROXY": text})
    assert proxy is not None
    assert f"{proxy.url.scheme}://{proxy.url.host_subcomponent}:{proxy.url.port}" == place


# --- certificates


@needs_openssl
async def test_an_unknown_authority_is_named(https: str) -> None:
    """Where a company inspects TLS its authority is named with dates, and --ca-file is the fix."""
    fault = fault_in(await send(https), ErrorKind.TLS, halts=True)
    assert "“Example Corp Inspection CA”" in fault.message
    assert "valid from 20" in fault.message
    assert "--ca-file" in fault.fix


@needs_openssl
async def test_a_ca_file_is_trusted_besides_and_a_variable_instead(
    https: str, authority: Authority
) -> None:
    """--ca-file adds an authority to the system's; SSL_CERT_FILE takes their place."""
    assert (await send(https, ca_file=authority.file)).status == 200
    environ = {"SSL_CERT_FILE": str(authority.file)}
    assert (await send(https, environ=environ)).status == 200
    n_system = tls_context(None, environ).cert_store_stats()["x509_ca"]
    assert n_system == 1, "nothing but the file's"


@needs_openssl
@pytest.mark.parametrize(
    ("names", "days", "signed", "says"),
    [
        ("DNS:other.example", 2, True, "not for localhost but for other.example"),
        ("DNS:localhost", -1, True, "it has expired on 20"),
        ("DNS:localhost", 2, False, "signed by itself"),
    ],
    ids=["wrong-host", "expired", "self-signed"],
)
async def test_a_bad_certificate_says_why(
    names: str, days: int, signed: bool, says: str, server: ApiServer, authority: Authority
) -> None:
    """The reason, the certificate's subject, issuer and dates; nothing was sent."""
    n = len(server.requests())
    context = authority.context(names, days=days, signed=signed)
    with tls_front(server.port, context) as url:
        reply = await send(url, ca_file=authority.file)
        fault = fault_in(reply, ErrorKind.TLS, halts=True)
        by_proxy = []
        for kind in ("http", "socks5h"):
            with running_proxy(kind) as proxy:
                reply = await send(url, ca_file=authority.file, proxy=proxy.url)
                by_proxy.append(fault_in(reply, ErrorKind.TLS, halts=True).message)
    assert says in fault.message
    assert "issued by “" in fault.message
    assert by_proxy == [fault.message] * 2, "the same by a proxy"
    assert len(server.requests()) == n


@needs_openssl
async def test_an_expired_certificate_of_an_unknown_authority_is_told_of_both(
    server: ApiServer, authority: Authority
) -> None:
    """Neither reason hides the other, and both have their fix: the date would fail it anyway."""
    with tls_front(server.port, authority.context(days=-1)) as url:
        fault = fault_in(await send(url), ErrorKind.TLS, halts=True)
    assert "an authority that is not known here" in fault.message
    assert "; and it has expired on 20" in fault.message
    assert "--ca-file" in fault.fix
    assert "date -u" in fault.fix


@needs_openssl
async def test_an_https_proxys_certificate_is_the_proxys(https: str, authority: Authority) -> None:
    """A proxy with a bad certificate is named, not the server behind it."""
    tls = authority.context("DNS:elsewhere.example")
    with running_proxy("https", tls=tls) as proxy:
        reply = await send(https, proxy=proxy.url, ca_file=authority.file)
    fault = fault_in(reply, ErrorKind.TLS, halts=True)
    assert f"the proxy https://127.0.0.1:{proxy.port}" in fault.message
    assert "elsewhere.example" in fault.message
    assert proxy.asked == []


@needs_openssl
@pytest.mark.parametrize("kind", ["http", "https", "socks5"])
async def test_a_servers_certificate_is_not_the_proxys_on_the_same_host(
    kind: str, server: ApiServer, authority: Authority
) -> None:
    """A server beside its proxy is named itself, with what its certificate says."""
    tls = authority.context("IP:127.0.0.1") if kind == "https" else None
    with (
        tls_front(server.port, authority.context("DNS:elsewhere.example")) as url,
        running_proxy(kind, tls=tls) as proxy,
    ):
        beside = url.replace("localhost", "127.0.0.1")
        reply = await send(beside, proxy=proxy.url, ca_file=authority.file)
    fault = fault_in(reply, ErrorKind.TLS, halts=True)
    assert f"The certificate of {beside} is not trusted: it is not for" in fault.message
    # Behind a proxy's TLS there is no second look: a login would go to whom nobody has verified.
    assert ("elsewhere.example" in fault.message) == (kind != "https")


@pytest.mark.parametrize("is_variable", [True, False], ids=["SSL_CERT_FILE", "--ca-file"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "can't read"),
        (b"", "no certificate in"),
        (b"\x30\x82\x01\x02binary", "no certificate in"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "can't be read"),
    ],
    ids=["missing", "empty", "der", "broken"],
)
def test_a_ca_file_that_cannot_be_used_is_refused(
    content: bytes | None, says: str, is_variable: bool, tmp_path: Path
) -> None:
    """It is refused by where it was said, with the file's name and what to do."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    environ = {"SSL_CERT_FILE": str(file)} if is_variable else {}
    with pytest.raises(UnusableTrustError, match=says) as refused:
        tls_context(None if is_variable else str(file), environ)
    assert str(file) in str(refused.value)
    assert str(refused.value).startswith("SSL_CERT_FILE" if is_variable else "--ca-file")
    assert refused.value.fix


async def test_a_timeout_says_which_phase_took_how_long(server: ApiServer) -> None:
    """A server that takes the connection and says nothing: what was done, and what was waited for."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        way = Transport(
            connect_timeout_s=1.0, total_timeout_s=0.3, pool_size=1, max_response=1, environ={}
        )
        async with way:
            url = f"http://127.0.0.1:{port}"
            reply = await way.send(Request(method="POST", url=url, headers={}, body=b"{}"))
    assert reply.fault is not None
    assert reply.fault.kind is ErrorKind.TIMEOUT
    assert "within 0.3 s" in reply.fault.message
    assert "connecting 0.0 s, waiting for the first byte 0.3 s" in reply.fault.message


async def test_a_handshake_that_never_ends_is_told() -> None:
    """A server that takes the connection and no TLS: the handshake is what took the time."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        reply = await send(url, connect_timeout_s=0.4)
    assert reply.fault is not None
    assert (reply.fault.kind, reply.fault.maybe_executed) == (ErrorKind.CONNECTION, False)
    assert "connecting 0.0 s, the TLS handshake 0.4 s" in reply.fault.message
