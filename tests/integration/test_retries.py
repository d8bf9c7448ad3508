"""Retries that fall due when nothing else is left."""

from __future__ import annotations

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House

SIMULATOR = ("--provider", "simulator", "--model", "sim-1")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("concurrency", ["1", "2"])
def test_a_retry_is_sent_after_the_last_fresh_job(
    house: House, api: ApiServer, concurrency: str
) -> None:
    """A job that waits for its next try is not forgotten when the fresh jobs run out before."""
    api.script([{"n": 2, "status": 529}])
    house.jobs(4)
    house.run(
        *("submit", "jobs.jsonl", *SIMULATOR, "--base-url", api.url),
        *("-c", concurrency, "--max-time", "10"),
        code=0,
    )
    assert [request.status for request in api.requests()].count(200) == 4
