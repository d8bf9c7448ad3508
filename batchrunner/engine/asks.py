"""The runs that somebody asked for: this process's own, and those of processes that follow it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batchrunner.clock import Clock
from batchrunner.engine.feed import Feed
from batchrunner.engine.live import CallLimits
from batchrunner.engine.roster import Ending, Roster
from batchrunner.engine.take_up import TakeUp
from batchrunner.errors import BatchrunnerError, RefusedError, UsageError
from batchrunner.models import RunId, Waiting, WaitingReason
from batchrunner.store.asks import AskRow, load_asks, note_ask
from batchrunner.store.database import Database, Writer
from batchrunner.store.processes import Process
from batchrunner.store.stops import end_run

__all__ = ["Asks"]


class Asks:
    """Has those runs taken up, and knows who else is there for them."""

    def __init__(
        self,
        *,
        writer: Writer,
        clock: Clock,
        process: Process,
        database: Database,
        roster: Roster,
        take_up: TakeUp,
        feed: Feed,
    ) -> None:
        """Take where asks are stored, who lives, and who takes runs up."""
        self._writer = writer
        self._clock = clock
        self._process = process
        self._database = database
        self._roster = roster
        self._take_up = take_up
        self._feed = feed
        #: Live processes that asked for a run that is drained here.
        self._askers: dict[RunId, list[str]] = {}
        #: Lock files of processes whose ask can't be taken here (no credential for it), and until
        #: when (wall ms) their runs wait.
        self._untaken: dict[str, int] = {}

    def askers_live(self) -> bool:
        """Whether somebody is there to take over every run that is left."""
        return all(
            any(self._database.is_alive(name) for name in self._askers.get(run.id, ()))
            for run in self._roster.live
        )

    def untaken_live(self, *, by: float) -> bool:
        """Whether a live process could send, by then (wall ms), a run that can't be drained here."""
        return any(
            until <= by and self._database.is_alive(name) for name, until in self._untaken.items()
        )

    async def begin(self, own: Mapping[RunId, CallLimits]) -> None:
        """Take the own runs up; one that can't be sent ends at once, a single one with its error."""
        for run_id, limits in own.items():
            try:
                await self._take_up.take(run_id, limits, self._process.id)
            except RefusedError as refused:
                await self._refuse(run_id, refused)
            except UsageError as error:
                if len(own) == 1:
                    raise
                # One of several (resume --all): the others go all the same.
                self._feed.notice(f"{error.message} {error.fix}")
                self._roster.endings[run_id] = Ending(error.exit_code, None)

    async def _refuse(self, run_id: RunId, refused: RefusedError) -> None:
        """Halt an own run whose credential is missing or can't be right: nothing is sent."""
        stop = Waiting(
            reason=WaitingReason.AUTHENTICATION,
            until=None,
            detail=refused.message,
            fix=refused.fix,
        )
        wall = int(self._clock.wall())
        await self._writer.transact(
            lambda conn: end_run(conn, run_id, stop, finished=False, wall=wall)
        )
        self._roster.endings[run_id] = Ending(refused.exit_code, stop)

    async def look(self, *, is_taking: bool) -> None:
        """See who asks for what; with ``is_taking`` what others ask for is taken up."""
        asks = await self._writer.query(load_asks)
        others = [ask for ask in asks if ask.process_id != self._process.id]
        self._askers = {}
        for ask in others:
            self._askers.setdefault(ask.run_id, []).append(ask.lock_file)
        if not is_taking:
            return
        self._untaken = {}
        for ask in others:
            if (
                self._database.is_alive(ask.lock_file)
                and not self._roster.is_live(ask.run_id)
                and ask.note != "ended"
            ):
                await self._take(ask)

    async def _take(self, ask: AskRow) -> None:
        limits = CallLimits(
            max_wait_s=ask.options.get("max_wait_s"),
            deadline=_deadline(ask.options, self._clock.now()),
            defaults=ask.options.get("defaults") or {},
        )
        try:
            await self._take_up.take(ask.run_id, limits, ask.process_id)
        except BatchrunnerError as error:
            until = ask.waits_until or 0
            self._untaken[ask.lock_file] = min(until, self._untaken.get(ask.lock_file, until))
            note = f"the process that sends can't send it: {error.message}"
            if ask.note != note:
                await self._writer.transact(
                    lambda conn: note_ask(conn, ask.run_id, ask.process_id, note)
                )


def _deadline(options: Mapping[str, Any], now: float) -> float | None:
    seconds = options.get("max_time_s")
    return None if seconds is None else now + float(seconds) * 1000.0
