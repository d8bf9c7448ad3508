"""A submit that is refused leaves the folder as it was; what others stored stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrunner.errors import InputError
from batchrunner.options import CallOptions, RunOptions
from batchrunner.store import caps, processes
from batchrunner.store.database import Database
from batchrunner.store.sqlite.database import FileDatabase
from batchrunner.store.sqlite.discard import discard_unused
from tests.fakes import ApiServer
from tests.integration.house import House


def left(folder: Path) -> list[str]:
    """Return what is in a folder besides its job files."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".jsonl")


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("{no json\n", ()),
        ("\n", ()),
        ('{"prompt": "a"}\n', ("--provider", "nobody")),
        ('{"prompt": "a"}\n', ("--provider", "anthropic", "--base-url", "ftp://x")),
        ('{"prompt": "a", "model": "m"}\n', ()),
        ('{"prompt": "a"}\n', ("--provider", "anthropic")),
        ('{"prompt": "a"}\n', ("--provider", "anthropic", "--model", "m", "-o", "jobs.jsonl")),
    ],
    ids=["no JSON", "no jobs", "no such provider", "no address", "no provider", "no model", "output"],
)  # fmt: skip
def test_a_refused_submit_leaves_nothing(house: House, text: str, args: tuple[str, ...]) -> None:
    """All or nothing: exit 2 makes no database, and none of the files that go with one."""
    (house.folder / "jobs.jsonl").write_text(text)
    house.run("submit", "jobs.jsonl", *args, code=2)
    assert left(house.folder) == []


def test_a_file_that_is_not_there_leaves_nothing(house: House) -> None:
    """A misspelt name makes no database either."""
    house.run("submit", "jbos.jsonl", *house.to_api, code=2)
    assert left(house.folder) == []


def test_a_folder_that_is_not_there_is_not_made(house: House) -> None:
    """submit says how to make it, others where they looked; nobody makes one, and each exits with 2."""
    house.jobs(1)
    place = ("--db", "my jobs/b.db")
    error = house.submit(*place, code=2).error
    assert f"there is no folder {house.folder}/my jobs." in error["message"]
    assert error["fix"].startswith(f"Make it first: mkdir -p '{house.folder}/my jobs'")
    for command in ("status", "resume", "usage", "export"):
        error = house.run(command, "--json", *place, code=2).error
        assert f"There is no database at {house.folder}/my jobs/b.db." in error["message"]
    assert left(house.folder) == []


def test_a_database_that_was_there_stays(house: House, api: ApiServer) -> None:
    """A refused submit takes nothing away from a folder in which others were not."""
    house.jobs(1)
    house.submit()
    (house.folder / "bad.jsonl").write_text("{no json\n")
    house.submit(file="bad.jsonl", code=2)
    assert house.counts().completed == 1


def test_what_somebody_would_miss_is_not_discarded(tmp_path: Path) -> None:
    """Another process on the database, or an account with its limits, keeps it."""
    db = FileDatabase.open(tmp_path / "b.db", create=True)
    process = processes.register_process(db, "follower", now_ms=1)
    assert not discard_unused(db)
    processes.unregister(db, process)
    caps.scope_for(db, "anthropic", "k")
    assert not discard_unused(db)
    assert left(tmp_path) == ["b.db"]
    other = FileDatabase.open(tmp_path / "c.db", create=True)
    assert discard_unused(other)
    assert left(tmp_path) == ["b.db"]


async def test_a_database_taken_away_meanwhile_is_made_again(
    house: House, api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A submit that opened the file just before a refused one took it away stores its jobs all the same."""
    register = processes.register_process
    taken: list[bool] = []

    def late(db: Database, role: processes.Role, *, now_ms: int) -> processes.Process:
        if not taken:
            taken.append(discard_unused(db))
        return register(db, role, now_ms=now_ms)

    monkeypatch.setattr(processes, "register_process", late)
    house.jobs(2)
    result = await house.app.submit(
        [str(house.folder / "jobs.jsonl")],
        run=RunOptions(provider="anthropic", base_url=api.url, model="m"),
        call=CallOptions(name="tickets"),
    )
    assert taken == [True]
    assert result.run.jobs.completed == 2


async def test_a_refusal_from_python_leaves_nothing(house: House) -> None:
    """The same holds for callers of the Python interface."""
    (house.folder / "jobs.jsonl").write_text("{no json\n")
    with pytest.raises(InputError):
        await house.app.submit([str(house.folder / "jobs.jsonl")], run=RunOptions(provider="http"))
    assert left(house.folder) == []
