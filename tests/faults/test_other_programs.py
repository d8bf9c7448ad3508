"""Other programs in the database: one that writes for a while, and one that reads and reads."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.crash.judge import Judge
from tests.crash.scene import Scene, ended
from tests.faults.conftest import MakeScene
from tests.integration.house import until

#: Minutes of waiting: not a part of every run.
pytestmark = pytest.mark.slow


@contextmanager
def another(scene: Scene) -> Iterator[sqlite3.Connection]:
    """Open the database as another program does."""
    connection = sqlite3.connect(scene.db, isolation_level=None, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


@pytest.mark.parametrize("how", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_lock_of_seconds_in_mid_run_is_waited_for(make_scene: MakeScene, how: str) -> None:
    """While somebody writes nothing is claimed or lost, and afterwards the run goes on; nothing goes twice."""
    scene = make_scene(n_jobs=400)
    process = scene.start(*scene.submit_words())
    until(lambda: len(scene.requests()) >= 40, "forty requests")
    with another(scene) as other:
        other.execute(how)
        held = time.monotonic()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3.0)
        other.execute("ROLLBACK")
    # What was claimed before the lock may go out under it, and not one more.
    under = [seen for seen in scene.requests() if seen.mono > held + 1.0]
    assert len(under) < 4 * scene.concurrency
    done = ended(process)
    assert done.code == 0, done.err
    assert Judge(scene).judge() == []
    assert set(scene.arrivals().values()) == {1}


@pytest.mark.parametrize("words", [["status"], ["jobs"], ["export", "run"]], ids=" ".join)
def test_views_need_no_lock(make_scene: MakeScene, words: list[str]) -> None:
    """Who only looks is not kept from it by who writes."""
    scene = make_scene()
    assert scene.run(*scene.submit_words("--no-run")).code == 0
    with another(scene) as other:
        other.execute("BEGIN IMMEDIATE")
        assert scene.run(*words).code == 0
        other.execute("ROLLBACK")


@pytest.mark.parametrize("stays", [False, True], ids=["leaves", "stays"])
def test_a_log_that_a_reader_keeps_is_told_and_shrinks(make_scene: MakeScene, stays: bool) -> None:
    """Under a long read the log grows, which is said with who it may be; after it the log is emptied."""
    scene = make_scene(n_jobs=800, concurrency=16)
    assert scene.run(*scene.submit_words("--no-run")).code == 0
    scene.program = (
        "-m",
        "tests.faults.rigged",
        json.dumps({"engine": {"CHECKPOINT_BYTES": 40_000}}),
    )
    wal = scene.db.with_name("jobs.db-wal")
    with another(scene) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM job").fetchall()
        process = scene.start("resume")
        # The words of -q: notices are seen in the log file instead.
        until(lambda: wal.exists() and wal.stat().st_size > 12 * 40_000, "a log that grows")
        if not stays:
            other.execute("ROLLBACK")
        done = ended(process)
        assert done.code == 0, done.err
        if stays:
            # The other one still has it open, and reads.
            assert wal.stat().st_size > 0
            other.execute("ROLLBACK")
        else:
            assert wal.stat().st_size < 40_000
    scene.program = ("-m", "batchrunner")
    assert scene.run("status").code == 0
    assert Judge(scene).judge() == []


def test_a_log_that_grows_names_how_to_find_the_reader(make_scene: MakeScene) -> None:
    """The sentence has the size, the likely cause, and the command that tells who it is; each doubling once."""
    scene = make_scene(n_jobs=800, concurrency=16)
    log = scene.folder / "events.jsonl"
    assert scene.run(*scene.submit_words("--no-run")).code == 0
    scene.program = (
        "-m",
        "tests.faults.rigged",
        json.dumps({"engine": {"CHECKPOINT_BYTES": 40_000}}),
    )
    with another(scene) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM job").fetchall()
        done = scene.run("resume", "--log-file", str(log))
        assert done.code == 0, done.err
        other.execute("ROLLBACK")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    said = [event["message"] for event in events if "log has grown" in event.get("message", "")]
    assert 1 <= len(said) <= 6
    assert f"lsof {scene.db}-wal" in said[0]
