"""Random secrets on every path through the program: nothing that it writes holds one.

A server throws whatever it gets back at us, in the body of each status, in headers, in addresses
and in what is no HTTP. What a person runs afterwards is run, and then every byte of every file and
all that was printed is searched.
"""

from __future__ import annotations

import base64
import contextlib
import html
import io
import json
import os
import random
import re
import string
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from unittest import mock
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from batchrunner.cli import main
from batchrunner.core.credentials import Secrets
from batchrunner.engine.judge import Judge

#: So much of a secret in a row is a leak; less may be chance.
WINDOW: Final = 9

# --- a server that echoes


class Echo(BaseHTTPRequestHandler):
    """Answers as ``server.mode`` says, with all it was told."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    def do_POST(self) -> None:
        """Read the body, then answer."""
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer()

    def _answer(self) -> None:
        told = [str(value) for value in self.headers.values()]
        told += [_basic(value) for value in told if value.startswith("Basic ")]
        told.append(self.path)
        MODES[self.server.mode](self, " | ".join(told))  # type: ignore[attr-defined]

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        """Send one answer."""
        self.send_response_only(status)
        headers = {"content_type": "application/json", "content_length": str(len(body)), **headers}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _basic(value: str) -> str:
    return base64.b64decode(value.removeprefix("Basic ")).decode("utf-8", "replace")


def _fine(echo: Echo, told: str) -> None:
    body = {
        "type": "message", "id": told, "model": told, "stop_reason": told,
        "content": [{"type": "text", "text": told}], "usage": {"input_tokens": 1, "output_tokens": 1},
        "data": [{"id": told}],
    }  # fmt: skip
    named = {
        "request_id": told, "anthropic_organization_id": told, "x_request_id": told,
        "anthropic_ratelimit_requests_limit": told, "anthropic_ratelimit_requests_remaining": told,
    }  # fmt: skip
    echo.reply(200, json.dumps(body).encode(), **named)


def _error(status: int) -> Callable[[Echo, str], None]:
    def answer(echo: Echo, told: str) -> None:
        encoded = base64.b64encode(told.encode()).decode()
        message = f"bad {told}, {quote(told, safe='')}, {encoded}, {json.dumps(told)}, {told!r}"
        error = {"type": "api_error", "code": told, "message": message, "param": told}
        body = {"type": "error", "error": error, "request_id": told}
        echo.reply(status, json.dumps(body).encode(), request_id=told, retry_after="0")

    return answer


def _redirect(echo: Echo, told: str) -> None:
    echo.reply(302, b"", location=f"http://elsewhere.example/?why={quote(told)}")


def _page(echo: Echo, told: str) -> None:
    page = f"<html><title>{html.escape(told)}</title><p>{told}</p></html>"
    echo.reply(200, page.encode(), content_type="text/html")


def _text(echo: Echo, told: str) -> None:
    echo.reply(200, f"not JSON: {told}".encode(), content_type="text/plain")


def _garbage(echo: Echo, told: str) -> None:
    echo.wfile.write(f"{told}\r\n\r\n".encode())
    echo.close_connection = True


def _bad_header(echo: Echo, told: str) -> None:
    echo.wfile.write(
        f"HTTP/1.1 200 OK\r\nx-{told}\x01: {told}\r\ncontent-length: x{told}\r\n\r\n".encode()
    )
    echo.close_connection = True


def _cut(echo: Echo, told: str) -> None:
    echo.reply(200, f'{{"x": "{told}'.encode(), content_length="9999")
    echo.close_connection = True


MODES: Final[dict[str, Callable[[Echo, str], None]]] = {
    "200": _fine,
    **{str(status): _error(status) for status in (400, 401, 403, 404, 407, 413, 429, 500, 529)},
    "redirect": _redirect,
    "page": _page,
    "text": _text,
    "garbage": _garbage,
    "bad-header": _bad_header,
    "cut": _cut,
    "defect": _fine,
}


@contextlib.contextmanager
def echoing(mode: str) -> Iterator[int]:
    """Run a server for the length of the block; give its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads = True
    server.mode = mode  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# --- secrets, and the ways in which one gets into the program

ALPHABETS: Final = (
    string.ascii_letters + string.digits,
    string.ascii_letters + string.digits + "-_",
    "".join(chr(code) for code in range(0x21, 0x7F)),
)


