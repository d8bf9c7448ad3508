"""``init``: what it writes runs, says only what is true, and takes nobody's place."""

from __future__ import annotations

import re

import pytest

from batchrunner.config import load_config
from batchrunner.models import RunState
from tests.integration.house import House


def test_what_it_writes_runs_as_it_is(house: House) -> None:
    """In an empty folder: init, submit, and every job is answered, without a key or an option."""
    told = house.run("init")
    assert sorted(path.name for path in house.folder.iterdir()) == [
        "batchrunner.db", "batchrunner.toml", "jobs.jsonl",
    ]  # fmt: skip
    assert "try: batchrunner submit jobs.jsonl -o results.csv" in told.err
    assert house.run("runs").err.startswith("there are no runs yet")
    house.run("submit", "jobs.jsonl", "-o", "results.csv")
    view = house.status()
    assert (view.state, view.jobs.completed, view.provider) == (RunState.FINISHED, 6, "simulator")
    rows = (house.folder / "results.csv").read_text().splitlines()
    assert rows[0].endswith(",metadata.expected")
    assert len(rows) == 7


def test_every_line_that_is_commented_out_is_a_line(house: House) -> None:
    """Without its # each example of the configuration is taken, and says what it means."""
    house.run("init")
    path = house.folder / "batchrunner.toml"
    text = path.read_text()
    examples = re.findall(r"^# ((?:\w+ = |\[).*)$", text, re.MULTILINE)
    assert len(examples) > 10
    live = re.sub(r"^(provider|model) = .*\n", "", text, flags=re.MULTILINE)
    path.write_text(re.sub(r"^# ((?:\w+ = |\[).*)$", r"\1", live, flags=re.MULTILINE))
    config = load_config(file=path, profile="fast", environ=house.environ)
    assert config.provider == "anthropic"
    assert house.run("config", "show", "--profile", "fast").out.count("batchrunner.toml:") > 10


@pytest.mark.parametrize("name", ["jobs.jsonl", "batchrunner.toml"])
def test_nothing_is_overwritten(house: House, name: str) -> None:
    """Where one of the files is there it is left, the other is not written, and no database made."""
    mine = house.folder / name
    mine.write_text("# mine\n")
    refused = house.run("init", code=2)
    assert f"{name} is there already; nothing was written." in refused.err
    assert [path.name for path in house.folder.iterdir()] == [name]
    assert mine.read_text() == "# mine\n"


def test_a_database_that_is_there_stays(house: House) -> None:
    """init beside a database adds the files, and its runs stay."""
    house.jobs(1, "mine.jsonl")
    house.submit(file="mine.jsonl")
    written = house.run("init", "--json").json
    assert written["database"] == str(house.db)
    assert house.status().name == "mine"


def test_files_go_again_where_the_database_cannot_be(house: House) -> None:
    """With a database that can't be made, nothing is left behind."""
    house.run("init", "--db", "no-such-folder/jobs.db", code=2)
    assert list(house.folder.iterdir()) == []
