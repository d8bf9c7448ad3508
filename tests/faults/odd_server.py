"""A provider that answers oddly where it is asked to: raw bytes over real sockets, a thread each.

A prompt is ``ask KEY end``; the oddness is the word of the key after its last hyphen, as in
``k1-gzip_bomb``. What is not in :data:`ODDNESSES` gets a good answer. Each request is noted when
its head and the beginning of its body have come.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import zstandard

from tests.fakes import SeenRequest

__all__ = ["ODDNESSES", "OddServer", "running_odd_server"]

_MB: Final = 1 << 20
#: What unpacks to a hundred megabytes: over three times what is allowed.
BOMB: Final = 100 * _MB


def good(text: str, **more: object) -> bytes:
    """Return the body of a good answer."""
    message = {
        "type": "message", "id": "msg_1", "role": "assistant", "model": "sim-1",
        "content": [{"type": "text", "text": text}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 5}, **more,
    }  # fmt: skip
    return json.dumps(message).encode()


def answer(body: bytes, *headers: str, status: str = "200 OK", version: str = "1.1") -> bytes:
    """Return a whole answer of JSON."""
    lines = [
        f"HTTP/{version} {status}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _packed(encoding: str, body: bytes) -> bytes:
    return answer(body, f"Content-Encoding: {encoding}")


def _zeros() -> Iterator[bytes]:
    for _ in range(BOMB // _MB):
        yield bytes(_MB)


def _gzip_bomb(link: socket.socket, text: str) -> None:
    link.sendall(_packed("gzip", gzip.compress(b"".join(_zeros()))))


def _zstd_bomb(link: socket.socket, text: str) -> None:
    packer = zstandard.ZstdCompressor().compressobj()
    body = b"".join(packer.compress(chunk) for chunk in _zeros()) + packer.flush()
    link.sendall(_packed("zstd", body))


def _brotli(link: socket.socket, text: str) -> None:
    """It was not asked for: nothing here can unpack it."""
    link.sendall(_packed("br", b"\x8b\x02\x80" + bytes(100)))


def _chunks(link: socket.socket, chunk: bytes) -> None:
    link.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        link.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")


def _endless(link: socket.socket, text: str) -> None:
    _chunks(link, b" " * 65_536)


def _large(link: socket.socket, text: str) -> None:
    link.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {BOMB}\r\n\r\n".encode())
    for chunk in _zeros():
        link.sendall(chunk)


def _trickle(link: socket.socket, text: str) -> None:
    for byte in answer(good(text)):
        link.sendall(bytes([byte]))
        time.sleep(1.0)


def _never(link: socket.socket, text: str) -> None:
    link.recv(1)


def _never_reads(link: socket.socket, text: str) -> None:
    """The client's body does not fit into what the kernel takes for us; we never take it."""
    _gone(link)


def _gone(link: socket.socket) -> None:
    """Wait for the client's end, without reading what it sends."""
    while True:
        with suppress(TimeoutError):
            # Nothing is taken out; an end that comes behind unread bytes shows as a reset.
            link.settimeout(0.2)
            link.send(b"")
        if not _is_there(link):
            return
        time.sleep(0.1)


def _is_there(link: socket.socket) -> bool:
    state = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state == 1  # TCP_ESTABLISHED


def _send(make: Callable[[str], bytes]) -> Callable[[socket.socket, str], None]:
    return lambda link, text: link.sendall(make(text))


