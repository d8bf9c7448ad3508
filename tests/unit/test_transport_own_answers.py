"""Whose an answer is where plain http goes by an HTTP proxy, over real sockets.

The answers are those of the programs themselves: of tinyproxy 1.11.1 as it sent them, of the others
as their sources write them.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from batchrunner.models import ErrorKind, Reply, Request
from batchrunner.transport import Transport
from batchrunner.transport.proxies import read_proxies
from tests.fakes.network import answering, running_proxy

TARGET = "http://api.example.invalid:8080"


def page(status: str, title: str, *headers: str, rest: str = "") -> bytes:
    """An answer that is a web page."""
    body = f"<html><head><title>{title}</title></head><body>{rest}</body></html>"
    head = "\r\n".join([f"HTTP/1.1 {status}", "Content-Type: text/html", *headers])
    return f"{head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


def api(status: str, *headers: str) -> bytes:
    """An error in an API's form."""
    body = '{"error":{"type":"authentication_error","message":"invalid x-api-key"}}'
    head = "\r\n".join([f"HTTP/1.1 {status}", "Content-Type: application/json", *headers])
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


TINYPROXY = "Server: tinyproxy/1.11.1"
SQUID = "Server: squid/5.7"


async def send(
    port: int,
    *,
    answers_json: bool = True,
    environ: Mapping[str, str] | None = None,
    login: str = "",
) -> Reply:
    """Send one request by an HTTP proxy on ``port``."""
    typed = read_proxies([f"http://{login}127.0.0.1:{port}"], {})
    before = None if environ else lambda _url: typed[0]
    way = Transport(
        connect_timeout_s=5.0, total_timeout_s=10.0, pool_size=2, max_response=1_000_000,
        environ=environ or {}, proxy_before=before, answers_json=answers_json,
    )  # fmt: skip
    async with way:
        return await way.send(
            Request(method="POST", url=f"{TARGET}/v1/messages?key=x", headers={}, body=b"{}")
        )


