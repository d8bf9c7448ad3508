"""A job's life in the database, against a model that fits on a page: the conformance of all stores.

The machine submits, claims, settles, books, rescues, pauses, cancels, retries, updates and opens the
database anew in any order. Each step is done on every database that it is given, a file here, a file
and a server in :mod:`tests.postgres.test_life`: all must return the same, in the same order, and it
must be what the model in memory returns. After each step every job, every counter and all that was used
must be what the model says, which knows nothing but the table of transitions.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from batchrunner.core.admission import DirtySlot
from batchrunner.core.lifecycle import TRANSITIONS, JobEvent, step
from batchrunner.models import ErrorKind, JobId, JobState, ModelId, RunId, ScopeId
from batchrunner.options import JobFilter
from batchrunner.places import Place
from batchrunner.store import commands, scopes
from batchrunner.store import holder as statements
from batchrunner.store.cycle import run_cycle
from batchrunner.store.database import Database
from batchrunner.store.driver import DriverConnection
from batchrunner.store.merge import merge_update
from batchrunner.store.opening import open_database
from batchrunner.store.records import Ask, Cycle, CycleResult, Settle
from batchrunner.store.rescue import rescue
from batchrunner.store.runs import driver
from batchrunner.store.stops import end_run, put_back
from tests.unit.stored import NOW, line, loader, run

PENDING, RUNNING = JobState.PENDING, JobState.RUNNING
COMPLETED, FAILED, CANCELLED = JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED

#: What a send can end as: the event, the kind it met, the send log's word (``None``: nothing went out).
ENDS: Final[Sequence[tuple[JobEvent, ErrorKind | None, str | None]]] = (
    (JobEvent.COMPLETE, None, "completed"),
    (JobEvent.RETRY, ErrorKind.SERVER_ERROR, "retry"),
    (JobEvent.FAIL, ErrorKind.INVALID_REQUEST, "failed"),
    (JobEvent.GIVE_BACK, None, None),
    (JobEvent.GIVE_BACK, ErrorKind.RATE_LIMITED, "rate_limited"),
    (JobEvent.GIVE_BACK, ErrorKind.DAILY_LIMIT, "daily_limit"),
    (JobEvent.GIVE_BACK, ErrorKind.OVERLOADED, "outage"),
    (JobEvent.INTERRUPT, ErrorKind.INTERRUPTED, "interrupted"),
)
N_COUNTED: Final = {
    "retry": "n_retried",
    "rate_limited": "n_rate_limited",
    "daily_limit": "n_rate_limited",
    "interrupted": "n_interrupted",
}
_NEW_START: Final = frozenset({JobEvent.COMPLETE, JobEvent.PUT_BACK})
MODELS: Final = ("m-1", "m-2")
#: Units and grains of what is booked.
METERS: Final = (("requests", 250), ("requests", 60_000), ("input_tokens", 60_000))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """What the model knows of a job."""

    key: str
    model: str
    state: JobState = PENDING
    attempts: int = 0
    claims: int = 0
    not_before: int = 0
    wait_reason: str | None = None
    error_kind: str | None = None


class Life(RuleBasedStateMachine):
    """One run of some jobs, and everything that can happen to it."""

    #: Transitions made by any machine.
    reached: ClassVar[set[tuple[JobState, JobEvent]]] = set()

    def __init__(self) -> None:
        """Store a run of six jobs that ask for two models."""
        super().__init__()
        self.rooms = ExitStack()
        self.places = self.rooms.enter_context(self.some_places())
        self.dbs = [open_database(place, create=True) for place in self.places]
        self.now = NOW
        self.used: dict[tuple[int, str, int, int], int] = {}
        self.jobs: dict[JobId, Job] = {}
        self.counts: Counter[str] = Counter()
        self.sends: set[tuple[JobId, int]] = set()
        self.run_state = "ready"
        self.n_updates = 0
        lines = [line(f"k{i}", model=MODELS[i % 2], n=i) for i in range(1, 7)]

        def load(db: Database) -> RunId:
            with loader(db) as begun:
                assert begun.add(lines) == []
                return begun.finish(b"first")

        self.run_id = self.on_all(load)
        for i, job in enumerate(lines, 1):
            self.jobs[JobId(self.run_id << 32 | i)] = Job(job.key, job.model or "")

        def begin(conn: DriverConnection) -> tuple[ScopeId, ScopeId, dict[str, int]]:
            account = scopes.scope_id(
                conn, kind="account", provider="anthropic", key="a", parent_id=None
            )
            pool = scopes.scope_id(
                conn, kind="pool", provider="anthropic", key="p", parent_id=account
            )
            statements.set_account(conn, self.run_id, account)
            models = {name: id_ for id_, name in conn.execute("SELECT id, name FROM model")}
            return account, pool, models

        self.account, self.pool, self.models = self.writing(begin)

    @contextmanager
    def some_places(self) -> Iterator[Sequence[Place]]:
        """Give where there is room for a fresh database, once for each kind."""
        with tempfile.TemporaryDirectory(prefix="life-") as folder:
            yield (Path(folder) / "jobs.db",)

    def teardown(self) -> None:
        """Remove the databases."""
        self.rooms.close()

    # --- helpers

    def on_all(self, act: Callable[[Database], T]) -> T:
        """Do the same on every database; return what all have returned."""
        first, *others = [act(db) for db in self.dbs]
        for other in others:
            assert other == first
        return first

    def writing(self, act: Callable[[DriverConnection], T]) -> T:
        """Do the same on every database in one transaction."""

        def written(db: Database) -> T:
            with db.write() as connection:
                return act(driver(connection))

        return self.on_all(written)

    def reading(self, act: Callable[[DriverConnection], T]) -> T:
        """Read the same of every database."""

        def read(db: Database) -> T:
            with db.read() as connection:
                return act(driver(connection))

        return self.on_all(read)

    def cycle(self, **parts: Any) -> CycleResult:
        """Run one cycle in a transaction of its own."""
        cycle = Cycle(wall=self.now, now=self.now, **parts)
        return self.writing(lambda conn: run_cycle(conn, cycle))

    def move(self, id_: JobId, event: JobEvent, kind: ErrorKind | None = None) -> Job:
        """Let the table say what an event makes of a job."""
        job = self.jobs[id_]
        after = step(job.state, event, kind)
        self.reached.add((job.state, event))
        return replace(
            job,
            state=after.state,
            attempts=job.attempts + after.charged,
            not_before=0,
            wait_reason=after.wait_reason.value if after.wait_reason else None,
            # The last attempt's: kept until another is charged, or the job starts from 0.
            error_kind=None if event in _NEW_START else job.error_kind,
        )

    def ids(self, *states: JobState) -> list[JobId]:
        """Return the jobs in one of these states, in input order."""
        return sorted(id_ for id_, job in self.jobs.items() if job.state in states)

    def settle_of(
        self, id_: JobId, end: tuple[JobEvent, ErrorKind | None, str | None], claim: int, delay: int
    ) -> tuple[Settle, Job]:
        """Return the settle of one end of a send, and what the model makes of the job."""
        event, kind, outcome = end
        job = self.move(id_, event, kind)
        if event is JobEvent.RETRY:
            job = replace(job, not_before=self.now + delay)
        if event in (JobEvent.RETRY, JobEvent.FAIL) and kind is not None:
            job = replace(job, error_kind=kind.value)
        is_over = job.state in (COMPLETED, FAILED)
        charged = event in (JobEvent.COMPLETE, JobEvent.RETRY, JobEvent.FAIL)
        settle = Settle(
            job_id=id_,
            key=job.key,
            attempts=job.attempts,
            started_at=None,
            claim=claim,
            run_id=RunId(self.run_id),
            model_id=ModelId(self.models[job.model]),
            account_id=ScopeId(self.account),
            pool_id=ScopeId(self.pool),
            planned_at=self.now,
            state=job.state.value,
            charged=int(charged),
            not_before=job.not_before,
            wait_reason=job.wait_reason,
            error_kind=job.error_kind,
            finished_at=self.now if is_over else None,
            outcome=outcome,
            kind=kind.value if kind else None,
            sent_at=self.now if outcome else None,
            ended_at=self.now,
            is_attempt=charged,
            body=b"{}" if charged else None,
            input_tokens=3 if event is JobEvent.COMPLETE else None,
        )
        return settle, job

    # --- what the holder does

    @rule(ms=st.sampled_from([1, 500, 70_000]))
    def time_passes(self, ms: int) -> None:
        """Let retries come due."""
        self.now += ms

    @rule(
        model=st.sampled_from(MODELS),
        n=st.integers(1, 5),
        n_due=st.integers(0, 3),
        look_due=st.booleans(),
    )
    def claim(self, model: str, n: int, n_due: int, look_due: bool) -> None:
        """Claim: due retries up to a share, fresh jobs in input order, due ones again."""
        waiting = [(id_, self.jobs[id_]) for id_ in self.ids(PENDING)]
        mine = [(id_, job) for id_, job in waiting if job.model == model]
        fresh = [id_ for id_, job in mine if job.not_before == 0]
        due = [
            id_
            for id_, job in sorted(mine, key=lambda item: (item[1].not_before, item[0]))
            if 0 < job.not_before <= self.now
        ]
        first = due[: min(n_due, n)] if look_due else []
        then = fresh[: n - len(first)]
        last = due[len(first) : n - len(then)] if look_due else []
        expected = {*first, *then, *last}
        ask = Ask(RunId(self.run_id), ModelId(self.models[model]), n, min(n_due, n), look_due)
        (lane,) = self.cycle(asks=[ask], planned=[self.now + i for i in range(n)]).lanes
        assert {job.job_id for job in lane.jobs} == expected
        for claimed in lane.jobs:
            job = self.move(claimed.job_id, JobEvent.CLAIM)
            self.jobs[claimed.job_id] = replace(job, claims=job.claims + 1)
            assert (claimed.claim, claimed.attempts) == (job.claims + 1, job.attempts)
        if look_due:
            later = [job.not_before for job in self.jobs.values() if self.is_held(job, model)]
            assert lane.next_due == min(later, default=None)

    def is_held(self, job: Job, model: str) -> bool:
        """Say whether a job of a model waits for its backoff."""
        return job.model == model and job.state is PENDING and job.not_before > 0

    @rule(
        ms=st.sampled_from([1, 70_000]),
        n=st.integers(1, 5),
        ends=st.lists(st.sampled_from(ENDS), min_size=1, max_size=7),
        delay=st.sampled_from([1, 400, 60_000]),
    )
    def settle(
        self,
        ms: int,
        n: int,
        ends: Sequence[tuple[JobEvent, ErrorKind | None, str | None]],
        delay: int,
    ) -> None:
        """Claim what there is, and settle some of what runs, each in its own way, in one cycle."""
        self.time_passes(ms)
        for model in MODELS:
            self.claim(model, n, (n + 1) // 2, True)
        self.settle_all(list(zip(self.ids(RUNNING), ends, strict=False)), delay=delay)

    def settle_all(
        self,
        ends: Sequence[tuple[JobId, tuple[JobEvent, ErrorKind | None, str | None]]],
        *,
        delay: int = 1,
    ) -> None:
        """Settle jobs; nothing may be lost."""
        settles = []
        for id_, end in ends:
            settle, job = self.settle_of(id_, end, self.jobs[id_].claims, delay)
            settles.append(settle)
            self.jobs[id_] = job
            if end[2] is not None:
                self.counts["n_sent"] += 1
                self.sends.add((id_, job.claims))
            if end[2] in N_COUNTED:
                self.counts[N_COUNTED[end[2]]] += 1
            self.counts["input_tokens"] += settle.input_tokens or 0
        assert self.cycle(settles=settles).lost == []

    @rule(
        scope=st.sampled_from(["account", "pool"]),
        meter=st.sampled_from(METERS),
        slots=st.dictionaries(st.integers(0, 3), st.integers(0, 50), min_size=1),
    )
    def book(self, scope: str, meter: tuple[str, int], slots: dict[int, int]) -> None:
        """Store what slots of the ledger hold now."""
        rows = [DirtySlot(getattr(self, scope), *meter, slot, n) for slot, n in slots.items()]
        self.cycle(usage=rows)
        self.used |= {row[:4]: row.n for row in rows}

    @precondition(lambda self: any(job.claims for job in self.jobs.values()))
    @rule(data=st.data())
    def a_zombie_answers(self, data: st.DataObject) -> None:
        """An answer of an older claim, or to a job that runs no more, changes nothing."""
        ids = sorted(id_ for id_, job in self.jobs.items() if job.claims)
        id_ = data.draw(st.sampled_from(ids))
        job = self.jobs[id_]
        claim = job.claims - 1 if job.state is RUNNING else job.claims
        end = data.draw(st.sampled_from([end for end in ENDS if end[0] is not JobEvent.RETRY]))
        self.jobs[id_] = replace(job, state=RUNNING)
        settle, _ = self.settle_of(id_, end, claim, 1)
        self.jobs[id_] = job
        assert self.cycle(settles=[settle]).lost == [settle]

    @rule()
    def the_holder_dies(self) -> None:
        """The next holder opens the file anew and puts back whatever runs, possibly executed."""
        self.dbs = [open_database(place, create=False) for place in self.places]
        orphans = self.ids(RUNNING)
        rescued = self.writing(
            lambda conn: rescue(conn, now=self.now, wall=self.now, pool_of=lambda _p, _m: "p")
        )
        assert rescued.n_jobs == len(orphans)
        for id_ in orphans:
            job = self.jobs[id_] = self.move(id_, JobEvent.INTERRUPT)
            self.sends.add((id_, job.claims))
            if self.run_state == "cancelled":
                self.jobs[id_] = replace(self.move(id_, JobEvent.CANCEL), error_kind="cancelled")
        self.counts["n_sent"] += len(orphans)
        self.counts["n_interrupted"] += len(orphans)
        if orphans and self.run_state == "cancelled":
            self.cancel_pending()

    @precondition(lambda self: self.ids(FAILED))
    @rule(data=st.data())
    def failures_were_all_alike(self, data: st.DataObject) -> None:
        """The first failures go back when the run stops on them; others named too stay as they are."""
        named = data.draw(st.lists(st.sampled_from(sorted(self.jobs)), min_size=1, unique=True))
        failed = [id_ for id_ in named if self.jobs[id_].state is FAILED]
        n = self.writing(lambda conn: put_back(conn, RunId(self.run_id), named))
        assert n == len(failed)
        for id_ in failed:
            self.jobs[id_] = replace(self.move(id_, JobEvent.PUT_BACK), attempts=0)

    # --- what people do

    @rule()
    def pause(self) -> None:
        """A pause stops a run that is ready, and nothing else."""
        is_stopped = self.on_all(lambda db: commands.pause(db, run(db, self.run_id)))
        assert is_stopped is (self.run_state == "ready")
        if self.run_state == "ready":
            self.run_state = "paused"

    @rule()
    def resume(self) -> None:
        """Resume undoes a pause, and nothing else."""
        if self.run_state == "paused":
            self.run_state = "ready"
        state = self.on_all(lambda db: commands.lift(db, run(db, self.run_id)))
        assert state == self.run_state

    @rule()
    def cancel(self) -> None:
        """Cancel takes what is pending; what runs ends by itself."""
        pending = self.ids(PENDING)
        n = self.on_all(lambda db: commands.cancel(db, run(db, self.run_id), now_ms=self.now))
        assert n == len(pending)
        self.cancel_pending()
        if self.run_state in ("ready", "paused"):
            self.run_state = "cancelled"

    def cancel_pending(self) -> None:
        """Cancel every pending job of the model."""
        for id_ in self.ids(PENDING):
            job = self.move(id_, JobEvent.CANCEL)
            self.jobs[id_] = replace(job, error_kind="cancelled")

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        """Retry puts the chosen failed and cancelled jobs back with attempts from 0."""
        keys = data.draw(st.sampled_from([(), ("k1",), ("k2", "k3", "k6")]))
        chosen = [
            id_ for id_ in self.ids(FAILED, CANCELLED) if not keys or self.jobs[id_].key in keys
        ]
        n = self.on_all(lambda db: commands.retry(db, run(db, self.run_id), JobFilter(keys=keys)))
        assert n == len(chosen)
        for id_ in chosen:
            self.jobs[id_] = replace(self.move(id_, JobEvent.PUT_BACK), attempts=0)
        if self.ids(PENDING, RUNNING):
            self.run_state = "ready"
        elif self.run_state == "cancelled" and not self.ids(CANCELLED):
            self.run_state = "finished"

    @precondition(lambda self: not self.ids(RUNNING) and self.n_updates < 4)
    @rule(is_longer=st.booleans())
    def update(self, is_longer: bool) -> None:
        """``--update`` gives all but completed jobs their new line, attempts from 0; new ones go last."""
        self.n_updates += 1
        n = len(self.jobs) + is_longer
        text = f"text {self.n_updates}"
        lines = [line(f"k{i}", text, model=MODELS[i % 2], n=i) for i in range(1, n + 1)]

        def merged(db: Database) -> object:
            with loader(db, name=f"new-{self.n_updates}") as begun:
                assert begun.add(lines) == []
                return merge_update(
                    db,
                    RunId(self.run_id),
                    begun.run_id,
                    digest=text.encode(),
                    pool_of=lambda _p, _m: "p",
                )

        self.on_all(merged)
        for id_ in self.ids(PENDING, FAILED, CANCELLED):
            self.jobs[id_] = replace(self.move(id_, JobEvent.PUT_BACK), attempts=0)
        if is_longer:
            self.jobs[JobId(self.run_id << 32 | n)] = Job(f"k{n}", MODELS[n % 2])
        if self.run_state in ("finished", "cancelled") and self.ids(PENDING):
            self.run_state = "ready"

    @precondition(lambda self: self.run_state == "ready" and not self.ids(PENDING, RUNNING))
    @rule()
    def the_run_ends(self) -> None:
        """A run with nothing left is finished."""
        self.writing(
            lambda conn: end_run(conn, RunId(self.run_id), None, finished=True, wall=self.now)
        )
        self.run_state = "finished"

    # --- what always holds

    @invariant()
    def the_database_is_the_model(self) -> None:
        """Each job's row is what the model says."""
        rows = self.reading(
            lambda conn: conn.execute(
                "SELECT j.id, j.key, m.name, j.state, j.attempts, j.claims, j.not_before,"
                " j.wait_reason, j.error_kind FROM job j JOIN model m ON m.id = j.model_id"
                " WHERE j.run_id = ? ORDER BY j.id",
                (self.run_id,),
            ).fetchall()
        )
        stored = {row[0]: Job(row[1], row[2], JobState(row[3]), *row[4:]) for row in rows}
        assert stored == self.jobs

    @invariant()
    def what_was_used_is_the_models(self) -> None:
        """Each slot holds what was booked in it last."""
        rows = self.reading(
            lambda conn: conn.execute(
                "SELECT scope_id, unit, grain, slot, n FROM usage_slot ORDER BY 1, 2, 3, 4"
            ).fetchall()
        )
        assert {row[:4]: row[4] for row in rows} == self.used

    @invariant()
    def counters_are_the_jobs(self) -> None:
        """A run's counters are the sums over its jobs and over the send log."""
        found = self.on_all(lambda db: run(db, self.run_id))
        assert found.state == self.run_state
        states = Counter(job.state.value for job in self.jobs.values())
        assert {state: getattr(found.counts, state) for state in JobState} == {
            state: states[state] for state in JobState
        }
        names = ("n_sent", "n_retried", "n_rate_limited", "n_interrupted")
        assert [getattr(found, name) for name in names] == [self.counts[name] for name in names]
        assert (found.input_tokens or 0) == self.counts["input_tokens"]

        def logged(conn: DriverConnection) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
            if isinstance(conn, sqlite3.Connection):
                assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
            sends = conn.execute("SELECT job_id, claim, outcome, kind FROM send ORDER BY 1, 2")
            answered = conn.execute(
                "SELECT job_id FROM response JOIN job ON id = job_id WHERE state = 'completed'"
                " ORDER BY 1"
            )
            return sends.fetchall(), answered.fetchall()

        sends, answered = self.reading(logged)
        assert {row[:2] for row in sends} == self.sends
        assert [row[0] for row in answered] == self.ids(COMPLETED)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


