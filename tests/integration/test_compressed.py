"""``--compress``: a database that stays small, and nothing else that is different."""

from __future__ import annotations

import io
import json
import sqlite3
from pathlib import Path

from batchrunner.options import ExportOptions
from tests.fakes import ApiServer
from tests.integration.house import House

SYSTEM = "Answer with one word: is the review kind, unkind, or neither? Say nothing besides. " * 4


def jobs(house: House, n: int, word: str = "say", name: str = "jobs.jsonl") -> Path:
    """Write prompts that resemble each other."""
    return house.write(
        name,
        [{"id": f"j{i}", "prompt": f"{word} j{i}; at length", "system": SYSTEM} for i in range(n)],
    )


def codecs(house: House, table: str) -> list[int | None]:
    """Return what each body of a table was written with, in input order."""
    connection = sqlite3.connect(house.db)
    try:
        rows = connection.execute(f"SELECT codec FROM {table} ORDER BY job_id").fetchall()
        return [codec for (codec,) in rows]
    finally:
        connection.close()


def exported(house: House, format_name: str) -> bytes:
    """Return an export."""
    out = io.BytesIO()
    house.app.export(None, ExportOptions(format=format_name), out)
    return out.getvalue()


def test_everything_else_is_the_same(house: House, api: ApiServer) -> None:
    """Requests go out, and are exported and shown, as without it; the database is a fraction."""
    jobs(house, 60)
    outputs = []
    for small in (False, True):
        house.db.unlink(missing_ok=True)
        house.submit(*(["--compress"] if small else []), "-c", "4")
        outputs.append(
            (
                [row["output_text"] for row in house.csv()],
                exported(house, "input"),
                house.show("j59").request,
                {(seen.path, seen.key) for seen in api.requests()},
            )
        )
    assert outputs[0] == outputs[1]
    assert set(codecs(house, "payload")) == {1}
    assert codecs(house, "response")[-10:] == [2] * 10
    rows = [json.loads(row) for row in exported(house, "jsonl").splitlines()]
    assert all(row["response"]["type"] == "message" for row in rows)
    assert house.show("j59").response is not None
    assert house.app.db_check() == []


def test_resume_goes_on_so_by_itself(house: House) -> None:
    """What was typed at submit holds for the whole run: later processes need no option."""
    jobs(house, 60)
    house.submit("--compress", "--no-run")
    house.resume("-c", "4")
    assert codecs(house, "response")[-10:] == [2] * 10


def test_configuration_says_it_too(house: House) -> None:
    """``compress = true`` in a file holds where nothing is typed, and ``--no-compress`` above it."""
    (house.folder / "batchrunner.toml").write_text("compress = true\n")
    jobs(house, 40)
    house.submit("--no-run", "--name", "small")
    assert set(codecs(house, "payload")) == {1}
    house.db.unlink()
    house.submit("--no-compress", "-c", "4")
    assert set(codecs(house, "payload") + codecs(house, "response")) == {None}


def test_update_of_a_compressed_run(house: House, api: ApiServer) -> None:
    """A file taken into it is kept compressed too; jobs that are the same stay answered."""
    jobs(house, 30)
    house.submit("--compress", "-c", "4", "--name", "reviews")
    n_before = len(api.requests())
    jobs(house, 40)
    done = house.submit("--update", "-c", "4", "--name", "reviews")
    assert done.named("run.stored")[0]["diff"] == {
        "same": 30, "changed": 0, "new": 10, "gone": 0, "changed_completed": 0,
    }  # fmt: skip
    assert len(api.requests()) == n_before + 10
    assert None not in codecs(house, "payload")
    assert [row["status"] for row in house.csv()] == ["completed"] * 40
    assert house.app.db_check() == []


def test_retried_and_replaced_requests_go_out_plain(house: House, api: ApiServer) -> None:
    """A job that is put back, its model replaced, is sent as a server wants it."""
    jobs(house, 20)
    house.submit("--compress", "--no-run", "--name", "reviews")
    house.run("cancel", "reviews", "-y")
    house.run("retry", "reviews", "--set", "model=sim-2", "-c", "4")
    assert {seen.prompt for seen in api.requests()} == {f"say j{i}; at length" for i in range(20)}
    assert {row.model for row in house.rows().values()} == {"sim-2"}


def test_backup_holds_compressed_runs(house: House) -> None:
    """A copy reads back like the original."""
    jobs(house, 40)
    house.submit("--compress", "-c", "4")
    before = exported(house, "jsonl")
    house.run("db", "backup", "copy.db")
    house.db.unlink()
    (house.folder / "copy.db").rename(house.db)
    assert exported(house, "jsonl") == before


def test_damaged_body_is_a_damaged_database(house: House) -> None:
    """Sending, exporting and showing end with exit 5 and the job; what came back is stored."""
    jobs(house, 20)
    house.submit("--compress", "--no-run", "--name", "reviews")
    connection = sqlite3.connect(house.db)
    connection.execute(
        "UPDATE payload SET body = CAST(substr(body, 1, 20) || x'FFFF' AS BLOB)"
        " WHERE job_id & 0xFFFFFFFF = 18"
    )
    connection.commit()
    connection.close()
    for words in (("resume", "-c", "1"), ("export",), ("show", "reviews", "j17")):
        done = house.run(*words, code=5)
        assert "request of job 'j17' can't be read back" in done.err
        assert "fix: Run `batchrunner db check" in done.err
        assert "Traceback" not in done.err
    done = house.run("export", "--json", code=5)
    assert done.error["kind"] == "damaged"
    done = house.run("db", "check", code=5)
    assert "problem: run reviews: " in done.out
    connection = sqlite3.connect(house.db)
    states = dict(connection.execute("SELECT state, count(*) FROM job GROUP BY state"))
    connection.close()
    assert states.keys() == {"pending", "completed"}
