"""Something between the program and PostgreSQL that loses one commit on its way, there or back, or leads nowhere."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

#: Where the connection breaks: before the server gets the commit, or before the program gets its answer;
#: ``silent``: it does not break, and nothing passes any more.
When = Literal["before", "after", "silent"]
#: How whoever sends commits: the end of a message.
_COMMIT = b"; COMMIT\x00"
#: How the server says that it did.
_DONE = b"COMMIT\x00"


class CuttingProxy:
    """A port that leads to a server's, and breaks one connection at its next commit once it is told to."""

    def __init__(self, port: int) -> None:
        """Take where it leads; it listens at once."""
        self._far = port
        self._when: When | None = None
        self._open: set[socket.socket] = set()
        #: Whether it leads nowhere for now.
        self.is_shut = False
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def break_next_commit(self, when: When) -> None:
        """Break the connection that commits next."""
        self._when = when

    def shut(self) -> None:
        """Break every connection, and each that comes, until :attr:`is_shut` is false again."""
        self.is_shut = True
        for one in list(self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Take no connection any more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                if self.is_shut:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._far))
            except OSError:
                return
            self._open |= {near, far}
            threading.Thread(target=self._pass_on, args=(near, far), daemon=True).start()

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError), near, far:
            while True:
                for source in select.select([near, far], [], [])[0]:
                    data = source.recv(65_536)
                    if not data:
                        return
                    if source is near and self._when and data.endswith(_COMMIT):
                        self._lose(near, far, data)
                        return
                    (far if source is near else near).sendall(data)

    def _lose(self, near: socket.socket, far: socket.socket, commit: bytes) -> None:
        when, self._when = self._when, None
        if when == "after":
            far.sendall(commit)
            answer = b""
            while _DONE not in answer:
                answer += far.recv(65_536)
        elif when == "silent":
            # Until the program itself gives it up.
            while near.recv(65_536):
                pass


@contextmanager
def cutting_proxy(port: int) -> Iterator[CuttingProxy]:
    """Lead to ``port`` for the length of the block."""
    proxy = CuttingProxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
