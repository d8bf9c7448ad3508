"""How a process waits for a server that is away: told once, with growing pauses, and not for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final, TypeVar

from batchrunner.clock import Clock
from batchrunner.engine.stops import DRAIN_S, Stops
from batchrunner.errors import AwayError
from batchrunner.store.database import Database
from batchrunner.store.driver import DriverConnection, driver

__all__ = ["Waiter"]

T = TypeVar("T")

#: Between two tries (seconds); each is shortened by up to half, so that not all come at once.
FIRST_S: Final = 0.25
LONGEST_S: Final = 5.0


class Waiter:
    """Waits for one process's server (:class:`~batchrunner.store.database.Patience`)."""

    def __init__(
        self,
        *,
        db: Database,
        clock: Clock,
        longest_s: float | None,
        stops: Stops,
        tell: Callable[[str], None],
        returned: Callable[[DriverConnection], None],
    ) -> None:
        """Take how long to wait, and whom to tell.

        Args:
            db: whose server it is.
            clock: what time it is.
            longest_s: the longest single wait; ``None``: no end.
            stops: what the person asks for meanwhile.
            tell: says one sentence to the person.
            returned: makes this process known on the database again.
        """
        self._db = db
        self._clock = clock
        self._longest_s = longest_s
        self._stops = stops
        self._tell = tell
        self.returned = returned
        #: Whether something waits in memory to be stored, for which a stop is put off.
        self.has_unstored: Callable[[], bool] = lambda: False
        #: Is told when it goes away.
        self.went_away: Callable[[], None] = lambda: None
        #: Since when it is away (steady ms); ``None``: it is there.
        self._away_since: float | None = None
        self._stopped_at: float | None = None
        self._n_tries = 0
        self._wake = asyncio.Event()
        stops.watch(self._wake.set)

    async def wait(self, error: AwayError) -> None:
        """Sleep until it is worth another try; raise ``error`` where it was waited for long enough."""
        now = self._clock.now()
        if self._away_since is None:
            self._away_since = now
            self.went_away()
            self._tell(f"{error.message} Waiting for it; nothing new is sent until it is back.")
        if self._is_over(now):
            raise error
        pause = min(LONGEST_S, FIRST_S * 2.0**self._n_tries) * (1.0 - random.random() / 2)  # noqa: S311 (a pause)
        self._n_tries += 1
        self._wake.clear()
        try:
            async with asyncio.timeout(pause):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def through(self, function: Callable[[], T]) -> T:
        """Return what a function of the database returns, once that is there."""
        while True:
            try:
                self.come_back()
                value = function()
            except AwayError as error:
                await self.wait(error)
            else:
                return value

    def come_back(self) -> None:
        """Be known to others again, if the server was away: they may have taken this process for dead."""
        if self._away_since is not None:
            self._db.regain_process_locks()
            with self._db.write() as connection:
                self.returned(driver(connection))
            self.over()

    def over(self) -> None:
        """Know that the server is back."""
        if self._away_since is not None:
            seconds = (self._clock.now() - self._away_since) / 1000.0
            self._tell(f"The database is back after {seconds:.1f} s; going on.")
        self._away_since = None
        self._n_tries = 0

    def _is_over(self, now: float) -> bool:
        """Whether nobody waits any longer: it took too long, or the person wants an end."""
        assert self._away_since is not None
        if self._stops.asked:
            if self._stopped_at is None:
                self._stopped_at = now
            if self._stops.abort or not self.has_unstored():
                return True
            return now - self._stopped_at >= DRAIN_S * 1000.0
        longest_s = self._longest_s
        return longest_s is not None and now - self._away_since >= longest_s * 1000.0
