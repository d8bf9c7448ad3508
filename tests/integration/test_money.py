"""What answers cost is counted by job, run and day, at the table's prices or a person's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House

KNOWN = "claude-haiku-4-5"
#: Of the table, dollars a token.
HAIKU_IN, HAIKU_OUT, HAIKU_READ, HAIKU_WRITE = 1e-6, 5e-6, 1e-7, 1.25e-6
USED = {"input_tokens": 100, "output_tokens": 20}


def answer(usage: dict[str, Any], *, model: str = KNOWN) -> dict[str, Any]:
    """Return a provider's answer that names its usage."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": "no"}],
        "stop_reason": "end_turn",
        "usage": usage,
    }


def submitted(house: House, *args: str, model: str = KNOWN, **how: Any) -> Any:
    """Send the jobs to the fake provider with a model that has a price."""
    to_api = ("--provider", "anthropic", "--base-url", house.url, "--model", model)
    return house.run("submit", "jobs.jsonl", *to_api, "--json", *args, **how)


def test_a_job_a_run_and_a_day_have_their_cost(house: House, api: ApiServer) -> None:
    """Cache reads and writes at their own prices; shown by status, show, jobs, usage, events and export."""
    used = USED | {"cache_read_input_tokens": 1_000, "cache_creation_input_tokens": 500}
    api.script([{"body": answer(used)}])
    house.jobs(3)
    done = submitted(house)
    each = 100 * HAIKU_IN + 20 * HAIKU_OUT + 1_000 * HAIKU_READ + 500 * HAIKU_WRITE
    told = [event["cost_usd"] for event in done.named("job.completed")]
    assert told == [pytest.approx(each)] * 3
    assert house.run("status", "--json").json["cost_usd"] == pytest.approx(3 * each)
    assert f"${3 * each:,.4f}" in house.run("status").out
    assert house.show("j0").job.cost_usd == pytest.approx(each)
    assert [float(row["cost_usd"]) for row in house.csv()] == [pytest.approx(each)] * 3
    (day,) = house.run("usage", "--json").json["usage"]
    assert day["cost_usd"] == pytest.approx(3 * each)
    (by_run,) = house.run("usage", "--by", "run", "--json").json["usage"]
    assert by_run["cost_usd"] == pytest.approx(3 * each)
    saved = 1_000 * (HAIKU_IN - HAIKU_READ) - 500 * (HAIKU_WRITE - HAIKU_IN)
    assert (by_run["cache_read_tokens"], by_run["cache_write_tokens"]) == (3_000, 1_500)
    assert by_run["cache_saved_usd"] == pytest.approx(3 * saved)
    told = house.run("usage").out
    assert "cache: 3,000 of 4,800 tokens in were read from it, 1,500 written to it" in told
    assert f"saved about ${3 * saved:,.4f}" in told
    assert f"${3 * each:,.4f}" in house.run("usage").out


def test_every_try_is_paid(house: House, api: ApiServer) -> None:
    """An answer that is asked for again was billed: a job's cost is the sum over its tries."""
    api.script([{"body": answer(USED)}])
    house.jobs(1)
    submitted(house, "--expect-json", "--max-attempts", "2", code=1)
    each = 100 * HAIKU_IN + 20 * HAIKU_OUT
    assert house.rows()["j0"].cost_usd == pytest.approx(2 * each)
    assert house.status().cost_usd == pytest.approx(2 * each)


def test_errors_cost_nothing_known(house: House, api: ApiServer) -> None:
    """A job that only met errors has no cost; the run's is that of the others."""
    api.script([{"contains": "j0;", "status": 400}, {"body": answer(USED)}])
    house.jobs(2)
    submitted(house, code=1)
    rows = house.rows()
    assert rows["j0"].cost_usd is None
    assert house.status().cost_usd == rows["j1"].cost_usd


def test_a_model_without_a_price_costs_nobody_knows_what(house: House, api: ApiServer) -> None:
    """Empty, never 0, and said once, with the lines that name its price; the next run takes it."""
    api.script([{"body": answer(USED, model="house-model")}])
    house.jobs(3)
    done = submitted(house, model="house-model")
    assert done.err.count('[prices."house-model"]') == 1
    assert [row["cost_usd"] for row in house.csv()] == [""] * 3
    assert house.run("status", "--json").json["cost_usd"] is None
    (day,) = house.run("usage", "--json").json["usage"]
    assert day["cost_usd"] is None
    (house.folder / "batchrunner.toml").write_text(
        '[prices."house-model"]\ninput = 10\noutput = 50\n'
    )
    house.jobs(2, prefix="k")
    done = submitted(house, "--new", model="house-model")
    assert "prices" not in done.err
    each = 100 * 10e-6 + 20 * 50e-6
    assert [float(row["cost_usd"]) for row in house.csv()] == [pytest.approx(each)] * 2


def test_a_price_that_is_said_comes_before_the_table(house: House, api: ApiServer) -> None:
    """Only what is said is replaced."""
    (house.folder / "batchrunner.toml").write_text(f'[prices."{KNOWN}"]\noutput = 100\n')
    api.script([{"body": answer(USED)}])
    house.jobs(1)
    submitted(house)
    assert house.status().cost_usd == pytest.approx(100 * HAIKU_IN + 20 * 100e-6)
