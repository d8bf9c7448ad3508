"""The holder: the one process of a database that sends, as long as it holds the lock.

Its heart is the cycle: judge what came back, take permission for what may go out, and store both
in one transaction; then hand the claims to the senders. Nothing counts as done, is shown or
reported before its commit. The loop wakes when an outcome comes in, when something falls due, and
four times a second to look whether another process changed the database.
"""

from __future__ import annotations

import asyncio
import random
import shlex
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Final

from batchrunner.clock import Clock
from batchrunner.core.admission import DirtySlot, Ledger
from batchrunner.core.caching import kept_ms
from batchrunner.core.counting import NO_TOKENS, Charge
from batchrunner.core.warmth import Warmth
from batchrunner.engine.costs import Costs
from batchrunner.engine.feed import Feed
from batchrunner.engine.gate import Gate
from batchrunner.engine.judge import Judge
from batchrunner.engine.live import CallLimits, Claim, Lane, LiveRun, Outcome, WireFactory
from batchrunner.engine.planning import LanePlan, Planner
from batchrunner.engine.roster import Roster
from batchrunner.engine.scopes import Scopes
from batchrunner.engine.sender import sender
from batchrunner.engine.stops import Stops
from batchrunner.engine.time_use import cause_of
from batchrunner.engine.token_estimates import Ahead, TokenEstimates
from batchrunner.engine.waits import next_look, stop_reason, what_it_waits_for
from batchrunner.errors import BatchrunnerError, DatabaseError
from batchrunner.failpoints import hit
from batchrunner.models import JobId, Request, RunId, Waiting, WaitingReason
from batchrunner.store import holder as statements
from batchrunner.store.codecs import DamagedBodyError
from batchrunner.store.cycle import compress, execute, finish, prepare
from batchrunner.store.faults import DiskFullError
from batchrunner.store.processes import Process
from batchrunner.store.records import Cycle, CycleResult, LaneClaim, NextJobs, Settle
from batchrunner.store.tokens import load_seen
from batchrunner.store.writer import Writer

#: Under load a cycle starts at the latest so long after the first outcome (seconds).
GATHER_S: Final = 0.015
#: Fewer outcomes than these are worth no cycle of their own before that.
LEAST_GATHERED: Final = 8
#: A cycle takes at most so many outcomes.
MAX_OUTCOMES: Final = 256
#: How often other processes' changes are looked for (seconds).
LOOK_S: Final = 0.25
#: A full disk is tried again each second, so often.
DISK_TRIES: Final = 10
#: The steady time is stored so often, for the next process's clock (milliseconds).
SEEN_MS: Final = 1_000.0
#: In a wait, in which nothing else is stored, where the time goes is stored so often (milliseconds).
UNSTORED_MS: Final = 10_000.0
#: The log is copied into the database once it has grown by so many bytes.
CHECKPOINT_BYTES: Final = 16 * 1024 * 1024
#: A log of so many times that size, which a reader keeps from being emptied, is told of.
LARGE_LOG: Final = 8
#: A holder with nothing to send for so long gives way to a process that could (milliseconds).
IDLE_MS: Final = 5_000.0
#: Of several processes that all wait each holds the lock for so long (milliseconds).
TURN_MS: Final = 60_000.0
#: In the order of the provider's cache the next jobs are looked up anew so often: what is warm cools
#: down (milliseconds).
ORDER_MS: Final = 15_000.0
#: Stands for a request that could not be made; it is never sent.
_UNSENDABLE: Final = Request(method="", url="", headers={}, body=b"")


