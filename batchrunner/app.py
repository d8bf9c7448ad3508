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
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from batchrunner.core.days import check_zone
from batchrunner.engine.roster import Ending
from batchrunner.engine.session import run_session
from batchrunner.engine.stops import Stops
from batchrunner.errors import RefusedError, UsageError
from batchrunner.formats.atomic import atomic_file
from batchrunner.formats.export import format_of, write_rows
from batchrunner.formats.faults import RefusedLineError
from batchrunner.formats.lines import Fill
from batchrunner.formats.requests import check_headers
from batchrunner.formats.sets import apply_sets, model_of
from batchrunner.intake import Intake, InterruptedIntakeError, Order, Taken, name_of
from batchrunner.models import ErrorKind, ExitCode, RunId, StoredRunState
from batchrunner.options import (
    CallOptions,
    ExportOptions,
    JobFilter,
    LimitOptions,
    RunOptions,
)
from batchrunner.providers import Profile, profile
from batchrunner.providers.fixes import fix_of
from batchrunner.store import commands, maintenance, merge, processes
from batchrunner.store import export as store_export
from batchrunner.store import limits as store_limits
from batchrunner.store import views as store_views
from batchrunner.store.accounts import bind_account, find_account, sentence
from batchrunner.store.database import Database, upgrade
from batchrunner.store.load import sweep_loading
from batchrunner.store.runs import StoredRun, all_runs, find_run, run_by_id
from batchrunner.views import (
    ErrorGroup,
    Event,
    JobDetail,
    JobView,
    LimitView,
    Listener,
    RunResult,
    RunView,
)
from batchrunner.wiring import Wiring, account_key

__all__ = ["Batchrunner"]

#: Which of several runs' exit codes is the call's: the worst, work left before failures.
_CODE_ORDER: Final = (
    ExitCode.INTERRUPT, ExitCode.TERMINATED, ExitCode.HANGUP, ExitCode.REFUSED, ExitCode.NETWORK,
    ExitCode.WORK_LEFT, ExitCode.SOME_FAILED, ExitCode.DONE,
)  # fmt: skip


