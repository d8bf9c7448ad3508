"""The network between a person and a provider: every fault is named, with a fix, before it costs."""

from __future__ import annotations

import shutil
import socket
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrunner.models import RunState
from tests.fakes import ApiServer, running_server
from tests.fakes.network import Authority, answering, closing, running_proxy, tls_front
from tests.integration.house import Done, House

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs the openssl command to make certificates"
)
PASSWORD = "s3cret-pass-word"


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def everything(house: House, *done: Done) -> str:
    """All that was said and written."""
    texts = [text for one in done for text in (one.out, one.err)]
    files = [path.read_bytes().decode("latin-1") for path in house.folder.iterdir()]
    return "\n".join([*texts, *files])


# --- proxies


@pytest.mark.parametrize("kind", ["socks5h", pytest.param("http", marks=pytest.mark.slow)])
def test_a_run_goes_by_the_proxy_that_is_typed(
    house: House, api: ApiServer, kind: str, tmp_path: Path
) -> None:
    """--proxy holds for this machine too, and goes on holding at a resume; no password is written down."""
    if kind == "http":
        # Plain http is not tunnelled; behind TLS it is.
        authority = Authority(tmp_path / "authority")
        front = tls_front(api.port, authority.context())
        more: tuple[str, ...] = ("--ca-file", str(authority.file))
    else:
        front, more = tls_front(api.port, Authority(tmp_path / "a").context()), ()
    with running_proxy(kind, login=("joe", PASSWORD)) as proxy, front as https:
        house.url = https if kind == "http" else api.url
        house.jobs(2)
        url = proxy.url_of("joe", PASSWORD)
        first = house.submit("--proxy", url, *more)
        assert house.counts().completed == 2
        assert proxy.asked
        assert PASSWORD not in everything(house, first)
        n = len(proxy.asked)
        house.jobs(4, "more.jsonl", prefix="k")
        house.submit("--no-run", "--proxy", url, *more, file="more.jsonl")
        # The next call lacks the password, and says so rather than go around the proxy.
        refused = house.resume(code=2)
        assert refused.error["kind"] == "proxy"
        assert f"{kind}://joe:***@127.0.0.1:{proxy.port}" in refused.error["message"]
        assert "--proxy" in refused.error["fix"]
        assert house.counts().pending == 4
        assert len(proxy.asked) == n
        # The environment's proxy of the same address supplies it.
        done = house.resume(environ={"HTTPS_PROXY": url})
        assert house.counts().completed == 4
        assert len(proxy.asked) > n
        assert PASSWORD not in everything(house, refused, done)


def test_a_password_in_a_variable_is_filled_in_at_each_call(house: House, api: ApiServer) -> None:
    """``${VAR}`` in --proxy is stored as it is, so that a resume needs no more than the variable."""
    with running_proxy("socks5", login=("joe", PASSWORD)) as proxy:
        house.jobs(2)
        url = f"socks5://joe:${{PW}}@127.0.0.1:{proxy.port}"
        house.submit("--no-run", "--proxy", url, environ={"PW": PASSWORD})
        refused = house.resume(code=2)
        assert "PW is not set" in refused.error["message"]
        done = house.resume(environ={"PW": PASSWORD})
        assert house.counts().completed == 2
        assert PASSWORD not in everything(house, refused, done)


def test_proxy_none_goes_direct_whatever_the_environment_says(house: House, api: ApiServer) -> None:
    """--proxy none is the direct way; without it a dead proxy is never gone around."""
    house.url = "https://api.example.invalid"
    house.jobs(1)
    dead = {"ALL_PROXY": f"socks5h://joe:{PASSWORD}@127.0.0.1:{free_port()}"}
    done = house.submit("--max-wait", "1", code=6, environ=dead)
    assert done.error["kind"] == "proxy"
    assert "ALL_PROXY" in done.error["message"]
    assert PASSWORD not in everything(house, done)
    done = house.resume(
        "--base-url", api.url, "--proxy", "none", environ={"HTTP_PROXY": dead["ALL_PROXY"]}
    )
    assert house.counts().completed == 1


