"""One call of a verb that sends: what it works on, and what ``submit``, ``resume`` and ``retry`` share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import msgspec

from batchrunner.clock import wall_ms
from batchrunner.config import Config
from batchrunner.core.budget import NO_BUDGET
from batchrunner.core.credentials import Secrets
from batchrunner.engine.feed import counts_json, waiting_json
from batchrunner.engine.offers import Offers, Wanted
from batchrunner.engine.priced import check_priced
from batchrunner.engine.roster import Ending
from batchrunner.engine.session import run_session
from batchrunner.engine.stops import Stops
from batchrunner.engine.working import work
from batchrunner.formats.sets import apply_sets, model_of
from batchrunner.intake import Taken
from batchrunner.models import ExitCode, RunId, RunState, StoredRunState
from batchrunner.notifying import Notifier
from batchrunner.options import (
    BUDGET,
    MAX_COST,
    PRICES,
    CallOptions,
    JobFilter,
    LimitOptions,
    RunOptions,
    in_force,
)
from batchrunner.preparing import (
    account_of,
    apply_limits,
    check_sets,
    is_built_in_simulator,
    merge_options,
    options_in_force,
    order_for_cache,
    set_fields,
    stored_options,
)
from batchrunner.providers import Providers
from batchrunner.providers.keyring import Ring
from batchrunner.results import check_output, write_output
from batchrunner.store import commands, processes
from batchrunner.store import views as store_views
from batchrunner.store.begun import note_begun
from batchrunner.store.database import Database
from batchrunner.store.inspection import models_left
from batchrunner.store.runs import StoredRun, driver, run_by_id, stored_run
from batchrunner.store.sample import begin_sample
from batchrunner.store.sqlite.database import FileDatabase
from batchrunner.views import Event, Listener, RunResult
from batchrunner.wiring import Wiring

__all__ = ["Call"]

#: Which of several runs' exit codes is the call's: the worst, work left before failures.
_CODE_ORDER: Final = (
    ExitCode.INTERRUPT, ExitCode.TERMINATED, ExitCode.HANGUP, ExitCode.REFUSED, ExitCode.NETWORK,
    ExitCode.USAGE, ExitCode.WORK_LEFT, ExitCode.SOME_FAILED, ExitCode.DONE,
)  # fmt: skip


#: States in which nobody goes on with a run → the event that tells so.
_END_EVENTS: Final = {
    RunState.FINISHED: "run.finished",
    RunState.HALTED: "run.halted",
    RunState.PAUSED: "run.halted",
    RunState.CANCELLED: "run.halted",
}
_ALL_JOBS: Final = JobFilter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a verb that sends: what it works on, and what all of them do."""

    db: Database
    call: CallOptions
    listener: Listener | None
    stops: Stops
    process: processes.Process
    environ: Mapping[str, str]
    config: Config
    providers: Providers
    #: Learns each key that is found.
    secrets: Secrets
    #: This call's proxies, with the passwords that are not stored.
    typed_proxies: tuple[str, ...] = ()
    #: Stands before the listener where somebody else is to be told too.
    notifier: Notifier | None = None
    #: The system's keyring, asked once.
    ring: Ring = field(default_factory=Ring)

    def notice(self, text: str) -> None:
        """Say one sentence to the person."""
        if self.listener is not None:
            self.listener.notice(text)

    def tell(self, sentences: Iterable[str]) -> None:
        """Say several."""
        for text in sentences:
            self.notice(text)

    def emit_stored(self, stored: StoredRun, taken: Taken) -> None:
        """Tell that the run is stored."""
        if self.listener is None:
            return
        data: dict[str, Any] = {"how": taken.how, "jobs": {"total": stored.counts.total}}
        if taken.diff is not None:
            data["diff"] = taken.diff._asdict()
        self.listener.event(
            Event(
                event="run.stored", at=wall_ms(), run_id=stored.uid, run_name=stored.name, data=data
            )
        )

    def check_paid(
        self,
        provider: str,
        options: Mapping[str, Any],
        models: Callable[[], Collection[str]],
        *,
        run: str | None = None,
    ) -> None:
        """Refuse a bound on money that can't be kept for these models; ``run``: the stored run's name."""
        in_force_now = in_force(options, self.config.run_defaults(provider))
        if not in_force_now.get(MAX_COST) and self.config.budget == NO_BUDGET:
            return
        asked = models()
        replaced = model_of(apply_sets(b"{}", [one for one in self.call.sets if one[0] == "model"]))
        check_priced(
            provider,
            [replaced] if replaced and asked else asked,
            in_force_now,
            said=self.config.said_prices,
            budget=self.config.budget,
            wall=wall_ms(),
            run=run,
        )

    def check_stored(
        self,
        stored: StoredRun,
        run: RunOptions,
        models: Callable[[], Collection[str]] | None = None,
    ) -> None:
        """:meth:`check_paid` of a stored run with what is typed now, for the jobs it has left."""
        options = stored_options(msgspec.json.decode(stored.options), run)
        left = models or partial(models_left, self.db, stored, is_any=True)
        self.check_paid(stored.provider, options, left, run=stored.name)

    def check(self, stored: StoredRun, run: RunOptions, *, jobs: JobFilter = _ALL_JOBS) -> None:
        """Refuse whatever :meth:`prepare` would, before anything is stored; ``--set`` is for ``jobs``."""
        check_output(self.db, run.output, stored.name)
        check_sets(self.db, stored, jobs, self.call.sets)
        if stored.account_id is None:
            options = stored_options(msgspec.json.decode(stored.options), run)
            account_of(
                stored.provider,
                in_force(options, self.config.run_defaults(stored.provider)),
                self.environ,
                self.providers,
                self.ring.look,
            )

    def prepare(
        self,
        stored: StoredRun,
        run: RunOptions,
        limits: LimitOptions,
        *,
        sets: Sequence[tuple[str, str]] | None = None,
        is_changed: bool = False,
        is_resumed: bool = True,
    ) -> None:
        """Store what was typed, which :meth:`check` let pass; ``is_changed``: its requests are others by now.

        ``is_resumed``: undo ``pause``, as ``resume`` and ``retry`` do and the same file again does not.
        """
        stored = merge_options(self.db, stored, run)
        check_output(self.db, run.output, stored.name)
        if chosen := self.call.sets if sets is None else sets:
            set_fields(self.db, stored, JobFilter(), chosen, self.notice)
        apply_limits(
            self.db,
            stored,
            limits,
            environ=self.environ,
            config=self.config,
            providers=self.providers,
            notice=self.notice,
            now_ms=wall_ms(),
            look=self.ring.look,
        )
        order_for_cache(
            self.db, stored, self.config, self.providers, self.notice,
            is_changed=is_changed or bool(chosen),
        )  # fmt: skip
        if not is_resumed and stored.state is StoredRunState.PAUSED:
            return
        if stored.state is not StoredRunState.FINISHED:
            # Before somebody else sends it.
            if self.call.sample and (n := begin_sample(self.db, stored, self.call.sample)):
                jobs = "1 job" if n == 1 else f"{n} jobs"
                is_all = n >= stored.counts.pending
                then = "that is all there are" if is_all else f"then {stored.name} is paused"
                self.notice(f"a sample of {jobs} goes first; {then}")
            commands.lift(self.db, stored)

    def left_paused(self, run_id: RunId) -> RunResult:
        """Return how a call ends whose run somebody paused: with work left, and nothing sent."""
        ending = Ending(ExitCode.WORK_LEFT, None)
        self._tell_end(run_id, ending)
        return self.result(run_id, ending)

    async def drain(self, run_ids: list[RunId]) -> RunResult:
        """Have the runs sent, and return how the worst of them ended."""
        self._tell_of_budget(run_ids)
        if self.call.no_run:
            return self.result(run_ids[0], Ending(ExitCode.DONE, None))
        if self.notifier is not None:
            self.notifier.holds_end = len(run_ids) == 1
        for run_id in run_ids:
            self._note_begun(run_id)
        async with (
            self._simulator(run_ids) as simulator_url,
            self._wired(simulator_url) as wiring,
        ):
            endings = await run_session(
                self.db,
                {run_id: self._defaults(run_id) for run_id in run_ids},
                ways={run_id: self._way(run_id, wiring) for run_id in run_ids},
                call=self.call,
                wires=wiring,
                stops=self.stops,
                listener=self.listener,
                process=self.process,
            )
        for run_id in run_ids:
            self._tell_end(run_id, endings[run_id])
        worst = min(run_ids, key=lambda run_id: _CODE_ORDER.index(endings[run_id].exit_code))
        written = [
            write_output(self.db, run_id, providers=self.providers, tell=self.notice)
            for run_id in run_ids
        ]
        await self._notify(endings, dict(zip(run_ids, written, strict=True)))
        results = {
            run_id: replace(self.result(run_id, endings[run_id]), output=path)
            for run_id, path in zip(run_ids, written, strict=True)
        }
        return replace(results.pop(worst), others=tuple(results.values()))

    def _tell_of_budget(self, run_ids: Sequence[RunId]) -> None:
        """Say that ``[budget]`` does not go along with a run that workers send."""
        if self.config.budget == NO_BUDGET or isinstance(self.db, FileDatabase):
            return
        with self.db.read() as connection:
            are_there = any(self.db.workers(connection, run_ids).of(run_ids[0]))
        if are_there or self.call.no_run:
            self.notice(
                "[budget] of this configuration binds what is sent from here; workers keep to the one of their"
                " own, and without one to none. What holds wherever a run is sent: --max-cost"
            )

    async def work(self, wanted: Wanted, *, until_done: bool) -> int:
        """Drain a shared queue beside other workers; return the exit code."""
        offers = Offers(defaults_of=self._defaults_of, wanted=wanted, until_done=until_done)

        def accounts(provider: str) -> Collection[str]:
            configured = self.config.run_defaults(provider).get("account")
            return wanted.accounts if configured is None else {*wanted.accounts, str(configured)}

        async with self._wired(None, accounts) as wiring:
            await work(
                self.db,
                offers=offers,
                wires=wiring,
                stops=self.stops,
                listener=self.listener,
                process=self.process,
                longest_s=self.call.longest_wait_s,
            )
        return ExitCode.DONE if self.stops.exit_code is None else self.stops.exit_code

    @asynccontextmanager
    async def _wired(
        self, simulator_url: str | None, accounts: Callable[[str], Collection[str]] | None = None
    ) -> AsyncIterator[Wiring]:
        """Give what makes the runs' ways to their providers; ``accounts``: those of a worker's keys."""
        wiring = Wiring(
            self.environ,
            self.notice,
            providers=self.providers,
            simulator_url=simulator_url,
            told=self.secrets,
            typed_proxies=self.typed_proxies,
            look=self.ring.look,
            accounts=accounts,
        )
        try:
            yield wiring
        finally:
            await wiring.close()

    def _tell_end(self, run_id: RunId, ending: Ending) -> None:
        """Emit how a run ended where no event told: it was over before, or another process sent it."""
        if self.listener is None or ending.is_told:
            return
        run = self.result(run_id, ending).run
        event = _END_EVENTS.get(run.state)
        if event is None:
            return
        if self.notifier is not None:
            # Others are told below, when the results are written, and then of these too.
            self.notifier.holds_end = True
        data: dict[str, Any] = {"jobs": counts_json(run.jobs)}
        if waiting := ending.waiting or run.waiting:
            data["waiting"] = waiting_json(waiting)
        self.listener.event(
            Event(event=event, at=wall_ms(), run_id=run.id, run_name=run.name, data=data)
        )

    async def _notify(
        self, endings: Mapping[RunId, Ending], written: Mapping[RunId, str | None]
    ) -> None:
        """Tell how the runs ended, with their results in place, and wait until it is told."""
        if self.notifier is None:
            return
        for run_id, ending in endings.items():
            self.notifier.ended(self.result(run_id, ending).run, ending, written[run_id])
        await self.notifier.close()

    def _note_begun(self, run_id: RunId) -> None:
        """Keep what is known before a run's first request, for its forecast to be judged by."""
        stored = stored_run(self.db, run_id)
        if stored.started_at is not None:
            return
        in_flight = options_in_force(stored, self.config).get("concurrency")
        with self.db.write() as connection:
            note_begun(
                driver(connection),
                run_id,
                provider=stored.provider,
                account=stored.account_id,
                in_flight=in_flight if isinstance(in_flight, int) else None,
                now_ms=wall_ms(),
            )

    def _defaults(self, run_id: RunId) -> Mapping[str, Any]:
        return self._defaults_of(stored_run(self.db, run_id).provider)

    def _defaults_of(self, provider: str) -> Mapping[str, Any]:
        defaults = dict(self.config.run_defaults(provider))
        if (schema := self.config.expect_json()) is not None:
            defaults["expect_json"] = schema
        if prices := self.config.said_prices:
            defaults[PRICES] = prices
        if (budget := self.config.budget) != NO_BUDGET:
            defaults[BUDGET] = budget._asdict()
        return defaults

    def _way(self, run_id: RunId, wiring: Wiring) -> Mapping[str, str]:
        stored = stored_run(self.db, run_id)
        return wiring.way(stored.provider, options_in_force(stored, self.config))

    def result(self, run_id: RunId, ending: Ending) -> RunResult:
        """Return where a run stands now, and how it ended."""
        with self.db.read() as connection:
            stored = run_by_id(connection, run_id)
            assert stored is not None
            view = store_views.run_view(
                connection,
                self.db,
                stored,
                now_ms=wall_ms(),
                day_zone=self.providers.day_zone_of,
            )
        return RunResult(
            run=view,
            exit_code=ending.exit_code,
            waiting=ending.waiting,
            n_rejected=stored.n_rejected,
        )

    @asynccontextmanager
    async def _simulator(self, run_ids: list[RunId]) -> AsyncIterator[str | None]:
        """Start the built-in provider where a run wants it and names no other address."""
        needs = any(
            is_built_in_simulator(stored, options_in_force(stored, self.config))
            for stored in (stored_run(self.db, run_id) for run_id in run_ids)
        )
        if not needs:
            yield None
            return
        from batchrunner.providers.simulator import Simulator, SimulatorConfig  # noqa: PLC0415

        async with Simulator(SimulatorConfig()) as base_url:
            yield base_url
