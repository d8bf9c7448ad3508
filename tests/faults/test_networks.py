"""Networks that go and come back in mid-run: waited for, charged to nobody, and nothing is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from batchrunner.app import Batchrunner
from batchrunner.options import JobFilter
from tests.crash.judge import Judge
from tests.crash.scene import Scene, ended
from tests.fakes import ApiServer, running_server
from tests.faults.conftest import MakeScene
from tests.faults.odd_server import running_odd_server
from tests.faults.relay import Relay, running_relay
from tests.integration.house import until

#: Minutes of waiting: not a part of every run.
pytestmark = pytest.mark.slow


@pytest.fixture
def relay(calm: ApiServer) -> Iterator[Relay]:
    """What stands before the provider."""
    with running_relay(calm.port) as relay:
        yield relay


def by(scene: Scene, url: str, *more: str) -> list[str]:
    """Return the words of a submit that goes to another address."""
    words = scene.submit_words(*more)
    words[words.index("--base-url") + 1] = url
    return words


def outage_of(scene: Scene) -> None:
    """Wait until the run says that it waits for the network."""

    def waits() -> bool:
        view = Batchrunner(scene.db).status("run")
        return view.waiting is not None and view.waiting.reason == "network"

    until(waits, "a wait for the network")


@pytest.mark.parametrize("times", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_network_that_is_cut_and_comes_back(
    make_scene: MakeScene, relay: Relay, times: int
) -> None:
    """Every connection breaks and none is made: the run waits, goes on by itself, and marks what may be double."""
    scene = make_scene(n_jobs=150 * times)
    process = scene.start(*by(scene, relay.url))
    for n in range(times):
        seen = len(scene.requests())
        until(lambda seen=seen: len(scene.requests()) >= seen + 40, "forty more requests")  # type: ignore[misc]
        relay.cut()
        outage_of(scene)
        assert process.poll() is None, n
        relay.mend()
    done = ended(process)
    assert done.code == 0, done.err
    assert Judge(scene).judge() == []
    # Only what was in flight at a cut may go twice.
    assert sum(scene.arrivals().values()) - len(scene.keys) <= times * scene.concurrency
    rows = Batchrunner(scene.db).jobs("run", JobFilter())
    assert sum(row.attempts - 1 for row in rows) <= times * scene.concurrency


def test_a_resolver_that_goes_and_comes_back(make_scene: MakeScene) -> None:
    """A name that is not found in mid-run is waited for: told as dns, charged to nobody, sent once."""
    with running_odd_server() as server:
        scene = make_scene(api=server, n_jobs=120)
        gone = scene.folder / "gone"
        rig = {"names": {"host": "api.example.test", "gone": str(gone)}}
        scene.program = ("-m", "tests.faults.rigged", json.dumps(rig))
        port = server.url.rpartition(":")[2]
        words = by(scene, f"http://api.example.test:{port}", "--allow-insecure-http")
        process = scene.start(*words, "--min-interval", "0.02")
        until(lambda: len(scene.requests()) >= 30, "thirty requests")
        gone.touch()
        # Names are kept for a while, and so are connections: new ones are wanted now.
        server.drop()
        outage_of(scene)
        view = Batchrunner(scene.db).status("run")
        assert view.waiting is not None
        assert "api.example.test" in view.waiting.detail
        gone.unlink()
        done = ended(process)
        assert done.code == 0, done.err
        assert Judge(scene).judge() == []
        assert sum(scene.arrivals().values()) - len(scene.keys) <= scene.concurrency


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_that_goes_for_minutes_is_waited_for(make_scene: MakeScene) -> None:
    """Two minutes without a server in mid-run cost a request now and then, and no job a try."""
    with running_server(latency_s=0.015) as api:
        scene = make_scene(api=api, n_jobs=300)
        process = scene.start(*scene.submit_words())
        until(lambda: len(scene.requests()) >= 60, "sixty requests")
        api.stop()
        outage_of(scene)
        away = time.monotonic() + 120
        while time.monotonic() < away:
            assert process.poll() is None
            time.sleep(1)
        with running_server(port=api.port, log=api.log_path, latency_s=0.015):
            done = ended(process, 300.0)
            assert done.code == 0, done.err
        assert Judge(scene).judge() == []
        assert sum(scene.arrivals().values()) - len(scene.keys) <= scene.concurrency
