"""A disk that reports errors to SQLite, at one call or from one on: told, and nothing is lost.

A submit that sends is given a disk whose n-th write, sync, read … fails. However it ends, what was
committed stays, what may have been sent is marked, and the same command on a sound disk finishes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from tests.crash.judge import Judge
from tests.crash.recorder import LIBRARY
from tests.crash.scene import Done, Scene
from tests.faults.conftest import MakeScene
from tests.faults.sick_disk import CODES

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="SQLite is inside Python here")

#: As many failures as a disk that stays sick has.
FOR_GOOD: Final = 1_000_000
#: What the sentence is about, by how SQLite is refused.
SAYS: Final = {
    "io": ("the disk reports an error", "health"),
    "full": ("the disk is full", "Free some space"),
}
#: A full disk is tried for a second, not for ten; the log is emptied in mid-run.
SHORT: Final = {"DISK_TRIES": 1, "CHECKPOINT_BYTES": 20_000}


def sick(scene: Scene, words: list[str], **disk: Any) -> Done:
    """Run a command on a sick disk."""
    rig = {"disk": disk, "engine": SHORT}
    scene.program = ("-m", "tests.faults.rigged", json.dumps(rig))
    try:
        return scene.run(*words)
    finally:
        scene.program = ("-m", "batchrunner")


def played(scene: Scene, what: str, how: str, first: int, times: int) -> tuple[bool, Done]:
    """Submit on a disk that fails, carry on with a sound one, and judge; return whether it failed."""
    noted = scene.folder / "failed"
    done = sick(
        scene, scene.submit_words(), what=what, how=how, first=first, times=times, noted=str(noted)
    )
    if done.code != 0:
        assert done.code == 5, done.err
        assert "Traceback" not in done.err
        for word in (str(scene.db), "fix: "):
            assert word in done.err
        if what != "open":
            assert any(word in done.err for word in SAYS[how])
    judge = Judge(scene)
    judge.died()
    again = scene.run(*scene.submit_words())
    assert again.code == 0, again.err
    assert judge.judge() == []
    return noted.exists(), done


@pytest.mark.parametrize(
    ("what", "how", "first", "times"),
    [
        ("write", "io", 54, 1),
        ("write", "io", 106, FOR_GOOD),
        ("sync", "io", 30, 1),
        ("sync", "io", 3, FOR_GOOD),
        ("read", "io", 46, 1),
        ("write", "full", 73, FOR_GOOD),
        ("truncate", "io", 1, FOR_GOOD),
        ("open", "io", 5, 1),
    ],
)
def test_a_disk_that_fails_loses_nothing(
    make_scene: MakeScene, what: str, how: str, first: int, times: int
) -> None:
    """An error of the disk is exit 5 with what to look at; on a sound disk the run is finished."""
    failed, _ = played(make_scene(), what, how, first, times)
    assert failed, "this disk never failed"


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("times", [1, FOR_GOOD], ids=["once", "for-good"])
@pytest.mark.parametrize(("what", "how"), CODES, ids="-".join)
def test_a_disk_that_fails_at_any_call_loses_nothing(
    make_scene: MakeScene, tmp_path: Path, what: str, how: str, times: int
) -> None:
    """The same at each of many calls, until the run passes fewer than that."""
    step = {"open": 2, "truncate": 2}.get(what, 13)
    for first in range(1, 150, step):
        folder = tmp_path / f"{first}"
        folder.mkdir()
        failed, _ = played(make_scene(folder=folder, n_jobs=12), what, how, first, times)
        if not failed:
            break


@pytest.mark.parametrize("how", ["io", "full"])
def test_a_disk_that_fails_before_anything_is_stored_stores_nothing(
    make_scene: MakeScene, how: str
) -> None:
    """A submit whose first write fails leaves nothing that a later one would take for a run."""
    scene = make_scene()
    done = sick(scene, scene.submit_words(), what="write", how=how, first=1, times=FOR_GOOD)
    assert done.code == 5
    assert any(word in done.err for word in SAYS[how])
    assert scene.requests() == []
    again = scene.run(*scene.submit_words())
    assert again.code == 0, again.err
    assert Judge(scene).judge() == []


def test_views_say_what_the_disk_says(make_scene: MakeScene) -> None:
    """A view on a disk that can't be read is exit 5 with the error, and no traceback."""
    scene = make_scene()
    assert scene.run(*scene.submit_words("--no-run")).code == 0
    done = sick(scene, ["status"], what="read", how="io", first=2, times=FOR_GOOD)
    assert done.code == 5, done
    assert all(word in done.err for word in SAYS["io"])


def test_a_backup_on_a_full_disk_leaves_no_half(make_scene: MakeScene) -> None:
    """Where the copy does not fit nothing has its name, and the original is as it was."""
    scene = make_scene()
    assert scene.run(*scene.submit_words()).code == 0
    copy = scene.folder / "copy.db"
    for ending in (".partial", "-journal"):
        done = sick(
            scene, ["db", "backup", str(copy)],
            what="write", how="full", first=2, times=FOR_GOOD, ending=ending,
        )  # fmt: skip
        if done.code == 0:
            copy.unlink()
            continue
        assert done.code == 5, done.err
        assert "the disk is full" in done.err
        assert not [path for path in scene.folder.iterdir() if path.name.startswith("copy.db")]
    assert Judge(scene).judge() == []
