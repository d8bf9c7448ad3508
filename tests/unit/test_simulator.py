"""The simulator answers like a provider, over a real socket."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from batchrunner.providers.simulator import (
    Fault,
    Simulator,
    SimulatorConfig,
    demo_config,
    demo_jobs,
)
from batchrunner.providers.simulator.exchange import Fate

VERSION = {"anthropic-version": "2023-06-01"}


class Answer:
    """One answer, read whole."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        """Keep the parts."""
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class Client:
    """Sends messages to a simulator."""

    def __init__(self, session: aiohttp.ClientSession, url: str, simulator: Simulator) -> None:
        """Keep where to send."""
        self._session, self.url, self.simulator = session, url, simulator

    async def say(self, prompt: str, headers: Any = VERSION, **fields: Any) -> Answer:
        """Send a message."""
        message = {"role": "user", "content": prompt}
        body = {"model": "sim-1", "max_tokens": 99, "messages": [message]} | fields
        return await self.post("/v1/messages", body, headers=headers)

    async def post(self, path: str, body: Any, **options: Any) -> Answer:
        """Send any body."""
        data = body if isinstance(body, bytes | io.BytesIO) else json.dumps(body).encode()
        async with self._session.post(self.url + path, data=data, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str) -> Answer:
        """Fetch."""
        async with self._session.get(self.url + path) as response:
            return Answer(response.status, response.headers, await response.read())


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        """Start at a fine moment."""
        self.t = 1_790_000_000.25

    def __call__(self) -> float:
        """Read it."""
        return self.t


@asynccontextmanager
async def running(
    config: SimulatorConfig | None = None, *, log: Path | None = None, now: Any = time.time
) -> AsyncIterator[Client]:
    """Run a simulator and a session for it."""
    simulator = Simulator(config, log=log, now=now)
    async with simulator as url, aiohttp.ClientSession() as session:
        yield Client(session, url, simulator)


async def test_message_is_answered_as_by_the_provider() -> None:
    """An answer has the Messages API's fields, usage and headers, and the same prompt the same text."""
    async with running(SimulatorConfig(rpm=50)) as client:
        first, second = await client.say("Good morning"), await client.say("Good morning")
    body = first.json
    assert first.status == 200
    assert body["type"] == "message"
    assert body["stop_reason"] == "end_turn"
    assert body["content"] == second.json["content"]
    assert body["usage"]["input_tokens"] == 3
    assert body["usage"]["output_tokens"] > 0
    assert first.headers["anthropic-organization-id"] == "org_simulated"
    assert first.headers["anthropic-ratelimit-requests-limit"] == "50"
    assert first.headers["anthropic-ratelimit-requests-remaining"] == "49"
    assert first.headers["request-id"].startswith("req_")
    assert first.headers["request-id"] != second.headers["request-id"]


async def test_limit_refuses_with_the_whole_seconds_to_wait() -> None:
    """Over the limit comes 429 with a retry-after that is neither too short nor a second too long."""
    clock = HandClock()
    async with running(SimulatorConfig(rpm=2), now=clock) as client:
        await client.say("a")
        clock.t += 12.5
        await client.say("b")
        refused = await client.say("c")
        assert refused.status == 429
        assert refused.json["type"] == "error"
        assert refused.json["error"]["type"] == "rate_limit_error"
        assert refused.json["request_id"] == refused.headers["request-id"]
        assert refused.headers["retry-after"] == "48"
        assert refused.headers["anthropic-ratelimit-requests-remaining"] == "0"
        reset = datetime.fromisoformat(refused.headers["anthropic-ratelimit-requests-reset"])
        assert 0 <= reset.timestamp() - (clock.t + 60) < 1
        clock.t += 48
        assert (await client.say("c")).status == 200
        assert client.simulator.stats.over_minute == 1


async def test_short_minute_shortens_the_wait() -> None:
    """With a minute of four seconds the wait is at most four."""
    clock = HandClock()
    async with running(SimulatorConfig(rpm=1, minute_s=4), now=clock) as client:
        await client.say("a")
        assert (await client.say("b")).headers["retry-after"] == "4"
        clock.t += 4
        assert (await client.say("b")).status == 200


