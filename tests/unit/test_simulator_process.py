"""The simulator and the scripted fake as processes of their own."""

from __future__ import annotations

import hashlib
import http.client
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import ApiServer, running_server

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def send(
    url: str, prompt: str = "hi", key: str = "", timeout: float = 10.0
) -> tuple[int, Any, bytes]:
    """Send a message; return status, headers and body of whatever answer comes."""
    message = {"role": "user", "content": prompt}
    body = {"model": "sim-1", "max_tokens": 50, "messages": [message]}
    request = urllib.request.Request(
        url + "/v1/messages",
        json.dumps(body).encode(),
        {"anthropic-version": "2023-06-01", "x-api-key": key},
    )
    try:
        with _OPENER.open(request, timeout=timeout) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def test_simulator_runs_as_its_own_process(tmp_path: Path) -> None:
    """It prints its address, limits and logs as told, and ends in order on SIGTERM."""
    log = tmp_path / "seen.jsonl"
    command = [
        sys.executable,
        "-m",
        "batchrunner.providers.simulator",
        "--rpm",
        "1",
        "--window",
        "sliding",
        "--log",
        str(log),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        statuses = [send(url, prompt)[0] for prompt in ("one", "two")]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert statuses == [200, 429] == [line["status"] for line in lines]
    assert [line["prompt"] for line in lines] == ["one", "two"]
    assert lines[1]["cause"] == "minute"


def test_simulator_says_what_it_can_not_do() -> None:
    """Nonsense on the command line is one sentence, not a traceback."""
    command = [sys.executable, "-m", "batchrunner.providers.simulator", "--rate-500", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: fault rates must be")


def test_fake_answers_everything_without_a_script(api: ApiServer) -> None:
    """Without a script each request is answered with 200 and logged."""
    status, headers, body = send(api.url, "hello", key="secret")
    (seen,) = api.requests()
    assert status == seen.status == 200
    assert headers["request-id"]
    assert json.loads(body)["type"] == "message"
    assert (seen.n, seen.prompt, seen.method, seen.path) == (1, "hello", "POST", "/v1/messages")
    assert seen.auth == hashlib.sha256(b"secret").hexdigest()[:16]
    assert seen.json["model"] == "sim-1"
    assert "secret" not in api.log_path.read_text()


def test_fake_follows_its_script() -> None:
    """Rules by number, range, text and count decide, the first match first."""
    script: list[dict[str, Any]] = [
        {"n": 2, "status": 529},
        {"n": [3, 4], "status": 429, "headers": {"Retry-After": "9"}, "body": {"own": 1}},
        {"contains": "poison", "times": 1, "status": 400},
        {"from": 8, "status": 201, "body": "text"},
    ]
    with running_server(script) as api:
        prompts = ["a", "b", "c", "d", "poison", "poison", "e", "f"]
        got = [send(api.url, prompt) for prompt in prompts]
        assert [status for status, _, _ in got] == [200, 529, 429, 429, 400, 200, 200, 201]
        assert [seen.status for seen in api.requests()] == [status for status, _, _ in got]
    assert json.loads(got[1][2])["error"]["type"] == "overloaded_error"
    assert (got[2][1]["retry-after"], got[2][2]) == ("9", b'{"own":1}')
    assert json.loads(got[4][2])["error"]["type"] == "invalid_request_error"
    assert got[7][2] == b"text"


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        ("reset", ConnectionResetError),
        ("close", http.client.RemoteDisconnected),
        ("cut", http.client.IncompleteRead),
        ("garbage", http.client.BadStatusLine),
        ("hang", TimeoutError),
    ],
)
def test_fake_breaks_connections(api: ApiServer, fault: str, raised: type[Exception]) -> None:
    """Each fault breaks the connection in its own way, and the next request is answered."""
    api.script([{"n": 1, "fault": fault}])
    with pytest.raises((raised, urllib.error.URLError)) as caught:
        send(api.url, timeout=0.5)
    error = caught.value
    assert isinstance(getattr(error, "reason", error), raised)
    assert send(api.url)[0] == 200
    first, second = api.requests()
    assert (first.status, first.fault) == (200 if fault == "cut" else None, fault)
    assert (second.status, second.fault) == (200, None)


def test_fake_counts_anew_with_a_new_script(api: ApiServer) -> None:
    """A script set at run time counts from the next request; a bad one is refused and changes nothing."""
    send(api.url)
    api.script([{"n": 1, "status": 500}])
    with pytest.raises(urllib.error.HTTPError, match="400") as caught:
        api.script([{"stats": 500}])
    caught.value.close()
    assert [send(api.url)[0] for _ in range(2)] == [500, 200]
    with _OPENER.open(api.url + "/_log", timeout=10) as response:
        assert len(response.read().splitlines()) == 3


def test_fake_comes_back_where_it_was(tmp_path: Path) -> None:
    """A server may stop and another take its port and go on in its log."""
    log = tmp_path / "seen.jsonl"
    with running_server(log=log) as first:
        send(first.url, "before")
        first.stop()
        with pytest.raises(urllib.error.URLError):
            send(first.url, "between")
    with running_server(port=first.port, log=log) as second:
        send(second.url, "after")
        assert second.url == first.url
        assert [seen.prompt for seen in second.requests()] == ["before", "after"]


def test_fake_takes_the_simulators_options() -> None:
    """Limits of the simulator hold where no rule matches."""
    with running_server([{"contains": "free", "status": 200, "body": {}}], rpm=1) as api:
        assert [send(api.url, prompt)[0] for prompt in ("a", "free", "b")] == [200, 200, 429]


def test_fake_says_why_it_does_not_start() -> None:
    """A wrong script fails at once with the reason."""
    with pytest.raises(RuntimeError, match="stats"), running_server([{"stats": 500}]):
        pass
