"""Locks: exclusive, verified, dropped by the kernel, and never inherited."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from batchrunner.store.sqlite.locks import FileLock, ProcessLock, is_alive, process_lock_files

HOLD = """
import sys
from pathlib import Path
from batchrunner.store.sqlite.locks import FileLock
assert FileLock(Path(sys.argv[1])).try_acquire() or True
lock = FileLock(Path(sys.argv[1] + ".kept"))
assert lock.try_acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_lock_excludes_a_second_one_until_it_is_released(tmp_path: Path) -> None:
    """Two locks on one path are never held at once, even within a process."""
    first, second = FileLock(tmp_path / "l"), FileLock(tmp_path / "l")
    assert first.try_acquire()
    assert not second.try_acquire()
    assert not second.acquire(timeout_s=0.01)
    first.release()
    assert second.try_acquire()
    second.release()


def test_lock_is_dropped_by_the_kernel_when_its_process_is_killed(tmp_path: Path) -> None:
    """A lock does not outlive ``kill -9`` of its owner."""
    kept = tmp_path / "l.kept"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "l")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert is_alive(kept)
        assert not FileLock(kept).try_acquire()
        process.send_signal(signal.SIGKILL)
    assert not is_alive(kept)
    lock = FileLock(kept)
    assert lock.try_acquire()
    lock.release()


def test_lock_is_not_kept_by_a_program_we_start(tmp_path: Path) -> None:
    """A child program does not hold our lock after we gave it up."""
    lock = FileLock(tmp_path / "l")
    assert lock.try_acquire()
    with subprocess.Popen(["sleep", "30"], close_fds=False) as child:
        lock.release()
        try:
            assert not is_alive(tmp_path / "l")
        finally:
            child.kill()


def test_lock_survives_a_fork_and_its_child(tmp_path: Path) -> None:
    """A forked child neither holds the parent's lock nor releases it by ending."""
    lock = FileLock(tmp_path / "l")
    assert lock.try_acquire()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write_end, b"held" if lock.is_held else b"gone")
        os._exit(0)
    assert os.read(read_end, 4) == b"gone"
    os.waitpid(child, 0)
    os.close(read_end)
    os.close(write_end)
    assert is_alive(tmp_path / "l")
    lock.release(unlink=True)
    assert not (tmp_path / "l").exists()


def test_lock_of_an_unlinked_file_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who locks a file that its owner has just removed starts again with the file that is there."""
    path = tmp_path / "l"
    owner = FileLock(path)
    assert owner.try_acquire()
    late = FileLock(path)
    real_open = os.open
    opened: list[int] = []

    def open_before_the_release(*args: object, **kwargs: object) -> int:
        descriptor = real_open(*args, **kwargs)  # type: ignore[arg-type]
        if not opened:
            owner.release(unlink=True)
        opened.append(descriptor)
        return descriptor

    monkeypatch.setattr(os, "open", open_before_the_release)
    assert late.try_acquire()
    monkeypatch.undo()
    assert len(opened) == 2
    assert path.exists()
    assert not FileLock(path).try_acquire()
    late.release(unlink=True)


def test_process_lock_is_alive_until_released(tmp_path: Path) -> None:
    """A process is alive while it holds its own file; asking does not disturb it."""
    lock = ProcessLock.create(tmp_path / "jobs.db")
    assert list(process_lock_files(tmp_path / "jobs.db")) == [lock.path]
    assert lock.path.name.startswith(f"jobs.db.p-{os.getpid()}-")
    assert is_alive(lock.path)
    assert is_alive(lock.path)
    lock.release()
    assert not is_alive(lock.path)
    lock.path.unlink()
    assert not is_alive(lock.path)
