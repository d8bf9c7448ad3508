"""Disks that fill, files that can't be written, databases that are damaged or locked.

Each ends with exit 5 and a sentence that helps; nothing stored is lost; once the fault is gone
``resume`` goes on.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from batchrunner.engine.commit import unstored
from batchrunner.store.faults import DiskFullError, database_error
from batchrunner.store.records import Settle
from tests.crash.judge import Judge
from tests.crash.scene import Done, Scene, ended, environment, looked_at
from tests.fakes import ApiServer, running_server


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    """A provider that answers everything."""
    with running_server(latency_s=0.01) as server:
        yield server


@pytest.fixture
def scene(api: ApiServer, tmp_path: Path) -> Scene:
    """A database with a run of which nothing is sent yet."""
    made = Scene(folder=tmp_path, api=api, prefix=f"k{os.urandom(4).hex()}")
    done = made.run(*made.submit_words("--no-run"))
    assert done.code == 0, done.err
    return made


def refused(done: Done, *words: str) -> None:
    """Assert exit 5 with a sentence that has these words, and advice."""
    assert done.code == 5, done.err
    for word in (*words, "fix: "):
        assert word in done.err
    assert "Traceback" not in done.err
    assert ".." not in done.err


def carried_on(scene: Scene) -> None:
    """Assert that ``resume`` finishes the run and that every promise was kept."""
    done = scene.run("resume")
    assert done.code == 0, done.err
    assert Judge(scene).judge() == []


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a disk of this size, or skip."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def filled(disk: Path, left: int) -> Path:
    """Fill a disk but for so many bytes; return the file that does."""
    filler = disk / "filler"
    room = os.statvfs(disk)
    filler.write_bytes(bytes(room.f_bavail * room.f_frsize - left))
    return filler


@contextmanager
def unchangeable(path: Path) -> Iterator[None]:
    """Let nobody change a file or a directory's entries, root included; or skip."""
    done = subprocess.run(["chattr", "+i", str(path)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("this file system or user can't make files unchangeable (chattr +i)")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(path)], check=True)


def test_full_disk_at_submit_stores_nothing(api: ApiServer, tmp_path: Path) -> None:
    """A file that does not fit is refused whole; with space it is taken."""
    with small_disk(tmp_path / "disk", "24m") as disk:
        made = Scene(folder=disk, api=api, n_jobs=3_000, prefix=f"k{os.urandom(4).hex()}")
        filler = filled(disk, 900_000)
        refused(made.run(*made.submit_words("--no-run")), "disk is full", "Free some space")
        filler.unlink()
        with looked_at(made.db) as connection:
            assert connection.execute("SELECT state FROM run").fetchall() in ([], [("loading",)])
        made.write_jobs(range(1, 101))
        done = made.run(*made.submit_words())
        assert done.code == 0, done.err
        assert Judge(made).judge() == []


@pytest.mark.parametrize(("n", "named"), [(1, "k0"), (12, "k9 and 2 more")])
def test_answers_that_could_not_be_stored_are_named(n: int, named: str) -> None:
    """After the disk's own sentence comes one with the jobs, and what is safe; the advice stays."""
    error = database_error(OSError(errno.ENOSPC, "No space left on device"), Path("a.db"))
    settles = [cast("Settle", SimpleNamespace(key=f"k{i}", outcome="answered")) for i in range(n)]
    unsent = cast("Settle", SimpleNamespace(key="unsent", outcome=None))
    assert error is not None
    told = unstored(error, [*settles, unsent])
    assert isinstance(told, DiskFullError)
    assert told.fix == error.fix
    assert (
        "No space left on device). The answers of these jobs could not be stored, they may be"
        " executed again: k0"
    ) in told.message
    assert told.message.endswith(f"{named}. Everything committed before is kept.")
    assert unstored(error, [unsent]) is error


@pytest.mark.slow
def test_full_disk_while_sending_keeps_what_is_stored(api: ApiServer, tmp_path: Path) -> None:
    """Ten tries a second apart, then exit 5 that names each answer it could not store, if there is one."""
    with small_disk(tmp_path / "disk", "24m") as disk:
        made = Scene(folder=disk, api=api, n_jobs=400, prefix=f"k{os.urandom(4).hex()}")
        assert made.run(*made.submit_words("--no-run")).code == 0
        filler = filled(disk, 900_000)
        done = made.run("resume")
        refused(done, "disk is full")
        with looked_at(made.db) as connection:
            rows = connection.execute("SELECT key FROM job WHERE state = 'running'")
            unstored = [key for (key,) in rows]
        # What the log held may have made room for the last answers.
        assert ("could not be stored" in done.err) is bool(unstored)
        assert all(key in done.err for key in unstored[:3])
        judge = Judge(made)
        judge.died()
        filler.unlink()
        done = made.run("resume")
        assert done.code == 0, done.err
        assert judge.judge() == []


@pytest.mark.slow
def test_full_disk_that_gets_room_again_goes_on_by_itself(api: ApiServer, tmp_path: Path) -> None:
    """Space that comes back within ten seconds costs nothing: no answer is asked for twice."""
    with small_disk(tmp_path / "disk", "24m") as disk:
        made = Scene(folder=disk, api=api, n_jobs=400, prefix=f"k{os.urandom(4).hex()}")
        assert made.run(*made.submit_words("--no-run")).code == 0
        filler = filled(disk, 900_000)
        process = made.start("resume")
        with pytest.raises(subprocess.TimeoutExpired):
            # It waits for space, and meanwhile does not end.
            process.wait(4.0)
        filler.unlink()
        done = ended(process)
        assert done.code == 0, done.err
        assert Judge(made).judge() == []
        assert set(made.arrivals().values()) == {1}


