"""At exit 2 nothing was stored: whatever can be refused is looked at before anything is written."""

from __future__ import annotations

import sqlite3

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House

#: A path that only bodies with a second message have.
FAR = ("--set", "messages.1.content=x")


def stored(house: House) -> list[object]:
    """Return everything that a call may have changed."""
    tables = (
        "SELECT id, name, state, options, priority, digest, n_pending, n_failed FROM run",
        "SELECT id, key, state, attempts, model_id FROM job",
        "SELECT job_id, body FROM payload",
        "SELECT * FROM cap",
    )
    with sqlite3.connect(house.db) as conn:
        return [sorted(conn.execute(table).fetchall(), key=repr) for table in tables]


@pytest.fixture
def left(house: House, api: ApiServer) -> House:
    """Give a folder with a run of which two jobs are done, two failed and two left."""
    api.script([{"contains": "bad", "status": 400}, {"to": 99}])
    said = ["ok", "ok", "bad", "bad", "ok", "ok"]
    lines = [{"id": f"j{i}", "prompt": f"{say} {i}"} for i, say in enumerate(said)]
    house.write("jobs.jsonl", lines)
    house.submit("-c", "1", "--max-failures", "2", code=3)
    assert house.counts().pending == 2
    return house


@pytest.mark.parametrize(
    "call",
    [
        ("resume", "--json", "--timeout", "77", "--rpm", "40", *FAR),
        ("resume", "--json", "--all", "--timeout", "77", "--rpm", "40", *FAR),
        ("retry", "--json", "--job", "j2", "--timeout", "77", *FAR),
        ("retry", "--json", "--set", "max_tokens=9", "-o", "taken.csv"),
        ("resume", "--json", "--all", "--max-cost", "5", "--timeout", "77"),
    ],
    ids=" ".join,
)
def test_a_call_that_is_refused_stores_nothing(left: House, call: tuple[str, ...]) -> None:
    """``--set`` that no body has a place for, a file that is taken, a bound that can't be kept: as before."""
    (left.folder / "taken.csv").write_text("mine")
    before = stored(left)
    left.run(*call, code=2)
    assert stored(left) == before
    assert (left.folder / "taken.csv").read_text() == "mine"


def test_the_same_file_with_a_field_that_has_no_place_stores_nothing(left: House) -> None:
    """Its options stay what they were."""
    before = stored(left)
    left.submit("--timeout", "77", *FAR, code=2)
    assert stored(left) == before


def test_an_update_with_a_field_that_has_no_place_takes_nothing(left: House) -> None:
    """Neither the new lines nor the options; a line that is answered need not have the place."""
    before = stored(left)
    lines: list[dict[str, object]] = [{"id": f"j{i}", "prompt": "new"} for i in range(8)]
    left.write("jobs.jsonl", lines)
    left.submit("--update", "--timeout", "77", *FAR, code=2)
    assert stored(left) == before
    says = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    body = {"model": "sim-1", "max_tokens": 9, "messages": says}
    url = "/v1/messages"
    shown = [
        {"custom_id": f"j{i}", "method": "POST", "url": url, "body": body} for i in range(2, 8)
    ]
    left.write("jobs.jsonl", [*lines[:2], *shown])
    left.submit("--update", "--no-run", *FAR, code=0)
    bodies = [left.show(f"j{i}").request for i in range(2, 8)]
    assert all('"content":"x"' in str(one).replace(" ", "").replace("'", '"') for one in bodies)
