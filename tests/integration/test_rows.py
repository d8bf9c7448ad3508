"""Rows into prompts: CSV, TSV and JSON lines through a template, and out again with the answers."""

from __future__ import annotations

import csv
import io
import json

import pytest

from tests.fakes import ApiServer
from tests.integration.house import House

CITIES = 'city,id,model,land in full\nLima,c1,sim-1,Peru\n"Bogotá, D.C.",c2,,"Co\nlombia"\n'
TEMPLATE = 'Where is {{ city }} ({{ row["land in full"] }})?\n'


def write(house: House, name: str, text: str) -> None:
    """Write a file as it is."""
    (house.folder / name).write_bytes(text.encode())


def prompts(api: ApiServer) -> list[str]:
    """Return what was asked, in any order."""
    return sorted(request.prompt for request in api.requests())


def test_csv_through_a_template(house: House, api: ApiServer) -> None:
    """Each row is a prompt; its columns say key and model, and all come back beside the answer."""
    write(house, "cities.csv", CITIES)
    write(house, "ask.j2", TEMPLATE)
    house.submit("--template", "ask.j2", file="cities.csv")
    assert prompts(api) == ["Where is Bogotá, D.C. (Co\nlombia)?", "Where is Lima (Peru)?"]
    assert house.status().name == "cities"
    rows = house.csv()
    assert [row["key"] for row in rows] == ["c1", "c2"]
    assert [row["status"] for row in rows] == ["completed"] * 2
    back = [
        {name.removeprefix("metadata."): row[name] for name in row if "." in name} for row in rows
    ]
    assert back == list(csv.DictReader(io.StringIO(CITIES, newline="")))


def test_json_rows_and_a_key_of_ones_own(house: House, api: ApiServer) -> None:
    """With a template JSON lines are data whatever their fields are called; --key names the key."""
    house.write("rows.jsonl", [{"nr": n, "url": f"/{n}", "messages": ["x"]} for n in (7, 8)])
    write(house, "ask.j2", "Read {{ url }} and {{ messages }}")
    house.submit("--template", "ask.j2", "--key", "nr", file="rows.jsonl")
    assert prompts(api) == ['Read /7 and ["x"]', 'Read /8 and ["x"]']
    assert list(house.rows()) == ["7", "8"]
    assert json.loads(house.rows()["7"].metadata or b"") == {
        "nr": 7,
        "url": "/7",
        "messages": ["x"],
    }


def test_csv_from_standard_input(house: House, api: ApiServer) -> None:
    """A table may come down a pipe; without a key its rows are counted."""
    write(house, "ask.j2", "{{ a }}?")
    house.submit("--template", "ask.j2", file="-", stdin=b"a\tb\nx\t1\n")
    assert prompts(api) == ["x?"]
    assert list(house.rows()) == ["line-2"]


def test_csv_without_a_template_has_a_prompt_column(house: House, api: ApiServer) -> None:
    """Its column `prompt` is sent, with `max_tokens` and `system` where they stand."""
    write(house, "p.csv", "id,prompt,max_tokens,system\na,Hi,7,\nb,Ho,,Be kind\n")
    house.submit("--max-tokens", "99", "--no-run", file="p.csv")
    first, second = (json.loads(house.show(key).request or b"") for key in ("a", "b"))
    assert (first["max_tokens"], first.get("system")) == (7, None)
    assert (second["max_tokens"], second["system"]) == (99, "Be kind")


def test_csv_with_neither_is_one_error(house: House, api: ApiServer) -> None:
    """No prompt column and no template is one mistake: it names the columns and what to type."""
    write(house, "p.csv", "id,text\na,Hi\nb,Ho\n")
    done = house.submit(file="p.csv", code=2)
    assert "`id`, `text`" in done.error["message"]
    assert "--template FILE" in done.error["fix"]
    assert not done.error["lines"]
    assert not house.db.exists()


