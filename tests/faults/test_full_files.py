"""Files and streams beside the database that can't be written, and disks of many sizes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.judge import Judge
from tests.crash.scene import Done, Scene, ended, environment, looked_at
from tests.crash.test_faults import filled, small_disk
from tests.fakes import ApiServer
from tests.faults.conftest import MakeScene

#: A device that every write to is refused by, as by a full disk.
FULL = "/dev/full"
pytestmark = pytest.mark.skipif(not os.path.exists(FULL), reason="there is no /dev/full here")  # noqa: PTH110


def loud(
    scene: Scene,
    *words: str,
    out: str | None = None,
    err: str | None = None,
    bound: Callable[[], None] | None = None,
    unbuffered: str = "",
) -> Done:
    """Run a command that says all it has to say, with its streams where they are told to be."""
    streams = [open(path, "ab") if path else subprocess.PIPE for path in (out, err)]  # noqa: PTH123, SIM115
    try:
        done = subprocess.run(
            [sys.executable, "-m", "batchrunner", "--db", str(scene.db), *words],
            env=environment(PYTHONUNBUFFERED=unbuffered), cwd=scene.folder, stdin=subprocess.DEVNULL,
            stdout=streams[0], stderr=streams[1], preexec_fn=bound, check=False, timeout=60,
        )  # fmt: skip
    finally:
        for stream in streams:
            if not isinstance(stream, int):
                stream.close()
    return Done(done.returncode, (done.stdout or b"").decode(), (done.stderr or b"").decode())


@pytest.mark.parametrize(
    ("more", "streams", "says"),
    [
        (["--log-file", FULL], {}, "--log-file /dev/full can't be written any more: No space left"),
        (["--json"], {"out": FULL}, "Events can't be written any more: No space left"),
        ([], {"err": FULL}, ""),
        (["-v", "--log-file", FULL], {"err": FULL}, ""),
    ],
    ids=["log", "events", "messages", "log-and-messages"],
)
def test_a_run_does_not_end_for_what_it_says(
    make_scene: MakeScene, more: list[str], streams: dict[str, str], says: str
) -> None:
    """A log, events or messages that the disk does not take are told once, and the run is done."""
    scene = make_scene()
    done = loud(scene, *scene.submit_words(*more), **streams)  # type: ignore[arg-type]
    assert done.code == 0, done.err
    assert done.err.count(says) == 1 or not says
    assert Judge(scene).judge() == []


@pytest.mark.parametrize(
    "words",
    [["export", "run"], ["status"], ["status", "--json"], ["jobs"], ["db", "check", "--json"]],
    ids=" ".join,
)
def test_data_that_does_not_fit_is_told(make_scene: MakeScene, words: list[str]) -> None:
    """A view or an export to a full disk is exit 5 with what to do, never a success."""
    scene = make_scene()
    assert scene.run(*scene.submit_words("--no-run")).code == 0
    done = loud(scene, *words, out=FULL)
    assert done.code == 5, done
    assert "no space is left on the disk" in done.err
    assert "fix: " in done.err


def test_a_failure_is_told_by_its_code_where_nothing_can_be_said(make_scene: MakeScene) -> None:
    """With no room for a message the exit code is still that of the failure."""
    scene = make_scene()
    assert loud(scene, "status", err=FULL).code == 2
    assert loud(scene, "status", "--json", err=FULL, out=FULL, unbuffered="1").code == 2


def test_an_export_that_does_not_fit_leaves_the_earlier_one(make_scene: MakeScene) -> None:
    """A file that may not grow so far is told, the earlier export stays, and no half lies beside it."""
    scene = make_scene(n_jobs=400)
    assert scene.run(*scene.submit_words("--no-run")).code == 0
    output = scene.folder / "mine.jsonl"
    output.write_text("earlier\n")
    bound = 60_000

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bound, bound))

    done = loud(scene, "export", "run", "-o", str(output), "--force", bound=bounded)
    assert done.code == 2, done.err
    assert "can't be written" in done.err
    assert "has room" in done.err
    assert output.read_text() == "earlier\n"
    assert not [path for path in scene.folder.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words", [["export", "run", "-f", "jsonl"], ["jobs", "run", "--json"]], ids=" ".join
)
def test_data_that_is_cut_is_told(make_scene: MakeScene, words: list[str], unbuffered: str) -> None:
    """Where only the first part of what was asked for fits, it is exit 5, however Python buffers."""
    scene = make_scene(n_jobs=400)
    assert scene.run(*scene.submit_words("--no-run")).code == 0
    bound = 60_000

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (bound, bound))

    cut = scene.folder / "cut"
    done = loud(scene, *words, out=str(cut), bound=bounded, unbuffered=unbuffered)
    assert cut.stat().st_size == bound
    assert done.code == 5, done
    assert "ulimit -f" in done.err


def _at_size(api: ApiServer, folder: Path, left: int) -> None:
    """Submit, send, export and back up on a disk that has so many bytes left; then with room."""
    with small_disk(folder, "24m") as disk:
        scene = Scene(folder=disk, api=api, n_jobs=60, prefix=f"k{os.urandom(4).hex()}")
        filler = filled(disk, left)
        output, copy = disk / "out.csv", disk / "copy.db"
        judge = Judge(scene)
        for words in (
            scene.submit_words("-o", str(output)),
            ["export", "run", "-o", str(disk / "mine.jsonl")],
            ["db", "backup", str(copy)],
        ):
            done = ended(scene.start(*words))
            assert done.code in (0, 2, 5), done.err
            assert "Traceback" not in done.err
            assert "defect" not in done.err
            assert done.code == 0 or "fix: " in done.err
        judge.died()
        if copy.exists():
            with looked_at(copy) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        filler.unlink()
        done = scene.run(*scene.submit_words("-o", str(output)))
        assert done.code == 0, done.err
        assert judge.judge() == []
        assert len(output.read_text().splitlines()) == 61
        assert not [path for path in disk.iterdir() if path.name.endswith((".tmp", ".partial"))]


@pytest.mark.parametrize("left", [0, 120_000])
def test_a_full_disk_at_a_submit_is_survived(calm: ApiServer, tmp_path: Path, left: int) -> None:
    """Whatever did not fit was told, nothing half done has a name, and with room all is done."""
    _at_size(calm, tmp_path / "disk", left)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_disk_of_any_size_is_survived(calm: ApiServer, tmp_path: Path) -> None:
    """The same with each of many sizes left, so that every write is the first that does not fit."""
    for left in range(0, 1_500_000, 65_536):
        _at_size(calm, tmp_path / f"disk-{left}", left)
