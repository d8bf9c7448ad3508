"""The thread on which all connections of a database live, with an event loop of its own.

Other threads call into it and wait, statement by statement (:meth:`Portal.call`); a whole function
runs on it as a greenlet (:meth:`Portal.run`), so that none of its statements changes threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from sqlalchemy.util import await_only, greenlet_spawn
from sqlalchemy.util.concurrency import in_greenlet

__all__ = ["Portal"]

T = TypeVar("T")

#: How long the thread is waited for at its end (seconds).
_JOIN_S: Final = 5.0


class Portal:
    """A thread with an event loop; closed by :meth:`close`, or with its process."""

    def __init__(self) -> None:
        """Start the thread."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._turn, name="postgresql", daemon=True)
        self._thread.start()

    def _turn(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the thread and wait for it: from any thread, or within :meth:`run`.

        Within :meth:`run_here` the caller's loop goes on meanwhile.
        """
        if threading.get_ident() == self._thread.ident:
            return await_only(coroutine)
        if in_greenlet():
            return await_only(self.hand_over(coroutine))
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            # Interrupted: what was begun ends, so that the connection is as it was left.
            if not future.done():
                with contextlib.suppress(BaseException):
                    future.result(_JOIN_S)
            raise

    async def run(
        self, function: Callable[[], T], *, within_s: float, expired: Callable[[], None]
    ) -> T:
        """Run a function that calls :meth:`call` on the thread; wait on the caller's own loop.

        ``expired`` is called where it has not ended within so many seconds. A cancelled caller waits for
        that as well: what it began is over before anybody else has the connection.
        """

        async def spawned() -> T:
            watchdog = self._loop.call_later(within_s, expired)
            try:
                return await greenlet_spawn(function)
            finally:
                watchdog.cancel()

        return await self.hand_over(spawned())

    async def run_here(self, function: Callable[[], T]) -> T:
        """Run a function that calls :meth:`call` on the caller's thread; others of its loop go on meanwhile."""
        return await greenlet_spawn(function)

    async def hand_over(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the thread; wait on the caller's own loop, to its end though cancelled."""
        inner = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))
        try:
            return await asyncio.shield(inner)
        except asyncio.CancelledError:
            while not inner.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([inner])
            if not inner.cancelled():
                # Nobody is told of it any more.
                inner.exception()
            raise

    def close(self) -> None:
        """Stop the thread; whoever made connections has closed them."""
        if self._loop.is_closed() or not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        if threading.get_ident() != self._thread.ident:
            self._thread.join(_JOIN_S)
