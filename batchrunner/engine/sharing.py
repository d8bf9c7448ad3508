"""How a holder shares a queue with others: one ledger in the database, a turn for each cycle.

A turn is one transaction. It settles what came back; then it has the ledger of its scopes to itself, and
begins with what the others have used, planned and paused there since the last one, so that the same
pure planner may decide as if it were alone. What it decides is committed at the end of the turn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final, NamedTuple

from batchrunner.clock import Clock
from batchrunner.core.admission import (
    PAUSE,
    REBOOK_HORIZON_MS,
    Blocked,
    DirtySlot,
    Grant,
    Ledger,
)
from batchrunner.core.counting import Charge
from batchrunner.core.shared import SharedLedger
from batchrunner.engine.foresight import Foresight
from batchrunner.engine.gate import Gate
from batchrunner.engine.live import LiveRun
from batchrunner.engine.offers import Offers
from batchrunner.engine.planning import HORIZON_MS, LEFT_MS
from batchrunner.engine.scopes import Scopes
from batchrunner.engine.shared_purses import SharedPurses
from batchrunner.engine.verdict_words import stop_alike
from batchrunner.errors import LostTurnError
from batchrunner.failpoints import hit
from batchrunner.models import JobId, RunId, ScopeId, WaitingReason
from batchrunner.store import sharing as statements
from batchrunner.store.cycle import run_cycle
from batchrunner.store.database import SharedWriter
from batchrunner.store.driver import DriverConnection
from batchrunner.store.faults import DiskFullError
from batchrunner.store.records import Cycle, NextJobs
from batchrunner.store.rescue import MAX_LATE_MS
from batchrunner.store.settling import Settling, compress, prepare_settling, settle
from batchrunner.store.stops import Alike, alike
from batchrunner.store.worker_runs import Money

__all__ = ["Shared", "Sharing", "Turn"]

#: A turn is taken at least so often, with runs and without (milliseconds).
_TURN_MS: Final = 1_000.0
_BEAT_MS: Final = 5_000.0
#: What a turn takes longer than the last one is counted on at once, what it takes less little by little.
_FADES: Final = 0.7
#: Nothing came back.
_NOTHING: Final = prepare_settling((), {}, packs=False)


class Shared(NamedTuple):
    """What a worker has besides a holder's own."""

    #: Which runs it takes.
    offers: Offers
    #: The holder's writer, as one that takes turns.
    writer: SharedWriter


class Turn(NamedTuple):
    """What a turn began with."""

    #: Where nobody else books until its end; nothing of other scopes may be stored in it.
    scopes: Collection[ScopeId]
    #: What it has settled.
    settled: Settling


class _Begun(NamedTuple):
    """What a turn's transaction began with."""

    settled: Settling
    seen: statements.Seen
    money: Money | None
    #: Runs of which so many jobs have failed: those that did alike, if all did.
    failed: Mapping[RunId, Alike | None]
    #: What comes next in lanes whose jobs are claimed by name.
    next_jobs: Sequence[set[JobId] | NextJobs]


