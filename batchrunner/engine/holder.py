"""The holder: the one process of a database that sends, as long as it holds the lock.

Its heart is the cycle: judge what came back, take permission for what may go out, and store both
in one transaction; then hand the claims to the senders. Nothing counts as done, is shown or
reported before its commit. The loop wakes when an outcome comes in, when something falls due, and
four times a second to look whether another process changed the database.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from batchrunner.clock import Clock
from batchrunner.core.admission import Ledger
from batchrunner.engine.answer_codecs import answer_codecs, learn_codecs
from batchrunner.engine.arrivals import Arrivals
from batchrunner.engine.binding import Binding
from batchrunner.engine.claiming import Claiming, charge_of, note_warmth
from batchrunner.engine.commit import Commits, unstored
from batchrunner.engine.costs import Costs
from batchrunner.engine.departures import Departures
from batchrunner.engine.ending import Ending, Left
from batchrunner.engine.feed import Feed
from batchrunner.engine.foresight import Foresight
from batchrunner.engine.gate import Gate
from batchrunner.engine.judge import Judge, is_trouble
from batchrunner.engine.live import CallLimits, Claim, LiveRun, Outcome, WireFactory
from batchrunner.engine.lookout import LOOK_S, Lookout
from batchrunner.engine.planning import HORIZON_MS, LanePlan, Planner
from batchrunner.engine.roster import Roster
from batchrunner.engine.scopes import Scopes
from batchrunner.engine.shared_purses import SharedPurses
from batchrunner.engine.sharing import Shared, Sharing, Turn
from batchrunner.engine.stops import Stops
from batchrunner.engine.time_use import cause_of
from batchrunner.engine.token_estimates import TokenEstimates
from batchrunner.engine.waits import next_look, stop_reason
from batchrunner.errors import AwayError, DatabaseError, LostTurnError, ReplacedError
from batchrunner.failpoints import hit
from batchrunner.models import RunId, Waiting, WaitingReason
from batchrunner.store.codecs import DamagedBodyError
from batchrunner.store.database import Database, Writer
from batchrunner.store.faults import DiskFullError
from batchrunner.store.processes import Process
from batchrunner.store.records import Cycle, CycleResult, Settle
from batchrunner.store.settling import prepare_settling
from batchrunner.store.tokens import load_seen

#: Under load a cycle starts at the latest so long after the first outcome (seconds).
GATHER_S: Final = 0.015
#: Fewer outcomes than these are worth no cycle of their own before that.
LEAST_GATHERED: Final = 8
#: A cycle takes at most so many outcomes.
MAX_OUTCOMES: Final = 256
#: The steady time is stored so often, for the next process's clock (milliseconds).
SEEN_MS: Final = 1_000.0


class Holder:
    """Drains the runs asked for; use :meth:`drain` once."""

    def __init__(
        self,
        *,
        writer: Writer,
        clock: Clock,
        process: Process,
        wires: WireFactory,
        own: dict[RunId, CallLimits],
        feed: Feed,
        stops: Stops,
        database: Database,
        rand: Callable[[], float] = random.random,
        shared: Shared | None = None,
    ) -> None:
        """Take the open writer and everything the drain is made of.

        ``shared``: it is a worker, which shares the queue with others.
        """
        offers = None if shared is None else shared.offers
        self._writer = writer
        self._clock = clock
        self._feed = feed
        self._stops = stops
        self._wake = asyncio.Event()
        self._ledger = Ledger()
        self._tokens = TokenEstimates()
        self._gate = Gate(self._ledger, clock, partial(charge_of, self._tokens))
        self._judge = Judge(self._ledger, clock, rand, self._tokens)
        self._planner = Planner(self._ledger)
        self._costs = Costs(feed.notice, self._tokens)
        self._scopes = Scopes(self._ledger, clock, feed.notice)
        self._roster = Roster(own)
        self._arrivals = Arrivals(
            writer=writer,
            clock=clock,
            process=process,
            wires=lambda row: wires(row, self._gate.at_send),
            own=own,
            roster=self._roster,
            scopes=self._scopes,
            feed=feed,
            database=database,
            binding=Binding(
                writer, clock, self._costs, self._give_up, worker=process.id if shared else None
            ),
            offers=offers,
        )
        is_shared = offers is not None
        self._departures = Departures(
            writer=writer,
            clock=clock,
            roster=self._roster,
            feed=feed,
            worker=process.id if shared else None,
        )
        self._claiming = Claiming(
            ledger=self._ledger,
            clock=clock,
            tokens=self._tokens,
            gate=self._gate,
            hand_over=self._hand_over,
            give_up=self._give_up,
            ended=self._sender_ended,
        )
        self._sharing: Sharing | None = None
        if shared is not None:
            purses = SharedPurses(self._costs, clock, process.id)
            self._sharing = Sharing(
                shared.writer,
                self._ledger,
                self._scopes,
                clock,
                worker=process.id,
                gate=self._gate,
                purses=purses,
                foresight=Foresight(self._planner, self._claiming, clock),
            )
            self._gate.rebook = self._sharing.rebook
        self._commits = Commits(
            writer=writer,
            ledger=self._ledger,
            more=self._more_settles,
            damaged=self._note_defect,
            is_shared=is_shared,
        )
        self._lookout = Lookout(
            writer=writer,
            clock=clock,
            roster=self._roster,
            arrivals=self._arrivals,
            scopes=self._scopes,
            gate=self._gate,
            feed=feed,
            stops=stops,
            database=database,
            offers=offers,
        )
        self._ending = Ending(
            roster=self._roster,
            asks=self._arrivals.asks,
            stops=stops,
            clock=clock,
            gate=self._gate,
            offers=offers,
        )
        self._outcomes: list[Outcome] = []
        #: Judged, and to be stored with the next cycle.
        self._settles: list[Settle] = []
        self._defect: BaseException | None = None
        self._gather: asyncio.TimerHandle | None = None
        #: When the steady time was last stored.
        self._seen_at = float("-inf")

    @property
    def roster(self) -> Roster:
        """The runs, and how they ended."""
        return self._roster

    @property
    def gate(self) -> Gate:
        """The gate, whose backstop a test watches."""
        return self._gate

    def has_unstored(self) -> bool:
        """Whether something is out, or came back and is not stored yet."""
        return bool(
            self._outcomes or self._settles or self._commits.kept is not None
            or any(run.outstanding for run in self._roster.live)
        )  # fmt: skip

    def cut_off(self) -> None:
        """Know that the database's server is away."""
        if self._sharing is not None:
            self._sharing.cut_off()

    async def drain(self) -> Left:
        """Send until the own runs are over, or another process shall send; store everything."""
        self._stops.watch(self._kick)
        self._tokens.load(await self._writer.transact(load_seen))
        await self._arrivals.begin()
        try:
            while True:
                await self._cycle()
                self._note_times()
                await self._end_runs()
                left = self._ending.left()
                if left is Left.HANDED_OVER:
                    for run in self._roster.live:
                        # Whoever sends next sees until when these wait.
                        await self._lookout.show(run)
                if left is not None:
                    return left
                await self._rest()
                await self._lookout.look()
        except (AwayError, ReplacedError) as error:
            if self._commits.is_broken:
                raise
            # Nobody waits for the server any more, or another process sends in this one's place.
            self._commits.is_broken = True
            self._judge_now()
            kept = self._commits.kept
            raise unstored(error, [*(kept.settles if kept else ()), *self._settles]) from error
        finally:
            await self._leave()

    # --- the cycle

    async def _cycle(self) -> None:
        if self._sharing is None:
            with suppress(LostTurnError):
                await self._store_and_claim(await self._all_settles(), None)
            return
        is_stored = False
        while not is_stored:
            is_stored = await self._turn(self._sharing)

    async def _all_settles(self) -> list[Settle]:
        kept = self._commits.kept
        return [*(kept.settles if kept else ()), *await self._more_settles()]

    async def _turn(self, sharing: Sharing) -> bool:
        """Take a turn where one is due; return whether it is not to be taken again at once."""
        settles = await self._all_settles()
        runs = list(self._roster.live)
        if not (settles or self._commits.kept or sharing.is_due(runs)):
            return True
        settling = prepare_settling(settles, answer_codecs(self._roster.every), packs=False)
        try:
            async with sharing.turn(runs, settling) as turn:
                await self._store_and_claim(settles, turn)
        except LostTurnError:
            pass  # what came back is kept for the next one
        except DiskFullError as error:
            now, wall = int(self._clock.now()), int(self._clock.wall())
            await self._commits.wait_for_room(error, settles, now=now, wall=wall)
            return False
        except DamagedBodyError as error:
            # Of what comes next: the answers are stored in a turn that looks at none of it.
            self._commits.keep(settles, now=int(self._clock.now()), wall=int(self._clock.wall()))
            self._note_defect(error)
        except DatabaseError as error:
            if self._commits.is_broken:
                raise
            raise self._commits.lost(error, settles) from error
        return True

    async def _store_and_claim(self, settles: Sequence[Settle], turn: Turn | None) -> None:
        of = None if turn is None else turn.scopes
        now, wall = self._clock.now(), self._clock.wall()
        self._costs.look(wall)
        plans = self._plan(now, wall)
        if turn is not None:
            # The next one begins with what comes next.
            self._planner.to_look_up.clear()
        looked_up = list(self._planner.to_look_up)
        learned, organizations = self._scopes.take_learned()
        is_seen = now - self._seen_at >= SEEN_MS
        cycle = Cycle(
            wall=int(wall),
            now=int(now),
            is_seen=is_seen,
            # At the latest with the last answers, after which nothing is claimed.
            said=self._scopes.take_said() if is_seen or not plans else (),
            settles=settles,
            asks=[plan.ask(now) for plan in plans],
            planned=[int(grant.instant) for plan in plans for grant in plan.grants],
            usage=self._ledger.take_dirty(of),
            scopes=self._scopes.take_changed(of),
            holds=tuple(self._judge.new_holds),
            learned=learned,
            organizations=organizations,
            codecs=answer_codecs(self._roster.every),
            looks=self._planner.looks(now),
            seen_tokens=self._tokens.take_changed() if is_seen or not plans else (),
        )
        has_moved = self._sharing is not None and self._sharing.purses.join(
            cycle, plans, self._roster.live
        )
        if not (
            settles or plans or cycle.usage or cycle.scopes or cycle.holds or learned
            or cycle.looks or cycle.seen_tokens or has_moved or self._commits.kept
        ):  # fmt: skip
            return
        self._judge.new_holds.clear()
        if cycle.is_seen:
            self._seen_at = now
            # With nothing left it is told with the run's end, by whoever stores that.
            going = [run for run in self._roster.live if run.counts.pending + run.counts.running]
            cycle.times = [one for run in going for one in run.take_times(now, wall)]
        if plans:
            hit("claim.begin")
        store = self._commits.store
        try:
            result = await store(cycle, plans, None if turn is None else turn.settled)
        except (DiskFullError, LostTurnError):
            self._scopes.put_back(cycle.scopes)
            self._kick()
            raise
        if self._sharing is not None:
            self._sharing.stored(cycle.usage, decided_at=now)
            self._sharing.purses.stored()
        if settles:
            hit("settle.committed")
        if plans:
            hit("claim.committed")
        self._note_settled(cycle.settles, result)
        self._claiming.note_claimed(plans, result)
        self._claiming.note_next(looked_up, result.next_jobs)
        await learn_codecs(self._writer, self._roster.every, cycle.settles)
        if self._scopes.rebinds:
            await self._arrivals.rebind()

    def _note_times(self) -> None:
        """Count where the runs' time went since the last loop."""
        now, wall = self._clock.now(), self._clock.wall()
        for run in self._roster.live:
            run.times.turn(cause_of(run, now, wall), now, wall)

    def _judge_now(self) -> None:
        """Judge what came back; what it pauses, holds or stops is so before the next send."""
        taken, self._outcomes = self._outcomes, []
        was_held = self._judge.n_changes
        for outcome in taken:
            outcome.claim.run.outstanding -= 1
            self._settles += self._judge.judge(outcome)
            note_warmth(outcome)
            if outcome.reply is not None and outcome.reply.status is not None:
                self._scopes.learn(outcome.claim, outcome.reply)
        if self._judge.n_changes != was_held:
            self._kick()

    def _judge_outcomes(self) -> list[Settle]:
        self._judge_now()
        settles, self._settles = self._settles[:MAX_OUTCOMES], self._settles[MAX_OUTCOMES:]
        now = self._clock.now()
        for run in self._roster.live:
            if not run.streak.n_open or run.outstanding:
                continue
            if run.is_stopping or self._roster.is_leaving or self._stops.asked:
                settles += self._judge.flush(run)
            elif run.room(now) <= 0 or not any(
                lane.is_ready(now) for key, lane in run.lanes.items() if key not in run.holds
            ):
                # Nothing of it goes out that could end the streak: no job is left, or no money.
                settles += self._judge.flush_idle(run)
        # Nothing is done before its commit: all that is stored together is finished together.
        wall = int(self._clock.wall())
        for settle in settles:
            if settle.finished_at is not None:
                settle.finished_at = wall
        return settles

    async def _more_settles(self) -> list[Settle]:
        """Return what came back since, counted."""
        settles = self._judge_outcomes()
        await self._costs.count(settles, self._roster)
        return settles

    def _note_defect(self, error: BaseException) -> None:
        self._defect = error

    def _plan(self, now: float, wall: float) -> list[LanePlan]:
        if self._stops.asked or self._roster.is_leaving or self._defect is not None:
            self._planner.to_look_up.clear()
            return []
        runs = [run for run in self._roster.live if not run.is_stopping]
        if self._sharing is not None:
            self._planner.commit_ms = min(self._sharing.takes, HORIZON_MS / 2)
        return self._planner.plan(runs, now, wall)

    def _note_settled(self, settles: Sequence[Settle], result: CycleResult) -> None:
        for run_id, delta in result.deltas.items():
            self._roster[RunId(run_id)].move(delta)
        if result.lost:
            lost = {(settle.job_id, settle.claim) for settle in result.lost}
            settles = [s for s in settles if (s.job_id, s.claim) not in lost]
        for settle in settles:
            if settle.state == "pending":
                lane = self._roster[settle.run_id].lanes[settle.model_id]
                if settle.not_before:
                    due, later = lane.next_due, lane.ahead_until
                    lane.next_due = min(due or settle.not_before, settle.not_before)
                    lane.ahead_until = min(later or settle.not_before, settle.not_before)
                else:
                    lane.fresh = True
                    lane.forget_ahead()
        self._feed.settled(settles, self._roster)

    # --- waking

    def _kick(self) -> None:
        self._wake.set()
        self._gate.wake()

    def _hand_over(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        if is_trouble(outcome):
            self._judge_now()
        n = len(self._outcomes)
        run = outcome.claim.run
        # Half of what was claimed ahead is gone: the rest lasts while the next claim is committed.
        if (
            n >= MAX_OUTCOMES
            or run.queue.is_empty()
            or (n >= LEAST_GATHERED and 2 * n >= run.in_flight_bound())
        ):
            self._wake.set()
        elif self._gather is None:
            self._gather = asyncio.get_running_loop().call_later(GATHER_S, self._gathered)

    def _gathered(self) -> None:
        self._gather = None
        self._wake.set()

    def _sender_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._defect = error
            self._wake.set()

    async def _rest(self) -> None:
        """Sleep until there is something to do, at most until the next look around."""
        if self._defect is not None:
            raise self._defect
        if len(self._outcomes) + len(self._settles) >= MAX_OUTCOMES:
            await asyncio.sleep(0)
            return
        now = self._clock.now()
        wait = LOOK_S
        lead_ms = HORIZON_MS / 2 if self._sharing is None else self._sharing.lead_ms
        for run in self._roster.live:
            if not run.is_stopping:
                wait = min(wait, max(0.0, next_look(run, now, lead_ms=lead_ms) - now) / 1000.0)
        if not self._wake.is_set():
            try:
                async with asyncio.timeout(max(wait, 0.001)):
                    await self._wake.wait()
            except TimeoutError:
                pass
        self._wake.clear()

    # --- ends

    async def _end_runs(self) -> None:
        now, wall = self._clock.now(), self._clock.wall()
        for run in list(self._roster.live):
            if run.stop is None:
                if self._stops.asked and run.is_own:
                    run.stop = Waiting(
                        reason=WaitingReason.INTERRUPTED,
                        until=None,
                        detail="stopped by a signal",
                        fix=f"batchrunner resume {run.typed_name}",
                    )
                else:
                    run.stop = stop_reason(run, now, wall)
                if run.stop is not None:
                    self._gate.wake()
            if run.stop is not None or self._stops.asked:
                self._take_back(run)
            # What other workers have in flight is theirs, where this one stops.
            others = run.counts.running if self._sharing is None or run.stop is None else 0
            if run.outstanding or others or self._is_unstored(run):
                continue
            if run.counts.pending == 0 or run.stop is not None:
                await self._departures.end(run, self._stops.exit_code)

    def _is_unstored(self, run: LiveRun) -> bool:
        """Whether something came back of a run that is not settled yet: till then it looks like others'."""
        kept = self._commits.kept
        waiting = [*self._settles, *(kept.settles if kept else ())]
        return bool(run.streak.n_open) or any(s.run_id == run.id for s in waiting)

    def _take_back(self, run: LiveRun) -> None:
        """Give back what is claimed while every sender is busy, or gone after a second Ctrl-C."""
        for claim in run.queue.take_back():
            self._give_up(claim)

    def _give_up(self, claim: Claim) -> None:
        """Give a job back that is claimed, unsent."""
        self._hand_over(
            Outcome(
                claim=claim, fate="unsent", ended_at=self._clock.now(),
                ended_wall=int(self._clock.wall()),
            )
        )  # fmt: skip

    async def _leave(self) -> None:
        """Let go of what was taken up; cancel senders that are still there (a defect, a full disk)."""
        tasks = [task for run in self._roster.every for task in run.senders]
        for run in self._roster.every:
            for _ in run.senders:
                run.queue.put(None)
        if self._defect is not None or any(run.outstanding for run in self._roster.live):
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._gather is not None:
            self._gather.cancel()
        if self._commits.is_broken:
            # What failed is told; the next process rescues what was in flight.
            return
        self._roster.is_leaving = True
        for run in self._roster.live:
            run.is_left = True
        while (
            self._outcomes
            or self._settles
            or self._commits.kept
            or any(run.streak.n_open for run in self._roster.live)
        ):
            # What came back while the end was under way is stored like everything else.
            await self._cycle()
        await self._departures.leave()
