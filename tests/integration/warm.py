"""Commands as processes that are forked from one which has imported the program: half a second less each.

    forked = spawn(["status"], cwd=folder, env=environ, fds=(0, 1, 2))
    forked.wait(30)

What is forked is a process like any other: of its own pid, descriptors, folder and environment, ended by
signals, and it ends as an interpreter does. Only what the interpreter reads when it starts is that of
the first one: :func:`is_alike` tells whether an environment asks for another.

Run as a module it is that first process. It reads requests from the socket whose descriptor is its
argument, and ends with it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
import pkgutil
import random
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Final

__all__ = ["Forked", "is_alike", "run", "spawn"]

#: What an interpreter, or a module of the program, reads of its environment when it starts.
_READ_AT_START: Final = ("PYTHON", "LANG", "LC_", "LD_", "BATCHRUNNER_FAILPOINT", "OPENSSL", "SSL_")
#: A request is no longer.
_MOST: Final = 1 << 20
_BASE: Final = {"LANG": "C.UTF-8", "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}


def is_alike(env: Mapping[str, str]) -> bool:
    """Return whether an interpreter that starts with ``env`` is as the first process is."""
    read = {name: value for name, value in env.items() if name.startswith(_READ_AT_START)}
    return read == _BASE


class Forked:
    """A command that was started; the part of :class:`subprocess.Popen` that tests use."""

    def __init__(self, args: Sequence[str], told: socket.socket) -> None:
        """Take the socket on which its pid, then its end are told."""
        self.args = list(args)
        self._told = told
        self.pid = int(self._line())
        self.returncode: int | None = None

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            if not (part := self._told.recv(1)):
                raise RuntimeError("the process that commands are forked from has ended")
            line += part
        return line

    def poll(self) -> int | None:
        """Return its code if it has ended, else ``None``."""
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return its code; negative: the signal."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return code

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._told, selectors.EVENT_READ)
                if not selector.select(timeout):
                    return None
            self.returncode = int(self._line())
            self._told.close()
        return self.returncode

    def send_signal(self, signum: int) -> None:
        """Send it a signal, if it is there."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """End it like a power cut does."""
        self.send_signal(signal.SIGKILL)


def spawn(
    args: Sequence[str], *, cwd: Path, env: Mapping[str, str], fds: tuple[int, int, int],
    is_session: bool = False,
) -> Forked:  # fmt: skip
    """Start a command with these as its stdin, stdout and stderr; ``is_session``: in a session of its own."""
    ours, theirs = socket.socketpair()
    request = {"args": list(args), "cwd": str(cwd), "env": dict(env), "is_session": is_session}
    with theirs:
        socket.send_fds(_first(), [json.dumps(request).encode()], [*fds, theirs.fileno()])
    return Forked(args, ours)


def run(
    args: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: bytes | BinaryIO, timeout: float
) -> tuple[int, bytes, bytes]:  # fmt: skip
    """Run a command to its end with pipes; return its code, what it wrote on stdout, and on stderr."""
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    source, source_end = os.pipe() if isinstance(stdin, bytes) else (os.dup(stdin.fileno()), -1)
    try:
        forked = spawn(args, cwd=cwd, env=env, fds=(source, out_end, err_end))
    finally:
        for fd in (source, out_end, err_end):
            os.close(fd)
    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(_read, fd) for fd in (out, err)]
        if isinstance(stdin, bytes):
            pool.submit(_write, source_end, stdin)
        try:
            code = forked.wait(timeout)
        except subprocess.TimeoutExpired:
            forked.kill()
            raise
        return code, readers[0].result(), readers[1].result()


def _read(fd: int) -> bytes:
    with open(fd, "rb") as stream:
        return stream.read()


def _write(fd: int, data: bytes) -> None:
    # Who does not read to the end is not told the rest.
    with suppress(BrokenPipeError), open(fd, "wb") as stream:
        stream.write(data)


@cache
def _first() -> socket.socket:
    """Start the process that the others are forked from."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MOST)
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(theirs.fileno())],
        cwd=Path(__file__).parents[2],
        env={**_BASE, "PATH": os.environ["PATH"]},
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
    )
    theirs.close()
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def _import_all() -> None:
    program = importlib.import_module("batchrunner")
    for module in pkgutil.walk_packages(program.__path__, "batchrunner."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork a child for each request and tell of its end; return in the child, with the request."""
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is not requests:
                selector.unregister(key.fd)
                pid, told = key.data
                _, status = os.waitpid(pid, 0)
                told.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
                told.close()
                os.close(key.fd)
                continue
            said, fds, _, _ = socket.recv_fds(requests, _MOST, 4)
            if not said:
                return None
            pid = os.fork()
            if not pid:
                for number, fd in enumerate(fds[:3]):
                    os.dup2(fd, number)
                selector.close()
                return dict(json.loads(said))
            for fd in fds[:3]:
                os.close(fd)
            told = socket.socket(fileno=fds[3])
            told.sendall(b"%d\n" % pid)
            selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, told))


def _become(request: Mapping[str, Any]) -> None:
    """Be what was asked for."""
    os.closerange(3, 1024)
    if request["is_session"]:
        os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    random.seed()
    sys.argv = ["batchrunner", *request["args"]]
    # As the interpreter makes them, for what they are now.
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        was = getattr(sys, f"__{name}__")
        raw = open(number, "rb" if number == 0 else "wb", closefd=False)  # noqa: SIM115 (the process's own)
        stream = io.TextIOWrapper(
            raw, encoding=was.encoding, errors=was.errors, newline="\n",
            line_buffering=number == 2 or os.isatty(number),
        )  # fmt: skip
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _run() -> None:
    _import_all()
    gc.collect()
    gc.freeze()
    requests = socket.socket(fileno=int(sys.argv[1]))
    asked = _serve(requests)
    if asked is None:
        return
    requests.detach()
    _become(asked)
    runpy.run_module("batchrunner", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _run()
