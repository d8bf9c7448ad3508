"""Money on a queue of workers: a bound is never passed by all of them together, whoever is killed."""

from __future__ import annotations

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House, Running
from tests.integration.test_max_cost import MOST, PRICES, billed, replies, submit


@pytest.fixture
def dear(house: House) -> House:
    """Give a folder whose model costs a dollar for a hundred tokens of an answer."""
    (house.folder / "batchrunner.toml").write_text(PRICES)
    return house


def start(house: House) -> Running:
    """Start a worker that ends with the work."""
    return house.start("worker", "--until-done", "--json")


@pytest.mark.parametrize(
    "n_workers",
    [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(4, marks=pytest.mark.slow)],
)
def test_max_cost_holds_over_all_workers(dear: House, api: ApiServer, n_workers: int) -> None:
    """However many send, the bill stays within it and little is left; then the run stops, and goes on with more."""
    replies(api, 20, delay_s=0.02)
    dear.jobs(140, max_tokens=MOST)
    dear.run(*submit(dear, "-c", "8", "--max-cost", "20", "--no-run"), code=0)
    for worker in [start(dear) for _ in range(n_workers)]:
        worker.ended(0)
    spent = billed(api, 20)
    assert 18.0 <= spent <= 20.0
    assert dear.status().cost_usd == pytest.approx(spent)
    waiting = dear.run("status", "--json").json["waiting"]
    assert waiting["reason"] == "budget"
    assert "of --max-cost $20.00 spent" in waiting["detail"]
    n_before = len(api.requests())
    start(dear).ended(0)
    assert len(api.requests()) == n_before
    worker = dear.start("worker", "--json")
    dear.resume("--max-cost", "29", code=0)
    assert dear.counts().completed == 140
