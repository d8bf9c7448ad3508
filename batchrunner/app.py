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

import os
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, overload

from batchrunner.checking import check_options
from batchrunner.clock import wall_ms
from batchrunner.config import EMPTY, Config
from batchrunner.core.budget import NO_BUDGET
from batchrunner.core.credentials import Secrets
from batchrunner.core.tokens import counted
from batchrunner.errors import BatchrunnerError, RefusedError, UsageError
from batchrunner.formats.atomic import atomic_file
from batchrunner.formats.export import check_choice, format_of
from batchrunner.formats.report import page
from batchrunner.models import ErrorKind, RunId, StoredRunState
from batchrunner.options import (
    CONCURRENCY,
    CallOptions,
    ExportOptions,
    JobFilter,
    LimitOptions,
    RunOptions,
    WorkerOptions,
)
from batchrunner.places import Place, Server, place_of
from batchrunner.planned import CompareView, PlanView
from batchrunner.providers import Profile, Providers
from batchrunner.providers.credentials import (
    KEYRING,
    MissingKeyError,
    find_credential,
    forget_key,
    keep_key,
)
from batchrunner.providers.fixes import fix_of
from batchrunner.providers.pricing import worst_case
from batchrunner.providers.registry import pool_of
from batchrunner.results import check_free, refuse_database, tell_pruned, write_run
from batchrunner.starting import write_starter
from batchrunner.store import (
    caps,
    commands,
    copying,
    failures,
    maintenance,
    merge,
    moved,
    prune,
    spending,
)
from batchrunner.store import explain as store_explain
from batchrunner.store import limits as store_limits
from batchrunner.store import report as store_report
from batchrunner.store import usage as store_usage
from batchrunner.store import views as store_views
from batchrunner.store.accounts import find_account, sentence
from batchrunner.store.database import Database
from batchrunner.store.opening import open_database
from batchrunner.store.runs import driver, find_run
from batchrunner.views import (
    BudgetView,
    CheckView,
    CopyView,
    ErrorGroup,
    ExplainView,
    JobDetail,
    JobView,
    KeyView,
    LimitView,
    Listener,
    PrunePlan,
    PruneView,
    ReportView,
    RunResult,
    RunView,
    SaidView,
    UsageView,
)

if TYPE_CHECKING:
    from batchrunner import planning, sending

__all__ = ["Batchrunner"]