class Batchrunner:
    """One database and what can be done with it."""

    def __init__(
        self,
        db: Path | str = "batchrunner.db",
        *,
        environ: Mapping[str, str] | None = None,
        log_file: Path | None = None,
    ) -> None:
        """Name the database; it is opened by each verb. ``environ`` holds keys and proxies."""
        self.path = Path(db)
        self._environ = os.environ if environ is None else environ
        self._log_file = log_file

    # --- verbs that send

    async def submit(
        self,
        files: Sequence[str],
        *,
        run: RunOptions = RunOptions(),  # noqa: B008 (frozen)
        limits: LimitOptions = LimitOptions(),  # noqa: B008
        call: CallOptions = CallOptions(),  # noqa: B008
        listener: Listener | None = None,
        stdin: BinaryIO | None = None,
    ) -> RunResult:
        """Validate, store and run the jobs of ``files`` (``-`` is ``stdin``).

        Raises :class:`InputError` with every faulty line, and then nothing was stored.
        """
        check_options(run, limits)
        db = Database.open(self.path, create=True)
        stops = Stops()
        with stops.installed():
            async with self._attached(db) as process:
                try:
                    taken = await self._take(db, files, run, call, stdin, process.id, stops)
                except InterruptedIntakeError:
                    raise UsageError(
                        "Interrupted while the file was read; nothing was stored.",
                        fix="Submit it again.",
                        kind="interrupted",
                    ) from None
                stored = self._stored(db, taken.run_id)
                _tell_taken(taken, listener)
                if taken.how != "stored":
                    stored = self._merge_options(db, stored, run)
                self._check_output(stored)
                self._emit_stored(stored, taken, listener)
                self._apply_limits(db, stored, limits, listener)
                if call.sets:
                    self._set(db, stored, JobFilter(), call.sets, listener)
                if taken.how == "same" and stored.state is StoredRunState.CANCELLED:
                    raise _cancelled(stored)
                if taken.how == "same" and stored.state is not StoredRunState.FINISHED:
                    commands.lift(db, stored)
                if call.no_run:
                    return self._result(db, taken.run_id, Ending(ExitCode.DONE, None))
                return await self._drain(db, [taken.run_id], call, stops, listener, process)

    async def resume(
        self,
        name: str | None = None,
        *,
        all_runs: bool = False,
        run: RunOptions = RunOptions(),  # noqa: B008
        limits: LimitOptions = LimitOptions(),  # noqa: B008
        call: CallOptions = CallOptions(),  # noqa: B008
        listener: Listener | None = None,
    ) -> RunResult:
        """Carry on an unfinished run (the latest), or every unfinished, unpaused one."""
        check_options(run, limits)
        db = Database.open(self.path, create=False)
        stops = Stops()
        with stops.installed():
            async with self._attached(db) as process:
                found = _unfinished(db) if all_runs else [find_run(db, name)]
                for stored in found:
                    if stored.state is StoredRunState.CANCELLED:
                        raise _cancelled(stored)
                    self._prepare(db, stored, run, limits, call, listener)
                ids = [stored.id for stored in found]
                if not ids:
                    return self._nothing_to_do(db)
                if call.no_run:
                    return self._result(db, ids[0], Ending(ExitCode.DONE, None))
                return await self._drain(db, ids, call, stops, listener, process)

    async def retry(
        self,
        name: str | None = None,
        *,
        jobs: JobFilter = JobFilter(),  # noqa: B008
        run: RunOptions = RunOptions(),  # noqa: B008
        limits: LimitOptions = LimitOptions(),  # noqa: B008
        call: CallOptions = CallOptions(),  # noqa: B008
        listener: Listener | None = None,
    ) -> RunResult:
        """Put the chosen failed or cancelled jobs back, attempts from 0, then run."""
        check_options(run, limits)
        db = Database.open(self.path, create=False)
        stops = Stops()
        with stops.installed():
            async with self._attached(db) as process:
                stored = find_run(db, name)
                if call.sets:
                    self._set(db, stored, _retried(jobs), call.sets, listener)
                n = await asyncio.to_thread(commands.retry, db, stored, jobs)
                if listener is not None:
                    listener.notice(f"{n} jobs of {stored.name} were put back")
                self._prepare(db, stored, run, limits, replace(call, sets=()), listener)
                if call.no_run:
                    return self._result(db, stored.id, Ending(ExitCode.DONE, None))
                return await self._drain(db, [stored.id], call, stops, listener, process)

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
        return store_views.status(db, name, now_ms=_now(), day_zone=_day_zone)

    def runs(self) -> list[RunView]:
        """Return every run, newest first."""
        return store_views.runs(self._open(), now_ms=_now(), day_zone=_day_zone)

    def jobs(self, name: str | None = None, jobs: JobFilter = JobFilter()) -> Iterator[JobView]:  # noqa: B008
        """Return the chosen jobs of a run in input order."""
        db = self._open()
        run = find_run(db, name)
        commands.refuse_unknown_keys(db, run, jobs)
        return store_views.jobs(db, run, jobs, _text_of(profile(run.provider)))

    def show(self, name: str, key: str) -> JobDetail:
        """Return one job whole: request, response, every send."""
        db = self._open()
        run = find_run(db, name)
        return store_views.show(db, run, key, _text_of(profile(run.provider)))

    def errors(self, name: str | None = None) -> list[ErrorGroup]:
        """Return a run's failures grouped by kind and status, with what helps."""
        db = self._open()
        run = find_run(db, name)
        return store_views.errors(db, run, fix_of=lambda kind: fix_of(ErrorKind(kind), run.name))

    def limits(self) -> list[LimitView]:
        """Return the limits in force of every account."""
        return store_limits.limits(self._open(), now_ms=_now(), day_zone=_day_zone)

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
        commands.cancel(db, run, now_ms=_now())
        return self.status(run.name)

    def set_limits(self, account: str | None, limits: LimitOptions) -> list[str]:
        """Change the limits of an account (the only one); return what changed, old → new."""
        check_options(RunOptions(), limits)
        db = self._open()
        scope = find_account(db, account)
        changes = store_limits.store_limits(db, scope, limits, now_ms=_now())
        return [sentence(change) for change in changes]

    def export(self, name: str | None, options: ExportOptions, out: BinaryIO) -> int:
        """Write one row a job in input order to ``options.output``, else to ``out``; return how many."""
        db = self._open()
        run = find_run(db, name)
        commands.refuse_unknown_keys(db, run, options.jobs)
        chosen = format_of(options.output, options.format)
        if options.output is None:
            return _write(db, run, options.jobs, chosen, out)
        with atomic_file(options.output, force=options.force) as file:
            return _write(db, run, options.jobs, chosen, file)

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
    async def _attached(self, db: Database) -> AsyncIterator[processes.Process]:
        """Be known to other processes on the database while the context lasts."""
        processes.sweep_dead_processes(db)
        sweep_loading(db)
        process = processes.register_process(db, "follower", now_ms=_now())
        try:
            yield process
        finally:
            processes.unregister(db, process)

    async def _take(
        self,
        db: Database,
        files: Sequence[str],
        run: RunOptions,
        call: CallOptions,
        stdin: BinaryIO | None,
        process_id: int,
        stops: Stops,
    ) -> Taken:
        options = _stored_options({}, run)
        order = Order(
            files=files,
            stdin=stdin,
            provider=run.provider,
            base_url=run.base_url,
            fill=Fill(model=run.model, max_tokens=run.max_tokens, system=run.system),
            name=call.name,
            uid=secrets.token_hex(5),
            options_json=msgspec.json.encode(options).decode(),
            priority=run.priority or 0,
            is_new=call.new,
            is_update=call.update,
            skips_invalid=call.skip_invalid,
        )
        _check_output_path(run.output, call.name or name_of(files), db)
        intake = Intake(
            db,
            order,
            process_id=process_id,
            now_ms=_now(),
            is_gentle=_cached(lambda: maintenance.someone_sends(db), 0.5),
            is_stopped=lambda: stops.asked,
        )
        # In a thread of its own, so that a signal is seen while a large file is read.
        return await asyncio.to_thread(intake.take)

    def _prepare(
        self,
        db: Database,
        stored: StoredRun,
        run: RunOptions,
        limits: LimitOptions,
        call: CallOptions,
        listener: Listener | None,
    ) -> None:
        stored = self._merge_options(db, stored, run)
        self._check_output(stored)
        self._apply_limits(db, stored, limits, listener)
        if call.sets:
            self._set(db, stored, JobFilter(), call.sets, listener)
        commands.lift(db, stored)

    def _merge_options(self, db: Database, stored: StoredRun, run: RunOptions) -> StoredRun:
        old = msgspec.json.decode(stored.options)
        new = _stored_options(old, run)
        priority = stored.priority if run.priority is None else run.priority
        if new != old or priority != stored.priority:
            commands.store_options(
                db, stored.id, msgspec.json.encode(new).decode(), priority=priority
            )
        return self._stored(db, stored.id)

    def _apply_limits(
        self, db: Database, stored: StoredRun, limits: LimitOptions, listener: Listener | None
    ) -> None:
        """Bind the run to its account and store what was typed, shown as old → new."""
        options = msgspec.json.decode(stored.options)
        scope = stored.account_id
        if scope is None or options.get("account"):
            key = self._account_key(stored, options)
            if key is None and limits == LimitOptions():
                return
            scope = store_limits.scope_for(db, stored.provider, key or f"run {stored.uid}")
            bind_account(db, stored.id, scope)
        for change in store_limits.store_limits(db, scope, limits, now_ms=_now()):
            if listener is not None and change.is_change:
                listener.notice(sentence(change))

    def _account_key(self, stored: StoredRun, options: Mapping[str, Any]) -> str | None:
        """Return whose limits a run uses; ``None`` where no credential is there to tell."""
        if options.get("account"):
            return str(options["account"])
        if stored.provider == "simulator" and not options.get("base_url"):
            return "simulator"
        wiring = Wiring(self._environ, lambda _: None)
        known = profile(stored.provider)
        base_url = wiring.base_url(known, options.get("base_url"))
        try:
            return account_key(options, wiring.credential(known, base_url), base_url)
        except RefusedError:
            return None

    def _set(
        self,
        db: Database,
        stored: StoredRun,
        jobs: JobFilter,
        sets: Sequence[tuple[str, str]],
        listener: Listener | None,
    ) -> None:
        n = merge.apply_sets(
            db, stored, jobs, replace=lambda body: apply_sets(body, sets), model_of=model_of
        )
        if listener is not None:
            fields = ", ".join(field for field, _ in sets)
            listener.notice(f"{fields} was replaced in {n} jobs of {stored.name}")

    async def _drain(
        self,
        db: Database,
        run_ids: list[RunId],
        call: CallOptions,
        stops: Stops,
        listener: Listener | None,
        process: processes.Process,
    ) -> RunResult:
        notice = listener.notice if listener is not None else (lambda _text: None)
        async with self._simulator(db, run_ids) as simulator_url:
            wiring = Wiring(self._environ, notice, simulator_url=simulator_url)
            try:
                endings = await run_session(
                    db,
                    run_ids,
                    call=call,
                    wires=wiring,
                    stops=stops,
                    listener=listener,
                    process=process,
                )
            finally:
                await wiring.close()
        worst = min(run_ids, key=lambda run_id: _CODE_ORDER.index(endings[run_id].exit_code))
        written = [self._write_output(db, run_id) for run_id in run_ids]
        result = self._result(db, worst, endings[worst])
        return replace(result, output=next((path for path in written if path), None))

    @asynccontextmanager
    async def _simulator(self, db: Database, run_ids: list[RunId]) -> AsyncIterator[str | None]:
        """Start the built-in provider where a run wants it and names no other address."""
        needs = any(
            stored.provider == "simulator"
            and not msgspec.json.decode(stored.options).get("base_url")
            for stored in (self._stored(db, run_id) for run_id in run_ids)
        )
        if not needs:
            yield None
            return
        from batchrunner.providers.simulator import Simulator, SimulatorConfig  # noqa: PLC0415

        async with Simulator(SimulatorConfig()) as base_url:
            yield base_url

    def _write_output(self, db: Database, run_id: RunId) -> str | None:
        """Export to ``-o FILE``, replacing only what this run wrote there before."""
        stored = self._stored(db, run_id)
        options = msgspec.json.decode(stored.options)
        output = options.get("output")
        if not output:
            return None
        path = Path(output)
        _check_output_path(output, stored.name, db)
        if not options.get("output_written"):
            # Before it is: a process that dies in between must know its own file again.
            options["output_written"] = True
            commands.store_options(
                db, run_id, msgspec.json.encode(options).decode(), priority=stored.priority
            )
        with atomic_file(path, force=True) as file:
            _write(db, stored, JobFilter(), format_of(path, None), file)
        return str(path)

    def _check_output(self, stored: StoredRun) -> None:
        output = msgspec.json.decode(stored.options).get("output")
        if output:
            format_of(Path(output), None)

    def _stored(self, db: Database, run_id: RunId) -> StoredRun:
        with db.read() as connection:
            found = run_by_id(connection, run_id)
        if found is None:
            raise UsageError("The run was deleted meanwhile.", fix="Submit the file again.")
        return found

    def _result(self, db: Database, run_id: RunId, ending: Ending) -> RunResult:
        with db.read() as connection:
            stored = run_by_id(connection, run_id)
            assert stored is not None
            view = store_views.run_view(connection, db, stored, now_ms=_now(), day_zone=_day_zone)
        return RunResult(
            run=view,
            exit_code=ending.exit_code,
            waiting=ending.waiting,
            n_rejected=stored.n_rejected,
        )

    def _nothing_to_do(self, db: Database) -> RunResult:
        latest = find_run(db, None)
        return self._result(db, latest.id, Ending(ExitCode.DONE, None))

    @staticmethod
    def _emit_stored(stored: StoredRun, taken: Taken, listener: Listener | None) -> None:
        if listener is None:
            return
        data: dict[str, Any] = {"how": taken.how, "jobs": {"total": stored.counts.total}}
        if taken.diff is not None:
            data["diff"] = taken.diff._asdict()
        listener.event(
            Event(event="run.stored", at=_now(), run_id=stored.uid, run_name=stored.name, data=data)
        )


