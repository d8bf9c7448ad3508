"""Stand-ins for the world outside.

with running_server([{"n": 2, "status": 529}]) as api:
    ...                      # send to api.url
    assert [r.status for r in api.requests()] == [200, 529, 200]
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

__all__ = ["ApiServer", "SeenRequest", "running_server"]

Script = Sequence[dict[str, Any]]

#: Servers are forked from a process that has imported all they need: a second less for each.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.fakes.api_server"])
#: A proxy of the environment must not come between a test and its own machine.
_OPENER = build_opener(ProxyHandler({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRequest:
    """One line of the server's log."""

    #: Received, epoch seconds.
    t: float
    #: Received, ``time.monotonic`` of this machine (comparable between processes on Linux).
    mono: float
    #: From 1, over the life of the server.
    n: int
    method: str
    path: str
    query: dict[str, str]
    #: The last user message; empty where the body has none.
    prompt: str
    #: SHA-256 of the body, hex.
    key: str
    #: ``None`` where the client got no status line.
    status: int | None
    fault: str | None
    cause: str | None
    #: Start of the SHA-256 of the credential; ``None`` where none came.
    auth: str | None
    #: Names of the headers that it came in.
    auth_in: list[str]
    #: Names in lower case, credentials left out.
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class ApiServer:
    """A running fake provider."""

    def __init__(self, process: ForkServerProcess, url: str, log_path: Path) -> None:
        """Wrap a process that already accepts connections."""
        self._process = process
        self.url = url
        self.log_path = log_path

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return int(self.url.rpartition(":")[2])

    def requests(self) -> list[SeenRequest]:
        """Return everything received so far, in order; works after :meth:`stop` too, until the block ends."""
        names = {field.name for field in fields(SeenRequest)}
        rows = map(json.loads, self.log_path.read_text().splitlines())
        return [SeenRequest(**{name: row[name] for name in names}) for row in rows]

    def script(self, rules: Script) -> None:
        """Replace the script; its ``n`` counts from the next request."""
        body = json.dumps(list(rules)).encode()
        request = Request(f"{self.url}/_script", data=body, method="POST")
        with _OPENER.open(request, timeout=10) as response:
            response.read()

    def stop(self) -> None:
        """Stop the process and wait for its end; stopping twice does no harm."""
        if self._process.is_alive():
            self._process.terminate()
        self._process.join(10)
        if self._process.is_alive():
            raise RuntimeError("the fake provider does not end")


@contextmanager
def running_server(
    script: Script = (), *, port: int = 0, log: Path | None = None, **options: Any
) -> Iterator[ApiServer]:
    """Run a fake provider in its own process for the length of the block.

    ``options`` are fields of ``SimulatorConfig``. ``port`` and ``log`` are for a server that comes
    back where, and goes on in the log that, an earlier one left.
    """
    with ExitStack() as stack:
        if log is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fake-api-"))
            log = Path(folder, "requests.jsonl")
        here, there = _FORKS.Pipe()
        process = _FORKS.Process(
            target=_run, args=(port, log, json.dumps(list(script)), json.dumps(options), there)
        )
        process.start()
        there.close()
        stack.callback(here.close)
        server = ApiServer(process, "", log)
        stack.callback(server.stop)
        said = here.recv()
        if isinstance(said, Exception):
            raise RuntimeError(f"the fake provider did not start: {said}")
        server.url = said
        yield server


def _run(*arguments: Any) -> None:
    from tests.fakes.api_server import run  # noqa: PLC0415 (aiohttp, for the server's process alone)

    run(*arguments)
