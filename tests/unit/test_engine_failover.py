"""Fail-over between real servers with a clock in hand: where a request goes, and who is charged."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from yarl import URL

from batchrunner.core.credentials import Secrets
from batchrunner.core.nodes import BAD_ANSWERS, FIRST_COOL_DOWN_MS
from batchrunner.engine.failover import MOST_TRIED, FailoverWire
from batchrunner.engine.wire import MOST_URLS
from batchrunner.models import Decision, ErrorKind, Fault, JobId, Reply, Request, Verdict
from batchrunner.providers import BUILT_IN
from batchrunner.store.records import ClaimedJob
from batchrunner.transport import Aborted, Transport
from batchrunner.transport.proxies import Proxy
from tests.fakes import ApiServer, running_server

BODY = b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"hi"}]}'


def claimed(number: int = 1, url: str | None = None) -> ClaimedJob:
    """A stored job."""
    return ClaimedJob(
        job_id=JobId(number), key=f"j{number}", claim=1, attempts=0, method=None, url=url,
        headers=None, body=BODY, started_at=None,
    )  # fmt: skip


class Scene:
    """A wire over several servers, and what it told."""

    def __init__(self, wire: FailoverWire, told: list[str]) -> None:
        """Take both; time stands until a test moves it."""
        self.wire = wire
        self.told = told

    async def go(self, number: int = 1) -> Decision:
        """Send a job once, and judge the reply."""
        request = self.wire.request(claimed(number))
        reply = await self.wire.transport.send(request)
        return self.wire.decide(reply, request, wall=0, job=JobId(number))


class Time:
    """Steady milliseconds, moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        """Read it."""
        return self.now


@pytest.fixture
def servers() -> Iterator[list[ApiServer]]:
    """Two addresses of one provider."""
    with running_server() as first, running_server() as second:
        yield [first, second]


@asynccontextmanager
async def scene(
    nodes: list[str], time: Callable[[], float], *, provider: str = "anthropic", n_proxies: int = 1
) -> AsyncIterator[Scene]:
    """A wire over ``nodes``."""
    told: list[str] = []
    async with AsyncExitStack() as stack:
        transports = [
            await stack.enter_async_context(
                Transport(
                    connect_timeout_s=2.0, total_timeout_s=2.0, pool_size=4,
                    max_response=1_000_000, environ={},
                )
            )
            for _ in range(n_proxies)
        ]  # fmt: skip
        wire = FailoverWire.over(
            transports,
            nodes=nodes,
            proxies=[f"proxy {n}" for n in range(n_proxies)],
            notice=told.append,
            now=time,
            profile=BUILT_IN.profile(provider),
            headers={},
            secrets=Secrets(),
            account_key="k",
            fill=dict,
        )
        yield Scene(wire, told)


async def test_a_job_that_failed_goes_by_another_way(servers: list[ApiServer]) -> None:
    """A 500 goes back uncharged and next to the other address; its answer is the job's."""
    first, second = servers
    first.script([{"status": 500}])
    async with scene([first.url, second.url], Time()) as at:
        decision = await at.go()
        assert (decision.verdict, decision.elsewhere) == (Verdict.RETRY, True)
        assert (await at.go()).verdict is Verdict.COMPLETE
    assert (len(first.requests()), len(second.requests())) == (1, 1)
    assert at.told == []


async def test_a_job_that_failed_by_every_way_is_judged_like_any(servers: list[ApiServer]) -> None:
    """After a whole round the failure counts, and the next round begins with the preferred one."""
    for server in servers:
        server.script([{"status": 500}])
    async with scene([server.url for server in servers], Time()) as at:
        rounds = [(await at.go()).elsewhere for _ in range(4)]
    assert rounds == [True, False, True, False]
    assert [len(server.requests()) for server in servers] == [2, 2]


async def test_a_way_that_cannot_be_reached_tells_nothing_of_a_job(
    servers: list[ApiServer],
) -> None:
    """A 500 here and nobody there is a 500: the job is charged, and who is not there not asked again."""
    first, second = servers
    first.script([{"status": 500}])
    second.stop()
    time = Time()
    async with scene([first.url, second.url], time) as at:
        told = [await at.go(), await at.go(), await at.go()]
        time.now = 10 * FIRST_COOL_DOWN_MS
        told += [await at.go(), await at.go()]
    assert [decision.elsewhere for decision in told] == [True, False, False, True, False]
    assert {decision.kind for decision in told} == {ErrorKind.SERVER_ERROR}
    assert {decision.verdict for decision in told} == {Verdict.RETRY}
    assert len(first.requests()) == 3


async def test_a_timeout_that_was_charged_is_not_charged_again(servers: list[ApiServer]) -> None:
    """After a timeout here, nobody there is judged as just that."""
    first, second = servers
    first.script([{"fault": "hang"}])
    second.stop()
    async with scene([first.url, second.url], Time()) as at:
        kinds = [(await at.go()).kind for _ in range(2)]
    assert kinds == [ErrorKind.TIMEOUT, ErrorKind.CONNECTION]


async def test_a_timeout_is_charged_and_goes_elsewhere(servers: list[ApiServer]) -> None:
    """A provider may have worked for what timed out: it is charged, and the other address asked next."""
    first, second = servers
    first.script([{"fault": "hang"}])
    async with scene([first.url, second.url], Time()) as at:
        decision = await at.go()
        assert (decision.kind, decision.elsewhere) == (ErrorKind.TIMEOUT, False)
        assert (await at.go()).verdict is Verdict.COMPLETE
    assert len(second.requests()) == 1