def test_every_transition_is_reached() -> None:
    """Each row of the table of transitions is made by something the store does, and checked."""
    every_transition(Life)


def every_transition(machine: type[Life]) -> None:
    """Make each transition once, in one life."""
    Life.reached.clear()
    life = machine()

    def check(act: Callable[[], object]) -> None:
        act()
        life.the_database_is_the_model()
        life.counters_are_the_jobs()
        life.what_was_used_is_the_models()

    by_event = {end[0]: end for end in reversed(ENDS)}
    try:
        check(lambda: life.book("pool", METERS[0], {1: 2}))
        check(lambda: life.claim("m-1", 3, 0, False))
        check(lambda: life.claim("m-2", 3, 0, False))
        events = (
            JobEvent.COMPLETE, JobEvent.RETRY, JobEvent.FAIL, JobEvent.GIVE_BACK, JobEvent.INTERRUPT,
        )  # fmt: skip
        ends = [by_event[event] for event in events]
        check(lambda: life.settle_all(list(zip(life.ids(RUNNING), ends, strict=False))))
        check(life.the_holder_dies)
        check(lambda: life.update(True))
        check(life.cancel)
        check(lambda: life.update(False))
        check(lambda: life.claim("m-2", 1, 0, False))
        check(
            lambda: life.settle_all([(id_, by_event[JobEvent.FAIL]) for id_ in life.ids(RUNNING)])
        )
        check(lambda: life.update(False))
    finally:
        life.teardown()
    assert Life.reached == set(TRANSITIONS)
