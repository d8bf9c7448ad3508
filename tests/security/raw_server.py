"""A server that answers each request with the very bytes that it is given, whatever they are."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

__all__ = ["RawServer", "http"]

MESSAGE = (
    b'{"type":"message","model":"m","stop_reason":"end_turn","content":[{"type":"text","text":"hi"}],'
    b'"usage":{"input_tokens":1,"output_tokens":1}}'
)


def http(
    body: bytes = MESSAGE, *, status: bytes = b"200 OK", headers: Mapping[str, bytes] | None = None
) -> bytes:
    """Return one HTTP answer; header values are bytes, since they may be anything."""
    lines = [
        b"HTTP/1.1 " + status,
        b"Content-Length: %d" % len(body),
        b"Content-Type: application/json",
        *(name.encode() + b": " + value for name, value in (headers or {}).items()),
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


class RawServer:
    """Serves on loopback in threads; set :attr:`answer` to what it sends."""

    def __init__(self) -> None:
        """Answer well until told otherwise."""
        self.answer = http()
        #: Requests that came, by what they asked for.
        self.asked: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Self:
        """Begin to serve."""
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close everything."""
        for each in (self._listening, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._open.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection.makefile("rb") as stream:
            while line := stream.readline():
                self.asked.append(line.strip())
                length = 0
                while (header := stream.readline()).strip():
                    name, _, value = header.partition(b":")
                    if name.lower() == b"content-length":
                        length = int(value)
                stream.read(length)
                connection.sendall(self.answer)
