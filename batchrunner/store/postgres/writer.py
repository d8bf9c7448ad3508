"""The holder's connection on PostgreSQL: whole transactions as one function on the portal's thread.

Where the server goes away they wait for it (:mod:`.lasting`) and are tried again, unless they were
committed after all; what goes on with a turn is lost with it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import Any, ClassVar, TypeVar, cast

from batchrunner.errors import AwayError, LostTurnError
from batchrunner.places import Server
from batchrunner.store.database import CheckpointMode, nothing
from batchrunner.store.driver import DriverConnection
from batchrunner.store.postgres.faults import translated
from batchrunner.store.postgres.lasting import TURN_S, Lasting
from batchrunner.store.postgres.portal import Portal
from batchrunner.store.server_clock import ServerClock

__all__ = ["PgWriter"]

T = TypeVar("T")


class PgWriter:
    """What the holder writes through; one transaction after another."""

    packs: ClassVar[bool] = False

    def __init__(
        self, lasting: Lasting, portal: Portal, place: Server, clock: ServerClock | None
    ) -> None:
        """Wrap an open connection; ``clock``: what is read with each look at others' changes."""
        self._clock = clock
        self._lasting = lasting
        self._portal = portal
        self._place = place
        self._turn = asyncio.Lock()
        #: Whose turn it is, and whether its transaction is still the one that it began with.
        self._task: asyncio.Task[Any] | None = None
        self._is_begun = False

    @property
    def n_losses(self) -> int:
        """How often the server was away, and has to be learned anew."""
        return self._lasting.n_losses

    async def transact(
        self,
        function: Callable[[DriverConnection], T],
        *,
        before: Callable[[], None] = nothing,
        once: bool = False,
    ) -> T:
        """Run ``function`` in one transaction and return its value once committed.

        Rolled back on any exception. A cancelled caller goes on once the transaction has ended.
        ``once``, and in a turn: raises :class:`LostTurnError` where it was not committed and the server
        is back from having been away.
        """
        goes_on = self._is_begun and self._is_our_turn()
        self._is_begun = self._is_begun and not goes_on

        def transaction() -> T:
            before()
            if not goes_on:
                self._lasting.driver.execute("BEGIN IMMEDIATE")
            try:
                value = function(self._lasting.driver)
                self._lasting.commit(value)
            except BaseException:
                self._roll_back()
                raise
            return value

        async with self._waited():
            return await self._lasted(transaction, is_lost=goes_on or once)

    @asynccontextmanager
    async def turn(
        self, begin: Callable[[DriverConnection], T], *, before: Callable[[], None] = nothing
    ) -> AsyncIterator[T]:
        """Give what ``begin`` returns in a transaction that the next one of this task goes on with.

        See :meth:`batchrunner.store.database.SharedWriter.turn`. ``begin`` is called again where the
        server was away.
        """

        def begun() -> T:
            before()
            self._lasting.driver.execute("BEGIN SHARED")
            try:
                return begin(self._lasting.driver)
            except BaseException:
                self._roll_back()
                raise

        async with self._turn:
            try:
                value = await self._lasted(begun)
            except asyncio.CancelledError:
                # It may have begun, and nobody goes on with it.
                await self._spawned(self._roll_back)
                raise
            self._task, self._is_begun = asyncio.current_task(), True
            is_done = False
            try:
                yield value
                is_done = True
            finally:
                self._task = None
                if self._is_begun:
                    self._is_begun = False
                    end = partial(self._lasting.commit, None) if is_done else self._roll_back
                    with contextlib.suppress(LostTurnError):
                        await self._lasted(end, is_lost=True)

    def _is_our_turn(self) -> bool:
        return self._task is not None and self._task is asyncio.current_task()

    def _waited(self) -> AbstractAsyncContextManager[Any]:
        """Wait for others of this process, unless the turn is this task's."""
        return nullcontext() if self._is_our_turn() else self._turn

    async def compute(
        self, function: Callable[[DriverConnection], T], *, beside: bool = False
    ) -> T:
        """As :meth:`transact`, but ``function`` runs here, on the caller's thread.

        ``beside``: others' turns may go on meanwhile, and other tasks of this thread from one statement to
        the next: far from the server no send is to wait for all of them.
        """
        words = "BEGIN SHARED" if beside else "BEGIN IMMEDIATE"

        async def computed() -> T:
            try:
                await self._spawned(lambda: self._lasting.driver.execute(words))
                with translated(self._place):
                    value = (
                        await self._portal.run_here(lambda: function(self._lasting.driver))
                        if beside
                        else function(self._lasting.driver)
                    )
                await self._spawned(lambda: self._lasting.commit(value))
            except BaseException:
                await self._spawned(self._roll_back)
                raise
            return value

        async with self._waited():
            self._lasting.forget()
            while True:
                try:
                    return await computed()
                except AwayError as error:
                    stored = await self._lasting.back(error)
                    if stored is not None:
                        return cast("T", stored.value)

    async def query(self, function: Callable[[DriverConnection], T]) -> T:
        """Run ``function``, which only reads."""
        async with self._waited():
            is_lost = self._is_begun and self._is_our_turn()
            return await self._lasted(lambda: function(self._lasting.driver), is_lost=is_lost)

    async def data_version(self) -> int:
        """Return a number that changes whenever another connection has committed."""
        clock = self._clock
        if clock is None:
            rows = await self.query(
                lambda conn: conn.execute("SELECT value FROM meta WHERE key = 'changes'").fetchall()
            )
            return int(rows[0][0]) if rows else 0
        n_changes, is_set = await self.query(clock.look)
        if is_set:
            await self.transact(clock.mend)
        return n_changes

    async def checkpoint(self, mode: CheckpointMode = "PASSIVE") -> bool:  # noqa: ARG002
        """The server checkpoints by itself."""
        return True

    async def settle(self) -> None:
        """Wait until everything handed over so far has been executed."""
        async with self._turn:
            pass

    async def _lasted(self, function: Callable[[], T], *, is_lost: bool = False) -> T:
        """Run a function, and again where the server was away meanwhile and what it did is not stored.

        ``is_lost``: raise :class:`LostTurnError` instead.
        """
        self._lasting.forget()
        while True:
            try:
                return await self._spawned(function)
            except AwayError as error:
                stored = await self._lasting.back(error)
                if stored is not None:
                    return cast("T", stored.value)
                if is_lost:
                    self._is_begun = False
                    raise LostTurnError(error.message, fix=error.fix) from error

    async def _spawned(self, function: Callable[[], T]) -> T:
        with translated(self._place):
            return await self._portal.run(function, within_s=TURN_S, expired=self._lasting.give_up)

    def _roll_back(self) -> None:
        # A connection that broke has rolled back.
        with contextlib.suppress(Exception):
            self._lasting.driver.execute("ROLLBACK")