@st.composite
def secrets(draw: st.DrawFn) -> str:
    """A random value that no other text has by chance."""
    chance = random.Random(draw(st.integers(0, 2**64)))
    start = draw(st.sampled_from(["", "", "sk-ant-api03-", "sk-proj-"]))
    alphabet = draw(st.sampled_from(ALPHABETS))
    # A colon would end the user's name of a proxy, and a variable's sign start one.
    alphabet = "".join(sorted(set(alphabet) - set("$`")))
    n = draw(st.integers(16, 64))
    return start + "".join(chance.choice(alphabet) for _ in range(n))


def _variable(folder: Path, secret: str) -> tuple[dict[str, str], list[str]]:
    return {"ANTHROPIC_API_KEY": secret}, []


def _padded(folder: Path, secret: str) -> tuple[dict[str, str], list[str]]:
    return {"ANTHROPIC_AUTH_TOKEN": f"  {secret}\n"}, []


def _file(folder: Path, secret: str) -> tuple[dict[str, str], list[str]]:
    file = folder.with_name("key-file")
    file.write_text(f"{secret}\n")
    return {"ANTHROPIC_API_KEY_FILE": str(file)}, []


def _header(folder: Path, secret: str) -> tuple[dict[str, str], list[str]]:
    return {"MY_TOKEN": f"{secret} "}, ["-H", "X-Team: team ${MY_TOKEN}"]


def _proxy(folder: Path, secret: str) -> tuple[dict[str, str], list[str]]:
    return {"PROXY_PASS": secret}, ["--proxy", "http://someone:${PROXY_PASS}@127.0.0.1:{port}"]


WAYS: Final = {way.__name__: way for way in (_variable, _padded, _file, _header, _proxy)}
LOUD: Final = (("-v",), ("--json",), ("-q",), ())

# --- what a person runs, and the search

AFTER: Final = (
    ("status",), ("status", "--json"), ("runs", "--json"), ("errors",), ("errors", "--json"),
    ("jobs",), ("jobs", "--json"), ("show", "jobs", "k0"), ("show", "jobs", "k0", "--json"),
    ("limits",), ("limits", "--json"), ("usage", "--json"), ("key", "list", "--json"),
    ("export",), ("export", "-f", "jsonl"), ("export", "-f", "openai"), ("export", "-f", "anthropic"),
    ("export", "-f", "input"), ("export", "-o", "out.csv"), ("db", "backup", "copy.db"),
    ("db", "check"), ("resume", "-v", "--max-wait", "1", "--log-file", "log"),
)  # fmt: skip