@pytest.mark.parametrize(
    ("answer", "says", "halts", "maybe_executed"),
    [
        (page("407 Proxy Authentication Required", "407", TINYPROXY, "Proxy-Authenticate: Basic"),
         "wants a user name and password (407)", True, False),
        (b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n", "wants a user name and password (407)", True, False),
        (page("401 Unauthorized", "401 Unauthorized", TINYPROXY, 'WWW-Authenticate: Basic realm="Tinyproxy"'),
         "wants a user name and password (401)", True, False),
        (page("403 Filtered", "403 Filtered", TINYPROXY), "refuses to pass the request on (403)", True, False),
        (page("500 Unable to connect", "500 Unable to connect", TINYPROXY), "“500 Unable to connect”", False, False),
        (page("503 Service Unavailable", "ERROR: The requested URL could not be retrieved", SQUID,
              "X-Squid-Error: ERR_CONNECT_FAIL 111", "Via: 1.1 gate (squid/5.7)"),
         "(ERR_CONNECT_FAIL 111)", False, False),
        (page("502 Bad Gateway", "ERROR: The requested URL could not be retrieved", SQUID,
              "X-Squid-Error: ERR_ZERO_SIZE_OBJECT 0", "Via: 1.1 gate (squid/5.7)"),
         "(ERR_ZERO_SIZE_OBJECT 0)", False, True),
        (page("403 Forbidden", "ERROR: The requested URL could not be retrieved", SQUID,
              "X-Squid-Error: ERR_ACCESS_DENIED 0"), "refuses to pass the request on (403)", True, False),
        (page("503 Connect failed", "503 - Connect failed (Privoxy@gate)"), "Connect failed", False, False),
        (page("404 No such domain", "404 - No such domain (Privoxy@gate)"), "No such domain", False, False),
        (page("502 Bad Gateway", "502 Bad Gateway", "Server: mitmproxy 10.1.5"), "502 Bad Gateway", False, True),
        (page("502 Proxy Error", "502 Proxy Error", "Server: Apache/2.4.57"), "502 Bad Gateway", False, True),
    ],
    ids=["tinyproxy-407", "bare-407", "tinyproxy-401", "tinyproxy-403", "tinyproxy-500", "squid-connect",
         "squid-read", "squid-acl", "privoxy-connect", "privoxy-name", "mitmproxy", "apache"],
)  # fmt: skip
async def test_a_proxys_own_answer_is_the_proxys(
    answer: bytes, says: str, halts: bool, maybe_executed: bool
) -> None:
    """An answer that bears a proxy's sign is ``proxy``, and names the proxy, the server and what it said."""
    with answering(answer) as (port, heads):
        reply = await send(port)
    assert heads[0].startswith(b"POST http://api.example.invalid:8080/v1/messages")
    fault = reply.fault
    assert fault is not None
    assert (fault.kind, fault.halts, fault.maybe_executed) == (
        ErrorKind.PROXY,
        halts,
        maybe_executed,
    )
    assert says in fault.message
    assert f"The proxy http://127.0.0.1:{port} (--proxy)" in fault.message
    assert TARGET in fault.message
    assert "key=x" not in fault.message
    assert "--proxy" in fault.fix


@pytest.mark.parametrize(
    ("answer", "halts"),
    [
        (page("403 Forbidden", "Access Denied"), True),
        (page("401 Unauthorized", "Unauthorized", "Date: Mon, 01 Jan 2024 00:00:00 GMT"), True),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nProxy-Connection: keep-alive\r\n\r\n", False),
        (b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\nno route", False),
        (page("504 Gateway Timeout", "Network Error (tcp_error)"), False),
    ],
    ids=["403", "401", "empty-502", "text-503", "504"],
)  # fmt: skip
async def test_a_page_that_nobody_signs_is_said_to_seem_the_proxys(
    answer: bytes, halts: bool
) -> None:
    """Where an API answers in JSON a page is not its own; the message claims no more than is known."""
    with answering(answer) as (port, _):
        reply = await send(port)
        other = await send(port, answers_json=False)
    assert reply.fault is not None
    assert (reply.fault.kind, reply.fault.halts) == (ErrorKind.PROXY, halts)
    assert f"Not {TARGET} but the proxy http://127.0.0.1:{port} (--proxy)" in reply.fault.message
    assert "or what stands behind it, seems to have answered" in reply.fault.message
    assert other.fault is None, "a server that answers in pages may have sent it"
    assert (other.status or 0) >= 400


@pytest.mark.parametrize(
    "answer",
    [
        api("401 Unauthorized"),
        api("502 Bad Gateway", "Via: 1.1 gate (tinyproxy/1.11.1)"),
        page("503 Service Temporarily Unavailable", "503", "Server: nginx/1.22.1", "Via: 1.1 gate (tinyproxy/1.11.1)"),
        page("502 Bad Gateway", "502 Bad Gateway", "Server: nginx/1.22.1"),
        page("403 Forbidden", "Sorry", "Server: cloudflare"),
        page("500 Internal Server Error", "Error", "Via: 1.1 gate"),
        page("404 Not Found", "Cannot POST /v1/messages"),
        api("429 Too Many Requests"),
        page("200 OK", "squid/5.7"),
    ],
    ids=["api-401", "api-502", "nginx-via", "nginx", "cloudflare", "via", "404", "429", "200"],
)  # fmt: skip
async def test_the_servers_answer_stays_the_servers(answer: bytes) -> None:
    """What has an API's form, came on through the proxy, or was made by another program is an answer."""
    with answering(answer) as (port, _):
        reply = await send(port)
    assert reply.fault is None
    assert reply.body


@pytest.mark.parametrize("status", [401, 403, 502])
async def test_without_a_proxy_no_answer_is_a_proxys(status: int) -> None:
    """A server that is asked directly answers for itself, whatever it calls itself."""
    with answering(page(f"{status} No", "No", SQUID)) as (port, _):
        async with Transport(
            connect_timeout_s=5.0, total_timeout_s=5.0, pool_size=1, max_response=1_000_000,
            environ={}, answers_json=True,
        ) as way:  # fmt: skip
            url = f"http://127.0.0.1:{port}/"
            reply = await way.send(Request(method="POST", url=url, headers={}, body=b"{}"))
    assert (reply.status, reply.fault) == (status, None)


WANTS = b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_a_login_is_asked_for_where_the_proxy_was_said(variable: str) -> None:
    """The fix sets the very variable that the proxy came from, and shows no password of it."""
    with answering(WANTS) as (port, _):
        environ = {variable: f"http://joe:hunter22@127.0.0.1:{port}"}
        fault = (await send(port, environ=environ)).fault
    assert fault is not None
    assert f"127.0.0.1:{port} ({variable})" in fault.message
    assert "does not accept the user name and password (407)" in fault.message
    assert (
        f'export {variable}="http://USER:${{PROXY_PASSWORD}}@127.0.0.1:{port}" && batchrunner resume'
        in fault.fix
    )
    assert "hunter22" not in fault.message + fault.fix


async def test_a_login_is_asked_for_by_option_where_it_was_typed() -> None:
    """A typed proxy is typed again, its password in a variable; so by a tunnel too."""
    with answering(WANTS) as (port, _):
        fault = (await send(port, login="joe:hunter22@")).fault
    assert fault is not None
    assert f"--proxy 'http://USER:${{PROXY_PASSWORD}}@127.0.0.1:{port}'" in fault.fix
    assert "hunter22" not in fault.message + fault.fix


async def test_a_login_is_asked_for_in_the_configuration_where_that_says_the_proxy() -> None:
    """A configured proxy's fix is a line of the configuration, not a variable that nobody set."""
    with running_proxy("http", login=("joe", "pw")) as proxy:
        (configured,) = read_proxies([proxy.url], {}, source="the configuration")
        async with Transport(
            connect_timeout_s=5.0, total_timeout_s=5.0, pool_size=1, max_response=1_000_000,
            environ={}, proxy_before=lambda _url: configured,
        ) as way:  # fmt: skip
            url = "https://api.example.invalid/"
            reply = await way.send(Request(method="POST", url=url, headers={}, body=b"{}"))
    assert reply.fault is not None
    assert f'proxy = "http://USER:${{PROXY_PASSWORD}}@127.0.0.1:{proxy.port}"' in reply.fault.fix
    assert "config show" in reply.fault.fix
    assert "HTTP_PROXY" not in reply.fault.fix
