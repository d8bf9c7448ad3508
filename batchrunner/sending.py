"""The verbs that send: ``submit``, ``resume`` and ``retry``, each from options to exit code."""

from __future__ import annotations

import asyncio
import secrets
import shlex
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import msgspec

from batchrunner import notifying
from batchrunner.calling import Call
from batchrunner.checking import check_name, check_options, check_variables
from batchrunner.checkup import Scene, advised
from batchrunner.clock import wall_ms
from batchrunner.config import Config
from batchrunner.core.credentials import Secrets
from batchrunner.engine.offers import Wanted
from batchrunner.engine.priced import endless_of
from batchrunner.engine.roster import Ending
from batchrunner.engine.stops import Stops
from batchrunner.errors import AwayError, DatabaseError, UsageError
from batchrunner.formats.lines import Rows
from batchrunner.intake import Intake, Taken, notices_of, rejects_path
from batchrunner.models import ExitCode, RunId, StoredRunState
from batchrunner.notifying import Notifier, webhook_address
from batchrunner.options import (
    CallOptions,
    JobFilter,
    LimitOptions,
    RunOptions,
    WorkerOptions,
    in_force,
)
from batchrunner.places import Place
from batchrunner.preparing import (
    address_of,
    check_sets,
    fill_of,
    options_in_force,
    set_fields,
    stored_options,
)
from batchrunner.providers import Profile, Providers
from batchrunner.providers.pricing import worst_case
from batchrunner.reading import Endless, InterruptedIntakeError, Order, name_of, rows_of
from batchrunner.results import check_output
from batchrunner.routes import check_routes
from batchrunner.store import commands, failures, maintenance, processes
from batchrunner.store.database import Database
from batchrunner.store.inspection import models_left, models_of
from batchrunner.store.load import rescind_run, sweep_loading
from batchrunner.store.moved import refuse_moved_at
from batchrunner.store.opening import open_database
from batchrunner.store.runs import StoredRun, find_run, free_name, latest_run, stored_run
from batchrunner.store.runs import all_runs as every_run
from batchrunner.store.sqlite.database import FileDatabase, no_queue
from batchrunner.store.sqlite.discard import discard_unused
from batchrunner.views import Listener, RunResult

