"""One timer for all requests that may take the same time.

``aiohttp`` arms a timer a request for its ``total``; at thousands of short requests a second that is
a tenth of what a request costs. Here one timer looks through all of them, oldest first, so that a
request ends late by a twentieth of its time, a second at most.
"""

from __future__ import annotations

import asyncio
from typing import Final

_LONGEST_TICK_S: Final = 1.0
_SHORTEST_TICK_S: Final = 0.01


class Deadline:
    """When one task has had its time."""

    __slots__ = ("ends_at", "has_passed", "task")

    def __init__(self, task: asyncio.Task[object], ends_at: float) -> None:
        """Note whom to cancel, and when (on the loop's clock)."""
        self.task = task
        self.ends_at = ends_at
        #: The task was cancelled because of this.
        self.has_passed = False


class Deadlines:
    """Cancels tasks that take longer than ``seconds``; made and used inside a running event loop."""

    def __init__(self, seconds: float) -> None:
        """Take the time that each may take."""
        self._seconds = seconds
        # Kept, since each look for it asks the kernel for the process's id (Python 3.11).
        self._loop = asyncio.get_running_loop()
        self._tick_s = min(_LONGEST_TICK_S, max(_SHORTEST_TICK_S, seconds / 20.0))
        #: In the order in which they end, since all take the same time.
        self._open: dict[Deadline, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> Deadline:
        """Give the running task its time from now on."""
        loop = self._loop
        task = asyncio.current_task(loop)
        assert task is not None
        deadline = Deadline(task, loop.time() + self._seconds)
        self._open[deadline] = None
        if self._timer is None:
            self._timer = loop.call_later(self._tick_s, self._look)
        return deadline

    def end(self, deadline: Deadline) -> None:
        """Forget a deadline: what it was for is over."""
        self._open.pop(deadline, None)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = self._loop
        now = loop.time()
        passed = []
        for deadline in self._open:
            if deadline.ends_at > now:
                break
            passed.append(deadline)
        for deadline in passed:
            del self._open[deadline]
            deadline.has_passed = True
            deadline.task.cancel()
        self._timer = loop.call_later(self._tick_s, self._look) if self._open else None
