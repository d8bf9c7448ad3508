"""Power cuts: what was promised is there, and what was sent is known (:mod:`tests.crash.power`)."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.crash.power import TALES, Disk, try_tale
from tests.crash.recorder import LIBRARY, Record

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="SQLite is inside this Python")


def told(what: str, name: str, offset: int = 0, content: bytes = b"") -> Record:
    """Return a record whose time does not matter."""
    return Record(what, 0.0, name, offset, content)


def left(disk: Disk, folder: Path, share: float) -> dict[str, bytes]:
    """Return what a power cut leaves, by name."""

    disk.leave(folder, random.Random(1), share)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_disk_keeps_what_was_synced_and_may_forget_the_rest(tmp_path: Path) -> None:
    """The disk that judges is no kinder than a real one."""
    disk = Disk()
    for record in (
        told("write", "a", 0, b"old."), told("sync", "a"), told("write", "a", 0, b"new!"),
        told("truncate", "a", 2), told("write", "b", 0, b"b"),
    ):  # fmt: skip
        disk.tell(record)
    assert left(disk, tmp_path, 0.0) == {"a": b"old."}
    assert left(disk, tmp_path, 1.0) == {"a": b"ne", "b": b"b"}


def test_deleted_file_is_back_until_the_folder_was_synced(tmp_path: Path) -> None:
    """The first sync of a new file is the folder's too."""
    disk = Disk()
    for record in (told("write", "a", 0, b"a"), told("sync", "a"), told("delete", "a")):
        disk.tell(record)
    assert left(disk, tmp_path, 0.0) == {"a": b"a"}
    for record in (told("write", "b", 0, b"b"), told("sync", "b")):
        disk.tell(record)
    (tmp_path / "a").unlink()
    assert left(disk, tmp_path, 0.0) == {"b": b"b"}


def test_program_that_does_not_sync_its_log_is_found_out(tmp_path: Path) -> None:
    """The judgement can fail: without the log's syncs answers are lost and sends unknown."""
    outcome = try_tale("drain", tmp_path, disks=30, carried_on=0, never_syncs="jobs.db-wal")
    assert any("claims are known" in problem for problem in outcome.problems)


@pytest.mark.parametrize(
    "tale",
    [pytest.param(tale, marks=[] if tale == "drain" else pytest.mark.slow) for tale in TALES],
)
def test_power_cut_loses_nothing_that_was_promised(tmp_path: Path, tale: str) -> None:
    """Whatever of the unsynced a disk kept, SQLite is whole, answers stay and sends are known."""
    outcome = try_tale(tale, tmp_path, disks=60, carried_on=1)
    assert outcome.problems == []
    assert (outcome.disks, outcome.carried_on) == (60, 1)
    assert outcome.syncs > 10


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("tale", TALES)
def test_many_power_cuts(tmp_path: Path, tale: str) -> None:
    """The same of many disks, of which some are carried on to the end."""
    assert try_tale(tale, tmp_path, seed=7, disks=1_000, carried_on=12).problems == []