def test_this_machine_is_not_proxied_by_the_environment(house: House, api: ApiServer) -> None:
    """A proxy of the environment stands before nobody on loopback."""
    house.jobs(1)
    house.submit(environ={"ALL_PROXY": f"http://127.0.0.1:{free_port()}"})
    assert len(api.requests()) == 1


@pytest.mark.parametrize("kind", ["http", "socks5h"])
@pytest.mark.parametrize("password", ["", "wrong-password"], ids=["no-login", "wrong-password"])
def test_a_proxy_that_wants_another_login_halts_at_once(
    house: House, kind: str, password: str
) -> None:
    """407, 401 and SOCKS's refusals cost nothing: exit 6, the jobs pending, the fix pasteable."""
    with running_proxy(kind, login=("joe", PASSWORD)) as proxy:
        house.url = "https://api.example.invalid"
        house.jobs(3)
        url = proxy.url_of("joe", password) if password else proxy.url
        done = house.submit(code=6, environ={"https_proxy": url})
        assert done.error["kind"] == "proxy"
        assert f"127.0.0.1:{proxy.port} (https_proxy)" in done.error["message"]
        assert "USER:${PROXY_PASSWORD}@" in done.error["fix"]
        assert "wrong-password" not in everything(house, done)
        assert proxy.asked == []
    view = house.status()
    assert (view.state, view.jobs.pending) == (RunState.HALTED, 3)
    assert {job.attempts for job in house.rows().values()} == {0}


@pytest.mark.parametrize(
    ("proxy", "says"),
    [("ftp://127.0.0.1:1", "of a kind that is not known"), ("http://host:port", "is no address")],
)
def test_a_proxy_that_cannot_be_used_is_refused_before_anything(
    house: House, proxy: str, says: str
) -> None:
    """A bad scheme or address exits 2, typed or from the environment, and nothing is stored."""
    house.url = "https://api.example.invalid"
    house.jobs(1)
    done = house.submit("--proxy", proxy, code=2)
    assert done.error["kind"] == "proxy"
    assert says in done.error["message"]
    assert done.error["fix"]
    assert not house.db.exists()
    done = house.submit(code=2, environ={"ALL_PROXY": proxy})
    assert "ALL_PROXY" in done.error["message"]
    assert not house.db.exists()


TINYPROXY = (
    b"HTTP/1.1 401 Unauthorized\r\nServer: tinyproxy/1.11.1\r\nContent-Type: text/html\r\n"
    b'WWW-Authenticate: Basic realm="Tinyproxy"\r\nConnection: close\r\n\r\n'
    b"<html><head><title>401 Unauthorized</title></head></html>"
)


def test_a_proxys_own_401_is_no_refused_key(house: House, api: ApiServer) -> None:
    """Plain http by a proxy that refuses: exit 6 and ``proxy``, not 4 and the key; resume goes on."""
    house.jobs(3)
    with answering(TINYPROXY) as (port, heads):
        url = f"http://joe:{PASSWORD}@127.0.0.1:{port}"
        done = house.submit("--proxy", url, code=6)
    assert done.error["kind"] == "proxy"
    assert f"The proxy http://127.0.0.1:{port} (--proxy)" in done.error["message"]
    assert "does not accept the user name and password (401)" in done.error["message"]
    assert f"--proxy 'http://USER:${{PROXY_PASSWORD}}@127.0.0.1:{port}'" in done.error["fix"]
    assert len(heads) == 1
    assert api.requests() == []
    assert {job.attempts for job in house.rows().values()} == {0}
    assert PASSWORD not in everything(house, done)
    house.resume("--proxy", "none")
    assert house.counts().completed == 3


def test_a_proxys_own_503_leaves_it_for_another(house: House, api: ApiServer) -> None:
    """Of several proxies one that has no way is left, though what it says has the form of an answer."""
    house.jobs(6)
    answer = TINYPROXY.replace(b"401 Unauthorized", b"503 Unable to connect")
    with answering(answer) as (port, heads), running_proxy("socks5") as proxy:
        done = house.submit("--proxy", f"http://127.0.0.1:{port}", "--proxy", proxy.url)
    assert house.counts().completed == 6
    assert {job.attempts for job in house.rows().values()} == {1}
    assert len(heads) == 1
    assert "gave no way" in done.err