def check_options(run: RunOptions, limits: LimitOptions) -> None:
    """Refuse options that can't be right, before anything is read or stored."""
    if limits.day_resets is not None and limits.day_resets != "rolling":
        try:
            check_zone(limits.day_resets)
        except ValueError as error:
            raise UsageError(
                f"--day-resets: {error}.", fix="Use a name like America/Los_Angeles, or rolling."
            ) from error
    if run.provider is not None:
        profile(run.provider)
    for header in run.headers:
        name, colon, value = header.partition(":")
        try:
            if not colon:
                raise RefusedLineError("it has no colon")
            check_headers({name.strip(): value.strip()})
        except RefusedLineError as refused:
            raise UsageError(
                f"-H {name.strip()!r}: {refused}.", fix="Write it like -H 'NAME: VALUE'."
            ) from refused
    if run.base_url is not None and "@" in run.base_url.partition("://")[2].partition("/")[0]:
        raise UsageError(
            "The base URL holds a credential.",
            fix="Leave it out; send it as a header: -H 'Authorization: Basic ${VAR}'.",
        )


def _stored_options(old: Mapping[str, Any], run: RunOptions) -> dict[str, Any]:
    typed = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(run).items()
        if value is not None and value != () and name not in ("provider", "priority")
    }
    if "output" in typed:
        typed["output"] = str(Path(str(typed["output"])).absolute())
        if typed["output"] != old.get("output"):
            typed["output_written"] = False
    return {**old, **typed}