class Batchrunner:
    """One database and what can be done with it."""

    def __init__(
        self,
        db: Place | str = "batchrunner.db",
        *,
        environ: Mapping[str, str] | None = None,
        config: Config = EMPTY,
        providers: Providers | None = None,
        secrets: Secrets | None = None,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        """Name the database; it is opened by each verb.

        Args:
            db: its path, or the address of a PostgreSQL server (``postgresql+asyncpg://…``).
            environ: holds keys and proxies; ``None``: the process's own.
            config: what holds where neither an option nor ``environ`` says otherwise; no file is
                looked for unless the caller has done so with :func:`batchrunner.config.load_config`.
            providers: which there are; ``None``: those built in, of packages and of ``config``.
            secrets: learns each key that is found, for a caller who writes what it is told.
            notice: is told in a sentence what a verb without a listener did besides.
        """
        self.place = db if isinstance(db, Server) else place_of(db)
        self._environ = os.environ if environ is None else environ
        self._config = config
        self._providers = config.providers if providers is None else providers
        self._secrets = Secrets() if secrets is None else secrets
        self._notice = notice

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
        from batchrunner import sending  # noqa: PLC0415 (the engine and HTTP: no view needs them)

        return await sending.submit(
            self._target(call, listener), files, run=run, limits=limits, stdin=stdin
        )

    @overload
    async def resume(
        self,
        name: str | None = None,
        *,
        run: RunOptions = RunOptions(),
        limits: LimitOptions = LimitOptions(),
        call: CallOptions = CallOptions(),
        listener: Listener | None = None,
    ) -> RunResult: ...

    @overload
    async def resume(
        self,
        name: str | None = None,
        *,
        all_runs: bool,
        run: RunOptions = RunOptions(),
        limits: LimitOptions = LimitOptions(),
        call: CallOptions = CallOptions(),
        listener: Listener | None = None,
    ) -> RunResult | None: ...

    async def resume(
        self,
        name: str | None = None,
        *,
        all_runs: bool = False,
        run: RunOptions = RunOptions(),
        limits: LimitOptions = LimitOptions(),
        call: CallOptions = CallOptions(),
        listener: Listener | None = None,
    ) -> RunResult | None:
        """Carry on an unfinished run (the latest), or every unfinished, unpaused one.

        ``None``: every one was asked for, and there is no run at all.
        """
        from batchrunner import sending  # noqa: PLC0415 (the engine and HTTP: no view needs them)

        return await sending.resume(
            self._target(call, listener), name, all_runs=all_runs, run=run, limits=limits
        )

    async def work(
        self,
        options: WorkerOptions = WorkerOptions(),
        *,
        call: CallOptions = CallOptions(),
        listener: Listener | None = None,
    ) -> int:
        """Drain a shared queue (PostgreSQL) beside other workers; return the exit code.

        Of ``call`` counts how long a server that is away is waited for.
        """
        from batchrunner import sending  # noqa: PLC0415 (the engine and HTTP: no view needs them)

        return await sending.work(self._target(call, listener), options)

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
        from batchrunner import sending  # noqa: PLC0415 (the engine and HTTP: no view needs them)

        return await sending.retry(
            self._target(call, listener), name, jobs=jobs, run=run, limits=limits
        )

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
            check_free(output)
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
        return store_views.status(db, name, now_ms=wall_ms(), day_zone=self._providers.day_zone_of)

    def runs(self) -> list[RunView]:
        """Return every run, newest first."""
        return store_views.runs(
            self._open(), now_ms=wall_ms(), day_zone=self._providers.day_zone_of
        )

    def jobs(self, name: str | None = None, jobs: JobFilter = JobFilter()) -> Iterator[JobView]:
        """Return the chosen jobs of a run in input order."""
        db = self._open()
        run = find_run(db, name)
        commands.refuse_unknown_keys(db, run, jobs)
        return store_views.jobs(db, run, jobs, _text_of(self._providers.profile(run.provider)))

    def show(self, name: str, key: str) -> JobDetail:
        """Return one job whole: request, response, every send."""
        db = self._open()
        run = find_run(db, name)
        known = self._providers.profile(run.provider)
        detail = store_views.show(db, run, key, _text_of(known))
        if detail.url is None and detail.request:
            detail = replace(detail, url=known.default_path(detail.request))
        return detail

    def errors(self, name: str | None = None) -> list[ErrorGroup]:
        """Return a run's failures grouped by kind and status, with what helps."""
        db = self._open()
        run = find_run(db, name)
        return failures.errors(
            db, run, fix_of=lambda kind, message: fix_of(ErrorKind(kind), run.name, message)
        )

    def explain(self, name: str | None = None, key: str | None = None) -> ExplainView:
        """Return where a run's time went and why it is not done; with ``key``, the same of that job.

        A ``name`` that no run has is taken for a job's key of the latest run, if that has it.
        """
        from batchrunner.explaining import explain  # noqa: PLC0415 (no other view needs it)

        db = self._open()
        try:
            run = find_run(db, name)
        except UsageError:
            if name is None or key is not None:
                raise
            run = find_run(db, None)
            if next(store_views.job_rows(db, run.id, JobFilter(keys=(name,))), None) is None:
                raise
            key = name
        return explain(db, run, self.status(run.name), key, now_ms=wall_ms())

    def limits(self) -> list[LimitView]:
        """Return the limits in force of every account."""
        return store_limits.limits(
            self._open(), now_ms=wall_ms(), day_zone=self._providers.day_zone_of
        )

    def said_limits(self) -> list[SaidView]:
        """Return what the providers' last answers said of their own count."""
        return store_limits.said_limits(self._open())

    def budget(self) -> list[BudgetView]:
        """Return what is spent and left of the configuration's ``[budget]``."""
        budget = self._config.budget
        if budget == NO_BUDGET:
            return []
        return spending.budget_views(self._open(), budget, now_ms=wall_ms())

    def usage(
        self,
        by: Sequence[str] = ("day",),
        *,
        since: date | None = None,
        run: str | None = None,
        model: str | None = None,
    ) -> list[UsageView]:
        """Return what was used by ``day``, ``model``, ``run``, ``account``, ``provider``, and waited.

        ``since`` leaves out the UTC days before it; ``run`` (name or id) and ``model`` what is not theirs.
        """
        db = self._open()
        run_id = None if run is None else find_run(db, run).id
        return store_usage.usage(db, by, store_usage.Chosen(since, run_id, model))

    def plan(
        self,
        files: Sequence[str],
        *,
        run: RunOptions = RunOptions(),
        limits: LimitOptions = LimitOptions(),
        call: CallOptions = CallOptions(),
        stdin: BinaryIO | None = None,
    ) -> PlanView:
        """Return what ``submit`` of the same would take; nothing is sent, nothing stored.

        The database need not be there. Raises :class:`InputError` with the lines that can't become
        jobs.
        """
        from batchrunner.planning import plan  # noqa: PLC0415 (no other view needs it)

        return plan(self._asked(files, run, limits, call, stdin), now_ms=wall_ms())

    async def plan_counted(
        self,
        files: Sequence[str],
        n: int,
        *,
        run: RunOptions = RunOptions(),
        limits: LimitOptions = LimitOptions(),
        call: CallOptions = CallOptions(),
    ) -> PlanView:
        """Return :meth:`plan` with the tokens of ``n`` requests counted by their provider.

        Raises :class:`UsageError` where it has no endpoint for that; what can't be counted otherwise is
        estimated, and a note says why.
        """
        from batchrunner.checkup import counting  # noqa: PLC0415 (HTTP: no view needs it)
        from batchrunner.planning import plan, sample  # noqa: PLC0415 (as above)

        asked = self._asked(files, run, limits, call, None)
        drawn = sample(asked, n)
        counting.check_counts(drawn.known)
        way = counting.Way(
            known=drawn.known, options=drawn.options, db=drawn.db, environ=self._environ,
            providers=self._providers, secrets=self._secrets, typed_proxies=run.proxy,
        )  # fmt: skip
        tally = await counting.count_tokens(way, drawn.jobs)
        counts = {model: counted(pairs, drawn.n_of[model]) for model, pairs in tally.pairs.items()}
        view = plan(asked, now_ms=wall_ms(), counts=counts)
        if not tally.stopped:
            return view
        told = f"the provider did not count all of them, the rest is estimated: {tally.stopped}"
        return replace(view, notes=[told, *view.notes])

    def _asked(
        self,
        files: Sequence[str],
        run: RunOptions,
        limits: LimitOptions,
        call: CallOptions,
        stdin: BinaryIO | None,
    ) -> planning.Asked:
        from batchrunner.planning import Asked  # noqa: PLC0415 (no other view needs it)

        return Asked(
            place=self.place, files=files, stdin=stdin, run=run, limits=limits, call=call,
            environ=self._environ, config=self._config, providers=self._providers,
        )  # fmt: skip

    def compare(self, name: str | None = None) -> CompareView:
        """Return what ``plan`` would have said of a run's answered jobs beside what they took."""
        from batchrunner.comparing import compare  # noqa: PLC0415 (no other view needs it)

        return compare(
            self._open(), name, config=self._config, providers=self._providers, now_ms=wall_ms()
        )

    # --- changes

    def pause(self, name: str) -> RunView:
        """Stop a run until ``resume``; what is in flight finishes."""
        db = self._open()
        run = find_run(db, name)
        if run.state is not StoredRunState.PAUSED and not commands.pause(db, run):
            raise UsageError(
                f"Run {run.name} is {run.state}; there is nothing to pause.",
                fix=f"Look at it with: batchrunner status {shlex.quote(run.name)}",
            )
        return self.status(run.name)

    def cancel(self, name: str) -> RunView:
        """Give a run up; what is in flight finishes, the jobs left are cancelled."""
        db = self._open()
        run = find_run(db, name)
        if run.state is StoredRunState.FINISHED:
            raise UsageError(
                f"Run {run.name} is finished; there is nothing to cancel.",
                fix=f"Look at it with: batchrunner status {shlex.quote(run.name)}",
            )
        commands.cancel(db, run, now_ms=wall_ms())
        return self.status(run.name)

    def set_limits(
        self,
        account: str | None,
        limits: LimitOptions,
        *,
        run: str | None = None,
        concurrency: int | Literal["auto"] | None = None,
    ) -> list[str]:
        """Change the limits of an account (the only one); return what changed, old → new.

        With ``concurrency`` that of ``run`` as well, as by :meth:`set_concurrency`. Nothing is stored
        where any of it can't be.
        """
        check_options(RunOptions(), limits)
        db = self._open()
        has_limits = limits != LimitOptions()
        scope = find_account(db, account) if has_limits or account is not None else None
        if run is not None or concurrency is not None:
            run = find_run(db, run).uid
        told = [] if concurrency is None else [self.set_concurrency(run, concurrency)]
        if scope is not None and has_limits:
            changes = caps.store_limits(db, scope, limits, now_ms=wall_ms())
            told += [sentence(change) for change in changes]
        return told

    def set_concurrency(self, name: str | None, value: int | Literal["auto"]) -> str:
        """Change how many requests of a run (the latest) may be in flight, also while it is sent.

        It is stored with the run like ``-c``; return what changed, old → new.
        """
        db = self._open()
        run = find_run(db, name)
        before = commands.store_option(db, run.id, CONCURRENCY, value)
        before = before or self._config.run_defaults(run.provider).get(CONCURRENCY) or "auto"
        change = f"{before} → {value}" if before != value else f"{value} already"
        return f"{CONCURRENCY} of {run.name}: {change}"

    def export(self, name: str | None, options: ExportOptions, out: BinaryIO) -> int:
        """Write one row a job in input order to ``options.output``, else to ``out``; return how many."""
        db = self._open()
        run = find_run(db, name)
        commands.refuse_unknown_keys(db, run, options.jobs)
        chosen = format_of(options.output, options.format)
        tell_pruned(db, run, options.jobs, chosen, lambda text: self._say(None, text))
        check_choice(chosen, options.columns, excel=options.excel)
        if options.output is not None:
            refuse_database(db, options.output)

        def write(out: BinaryIO) -> int:
            return write_run(
                db, run, options.jobs, chosen, out, providers=self._providers,
                columns=options.columns, excel=options.excel,
                tell=lambda text: self._say(None, text),
            )  # fmt: skip

        if options.output is None:
            return write(out)
        with atomic_file(options.output, force=options.force) as file:
            return write(file)

    def report(self, name: str | None = None) -> ReportView:
        """Return a run in numbers over its time, for :func:`batchrunner.formats.report.page`."""
        db = self._open()
        run = find_run(db, name)
        view, now = self.status(run.name), wall_ms()
        return ReportView(
            run=view,
            made_at=now,
            time=store_explain.time_of(db, run, view.state, now_ms=now),
            models=store_report.models(db, run),
            errors=self.errors(run.name),
            timeline=store_report.sends(db, run),
        )

    def write_report(
        self, name: str | None, out: BinaryIO, *, output: Path | None = None, force: bool = False
    ) -> None:
        """Write a run as one HTML page to ``output``, else to ``out``."""
        if output is not None:
            refuse_database(self._open(), output)
        data = page(self.report(name)).encode()
        if output is None:
            out.write(data)
            return
        with atomic_file(output, force=force) as file:
            file.write(data)

    # --- keys

    def title_of(self, provider: str) -> str:
        """Return a provider's name as people write it."""
        return self._providers.profile(provider).title

    def set_key(self, provider: str, value: str, *, any_form: bool = False) -> list[str]:
        """Keep a provider's key in the system's keyring; return what a person should know of it.

        Raises :class:`RefusedError` where it can't be that provider's key (unless ``any_form``).
        """
        known = self._providers.profile(provider)
        if not known.key_envs:
            raise UsageError(
                f"{known.title} takes no key.",
                fix="Send one as a header: -H 'Authorization: Bearer ${VAR}'.",
            )
        kept = keep_key(known, value, is_any_form=any_form)
        notices = [kept.notice] if kept.notice else []
        found = self._key_view(known)
        if found.source != KEYRING:
            first = found.source or "what it finds before that"
            notices.append(f"{first} comes before the keyring, and has a key.")
        return notices

    def remove_key(self, provider: str) -> bool:
        """Take a provider's key out of the system's keyring; return whether there was one."""
        return forget_key(self._providers.profile(provider))

    def keys(self) -> list[KeyView]:
        """Return for each provider where its key is found; never the key."""
        return [
            self._key_view(known)
            for known in map(self._providers.profile, self._providers.names)
            if known.key_envs
        ]

    def _key_view(self, known: Profile) -> KeyView:
        try:
            found = find_credential(
                known, self._environ, base_url_is_own=True, key_file=self._key_file(known)
            )
        except MissingKeyError:
            found = None
        except RefusedError as refused:
            return KeyView(provider=known.name, source=None, is_usable=False, note=refused.message)
        if found is None:
            return KeyView(provider=known.name, source=None, is_usable=False)
        return KeyView(provider=known.name, source=found.source, is_usable=True, note=found.notice)

    def _key_file(self, known: Profile) -> Path | None:
        said = self._config.run_defaults(known.name).get("key_file")
        return Path(said) if said else None

    # --- the way to a provider

    async def doctor(
        self, *, run: RunOptions = RunOptions(), is_live: bool = False
    ) -> list[CheckView]:
        """Check the way to a provider and this machine, in order; nothing is created.

        ``run`` says which provider and how it is reached; without one it is that of the latest
        unfinished run, of the configuration, or of a key variable that is set. ``is_live`` also
        sends one tiny request, which counts.
        """
        from batchrunner.checkup import examine  # noqa: PLC0415 (HTTP: no view needs it)

        check_options(run, LimitOptions(), self._providers)
        return await examine(
            self.place,
            typed=run,
            is_live=is_live,
            environ=self._environ,
            config=self._config,
            providers=self._providers,
            secrets=self._secrets,
        )

    # --- the database

    def init(self, folder: Path) -> list[Path]:
        """Write jobs to try and a configuration into ``folder``, and make the database.

        Raises :class:`UsageError`, with nothing written, where one of the files is there.
        """
        written = write_starter(folder)
        try:
            open_database(self.place, create=True)
        except BatchrunnerError:
            for path in written:
                path.unlink(missing_ok=True)
            raise
        return written

    def db_upgrade(self) -> str:
        """Bring the schema up to date after a copy beside it; return what was done."""
        said = [f"{self.place} is up to date"]
        open_database(
            self.place, create=False, upgraded=lambda copy: said.append(self._upgraded(copy))
        )
        return said[-1]

    def db_check(self) -> list[str]:
        """Return what is wrong with the database, in sentences."""
        return maintenance.check(self._open())

    def db_backup(self, destination: Path) -> None:
        """Copy the database to a new file, at any time."""
        maintenance.backup(self._open(), destination, now_ms=wall_ms())

    def db_copy(
        self,
        to: Place | str,
        *,
        keep: bool = False,
        progress: copying.Progress = lambda *_args, **_jobs: None,
    ) -> CopyView:
        """Copy everything to a place where there is no database yet; never while a process sends.

        The work goes on there: nothing is sent from here any more, unless ``keep``, or after
        :meth:`db_reopen`.
        """
        return copying.copy_to(
            self._open(), place_of(to) if isinstance(to, str) else to,
            keep=keep, now_ms=wall_ms(), progress=progress,
        )  # fmt: skip

    def db_reopen(self) -> bool:
        """Have a database that was copied elsewhere be sent from again; return whether it was one."""
        with self._open().write() as connection:
            return moved.unmark(driver(connection))

    def db_prune_plan(
        self,
        names: Sequence[str] = (),
        *,
        older_than_s: float | None = None,
        bodies: bool = False,
    ) -> PrunePlan:
        """Return what :meth:`db_prune` would take away of the runs named, of all that are over."""
        before = None if older_than_s is None else int(wall_ms() - older_than_s * 1000.0)
        return prune.plan(self._open(), names, before_ms=before, is_bodies=bodies)

    def db_prune(self, plan: PrunePlan) -> PruneView:
        """Delete what was planned, overwrite it and shrink the file; never while a process sends."""
        db = self._open()

        def rescue(run_id: RunId) -> None:
            with db.session() as session:
                merge.rescue_orphans(
                    session,
                    db,
                    run_id,
                    pool_of,
                    worst_case(self._config.said_prices, wall_ms()),
                )

        return prune.prune(db, plan, rescue=rescue)

    # --- what the verbs share

    def _target(self, call: CallOptions, listener: Listener | None) -> sending.Target:
        from batchrunner.sending import Target  # noqa: PLC0415 (as above)

        return Target(
            place=self.place, environ=self._environ, config=self._config,
            providers=self._providers, secrets=self._secrets, call=self._bounded(call),
            listener=listener, upgraded=lambda copy: self._say(listener, self._upgraded(copy)),
        )  # fmt: skip

    def _upgraded(self, copy: Path) -> str:
        return f"{self.place} was upgraded to this version's schema; the old one is kept as {copy}"

    def _say(self, listener: Listener | None, text: str) -> None:
        if listener is not None:
            listener.notice(text)
        elif self._notice is not None:
            self._notice(text)

    def _bounded(self, call: CallOptions) -> CallOptions:
        """Return the options of a call with what the configuration says where they say nothing."""
        config = self._config
        return replace(
            call,
            max_wait_s=config.max_wait_s if call.max_wait_s is None else call.max_wait_s,
            notify=config.said("notify") if call.notify is None else call.notify,
            webhook=config.said("webhook") if call.webhook is None else call.webhook,
        )

    def _open(self) -> Database:
        return open_database(
            self.place,
            create=False,
            upgraded=lambda copy: self._say(None, self._upgraded(copy)),
        )


def _text_of(known: Profile) -> Callable[[bytes, str | None], str | None]:
    return known.output_text


def _nowhere() -> BinaryIO:
    return open(os.devnull, "wb")  # noqa: PTH123 (written to by nobody)
