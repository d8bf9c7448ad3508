"""Takes runs up for a holder, and keeps those that are live as the database has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from batchrunner.clock import Clock
from batchrunner.core.pause import lift
from batchrunner.engine.binding import Binding
from batchrunner.engine.company import Company
from batchrunner.engine.descriptors import RESERVE
from batchrunner.engine.feed import Feed
from batchrunner.engine.live import AUTO_KNOWN, CallLimits, LiveRun
from batchrunner.engine.loading import Loading, apply_options, load_codecs, with_defaults
from batchrunner.engine.roster import Ending, Roster, finished_code
from batchrunner.engine.scopes import Scopes
from batchrunner.engine.streak import Streak
from batchrunner.engine.wire import Wire
from batchrunner.models import RunId, StoredRunState, WaitingReason
from batchrunner.options import PRICES
from batchrunner.store import holder as statements
from batchrunner.store import sample, sharing
from batchrunner.store.accounts import account_to_send_with
from batchrunner.store.database import Writer
from batchrunner.store.holder import RunRow
from batchrunner.store.processes import Process
from batchrunner.store.runs import DriverConnection
from batchrunner.store.spending import note_prices
from batchrunner.store.stops import clear_holds

__all__ = ["TakeUp"]

#: A run of which enough goes out is read again so often (milliseconds).
_READ_MS: Final = 5_000.0


class TakeUp:
    """Puts runs on the roster; what they are made of is read here, and read again here."""

    def __init__(
        self,
        *,
        writer: Writer,
        clock: Clock,
        process: Process,
        wires: Callable[[RunRow], Wire],
        roster: Roster,
        scopes: Scopes,
        binding: Binding,
        feed: Feed,
        is_shared: bool,
    ) -> None:
        """Take what runs are made of; ``is_shared``: others send them beside this process."""
        self._writer = writer
        self._clock = clock
        self._process = process
        self._wires = wires
        self._roster = roster
        self._scopes = scopes
        self._binding = binding
        self._feed = feed
        self._is_shared = is_shared
        self._loading = Loading(scopes)
        #: When each live run was read last (steady ms).
        self._read_at: dict[RunId, float] = {}

    async def take(self, run_id: RunId, limits: CallLimits, asked_by: int) -> None:
        """Take a run up that a process asked for, under the bounds of its call, if there is work left.

        Raises :class:`BatchrunnerError` where this process can't send it: nothing is changed then.
        """
        is_own = self._roster.is_own(run_id)
        row = await self._writer.query(lambda conn: statements.load_run(conn, run_id))
        if row is None or row.state != StoredRunState.READY:
            if is_own:
                # Somebody else finished, paused or cancelled it before it came to its turn.
                is_over = row is not None and row.state == StoredRunState.FINISHED
                code = finished_code(row.counts.failed, row.n_rejected) if row and is_over else 3
                self._roster.endings[run_id] = Ending(code, None)
            return
        row = with_defaults(row, limits)
        wire = self._wires(row)
        purse = await self._binding.purse(row)
        now, wall = self._clock.now(), int(self._clock.wall())

        def take(conn: DriverConnection) -> LiveRun | None:
            if self._is_shared and run_id not in sharing.ready_runs(conn):
                # Another worker has stopped it since it was looked at.
                return None
            account_id = account_to_send_with(
                conn,
                run_id,
                uid=row.uid,
                provider=row.provider,
                key=wire.account_key,
            )
            me = self._process.id
            tells = not self._is_shared or not sharing.is_told(conn, run_id, by_others_than=me)
            if tells:
                statements.take_up(conn, run_id, me, wall=wall)
            note_prices(conn, run_id, row.options.get(PRICES))
            clear_holds(conn, run_id)
            run = LiveRun(
                row=row,
                wire=wire,
                account=self._loading.scope(conn, account_id, wire),
                limits=limits,
                is_own=is_own,
                asked_by=asked_by,
                counts=row.counts,
                priority=row.priority,
                streak=Streak(limits.max_wait_s),
                started_at=now,
                tells=tells,
                company=Company(is_led=not tells) if self._is_shared else None,
            )
            totals = statements.load_totals(conn, run_id)
            run.requests, run.input_tokens, run.output_tokens, run.cost_usd = totals
            run.purse = purse
            apply_options(run, row.options)
            if run.is_sample:
                sample.mark_claimed(conn, run_id)
            load_codecs(conn, run)
            self._loading.lanes(conn, run)
            return run

        run = await self._writer.compute(take)
        if run is None:
            return
        for scope in (run.account, *(lane.pool for lane in run.lanes.values())):
            if scope.pause.reason is WaitingReason.SPEND_LIMIT:
                # A person may have raised it; who asks for the run asks the provider again, once.
                scope.pause = lift(scope.pause)
        self._roster.add(run)
        # Another process may have put jobs of more models in meanwhile.
        await self._binding.renew(run)
        asked = AUTO_KNOWN if run.concurrency == "auto" else run.concurrency
        if is_own and run.connections < asked:
            self._feed.notice(
                f"This process may have too few files open for {asked} requests in flight, so there are"
                f" {run.connections} at most; more with: ulimit -n {asked + RESERVE}"
            )
        self._feed.started(run)

    async def renew(self, *, is_changed: bool) -> None:
        """Read what other processes may have changed of the live runs: states, limits, counts.

        Nothing goes out meanwhile, far from a server for a part of a second. So what other workers alone
        may have put back is not looked for each time where a run has enough that goes out.
        """
        now = self._clock.now()
        live = [run for run in self._roster.live if is_changed or self._may_lack(run, now)]
        read = dict.fromkeys((run.id for run in live), now)
        self._read_at = {
            run.id: read.get(run.id) or self._read_at.get(run.id, 0.0) for run in self._roster.live
        }
        # A worker reads them together each second, and keeps nobody from his turn.
        for runs in [live] if self._is_shared and live else [[run] for run in live]:
            await self._writer.compute(partial(self._reload, runs=runs), beside=self._is_shared)
            for run in runs:
                await self._binding.renew(run)
                run.send_home()

    def _may_lack(self, run: LiveRun, now: float) -> bool:
        is_idle = any(not lane.fresh for lane in run.lanes.values())
        return is_idle or now - self._read_at.get(run.id, 0.0) >= _READ_MS

    def _reload(self, conn: DriverConnection, runs: Sequence[LiveRun]) -> None:
        for run in runs:
            self._loading.reload(conn, run)

    async def rebind(self) -> None:
        """Bind runs to the account of the organization that their responses name."""
        for run, organization in list(self._scopes.rebinds.items()):
            del self._scopes.rebinds[run]
            before = run.account
            await self._writer.compute(
                partial(self._loading.rebind, run=run, organization=organization)
            )
            # Its lanes were read anew.
            await self._binding.renew(run)
            if run.account is not before:
                # What is answered or on the wire went out as another account's; it counts here too.
                run.account.count(self._clock.now(), self._clock.wall(), 1 + run.in_flight)