class Left(StrEnum):
    """How a holder's time ended."""

    #: Its own runs are over; nobody else's were left to it.
    DONE = "done"
    #: Another process shall send first; follow it.
    HANDED_OVER = "handed_over"


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
        database: Path,
        rand: Callable[[], float] = random.random,
    ) -> None:
        """Take the open writer and everything the drain is made of."""
        self._writer = writer
        self._clock = clock
        self._feed = feed
        self._stops = stops
        self._wal = database.with_name(database.name + "-wal")
        self._wake = asyncio.Event()
        self._ledger = Ledger()
        self._tokens = TokenEstimates()
        self._gate = Gate(self._ledger, clock, self._charge_of)
        self._judge = Judge(self._ledger, clock, rand, self._tokens)
        self._planner = Planner(self._ledger)
        self._costs = Costs(feed.notice, self._tokens)
        self._scopes = Scopes(self._ledger, clock, feed.notice)
        self._roster = Roster(
            writer=writer,
            clock=clock,
            process=process,
            wires=lambda row: wires(row, self._gate.at_send),
            own=own,
            scopes=self._scopes,
            feed=feed,
            database=database,
            costs=self._costs,
            give_up=self._give_up,
        )
        self._outcomes: list[Outcome] = []
        #: Judged, and to be stored with the next cycle.
        self._settles: list[Settle] = []
        self._defect: BaseException | None = None
        #: A cycle could not be stored: nothing more is tried.
        self._is_broken = False
        self._gather: asyncio.TimerHandle | None = None
        self._looked_at = 0.0
        #: When the steady time was last stored.
        self._seen_at = float("-inf")
        self._version = -1
        #: The log's size that was told last, and may be passed by twice as much, in CHECKPOINT_BYTES.
        self._log_told = LARGE_LOG
        self._began_at = clock.now()

    @property
    def roster(self) -> Roster:
        """The runs, and how they ended."""
        return self._roster

    @property
    def gate(self) -> Gate:
        """The gate, whose backstop a test watches."""
        return self._gate

    async def drain(self) -> Left:
        """Send until the own runs are over, or another process shall send; store everything."""
        self._stops.watch(self._kick)
        self._tokens.load(await self._writer.transact(load_seen))
        await self._roster.start()
        try:
            while True:
                await self._cycle()
                self._note_times()
                await self._end_runs()
                left = self._is_over()
                if left is Left.HANDED_OVER:
                    for run in self._roster.live:
                        # Whoever sends next sees until when these wait.
                        await self._show(run)
                if left is not None:
                    return left
                await self._rest()
                await self._look()
        finally:
            await self._leave()

    # --- the cycle

    async def _cycle(self) -> None:
        settles = self._judge_outcomes()
        await self._costs.count(settles, self._roster)
        now, wall = self._clock.now(), self._clock.wall()
        self._costs.look(wall)
        plans = self._plan(now, wall)
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
            usage=self._ledger.take_dirty(),
            scopes=self._scopes.take_changed(),
            holds=tuple(self._judge.new_holds),
            learned=learned,
            organizations=organizations,
            codecs=self._roster.codecs(),
            looks=self._planner.looks(now),
            seen_tokens=self._tokens.take_changed() if is_seen or not plans else (),
        )
        if not (
            settles or plans or cycle.usage or cycle.scopes or cycle.holds or learned
            or cycle.looks or cycle.seen_tokens
        ):  # fmt: skip
            return
        self._judge.new_holds.clear()
        if cycle.is_seen:
            self._seen_at = now
            cycle.times = [
                one for run in self._roster.live for one in run.times.take(run, now, wall)
            ]
        if plans:
            hit("claim.begin")
        result = await self._commit(cycle, plans)
        if settles:
            hit("settle.committed")
        if plans:
            hit("claim.committed")
        self._note_settled(cycle.settles, result)
        self._note_claimed(plans, result)
        self._note_next(looked_up, result)
        await self._roster.learn_codecs(cycle.settles)
        if self._scopes.rebinds:
            await self._roster.rebind()

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
            _note_warmth(outcome)
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

    def _plan(self, now: float, wall: float) -> list[LanePlan]:
        if self._stops.asked or self._roster.is_leaving or self._defect is not None:
            self._planner.to_look_up.clear()
            return []
        runs = [run for run in self._roster.live if not run.is_stopping]
        return self._planner.plan(runs, now, wall)

    async def _commit(self, cycle: Cycle, plans: Sequence[LanePlan]) -> CycleResult:
        for tries in range(DISK_TRIES + 1):
            try:
                prepared = prepare(cycle)
                executed = await self._writer.transact(
                    lambda conn: execute(conn, prepared),  # noqa: B023 (awaited here)
                    before=partial(compress, prepared),
                )
                return finish(executed)
            except DiskFullError as error:
                # Claim nothing more, keep the answers in memory, and see whether space comes back.
                self._give_back(cycle, plans)
                if tries == DISK_TRIES:
                    self._is_broken = True
                    raise self._roster.unstored(error, cycle.settles) from error
                # What is in the log already may fit where the log can't grow.
                with suppress(DatabaseError):
                    await self._writer.checkpoint("TRUNCATE")
                await asyncio.sleep(1.0)
                more = self._judge_outcomes()
                await self._costs.count(more, self._roster)
                cycle.settles = [*cycle.settles, *more]
                cycle.usage = _latest([*cycle.usage, *self._ledger.take_dirty()])
            except DamagedBodyError as error:
                # A request can't be read back: what came meanwhile is stored, then the call ends.
                self._give_back(cycle, plans)
                self._defect = error
            except DatabaseError as error:
                self._is_broken = True
                raise self._roster.unstored(error, cycle.settles) from error
        raise AssertionError("the loop returns or raises")

    def _give_back(self, cycle: Cycle, plans: Sequence[LanePlan]) -> None:
        """Claim nothing in this cycle, and give its permissions back."""
        for plan in plans:
            for grant in plan.grants:
                self._ledger.release(grant)
            plan.grants.clear()
            _forget_leads(plan.lane, plan.jobs)
            plan.lane.forget_ahead()
        cycle.asks, cycle.planned, cycle.looks = (), (), ()
        cycle.usage = _latest([*cycle.usage, *self._ledger.take_dirty()])

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

    def _note_claimed(self, plans: Sequence[LanePlan], result: CycleResult) -> None:
        for plan, claimed in zip(plans, result.lanes, strict=False):
            run, lane = plan.run, plan.lane
            n = len(claimed.jobs)
            if plan.jobs:
                self._keep_grants(plan, claimed)
            for grant in reversed(plan.grants[n:]):
                self._ledger.release(grant)
            if n < len(plan.grants) and not claimed.cut and not plan.jobs:
                lane.fresh = False
            if plan.looks_due:
                lane.next_due = claimed.next_due
            if claimed.jobs:
                # One of each claim is enough to know about how large they are.
                n_bytes, seen = float(len(claimed.jobs[0].body)), run.request_bytes
                run.request_bytes = 0.9 * seen + 0.1 * n_bytes if seen else n_bytes
            run.outstanding += n
            request, put, version = run.wire.request, run.queue.put, plan.version
            for job, grant in zip(claimed.jobs, plan.grants, strict=False):
                try:
                    made = request(job)
                except BatchrunnerError as error:
                    # A variable that a header wants is not set: the gate sends nothing more.
                    made = _UNSENDABLE
                    run.stop = run.stop or _lacking(run, error)
                claim = Claim(
                    run=run, lane=lane, job=job, request=made, grant=grant, version=version
                )
                if run.purse is None or run.purse.reserve(
                    job.job_id, job.key, lane.model_id, job.body
                ):
                    put(claim)
                else:
                    self._give_up(claim)
            self._staff(run)

    def _keep_grants(self, plan: LanePlan, claimed: LaneClaim) -> None:
        """Put the grants of the jobs that were claimed first, in their order."""
        if len(claimed.jobs) == len(plan.jobs):
            return
        # Some are no longer pending, or too large together: whoever comes next is looked up.
        plan.lane.forget_ahead()
        grants = dict(zip(plan.jobs, plan.grants, strict=True))
        kept = [grants.pop(job.job_id) for job in claimed.jobs]
        _forget_leads(plan.lane, grants)
        plan.grants[:] = [*kept, *grants.values()]

    def _note_next(self, looked_up: Sequence[tuple[LiveRun, Lane]], result: CycleResult) -> None:
        """Take what is next in lanes whose tokens are limited."""
        for (run, lane), following in zip(looked_up, result.next_jobs, strict=False):
            lane.ahead_is_charged = self._ledger.counts_tokens(run.account.id, lane.pool.id)
            starts = following.starts or repeat(0)
            lane.ahead = deque(
                Ahead(job_id, self._reckoned(run, lane, job_id, body), start)
                for (job_id, body), start in zip(following.jobs, starts, strict=False)
            )
            lane.next_due, lane.ahead_until = following.next_due, following.due_later
            if lane.warmth is not None:
                self._note_order(lane, lane.warmth, following)
            elif not lane.ahead:
                lane.fresh = False

    def _reckoned(self, run: LiveRun, lane: Lane, job_id: JobId, body: bytes) -> Charge:
        if not lane.ahead_is_charged:
            return NO_TOKENS
        return self._tokens.charge(job_id, lane.model, body, run.wire.counting)

    def _note_order(self, lane: Lane, warmth: Warmth, following: NextJobs) -> None:
        """Have a lane that goes in the cache's order wait for its leads, or look again soon."""
        for start in following.gone:
            warmth.forget(start)
        if not lane.ahead:
            # What is left waits for leads, or there is nothing left.
            warmth.is_stalled = lane.fresh = warmth.n_leads > 0
        soon = self._clock.now() + ORDER_MS
        lane.ahead_until = min(lane.ahead_until or soon, soon)

    def _charge_of(self, claim: Claim) -> Charge:
        return self._tokens.charge(
            claim.job.job_id, claim.lane.model, claim.request.body, claim.run.wire.counting
        )

    def _staff(self, run: LiveRun) -> None:
        """Have as many senders as may be in flight, and no more."""
        while len(run.senders) - run.n_leaving < min(run.outstanding, run.in_flight_bound()):
            task = asyncio.create_task(sender(run, self._gate, self._clock, self._hand_over))
            run.senders.add(task)
            task.add_done_callback(run.sender_left)
            task.add_done_callback(self._sender_ended)

    # --- waking

    def _kick(self) -> None:
        self._wake.set()
        self._gate.wake()

    def _hand_over(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        if _is_trouble(outcome):
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
        for run in self._roster.live:
            if not run.is_stopping:
                wait = min(wait, max(0.0, next_look(run, now) - now) / 1000.0)
        if not self._wake.is_set():
            try:
                async with asyncio.timeout(max(wait, 0.001)):
                    await self._wake.wait()
            except TimeoutError:
                pass
        self._wake.clear()

    async def _look(self) -> None:
        """See what other processes changed, and show where the runs stand."""
        now = self._clock.now()
        if now - self._looked_at < LOOK_S * 1000.0 and not self._stops.asked:
            return
        self._looked_at = now
        if self._stops.abort:
            for run in self._roster.live:
                for task in run.senders:
                    task.cancel()
        if (size := _size(self._wal)) > CHECKPOINT_BYTES:
            is_copied = await self._writer.checkpoint("PASSIVE")
            if not is_copied and size > self._log_told * CHECKPOINT_BYTES:
                self._tell_large_log(size)
        version = await self._writer.data_version()
        if version != self._version:
            self._version = version
            await self._roster.reload(is_taking=not self._stops.asked)
            self._gate.wake()
        for run in self._roster.live:
            await self._show(run)
        await self._roster.store_times(longer_than_ms=UNSTORED_MS)

    def _tell_large_log(self, size: int) -> None:
        """Say that the log can't be emptied: at 128 MB, and each time it has doubled."""
        while size > self._log_told * CHECKPOINT_BYTES:
            self._log_told *= 2
        path = shlex.quote(str(self._wal))
        self._feed.notice(
            f"The database's log has grown to {size / 1e6:,.0f} MB, since another program keeps reading an"
            f" old state of it (a browser of SQLite, a backup). Close that; who it is tells: lsof {path}"
        )

    async def _show(self, run: LiveRun) -> None:
        now, wall = self._clock.now(), self._clock.wall()
        waiting = None if run.is_stopping else what_it_waits_for(run, now, wall)
        if _changed(run.waiting, waiting):
            run.waiting = waiting
            cause = cause_of(run, now, wall)
            await self._writer.transact(
                lambda conn: statements.set_waiting(
                    conn, run.id, waiting, cause=cause, wall=int(wall)
                )
            )
            self._feed.waiting(run)
        self._feed.picture(run, self._scopes, is_draining=self._stops.asked)

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
            if run.outstanding or run.counts.running:
                continue
            if run.counts.pending == 0 or run.stop is not None:
                await self._roster.end(run, self._stops.exit_code)

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

    def _is_over(self) -> Left | None:
        roster = self._roster
        if roster.own_left:
            return Left.HANDED_OVER if self._shall_hand_over() else None
        if not roster.live:
            return Left.DONE
        if self._stops.asked or roster.askers_live():
            # The askers of what is left take it over.
            if not roster.is_leaving:
                roster.is_leaving = True
                for run in roster.live:
                    run.is_left = True
                self._gate.wake()
            if not any(run.outstanding or run.counts.running for run in roster.live):
                return Left.DONE
        return None

    def _shall_hand_over(self) -> bool:
        """Whether nothing goes out for 5 s here while an attached process could send.

        Now and then the lock also goes to one whose run waits: its limits may have been raised.
        """
        now = self._clock.now()
        may_wait = now - self._began_at >= TURN_MS
        by = float("inf") if may_wait else self._clock.wall() + IDLE_MS
        if self._stops.asked or not self._roster.untaken_live(by=by):
            return False
        return not any(
            run.outstanding or next_look(run, now) - now < IDLE_MS for run in self._roster.live
        )

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
        if self._is_broken:
            # What failed is told; the next process rescues what was in flight.
            return
        self._roster.is_leaving = True
        if self._outcomes or self._settles or any(run.streak.n_open for run in self._roster.live):
            # What came back while the end was under way is stored like everything else.
            await self._cycle()
        await self._roster.leave()


def _note_warmth(outcome: Outcome) -> None:
    """Note what an answer tells of the provider's cache."""
    claim = outcome.claim
    if (warmth := claim.lane.warmth) is None:
        return
    status = outcome.reply.status if outcome.reply is not None else None
    is_read = status is not None and 200 <= status < 300
    warmth.back(
        claim.job.job_id,
        sent_at=claim.sent_at,
        kept_ms=kept_ms(claim.request.body) if is_read else None,
    )


def _forget_leads(lane: Lane, jobs: Iterable[JobId]) -> None:
    """Take back that jobs go which were not claimed after all."""
    if lane.warmth is not None:
        for job in jobs:
            lane.warmth.back(job, sent_at=0.0, kept_ms=None)


def _lacking(run: LiveRun, error: BatchrunnerError) -> Waiting:
    """Return the halt of a run whose jobs want a credential that this process lacks."""
    return Waiting(
        reason=WaitingReason.AUTHENTICATION,
        until=None,
        detail=error.message,
        fix=error.fix or f"then: batchrunner resume {run.typed_name}",
    )


def _is_trouble(outcome: Outcome) -> bool:
    """Whether it may mean that nothing more should go out."""
    reply = outcome.reply
    return reply is not None and (reply.status is None or reply.status >= 300)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _latest(rows: Sequence[DirtySlot]) -> list[DirtySlot]:
    """Keep the last count of each slot."""
    return list({row[:4]: row for row in rows}.values())


def _changed(old: Waiting | None, new: Waiting | None) -> bool:
    if old is None or new is None:
        return old is not new
    return old.reason != new.reason or abs((old.until or 0) - (new.until or 0)) > 1_500
