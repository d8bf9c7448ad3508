"""What was used is kept by day, and shown beside the limits and the provider's own count."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from tests.fakes import ApiServer
from tests.integration.house import House

HEADERS = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "41",
    "anthropic-ratelimit-requests-reset": "2099-01-01T00:00:00Z",
    "anthropic-ratelimit-input-tokens-limit": "30000",
    "anthropic-ratelimit-input-tokens-remaining": "29000",
    "anthropic-ratelimit-input-tokens-reset": "2099-01-01T00:00:00Z",
}


def test_the_providers_own_count_is_shown(house: House, api: ApiServer) -> None:
    """`limits` shows what the headers of the last answer said, of requests and of tokens, and when."""
    last = HEADERS | {"anthropic-ratelimit-requests-remaining": "39"}
    api.script([{"n": 3, "headers": last}, {"headers": HEADERS}])
    house.jobs(3)
    house.submit("-c", "1", "--rpm", "600")
    told = house.run("limits", "--json").json
    by = {one["what"]: one for one in told["said"]}
    assert (by["requests"]["limit"], by["requests"]["remaining"]) == ("50", "39")
    assert by["input-tokens"]["remaining"] == "29000"
    said_at = datetime.fromisoformat(by["requests"]["said_at"]).timestamp()
    assert time.time() - 60 < said_at <= time.time()
    shown = house.run("limits").out
    assert "the provider's own count" in shown
    assert "29000" in shown


def test_usage_by_day_model_and_run(house: House, api: ApiServer) -> None:
    """Every request counts once by its day, model and run, 429s among them, tokens as answered."""
    api.script([{"n": 2, "status": 429, "headers": {"retry-after": "0"}}])
    house.jobs(4)
    house.submit("-c", "1")
    today = datetime.now(UTC).date().isoformat()
    (day,) = usage(house)
    assert (day["day"], day["requests"], day["rate_limited"]) == (today, 5, 1)
    (row,) = usage(house, "--by", "run", "--by", "model")
    view = house.status()
    assert (row["run"], row["day"]) == (view.name, None)
    assert row["model"]
    assert (row["input_tokens"], row["output_tokens"]) == (view.input_tokens, view.output_tokens)
    shown = house.run("usage", "--days", "1").out
    assert today in shown
    assert shown.splitlines()[0].split()[:2] == ["DAY", "REQUESTS"]


def test_usage_of_nothing_sent(house: House, api: ApiServer) -> None:
    """Before the first request it says so, and ends well."""
    house.jobs(1)
    house.submit("--no-run")
    assert "nothing was sent yet" in house.run("usage").err
    assert usage(house) == []
    assert api.requests() == []


def usage(house: House, *words: str) -> list[dict[str, Any]]:
    """Return the rows of ``usage --json``."""
    rows: list[dict[str, Any]] = house.run("usage", *words, "--json").json["usage"]
    return rows
