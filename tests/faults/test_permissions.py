"""What may be read and written changes in mid-run: exit 5 with the file's name, and nothing is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.crash.judge import Judge
from tests.crash.scene import Scene, ended
from tests.crash.test_faults import unchangeable
from tests.faults.conftest import MakeScene
from tests.integration.house import until


@contextmanager
def closed(path: Path) -> Iterator[None]:
    """Take the right to write from the owner; of root, whom rights do not bind, the way that binds it."""
    if os.geteuid() == 0:
        with unchangeable(path):
            yield
        return
    mode = path.stat().st_mode & 0o777
    path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield
    finally:
        path.chmod(mode)


def carried_on(scene: Scene, judge: Judge) -> None:
    """Assert that with its rights back the run is finished, and that every promise was kept."""
    again = scene.run("resume")
    assert again.code == 0, again.err
    assert judge.judge() == []


@pytest.mark.parametrize("what", ["folder", "database", "log"])
def test_a_right_that_is_lost_in_mid_run(make_scene: MakeScene, what: str) -> None:
    """A run that may not write any more ends with what was committed, or finishes if it need not."""
    scene = make_scene(n_jobs=600)
    process = scene.start(*scene.submit_words())
    until(lambda: len(scene.requests()) >= 40, "forty requests")
    wal = scene.db.with_name("jobs.db-wal")
    judge = Judge(scene)
    with closed({"folder": scene.folder, "database": scene.db, "log": wal}[what]):
        done = ended(process)
    assert "Traceback" not in done.err
    assert "defect" not in done.err
    if done.code != 0:
        assert done.code == 5, done.err
        assert str(scene.db) in done.err
        assert "fix: " in done.err
    judge.died()
    carried_on(scene, judge)


def test_a_database_that_is_moved_away_in_mid_run(make_scene: MakeScene) -> None:
    """Renamed under a run it is told or finished where it is; put back, nothing is missing."""
    scene = make_scene(n_jobs=600)
    process = scene.start(*scene.submit_words())
    until(lambda: len(scene.requests()) >= 40, "forty requests")
    away = scene.folder / "away.db"
    scene.db.rename(away)
    done = ended(process)
    assert "Traceback" not in done.err
    assert "defect" not in done.err
    away.rename(scene.db)
    judge = Judge(scene)
    judge.died()
    carried_on(scene, judge)