@pytest.mark.slow
def test_socks_said_of_an_http_proxy_halts_at_once(house: House) -> None:
    """It is told what is spoken there and what to write, and the run does not wait for a timeout."""
    house.url = "https://api.example.invalid"
    house.jobs(2)
    with running_proxy("http") as proxy:
        said = f"socks5h://127.0.0.1:{proxy.port}"
        done = house.submit("--proxy", said, code=6, timeout=20)
    assert done.error["kind"] == "proxy"
    assert f"The proxy {said} (--proxy) speaks HTTP, not SOCKS" in done.error["message"]
    assert f"--proxy http://127.0.0.1:{proxy.port}" in done.error["fix"]
    assert house.status().state is RunState.HALTED


def test_of_several_proxies_a_dead_one_is_left(house: House, api: ApiServer) -> None:
    """The second --proxy takes over from a dead first, told once, and no job is charged for it."""
    with running_proxy("socks5") as proxy:
        house.jobs(6)
        dead = f"socks5://127.0.0.1:{free_port()}"
        done = house.submit("--proxy", dead, "--proxy", proxy.url)
        assert proxy.asked
    assert {job.attempts for job in house.rows().values()} == {1}
    assert done.err.count(f"from now on requests go by the proxy {proxy.url}") == 1
    assert done.named("limit.waiting") == []


# --- TLS


@needs_openssl
def test_a_companys_authority_is_told_and_then_trusted(
    house: House, api: ApiServer, tmp_path: Path
) -> None:
    """An unknown authority halts with its name; resume --ca-file goes on, and is kept with the run."""
    authority = Authority(tmp_path / "authority")
    with tls_front(api.port, authority.context()) as https:
        house.url = https
        house.jobs(2)
        done = house.submit(code=6)
        assert done.error["kind"] == "tls"
        assert "“Example Corp Inspection CA”" in done.error["message"]
        assert "batchrunner resume jobs --ca-file FILE" in done.error["fix"]
        assert api.requests() == []
        (house.folder / "ca.pem").write_bytes(authority.file.read_bytes())
        house.resume("--ca-file", "ca.pem")
        assert house.counts().completed == 2
        house.jobs(1, "more.jsonl", prefix="k")
        house.submit(file="more.jsonl", environ={"SSL_CERT_FILE": str(authority.file)})


@pytest.mark.parametrize(
    ("content", "says"), [(None, "can't read"), ("not a certificate", "no certificate in")]
)
def test_a_ca_file_that_cannot_be_used_is_refused_before_anything(
    house: House, api: ApiServer, content: str | None, says: str
) -> None:
    """--ca-file exits 2 and nothing is stored where the file is missing or holds none."""
    house.jobs(1)
    if content is not None:
        (house.folder / "ca.pem").write_text(content)
    done = house.submit("--ca-file", "ca.pem", code=2)
    assert done.error["kind"] == "tls"
    assert says in done.error["message"]
    assert "ca.pem" in done.error["message"]
    assert not house.db.exists()


@needs_openssl
@pytest.mark.parametrize(
    ("names", "days", "signed", "says"),
    [
        ("DNS:other.example", 2, True, "not for localhost but for other.example"),
        ("DNS:localhost", -1, True, "it has expired on"),
        ("DNS:localhost", 2, False, "signed by itself"),
    ],
    ids=["wrong-host", "expired", "self-signed"],
)
def test_a_bad_certificate_halts_before_a_byte_is_sent(
    house: House,
    api: ApiServer,
    tmp_path: Path,
    names: str,
    days: int,
    signed: bool,
    says: str,
) -> None:
    """Wrong host, expired and self-signed: exit 6, the reason and the dates, no request."""
    authority = Authority(tmp_path / "authority")
    with tls_front(api.port, authority.context(names, days=days, signed=signed)) as https:
        house.url = https
        house.jobs(2)
        done = house.submit("--ca-file", str(authority.file), code=6)
    assert done.error["kind"] == "tls"
    assert says in done.error["message"]
    assert "valid from 20" in done.error["message"]
    assert done.error["fix"]
    assert api.requests() == []
    assert house.counts().pending == 2


