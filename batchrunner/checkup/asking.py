"""The requests that an examination makes: sent once, and judged like a run's."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from batchrunner.checkup.allowance import Errand
from batchrunner.checkup.probes import Stopwatch
from batchrunner.checkup.sheet import PLACES
from batchrunner.clock import wall_ms
from batchrunner.core.classify import classify
from batchrunner.engine.wire import Wire
from batchrunner.errors import UsageError
from batchrunner.formats.lines import Fill, read_lines
from batchrunner.formats.sources import RawLine
from batchrunner.models import Decision, ErrorKind, JobId, JobLine, Reply, Request, Verdict
from batchrunner.store.records import ClaimedJob
from batchrunner.transport import Aborted

__all__ = ["MAX_TOKENS", "Asked", "ask", "list_request", "live_request"]

#: The least that every endpoint takes.
MAX_TOKENS: Final = 16
_PROMPT: Final = "Say OK."


class Asked(NamedTuple):
    """One request that was tried."""

    #: ``None``: it was not sent.
    reply: Reply | None
    decision: Decision | None
    #: Why it was not sent; empty: it was.
    refusal: str
    took_ms: float

    @property
    def kind(self) -> ErrorKind | None:
        """What went wrong; ``None``: nothing, or it was not sent."""
        return self.decision.kind if self.decision is not None else None

    @property
    def is_granted(self) -> bool:
        """Whether it came back with what was asked for."""
        return self.decision is not None and self.decision.verdict is Verdict.COMPLETE

    @property
    def place(self) -> str:
        """The check that its failure belongs to; empty without one."""
        return "" if self.kind is None else PLACES.get(self.kind, "http")


async def ask(wire: Wire, request: Request, errand: Errand) -> Asked:
    """Send a request once, if the wire's gate lets the errand go."""
    watch = Stopwatch()
    try:
        reply = await wire.transport.send(request, errand)
    except Aborted:
        return Asked(None, None, errand.refusal, watch.ms)
    took_ms = watch.ms - errand.waited_ms
    decision = classify(
        reply, wire.profile, url=request.url, now_wall=wall_ms(), secrets=wire.secrets
    )
    return Asked(reply, decision, "", took_ms)


def list_request(wire: Wire) -> Request:
    """Return the request for the list of models; without a list for the base URL itself."""
    path = wire.profile.models_path or ""
    url = wire.profile.build_url(wire.base_url, path)
    return Request(method="GET", url=url, headers=wire.headers, body=b"")


def live_request(wire: Wire, model: str) -> Request:
    """Return a request that asks ``model`` for a word, as ``submit`` would send a prompt.

    Raises :class:`UsageError` where the provider takes no prompts.
    """
    line = msgspec.json.encode({"prompt": _PROMPT, "model": model, "max_tokens": MAX_TOKENS})
    (job,) = read_lines([RawLine("doctor", 1, 1, line)], wire.profile, Fill())
    if not isinstance(job, JobLine):
        raise UsageError(f"{wire.profile.title} takes no prompts: {job.reason}.")
    return wire.request(
        ClaimedJob(JobId(0), job.key, 0, 0, None, job.method, job.url, job.headers, job.body)
    )
