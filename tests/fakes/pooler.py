"""A real pgbouncer in front of a server of the tests' own."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg

from tests.fakes.postgres_server import PostgresServer

_PATIENCE_S = 30.0
_CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = {mode}
default_pool_size = {size}
logfile = {folder}/log
"""


def program() -> Path | None:
    """Return pgbouncer; ``None``: it is not on this machine."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    found = shutil.which("pgbouncer", path=path)
    return Path(found) if found else None


class Pooler:
    """pgbouncer, which lets everybody in as whoever they say."""

    def __init__(
        self, binary: Path, server: PostgresServer, folder: Path, mode: str, size: int
    ) -> None:
        """Write its configuration; :meth:`start` starts it."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._server = server
        self._size = size
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            # It won't run as root.
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        (folder / "users").write_text('"tester" ""\n')
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            _CONFIGURATION.format(
                server=server.port, port=self.port, folder=folder, mode=mode, size=size
            )
        )
        for file in (folder / "users", configuration):
            file.chmod(0o644)
        self._command = [str(binary), "-q", str(configuration)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, **self._as,
        )  # fmt: skip
        ends = time.monotonic() + _PATIENCE_S
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self._process.poll() is None, "pgbouncer ended"
            assert time.monotonic() < ends, "pgbouncer did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        """Break off its clients, and end it."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(_PATIENCE_S)

    def settings(self, name: str) -> set[str | None]:
        """Return what the sessions behind it were told and have kept."""

        async def asked() -> set[str | None]:
            async with AsyncExitStack() as stack:
                found: set[str | None] = set()
                # As many at once as there are, so that none is left out.
                for _ in range(self._size):
                    connection = await asyncpg.connect(
                        host="127.0.0.1", port=self.port, user="tester", database="postgres",
                        statement_cache_size=0,
                    )  # fmt: skip
                    stack.push_async_callback(connection.close)
                    await stack.enter_async_context(connection.transaction())
                    found.add(await connection.fetchval("SELECT current_setting($1, true)", name))
                return found

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, asked()).result()

    def url(self, schema: str) -> str:
        """Return the address of a schema behind it."""
        return self._server.url(schema).replace(f":{self._server.port}/", f":{self.port}/")


@contextmanager
def running_pooler(
    binary: Path, server: PostgresServer, *, mode: str, size: int
) -> Iterator[Pooler]:
    """Run a pooler while the context lasts."""
    with tempfile.TemporaryDirectory(prefix="brpb-", ignore_cleanup_errors=True) as name:
        pooler = Pooler(binary, server, Path(name), mode, size)
        pooler.start()
        try:
            yield pooler
        finally:
            pooler.stop()
