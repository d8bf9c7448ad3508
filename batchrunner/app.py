"""batchrunner's verbs for Python callers; the command line is only their face.

    from pathlib import Path
    from batchrunner.app import Batchrunner
    from batchrunner.options import LimitOptions

    app = Batchrunner(Path("batchrunner.db"))
    result = asyncio.run(app.submit(["jobs.jsonl"], limits=LimitOptions(rpm=50)))
    with open("results.csv", "wb") as out:
        app.export(result.run.name, ExportOptions(format="csv"), out)

``submit``, ``resume``, ``retry`` and ``demo`` are coroutines that end when the run is over or has
stopped; the rest are plain functions. All raise :class:`batchrunner.errors.BatchrunnerError`.
This is the only place that names concrete adapters.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import msgspec

from batchrunner.calling import Call, day_zone_of, now_ms
from batchrunner.engine.roster import Ending
from batchrunner.engine.stops import Stops
from batchrunner.errors import DatabaseError, UsageError
from batchrunner.formats.atomic import atomic_file
from batchrunner.formats.export import format_of
from batchrunner.formats.lines import Fill
from batchrunner.intake import Intake, InterruptedIntakeError, Order, Taken, name_of, notices_of
from batchrunner.models import ErrorKind, ExitCode, StoredRunState
from batchrunner.options import (
    CallOptions,
    ExportOptions,
    JobFilter,
    LimitOptions,
    RunOptions,
)
from batchrunner.preparing import (
    check_options,
    set_fields,
    stored_options,
)
from batchrunner.providers import Profile, profile
from batchrunner.providers.fixes import fix_of
from batchrunner.results import check_output, write_run
from batchrunner.store import commands, maintenance, processes
from batchrunner.store import limits as store_limits
from batchrunner.store import views as store_views
from batchrunner.store.accounts import find_account, sentence
from batchrunner.store.database import Database, upgrade
from batchrunner.store.load import sweep_loading
from batchrunner.store.runs import StoredRun, all_runs, find_run, stored_run
from batchrunner.views import (
    ErrorGroup,
    JobDetail,
    JobView,
    LimitView,
    Listener,
    RunResult,
    RunView,
)

__all__ = ["Batchrunner"]


class Batchrunner:
    """One database and what can be done with it."""

    def __init__(
        self,
        db: Path | str = "batchrunner.db",
        *,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Name the database; it is opened by each verb. ``environ`` holds keys and proxies."""
        self.path = Path(db)
        self._environ = os.environ if environ is None else environ

    # --- verbs that send

    async def submit(
        self,
        files: Sequence[str],
        *,
        run: RunOptions = RunOptions(),
        limits: LimitOptions = LimitOptions(),
        call: CallOptions = CallOptions(),
        listener: Listener | None = None,
        stdin: BinaryIO | None = None,
    ) -> RunResult:
        """Validate, store and run the jobs of ``files`` (``-`` is ``stdin``).

        Raises :class:`InputError` with every faulty line, and then nothing was stored.
        """
        check_options(run, limits)
        async with self._calling(call, listener, create=True) as this:
            taken = await self._take(this, files, run, stdin)
            this.tell(notices_of(taken))
            stored = stored_run(this.db, taken.run_id)
            if taken.how == "same" and stored.state is StoredRunState.CANCELLED:
                raise _cancelled(stored)
            this.emit_stored(stored, taken)
            if taken.how == "stored":
                run = RunOptions()
            this.prepare(stored, run, limits)
            return await this.drain([taken.run_id])

    async def resume(
        self,
        name: str | None = None,
        *,
        all_runs: bool = False,
        run: RunOptions = RunOptions(),
        limits: LimitOptions = LimitOptions(),
        call: CallOptions = CallOptions(),
        listener: Listener | None = None,
    ) -> RunResult:
        """Carry on an unfinished run (the latest), or every unfinished, unpaused one."""
        check_options(run, limits)
        async with self._calling(call, listener) as this:
            found = _unfinished(this.db) if all_runs else [find_run(this.db, name)]
            for stored in found:
                if stored.state is StoredRunState.CANCELLED:
                    raise _cancelled(stored)
                this.prepare(stored, run, limits)
            if not found:
                return this.result(find_run(this.db, None).id, Ending(ExitCode.DONE, None))
            return await this.drain([stored.id for stored in found])

    async def retry(
        self,
        name: str | None = None,
        *,
        jobs: JobFilter = JobFilter(),
        run: RunOptions = RunOptions(),
        limits: LimitOptions = LimitOptions(),
        call: CallOptions = CallOptions(),
        listener: Listener | None = None,
    ) -> RunResult:
        """Put the chosen failed or cancelled jobs back, attempts from 0, then run."""
        check_options(run, limits)
        async with self._calling(call, listener) as this:
            stored = find_run(this.db, name)
            if call.sets:
                # Before they are put back: a failed job must not go with its old request.
                set_fields(this.db, stored, _retried(jobs), call.sets, this.notice)
            n = await asyncio.to_thread(commands.retry, this.db, stored, jobs)
            this.notice(f"{n} jobs of {stored.name} were put back")
            this.prepare(stored, run, limits, sets=())
            return await this.drain([stored.id])

    async def demo(
        self, *, listener: Listener | None = None, output: Path | None = None
    ) -> RunResult:
        """Run 200 jobs against the built-in provider, in a temporary database that is removed."""
        from batchrunner.providers.simulator import (  # noqa: PLC0415 (a server; nobody else needs it)
            Simulator,
            demo_config,
            demo_jobs,
        )

        if output is not None:
            format_of(output, None)
        with tempfile.TemporaryDirectory(prefix="batchrunner-demo-") as folder:
            jobs = Path(folder) / "demo.jsonl"
            jobs.write_bytes(b"\n".join(demo_jobs()) + b"\n")
            app = Batchrunner(Path(folder) / "demo.db", environ=self._environ)
            async with Simulator(demo_config()) as base_url:
                result = await app.submit(
                    [str(jobs)],
                    run=RunOptions(provider="simulator", base_url=base_url),
                    listener=listener,
                )
            target = output or Path(f"{result.run.name}.csv")
            app.export(
                result.run.name, ExportOptions(output=target, force=output is None), _nowhere()
            )
            return replace(result, output=str(target))

    # --- views

    def status(self, name: str | None = None) -> RunView:
        """Return where a run (the latest) stands, who runs it, and why it waits."""
        db = self._open()
        return store_views.status(db, name, now_ms=now_ms(), day_zone=day_zone_of)

    def runs(self) -> list[RunView]:
        """Return every run, newest first."""
        return store_views.runs(self._open(), now_ms=now_ms(), day_zone=day_zone_of)

    def jobs(self, name: str | None = None, jobs: JobFilter = JobFilter()) -> Iterator[JobView]:
        """Return the chosen jobs of a run in input order."""
        db = self._open()
        run = find_run(db, name)
        commands.refuse_unknown_keys(db, run, jobs)
        return store_views.jobs(db, run, jobs, _text_of(profile(run.provider)))

    def show(self, name: str, key: str) -> JobDetail:
        """Return one job whole: request, response, every send."""
        db = self._open()
        run = find_run(db, name)
        known = profile(run.provider)
        detail = store_views.show(db, run, key, _text_of(known))
        if detail.url is None and detail.request:
            detail = replace(detail, url=known.default_path(detail.request))
        return detail

    def errors(self, name: str | None = None) -> list[ErrorGroup]:
        """Return a run's failures grouped by kind and status, with what helps."""
        db = self._open()
        run = find_run(db, name)
        return store_views.errors(db, run, fix_of=lambda kind: fix_of(ErrorKind(kind), run.name))

    def limits(self) -> list[LimitView]:
        """Return the limits in force of every account."""
        return store_limits.limits(self._open(), now_ms=now_ms(), day_zone=day_zone_of)

    # --- changes

    def pause(self, name: str) -> RunView:
        """Stop a run until ``resume``; what is in flight finishes."""
        db = self._open()
        run = find_run(db, name)
        if run.state is not StoredRunState.PAUSED and not commands.pause(db, run):
            raise UsageError(
                f"Run {run.name} is {run.state}; there is nothing to pause.",
                fix=f"Look at it with: batchrunner status {run.name}",
            )
        return self.status(run.name)

    def cancel(self, name: str) -> RunView:
        """Give a run up; what is in flight finishes, the jobs left are cancelled."""
        db = self._open()
        run = find_run(db, name)
        if run.state is StoredRunState.FINISHED:
            raise UsageError(
                f"Run {run.name} is finished; there is nothing to cancel.",
                fix=f"Look at it with: batchrunner status {run.name}",
            )
        commands.cancel(db, run, now_ms=now_ms())
        return self.status(run.name)

    def set_limits(self, account: str | None, limits: LimitOptions) -> list[str]:
        """Change the limits of an account (the only one); return what changed, old → new."""
        check_options(RunOptions(), limits)
        db = self._open()
        scope = find_account(db, account)
        changes = store_limits.store_limits(db, scope, limits, now_ms=now_ms())
        return [sentence(change) for change in changes]

    def export(self, name: str | None, options: ExportOptions, out: BinaryIO) -> int:
        """Write one row a job in input order to ``options.output``, else to ``out``; return how many."""
        db = self._open()
        run = find_run(db, name)
        commands.refuse_unknown_keys(db, run, options.jobs)
        chosen = format_of(options.output, options.format)
        if options.output is None:
            return write_run(db, run, options.jobs, chosen, out)
        with atomic_file(options.output, force=options.force) as file:
            return write_run(db, run, options.jobs, chosen, file)

    # --- the database

    def db_upgrade(self) -> str:
        """Bring the schema up to date after a copy beside it; return what was done."""
        copy = upgrade(self.path)
        if copy is None:
            return f"{self.path} is up to date"
        return f"{self.path} was upgraded; the old one is kept as {copy}"

    def db_check(self) -> list[str]:
        """Return what is wrong with the database, in sentences."""
        return maintenance.check(self._open())

    def db_backup(self, destination: Path) -> None:
        """Copy the database to a new file, at any time."""
        maintenance.backup(self._open(), destination)

    # --- what the verbs share

    def _open(self) -> Database:
        return Database.open(self.path, create=False)

    @asynccontextmanager
    async def _calling(
        self, call: CallOptions, listener: Listener | None, *, create: bool = False
    ) -> AsyncIterator[Call]:
        """Be known to other processes on the database, and take signals, while the context lasts."""
        db = Database.open(self.path, create=create)
        stops = Stops()
        with stops.installed():
            processes.sweep_dead_processes(db)
            sweep_loading(db)
            process = processes.register_process(db, "follower", now_ms=now_ms())
            try:
                yield Call(
                    db=db, call=call, listener=listener, stops=stops, process=process,
                    environ=self._environ,
                )  # fmt: skip
            except BaseException:
                # What went wrong is told, not that the row stays: the next process sweeps it.
                with suppress(DatabaseError):
                    processes.unregister(db, process)
                raise
            processes.unregister(db, process)

    async def _take(
        self, this: Call, files: Sequence[str], run: RunOptions, stdin: BinaryIO | None
    ) -> Taken:
        call = this.call
        check_output(this.db, run.output, call.name or name_of(files))
        order = Order(
            files=files,
            stdin=stdin,
            provider=run.provider,
            base_url=run.base_url,
            fill=Fill(model=run.model, max_tokens=run.max_tokens, system=run.system),
            name=call.name,
            uid=secrets.token_hex(5),
            options_json=msgspec.json.encode(stored_options({}, run)).decode(),
            priority=run.priority or 0,
            is_new=call.new,
            is_update=call.update,
            skips_invalid=call.skip_invalid,
        )
        intake = Intake(
            this.db,
            order,
            process_id=this.process.id,
            now_ms=now_ms(),
            is_gentle=_cached(lambda: maintenance.someone_sends(this.db), 0.5),
            is_stopped=lambda: this.stops.asked,
        )
        try:
            # In a thread of its own, so that a signal is seen while a large file is read.
            return await asyncio.to_thread(intake.take)
        except InterruptedIntakeError:
            raise UsageError(
                "Interrupted while the file was read; nothing was stored.",
                fix="Submit it again.",
                kind="interrupted",
            ) from None


def _cancelled(stored: StoredRun) -> UsageError:
    return UsageError(
        f"Run {stored.name} is cancelled.",
        fix=f"Put its jobs back with: batchrunner retry {stored.name}",
    )


def _unfinished(db: Database) -> list[StoredRun]:
    with db.read() as connection:
        runs = all_runs(connection)
    return [run for run in reversed(runs) if run.state is StoredRunState.READY]


def _retried(jobs: JobFilter) -> JobFilter:
    return jobs if not jobs.is_empty else JobFilter(statuses=commands.RETRIED)


def _text_of(known: Profile) -> Callable[[bytes, str | None], str | None]:
    return known.output_text


def _nowhere() -> BinaryIO:
    return open(os.devnull, "wb")  # noqa: PTH123 (written to by nobody)


def _cached(ask: Callable[[], bool], seconds: float) -> Callable[[], bool]:
    """Return ``ask`` asked at most every so many seconds."""
    asked_at, answer = float("-inf"), False

    def cached() -> bool:
        nonlocal asked_at, answer
        if time.monotonic() - asked_at >= seconds:
            asked_at, answer = time.monotonic(), ask()
        return answer

    return cached
