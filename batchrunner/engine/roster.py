"""The runs a holder drains: who asked for them, taken up and let go, and how each ended."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from batchrunner.clock import Clock
from batchrunner.core.admission import ScopeLedger
from batchrunner.core.expected import Expected
from batchrunner.core.pause import lift
from batchrunner.core.warmth import Warmth
from batchrunner.engine.binding import Binding
from batchrunner.engine.costs import Costs
from batchrunner.engine.descriptors import RESERVE, most_connections
from batchrunner.engine.feed import Feed
from batchrunner.engine.live import AUTO_KNOWN, CallLimits, Claim, Lane, LiveRun
from batchrunner.engine.offers import Offers
from batchrunner.engine.scopes import Scopes
from batchrunner.engine.streak import Streak
from batchrunner.engine.waits import STOP_CODES, is_sample_over
from batchrunner.engine.wire import Wire
from batchrunner.errors import BatchrunnerError, DatabaseError, RefusedError, UsageError
from batchrunner.failpoints import hit
from batchrunner.models import (
    ExitCode,
    JobState,
    RunId,
    ScopeId,
    StoredRunState,
    Waiting,
    WaitingReason,
)
from batchrunner.options import DEFAULT_MAX_ATTEMPTS, PRICES, in_force
from batchrunner.providers import pool_of
from batchrunner.providers.pricing import worst_case
from batchrunner.store import holder as statements
from batchrunner.store import sample, scopes, sharing, waits
from batchrunner.store.accounts import account_to_send_with
from batchrunner.store.codecs import Answers, Codec, codec_of_answers, codecs_of, made_codec
from batchrunner.store.database import Database
from batchrunner.store.faults import DiskFullError
from batchrunner.store.holder import RunRow
from batchrunner.store.processes import Process
from batchrunner.store.records import Settle
from batchrunner.store.runs import DriverConnection
from batchrunner.store.spending import note_prices
from batchrunner.store.writer import Writer

#: Stops by a call's own bounds: a signal, ``--max-time``, ``--max-wait``.
_OF_CALL: Final = frozenset(
    {
        WaitingReason.INTERRUPTED,
        WaitingReason.MAX_TIME,
        WaitingReason.RATE_LIMITED,
        WaitingReason.OVERLOADED,
        WaitingReason.DAILY_LIMIT,
    }
)
#: With an end they are a wait that was too long for the call.
_OF_CALL_IF_DATED: Final = frozenset({WaitingReason.SPEND_LIMIT, WaitingReason.BUDGET})
#: How many jobs a message names.
_NAMED: Final = 10


class Ending:
    """How a run ended, for the process that asked for it."""

    __slots__ = ("exit_code", "is_told", "waiting")

    def __init__(self, exit_code: int, waiting: Waiting | None, *, is_told: bool = False) -> None:
        """Take the exit code, why work is left, and whether an event told so."""
        self.exit_code = exit_code
        self.waiting = waiting
        self.is_told = is_told


def finished_code(n_failed: int, n_rejected: int) -> int:
    """Return the exit code of a run with nothing left to send."""
    return ExitCode.SOME_FAILED if n_failed or n_rejected else ExitCode.DONE


class Roster:
    """The live runs of one holder."""

    def __init__(
        self,
        *,
        writer: Writer,
        clock: Clock,
        process: Process,
        wires: Callable[[RunRow], Wire],
        own: Mapping[RunId, CallLimits],
        scopes: Scopes,
        feed: Feed,
        database: Database,
        costs: Costs,
        give_up: Callable[[Claim], None],
        offers: Offers | None = None,
    ) -> None:
        """Take what runs are made of; ``own`` are this process's, with the bounds of its call.

        ``give_up`` gives a job back that is claimed, unsent. ``offers``: which runs a worker takes,
        nobody's in particular.
        """
        self._offers = offers
        self._writer = writer
        self._clock = clock
        self._process = process
        self._wires = wires
        self._own = own
        self._scopes = scopes
        self._feed = feed
        self._database = database
        self._binding = Binding(writer, clock, costs, give_up)
        self._runs: dict[RunId, LiveRun] = {}
        #: Live processes that asked for a run that is drained here.
        self._askers: dict[RunId, list[str]] = {}
        #: Lock files of processes whose ask can't be taken here (no credential for it), and until
        #: when (wall ms) their runs wait.
        self._untaken: dict[str, int] = {}
        self.endings: dict[RunId, Ending] = {}
        #: The own runs are over: finish what is in flight, start nothing new.
        self.is_leaving = False

    def __getitem__(self, run_id: RunId) -> LiveRun:
        """Return a run that is or was live here."""
        return self._runs[run_id]

    @property
    def every(self) -> Iterator[LiveRun]:
        """Every run that is or was live here."""
        return iter(self._runs.values())

    @property
    def live(self) -> list[LiveRun]:
        """The runs that have not ended."""
        return [run for run in self._runs.values() if not run.ended]

    @property
    def own_left(self) -> bool:
        """Whether a run of this process is not over."""
        return any(run_id not in self.endings for run_id in self._own)

    def askers_live(self) -> bool:
        """Whether somebody is there to take over every run that is left."""
        return all(
            any(self._database.is_alive(name) for name in self._askers.get(run.id, ()))
            for run in self.live
        )

    def untaken_live(self, *, by: float) -> bool:
        """Whether a live process could send, by then (wall ms), a run that can't be drained here."""
        return any(
            until <= by and self._database.is_alive(name) for name, until in self._untaken.items()
        )

    async def start(self) -> None:
        """Rescue what a dead holder left, then take up what is asked for."""
        now, wall = int(self._clock.now()), int(self._clock.wall())
        said = {
            model: price
            for limits in self._own.values()
            for model, price in (limits.defaults.get(PRICES) or {}).items()
        }

        def begin(conn: DriverConnection) -> statements.Rescued:
            scopes.prune_usage(conn, now=now, wall=wall)
            return self._rescued(conn, said)

        self._tell_rescued(await self._writer.transact(begin))
        for run_id, limits in self._own.items():
            try:
                await self._take_up(run_id, limits, self._process.id)
            except RefusedError as refused:
                await self._refuse(run_id, refused)
            except UsageError as error:
                if len(self._own) == 1:
                    raise
                # One of several (resume --all): the others go all the same.
                self._feed.notice(f"{error.message} {error.fix}")
                self.endings[run_id] = Ending(error.exit_code, None)
        await self.reload(is_taking=True)

    def _rescued(
        self, conn: DriverConnection, said: Mapping[str, Any] = MappingProxyType({})
    ) -> statements.Rescued:
        """Put back what nobody sends any more: on a queue of workers, what the dead had claimed."""
        now, wall = int(self._clock.now()), int(self._clock.wall())
        living = None
        if self._offers is not None:
            living = sharing.forget_dead(conn, self._database.is_alive)
        return statements.rescue(
            conn, now=now, wall=wall, pool_of=pool_of, worst_of=worst_case(said, wall),
            living=living,
        )  # fmt: skip

    def _tell_rescued(self, rescued: statements.Rescued) -> None:
        if rescued.n_jobs:
            hit("rescue.committed")
            were = "1 job was" if rescued.n_jobs == 1 else f"{rescued.n_jobs:,} jobs were"
            go = "it goes" if rescued.n_jobs == 1 else "they go"
            self._feed.notice(
                f"{were} in flight when the last process died; {go} again and may have been executed twice"
            )

    async def _take_offers(self, offers: Offers) -> None:
        """Take what the queue has, as far as this worker can send it, and what dead ones left."""
        self._tell_rescued(await self._writer.transact(self._rescued))
        ready = await self._writer.query(sharing.ready_runs)
        n_open = 0
        for run_id in ready:
            kept = self._runs.get(run_id)
            if kept is not None and not kept.ended:
                n_open += 1
                wall = int(self._clock.wall())
                kept.tells = await self._writer.transact(
                    lambda conn, run_id=run_id, wall=wall: sharing.is_to_tell(  # type: ignore[misc]
                        conn, run_id, self._process.id, wall=wall
                    )
                )
                continue
            row = await self._writer.query(
                lambda conn, run_id=run_id: statements.load_run(conn, run_id)  # type: ignore[misc]
            )
            why = None if row is None else offers.why_not(row)
            if row is None or why is not None:
                self._tell_left(offers, row, why or "")
                continue
            limits = CallLimits(max_wait_s=None, defaults=offers.defaults_of(row.provider))
            try:
                await self._take_up(run_id, limits, self._process.id)
                n_open += 1
            except BatchrunnerError as error:
                self._tell_left(offers, row, error.message)
        offers.found(n_open)

    def _tell_left(self, offers: Offers, row: RunRow | None, why: str) -> None:
        if row is not None and offers.is_news(row.id, why):
            self._feed.notice(f"{row.name} is left to others: {why}")

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
            lambda conn: statements.end_run(conn, run_id, stop, finished=False, wall=wall)
        )
        self.endings[run_id] = Ending(refused.exit_code, stop)

    async def reload(self, *, is_taking: bool) -> None:
        """Read what other processes may have changed: states, limits, counts, asks."""
        for run in self.live:
            await self._writer.compute(lambda conn, run=run: self._reload_run(conn, run))  # type: ignore[misc]
            await self._binding.renew(run)
            run.send_home()
        if self._offers is not None:
            if is_taking and not self.is_leaving:
                await self._take_offers(self._offers)
            return
        asks = await self._writer.query(statements.load_asks)
        self._askers = {}
        for ask in asks:
            if ask.process_id != self._process.id:
                self._askers.setdefault(ask.run_id, []).append(ask.lock_file)
        if not is_taking or self.is_leaving:
            return
        self._untaken = {}
        for ask in asks:
            if ask.process_id == self._process.id or not self._database.is_alive(ask.lock_file):
                continue
            kept = self._runs.get(ask.run_id)
            if (kept is not None and not kept.ended) or ask.note == "ended":
                continue
            limits = CallLimits(
                max_wait_s=ask.options.get("max_wait_s"),
                deadline=_deadline(ask.options, self._clock.now()),
                defaults=ask.options.get("defaults") or {},
            )
            try:
                await self._take_up(ask.run_id, limits, ask.process_id)
            except BatchrunnerError as error:
                until = ask.waits_until or 0
                self._untaken[ask.lock_file] = min(until, self._untaken.get(ask.lock_file, until))
                note = f"the process that sends can't send it: {error.message}"
                if ask.note != note:
                    await self._writer.transact(
                        lambda conn, ask=ask, note=note: statements.note_ask(  # type: ignore[misc]
                            conn, ask.run_id, ask.process_id, note
                        )
                    )

    def _reload_run(self, conn: DriverConnection, run: LiveRun) -> None:
        row = statements.load_run(conn, run.id)
        if row is None or row.state in (StoredRunState.CANCELLED, StoredRunState.PAUSED):
            word = "deleted" if row is None else row.state
            if run.stop is None:
                run.stop = Waiting(
                    reason=WaitingReason.PAUSED,
                    until=None,
                    detail=f"somebody {word} the run",
                    fix=f"batchrunner {'retry' if word == 'cancelled' else 'resume'} {run.typed_name}",
                )
            if row is None:
                return
        elif run.stop is not None and run.stop.reason is WaitingReason.PAUSED:
            # Somebody undid it while the last requests were in flight.
            run.stop = None
        row = _with_defaults(row, run.limits)
        run.row = row
        run.counts = row.counts
        run.priority = row.priority
        _apply_options(run, row.options)
        _load_codecs(conn, run)
        self._load_lanes(conn, run)

    def _load_lanes(self, conn: DriverConnection, run: LiveRun) -> None:
        known = run.wire.profile
        counting = run.wire.counting
        run.account = self._scopes.load(conn, run.account.id, known.day_zone, counting)
        run.is_rate_told = self._scopes.is_rate_told(run.account.id)
        for row in statements.load_lanes(conn, run.id):
            lane = run.lanes.get(row.model_id)
            if lane is None:
                pool = self._load_pool(conn, run, row.model)
                lane = run.lanes[row.model_id] = Lane(
                    model_id=row.model_id, model=row.model, pool=pool
                )
            else:
                self._scopes.load(conn, lane.pool.id, known.day_zone, counting)
                # Another process may have changed, added or cancelled jobs.
                lane.forget_ahead()
            lane.warmth = (lane.warmth or Warmth()) if run.is_cache_ordered else None
            lane.fresh = row.fresh and not run.is_sample
            lane.next_due = row.next_due

    def _load_pool(self, conn: DriverConnection, run: LiveRun, model: str) -> ScopeLedger:
        known = run.wire.profile
        pool_id = scopes.scope_id(
            conn,
            kind="pool",
            provider=known.name,
            key=pool_of(known.name, model),
            parent_id=run.account.id,
        )
        return self._scopes.load(conn, pool_id, known.day_zone, run.wire.counting)

    async def _take_up(self, run_id: RunId, limits: CallLimits, asked_by: int) -> None:
        is_own = run_id in self._own
        row = await self._writer.query(lambda conn: statements.load_run(conn, run_id))
        if row is None or row.state != StoredRunState.READY:
            if is_own:
                # Somebody else finished, paused or cancelled it before it came to its turn.
                is_over = row is not None and row.state == StoredRunState.FINISHED
                code = finished_code(row.counts.failed, row.n_rejected) if row and is_over else 3
                self.endings[run_id] = Ending(code, None)
            return
        row = _with_defaults(row, limits)
        wire = self._wires(row)
        purse = await self._binding.purse(row)
        now, wall = self._clock.now(), int(self._clock.wall())

        def take(conn: DriverConnection) -> LiveRun:
            account_id = account_to_send_with(
                conn,
                run_id,
                account=row.account_id,
                uid=row.uid,
                provider=row.provider,
                key=wire.account_key,
            )
            me = self._process.id
            tells = self._offers is None or not sharing.is_told(conn, run_id, by_others_than=me)
            if tells:
                statements.take_up(conn, run_id, me, wall=wall)
            note_prices(conn, run_id, row.options.get(PRICES))
            statements.clear_holds(conn, run_id)
            run = LiveRun(
                row=row,
                wire=wire,
                account=self._scopes.load(conn, account_id, wire.profile.day_zone, wire.counting),
                limits=limits,
                is_own=is_own,
                asked_by=asked_by,
                counts=row.counts,
                priority=row.priority,
                streak=Streak(limits.max_wait_s),
                started_at=now,
                tells=tells,
            )
            totals = statements.load_totals(conn, run_id)
            run.requests, run.input_tokens, run.output_tokens, run.cost_usd = totals
            run.purse = purse
            _apply_options(run, row.options)
            if run.is_sample:
                sample.mark_claimed(conn, run_id)
            _load_codecs(conn, run)
            self._load_lanes(conn, run)
            return run

        run = await self._writer.compute(take)
        for scope in (run.account, *(lane.pool for lane in run.lanes.values())):
            if scope.pause.reason is WaitingReason.SPEND_LIMIT:
                # A person may have raised it; who asks for the run asks the provider again, once.
                scope.pause = lift(scope.pause)
        self._runs[run_id] = run
        # Another process may have put jobs of more models in meanwhile.
        await self._binding.renew(run)
        asked = AUTO_KNOWN if run.concurrency == "auto" else run.concurrency
        if is_own and run.connections < asked:
            self._feed.notice(
                f"This process may have too few files open for {asked} requests in flight, so there are"
                f" {run.connections} at most; more with: ulimit -n {asked + RESERVE}"
            )
        self._feed.started(run)

    async def rebind(self) -> None:
        """Bind runs to the account of the organization that their responses name."""
        for run, organization in list(self._scopes.rebinds.items()):
            del self._scopes.rebinds[run]
            before = run.account
            await self._writer.compute(
                lambda conn, run=run, organization=organization: self._rebind(  # type: ignore[misc]
                    conn, run, organization
                )
            )
            # Its lanes were read anew.
            await self._binding.renew(run)
            if run.account is not before:
                # What is answered or on the wire went out as another account's; it counts here too.
                run.account.count(self._clock.now(), self._clock.wall(), 1 + run.in_flight)

    def _rebind(self, conn: DriverConnection, run: LiveRun, organization: str) -> None:
        provider = run.row.provider
        account: ScopeId | None = scopes.account_of_organization(conn, provider, organization)
        if account is None:
            if self._scopes.organizations.get(run.account.id) == organization:
                return
            account = scopes.scope_id(
                conn, kind="account", provider=provider, key=organization, parent_id=None
            )
            scopes.set_organization(conn, account, organization)
        if account == run.account.id:
            return
        # What a person typed before the organization was known is meant for it.
        scopes.carry_typed_caps(conn, run.account.id, account)
        run.account = self._scopes.load(conn, account, run.wire.profile.day_zone, run.wire.counting)
        statements.set_account(conn, run.id, account)
        # Lanes without a pending job move too: what is in flight may come back to them.
        for lane in run.lanes.values():
            lane.pool = self._load_pool(conn, run, lane.model)
        self._load_lanes(conn, run)

    async def end(self, run: LiveRun, interrupted_code: int | None = None) -> None:
        """Let a run go that is over or shall stop: nothing of it is out any more."""
        wall = int(self._clock.wall())
        if run.stop is not None and run.stop.reason is WaitingReason.SAME_ERROR:
            n = await self._writer.transact(
                lambda conn: statements.put_back(conn, run.id, list(run.first_failures))
            )
            run.add(JobState.FAILED, -n)
            run.add(JobState.PENDING, n)
        is_cancelled = run.row.state == StoredRunState.CANCELLED
        if is_cancelled:
            await self._cancel_rest(run, wall)
        is_finished = run.counts.pending == 0
        stop = None if is_finished and not is_cancelled else run.stop
        wall = int(self._clock.wall())
        times = run.take_times(self._clock.now(), wall)

        def leave(conn: DriverConnection) -> bool:
            if (
                is_over := self._is_over_for_others(conn, run, is_finished=is_finished)
            ) is not None:
                return is_over
            statements.end_run(
                conn,
                run.id,
                None if is_cancelled else stop,
                finished=is_finished and not is_cancelled,
                wall=wall,
                only_for=run.asked_by if _is_of_call(stop) else None,
                times=times,
            )
            if run.is_sample and (is_finished or is_sample_over(run)):
                sample.end_sample(conn, run.id, is_paused=not is_finished)
            return True

        hit("end.before")
        if not await self._writer.transact(leave):
            return
        hit("end.committed")
        run.ended = True
        run.waiting = None
        for _ in range(len(run.senders)):
            run.queue.put(None)
        if is_finished and not is_cancelled:
            code = finished_code(run.counts.failed, run.row.n_rejected)
        else:
            code = _stop_code(stop, interrupted_code)
        self.endings[run.id] = Ending(code, stop, is_told=True)
        self._feed.ended(run, stop)

    def _is_over_for_others(
        self, conn: DriverConnection, run: LiveRun, *, is_finished: bool
    ) -> bool | None:
        """Return whether a worker lets a run go that others have; ``None``: its end is to be stored.

        ``False``: it is not over, since others have jobs of it in flight or have put some back.
        """
        if self._offers is None:
            return None
        there = statements.load_run(conn, run.id)
        if there is None or (there.state != StoredRunState.READY and not run.tells):
            return True
        if is_finished and there.counts.pending + there.counts.running:
            run.counts = there.counts
            return False
        return None if is_finished or run.tells else True

    async def _cancel_rest(self, run: LiveRun, wall: int) -> None:
        """Cancel what came back from the senders after the run was given up."""
        while n := await self._writer.transact(
            lambda conn: statements.cancel_some(conn, run.id, wall=wall)
        ):
            run.add(JobState.PENDING, -n)
            run.add(JobState.CANCELLED, n)

    async def leave(self) -> None:
        """Hand every run that is still live back, so that another process may take it up."""
        for run in self.live:
            if not run.tells:
                continue
            wall = int(self._clock.wall())
            times = run.take_times(self._clock.now(), wall)
            await self._writer.transact(
                lambda conn, run=run, wall=wall, times=times: statements.let_go(  # type: ignore[misc]
                    conn, run.id, wall=wall, times=times
                )
            )

    async def store_times(self, *, longer_than_ms: float) -> None:
        """Store where the runs' time went, of those of which that was not stored for so long."""
        now, wall = self._clock.now(), self._clock.wall()
        due = [run for run in self.live if now - run.times.stored_at >= longer_than_ms]
        if not due:
            return
        sums = [one for run in due for one in run.take_times(now, wall)]
        await self._writer.transact(lambda conn: waits.book(conn, sums))

    def codecs(self) -> dict[RunId, Codec]:
        """Return what the answers of runs that keep them compressed are written with."""
        return {
            run.id: run.answers.codec
            for run in self.every
            if run.answers is not None and run.answers.codec is not None
        }

    async def learn_codecs(self, settles: Sequence[Settle]) -> None:
        """Store a dictionary of a run's first answers, once there are enough of them."""
        for run in self.every:
            if run.answers is None or run.answers.codec is not None:
                continue
            bodies = run.answers.see(
                settle.body
                for settle in settles
                if settle.run_id == run.id and settle.body and settle.state == JobState.COMPLETED
            )
            if bodies is None:
                continue
            try:
                codec = await self._writer.transact(
                    lambda conn, run=run, bodies=bodies: made_codec(  # type: ignore[misc]
                        conn, run.id, "response", bodies
                    )
                )
            except DiskFullError:
                # The answers go on plainly; the cycle says what a full disk means.
                codec = None
            run.answers.found(codec)

    def unstored(self, error: DatabaseError, settles: Sequence[Settle]) -> DatabaseError:
        """Return the error that names the jobs whose answers could not be stored."""
        keys = [settle.key for settle in settles if settle.outcome is not None]
        if not keys:
            return error
        named = ", ".join(keys[:_NAMED]) + (
            f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
        )
        return type(error)(
            f"{error.message} The answers of these jobs could not be stored, they may be executed"
            f" again: {named}. Everything committed before is kept.",
            fix=error.fix,
            kind=error.kind,
        )