async def test_day_cap_waits_for_the_day() -> None:
    """The day's cap names the day and waits for its end; what it refuses costs the minute nothing."""
    clock = HandClock()
    async with running(SimulatorConfig(rpm=9, rpd=1, day_resets="UTC"), now=clock) as client:
        await client.say("a")
        refused = await client.say("b")
        assert refused.status == 429
        assert "per day" in refused.json["error"]["message"]
        assert int(refused.headers["retry-after"]) == -int(-(86_400 - clock.t % 86_400) // 1)
        assert refused.headers["anthropic-ratelimit-requests-remaining"] == "8"
        clock.t += int(refused.headers["retry-after"])
        assert (await client.say("b")).status == 200
        assert client.simulator.stats.over_day == 1


async def test_throttle_holds_for_everybody_until_it_ends() -> None:
    """From the n-th request on all get 429 until the time it named has passed."""
    clock = HandClock()
    async with running(SimulatorConfig(throttle_at=(2,), retry_after_s=2), now=clock) as client:
        statuses = [(await client.say(prompt)).status for prompt in "abc"]
        assert statuses == [200, 429, 429]
        clock.t += 2
        assert (await client.say("b")).status == 200
        assert client.simulator.stats.throttled == 2


@pytest.mark.parametrize(
    ("sent", "status", "kind"),
    [
        ({"prompt": "x [[400]]"}, 400, "invalid_request_error"),
        ({"prompt": "x [[403]]"}, 403, "permission_error"),
        ({"prompt": "x", "model": "no-such-model"}, 404, "not_found_error"),
        ({"prompt": "x", "max_tokens": 0}, 400, "invalid_request_error"),
        ({"prompt": "x", "max_tokens": None}, 400, "invalid_request_error"),
        ({"prompt": "x", "messages": []}, 400, "invalid_request_error"),
        ({"prompt": "x", "messages": [3]}, 400, "invalid_request_error"),
        ({"prompt": "x", "headers": {}}, 400, "invalid_request_error"),
    ],
    ids=["marked", "marked-403", "model", "zero", "no-max", "empty", "type", "version"],
)
async def test_bad_request_is_refused_with_the_providers_error(
    sent: dict[str, Any], status: int, kind: str
) -> None:
    """What the provider refuses, the simulator refuses with the same status and type."""
    async with running() as client:
        answer = await client.say(**sent)
    assert answer.status == status
    assert answer.json["error"]["type"] == kind


async def test_unknown_model_is_named() -> None:
    """The 404 says which model, in the provider's words."""
    async with running(SimulatorConfig(models=("sim-1",))) as client:
        assert (await client.say("x")).status == 200
        assert (await client.say("x", model="other")).json["error"]["message"] == "model: other"
        listed = (await client.get("/v1/models")).json["data"]
    assert [model["id"] for model in listed] == ["sim-1"]


async def test_broken_json_and_unknown_paths_are_refused() -> None:
    """A body that is no JSON gets 400, a path that does not exist 404, a huge body 413."""
    async with running() as client:
        assert (await client.post("/v1/messages", b"{", headers=VERSION)).status == 400
        assert (await client.post("/messages", {})).status == 404
        huge = await client.post("/v1/messages", io.BytesIO(b" " * (33 * 1024 * 1024)))
    assert huge.status == 413
    assert huge.json["error"]["type"] == "request_too_large"


async def test_credential_is_checked_where_asked_for() -> None:
    """With a key set every other gets 401, in either header; after N answers every key does."""
    async with running(SimulatorConfig(api_key="good", unauthorized_after=2)) as client:
        for headers, status in (
            ({}, 401),
            ({"x-api-key": "bad"}, 401),
            ({"x-api-key": "good"}, 200),
            ({"authorization": "Bearer good"}, 200),
            ({"x-api-key": "good"}, 401),
        ):
            answer = await client.say("x", headers=VERSION | headers)
            assert answer.status == status
            refused = answer.json.get("error", {}).get("type")
            assert refused == ("authentication_error" if status == 401 else None)


async def test_answers_are_cut_and_refused_as_asked() -> None:
    """A short max_tokens cuts the answer, a marked prompt is refused with 200."""
    async with running() as client:
        cut = (await client.say("Tell me a long story", max_tokens=2)).json
        refused = (await client.say("x [[refuse]]")).json
    assert (cut["stop_reason"], cut["usage"]["output_tokens"]) == ("max_tokens", 2)
    assert (refused["stop_reason"], refused["content"]) == ("refusal", [])


async def test_json_prompts_get_json() -> None:
    """Fields are read from the lines that start with their names; what is not there is null."""
    async with running() as client:
        prompt = "Return JSON with the fields invoice_number, total and iban.\n\nInvoice number: A-7\nTotal: 12.50"
        text = (await client.say(prompt)).json["content"][0]["text"]
    assert json.loads(text) == {"invoice_number": "A-7", "total": "12.50", "iban": None}


async def test_openai_forms_are_spoken() -> None:
    """Chat, responses and embeddings answer in OpenAI's form, errors and limits included."""
    async with running(SimulatorConfig(rpm=3)) as client:
        messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "Hello"}]
        chat = await client.post("/v1/chat/completions", {"model": "m", "messages": messages})
        assert chat.json["choices"][0]["finish_reason"] == "stop"
        assert "Hello" in chat.json["choices"][0]["message"]["content"]
        assert chat.headers["x-ratelimit-remaining-requests"] == "2"
        reply = await client.post("/v1/responses", {"model": "m", "input": "Hello"})
        assert reply.json["output"][0]["content"][0]["text"]
        vectors = await client.post("/v1/embeddings", {"model": "m", "input": ["a", "b"]})
        assert [row["index"] for row in vectors.json["data"]] == [0, 1]
        refused = await client.post("/v1/embeddings", {"model": "m", "input": "a"})
        assert refused.status == 429
        assert refused.json["error"]["code"] == "rate_limit_exceeded"
        assert int(refused.headers["retry-after"]) in range(1, 61)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user"}], "max_tokens": "many"}),
        ("/v1/chat/completions", {"messages": "hello"}),
        ("/v1/responses", {"input": [{"role": "system"}]}),
        ("/v1/responses", {"input": "x", "max_output_tokens": 0}),
        ("/v1/embeddings", {"input": 3}),
        ("/v1/embeddings", {"input": []}),
    ],
    ids=["limit", "messages", "no-user", "zero", "number", "empty"],
)
async def test_openai_forms_refuse_nonsense(path: str, body: dict[str, Any]) -> None:
    """A body of the wrong shape is a 400 in OpenAI's form, never a crash."""
    async with running() as client:
        refused = await client.post(path, {"model": "m"} | body)
    assert refused.status == 400
    assert refused.json["error"]["type"] == "invalid_request_error"