__all__ = ["Target", "resume", "retry", "submit", "work"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Which database a call works on, how, and who watches."""

    place: Place
    environ: Mapping[str, str]
    config: Config
    providers: Providers
    #: Learns each key that is found.
    secrets: Secrets
    call: CallOptions
    listener: Listener | None
    #: Is told of the copy where an older database was upgraded.
    upgraded: Callable[[Path], None]


async def submit(
    target: Target,
    files: Sequence[str],
    *,
    run: RunOptions,
    limits: LimitOptions,
    stdin: BinaryIO | None,
) -> RunResult:
    """Validate, store and run the jobs of ``files``."""
    check_name(target.call.name)
    check_options(run, limits, target.providers)
    named = run.provider or target.config.provider
    check_variables(run, target.environ, target.config.headers(named))
    known = target.providers.profile(named) if named else None
    check_routes(run, target.config.run_defaults(named) if named else {}, target.environ, known)
    target.config.expect_json()
    rows = rows_of(target.call.template, target.call.key)
    async with _calling(target, run, create=True) as this:
        taken = await _take(this, files, run, stdin, rows)
        stored = stored_run(this.db, taken.run_id)
        is_paused = stored.state is StoredRunState.PAUSED
        this.tell(notices_of(taken, is_paused=is_paused))
        if taken.how == "same" and stored.state is StoredRunState.CANCELLED:
            raise _cancelled(stored)
        if taken.how == "stored":
            run = RunOptions()
        elif taken.how == "same":
            this.check_stored(stored, run)
            this.check(stored, run)
        is_changed = taken.how == "updated"
        try:
            this.prepare(stored, run, limits, is_changed=is_changed, is_resumed=False)
        except UsageError:
            if taken.how == "stored":
                # At exit 2 nothing is stored.
                rescind_run(this.db, stored.id, this.process.id)
            raise
        this.emit_stored(stored, taken)
        if is_paused and not this.call.no_run:
            return this.left_paused(taken.run_id)
        return await _drained(this, [taken.run_id])


async def resume(
    target: Target, name: str | None, *, all_runs: bool, run: RunOptions, limits: LimitOptions
) -> RunResult | None:
    """Carry on a run, or every unfinished, unpaused one; ``None``: of all, and there is no run at all."""
    check_options(run, limits, target.providers)
    check_routes(run, {}, target.environ, None)
    async with _calling(target, run) as this:
        found = _unfinished(this.db) if all_runs else [find_run(this.db, name)]
        for stored in found:
            if stored.state is StoredRunState.CANCELLED:
                raise _cancelled(stored)
            if not all_runs or run.max_cost is not None:
                # One of several holds the others up by nothing but what is typed for all; it is refused
                # when its turn comes.
                this.check_stored(stored, run)
            this.check(stored, run)
        for stored in found:
            this.prepare(stored, run, limits)
        if not found:
            return _nothing_left(this)
        return await _drained(this, [stored.id for stored in found])


async def work(target: Target, options: WorkerOptions) -> int:
    """Drain a shared queue beside other workers, until told to stop or, if so asked, nothing is left."""
    check_options(RunOptions(provider=options.provider), LimitOptions(), target.providers)
    if isinstance(target.place, Path):
        # Whether the file is there or not.
        raise no_queue(target.place)
    wanted = Wanted(
        provider=options.provider,
        tags=frozenset(options.tags),
        only_tagged=options.only_tagged,
        accounts=frozenset(options.accounts),
    )
    async with _calling(target, RunOptions()) as this:
        return await this.work(wanted, until_done=options.until_done)


async def retry(
    target: Target, name: str | None, *, jobs: JobFilter, run: RunOptions, limits: LimitOptions
) -> RunResult:
    """Put the chosen jobs back, then run."""
    check_options(run, limits, target.providers)
    check_routes(run, {}, target.environ, None)
    async with _calling(target, run) as this:
        stored = find_run(this.db, name)
        commands.refuse_pruned(this.db, stored, jobs)
        this.check_stored(
            stored, run,
            lambda: {
                *models_of(this.db, stored, jobs, commands.RETRIED),
                *models_left(this.db, stored, is_any=True),
            },
        )  # fmt: skip
        this.check(stored, run, jobs=_retried(jobs))
        if this.call.sets:
            # Before they are put back: a failed job must not go with its old request.
            set_fields(this.db, stored, _retried(jobs), this.call.sets, this.notice)
        n = await asyncio.to_thread(commands.retry, this.db, stored, jobs)
        if n or jobs.is_empty:
            were = "job of {} was" if n == 1 else "jobs of {} were"
            this.notice(f"{n} {were.format(stored.name)} put back")
        else:
            this.notice(_nothing_chosen(stored, failures.kinds(this.db, stored)))
        this.prepare(stored, run, limits, sets=(), is_changed=bool(this.call.sets))
        return await _drained(this, [stored.id])


async def _drained(this: Call, run_ids: list[RunId]) -> RunResult:
    """Have the runs sent; where one halted for a model, look up what the key can use instead."""
    result = await this.drain(run_ids)
    if this.stops.asked:
        return result
    ended = (stored_run(this.db, run_id) for run_id in run_ids)
    run_id = next((stored.id for stored in ended if stored.uid == result.run.id), run_ids[0])
    scene = Scene(
        db=this.db,
        environ=this.environ,
        config=this.config,
        providers=this.providers,
        secrets=this.secrets,
        typed_proxies=this.typed_proxies,
        look=this.ring.look,
    )
    return await advised(result, scene, run_id)


@asynccontextmanager
async def _calling(target: Target, run: RunOptions, *, create: bool = False) -> AsyncIterator[Call]:
    """Be known to other processes on the database, and take signals, while the context lasts."""
    is_new = create and isinstance(target.place, Path) and not target.place.exists()
    stops = Stops()
    with stops.installed():
        db, process = _attached(target, create=create)
        try:
            notifier = _notifier(target, run, db, stops)
            yield Call(
                db=db, call=target.call, listener=notifier or target.listener, stops=stops,
                process=process, environ=target.environ, config=target.config,
                providers=target.providers, secrets=target.secrets, typed_proxies=run.proxy,
                notifier=notifier,
            )  # fmt: skip
        except BaseException:
            # What went wrong is told, not that the row stays: the next process sweeps it.
            with suppress(DatabaseError):
                processes.unregister(db, process)
                if is_new and isinstance(db, FileDatabase):
                    # Whoever is refused finds the folder as it was.
                    discard_unused(db)
            raise
        # Where its server is away by now the next process sweeps it too.
        with suppress(AwayError):
            processes.unregister(db, process)


def _notifier(target: Target, run: RunOptions, db: Database, stops: Stops) -> Notifier | None:
    """Return who tells others of the call's runs; ``None`` where nobody is to be told."""
    command, webhook = (
        None if said in (None, "none") else said
        for said in (target.call.notify, target.call.webhook)
    )
    if command is None and webhook is None:
        return None
    if webhook is not None:
        of_any = target.config.run_defaults(run.provider or target.config.provider or "")
        is_allowed = run.allow_insecure_http or bool(of_any.get("allow_insecure_http"))
        webhook = webhook_address(webhook, target.environ, allow_insecure_http=is_allowed)
        # Such an address often is a key itself.
        target.secrets.add(webhook)
    names = (target.providers.profile(name).key_envs for name in target.providers.names)
    told = notifying.Target(
        command=command,
        webhook=webhook,
        db=db.name,
        environ=target.environ,
        key_variables=frozenset(name for variables in names for name in variables),
        secrets=target.secrets,
        options_of=lambda uid: options_in_force(find_run(db, uid), target.config),
        typed_proxies=run.proxy,
    )
    return Notifier(told, target.listener, stops)


def _attached(target: Target, *, create: bool) -> tuple[Database, processes.Process]:
    """Open the database and be known on it."""
    while True:
        db = open_database(target.place, create=create, upgraded=target.upgraded)
        try:
            refuse_moved_at(db)
            processes.sweep_dead_processes(db)
            sweep_loading(db)
            return db, processes.register_process(db, "follower", now_ms=wall_ms())
        except DatabaseError:
            if not (create and db.is_gone()):
                raise
            # Another call had made it for a file that was refused, and took it away meanwhile.


async def _take(
    this: Call, files: Sequence[str], run: RunOptions, stdin: BinaryIO | None, rows: Rows
) -> Taken:
    call = this.call
    name = call.name or name_of(files)
    check_output(this.db, run.output, name)
    if call.skip_invalid:
        _check_rejects(run.output, free_name(this.db, name) if call.new else name)
    provider = run.provider or this.config.provider
    order = Order(
        files=files,
        stdin=stdin,
        provider=provider,
        providers=this.providers,
        address=lambda known: address_of(run, known, this.config, this.environ),
        fill=fill_of(run, this.config),
        name=call.name,
        uid=secrets.token_hex(5),
        options_json=msgspec.json.encode(stored_options({}, run)).decode(),
        priority=run.priority or 0,
        is_new=call.new,
        is_update=call.update,
        skips_invalid=call.skip_invalid,
        is_compressed=partial(_is_compressed, this, run),
        endless=partial(_endless, this, run),
        rows=rows,
    )

    def check(known: Profile, into: StoredRun | None, models: Sequence[str], new: RunId) -> None:
        _check_paid(this, run, known, into, models)
        if into is not None:
            check_sets(this.db, into, JobFilter(), call.sets, new=new)

    intake = Intake(
        this.db,
        order,
        process_id=this.process.id,
        now_ms=wall_ms(),
        is_gentle=_cached(lambda: maintenance.someone_sends(this.db), 0.5),
        is_stopped=lambda: this.stops.asked,
        worst_of=worst_case(this.config.said_prices, wall_ms()),
        check=check,
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
    except AwayError as error:
        # Whether its last commit was made nobody knows.
        raise AwayError(
            f"{error.message} That was while the file was read in.",
            fix="Once it is back (pg_isready) give the same command again: it begins anew, or goes on with what"
            " is stored.",
        ) from error


def _check_rejects(output: str | None, name: str) -> None:
    """Refuse ``-o FILE`` where the run's rejected lines go: its answers would take their place."""
    if output is not None and Path(output).resolve() == rejects_path(name).resolve():
        raise UsageError(
            f"-o {output}: rejected lines go there. Nothing was stored.",
            fix="Name another file with -o.",
        )


def _check_paid(
    this: Call, run: RunOptions, known: Profile, into: StoredRun | None, models: Sequence[str]
) -> None:
    """Refuse jobs under a bound on money that can't be kept; ``into``: the run that takes them."""
    if into is None:
        this.check_paid(known.name, stored_options({}, run), lambda: models)
    else:
        this.check_stored(into, run, lambda: {*models, *models_left(this.db, into, is_any=True)})


def _endless(this: Call, run: RunOptions, known: Profile, into: StoredRun | None) -> Endless | None:
    """Return what refuses the jobs of a file that no bound on money can be kept for, if one is in force."""
    before = msgspec.json.decode(into.options) if into is not None else {}
    options = in_force(stored_options(before, run), this.config.run_defaults(known.name))
    return endless_of(
        known.name, options, said=this.config.said_prices, budget=this.config.budget,
        wall=wall_ms(), sets=this.call.sets,
    )  # fmt: skip


def _is_compressed(this: Call, run: RunOptions, known: Profile, into: StoredRun | None) -> bool:
    """Tell how the requests of a file are kept; ``into``: the run that has its name already."""
    before = msgspec.json.decode(into.options) if into is not None else {}
    typed = stored_options(before, run)
    return bool(in_force(typed, this.config.run_defaults(known.name)).get("compress"))


def _cancelled(stored: StoredRun) -> UsageError:
    return UsageError(
        f"Run {stored.name} is cancelled.",
        fix=f"Put its jobs back with: batchrunner retry {shlex.quote(stored.name)}",
    )


def _nothing_chosen(stored: StoredRun, kinds: Sequence[tuple[str, int]]) -> str:
    there_are = ", ".join(f"{n:,} {kind}" for kind, n in kinds) or "none at all"
    return (
        f"no job of {stored.name} was put back: none of its failed and cancelled jobs is one of those"
        f" chosen; there are (count and kind for --error): {there_are}"
    )


def _nothing_left(this: Call) -> RunResult | None:
    """Return how ``resume --all`` ends where nothing is to be done: well, whatever is here."""
    latest = latest_run(this.db)
    has = "has no runs yet" if latest is None else "has no run that is unfinished and not paused"
    this.notice(f"nothing is to be carried on: {this.db.name} {has}")
    return None if latest is None else this.result(latest.id, Ending(ExitCode.DONE, None))


def _unfinished(db: Database) -> list[StoredRun]:
    with db.read() as connection:
        runs = every_run(connection)
    return [run for run in reversed(runs) if run.state is StoredRunState.READY]


def _retried(jobs: JobFilter) -> JobFilter:
    return jobs if not jobs.is_empty else JobFilter(statuses=commands.RETRIED)


def _cached(ask: Callable[[], bool], seconds: float) -> Callable[[], bool]:
    """Return ``ask`` asked at most every so many seconds."""
    asked_at, answer = float("-inf"), False

    def cached() -> bool:
        nonlocal asked_at, answer
        if time.monotonic() - asked_at >= seconds:
            asked_at, answer = time.monotonic(), ask()
        return answer

    return cached
