"""Money on a queue of workers: a bound is never passed by all of them together, whoever is killed."""

from __future__ import annotations

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House, Running, until
from tests.integration.test_max_cost import MOST, PRICES, billed, replies, submit


@pytest.fixture
def dear(house: House) -> House:
    """Give a folder whose model costs a dollar for a hundred tokens of an answer."""
    (house.folder / "batchrunner.toml").write_text(PRICES)
    return house


def start(house: House) -> Running:
    """Start a worker that ends with the work."""
    return house.start("worker", "--until-done", "--json")


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2, 4])
def test_max_cost_holds_over_all_workers(dear: House, api: ApiServer, n_workers: int) -> None:
    """However many send, the bill stays within it and little is left; then the run stops, and goes on with more."""
    replies(api, 90, delay_s=0.02)
    dear.jobs(50, max_tokens=MOST)
    dear.run(*submit(dear, "-c", "8", "--max-cost", "36", "--no-run"), code=0)
    for worker in [start(dear) for _ in range(n_workers)]:
        worker.ended(0)
    spent = billed(api, 90)
    assert 35.0 <= spent <= 36.0
    assert dear.status().cost_usd == pytest.approx(spent)
    waiting = dear.run("status", "--json").json["waiting"]
    assert waiting["reason"] == "budget"
    assert "of --max-cost $36.00 spent" in waiting["detail"]
    n_before = len(api.requests())
    start(dear).ended(0)
    assert len(api.requests()) == n_before
    dear.start("worker", "--json")
    dear.resume("--max-cost", "46", code=0)
    assert dear.counts().completed == 50


@pytest.mark.parametrize("n_workers", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_what_a_killed_worker_had_in_flight_stays_counted(
    dear: House, api: ApiServer, n_workers: int
) -> None:
    """It may have been paid: the others spend what is left beside its worst case, and not a cent of it."""
    replies(api, MOST, delay_s=1.0)
    dear.jobs(80, max_tokens=MOST)
    dear.run(*submit(dear, "-c", "6", "--max-cost", "40", "--no-run"), code=0)
    first = start(dear)
    first.sees("job.completed")
    others = [start(dear) for _ in range(n_workers - 1)]
    first.until(lambda: dear.counts().running > 1, "some are in flight")
    first.kill()
    replies(api, MOST, delay_s=0.1)
    for worker in others:
        worker.ended(0)
    status = dear.status()
    n_lost = status.requests.interrupted
    assert n_lost > 0
    assert billed(api, MOST) <= 40.0
    assert status.cost_usd is not None
    assert 36.0 <= status.cost_usd + n_lost <= 40.0
    detail = dear.run("status", "--json").json["waiting"]["detail"]
    assert f"up to ${n_lost}.0000 for answers that were lost" in detail


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [2, 4])
def test_a_budget_holds_over_all_workers_and_runs(
    dear: House, api: ApiServer, n_workers: int
) -> None:
    """Two runs of two accounts, one killed worker: a day costs no more, and until when they wait is told."""
    (dear.folder / "batchrunner.toml").write_text(f"[budget]\nday = 30\n{PRICES}")
    replies(api, 20, delay_s=1.0)
    for name in ("one", "two"):
        dear.jobs(120, max_tokens=MOST, prefix=name)
        dear.run(*submit(dear, "--name", name, "--account", name, "-c", "6", "--no-run"), code=0)
    first, *others = [dear.start("worker", "--json") for _ in range(n_workers)]
    for worker in (first, *others):
        worker.sees("job.completed")
    replies(api, 20, delay_s=0.05)
    first.kill()
    for worker in others:
        worker.sees("limit.waiting", 2)
    stood = [dear.status(name) for name in ("one", "two")]
    n_lost = sum(status.requests.interrupted for status in stood)
    assert n_lost > 0
    assert billed(api, 20) <= 30.0
    # At 29.0 the next one's worst case is what is left, give or take a rounding.
    assert 29.0 <= round(sum(status.cost_usd or 0.0 for status in stood) + n_lost, 6) <= 30.0
    waiting = dear.run("status", "one", "--json").json["waiting"]
    assert waiting["reason"] == "budget"
    assert "of the $30.00 that [budget] allows a day" in waiting["detail"]


@pytest.mark.slow
def test_a_bound_said_while_workers_send_counts_what_they_have_out(
    dear: House, api: ApiServer
) -> None:
    """What is on the wire of all of them counts at its worst; nothing more goes out that has no room."""
    replies(api, MOST, delay_s=0.2)
    dear.jobs(90, max_tokens=MOST)
    dear.run(*submit(dear, "-c", "4", "--no-run"), code=0)
    for worker in [dear.start("worker", "--json") for _ in range(2)]:
        worker.sees("job.completed", 2)
    api.script([{"fault": "hang"}])
    n_answered = len(api.requests())
    until(
        lambda: dear.counts().completed == n_answered and dear.counts().running == 16,
        "each has four out, and four that wait",
    )
    n = n_answered + 9
    dear.run("resume", "--max-cost", f"{n}.50", "--no-wait", code=3)
    until(lambda: dear.counts().running == 9, "what has no room goes back")
    assert len(api.requests()) <= n


def test_who_submits_under_a_budget_is_told_that_workers_have_their_own(dear: House) -> None:
    """It does not travel: told where workers are to send the run, or do, and not where this process does."""
    (dear.folder / "batchrunner.toml").write_text(f"[budget]\nday = 30\n{PRICES}")
    told = "workers keep to the one of their own"
    for name, *options in (("one", "--no-run"), ("two",)):
        dear.jobs(1, max_tokens=MOST, prefix=name)
        done = dear.run(*submit(dear, "--name", name, *options), code=0)
        assert (told in done.err) is bool(options)
    worker = dear.start("worker", "--json")
    worker.sees("run.finished")
    dear.jobs(1, max_tokens=MOST, prefix="three")
    assert told in dear.run(*submit(dear, "--name", "three"), code=0).err
