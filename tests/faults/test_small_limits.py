"""Too few open files, too little memory: fewer requests at once, or a clean end; nothing is lost."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.crash.judge import Judge
from tests.crash.scene import Done, Scene, environment
from tests.faults.conftest import MakeScene


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
