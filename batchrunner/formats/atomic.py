"""A file that is there whole or not at all.

What is written goes to a temporary file in the same directory, which is renamed into place at the
end, and removed where anything fails: a reader never meets half a file, and a failed export leaves
the earlier one as it was. What a process that was killed left of it goes when the same file is written
again; it is told by its lock, which the kernel drops with the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from batchrunner.errors import UsageError
from batchrunner.failpoints import hit

__all__ = ["atomic_file"]

#: Bytes of the random part of a temporary file's name.
_RANDOM: Final = 6


@contextlib.contextmanager
def atomic_file(path: Path | str, *, force: bool) -> Iterator[BinaryIO]:
    """Open a file that appears at ``path`` when the block ends without an exception.

    A symbolic link is written through. An existing file keeps its mode; a new one is for its owner
    alone, since answers are as private as the database they come from. A device or a pipe
    (``/dev/null``) can't be replaced and is written as it is.

    Raises :class:`~batchrunner.errors.UsageError` where a file is there and ``force`` is false, and
    where writing fails (no such directory, no permission, disk full).
    """
    target = Path(os.path.realpath(path))
    with _told(path):
        mode = _mode(path, target, force)
        if mode is not None and not stat.S_ISREG(mode):
            with target.open("wb") as file:
                yield file
            return
        with _temporary(target) as (temporary, file):
            if mode is not None:
                temporary.chmod(stat.S_IMODE(mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
            # Somebody may have made the file while this one was being written.
            _mode(path, target, force)
            hit("export.rename")
            temporary.replace(target)
        _sync_directory(target.parent)
        hit("export.renamed")


@contextlib.contextmanager
def _told(path: Path | str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UsageError(
            f"{path} can't be written: {error.strerror or error}",
            fix="check that the directory is there, may be written, and has room",
        ) from error


def _mode(path: Path | str, target: Path, force: bool) -> int | None:
    """Return the mode of what is at the path; ``None`` where nothing is."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise UsageError(f"{path} is a directory", fix="name a file in it")
    if stat.S_ISREG(mode) and not force:
        raise UsageError(f"{path} is there already", fix="--force overwrites it")
    return mode


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[tuple[Path, BinaryIO]]:
    start = f".{target.name[:100]}."
    _remove_left_over(target.parent, start)
    temporary, file = _made(target.parent, start)
    try:
        with file:
            yield temporary, file
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _made(directory: Path, start: str) -> tuple[Path, BinaryIO]:
    """Make a temporary file, and hold its lock for as long as it is open."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    while True:
        temporary = directory / f"{start}{secrets.token_hex(_RANDOM)}.tmp"
        file = os.fdopen(os.open(temporary, flags, 0o600), "wb")
        # Not every file system has locks; without one it is never taken for left over.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return temporary, file
        # Another process took it for left over, in the moment before it was locked.
        file.close()


def _remove_left_over(directory: Path, start: str) -> None:
    """Remove what processes that were killed left of this target; whoever lives holds a lock on its own."""
    left = re.compile(re.escape(start) + rf"[0-9a-f]{{{2 * _RANDOM}}}\.tmp")
    with contextlib.suppress(OSError):
        for path in [path for path in directory.iterdir() if left.fullmatch(path.name)]:
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


def _sync_directory(directory: Path) -> None:
    # So that the rename outlives a power cut; not every file system can.
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