class Sharing:
    """One worker's part in the ledger of all."""

    def __init__(
        self,
        writer: SharedWriter,
        ledger: Ledger,
        scopes: Scopes,
        clock: Clock,
        *,
        worker: int,
        gate: Gate,
        purses: SharedPurses,
        foresight: Foresight,
    ) -> None:
        """Take the connection, what is kept in memory, this worker's number, and what its sends pass."""
        self._writer = writer
        self._gate = gate
        #: How often the server had been away when it was learned last.
        self._n_losses = writer.n_losses
        self._ledger = ledger
        self._shared = SharedLedger(ledger)
        self._scopes = scopes
        self._clock = clock
        self._worker = worker
        self.purses = purses
        self._foresight = foresight
        #: What of each scope's usage was seen: the greatest number of a write.
        self._versions: dict[ScopeId, int] = {}
        #: The limits' version, and the time (steady ms), of the last turn.
        self._limits = -1
        self._turned_at = float("-inf")
        #: When others have heard of this worker last (steady ms), at the latest.
        self._heard_at = float("-inf")
        #: How long (ms) a turn takes of late from what is decided in it to its end.
        self.takes = 0.0
        #: The same of turns in which a late send is moved, which claim nothing.
        self._moving_takes = 0.0

    def is_due(self, runs: Collection[LiveRun]) -> bool:
        """Whether a turn is wanted though nothing came back.

        A job may be claimed, limits have changed, or the last one was long ago: others shall see that this
        worker is there, and it what they did.
        """
        now = self._clock.now()
        ahead_ms = self.lead_ms if self._is_far else LEFT_MS
        return (
            now - self._turned_at >= (_TURN_MS if runs else _BEAT_MS)
            or self._limits != self._ledger.version
            or any(_may_claim(run, now, ahead_ms) or _is_held(run, now) for run in runs)
        )

    @property
    def lead_ms(self) -> float:
        """How long before its instant the turn of a claim is to begin.

        Far from the server what comes before the decision takes as long as what comes after it.
        """
        half = HORIZON_MS / 2
        return half + 2 * min(self.takes, half) if self._is_far else half

    @property
    def _is_far(self) -> bool:
        return self.takes > LEFT_MS

    @asynccontextmanager
    async def turn(
        self,
        runs: Collection[LiveRun] = (),
        settling: Settling = _NOTHING,
        *,
        of: Collection[ScopeId] = (),
    ) -> AsyncIterator[Turn]:
        """Settle, then have the ledger to ourselves; the next transaction of this task is the turn's.

        The ledger: the scopes of ``runs``, those named in ``of``, and whatever is not stored yet.
        """
        live = {run.id: run for run in runs}
        scopes = {scope for run in runs for scope in _scopes_of(run)}
        scopes |= {*of, *self._ledger.unstored(), *self._scopes.unstored()}
        asked_at = 0.0
        glances = self._foresight.glances(runs)

        def begin(conn: DriverConnection) -> _Begun:
            nonlocal asked_at
            asked_at = self._clock.now()
            if self._writer.n_losses != self._n_losses:
                self._n_losses = self._writer.n_losses
                self._shared.doubt()
                self._versions.clear()
                self._gate.void_before = asked_at
            settled = settle(conn, settling)
            versions = {scope: self._versions.get(scope, -1) for scope in scopes}
            seen = statements.look(conn, self._worker, versions=versions, runs=[*live])
            # After the accounts: locks are taken in one order.
            money = self.purses.look(conn, live.values())
            failed = {
                run.id: alike(conn, run.id)
                for run in live.values()
                if (counts := seen.counts.get(run.id)) is not None
                and run.company is not None
                and run.company.is_to_ask(counts)
            }
            return _Begun(settled, seen, money, failed, self._foresight.read(conn, glances))

        turn = self._writer.turn(begin, before=partial(compress, settling))
        async with turn as (settled, seen, money, failed, next_jobs):
            if not of:
                # A late send's turn plans nothing, and stands for none that does.
                self._turned_at, self._limits = self._clock.now(), self._ledger.version
            self._shared.take(seen.slots, scopes)
            self._versions.update(seen.versions)
            for state in seen.scopes:
                self._scopes.adopt(state)
            for run_id, counts in seen.counts.items():
                live[run_id].see(counts, self._turned_at)
            self._meet(live.values(), seen, failed)
            self.purses.take(live, money)
            self._foresight.take(glances, next_jobs)
            hit("turn.begun")
            try:
                yield Turn(scopes, settled)
            except BaseException:
                self.purses.undo()
                raise
        if self._writer.n_losses != self._n_losses:
            # The server went away at its very end.
            return
        # Others have heard of this worker then at the latest: nobody else has its jobs for a lease.
        self._heard_at = asked_at
        self._gate.lease_until = asked_at + MAX_LATE_MS

    def cut_off(self) -> None:
        """Send nothing once others may take this worker for dead: its lock has gone with its connection."""
        self._gate.lease_until = min(self._gate.lease_until, self._heard_at + statements.QUIET_MS)

    def _meet(
        self, runs: Iterable[LiveRun], seen: statements.Seen, failed: Mapping[RunId, Alike | None]
    ) -> None:
        """See what others have of the runs, and what they have ended."""
        now = self._clock.now()
        for run in runs:
            if (stop := seen.ended.get(run.id)) is not None:
                run.stop, run.is_ended_elsewhere, run.tells = stop, True, False
                continue
            if run.company is None:
                continue
            run.company.look(run.counts, outstanding=run.outstanding, is_proved=run.proved, now=now)
            if (all_alike := failed.get(run.id)) is None:
                if run.id in failed:
                    run.company.asked(run.counts)
            elif run.stop is None:
                stop_alike(run, all_alike)

    def stored(self, rows: Iterable[DirtySlot], *, decided_at: float) -> None:
        """Note what this turn's commit has stored, and when (steady ms) that was decided."""
        self._shared.stored(rows)
        self.takes = _lately(self.takes, self._clock.now() - decided_at)

    async def rebook(self, grant: Grant, charge: Charge | None) -> Grant | Blocked:
        """Move a late send, in a turn of its own: others may have booked what was free.

        It is refused where the server was away meanwhile: others may have its job by now; and where its disk
        is full.
        """
        again: Grant | Blocked | None = None
        with suppress(DiskFullError):
            again = await self._rebooked(grant, charge)
        if again is None:
            self._ledger.release(grant)
            return _refused(grant)
        return again

    async def _rebooked(self, grant: Grant, charge: Charge | None) -> Grant | Blocked | None:
        """Return what became of it; ``None``: it is booked as it was, and may not go."""
        of = (grant.account,) if grant.pool is None else (grant.account, grant.pool)
        n_losses = self._n_losses
        async with self.turn(of=of) as turn:
            if self._n_losses != n_losses:
                return None
            now, wall = self._clock.now(), self._clock.wall()
            # Not before it is stored: far from the server, or beside a slow disk, it would be late again.
            takes = self._moving_takes or self.takes
            again = self._ledger.rebook(grant, now + takes, wall + takes, charge)
            cycle = Cycle(
                wall=int(wall),
                now=int(now),
                is_seen=False,
                usage=self._ledger.take_dirty(turn.scopes),
                scopes=self._scopes.take_changed(turn.scopes),
            )
            try:
                await self._writer.transact(lambda conn: run_cycle(conn, cycle))
            except (DiskFullError, LostTurnError):
                self._ledger.put_back(cycle.usage)
                self._scopes.put_back(cycle.scopes)
                if isinstance(again, Grant):
                    self._ledger.release(again)
                return _refused(grant)
            self._shared.stored(cycle.usage)
            self._moving_takes = _lately(self._moving_takes, self._clock.now() - now)
        return again


def _lately(before: float, took: float) -> float:
    return min(max(took, _FADES * before), REBOOK_HORIZON_MS)


def _scopes_of(run: LiveRun) -> Iterator[ScopeId]:
    yield run.account.id
    for lane in run.lanes.values():
        yield lane.pool.id


def _is_held(run: LiveRun, now: float) -> bool:
    """Whether a run waits for what becomes of others' first request, which a turn tells."""
    return run.company is not None and run.company.is_holding(now)


def _may_claim(run: LiveRun, now: float, ahead_ms: float) -> bool:
    """Whether something of a run may be planned now for then, as far as this worker knows."""
    return (
        not run.is_stopping
        and run.counts.pending > 0
        and run.room(now) > 0
        and any(
            # So that the claim is committed by the instant itself.
            model_id not in run.holds and lane.is_ready(now) and not lane.is_blocked(now + ahead_ms)
            for model_id, lane in run.lanes.items()
        )
    )


def _refused(grant: Grant) -> Blocked:
    return Blocked(None, None, WaitingReason.RATE_LIMITED, PAUSE, grant.account)
