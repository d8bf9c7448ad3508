"""While nothing succeeds it is an outage: the run waits, probes, charges nothing, and goes on."""

from __future__ import annotations

import http.server
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from batchrunner.models import RunState, WaitingReason
from tests.fakes import ApiServer, running_server
from tests.integration.house import House, until


@pytest.mark.parametrize(
    "rule",
    [
        {"status": 529},
        pytest.param({"status": 500}, marks=pytest.mark.slow),
        pytest.param({"fault": "reset"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_an_outage_waits_probes_alone_and_completes(
    house: House, api: ApiServer, rule: dict[str, Any]
) -> None:
    """When everything fails, requests stop but for one probe at a time; once one succeeds the rest goes, charged once."""
    api.script([{"from": 12, "delay_s": 0.02, **rule}, {"delay_s": 0.02}])
    house.jobs(40)
    running = house.start_submit("-c", "4", "--rpm", "none")
    running.sees("limit.waiting")
    view = house.status()
    assert view.state is RunState.WAITING
    assert view.waiting is not None
    assert view.waiting.reason in (WaitingReason.OVERLOADED, WaitingReason.NETWORK)
    assert view.jobs.failed == 0
    seen = api.requests()
    failing = [r for r in seen if r.n >= 12]
    assert len(failing) <= 5 + 4, "a streak of five, and what was in flight by then"
    api.script([])
    running.ended(0)
    probes = [r for r in api.requests() if r.n > len(seen)]
    assert probes[0].mono - failing[-1].mono > 2.0, "a probe comes after a while"
    assert {job.attempts for job in house.rows().values()} == {1}
    assert house.counts().completed == 40


@pytest.mark.slow
def test_a_short_file_waits_for_an_outage_too(house: House, api: ApiServer) -> None:
    """Without -c a file of a dozen jobs waits out a server that answers 502 at first, and charges nothing."""
    api.script([{"to": 6, "status": 502}])
    house.jobs(12)
    done = house.submit()
    assert done.named("limit.waiting")
    assert {job.attempts for job in house.rows().values()} == {1}


def test_a_server_that_goes_and_comes_back_is_waited_for(house: House) -> None:
    """Connections refused under way charge nothing, and the run completes when the server is back."""
    with running_server([{"delay_s": 0.05}]) as api:
        house.url = api.url
        house.jobs(40)
        running = house.start_submit("-c", "2", "--rpm", "none")
        running.sees("job.completed", 5)
        api.stop()
        running.sees("limit.waiting")
        assert house.status().waiting is not None
        with running_server(port=api.port, log=api.log_path):
            running.ended(0)
    assert house.counts().completed == 40
    n_more = sum(job.attempts - 1 for job in house.rows().values())
    assert n_more <= 2, "only what was cut off while others were still answered is charged"


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_server_never_reached_exits_6_after_patience(house: House) -> None:
    """Refused from the start, the run tries until --max-wait is over and exits 6, halted, with every job pending."""
    house.url = f"http://127.0.0.1:{free_port()}"
    house.jobs(5)
    began = time.monotonic()
    done = house.submit("--max-wait", "3", code=6)
    assert 3.0 <= time.monotonic() - began < 15.0
    assert done.error["kind"] == "network"
    view = house.status()
    assert (view.state, view.jobs.pending) == (RunState.HALTED, 5)
    assert {job.attempts for job in house.rows().values()} == {0}


def test_a_server_that_comes_within_patience_is_used(house: House) -> None:
    """A server that starts listening a little later is reached, and no job is charged for the wait."""
    port = free_port()
    house.url = f"http://127.0.0.1:{port}"
    house.jobs(3)
    running = house.start_submit()
    running.sees("limit.waiting")
    with running_server(port=port):
        running.ended(0)
    assert {job.attempts for job in house.rows().values()} == {1}


def test_a_name_that_does_not_exist_exits_6(house: House) -> None:
    """A host without an address is a network fault: exit 6 with the host named."""
    house.url = "https://no-such-host.invalid"
    house.jobs(2)
    done = house.submit("--max-wait", "1", code=6)
    assert "no-such-host.invalid" in done.error["message"]
    assert house.counts().pending == 2


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        ({"status": 302, "headers": {"location": "http://192.0.2.1/login"}}, "redirect"),
        (
            {
                "status": 200,
                "headers": {"content-type": "text/html"},
                "body": "<!DOCTYPE html><html><body>Sign in to the hotel's network</body></html>",
            },
            "redirect",
        ),
        ({"status": 511, "body": "<html>sign in</html>"}, "redirect"),
        ({"status": 407, "body": "proxy wants a password"}, "proxy"),
    ],
    ids=["302", "captive-portal", "511", "407"],
)
def test_what_is_no_api_halts_at_once(
    house: House, api: ApiServer, rule: dict[str, Any], kind: str
) -> None:
    """Redirects, captive portals and proxies that want a password cost one request and exit 6; the key goes nowhere else."""
    api.script([rule])
    house.jobs(4)
    done = house.submit(code=6)
    assert done.error["kind"] == kind
    assert len(api.requests()) == 1
    view = house.status()
    assert (view.state, view.jobs.pending) == (RunState.HALTED, 4)
    api.script([])
    house.resume()
    assert house.counts().completed == 4


def test_tls_on_a_plain_port_halts_at_once(house: House, api: ApiServer) -> None:
    """https to a server that speaks http exits 6 at once, with the reason tls."""
    house.jobs(2)
    house.url = api.url.replace("http://", "https://")
    began = time.monotonic()
    done = house.submit(code=6)
    assert done.error["kind"] == "tls"
    assert time.monotonic() - began < 10.0
    assert house.counts().pending == 2


@contextmanager
def tls_server(folder: Path) -> Iterator[str]:
    """Serve https with a certificate that nobody has signed."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        f" -keyout {key} -out {certificate} -subj /CN=127.0.0.1"
        " -addext subjectAltName=IP:127.0.0.1".split(),
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_certificate_that_is_not_trusted_halts_at_once(house: House, tmp_path: Path) -> None:
    """A self-signed certificate exits 6 with the reason tls, and nothing was sent."""
    with tls_server(tmp_path) as url:
        house.url = url
        house.jobs(2)
        done = house.submit(code=6)
    assert done.error["kind"] == "tls"
    assert house.status().state is RunState.HALTED


def test_no_wait_ends_a_long_outage(house: House, api: ApiServer) -> None:
    """An outage longer than --max-wait stops the run with work left (exit 3) and charges nothing."""
    api.script([{"from": 2, "status": 529}])
    house.jobs(20)
    done = house.submit("-c", "4", "--max-wait", "1", code=3)
    assert done.error["kind"] == "overloaded"
    view = house.status()
    assert view.state is RunState.READY
    assert (view.jobs.completed, view.jobs.pending, view.jobs.failed) == (1, 19, 0)
    assert {job.attempts for job in house.rows().values()} <= {0, 1}
    api.script([])
    house.resume()
    until(lambda: house.counts().completed == 20, "all done")