def test_tls_that_is_closed_is_tried_again_and_told(house: House) -> None:
    """It waits like any fault of the network; the end says what usually closes there, exit 6."""
    with closing(1) as port:
        house.url = f"https://127.0.0.1:{port}"
        house.jobs(2)
        done = house.submit("--max-wait", "1", code=6)
    assert done.error["kind"] == "network"
    assert "it closed the connection when TLS was begun" in done.error["message"]
    assert "openssl s_client -connect" in done.error["fix"]
    assert house.counts().pending == 2


@needs_openssl
@pytest.mark.parametrize("loop", ["asyncio", ""], ids=["asyncio", "default"])
def test_a_run_goes_by_an_https_proxy_on_either_loop(
    house: House, api: ApiServer, tmp_path: Path, loop: str
) -> None:
    """TLS within the proxy's TLS carries a whole run, on uvloop where that is installed."""
    authority = Authority(tmp_path / "authority")
    with (
        running_proxy("https", login=("joe", PASSWORD), tls=authority.context()) as proxy,
        tls_front(api.port, authority.context()) as https,
    ):
        house.url = https
        house.jobs(4)
        house.submit(
            "--proxy", proxy.url_of("joe", PASSWORD), "--ca-file", str(authority.file),
            environ={"BATCHRUNNER_LOOP": loop},
        )  # fmt: skip
        assert proxy.asked
    assert house.counts().completed == 4


# --- addresses


def test_plain_http_to_another_machine_wants_a_word(house: House) -> None:
    """It is refused before anything is stored, typed or from the environment, unless allowed."""
    house.url = "http://api.example.invalid"
    house.jobs(1)
    done = house.submit(code=2)
    assert "unencrypted" in done.error["message"]
    assert "--allow-insecure-http" in done.error["fix"]
    assert not house.db.exists()
    done = house.run(
        "submit", "jobs.jsonl", "--provider", "anthropic", "--model", "sim-1", "--json",
        code=2, environ={"ANTHROPIC_BASE_URL": house.url},
    )  # fmt: skip
    assert "unencrypted" in done.error["message"]
    assert not house.db.exists()
    done = house.submit("--allow-insecure-http", "--max-wait", "1", code=6)
    assert done.error["kind"] == "network"
    # Stored with the run: a resume needs no second word.
    assert house.resume("--max-wait", "1", code=6).error["kind"] == "network"


def test_a_third_party_that_gets_the_key_is_named(house: House) -> None:
    """A gateway's host is named once before the first request; the provider's own and this machine are not."""
    house.url = "https://gateway.example.invalid"
    house.jobs(2)
    key = {"ANTHROPIC_API_KEY": "gateway-key-of-mine"}
    done = house.submit("--max-wait", "1", code=6, environ=key)
    said = "The key goes to gateway.example.invalid, which is not Anthropic's own"
    assert done.err.count(said) == 1
    done = house.resume(
        "--base-url", f"http://127.0.0.1:{free_port()}", "--max-wait", "1", code=6, environ=key
    )
    assert "The key goes to" not in done.err


def test_a_timeout_that_cuts_answers_is_warned_of(house: House, api: ApiServer) -> None:
    """--timeout 30 is warned of with what fits into it, unless the answers are short."""
    house.jobs(1)
    assert "some 1,500 tokens" in house.submit("--timeout", "30").err
    house.jobs(1, "short.jsonl", prefix="s")
    done = house.submit("--timeout", "30", "--max-tokens", "100", file="short.jsonl")
    assert "--timeout" not in done.err


@pytest.fixture
def second() -> Iterator[ApiServer]:
    """Another address of the provider."""
    with running_server() as server:
        yield server