#: What each word does, given the connection and the text of a good answer.
ODDNESSES: Final[dict[str, Callable[[socket.socket, str], None]]] = {
    "trickle": _trickle,
    "never_answers": _never,
    "never_reads": _never_reads,
    "large": _large,
    "endless": _endless,
    "gzip_bomb": _gzip_bomb,
    "zstd_bomb": _zstd_bomb,
    "brotli": _brotli,
    "heavy": _send(lambda text: answer(good(text + "x" * 25_000_000))),
    "no_gzip": _send(lambda _: _packed("gzip", b"this is no gzip")),
    "not_utf8": _send(lambda text: answer(good(text).replace(b" end", b" \xff\xfe\xed\xa0\x80 end"))),
    "deep": _send(lambda _: answer(b'{"type":"message","content":' + b"[" * 100_000)),
    "deep_closed": _send(lambda _: answer(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)),
    "large_header": _send(lambda text: answer(good(text), "X-Large: " + "x" * _MB)),
    "many_headers": _send(
        lambda text: answer(good(text), *(f"X-{n}: {n}" for n in range(10_000)))
    ),
    "html": _send(lambda _: answer(b"<!DOCTYPE html><title>Hello</title><p>Welcome</p>")),
    "empty": _send(lambda _: answer(b"")),
    "continue": _send(lambda text: b"HTTP/1.1 100 Continue\r\n\r\n" + answer(good(text))),
    "early_hints": _send(
        lambda text: b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3 + answer(good(text))
    ),
    "http10": _send(
        lambda text: b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + good(text)
    ),
    "short": _send(lambda text: answer(good(text))[:-20]),
    "long_status": _send(lambda text: answer(good(text), status="200 " + "O" * _MB)),
    "two_lengths": _send(lambda text: answer(good(text), "Content-Length: 3")),
    "no_http": _send(lambda _: b"\x00\x01\x02 what? \r\n\r\n"),
}  # fmt: skip
#: After these the connection may be used again.
_KEPT: Final = frozenset({"not_utf8", "continue", "early_hints", "empty", "deep_closed", "html"})


class OddServer:
    """Where it is, and what it was asked."""

    def __init__(self, listener: socket.socket) -> None:
        """Take a socket that listens."""
        self._listener = listener
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._seen: list[SeenRequest] = []
        self._links: list[socket.socket] = []
        self._lock = threading.Lock()

    def requests(self) -> list[SeenRequest]:
        """Return what came, in order."""
        with self._lock:
            return list(self._seen)

    def serve(self) -> None:
        """Take connections until the listener is closed."""
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            self._links.append(link)
            threading.Thread(target=self._talk, args=(link,), daemon=True).start()

    def close(self) -> None:
        """End every conversation, and take no more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """End every conversation."""
        links, self._links = self._links, []
        for link in links:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()

    def _talk(self, link: socket.socket) -> None:
        with suppress(OSError, EOFError), link:
            while self._exchange(link):
                pass

    def _exchange(self, link: socket.socket) -> bool:
        """Answer one request; return whether another may follow."""
        taken = b""
        while (found := re.search(rb'"ask (\S+) end', taken)) is None:
            data = link.recv(4096)
            if not data:
                return False
            taken += data
        key = found[1].decode()
        self._note(key)
        word = key.rpartition("-")[2]
        if word != "never_reads":
            head, _, body = taken.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length is not None
            while len(body) < int(length[1]):
                data = link.recv(65_536)
                if not data:
                    return False
                body += data
        text = f"answer to {key} end"
        odd = ODDNESSES.get(word)
        if odd is None:
            link.sendall(answer(good(text)))
            return True
        odd(link, text)
        return word in _KEPT

    def _note(self, key: str) -> None:
        seen = SeenRequest(
            t=time.time(), mono=time.monotonic(), n=len(self._seen) + 1, method="POST",
            path="/v1/messages", query={}, prompt=f"ask {key} end", key="", status=None,
            fault=None, cause=None, auth=None, auth_in=[], headers={}, body="",
        )  # fmt: skip
        with self._lock:
            self._seen.append(seen)


@contextmanager
def running_odd_server() -> Iterator[OddServer]:
    """Serve for the length of the block."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        server = OddServer(listener)
        threading.Thread(target=server.serve, daemon=True).start()
        try:
            yield server
        finally:
            server.close()
