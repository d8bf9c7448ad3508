"""What the benchmarks share: processes that are measured, job files, a canned server, tables.

Everything runs on the loopback and in a temporary folder that is removed. Programs under test are
processes of their own, so that their imports, memory and event loop are theirs.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple, Protocol

#: Key that the canned servers take; nothing else does.
API_KEY = "sk-bench-0000000000000000"
MODEL = "gpt-4o-mini"
RUN = "bench"

_NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    log_format times '$msec $status';
    access_log {folder}/access.log times buffer=256k;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 100000000;
    keepalive_timeout 600s;
    tcp_nodelay on;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        default_type application/json;
        location / {{ return 200 '{answer}'; }}
    }}
}}
"""

_WORDS = "the quick brown fox jumps over the lazy dog while rain falls on every roof in town "


class Usage(NamedTuple):
    """What a process took from its start to its end."""

    code: int
    wall_s: float
    cpu_s: float
    #: The most memory it ever had (the kernel's VmHWM).
    peak_mb: float


class Watcher(Protocol):
    """Looks at a running process."""

    def watching(self, pid: int) -> AbstractContextManager[None]:
        """Look while the context lasts."""


class Threads:
    """Processor time of a running process by thread, noted fifty times a second (Linux only)."""

    def __init__(self) -> None:
        """Note nothing yet."""
        #: (wall time, ns of the main thread, ns of all threads)
        self._notes: list[tuple[float, int, int]] = []
        self._ended = threading.Event()

    @contextmanager
    def watching(self, pid: int) -> Iterator[None]:
        """Note the process's threads while the context lasts."""
        watcher = threading.Thread(target=self._watch, args=(pid,))
        watcher.start()
        try:
            yield
        finally:
            self._ended.set()
            watcher.join()

    def _watch(self, pid: int) -> None:
        while not self._ended.wait(0.02):
            try:
                ns = {
                    int(task.parent.name): int(task.read_text().split()[0])
                    for task in Path(f"/proc/{pid}/task").glob("*/schedstat")
                }
            except OSError:  # a thread or the process has just ended
                continue
            if pid in ns:
                self._notes.append((time.time(), ns[pid], sum(ns.values())))

    def between(self, first: float, last: float) -> tuple[float, float]:
        """Return the seconds that the main thread and all others took between two instants."""
        inside = [note for note in self._notes if first <= note[0] <= last]
        if len(inside) < 2:
            return math.nan, math.nan
        (began, main_0, all_0), (ended, main_1, all_1) = inside[0], inside[-1]
        # A little is missing at both ends.
        whole = (last - first) / (ended - began) / 1e9
        main = main_1 - main_0
        return main * whole, (all_1 - all_0 - main) * whole


class Served(NamedTuple):
    """What a server's own log says of one stretch of requests."""

    n: int
    first: float
    last: float

    @property
    def per_second(self) -> float:
        """Requests a second from the first answered to the last."""
        return (self.n - 1) / (self.last - self.first)


# Processes


#: glibc gives a freed buffer of aiohttp's reads (256 kB) back to the kernel at each read until some
#: larger one was freed; what a process happened to do before decides. With these it never does.
KEPT_BUFFERS = {"MALLOC_MMAP_THRESHOLD_": "4000000", "MALLOC_TRIM_THRESHOLD_": "8000000"}