@pytest.mark.parametrize(
    "rule",
    [
        {"status": 500},
        {"status": 529},
        {"status": 503, "headers": {"retry-after": "60"}},
        {"fault": "reset"},
        {"fault": "close"},
    ],
    ids=str,
)
def test_a_broken_address_is_failed_over_and_charges_nobody(
    house: House, api: ApiServer, second: ApiServer, rule: dict[str, object]
) -> None:
    """While another address works, 5xx and network faults are no outage and no job's fault."""
    api.script([rule])
    house.jobs(30)
    done = house.submit("--base-url", second.url, "--max-attempts", "1", "-c", "4", "--rpm", "none")
    assert house.counts().completed == 30
    assert {job.attempts for job in house.rows().values()} == {1}
    assert len(api.requests()) <= 3 + 4, "three in a row, and what was in flight by then"
    assert done.named("limit.waiting") == []
    assert done.err.count(f"from now on requests go by {second.url}") == 1


def test_an_address_that_nobody_listens_on_is_left_at_once(house: House, api: ApiServer) -> None:
    """A refused connection moves the run to the next address with its first request."""
    house.url = f"http://127.0.0.1:{free_port()}"
    house.jobs(5)
    done = house.submit("--base-url", api.url)
    assert len(api.requests()) == 5
    assert {job.attempts for job in house.rows().values()} == {1}
    assert f"Can't connect to {house.url}" in done.err


@needs_openssl
def test_a_bad_certificate_of_one_address_does_not_halt(
    house: House, api: ApiServer, tmp_path: Path
) -> None:
    """TLS faults halt a run only where no other address works."""
    with tls_front(api.port, Authority(tmp_path / "authority").context()) as https:
        house.url = https
        house.jobs(3)
        house.submit("--base-url", api.url)
        house.jobs(3, "more.jsonl", prefix="k")
        done = house.submit(
            "--base-url", https.replace("localhost", "127.0.0.1"), file="more.jsonl", code=6
        )
    assert done.error["kind"] == "tls"
    assert house.counts().pending == 3


@pytest.mark.parametrize("status", [429, 400])
def test_what_the_account_or_the_request_is_told_is_no_reason_to_fail_over(
    house: House, api: ApiServer, second: ApiServer, status: int
) -> None:
    """429 and 4xx are answers: the other address is not asked."""
    api.script([{"n": 1, "status": status, "headers": {"retry-after": "0"}}])
    house.jobs(3)
    house.submit("--base-url", second.url, code=None)
    assert second.requests() == []
    assert len(api.requests()) == (4 if status == 429 else 3)


def test_a_poisonous_job_ends_and_moves_nobody(
    house: House, api: ApiServer, second: ApiServer
) -> None:
    """A job that every address answers with 500 is charged once a round, fails, and the rest stay."""
    for server in (api, second):
        server.script([{"contains": "say j3;", "status": 500}])
    house.jobs(12)
    done = house.submit("--base-url", second.url, "--max-attempts", "2", "--rpm", "none", code=1)
    assert house.rows()["j3"].status == "failed"
    assert house.rows()["j3"].attempts == 2
    assert len([r for r in second.requests() if "say j3;" in r.prompt]) == 2
    assert {r.prompt for r in second.requests()} == {"say j3;"}
    assert "from now on" not in done.err


@needs_openssl
def test_a_poisonous_job_ends_though_the_other_address_is_no_way(
    house: House, api: ApiServer, tmp_path: Path
) -> None:
    """Another address that can't be reached neither halts the run nor keeps it from ending."""
    api.script([{"contains": "say j3;", "status": 500}])
    house.jobs(12)
    with tls_front(api.port, Authority(tmp_path / "authority").context()) as https:
        done = house.submit("--base-url", https, "--max-attempts", "2", "--rpm", "none", code=1)
    assert house.rows()["j3"].error_kind == "server_error"
    assert house.counts().completed == 11
    assert done.named("run.halted") == []