def test_every_bad_row_is_told(house: House, api: ApiServer) -> None:
    """A file is taken whole or not at all: missing fields and broken rows, each with line and column."""
    house.write("rows.jsonl", [{"a": "1"}, {"b": "2"}, {"a": ""}])
    write(house, "more.csv", "a,max_tokens\n1,many\n1\n")
    write(house, "ask.j2", "{{ a }}")
    done = house.run(
        "submit", "rows.jsonl", "more.csv", *house.to_api, "--json", "--template", "ask.j2", code=2
    )
    told = [(line["file"], line["line"], line["reason"]) for line in done.error["lines"]]
    assert [(file, line) for file, line, _ in told] == [
        ("rows.jsonl", 2), ("rows.jsonl", 3), ("more.csv", 2), ("more.csv", 3),
    ]  # fmt: skip
    for (_, _, reason), said in zip(told, ["`a`", "empty", "`max_tokens`", "1 cell"], strict=True):
        assert said in reason
    assert not house.db.exists()


def test_bad_rows_can_be_left_out(house: House, api: ApiServer) -> None:
    """--skip-invalid takes the good rows, and the rejects file has the others as they were."""
    write(house, "rows.csv", "a,b\n1,2\n3\n")
    write(house, "ask.j2", "{{ a }}{{ b }}")
    house.submit("--template", "ask.j2", "--skip-invalid", file="rows.csv", code=1)
    assert prompts(api) == ["12"]
    (reject,) = (house.folder / "rows.rejects.jsonl").read_text().splitlines()
    assert json.loads(reject) == {
        "file": "rows.csv", "line": 3, "reason": "it has 1 cell, and the heading 2", "text": "3",
    }  # fmt: skip


def test_the_same_rows_go_on(house: House, api: ApiServer) -> None:
    """The same prompts, keys and fields are the same run, though they stand in another kind of file."""
    write(house, "rows.csv", "id,a\n1,x\n")
    house.write("rows.jsonl", [{"id": "1", "a": "x"}])
    write(house, "ask.j2", "{{ a }}")
    house.submit("--template", "ask.j2", file="rows.csv")
    house.submit("--template", "ask.j2", file="rows.jsonl", code=0)
    assert len(api.requests()) == 1
    write(house, "ask.j2", "{{ a }}!")
    house.submit("--template", "ask.j2", file="rows.csv", code=2)


def test_key_of_request_lines(house: House, api: ApiServer) -> None:
    """--key takes a field of the line, which is not sent, or of its metadata; one without is told."""
    body = {"max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    lines = [{**body, "nr": 1}, {**body, "metadata": {"nr": "two"}}]
    house.write("jobs.jsonl", lines)
    house.submit("--key", "nr", "--no-run")
    assert list(house.rows()) == ["1", "two"]
    assert "nr" not in json.loads(house.show("1").request or b"")
    house.write("jobs.jsonl", [*lines, body])
    done = house.submit("--key", "nr", code=2)
    (line,) = done.error["lines"]
    assert (line["line"], "`nr`" in line["reason"]) == (3, True)


@pytest.mark.parametrize(
    "how", [["--skip-invalid"], ["--skip-invalid", "--dry-run"]], ids=["submit", "plan"]
)
def test_rows_that_a_quote_swallowed_are_not_dropped(
    house: House, api: ApiServer, how: list[str]
) -> None:
    """--skip-invalid leaves out no lines of which nobody knows whether they are rows; it names them."""
    (house.folder / "rows.csv").write_text('id,prompt\n1,a\n2,"oops\n' + "3,b\n" * 50)
    done = house.submit(*how, file="rows.csv", code=2)
    assert "line 3: a quote is opened and never closed (lines 3 to 53)" in done.error["message"]
    assert not house.db.exists()
    assert api.requests() == []


def test_a_template_or_key_at_fault_is_not_blamed_on_the_lines(house: House) -> None:
    """One cause for all lines is mended in one place, and standard input says when it takes tables."""
    (house.folder / "t.j2").write_text("{{ nam }}")
    (house.folder / "rows.csv").write_text("name\nBo\nJo\n")
    told = house.submit("--template", "t.j2", file="rows.csv", code=2).error["fix"]
    assert told.startswith("mend the template; a field that may lack is {{ name | default('') }}")
    (house.folder / "t.j2").write_text("{{ name }}")
    told = house.submit("--template", "t.j2", "--key", "id", file="rows.csv", code=2).error["fix"]
    assert told.startswith("name another field with --key")
    told = house.submit(file="-", stdin=b"name\nBo\n", code=2).error["fix"]
    assert "read there with --template FILE" in told
    (house.folder / "t.j2").write_bytes(b"\xff\xfe")
    told = house.submit("--template", "t.j2", file="rows.csv", code=2).error["message"]
    assert told == "--template t.j2 is no text in UTF-8."
