"""An event loop whose time jumps to the next timer, and what the engine reads time and disk by on it.

Nothing here waits: where a loop would sleep until a timer is due, this one's time is that timer's.
It is deterministic, so that a seed gives the same life again: what runs on other threads elsewhere
(SQLite, ``asyncio.to_thread``) runs at once on the loop's own, and futures are hashed in the order
they were made in, so that sets of them are walked in that order.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import selectors
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

from batchrunner.store.sqlite.connecting import connect
from batchrunner.store.sqlite.database import FileDatabase
from batchrunner.store.sqlite.writer import FileWriter, ThreadConnection

__all__ = ["Killed", "VirtualDatabase", "VirtualLoop", "VirtualTime", "commit_times"]

T = TypeVar("T")

_numbers = itertools.count()


class Killed(BaseException):
    """The process is dead: nothing it does reaches the disk or the network any more."""


class _Future(asyncio.Future[Any]):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._number = next(_numbers)

    def __hash__(self) -> int:
        return self._number


class _Task(asyncio.Task[Any]):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Before the task registers itself in a set.
        self._number = next(_numbers)
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number


class _Jumping(selectors.SelectSelector):
    """Where a selector would wait, time goes on."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everybody waits, and nothing would ever wake them")
        if timeout > 0:
            self.loop.skip(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop without waiting; it begins at ``seconds``."""

    def __init__(self, seconds: float) -> None:
        """Begin at an instant."""
        selector = _Jumping()
        selector.loop = self
        super().__init__(selector)
        self._now = seconds
        # Timers due within a microsecond are due: adding up seconds rounds.
        self._clock_resolution = 1e-6
        self.set_task_factory(lambda loop, coro, **more: _Task(coro, loop=loop, **more))

    def time(self) -> float:
        """Return the simulated time."""
        return self._now

    def skip(self, seconds: float) -> None:
        """Let time go on at once, as it does for a machine that is suspended."""
        self._now += seconds

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future that is hashed by its number."""
        return _Future(loop=self)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        """Run it now."""
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class VirtualTime:
    """What :mod:`batchrunner.clock` takes from the ``time`` of the machine; its calendar may step."""

    CLOCK_BOOTTIME = CLOCK_MONOTONIC = 0

    def __init__(self, loop: VirtualLoop, skew_s: float) -> None:
        """Take how far the calendar is ahead."""
        self._loop = loop
        self.skew_s = skew_s

    def time(self) -> float:
        """Return what the calendar says."""
        return self._loop.time() + self.skew_s

    def clock_gettime(self, _: int) -> float:
        """Return the time since a start, which never steps."""
        return self._loop.time() - 1e6


class _Connection:
    """The holder's connection without its thread; a commit takes a moment all the same."""

    def __init__(self, raw: sqlite3.Connection, commit_s: Callable[[], float]) -> None:
        self._raw = raw
        self._commit_s = commit_s
        self.is_dead = False

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        if self.is_dead:
            raise Killed
        was = self._raw.total_changes
        value = function(self._raw)
        if not self._raw.in_transaction and self._raw.total_changes != was:
            # Committed, and nobody knows yet: a process may die here as anywhere.
            await asyncio.sleep(self._commit_s())
            if self.is_dead:
                raise Killed
        return value

    @property
    def driver(self) -> sqlite3.Connection:
        return self._raw


class VirtualDatabase(FileDatabase):
    """A real database file, whose holder's connection works on the loop's thread."""

    def __init__(self, path: Path, commit_s: Callable[[], float]) -> None:
        """Take a database known to be good, and how long commits take (seconds)."""
        super().__init__(path)
        self._commit_s = commit_s
        self._live: _Connection | None = None

    @property
    def sends(self) -> bool:
        """Whether its process is the holder."""
        return self._live is not None

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[FileWriter]:
        raw = connect(self.path, any_thread=True)
        # What a kill leaves is what the system has; power cuts are another story (tests/crash).
        raw.execute("PRAGMA synchronous = OFF")
        self._live = connection = _Connection(raw, self._commit_s)
        try:
            yield FileWriter(cast("ThreadConnection", connection), self.path)
        finally:
            if not connection.is_dead:
                with suppress(sqlite3.Error):
                    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            raw.close()
            self._live = None

    def writer(self) -> Any:
        """Open the holder's connection."""
        return self._writing()

    def kill(self) -> None:
        """Have whoever writes be dead: what is not committed never will be."""
        if self._live is not None:
            self._live.is_dead = True
            if self._live.driver.in_transaction:
                self._live.driver.rollback()


def commit_times(rand: random.Random) -> Callable[[], float]:
    """Return how long commits take: a few ms, and now and then a slow disk."""
    return lambda: rand.uniform(0.05, 0.4) if rand.random() < 0.002 else rand.uniform(0.0005, 0.008)