def said_by(*args: str) -> bytes:
    """Run a command here; return all it printed."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        main(list(args))
    data: list[bytes] = [stream.buffer.getvalue() for stream in (out, err)]  # type: ignore[attr-defined]
    return b"".join(data)


def leaks(secret: str, data: bytes) -> list[str]:
    """Return the pieces of a secret that data holds, as it is or encoded."""
    pieces = [secret[n : n + WINDOW].encode() for n in range(len(secret) - WINDOW + 1)]
    encoded = [base64.b64encode(bytes(n) + secret.encode())[4:-4] for n in range(3)]
    pieces += [piece[n : n + 12] for piece in encoded for n in range(len(piece) - 12)]
    pieces.append(quote(secret, safe="").encode())
    pieces.append(json.dumps(secret)[1:-1].encode())
    return [piece.decode() for piece in pieces if piece in data]


def everything(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file's name and bytes."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.name, path.read_bytes()


def is_broken(*_: Any) -> Any:
    """Raise what no code of ours should, with everything in it."""
    raise RuntimeError(f"everything: {dict(os.environ)} {[*WAYS]}")


@pytest.mark.parametrize("mode", MODES)
@settings(
    max_examples=int(os.environ.get("SECRETS_EXAMPLES", "2")),
    deadline=None,
    database=None,
    # Each example takes seconds, and a shorter secret that leaks says nothing more.
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    secret=secrets(),
    way=st.sampled_from(sorted(WAYS)),
    loud=st.sampled_from(LOUD),
    in_line=st.booleans(),
)
def test_no_byte_of_a_secret_is_written(
    mode: str, secret: str, way: str, loud: tuple[str, ...], in_line: bool
) -> None:
    """Whatever a server does with it and whoever looks afterwards: no file and no output holds a secret."""
    with tempfile.TemporaryDirectory() as place, echoing(mode) as port:
        folder = Path(place, "house")
        folder.mkdir()
        variables, options = WAYS[way](folder, secret)
        environ = {
            "PATH": os.environ["PATH"], "HOME": place, "TMPDIR": str(folder),
            "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring", **variables,
        }  # fmt: skip
        body = {"messages": [{"role": "user", "content": "x"}], "model": "m", "max_tokens": 5}
        lines = [{"custom_id": f"k{n}", "params": body} for n in range(2)]
        address = f"http://127.0.0.1:{port}"
        provider = "anthropic"
        if in_line and way == "_header":
            provider, options = "http", []
            lines = [
                {"custom_id": f"k{n}", "method": "POST", "url": "/v1/x", "body": body,
                 "headers": {"X-Team": "team ${MY_TOKEN}"}} for n in range(2)
            ]  # fmt: skip
        (folder / "jobs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        options = [option.replace("{port}", str(port)) for option in options]
        broken = mock.patch.object(Judge, "judge", is_broken)
        with (
            mock.patch.dict(os.environ, environ, clear=True),
            mock.patch.object(tempfile, "tempdir", None),
            contextlib.chdir(folder),
            broken if mode == "defect" else contextlib.nullcontext(),
        ):
            said = {
                "submit": said_by(
                    "submit", "jobs.jsonl", "--provider", provider, "--base-url", address, *options,
                    "--max-attempts", "1", "--max-wait", "1", "--log-file", "log", *loud,
                )
            }  # fmt: skip
            doctor = ("doctor", "--provider", "anthropic", "--model", "m", "--base-url", address)
            for command in (*AFTER, (*doctor, *options), (*doctor, *options, "--json")):
                said[" ".join(command)] = said_by(*command)
        found = [(name, leaks(secret, data)) for name, data in (*said.items(), *everything(folder))]
        assert [leak for leak in found if leak[1]] == []
        # The search has something to search: what is told of the run, and what is stored of it.
        assert b"jobs" in said["status"]
        if mode == "defect":
            assert any(name.startswith("batchrunner-defect-") for name, _ in everything(folder))
        elif mode in {"200", "400"} and way != "_proxy":
            assert b"[redacted]" in (folder / "out.csv").read_bytes()


ENCODINGS: Final[dict[str, Callable[[str], str]]] = {
    "plain": str,
    "url": quote,
    "whole-url": lambda text: quote(text, safe=""),
    "json": json.dumps,
    "raw-json": lambda text: json.dumps(text, ensure_ascii=False),
    "html": html.escape,
    "repr": repr,
}


@given(
    secret=st.text(
        st.sampled_from([*ALPHABETS[2], *["\\"] * 20, "é", "ß", "漢"]), min_size=12, max_size=40
    ),
    first=st.sampled_from(sorted(ENCODINGS)),
    then=st.sampled_from(sorted(ENCODINGS)),
)
@settings(max_examples=300, deadline=None)
def test_a_secret_is_found_through_two_encodings(secret: str, first: str, then: str) -> None:
    """URLs, JSON, HTML and tracebacks within one another: what is put around a secret is left, and it is not."""
    known = Secrets([secret])
    text = f"<<{ENCODINGS[then](ENCODINGS[first](secret))}>>"
    for hidden in (known.hide(text), known.hide_bytes(text.encode()).decode()):
        assert "[redacted]" in hidden
        left = hidden.replace("[redacted]", "")
        assert len(left) <= len("<<>>") + 2 * len(ENCODINGS[then](ENCODINGS[first](".")))


@given(secret=secrets())
@settings(max_examples=20, deadline=None)
def test_the_search_finds_what_it_looks_for(secret: str) -> None:
    """A search that finds nothing would prove nothing."""
    for data in (secret, quote(secret, safe=""), json.dumps(secret)):
        assert leaks(secret, data.encode())
    assert leaks(secret, base64.b64encode(f"someone:{secret}".encode()))
    assert not leaks(secret, re.sub(re.escape(secret), "", f"x{secret}x").encode())