def test_file_that_may_not_grow(scene: Scene) -> None:
    """A limit on a file's size is a full disk of another kind."""
    size = scene.db.stat().st_size

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    done = subprocess.run(
        [sys.executable, "-m", "batchrunner", "--db", str(scene.db), "-q", "resume"],
        env=environment(),
        cwd=scene.folder,
        capture_output=True,
        text=True,
        preexec_fn=bounded,
        check=False,
        timeout=100,
    )
    if done.returncode != 0:
        refused(Done(done.returncode, done.stdout, done.stderr), str(scene.db))
    judge = Judge(scene)
    judge.died()
    done2 = scene.run("resume")
    assert done2.code == 0, done2.err
    assert judge.judge() == []


@pytest.mark.parametrize("what", ["file", "directory"])
def test_unwritable(scene: Scene, what: str) -> None:
    """A database or directory that may not be changed is named; nothing is sent."""
    with unchangeable(scene.db if what == "file" else scene.folder):
        refused(scene.run("resume"), str(scene.db), "writable")
        assert scene.requests() == []
    carried_on(scene)


def test_read_only_disk(api: ApiServer, tmp_path: Path) -> None:
    """On a disk mounted read-only nothing is sent; views say why they can't either."""
    with small_disk(tmp_path / "disk", "4m") as disk:
        made = Scene(folder=disk, api=api, prefix=f"k{os.urandom(4).hex()}")
        assert made.run(*made.submit_words("--no-run")).code == 0
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        refused(made.run("resume"), str(made.db), "writable")
        assert made.requests() == []
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        carried_on(made)


def test_damaged_database(scene: Scene) -> None:
    """Overwritten pages are told as damage, by ``db check`` too; a backup put back goes on."""
    kept = scene.folder / "kept.db"
    assert scene.run("db", "backup", str(kept)).code == 0
    whole = scene.db.read_bytes()
    # Every page but the first, whose header says that it is a database.
    scene.db.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))
    refused(scene.run("resume"), "damaged", "backup")
    checked = scene.run("db", "check")
    assert checked.code == 5
    assert "damaged" in checked.out + checked.err
    assert scene.requests() == []
    kept.replace(scene.db)
    carried_on(scene)


def test_damage_in_the_middle_of_the_answers(scene: Scene) -> None:
    """Damage that only some pages have does not look like success."""
    done = scene.run("resume")
    assert done.code == 0, done.err
    whole = bytearray(scene.db.read_bytes())
    with looked_at(scene.db) as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'response'"
        ).fetchone()
    whole[(page - 1) * 4096 : page * 4096] = os.urandom(4096)
    scene.db.write_bytes(whole)
    refused(scene.run("export", "-f", "jsonl"), "damaged", "backup")
    assert scene.run("db", "check").code == 5


def test_newer_schema(scene: Scene) -> None:
    """A database of a later version is left alone, with advice to install that version."""
    connection = sqlite3.connect(scene.db)
    (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    before = connection.execute("SELECT count(*), max(id) FROM job").fetchone()
    refused(scene.run("resume"), "newer version", "Install")
    assert connection.execute("SELECT count(*), max(id) FROM job").fetchone() == before
    connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
    connection.commit()
    connection.close()
    carried_on(scene)


@pytest.mark.parametrize("content", [b"key,prompt\na,b\n" * 300, b"x"])
def test_not_a_database(scene: Scene, content: bytes) -> None:
    """A text file given as --db is not touched."""
    other = scene.folder / "notes.txt"
    other.write_bytes(content)
    done = scene.run("submit", str(scene.file), "--db", str(other), "--provider", "anthropic")
    refused(done, str(other), "--db")
    assert other.read_bytes() == content


def test_another_programs_database(scene: Scene) -> None:
    """A database of something else is not touched, whatever is in it."""
    other = scene.folder / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE job (mine)")
    connection.close()
    before = other.read_bytes()
    done = scene.run("submit", str(scene.file), "--db", str(other), "--provider", "anthropic")
    refused(done, "another program's database", "--db")
    assert other.read_bytes() == before


def test_another_program_holds_a_transaction(scene: Scene) -> None:
    """A lock that does not go away is named after a while; when it is gone the run goes on."""
    other = sqlite3.connect(scene.db, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    refused(scene.run("resume"), "locked by another kind of program", "Close the program")
    assert scene.requests() == []
    other.execute("ROLLBACK")
    other.close()
    carried_on(scene)


def test_another_programs_short_transaction_is_waited_for(scene: Scene) -> None:
    """Somebody who looks into the database with another program for a moment stops nothing."""
    other = sqlite3.connect(scene.db, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    process = scene.start("resume")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2.0)
    other.execute("ROLLBACK")
    other.close()
    done = ended(process)
    assert done.code == 0, done.err
    assert Judge(scene).judge() == []


@pytest.mark.slow
def test_another_program_locks_it_in_the_middle_of_a_drain(api: ApiServer, tmp_path: Path) -> None:
    """Answers that can't be stored are marked at the next start; everything committed stays."""
    made = Scene(folder=tmp_path, api=api, n_jobs=4_000, prefix=f"k{os.urandom(4).hex()}")
    assert made.run(*made.submit_words("--no-run")).code == 0
    process = made.start("resume")
    while len(made.requests()) < 50:
        assert process.poll() is None
    other = sqlite3.connect(made.db, isolation_level=None, timeout=30)
    other.execute("BEGIN IMMEDIATE")
    done = ended(process)
    judge = Judge(made)
    other.execute("ROLLBACK")
    other.close()
    refused(done, "locked by another kind of program")
    judge.died()
    again = made.run("resume")
    assert again.code == 0, again.err
    assert judge.judge() == []
