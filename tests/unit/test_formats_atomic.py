"""A file that is there whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from batchrunner.errors import UsageError
from batchrunner.formats.atomic import atomic_file


def test_the_file_appears_at_the_end(tmp_path: Path) -> None:
    """Until the block ends nothing is at the path; then everything is, and nothing else."""
    path = tmp_path / "out.csv"
    with atomic_file(path, force=False) as file:
        file.write(b"abc")
        assert not path.exists()
    assert path.read_bytes() == b"abc"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.csv"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    """A block that fails leaves the earlier file, and no temporary one."""
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), atomic_file(path, force=True) as file:  # noqa: PT012  # where in the block it fails is the subject
        file.write(b"new")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.csv"]


def test_an_existing_file_needs_force(tmp_path: Path) -> None:
    """Without force an existing file is refused before anything is written."""
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")
    with pytest.raises(UsageError, match="there already") as caught, atomic_file(path, force=False):
        pytest.fail("the block must not begin")
    assert "--force" in caught.value.fix
    assert path.read_bytes() == b"old"


def test_a_file_made_meanwhile_is_kept(tmp_path: Path) -> None:
    """Somebody else's file that appeared while ours was written is not overwritten."""
    path = tmp_path / "out.csv"
    with pytest.raises(UsageError, match="there already"), atomic_file(path, force=False) as file:  # noqa: PT012  # what happens in the block is the subject
        file.write(b"ours")
        path.write_bytes(b"theirs")
    assert path.read_bytes() == b"theirs"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.csv"]


def test_modes(tmp_path: Path) -> None:
    """A new file is its owner's alone under any umask, a replaced one keeps the mode it had."""
    path = tmp_path / "out.csv"
    before = os.umask(0)
    try:
        with atomic_file(path, force=False):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o604)
    with atomic_file(path, force=True):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_a_link_is_written_through(tmp_path: Path) -> None:
    """A symbolic link stays one, and what it points to is replaced."""
    target = tmp_path / "real.csv"
    target.write_bytes(b"old")
    link = tmp_path / "out.csv"
    link.symlink_to(target)
    with atomic_file(link, force=True) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_a_device_is_not_replaced() -> None:
    """/dev/null is written to, and still a device afterwards."""
    with atomic_file("/dev/null", force=False) as file:
        file.write(b"x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.parametrize("place", ["none/out.csv", "file/out.csv", "."])
def test_a_place_that_can_not_be_written_is_named(tmp_path: Path, place: str) -> None:
    """No such directory, a file in its place, or a directory is a usage error with the path."""
    (tmp_path / "file").touch()
    path = tmp_path / place
    with pytest.raises(UsageError, match=str(path)), atomic_file(path, force=True):
        pytest.fail("the block must not begin")


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """Where the system refuses the bytes, it is said in its words and nothing is left."""
    with (
        pytest.raises(UsageError, match="No space left"),
        atomic_file("/dev/full", force=True) as file,
    ):
        file.write(b"x" * 100_000)


def test_what_a_killed_process_left_goes_with_the_next(tmp_path: Path) -> None:
    """Only what nobody writes any more, and only of the same target."""
    path = tmp_path / "out.csv"
    left, other = tmp_path / ".out.csv.0123456789ab.tmp", tmp_path / ".out.txt.0123456789ab.tmp"
    mine = tmp_path / ".out.csv.notes.tmp"
    for stray in (left, other, mine):
        stray.write_bytes(b"half")
    with atomic_file(path, force=False) as first:
        assert not left.exists()
        with atomic_file(path, force=True) as second:
            second.write(b"second")
        first.write(b"first")
        path.unlink()
    assert path.read_bytes() == b"first"
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, other.name, mine.name}
