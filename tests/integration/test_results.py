"""Results: one row in, one row out, in every format, while it runs and when it has ended."""

from __future__ import annotations

import csv
import io
import json

import pytest

from batchrunner.app import Batchrunner
from batchrunner.errors import UsageError
from batchrunner.options import ExportOptions
from tests.fakes import ApiServer
from tests.integration.house import House
from tests.integration.test_json import COLUMNS


def finished_with_one_of_each(house: House, api: ApiServer) -> None:
    """Run four jobs: two answered, one failed, one never sent."""
    api.script([{"contains": "say j1;", "status": 400, "body": "no"}])
    house.write(
        "jobs.jsonl",
        [
            {"id": "j0", "prompt": "say j0;", "metadata": {"row": 1, "tags": ["a", "b"]}},
            {"id": "j1", "prompt": "say j1;"},
            {"id": "j2", "prompt": "say j2;", "metadata": {"row": 3}},
            {"id": "j3", "prompt": "say j3;"},
        ],
    )
    house.submit("-c", "1", "--rpd", "3", "--no-wait", code=3)


def test_csv_has_the_columns_in_input_order(house: House, api: ApiServer) -> None:
    """The CSV has the named columns, a row a job in input order, metadata after, unknown empty."""
    finished_with_one_of_each(house, api)
    text = house.run("export", "-f", "csv").out
    assert "\r" not in text
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert list(rows[0]) == [*COLUMNS, "metadata.row", "metadata.tags"]
    assert [row["key"] for row in rows] == ["j0", "j1", "j2", "j3"]
    assert [row["status"] for row in rows] == ["completed", "failed", "completed", "pending"]
    assert [row["attempts"] for row in rows] == ["1", "1", "1", "0"]
    assert rows[0]["metadata.tags"] == '["a","b"]'
    assert rows[0]["output_text"]
    assert (rows[1]["http_status"], rows[1]["error_kind"]) == ("400", "invalid_request")
    assert rows[3]["http_status"] == rows[3]["started_at"] == rows[3]["input_tokens"] == ""


def test_jsonl_carries_the_whole_response(house: House, api: ApiServer) -> None:
    """jsonl rows carry what the server answered, failures included."""
    finished_with_one_of_each(house, api)
    rows = [json.loads(line) for line in house.run("export", "-f", "jsonl").out.splitlines()]
    assert [row["key"] for row in rows] == ["j0", "j1", "j2", "j3"]
    assert rows[0]["response"]["content"][0]["type"] == "text"
    assert rows[1]["response"] == "no"
    assert rows[3]["response"] is None


def test_provider_formats(house: House, api: ApiServer) -> None:
    """anthropic and openai lines are those of the providers' own batch results."""
    finished_with_one_of_each(house, api)
    rows = [json.loads(line) for line in house.run("export", "-f", "anthropic").out.splitlines()]
    assert [row["custom_id"] for row in rows] == ["j0", "j1", "j2", "j3"]
    assert rows[0]["result"]["type"] == "succeeded"
    assert rows[0]["result"]["message"]["role"] == "assistant"
    assert rows[1]["result"]["type"] == "errored"
    rows = [json.loads(line) for line in house.run("export", "-f", "openai").out.splitlines()]
    assert rows[0]["custom_id"] == "j0"
    assert rows[0]["response"]["status_code"] == 200
    assert rows[0]["error"] is None


def test_input_lines_can_be_submitted_again(house: House, api: ApiServer) -> None:
    """-f input writes the jobs' own lines with their keys; what failed can be submitted from it."""
    finished_with_one_of_each(house, api)
    house.run("export", "-f", "input", "--status", "failed", "-o", "failed.jsonl")
    api.script([])
    house.run("submit", "failed.jsonl", *house.to_api, "--rpd", "none", code=0)
    assert list(house.rows("failed")) == ["j1"]
    assert house.counts("failed").completed == 1


def test_a_file_is_told_by_its_ending_and_never_lost(house: House, api: ApiServer) -> None:
    """export -o tells the format by the ending, refuses to overwrite without --force, and writes whole files."""
    finished_with_one_of_each(house, api)
    house.run("export", "-o", "out.jsonl")
    assert len((house.folder / "out.jsonl").read_text().splitlines()) == 4
    done = house.run("export", "-o", "out.jsonl", code=2)
    assert "--force" in done.err
    house.run("export", "-o", "out.jsonl", "--force", "--status", "completed")
    assert len((house.folder / "out.jsonl").read_text().splitlines()) == 2