def _stop_code(stop: Waiting | None, interrupted_code: int | None) -> int:
    if stop is None:
        return ExitCode.WORK_LEFT
    if stop.reason is WaitingReason.INTERRUPTED and interrupted_code is not None:
        return interrupted_code
    return STOP_CODES[stop.reason]


def _with_defaults(row: RunRow, limits: CallLimits) -> RunRow:
    """Return a run with the options in force: its own over those of who asked for it."""
    own = {"priority": row.priority} if row.priority else {}
    options = in_force({**own, **row.options}, limits.defaults)
    return row._replace(options=options, priority=options.get("priority", 0))


def _apply_options(run: LiveRun, options: Mapping[str, Any]) -> None:
    run.max_attempts = options.get("max_attempts") or DEFAULT_MAX_ATTEMPTS
    schema = options.get("expect_json") or None
    if schema != (run.expected and run.expected.text):
        run.expected = _expected(schema, run.row.name) if schema else None
    run.tell(options.get("concurrency") or "auto", most_connections())
    run.max_failures = options.get("max_failures")
    run.is_sample = bool(options.get("sample"))
    run.is_cache_ordered = bool(options.get("cache_order"))


def _expected(schema: str, name: str) -> Expected:
    """Return what checks a run's answers; a schema that an older version stored may be none for this one."""
    try:
        return Expected(schema)
    except ValueError as error:
        raise UsageError(
            f"--expect-json of {name}: {error}. Nothing of it is sent.",
            fix=f"Give another: batchrunner resume {shlex.quote(name)} --expect-json SCHEMA",
        ) from error


def _load_codecs(conn: DriverConnection, run: LiveRun) -> None:
    run.codecs = codecs_of(conn, run.id)
    if not run.row.options.get("compress"):
        run.answers = None
    elif run.answers is None:
        run.answers = Answers(codec_of_answers(conn, run.id))


def _is_of_call(stop: Waiting | None) -> bool:
    """Whether only the call that asked for a run wanted its stop, not what it met."""
    return stop is not None and (
        stop.reason in _OF_CALL or (stop.reason in _OF_CALL_IF_DATED and stop.until is not None)
    )


def _deadline(options: Mapping[str, Any], now: float) -> float | None:
    seconds = options.get("max_time_s")
    return None if seconds is None else now + float(seconds) * 1000.0
