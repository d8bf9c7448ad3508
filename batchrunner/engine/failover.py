"""A run's way to its provider where there are several: addresses, proxies, or both.

A request goes once, by the best way at that instant. What it meets is not tried again here: the
job goes back uncharged, and its next send takes a way it has not failed on. Only once it has
failed by every way is its failure judged like that of a run with one (DESIGN §4): so a broken
address is no job's fault and no outage while another works, and a poisonous job ends all the same.
It is judged by the failure that tells most of the job: that a way can't be reached says nothing of
it, and a way that is down is not asked for its sake. A timeout is charged as ever, since the
provider may have worked for it.

Limits are the account's and know nothing of this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace
from yarl import URL

from batchrunner.core.nodes import Nodes, Switch
from batchrunner.engine.wire import MOST_URLS, NOBODY, Sends, Wire
from batchrunner.models import Decision, ErrorKind, JobId, Reply, Request, Verdict
from batchrunner.providers.profile import MODEL
from batchrunner.store.records import ClaimedJob

__all__ = ["FailoverWire", "Ways"]

#: So many jobs' failures are remembered: more than can be in flight. One that is forgotten begins
#: its round anew, and is charged a round later.
MOST_TRIED: Final = 4_096


class _Failing(NamedTuple):
    """How a kind of failure is a way's rather than a job's."""

    #: The way can't be reached at all.
    at_once: bool
    #: The job is not charged while another way is left.
    is_free: bool = True


#: Everything else was an answer: 429 and 4xx say something of the account or the request.
_FAILINGS: Final = {
    ErrorKind.CONNECTION: _Failing(at_once=True),
    ErrorKind.DNS: _Failing(at_once=True),
    ErrorKind.TLS: _Failing(at_once=True),
    ErrorKind.PROXY: _Failing(at_once=True),
    ErrorKind.OVERLOADED: _Failing(at_once=False),
    ErrorKind.SERVER_ERROR: _Failing(at_once=False),
    ErrorKind.CONNECTION_RESET: _Failing(at_once=False),
    ErrorKind.TIMEOUT: _Failing(at_once=False, is_free=False),
}


@dataclass(slots=True)
class _Tried:
    """What one job has failed on."""

    nodes: set[int] = field(default_factory=set)
    proxies: set[int] = field(default_factory=set)
    #: The failure that tells most of the job.
    told: Decision | None = None

    def learn(self, decision: Decision) -> Decision:
        """Take one more failure, and return the one to judge by; of equals the later."""
        if self.told is None or _weight(decision) >= _weight(self.told):
            self.told = decision
        return self.told


class Ways:
    """Sends each request by one of several ways; a way is an address and a proxy."""

    def __init__(
        self, nodes: Nodes, proxies: Nodes, transports: Sequence[Sends], *, now: Callable[[], float]
    ) -> None:
        """Take the healths of both, and a transport for each proxy; ``now`` is steady, in ms."""
        self.nodes = nodes
        self.proxies = proxies
        self._transports = transports
        #: The steady time, in ms.
        self.now = now

    def number(self, node: int, proxy: int) -> int:
        """Return the number of a way."""
        return node * len(self.proxies) + proxy

    def parts(self, way: int) -> tuple[int, int]:
        """Return the node and the proxy of a way."""
        return divmod(way, len(self.proxies))

    async def send(self, request: Request, ticket: object | None = None) -> Reply:
        """Send once, by the way that the request names or else the best; the reply says which."""
        if request.way is None:
            node, proxy = self.nodes.choose(self.now()), self.proxies.choose(self.now())
        else:
            node, proxy = self.parts(request.way)
        if node:
            request = replace(request, url=request.addresses[node])
        try:
            reply = await self._transports[proxy].send(request, ticket)
        except BaseException:
            self.nodes.unsent(node)
            self.proxies.unsent(proxy)
            raise
        return replace(reply, way=self.number(node, proxy))


@dataclass(slots=True, kw_only=True)
class FailoverWire(Wire):
    """A :class:`Wire` with several ways."""

    #: The base URLs, the preferred one first.
    nodes: Sequence[str]
    #: Names of the proxies, without passwords.
    proxies: Sequence[str]
    ways: Ways
    #: Told once a switch.
    notice: Callable[[str], None]
    _tried: dict[JobId, _Tried] = field(default_factory=dict)
    #: Address at the preferred node → that at each node.
    _addresses: dict[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def over(
        cls,
        transports: Sequence[Sends],
        *,
        nodes: Sequence[str],
        proxies: Sequence[str],
        notice: Callable[[str], None],
        now: Callable[[], float] | None = None,
        **wire: object,
    ) -> FailoverWire:
        """Return a wire over several addresses and proxies; ``wire`` are the fields of one."""
        ways = Ways(Nodes(len(nodes)), Nodes(len(transports)), transports, now=now or _loop_ms)
        return cls(
            base_url=nodes[0],
            transport=ways,
            ways=ways,
            nodes=nodes,
            proxies=proxies,
            notice=notice,
            **wire,  # type: ignore[arg-type]  # whatever a wire has
        )

    def request(self, job: ClaimedJob) -> Request:
        """Return the request of a stored job, by a way that it has not failed on."""
        made = Wire.request(self, job)
        addresses = self._addresses.get(made.url)
        if addresses is None:
            if len(self._addresses) >= MOST_URLS:
                self._addresses.clear()
            addresses = tuple(self._address(job, node) for node in self.nodes)
            self._addresses[made.url] = addresses
        made = replace(made, addresses=addresses)
        tried = self._tried.get(job.job_id)
        if tried is None:
            return made
        now = self.ways.now()
        node = self.ways.nodes.other(tried.nodes, now)
        proxy = self.ways.proxies.other(tried.proxies, now)
        if node is None or proxy is None:
            # What was left has gone down meanwhile.
            return made
        return replace(made, way=self.ways.number(node, proxy))

    def decide(self, reply: Reply, request: Request, *, wall: int, job: JobId = NOBODY) -> Decision:
        """Return what a reply means; a way's own failure sends the job by another."""
        node, proxy = self.ways.parts(reply.way)
        if node:
            request = replace(request, url=request.addresses[node])
        decision = Wire.decide(self, reply, request, wall=wall, job=job)
        failing = _failing_of(decision, reply)
        if failing is None:
            self._tried.pop(job, None)
            self._note(self.ways.nodes.answered(node), self.nodes, "")
            self._note(self.ways.proxies.answered(proxy), self.proxies, "")
            return decision
        is_proxy = decision.kind is ErrorKind.PROXY and len(self.proxies) > 1
        tried = self._remembered(job)
        health, names, index, failed = (
            (self.ways.proxies, self.proxies, proxy, tried.proxies)
            if is_proxy
            else (self.ways.nodes, self.nodes, node, tried.nodes)
        )
        failed.add(index)
        now = self.ways.now()
        until = now + max(0.0, (decision.retry_at or 0) - wall)
        switch = health.failed(index, job, now, at_once=failing.at_once, until=until)
        if is_proxy:
            self.ways.nodes.unsent(node)
        else:
            self._note(self.ways.proxies.answered(proxy), self.proxies, "")
        self._note(switch, names, decision.message)
        judged = tried.learn(decision) if failing.is_free else decision
        if health.other(failed, now) is None:
            del self._tried[job]
            return judged
        if not failing.is_free:
            return decision
        return replace(decision, verdict=Verdict.RETRY, elsewhere=True, retry_at=None)

    def _remembered(self, job: JobId) -> _Tried:
        """Return what a job has failed on, remembered as the latest.

        A job that ends without an answer by another way (its last try, a cancelled run) never
        comes back to be forgotten.
        """
        tried = self._tried.pop(job, None) or _Tried()
        while len(self._tried) >= MOST_TRIED:
            del self._tried[next(iter(self._tried))]
        self._tried[job] = tried
        return tried

    def _address(self, job: ClaimedJob, node: str) -> str:
        """Return where a job goes at one node."""
        path = job.url
        if path is None:
            path = self.profile.default_path_for(msgspec.json.decode(job.body))
        if "://" in path:
            # A line may name the preferred base URL's origin itself.
            return path.replace(str(URL(self.nodes[0]).origin()), str(URL(node).origin()), 1)
        url = self.profile.build_url(node, path)
        return self.profile.place_model(url, job.body)[0] if MODEL in url else url

    def _note(self, switch: Switch | None, names: Sequence[str], why: str) -> None:
        if switch is None:
            return
        before, now = names[switch.before], names[switch.now]
        self.notice(
            f"{why.rstrip('.')}: from now on requests go by {now}; {before} is tried again later."
            if why and switch.now > switch.before
            else f"Requests go by {now} again."
        )


def _failing_of(decision: Decision, reply: Reply) -> _Failing | None:
    if reply.fault is None and (reply.status or 0) < 500:
        return None
    if decision.verdict not in (Verdict.RETRY, Verdict.PAUSE, Verdict.HALT_RUN):
        return None
    failing = _FAILINGS.get(decision.kind) if decision.kind is not None else None
    if failing is not None and decision.verdict is Verdict.PAUSE:
        # It said itself that it is not there for a while.
        return _Failing(at_once=True)
    return failing


def _weight(decision: Decision) -> int:
    """Return how much a failure tells of its job: a way that is no way nothing, an answer most."""
    if decision.verdict is Verdict.HALT_RUN:
        return 0
    failing = _FAILINGS.get(decision.kind) if decision.kind is not None else None
    return 1 if failing is not None and failing.at_once else 2


def _loop_ms() -> float:
    return asyncio.get_running_loop().time() * 1000.0