def environment(
    base_url: str | None = None, *, loop: str = "asyncio", keeps_buffers: bool = False
) -> dict[str, str]:
    """Return what a program under test sees: a key, an address, an event loop, no proxy."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    kept |= {"OPENAI_API_KEY": API_KEY, "BATCHRUNNER_LOOP": loop, "PYTHONHASHSEED": "0"}
    kept |= KEPT_BUFFERS if keeps_buffers else {}
    return kept if base_url is None else kept | {"OPENAI_BASE_URL": f"{base_url}/v1"}


def run_process(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    codes: Sequence[int] = (0,),
    threads: Watcher | None = None,
) -> Usage:
    """Run ``python ARGUMENTS`` to its end and return what it took; ``threads`` takes notes.

    Raises ``RuntimeError`` with its last words where it ends with another code than ``codes``.
    """
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments],
        env=environment() if env is None else env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stderr is not None
        with nullcontext() if threads is None else threads.watching(process.pid):
            said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in codes:
        words = said.decode(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}:\n{words}")
    return Usage(
        process.returncode, wall_s, used.ru_utime + used.ru_stime, _megabytes(used.ru_maxrss)
    )


def batchrunner(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    codes: Sequence[int] = (0,),
    threads: Watcher | None = None,
) -> Usage:
    """Run the command line to its end, without progress on stderr."""
    return run_process(
        ["-m", "batchrunner", "-q", *arguments], env=env, codes=codes, threads=threads
    )


def _megabytes(ru_maxrss: int) -> float:
    return ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# The canned server


class Nginx:
    """A server that answers every request with the same completion, and notes when."""

    def __init__(self, folder: Path, port: int) -> None:
        """Name the folder of its log and its port."""
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / "access.log"

    def served(self) -> Served:
        """Return what was answered, in order; only after the server has stopped."""
        times = list(self.times())
        if len(times) < 2:
            raise RuntimeError(f"nginx answered {len(times)} requests")
        return Served(len(times), min(times), max(times))

    def times(self) -> Iterator[float]:
        """Yield when each answer was given, as ``time.time``; only after the server has stopped."""
        with self._log.open() as lines:
            for line in lines:
                at, _, status = line.partition(" ")
                if status.strip() != "200":
                    raise RuntimeError(f"nginx answered {status.strip()}")
                yield float(at)


@contextmanager
def nginx(folder: Path, answer: str | None = None) -> Iterator[Nginx]:
    """Run a fresh nginx (from ``PATH``) with a configuration written here, as its own process."""
    folder.mkdir(parents=True)
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port, answer=answer or canned_answer()))
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            ["nginx", "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(config)],
            stdout=out,
            stderr=out,
        )
    try:
        _wait_for(port, process, folder / "error.log")
        yield Nginx(folder, port)
    finally:
        # QUIT writes the buffered log to the end.
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait(10)


def _wait_for(port: int, process: subprocess.Popen[bytes], said: Path) -> None:
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}: {said.read_text()}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise RuntimeError("the server does not listen")


def canned_answer() -> str:
    """Return the completion that the canned server gives, about 400 bytes."""
    message = {"role": "assistant", "content": "It is one of three: " + _WORDS.strip() + "."}
    return json.dumps(
        {
            "id": "chatcmpl-000000000000000000000000",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 210, "completion_tokens": 23, "total_tokens": 233},
        }
    )


# Jobs


def job_line(number: int, size: int) -> bytes:
    """Return one line of an OpenAI batch file of about ``size`` bytes."""
    line = {
        "custom_id": f"job-{number:07d}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": MODEL,
            "max_tokens": 64,
            "messages": [{"role": "user", "content": f"{number}: "}],
        },
    }
    missing = size - len(json.dumps(line)) - 1
    text = (_WORDS * (missing // len(_WORDS) + 1))[: max(0, missing)]
    line["body"]["messages"][0]["content"] += text  # type: ignore[index]
    return json.dumps(line).encode() + b"\n"


def write_jobs(path: Path, n: int, size: int = 1024) -> Path:
    """Write ``n`` lines and return the path."""
    with path.open("wb") as out:
        out.writelines(job_line(number, size) for number in range(n))
    return path


def store_jobs(db: Path, jobs: Path) -> Usage:
    """Store a job file as a run without sending anything."""
    return batchrunner(
        "submit", str(jobs), "--no-run", "--provider", "openai", "--name", RUN, "--db", str(db)
    )


def resume(
    db: Path,
    base_url: str,
    *options: str,
    loop: str,
    keeps_buffers: bool = False,
    codes: Sequence[int] = (0,),
    threads: Watcher | None = None,
) -> Usage:
    """Drain the run at full speed, 100 at a time."""
    return batchrunner(
        "resume", RUN, "--db", str(db), "--base-url", f"{base_url}/v1",
        "--rpm", "none", "-c", "100", *options,
        env=environment(loop=loop, keeps_buffers=keeps_buffers), codes=codes, threads=threads,
    )  # fmt: skip


# Words


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table; the first column is text, the others numbers."""
    print("| " + " | ".join(headings) + " |")
    print("|:--" + "|--:" * (len(headings) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)


def verdict(value: float, bar: float, *, at_most: bool = False) -> str:
    """Say a value's bar and whether it is kept."""
    is_kept = value <= bar if at_most else value >= bar
    return f"{'≤' if at_most else '≥'} {bar:g}: {'kept' if is_kept else '**missed**'}"


def print_machine(*more: str) -> None:
    """Print when, on what, and with which versions this was measured."""
    packages = " · ".join(f"{name} {_version(name)}" for name in ("batchrunner", "aiohttp", *more))
    load = os.getloadavg()[0]
    print(
        f"{time.strftime('%Y-%m-%d %H:%M')} · {os.cpu_count()} cores, {_cpu()} · "
        f"{platform.system()} {platform.release()} · Python {platform.python_version()} · "
        f"SQLite {sqlite3.sqlite_version} · {packages} · load when started {load:.1f}\n",
        flush=True,
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