def test_nothing_is_written_over_the_database(house: House) -> None:
    """--force never takes the place of the database in use, under any of its names, or of its log and locks."""
    house.jobs(2)
    house.submit("--db", "o.csv")
    db = house.folder / "o.csv"
    (house.folder / "linked.csv").symlink_to(db)
    (house.folder / "hard.csv").hardlink_to(db)
    app = Batchrunner(db)
    for where in ("o.csv", "linked.csv", "hard.csv", "o.csv-wal", "o.csv.lock"):
        output = house.folder / where
        with pytest.raises(UsageError, match="the database is there, or what belongs to it"):
            app.export(None, ExportOptions(format="csv", output=output, force=True), io.BytesIO())
        with pytest.raises(UsageError, match="nothing is written over it"):
            app.write_report(None, io.BytesIO(), output=output, force=True)
    assert app.db_check() == []
    assert not (house.folder / "o.csv-wal").exists()


def test_an_export_during_a_run_is_whole(house: House, api: ApiServer) -> None:
    """While the run is being sent, an export has every job, each with its state of the moment."""
    api.script([{"to": 3}, {"fault": "hang"}])
    house.jobs(10)
    running = house.start_submit("-c", "2")
    running.sees("job.completed", 3)
    rows = list(csv.DictReader(io.StringIO(house.run("export").out, newline="")))
    assert [row["key"] for row in rows] == [f"j{i}" for i in range(10)]
    statuses = [row["status"] for row in rows]
    assert statuses.count("completed") == 3
    assert set(statuses) == {"completed", "running", "pending"}
    running.kill()


def test_o_writes_whenever_the_run_ends_or_stops(house: House, api: ApiServer) -> None:
    """-o FILE is written when the run stops and again when it ends, replacing its own earlier file."""
    house.jobs(4)
    house.submit("-o", "out.csv", "--rpd", "2", "--no-wait", code=3)
    out = house.folder / "out.csv"
    assert out.read_text().count(",completed,") == 2
    assert out.read_text().count(",pending,") == 2
    house.resume("--rpd", "none")
    assert out.read_text().count(",completed,") == 4


def test_o_never_replaces_a_strangers_file(house: House, api: ApiServer) -> None:
    """A file that this run did not write is refused at submit: exit 2, nothing stored, the file as it was."""
    house.jobs(2)
    (house.folder / "out.csv").write_text("precious")
    done = house.submit("-o", "out.csv", code=2)
    assert "out.csv" in done.error["message"]
    assert (house.folder / "out.csv").read_text() == "precious"
    assert not house.db.exists()
    assert api.requests() == []


def test_an_export_of_ugly_text_reads_back(house: House, api: ApiServer) -> None:
    """Quotes, commas, line ends and any Unicode survive the way into the CSV and out of it."""
    ugly = 'a "b", c\r\nd\ne; \U0001f600 \u2028 =1+1 \\n'
    body = {
        "id": "m", "type": "message", "role": "assistant", "model": "sim-1",
        "stop_reason": "end_turn", "content": [{"type": "text", "text": ugly}],
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }  # fmt: skip
    api.script([{"body": body}])
    house.jobs(1)
    house.submit()
    assert house.csv()[0]["output_text"] == ugly


@pytest.mark.parametrize(
    ("words", "point"),
    [
        (("export", "-o", "out.csv", "--force"), "export.rename"),
        (("db", "backup", "copy.db"), "backup.copied"),
    ],
    ids=["export", "backup"],
)
def test_what_a_killed_one_left_goes_with_the_next(
    house: House, api: ApiServer, words: tuple[str, ...], point: str
) -> None:
    """Half a file has no name; the next one of the same file leaves nothing of it behind."""
    house.jobs(1)
    house.submit("--no-run")
    before = {path.name for path in house.folder.iterdir()}
    house.run(*words, code=-9, environ={"BATCHRUNNER_FAILPOINT": point})
    made = next(word for word in words if "." in word)
    left = {path.name for path in house.folder.iterdir()} - before
    assert left
    assert made not in left
    house.run(*words)
    assert {path.name for path in house.folder.iterdir()} - before == {made}
