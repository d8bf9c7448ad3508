"""How soon a connection notices that there is nobody at its other end.

A server that is busy, or stands still, still has its kernel acknowledge what it gets; a network that
swallows everything does not. So a slow statement is waited for, and a lost way is told within half a
minute, whatever the statement waits for.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import asyncpg

__all__ = ["sound_out"]

#: By the option's name, where the system has it (macOS calls the first one otherwise).
_OPTIONS: Final = (
    # After so long without a word the other end is asked, so often, so many times (seconds).
    ("TCP_KEEPIDLE", 10),
    ("TCP_KEEPALIVE", 10),
    ("TCP_KEEPINTVL", 5),
    ("TCP_KEEPCNT", 3),
    # What was sent has to be acknowledged within that (milliseconds).
    ("TCP_USER_TIMEOUT", 25_000),
)


def sound_out(connection: asyncpg.Connection) -> None:
    """Have a connection fail within half a minute where its way is lost."""
    # There is no public way to it (asyncpg 0.31).
    transport: Any = connection._transport  # noqa: SLF001
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family == getattr(socket, "AF_UNIX", None):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OPTIONS:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
