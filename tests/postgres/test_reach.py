"""What is said once reaches every worker within a second: those that send, are idle, or wait for long.

Each worker fills a header with its own name, so that what the provider saw tells who sent it.
"""

from __future__ import annotations

import time
from datetime import datetime
from itertools import pairwise
from typing import Final

import pytest

from tests.fakes import ApiServer, SeenRequest
from tests.integration.house import House, Running, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

WORKERS: Final = ("a", "b", "c")
#: What a change may take to reach everybody (seconds).
SOON_S: Final = 1.0


@pytest.fixture
def workers(house: House) -> list[Running]:
    """Three workers, each with a name that its requests carry."""
    house.environ["ANTHROPIC_API_KEY"] = "test"
    # With a word in the variable nobody refuses to store the header.
    house.environ["WHO"] = "nobody"
    house.jobs(2_000)
    house.submit("--no-run", "-H", "X-Who: ${WHO}", "-c", "2", "--rpm", "1200", code=0)
    return [house.start("worker", "--json", environ={"WHO": who}) for who in WORKERS]


def sent_by(request: SeenRequest) -> str:
    """Return which worker sent a request."""
    return request.headers["x-who"]


def all_send(api: ApiServer, since: float = 0.0) -> dict[str, float]:
    """Wait until each worker has sent after that moment; return how long the first of each took."""

    def firsts() -> dict[str, float]:
        found: dict[str, float] = {}
        for request in api.requests():
            if request.mono > since:
                found.setdefault(sent_by(request), request.mono - since)
        return found if len(found) == len(WORKERS) else {}

    found: dict[str, float] = until(firsts, "every worker sends")
    return found


def goes_on(api: ApiServer, since: float) -> None:
    """Check that a run is taken up within a second: its first job goes alone, the others when it is answered."""
    took = sorted(all_send(api, since).values())
    assert took[0] <= SOON_S
    assert took[-1] <= 2 * SOON_S


def have_looked(house: House) -> None:
    """Wait until each worker was heard of two seconds later than now."""
    then = time.time() * 1000 + 2_000
    until(
        lambda: all((one.beat_at or 0) > then for one in house.status().workers),
        "every worker is heard of",
    )


def last_send(api: ApiServer, since: float) -> float:
    """Return how long after that moment the last request began."""
    return max((request.mono for request in api.requests()), default=since) - since


def waits_for(worker: Running, reason: str) -> None:
    """Wait until a worker says that it waits for that."""

    def says() -> bool:
        told = worker.so_far.named("limit.waiting")
        return bool(told) and told[-1]["waiting"]["reason"] == reason

    worker.until(says, f"it waits: {reason}")


def test_pause_priority_concurrency_and_cancel(
    house: House, api: ApiServer, workers: list[Running]
) -> None:
    """A run that is paused or cancelled is sent by none a second later, and resumed it goes on within one."""
    api.script([{"delay_s": 0.05}])
    all_send(api)
    house.run("pause", "jobs")
    at = time.monotonic()
    have_looked(house)
    assert last_send(api, at) <= SOON_S
    house.run("resume", "jobs", "--no-wait", "--json", "--priority", "7", code=3)
    goes_on(api, time.monotonic())
    house.run("limits", "set", "concurrency=1", "--run", "jobs")
    at = time.monotonic()
    have_looked(house)
    for who in WORKERS:
        mine = [
            one.mono for one in api.requests() if sent_by(one) == who and one.mono > at + SOON_S
        ]
        # One at a time: none begins while another is on its way.
        assert all(later - early >= 0.05 for early, later in pairwise(mine))
    house.run("cancel", "jobs", "-y")
    at = time.monotonic()
    have_looked(house)
    assert last_send(api, at) <= SOON_S
    house.run("retry", "jobs", "--no-wait", "--json", code=3)
    goes_on(api, time.monotonic())


def test_limits_bind_and_free_all(house: House, api: ApiServer, workers: list[Running]) -> None:
    """A lowered limit holds from the next second on, and a raised one frees who waits for it: at once."""
    all_send(api)
    house.run("limits", "set", "rpm=1")
    at = time.monotonic()
    have_looked(house)
    assert last_send(api, at) <= SOON_S
    house.run("limits", "set", "rpm=1200")
    assert max(all_send(api, time.monotonic()).values()) <= SOON_S
    house.run("limits", "set", "rpd=1")
    at = time.monotonic()
    for worker in workers:
        waits_for(worker, "daily_limit")
    assert last_send(api, at) <= SOON_S
    house.run("limits", "set", "rpd=none")
    assert max(all_send(api, time.monotonic()).values()) <= SOON_S


def test_a_long_pause_of_the_provider_ends_with_the_run(
    house: House, api: ApiServer, workers: list[Running]
) -> None:
    """While all wait for a minute's 429 each sees within a second that the run was paused."""
    all_send(api)
    api.script([{"status": 429, "headers": {"retry-after": "60"}}])
    for worker in workers:
        waits_for(worker, "rate_limited")
    house.run("pause", "jobs")
    at = time.time()
    for worker in workers:
        worker.sees("run.halted")
        (halted,) = worker.so_far.named("run.halted")
        assert halted["waiting"]["reason"] == "paused"
        assert datetime.fromisoformat(halted["at"]).timestamp() - at <= SOON_S


def test_new_work_reaches_idle_workers(
    house: House, api: ApiServer, workers: list[Running]
) -> None:
    """A run that is stored while all are idle is begun within a second, and then sent by all of them."""
    house.run("cancel", "jobs", "-y")
    until(lambda: house.counts().running == 0, "all are idle")
    house.jobs(2_000, "more.jsonl", prefix="m")
    typed = ("--no-run", "-H", "X-Who: ${WHO}", "-c", "2", "--name", "more")
    house.submit(*typed, file="more.jsonl", code=0)
    goes_on(api, time.monotonic())
