"""Two keys of one organization: its limits are found by what responses name."""

from __future__ import annotations

from itertools import pairwise

import pytest

from batchrunner.models import JobCounts
from tests.fakes import ApiServer
from tests.integration.house import House

FIRST = {"ANTHROPIC_API_KEY": "sk-ant-api03-" + "g" * 40}
SECOND = {"ANTHROPIC_API_KEY": "sk-ant-api03-" + "h" * 40}


@pytest.fixture
def known(house: House) -> House:
    """Give a house in which the first key's organization is known."""
    house.jobs(3, "a.jsonl", prefix="a")
    house.submit(file="a.jsonl", environ=FIRST)
    return house


def test_jobs_in_flight_when_the_organization_is_found_come_back(
    known: House, api: ApiServer
) -> None:
    """A 429 to the last jobs of a run that just moved to its organization is waited for like any other."""
    api.script(
        [{"contains": "say b2;", "times": 1, "status": 429, "headers": {"retry-after": "1"}}]
    )
    known.jobs(4, "b.jsonl", prefix="b")
    known.submit(file="b.jsonl", environ=SECOND)
    assert known.counts("b") == JobCounts(completed=4)
    assert len({limit.scope for limit in known.app.limits()}) <= 1


def test_a_limit_typed_for_a_new_key_holds_for_its_organization(
    known: House, api: ApiServer
) -> None:
    """What was typed before the organization was known is kept to after it is, and shown as the organization's."""
    known.jobs(6, "b.jsonl", prefix="b")
    before = len(api.requests())
    known.submit("--min-interval", "0.4", file="b.jsonl", environ=SECOND)
    sent = [r.mono for r in api.requests()[before:]]
    assert len(sent) == 6
    assert min(b - a for a, b in pairwise(sent)) >= 0.35
    (limit,) = [x for x in known.status("b").limits if x.limit == "min_interval"]
    assert limit.value == 400.0
    assert limit.scope == known.status("a").limits[0].scope


def test_an_account_that_was_named_stays(known: House, api: ApiServer) -> None:
    """--account says whose limits these are, whatever organization responses name."""
    known.jobs(4, "b.jsonl", prefix="b")
    known.submit("--account", "team", "--rpm", "500", file="b.jsonl", environ=SECOND)
    scopes = {limit.scope.partition("/")[0] for limit in known.app.limits() if limit.limit == "rpm"}
    assert scopes == {"team"}
    (view,) = [limit for limit in known.status("b").limits if limit.limit == "rpm"]
    assert view.used == 4


def test_a_key_once_seen_begins_in_its_organization(known: House) -> None:
    """A later run of the second key is bound to the organization's limits before its first request."""
    known.jobs(2, "b.jsonl", prefix="b")
    known.submit(file="b.jsonl", environ=SECOND)
    known.jobs(2, "c.jsonl", prefix="c")
    known.submit("--rpm", "30", "--no-run", file="c.jsonl", environ=SECOND)
    scopes = {view.scope for view in known.app.limits() if view.source == "flag"}
    assert scopes == {limit.scope for limit in known.status("a").limits if limit.limit == "rpm"}
