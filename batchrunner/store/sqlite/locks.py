"""Operating-system locks beside the database, which the kernel drops when a process dies.

Three kinds of files stand beside ``DB``: ``DB.lock`` is held by the process that sends,
``DB.wlock`` by a process for the length of one write, checkpoint or close, and ``DB.p-PID-RANDOM``
by each attached process for as long as it lives. A lock is an exclusive ``flock``: bound to one open
descriptor, which is neither inherited by programs we start nor kept by a forked child. A file may
be unlinked by whoever holds its lock, since whoever acquires one afterwards notices that the path
no longer leads to the inode it locked, and starts again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = [
    "FileLock",
    "ProcessLock",
    "held_by_this_thread",
    "is_alive",
    "is_part",
    "process_lock_files",
    "sender_lock_path",
    "write_lock_path",
]

#: First and longest pause between two tries of a lock somebody else holds, in seconds.
_FIRST_NAP_S: Final = 0.001
_LONGEST_NAP_S: Final = 0.02

#: What the names of a database's own files end in, besides the locks of processes.
_BESIDE: Final = ("", "-wal", "-shm", "-journal", ".lock", ".wlock")

_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


class FileLock:
    """An exclusive lock on ``path``; two instances exclude each other within a process too."""

    def __init__(self, path: Path) -> None:
        """Remember the path; nothing is opened yet."""
        self.path = path
        self._descriptor: int | None = None
        self._thread = 0

    @property
    def name(self) -> str:
        """What others on the database call this lock."""
        return self.path.name

    @property
    def is_held(self) -> bool:
        """Whether this instance holds the lock."""
        return self._descriptor is not None

    @property
    def is_of_this_thread(self) -> bool:
        """Whether the calling thread was the one that took it."""
        return self._thread == threading.get_ident()

    def acquire(self, timeout_s: float | None = None) -> bool:
        """Wait for the lock; return whether it came within ``timeout_s`` (``None``: no end).

        Raises ``OSError`` where the file can't be created.
        """
        give_up_at = None if timeout_s is None else time.monotonic() + timeout_s
        nap_s = _FIRST_NAP_S
        while not self.try_acquire():
            if give_up_at is not None and time.monotonic() >= give_up_at:
                return False
            time.sleep(nap_s)
            nap_s = min(nap_s * 1.5, _LONGEST_NAP_S)
        return True

    def try_acquire(self) -> bool:
        """Take the lock if it is free; return whether this instance holds it now."""
        if self._descriptor is not None:
            raise RuntimeError(f"{self.path} is already locked by this object")
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR):
                    return False
                raise
            if _leads_to(self.path, descriptor):
                self._descriptor = descriptor
                self._thread = threading.get_ident()
                _held.add(self)
                return True
            # The former owner unlinked the file between our open and our lock.
            os.close(descriptor)

    def release(self, *, unlink: bool = False) -> None:
        """Give the lock up, and remove its file if told to. Does nothing where it is not held."""
        if self._descriptor is None:
            return
        if unlink:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._drop()

    def _drop(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None
        _held.discard(self)


def held_by_this_thread(path: Path) -> bool:
    """Return whether the calling thread took the lock on ``path`` and still has it."""
    return any(lock.path == path and lock.is_of_this_thread for lock in list(_held))


class ProcessLock(FileLock):
    """The lock of one attached process; whoever wants to know asks :func:`is_alive`."""

    @classmethod
    def create(cls, database: Path) -> ProcessLock:
        """Make and take a lock file of this process's own beside ``database``."""
        name = f"{database.name}.p-{os.getpid()}-{secrets.token_hex(4)}"
        lock = cls(database.with_name(name))
        lock.acquire()
        return lock


def sender_lock_path(database: Path) -> Path:
    """Return the file that the process that sends holds."""
    return database.with_name(f"{database.name}.lock")


def write_lock_path(database: Path) -> Path:
    """Return the file that is held for the length of one write, checkpoint or close."""
    return database.with_name(f"{database.name}.wlock")


def process_lock_files(database: Path) -> Iterator[Path]:
    """Yield the lock files of attached processes, of live and of dead ones."""
    prefix = f"{database.name}.p-"
    yield from sorted(path for path in database.parent.iterdir() if path.name.startswith(prefix))


def is_part(database: Path, path: Path) -> bool:
    """Return whether ``path`` leads to the database, its log or one of its locks, there or to come."""
    there = Path(os.path.realpath(path))
    real = Path(os.path.realpath(database))
    own = {real.name + end for end in _BESIDE}
    is_named = there.name in own or there.name.startswith(f"{real.name}.p-")
    if there.parent == real.parent and is_named:
        return True
    # A second name of the same file.
    with contextlib.suppress(OSError):
        return there.samefile(real)
    return False


def is_alive(lock_file: Path) -> bool:
    """Return whether a process holds this lock; a missing file means no.

    Looks through a shared lock on a descriptor of its own, so that askers don't see each other.
    """
    try:
        descriptor = os.open(lock_file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return True
        raise
    else:
        return False
    finally:
        os.close(descriptor)


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _forget_in_child() -> None:
    # A forked child shares the descriptor, and with it the lock: closing its copy leaves the
    # parent's lock alone, while keeping it would hold the lock after the parent's death.
    for lock in list(_held):
        lock._drop()  # noqa: SLF001 -- this module owns the class


os.register_at_fork(after_in_child=_forget_in_child)
