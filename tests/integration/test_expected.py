"""--expect-json: answers that are not what was asked for are asked for again, and counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House

SCHEMA = {
    "type": "object", "required": ["label"], "properties": {"label": {"enum": ["spam", "ham"]}},
}  # fmt: skip
TYPED = f"--expect-json={json.dumps(SCHEMA)}"


def answer(text: str, **fields: Any) -> dict[str, Any]:
    """Return an answer with a text."""
    return {
        "id": "m", "type": "message", "role": "assistant", "model": "sim-1", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": text}], "usage": {"input_tokens": 3, "output_tokens": 2},
    } | fields  # fmt: skip


def test_an_answer_that_does_not_match_is_asked_for_again(house: House, api: ApiServer) -> None:
    """Prose and a wrong label are charged tries with their tokens; the answer that matches is kept."""
    api.script([
        {"to": 1, "body": answer("Sure! Here it is.")},
        {"from": 2, "to": 2, "body": answer('{"label": "eggs"}')},
        {"from": 3, "body": answer('```json\n{"label": "spam"}\n```')},
    ])  # fmt: skip
    house.jobs(1)
    done = house.submit(TYPED)
    retries = [event for event in done.events if event["event"] == "job.retry"]
    assert [event["error_kind"] for event in retries] == ["bad_response"] * 2
    assert "label: 'eggs' is not one of ['spam', 'ham']" in retries[1]["error_message"]
    (row,) = house.csv()
    assert (row["status"], row["attempts"], row["error_kind"]) == ("completed", "3", "")
    assert (row["input_tokens"], row["output_tokens"]) == ("9", "6")


def test_an_answer_that_never_matches_fails_its_job(house: House, api: ApiServer) -> None:
    """After the last try the job is failed, keeps its answer, and errors says what helps."""
    api.script([{"body": answer('{"label": "sp', stop_reason="max_tokens")}])
    house.jobs(1)
    house.submit("--expect-json", "--max-attempts", "2", code=1)
    (row,) = house.csv()
    assert (row["status"], row["attempts"], row["error_kind"]) == ("failed", "2", "bad_response")
    assert row["error_message"].startswith("The answer was cut at max_tokens")
    assert (row["input_tokens"], row["finish_reason"]) == ("6", "max_tokens")
    assert b'{\\"label\\": \\"sp' in (house.show("j0").response or b"")
    assert "--set max_tokens=N" in house.run("errors").out


def test_the_configuration_may_say_it(house: House, api: ApiServer) -> None:
    """A file named there is relative to it and read at each call; one that can't be is named with its line."""
    (house.folder / "here").mkdir()
    (house.folder / "batchrunner.toml").write_text('rpm = 600\nexpect_json = "here/schema.json"\n')
    house.jobs(1)
    refused = house.submit(code=2)
    assert "batchrunner.toml:2: expect_json: cannot read" in refused.error["message"]
    assert not house.db.exists()
    (house.folder / "here/schema.json").write_text(json.dumps(SCHEMA))
    api.script([{"to": 1, "body": answer("ham")}, {"body": answer('{"label": "ham"}')}])
    house.submit()
    assert house.csv()[0]["attempts"] == "2"


def test_the_schema_stays_with_the_run(house: House, api: ApiServer) -> None:
    """resume holds answers to what was typed at submit, until none is typed."""
    (house.folder / "schema.json").write_text(json.dumps(SCHEMA))
    house.jobs(1)
    house.submit("--no-run", "--max-attempts", "1", "--expect-json", "schema.json")
    api.script([{"body": answer("[]")}])
    house.resume(code=1)
    assert house.rows()["j0"].error_kind == "bad_response"
    house.run("retry", "--expect-json", "none")
    assert house.counts().completed == 1


def test_large_answers_are_looked_at_too(house: House, api: ApiServer) -> None:
    """An answer that is looked at beside the loop is judged like a small one."""
    api.script([
        {"to": 1, "body": answer(json.dumps({"label": "spam", "x": "y" * 60_000})[:-1])},
        {"from": 2, "body": answer(json.dumps({"label": "spam", "x": "y" * 60_000}))},
    ])  # fmt: skip
    house.jobs(1)
    house.submit(TYPED)
    assert house.csv()[0]["attempts"] == "2"


def test_an_answer_that_the_check_trips_over_is_kept(house: House, api: ApiServer) -> None:
    """An answer that was paid for is stored, whatever happens to the library that looks at it."""
    api.script([{"body": answer("1" + "0" * 400)}])
    house.jobs(1)
    house.submit('--expect-json={"multipleOf": 0.1}', "--max-attempts", "1", code=1)
    (row,) = house.csv()
    assert (row["error_kind"], row["input_tokens"]) == ("bad_response", "3")
    assert len(api.requests()) == 1


def test_when_nothing_matches_the_run_stops(house: House, api: ApiServer) -> None:
    """Where the first ten jobs all fail so, the run stops with work left and says how to go on."""
    api.script([{"body": answer("no")}])
    house.jobs(30)
    done = house.submit("--expect-json", "--max-attempts", "1", code=3)
    assert "--expect-json SCHEMA" in done.err or "--expect-json SCHEMA" in done.out
    assert house.status().waiting is not None
    assert house.counts().pending == 30


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ('{"type": "objekt"}', "objekt"),
        ('{"$ref": "http://127.0.0.1:9/x.json"}', "refers to"),
        ('{"$ref": "#/$defs/none"}', "refers to"),
        ('{"items": {"$dynamicRef": "#none"}}', "refers to"),
        ('{"label": "spam"}', "none of a schema's words"),
        ('{"type": ', "not JSON"),
        ("none.json", "none.json"),
    ],
    ids=["type", "elsewhere", "dangling", "dangling too", "no schema", "no JSON", "no file"],
)
def test_a_schema_that_is_none(house: House, api: ApiServer, schema: str, said: str) -> None:
    """What is wrong with a schema is told at submit, and nothing is stored or fetched."""
    house.jobs(1)
    done = house.submit("--expect-json", schema, code=2)
    assert said in done.error["message"]
    assert not house.db.exists()


def test_a_schema_of_parts(house: House, api: ApiServer) -> None:
    """A schema may refer to its own definitions, and to itself."""
    tree = {
        "$ref": "#/$defs/node",
        "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
    }
    api.script([
        {"to": 1, "body": answer('{"next": {"next": 1}}')},
        {"from": 2, "body": answer('{"next": {"next": {}}}')},
    ])  # fmt: skip
    house.jobs(1)
    done = house.submit("--expect-json", json.dumps(tree))
    assert "next.next: 1 is not of type 'object'" in done.out
