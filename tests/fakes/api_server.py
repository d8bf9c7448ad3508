"""A provider that does what a script says, in a process of its own.

A script is a JSON list of rules; the first that matches a request decides it, and what no rule
matches is answered like the simulator would (200, unless ``--options`` set limits or faults).

    {"n": 3}, {"n": [3, 4]}   the n-th requests since the script was set, from 1
    {"from": 3, "to": 9}      a range of them; either end may be missing
    {"every": 5}              each fifth
    {"contains": "X"}         requests whose prompt contains X (for no prompt: whose body does)
    {"path": "/v1/x"}         requests for that path          {"method": "GET"}
    {"times": 2}              with any of these: so many times at most

    "status": 429, "headers": {…}, "body": object or text (default: the provider's error of that
    status, for 2xx the simulator's answer), "delay_s": 0.5,
    "fault": "reset" | "cut" | "close" | "hang" | "garbage"

``GET /_log`` returns the log, ``POST /_script`` sets a new script. The process ends on SIGTERM, and
when what it was told of its parent ends, so it never outlives who started it.
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from batchrunner.providers.simulator import Fault, Incoming, Plan, Simulator, SimulatorConfig

_CREDENTIALS = frozenset({"authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"})


class Rule(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One rule of a script; an empty condition matches every request."""

    n: int | list[int] | None = None
    first: int | None = msgspec.field(name="from", default=None)
    last: int | None = msgspec.field(name="to", default=None)
    every: int | None = None
    contains: str | None = None
    path: str | None = None
    method: str | None = None
    times: int | None = None

    status: int = 200
    headers: dict[str, str] = {}
    body: Any = None
    delay_s: float = 0.0
    fault: Fault | None = None

    def matches(self, n: int, incoming: Incoming) -> bool:
        """Say whether the rule is about the n-th request of the script."""
        numbers = [self.n] if isinstance(self.n, int) else self.n
        text = incoming.prompt or incoming.body.decode(errors="replace")
        return (
            (numbers is None or n in numbers)
            and (self.first is None or n >= self.first)
            and (self.last is None or n <= self.last)
            and (self.every is None or n % self.every == 0)
            and (self.contains is None or self.contains in text)
            and (self.path is None or self.path == incoming.path)
            and (self.method is None or self.method == incoming.method)
            and (self.times is None or self.times > 0)
        )


class ScriptedServer(Simulator):
    """The simulator, with a script in front of it and a fuller log."""

    def __init__(self, config: SimulatorConfig, *, log: Path, script: bytes = b"[]") -> None:
        """Take the first script; raises ``msgspec.ValidationError`` where it is none."""
        super().__init__(config, log=log)
        self._log_file = log
        self._rules: list[Rule] = []
        self._n_scripted = 0
        self.set_script(script)

    def set_script(self, script: bytes) -> None:
        """Replace the rules and count from 1 again."""
        self._rules = msgspec.json.decode(script, type=list[Rule])
        self._n_scripted = 0

    def plan(self, incoming: Incoming) -> Plan:
        """Follow the first rule that matches, else answer as the simulator does."""
        self._n_scripted += 1
        for rule in self._rules:
            if rule.matches(self._n_scripted, incoming):
                if rule.times is not None:
                    rule.times -= 1
                return self._follow(rule, incoming)
        return super().plan(incoming)

    def _follow(self, rule: Rule, incoming: Incoming) -> Plan:
        cause = rule.fault or (None if rule.status == 200 else "scripted")
        if rule.body is None and rule.status < 300:
            plan = super().plan(incoming)
            return replace(
                plan,
                status=rule.status if plan.status == 200 else plan.status,
                headers={**plan.headers, **rule.headers},
                delay_s=plan.delay_s + rule.delay_s,
                fault=rule.fault or plan.fault,
                cause=cause or plan.cause,
            )
        body = _bytes(rule.body) if rule.body is not None else None
        return Plan(
            status=rule.status,
            headers={"content-type": "application/json", "request-id": f"req_{incoming.n}"}
            | {name.lower(): value for name, value in rule.headers.items()},
            body=self.error_body(incoming, rule.status) if body is None else body,
            delay_s=rule.delay_s,
            fault=rule.fault,
            cause=cause,
        )

    def log_fields(self, incoming: Incoming, plan: Plan) -> dict[str, Any]:
        """Add the monotonic clock, the body, the query, the headers, and a hash of the credential."""
        auth = incoming.credential
        return {
            **super().log_fields(incoming, plan),
            "mono": time.monotonic(),
            "method": incoming.method,
            "query": dict(incoming.query),
            "auth": hashlib.sha256(auth.encode()).hexdigest()[:16] if auth else None,
            "auth_in": sorted(_CREDENTIALS.intersection(map(str.lower, incoming.headers))),
            "headers": _plain(incoming.headers),
            "body": incoming.body.decode(errors="replace"),
        }

    async def control(self, request: web.BaseRequest) -> web.Response | None:
        """Answer ``/_log`` and ``/_script``, and the model list if no rule is about it."""
        if request.path == "/_log":
            return web.Response(body=self._log_file.read_bytes(), content_type="application/jsonl")
        if request.path == "/_script":
            try:
                self.set_script(await request.read())
            except msgspec.DecodeError as error:
                return web.Response(status=400, text=str(error))
            return web.Response(text="ok")
        if any(rule.path == request.path for rule in self._rules):
            return None
        return await super().control(request)


def _bytes(body: Any) -> bytes:
    return body.encode() if isinstance(body, str) else msgspec.json.encode(body)


def _plain(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers without the credentials."""
    lower = {name.lower(): value for name, value in headers.items()}
    return {name: value for name, value in lower.items() if name not in _CREDENTIALS}


async def _serve(server: ScriptedServer, port: int, parent: Connection) -> None:
    """Tell the parent the base URL, and serve until SIGTERM or the parent's end."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_reader(parent.fileno(), stop.set)
    parent.send(await server.start(port))
    await stop.wait()
    loop.remove_reader(parent.fileno())
    await server.stop()


def run(port: int, log: Path, script: str, options: str, parent: Connection) -> None:
    """Serve, in the process that this is called in; ``parent`` gets the base URL, or why there is none."""
    log.touch()
    fields = {"require_version": False, **msgspec.json.decode(options)}
    try:
        config = msgspec.convert(fields, SimulatorConfig)
        server = ScriptedServer(config, log=log, script=script.encode())
    except msgspec.DecodeError as error:
        parent.send(error)
        return
    asyncio.run(_serve(server, port, parent))