async def test_the_preferred_one_is_tried_by_one_and_then_by_all(servers: list[ApiServer]) -> None:
    """Down until the cool-down is over; one request tries it; its success brings all back, told once."""
    first, second = servers
    first.script([{"to": 1, "status": 503, "headers": {"retry-after": "1"}}])
    time = Time()
    async with scene([first.url, second.url], time) as at:
        assert (await at.go(1)).elsewhere
        for number in range(2, 5):
            assert (await at.go(number)).verdict is Verdict.COMPLETE
        assert len(first.requests()) == 1
        time.now = FIRST_COOL_DOWN_MS
        for number in range(5, 8):
            assert (await at.go(number)).verdict is Verdict.COMPLETE
    assert (len(first.requests()), len(second.requests())) == (4, 3)
    assert (
        f"from now on requests go by {second.url}; {first.url} is tried again later." in at.told[0]
    )
    assert at.told[1:] == [f"Requests go by {first.url} again."]


async def test_a_call_off_leaves_the_try_to_another(servers: list[ApiServer]) -> None:
    """A request that was called off before its first byte does not use the one try up."""
    first, second = servers
    time = Time()
    async with scene([first.url, second.url], time) as at:
        at.wire.ways.nodes.failed(0, JobId(9), 0.0, at_once=True)
        time.now = FIRST_COOL_DOWN_MS

        class Refusing:
            async def send(self, request: Request, ticket: object | None = None) -> None:
                raise Aborted

        real, at.wire.ways._transports = at.wire.ways._transports, [Refusing()]  # type: ignore[list-item]
        with pytest.raises(Aborted):
            await at.go(1)
        at.wire.ways._transports = real
        await at.go(2)
    assert len(first.requests()) == 1


@pytest.mark.parametrize(
    ("provider", "first", "second", "url", "expected"),
    [
        ("anthropic", "http://a", "http://b/gw", None, "http://b/gw/v1/messages"),
        ("openai", "http://a/v1", "http://b/x/v1", None, "http://b/x/v1/chat/completions"),
        ("openai", "http://a/v1", "http://b/v1", "/v1/embeddings", "http://b/v1/embeddings"),
        ("http", "http://a/x", "http://b:8080/y", "http://a/geo?q=1", "http://b:8080/geo?q=1"),
        ("http", "http://a/x", "http://b/y", "/geo", "http://b/y/geo"),
    ],
)
async def test_an_address_is_that_nodes_own(
    provider: str, first: str, second: str, url: str | None, expected: str
) -> None:
    """Where a job goes at another node is built from that node's base URL, absolute lines included."""
    async with scene([first, second], Time(), provider=provider) as at:
        request = at.wire.request(claimed(url=url))
        assert list(request.addresses) == [request.url, expected]


async def test_a_proxys_fault_moves_the_proxy_not_the_address(servers: list[ApiServer]) -> None:
    """With several proxies the proxy is blamed for a proxy's fault, and the address stays."""
    time = Time()
    async with scene([server.url for server in servers], time, n_proxies=2) as at:
        dead = Transport(
            connect_timeout_s=1.0, total_timeout_s=1.0, pool_size=1, max_response=1,
            environ={},
            proxy_before=lambda _url: Proxy(url=URL("socks5://127.0.0.1:1"), source="--proxy"),
        )  # fmt: skip
        async with dead:
            at.wire.ways._transports = [dead, at.wire.ways._transports[1]]
            decision = await at.go()
            assert (decision.kind, decision.elsewhere) == (ErrorKind.PROXY, True)
            assert (await at.go()).verdict is Verdict.COMPLETE
    assert [len(server.requests()) for server in servers] == [1, 0]
    assert len(at.told) == 1
    assert "go by proxy 1" in at.told[0]


async def test_addresses_are_not_remembered_without_end() -> None:
    """A million jobs with an address each take no more memory than a thousand."""
    async with scene(["http://a/x", "http://b/y"], Time(), provider="http") as at:
        for number in range(3 * MOST_URLS):
            request = at.wire.request(claimed(url=f"/geo/{number}"))
            assert request.addresses[1] == f"http://b/y/geo/{number}"
        assert len(at.wire._urls) <= MOST_URLS
        assert len(at.wire._addresses) <= MOST_URLS


@pytest.mark.parametrize("kind", [ErrorKind.TIMEOUT, ErrorKind.CONNECTION_RESET], ids=str)
async def test_failures_of_jobs_that_never_come_back_are_forgotten(kind: ErrorKind) -> None:
    """A job whose last try was this one leaves nothing behind for good; the latest are kept."""
    fault = Fault(kind=kind, message="no answer", maybe_executed=True)
    async with scene(["http://a", "http://b"], Time()) as at:
        for number in range(1, 3 * MOST_TRIED):
            job = claimed(number)
            reply = Reply(fault=fault)
            at.wire.decide(reply, at.wire.request(job), wall=0, job=job.job_id)
        assert len(at.wire._tried) <= MOST_TRIED
        latest = at.wire.request(claimed(3 * MOST_TRIED - 1))
        assert latest.way == at.wire.ways.number(1, 0)
        assert len(at.wire.ways.nodes._nodes[0].failed) <= BAD_ANSWERS