def _check_output_path(output: str | None, name: str, db: Database) -> None:
    """Refuse ``-o FILE`` where it would replace a file that no run of this name wrote."""
    if output is None:
        return
    path = Path(output).absolute()
    format_of(path, None)
    if not path.exists():
        if not path.parent.is_dir():
            raise UsageError(
                f"-o {output}: there is no folder {path.parent}.", fix="Make it first."
            )
        return
    with db.read() as connection:
        for stored in all_runs(connection):
            options = msgspec.json.decode(stored.options)
            if options.get("output") == str(path) and options.get("output_written"):
                return
    raise UsageError(
        f"-o {output}: the file exists, and run {name} did not write it.",
        fix="Name another file, or move that one away.",
    )


def _tell_taken(taken: Taken, listener: Listener | None) -> None:
    if listener is None:
        return
    for warning in taken.warnings:
        listener.notice(f"{warning.file}:{warning.line}: {warning.reason}")
    if taken.n_warnings > len(taken.warnings):
        listener.notice(f"and {taken.n_warnings - len(taken.warnings)} more warnings")
    if taken.how == "same":
        listener.notice(f"the same content is here already as run {taken.name}; it goes on")
    if (diff := taken.diff) is not None:
        answered = (
            f" ({diff.changed_completed} of them already answered: they keep their answer)"
            if diff.changed_completed
            else ""
        )
        listener.notice(
            f"{taken.name}: {diff.same} jobs the same, {diff.changed} changed{answered},"
            f" {diff.new} new, {diff.gone} gone (kept)"
        )
    if taken.n_rejected:
        listener.notice(f"{taken.n_rejected} lines were left out; see {taken.name}.rejects.jsonl")


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


def _write(db: Database, run: StoredRun, jobs: JobFilter, chosen: str, out: BinaryIO) -> int:
    known = profile(run.provider)
    text = _text_of(known) if chosen in ("csv", "jsonl") else None
    names = store_export.metadata_names(db, run.id, jobs) if chosen == "csv" else []
    rows = store_export.export_rows(db, run.id, jobs, text)
    return write_rows(rows, chosen, out, profile=known, metadata_names=names)


def _text_of(known: Profile) -> Callable[[bytes, str | None], str | None]:
    return known.output_text


def _day_zone(provider: str) -> str:
    return profile(provider).day_zone


def _nowhere() -> BinaryIO:
    return open(os.devnull, "wb")  # noqa: PTH123 (written to by nobody)


def _now() -> int:
    return int(time.time() * 1000)


def _cached(ask: Callable[[], bool], seconds: float) -> Callable[[], bool]:
    """Return ``ask`` asked at most every so many seconds."""
    asked_at, answer = float("-inf"), False

    def cached() -> bool:
        nonlocal asked_at, answer
        if time.monotonic() - asked_at >= seconds:
            asked_at, answer = time.monotonic(), ask()
        return answer

    return cached
