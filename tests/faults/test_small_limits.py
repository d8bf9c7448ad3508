"""Too few open files, too little memory: fewer requests at once, or a clean end; nothing is lost."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.judge import Judge
from tests.crash.scene import Done, Scene, environment
from tests.faults.conftest import MakeScene
from tests.faults.odd_server import running_odd_server


def bounded(scene: Scene, bound: Callable[[], None], *words: str) -> Done:
    """Run a command under a limit of the system."""
    done = subprocess.run(
        [sys.executable, "-m", "batchrunner", "--db", str(scene.db), *words],
        env=environment(), cwd=scene.folder, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, preexec_fn=bound, check=False, timeout=100,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def of(what: int, soft: int, hard: int) -> Callable[[], None]:
    """Return what sets a limit in a new process."""
    return lambda: resource.setrlimit(what, (soft, hard))


@pytest.mark.parametrize("n", [24, 64])
def test_few_open_files_are_fewer_requests_at_once(make_scene: MakeScene, n: int) -> None:
    """With -c 64 and room for a few the run says how many go at once and how to have more, and ends well."""
    scene = make_scene(n_jobs=100, concurrency=64)
    done = bounded(scene, of(resource.RLIMIT_NOFILE, n, n), *scene.submit_words())
    assert done.code == 0, done.err
    assert "too few files open for 64 requests" in done.err
    assert "ulimit -n 104" in done.err
    assert "waiting" not in done.err
    assert Judge(scene).judge() == []
    assert set(scene.arrivals().values()) == {1}


def test_a_soft_limit_of_open_files_is_raised(make_scene: MakeScene) -> None:
    """Where more is allowed than is set, nothing is asked of anybody."""
    scene = make_scene(n_jobs=100, concurrency=64)
    done = bounded(scene, of(resource.RLIMIT_NOFILE, 24, 512), *scene.submit_words())
    assert done.code == 0, done.err
    assert "ulimit" not in done.err
    assert set(scene.arrivals().values()) == {1}


def test_no_open_file_left_is_told(make_scene: MakeScene) -> None:
    """Where not even the database can be opened the message says why and what to type."""
    scene = make_scene()
    assert scene.run(*scene.submit_words("--no-run")).code == 0
    codes = {}
    for n in range(8, 16):
        done = bounded(scene, of(resource.RLIMIT_NOFILE, n, n), "resume")
        codes[n] = done.code
        if "as many files open as it may" in done.err:
            assert done.code == 5
            assert "ulimit -n" in done.err
            break
    else:
        raise AssertionError(f"never said: {codes}")
    assert scene.run("resume").code == 0
    assert Judge(scene).judge() == []


@pytest.mark.parametrize("megabytes", [250, pytest.param(120, marks=pytest.mark.slow)])
def test_too_little_memory_is_told_and_loses_nothing(tmp_path: Path, megabytes: int) -> None:
    """Answers that don't fit end the process with what to type; that, or more memory, finishes the run."""
    with running_odd_server() as server:
        scene = Scene(folder=tmp_path, api=server, n_jobs=0, prefix="m", concurrency=16)  # type: ignore[arg-type]
        scene.keys = [f"m-{n}-heavy" if n % 2 else f"m-{n}" for n in range(32)]
        with scene.file.open("w") as file:
            for key in scene.keys:
                job = {"id": key, "prompt": f"ask {key} end", "model": "sim-1"}
                file.write(json.dumps(job) + "\n")
        assert scene.run(*scene.submit_words("--no-run")).code == 0
        most = megabytes << 20
        done = bounded(scene, of(resource.RLIMIT_DATA, most, most), "resume")
        judge = Judge(scene)
        judge.died()
        # Where memory is gone for Python itself it aborts, and the kernel says so.
        assert done.code in (70, -signal.SIGABRT, -signal.SIGSEGV), done
        if done.code == 70:
            assert "memory that this process may have is used up" in done.err
            assert "resume -c 4 --max-response 8MB" in done.err
            assert "a defect in batchrunner" not in done.err
        again = scene.run("resume", "-c", "2")
        assert again.code == 0, again.err
        assert judge.judge(answered=False) == []