async def test_plain_http_is_spoken() -> None:
    """GET and POST find the same place at the same spot."""
    async with running() as client:
        got = await client.get("/geocode?q=Rynek%20Główny%201")
        assert got.json == (await client.post("/geocode", {"q": "Rynek Główny 1"})).json
        assert (await client.get("/geocode")).status == 400


@pytest.mark.parametrize(
    ("option", "raised"),
    [
        ("rate_reset", aiohttp.ClientOSError),
        ("rate_cut", aiohttp.ClientPayloadError),
        ("rate_hang", TimeoutError),
    ],
)
async def test_broken_connection_breaks_as_named(option: str, raised: type[Exception]) -> None:
    """A reset is an RST, a cut answer lacks its end, a hang never answers; the retry is answered."""
    config = SimulatorConfig(**{option: 1.0}, max_faults=1)  # type: ignore[arg-type]
    async with running(config) as client:
        with pytest.raises(raised):
            async with asyncio.timeout(0.3):
                await client.say("x")
        assert (await client.say("x")).status == 200
        assert (client.simulator.stats.faults, client.simulator.stats.answered) == (1, 1)


@pytest.mark.parametrize(
    ("option", "status", "kind"),
    [
        ("rate_429", 429, "rate_limit_error"),
        ("rate_529", 529, "overloaded_error"),
        ("rate_500", 500, "api_error"),
    ],
)
async def test_drawn_status_is_answered_once(option: str, status: int, kind: str) -> None:
    """A drawn error status has the provider's error object, and the next try is answered."""
    config = SimulatorConfig(**{option: 1.0}, max_faults=1, retry_after_s=7)  # type: ignore[arg-type]
    async with running(config) as client:
        failed = await client.say("x")
        assert (await client.say("x")).status == 200
    assert (failed.status, failed.json["error"]["type"]) == (status, kind)
    assert failed.headers.get("retry-after") == ("7" if status == 429 else None)


