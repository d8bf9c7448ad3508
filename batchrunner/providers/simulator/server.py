"""The simulator: a local HTTP server that behaves like a provider, limits and bad days included.

It listens on the loopback only, needs no key and keeps nothing. Every request that arrived whole is
decided on at once (:meth:`Simulator.plan`), written to the log, and only then answered, so that the
log holds what was received even if the client dies while it waits.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

from batchrunner.providers.simulator.cache import PromptCache
from batchrunner.providers.simulator.config import Fault, SimulatorConfig, SimulatorStats
from batchrunner.providers.simulator.dialects import (
    ANTHROPIC,
    DIALECTS,
    model_list,
    request_id,
)
from batchrunner.providers.simulator.exchange import MARK, MESSAGES, Fate, Incoming, Plan
from batchrunner.providers.simulator.log import RequestLog
from batchrunner.providers.simulator.windows import Standing, day_window, minute_window
from batchrunner.providers.simulator.wire import Asked, Dialect, InvalidBodyError

#: What the Messages API takes.
_MAX_BODY: Final = 32 * 1024 * 1024
_DEFAULT_MODELS: Final = ("sim-1", "sim-1-large")
_NO_SUCH: Final = "no-such-"
#: Zero linger makes the kernel send RST instead of FIN.
_ABORT: Final = struct.pack("ii", 1, 0)

#: Drawn faults that are answers, and their status.
_FAULT_STATUS: Final[Mapping[Fault, int]] = {
    Fault.RATE_LIMITED: 429,
    Fault.OVERLOADED: 529,
    Fault.SERVER_ERROR: 500,
}

#: ``Plan.cause`` → the count it belongs to; other causes are ``refused``.
_COUNTS: Final[Mapping[str | None, str]] = {
    None: "answered",
    "minute": "over_minute",
    "day": "over_day",
    "throttle": "throttled",
    Fault.RATE_LIMITED: "throttled",
} | {fault: "faults" for fault in Fault if fault is not Fault.RATE_LIMITED}


class Simulator:
    """A simulated provider; ``async with Simulator(config) as base_url`` starts and stops it."""

    def __init__(
        self,
        config: SimulatorConfig | None = None,
        *,
        log: Path | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Prepare a server; it listens from :meth:`start` on.

        ``log`` names a file to which a line is appended for each request; ``now`` is the clock of
        the limits, epoch seconds.
        """
        self.config = config or SimulatorConfig()
        self._now = now
        self._fate = Fate(self.config)
        self._minute = minute_window(self.config)
        self._day = day_window(self.config)
        self._cache = PromptCache(least=self.config.cache_least, kept_s=self.config.cache_s)
        self._throttled_until = -math.inf
        self._throttle_at = frozenset(self.config.throttle_at)
        self._n = 0
        self._counts: Counter[str] = Counter()
        self._log_path = log
        self._log: RequestLog | None = None
        self._runner: web.ServerRunner | None = None
        self._stopping = asyncio.Event()

    async def __aenter__(self) -> str:
        """Start; return the base URL."""
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def start(self, port: int = 0) -> str:
        """Listen on the loopback and return the base URL (without a slash or ``/v1`` at its end).

        Port 0 takes a free one. Raises ``OSError`` where the port is taken or the log can't be written.
        """
        server = web.Server(
            self._serve,
            request_factory=_request,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=75.0,
        )
        self._stopping.clear()
        if self._log_path is not None:
            self._log = RequestLog(self._log_path)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, backlog=1024, reuse_address=True)
        try:
            await site.start()
        except OSError:
            await self.stop()
            raise
        address = self._runner.addresses[0]
        return f"http://127.0.0.1:{address[1]}"

    async def stop(self) -> None:
        """Close the connections and the log; stopping twice does no harm."""
        self._stopping.set()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        log, self._log = self._log, None
        if log is not None:
            log.close()

    @property
    def stats(self) -> SimulatorStats:
        """What has been received so far."""
        return SimulatorStats(received=self._n, **self._counts)

    def plan(self, incoming: Incoming) -> Plan:
        """Decide what becomes of a request; uses up limits and faults, touches no connection."""
        dialect = DIALECTS.get(incoming.path)
        if dialect is None:
            return self._refuse(ANTHROPIC, incoming, 404, "Not found", cause="path")
        if (refusal := self._credential_refusal(incoming)) is not None:
            return self._refuse(dialect, incoming, 401, refusal, cause="credential")
        if (limited := self._admit(dialect, incoming)) is not None:
            return limited
        drawn = self._fate.draw(incoming.prompt)
        if drawn.fault is not None and (status := _FAULT_STATUS.get(drawn.fault)):
            plan = self._refuse(dialect, incoming, status, MESSAGES[status], cause=drawn.fault)
            if status == 429:
                plan = _with_retry_after(plan, self.config.retry_after_s)
            return replace(plan, delay_s=drawn.latency_s)
        plan = self._reply(dialect, incoming, begins_at=incoming.t + drawn.latency_s)
        plan = replace(plan, delay_s=drawn.latency_s)
        if drawn.fault is not None:
            plan = replace(plan, fault=drawn.fault, cause=drawn.fault)
        return plan

    def log_fields(self, incoming: Incoming, plan: Plan) -> dict[str, Any]:
        """Return one line of the log; ``status`` is null where the client got none."""
        answered = plan.fault in {None, Fault.CUT}
        return {
            "t": round(incoming.t, 3),
            "n": incoming.n,
            "key": incoming.key,
            "prompt": incoming.prompt,
            "path": incoming.path,
            "status": plan.status if answered else None,
            "fault": plan.fault,
            "cause": plan.cause,
        }

    async def control(self, request: web.BaseRequest) -> web.Response | None:
        """Answer a request that is none of the jobs': here, the list of models."""
        if request.method == "GET" and request.path == "/v1/models":
            names = self.config.models or _DEFAULT_MODELS
            return web.Response(body=model_list(names), content_type="application/json")
        return None

    def error_body(self, incoming: Incoming, status: int, message: str = "") -> bytes:
        """Return the error object that the request's dialect has for a status."""
        dialect = DIALECTS.get(incoming.path, ANTHROPIC)
        text = message or MESSAGES.get(status, "Something went wrong")
        return dialect.error(status, text, request_id(incoming.body, incoming.n))

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if (response := await self.control(request)) is not None:
            return response
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            message = ANTHROPIC.error(413, MESSAGES[413], request_id(b"", self._n))
            return web.Response(status=413, body=message, content_type="application/json")
        self._n += 1
        incoming = _incoming(request, body, self._n, self._now())
        plan = self.plan(incoming)
        self._counts[_COUNTS.get(plan.cause, "refused")] += 1
        if self._log is not None:
            self._log.append(self.log_fields(incoming, plan))
        if plan.delay_s:
            await asyncio.sleep(plan.delay_s)
        return await self._act(request, plan)

    async def _act(self, request: web.BaseRequest, plan: Plan) -> web.StreamResponse:
        """Send what was planned, or break the connection as it was planned."""
        response = web.Response(status=plan.status, body=plan.body, headers=plan.headers)
        transport = request.transport
        if plan.fault is None or transport is None:
            return response
        if plan.fault is Fault.HANG:
            await self._stopping.wait()
        elif plan.fault is Fault.CUT:
            cut = web.StreamResponse(status=plan.status, headers=plan.headers)
            cut.content_length = max(2, len(plan.body))
            await cut.prepare(request)
            await cut.write(plan.body[: len(plan.body) // 2] or b"{")
            transport.close()
            return cut
        elif plan.fault is Fault.GARBAGE:
            transport.write(b"\x16\x03 this is not HTTP\r\n\r\n")
        elif plan.fault is Fault.RESET:
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, _ABORT
            )
        transport.close()
        return response

    def _credential_refusal(self, incoming: Incoming) -> str | None:
        config = self.config
        if config.api_key is not None and incoming.credential != config.api_key:
            return MESSAGES[401]
        after = config.unauthorized_after
        if after is not None and self._counts["answered"] >= after:
            return MESSAGES[401]
        return None

    def _admit(self, dialect: Dialect, incoming: Incoming) -> Plan | None:
        """Use up one request of every limit, or return the refusal of the one that has none."""
        now = incoming.t
        if incoming.n in self._throttle_at:
            self._throttled_until = now + self.config.retry_after_s
        if now < self._throttled_until:
            plan = self._refuse(dialect, incoming, 429, MESSAGES[429], cause="throttle")
            return _with_retry_after(plan, self._throttled_until - now)
        windows = (
            ("day", self._day, self.config.rpd),
            ("minute", self._minute, self.config.rpm),
        )
        for unit, window, limit in windows:
            if window is not None and (standing := window.standing(now)).remaining < 1:
                message = (
                    f"This request would exceed your organization's rate limit of {limit:,} requests"
                    f" per {unit} (org: {self.config.organization}). Please try again later."
                )
                plan = self._refuse(dialect, incoming, 429, message, cause=unit)
                return _with_retry_after(plan, standing.free_at - now)
        for _, window, _ in windows:
            if window is not None:
                window.take()
        return None

    def _reply(self, dialect: Dialect, incoming: Incoming, *, begins_at: float) -> Plan:
        """Answer a request that was let in, or refuse what it asks for."""
        if incoming.decoded is None:
            message = "The request body is not valid JSON"
            return self._refuse(dialect, incoming, 400, message, cause="invalid")
        if self._lacks_version(dialect, incoming):
            message = "anthropic-version: header is required"
            return self._refuse(dialect, incoming, 400, message, cause="invalid")
        try:
            asked = dialect.asked(incoming.decoded)
        except InvalidBodyError as error:
            return self._refuse(dialect, incoming, 400, str(error), cause="invalid")
        if not self._has_model(asked):
            return self._refuse(dialect, incoming, 404, f"model: {asked.model}", cause="model")
        if mark := MARK.search(asked.prompt):
            status = int(mark.group(1))
            message = MESSAGES.get(status, MESSAGES[400])
            return self._refuse(dialect, incoming, status, message, cause="marked")
        if dialect is ANTHROPIC:
            cached = self._cache.use(
                asked.model, incoming.decoded, now=incoming.t, ready_at=begins_at
            )
            asked = asked._replace(cached=cached)
        name = request_id(incoming.body, incoming.n)
        return Plan(
            status=200, headers=self._headers(dialect, incoming), body=dialect.answer(asked, name)
        )

    def _lacks_version(self, dialect: Dialect, incoming: Incoming) -> bool:
        wanted = dialect is ANTHROPIC and self.config.require_version
        return wanted and "anthropic-version" not in incoming.headers

    def _has_model(self, asked: Asked) -> bool:
        if asked.model.startswith(_NO_SUCH):
            return False
        return not asked.model or not self.config.models or asked.model in self.config.models

    def _refuse(
        self, dialect: Dialect, incoming: Incoming, status: int, message: str, *, cause: str
    ) -> Plan:
        body = dialect.error(status, message, request_id(incoming.body, incoming.n))
        headers = self._headers(dialect, incoming)
        return Plan(status=status, headers=headers, body=body, cause=cause)

    def _headers(self, dialect: Dialect, incoming: Incoming) -> dict[str, str]:
        standing: Standing | None = None
        if self._minute is not None:
            standing = self._minute.standing(incoming.t)
        name = request_id(incoming.body, incoming.n)
        headers = dialect.headers(name, self.config.organization, standing, incoming.t)
        headers["content-type"] = "application/json"
        return headers


def _with_retry_after(plan: Plan, wait_s: float) -> Plan:
    """Add the wait in whole seconds, at least one, never too short."""
    # Floats carry epoch seconds to a quarter of a microsecond; a hair must not cost a second.
    seconds = max(1, math.ceil(wait_s - 1e-3))
    return replace(plan, headers={**plan.headers, "retry-after": str(seconds)})


def _incoming(request: web.BaseRequest, body: bytes, n: int, t: float) -> Incoming:
    """Read a request; a body that is no JSON, or of another shape, has no prompt."""
    decoded: Any = dict(request.query)
    if body or request.method != "GET":
        try:
            decoded = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            decoded = None
    prompt = ""
    dialect = DIALECTS.get(request.path)
    if dialect is not None and decoded is not None:
        try:
            prompt = dialect.asked(decoded).prompt
        except InvalidBodyError:
            prompt = ""
    return Incoming(
        n=n,
        t=t,
        method=request.method,
        path=request.path,
        query=request.query,
        headers=request.headers,
        body=body,
        prompt=prompt,
        decoded=decoded,
    )


def _request(
    message: Any, payload: Any, protocol: Any, writer: Any, task: asyncio.Task[None]
) -> web.BaseRequest:
    """Make a request that may be as large as the provider's may."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(
        message, payload, protocol, writer, task, loop, client_max_size=_MAX_BODY
    )