@pytest.mark.slow
def test_when_every_address_is_broken_it_is_an_outage(
    house: House, api: ApiServer, second: ApiServer
) -> None:
    """Both broken: the run waits, charges nothing, and completes when one of them is back."""
    for server in (api, second):
        server.script([{"from": 2, "status": 500}])
    house.jobs(12)
    running = house.start_submit("--base-url", second.url, "-c", "2", "--rpm", "none")
    running.sees("limit.waiting")
    second.script([])
    running.ended(0)
    assert {job.attempts for job in house.rows().values()} == {1}


@pytest.mark.slow
def test_the_preferred_address_is_taken_again(
    house: House, api: ApiServer, second: ApiServer
) -> None:
    """After the cool-down one request tries it; its success brings the run back, told once."""
    api.script([{"to": 3, "status": 500}])
    house.jobs(60)
    done = house.submit("--base-url", second.url, "--rpm", "200", "-c", "2")
    assert done.err.count(f"Requests go by {api.url} again.") == 1
    assert len(api.requests()) > 6
    assert {job.attempts for job in house.rows().values()} == {1}


def test_one_accounts_limit_holds_over_all_addresses(
    house: House, api: ApiServer, second: ApiServer
) -> None:
    """--rpd counts what went to any address."""
    api.script([{"from": 3, "status": 500}])
    house.jobs(8)
    house.submit("--base-url", second.url, "--rpd", "6", "-c", "1", "--no-wait", code=3)
    assert len(api.requests()) + len(second.requests()) == 6


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (
            {"status": 307, "headers": {"location": "https://portal.example/login?from=x"}},
            "redirects to https://portal.example/login?from=x",
        ),
        (
            {
                "status": 200,
                "headers": {"content-type": "text/html"},
                "body": "<html><head><title>Hotel Wi-Fi</title></head></html>",
            },
            "answered with a web page instead of an API's answer: “Hotel Wi-Fi”",
        ),
    ],
    ids=["redirect", "portal"],
)
def test_what_is_no_api_is_told_with_its_address(
    house: House, api: ApiServer, rule: dict[str, object], says: str
) -> None:
    """A redirect is told with where it leads, a portal with its title and ours; one request each."""
    api.script([rule])
    house.jobs(3)
    done = house.submit(code=6)
    assert done.error["kind"] == "redirect"
    assert f"{api.url}/v1/messages" in done.error["message"]
    assert says in done.error["message"]
    assert "resume" in done.error["fix"]
    assert len(api.requests()) == 1


@pytest.mark.parametrize("fault", ["reset", "close", "cut", "garbage"])
def test_a_break_of_one_connection_is_tried_again_and_counted(
    house: House, api: ApiServer, fault: str
) -> None:
    """While others succeed a reset, a disconnect, a cut body is the job's: charged, and marked as possibly executed."""
    api.script([{"contains": "say j2;", "times": 1, "fault": fault}])
    house.jobs(4)
    house.submit("-c", "1", "--rpm", "none")
    rows = house.rows()
    assert {row.status for row in rows.values()} == {"completed"}
    assert [rows[f"j{n}"].attempts for n in range(4)] == [1, 1, 2, 1]
    first, last = house.show("j2").sends
    assert first.maybe_executed
    assert not last.maybe_executed


# --- clock


def test_a_wrong_clock_is_told_once(house: House, api: ApiServer) -> None:
    """The server's Date against ours: once a call, with how to set it."""
    api.script([{"headers": {"date": "Mon, 01 Jan 2024 00:00:00 GMT"}}])
    house.jobs(3)
    done = house.submit()
    assert done.err.count("This machine's clock is") == 1
    assert "ahead of the server's" in done.err
    assert "timedatectl" in done.err


def test_stored_options_hold_no_password(house: House, api: ApiServer) -> None:
    """What the database keeps of a proxy is its address and user."""
    with running_proxy("socks5", login=("joe", PASSWORD)) as proxy:
        house.jobs(1)
        house.submit("--no-run", "--proxy", proxy.url_of("joe", PASSWORD))
    with sqlite3.connect(house.db) as connection:
        (options,) = connection.execute("SELECT options FROM run").fetchone()
    connection.close()
    assert f"socks5://joe:***@127.0.0.1:{proxy.port}" in options