def test_fate_does_not_depend_on_the_order() -> None:
    """The same prompts meet the same faults and latencies in any order, and other seeds other ones."""
    rates = {"rate_529": 0.1, "rate_reset": 0.1, "latency_s": 0.2}
    prompts = [f"prompt {i}" for i in range(2000)]

    def drawn(order: list[str], seed: int) -> dict[str, Any]:
        fate = Fate(SimulatorConfig(seed=seed, **rates))  # type: ignore[arg-type]
        return {prompt: fate.draw(prompt) for prompt in order}

    once = drawn(prompts, 1)
    assert once == drawn(prompts[::-1], 1)
    assert once != drawn(prompts, 2)
    counts = Counter(draw.fault for draw in once.values())
    assert counts[Fault.OVERLOADED] == pytest.approx(200, rel=0.3)
    assert counts[Fault.RESET] == pytest.approx(200, rel=0.3)
    latencies = sorted(draw.latency_s for draw in once.values())
    assert latencies[1000] == pytest.approx(0.2, rel=0.1)


async def test_log_has_a_line_for_each_request_before_its_answer(tmp_path: Path) -> None:
    """What was received stands in the log while its answer is still on the way."""
    log = tmp_path / "seen.jsonl"
    async with running(SimulatorConfig(rate_hang=1.0, max_faults=None), log=log) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.say("where am I?")
        line = json.loads(log.read_text())
    assert line["prompt"] == "where am I?"
    assert (line["n"], line["status"], line["fault"]) == (1, None, "hang")
    assert abs(line["t"] - time.time()) < 60
    assert len(line["key"]) == 64
    assert log.stat().st_mode & 0o777 == 0o600


async def test_port_is_taken_again_after_a_stop(tmp_path: Path) -> None:
    """A stopped simulator comes back on its port and goes on in its log."""
    log = tmp_path / "seen.jsonl"
    simulator = Simulator(log=log)
    for _ in range(2):
        url = await simulator.start(getattr(simulator, "port", 0))
        simulator.port = int(url.rpartition(":")[2])  # type: ignore[attr-defined]
        async with aiohttp.ClientSession() as session:
            client = Client(session, url, simulator)
            assert (await client.say("x")).status == 200
        await simulator.stop()
    await simulator.stop()
    assert [json.loads(line)["n"] for line in log.read_text().splitlines()] == [1, 2]


async def test_taken_port_is_an_error() -> None:
    """A port that is in use is an OSError, not a silent other port."""
    async with running() as client:
        with pytest.raises(OSError, match="address already in use"):
            await Simulator().start(int(client.url.rpartition(":")[2]))


def test_demo_shows_every_kind_of_trouble_and_ends_well() -> None:
    """The demo's 200 jobs start well, meet each fault, never three in a row, and are all answered."""
    jobs = [json.loads(line) for line in demo_jobs()]
    assert len({job["id"] for job in jobs}) == len({job["prompt"] for job in jobs}) == 200
    config = demo_config()
    fate = Fate(config)
    faults = [fate.draw(job["prompt"]).fault for job in jobs]
    assert faults[:20] == [None] * 20
    assert set(faults) == {
        None,
        Fault.OVERLOADED,
        Fault.SERVER_ERROR,
        Fault.RESET,
        Fault.CUT,
    }
    assert 6 <= sum(fault is not None for fault in faults) <= 20
    assert not any(all(faults[i : i + 3]) for i in range(198))
    assert {
        fate.draw(job["prompt"]).fault for job, fault in zip(jobs, faults, strict=True) if fault
    } == {None}
    assert config.throttle_at[0] < 200


async def test_demo_throttles_and_lets_all_through() -> None:
    """A client that keeps to retry-after gets all 200 answers after one throttle."""
    clock = HandClock()
    async with running(demo_config(), now=clock) as client:
        client.simulator._fate = Fate(SimulatorConfig())
        pauses = 0
        for line in demo_jobs():
            job = json.loads(line)
            clock.t += 0.0505
            answer = await client.say(
                job["prompt"], max_tokens=job["max_tokens"], model=job["model"]
            )
            if answer.status == 429:
                pauses += 1
                clock.t += int(answer.headers["retry-after"])
                answer = await client.say(job["prompt"], model=job["model"])
            assert answer.status == 200
        assert pauses == 1
        assert client.simulator.stats.over_minute == 0
