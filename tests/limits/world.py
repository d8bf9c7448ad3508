"""A story played: processes that come, go and die on one database, against one provider, for days.

Real: sessions (:func:`run_session`) with their locks, hand-overs and followers, the holder, its
planner, ledger, gate, judge and senders, every statement, and SQLite with its file. Not real: the
event loop's time, the two clocks, the thread of the holder's connection (and its syncs), the network
and the provider behind it; and looks around for what other processes do are rarer, as a story says.

All processes of a story are tasks of one loop, with locks, connections and clocks of their own. One
that is killed settles nothing and gives nothing back: its connection is rolled back, what
it wrote to the network arrives, and the kernel drops its locks. Reading files, options and keys, HTTP
and TLS have no part in it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from signal import Signals
from typing import Any, Final, Literal, NamedTuple
from unittest import mock

import msgspec

from batchrunner import clock
from batchrunner.core.credentials import Secrets
from batchrunner.engine import follow, holder, session
from batchrunner.engine.stops import Stops
from batchrunner.engine.wire import Wire
from batchrunner.models import JobLine, RunId, Shape, StoredRunState
from batchrunner.options import NO_END, CallOptions, LimitOptions
from batchrunner.providers import BUILT_IN
from batchrunner.store import processes
from batchrunner.store.caps import scope_for, store_limits
from batchrunner.store.database import Database
from batchrunner.store.holder import RunRow
from batchrunner.store.load import Loader
from batchrunner.store.runs import all_runs
from batchrunner.store.sqlite.database import FileDatabase
from tests.limits.provider import CLEAR, Provider, Seen, Way, Weather, Window
from tests.limits.virtual import Killed, VirtualDatabase, VirtualLoop, VirtualTime, commit_times

__all__ = ["Death", "Played", "RunOf", "Story", "Told", "play"]

_PROVIDER: Final = "anthropic"
_KEY: Final = "a-key"


class Told(NamedTuple):
    """The limits that hold from some moment on; ``None``: there is no such limit."""

    rpm: int | None = None
    rpd: int | None = None
    zone: str = "UTC"
    interval_s: float = 0.0
    #: Nobody types the minute's limit: headers name it.
    learned: bool = False
    #: Input tokens a minute.
    itpm: int | None = None

    @property
    def options(self) -> LimitOptions:
        """As a person would type them, all of them."""
        return LimitOptions(
            rpm="auto" if self.learned else "none" if self.rpm is None else self.rpm,
            rpd="none" if self.rpd is None else self.rpd,
            day_resets=self.zone,
            min_interval_s=self.interval_s,
            itpm="none" if self.itpm is None else self.itpm,
        )


class RunOf(NamedTuple):
    """A run that is submitted some seconds into the story."""

    at: float
    n_jobs: int
    priority: int = 0
    models: tuple[str, ...] = ("claude-a",)
    #: How many words its requests have, in turn; none: no text at all.
    words: tuple[int, ...] = ()


class Death(NamedTuple):
    """How processes end some seconds into the story; another is started a while later."""

    at: float
    #: ``stop`` is Ctrl-C, ``kill`` is SIGKILL, ``sleep`` is the machine's suspension for ``gap``.
    how: Literal["stop", "kill", "sleep"]
    gap: float
    #: Whether only the one that sends ends, so that a follower takes over.
    only_holder: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What happens, and when; seconds count from ``begins``, an instant of the server's clock."""

    name: str
    begins: float
    days: float
    #: The limits in force, by when they were said; the first at 0.
    told: tuple[tuple[float, Told], ...]
    runs: tuple[RunOf, ...]
    deaths: tuple[Death, ...] = ()
    weather: Weather = CLEAR
    #: Makes the server's own limits, anew for each play.
    windows: Callable[[], tuple[Window, ...]] = tuple
    #: How far (ms) our calendar is ahead of the server's.
    skew: float = 0.0
    #: When our calendar is set, and to what it is ahead (ms) from then on.
    steps: tuple[tuple[float, float], ...] = ()
    #: How often processes look for what others changed (seconds); the product's is 0.25.
    look_s: float = 10.0
    #: How often a follower looks whether the lock is free (seconds); the product's is 0.25.
    follow_s: float = 60.0
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What the judge is given: what the server saw, and what it was to be held against."""

    story: Story
    log: list[Seen]
    #: Each a time (server's epoch seconds): processes ended (or slept), and began (or woke).
    ended: list[tuple[float, Death]]
    began: list[float]
    #: Limits by when they were said, epoch seconds.
    told: list[tuple[float, Told]]
    ends: float
    n_failed: int
    n_completed: int


def play(story: Story, folder: Path) -> Played:
    """Play a story in an empty folder."""
    loop = VirtualLoop(story.begins)
    with closing(loop), _on(story, loop) as machine:
        stage = _Stage(story, loop, machine, folder / "days.db")
        loop.run_until_complete(stage.direct())
        return stage.played()


@contextmanager
def _on(story: Story, loop: VirtualLoop) -> Iterator[VirtualTime]:
    """Have sessions read the virtual clock, and look around as seldom as the story wants."""
    random.seed(f"engine {story.name} {story.seed}")  # what spreads pauses and backoff
    with ExitStack() as stack:
        machine = VirtualTime(loop, story.skew / 1000.0)
        stack.enter_context(mock.patch.object(clock, "time", machine))
        stack.enter_context(mock.patch.object(holder, "LOOK_S", story.look_s))
        stack.enter_context(mock.patch.object(follow, "LOOK_S", story.follow_s))
        yield machine


@dataclass(slots=True, eq=False)
class _Process:
    """One call of ``submit`` or ``resume``."""

    db: VirtualDatabase
    stops: Stops
    ways: list[Way] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def kill(self) -> None:
        self.db.kill()
        for way in self.ways:
            way.kill()
        assert self.task is not None
        self.task.cancel()


class _Stage:
    """Where a story happens."""

    def __init__(self, story: Story, loop: VirtualLoop, machine: VirtualTime, path: Path) -> None:
        self._story, self._loop, self._machine, self._path = story, loop, machine, path
        self._provider = Provider(
            weather=story.weather,
            rand=random.Random(f"server {story.name} {story.seed}"),
            windows=story.windows(),
        )
        self._commit_s = commit_times(random.Random(f"disk {story.name} {story.seed}"))
        self._db = FileDatabase.open(path, create=True)
        self._scope = scope_for(self._db, _PROVIDER, _KEY)
        self._processes: list[_Process] = []
        self._n_born = 0
        self._ended: list[tuple[float, Death]] = []
        self._began: list[float] = []
        self._told: list[tuple[float, Told]] = []

    async def direct(self) -> None:
        """Let everything happen in its time."""
        story = self._story
        events: list[tuple[float, int, Callable[[], Any]]] = []
        for order, (at, told) in enumerate(story.told):
            events.append((at, order, partial(self._tell, told)))
        for order, (at, skew) in enumerate(story.steps, 50):
            events.append((at, order, partial(setattr, self._machine, "skew_s", skew / 1000.0)))
        for order, run in enumerate(story.runs, 100):
            events.append((run.at, order, partial(self._submit, run)))
        for order, death in enumerate(story.deaths, 1000):
            events.append((death.at, order, partial(self._die, death)))
            if death.how != "sleep":
                events.append((death.at + death.gap, order, self._resume))
        for at, _, act in sorted(events, key=lambda event: event[:2]):
            await asyncio.sleep(story.begins + at - self._loop.time())
            act()
        await asyncio.sleep(story.begins + story.days * 86_400 - self._loop.time())
        for process in self._processes:
            process.kill()
        tasks = [process.task for process in self._processes if process.task is not None]
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
                raise result

    def played(self) -> Played:
        """Return what is judged."""
        with self._db.read() as connection:
            runs = all_runs(connection)
        return Played(
            story=self._story,
            log=sorted(self._provider.log),
            ended=self._ended,
            began=self._began,
            told=self._told,
            ends=self._loop.time(),
            n_failed=sum(run.counts.failed for run in runs),
            n_completed=sum(run.counts.completed for run in runs),
        )

    # --- what happens

    def _wall(self) -> int:
        return int(self._machine.time() * 1000)

    def _tell(self, told: Told) -> None:
        store_limits(self._db, self._scope, told.options, now_ms=self._wall())
        self._told.append((self._loop.time(), told))

    def _submit(self, run: RunOf) -> None:
        number = sum(other.at <= run.at for other in self._story.runs)
        self._start([_load(self._db, number, run, self._wall())])

    def _resume(self) -> None:
        with self._db.read() as connection:
            runs = all_runs(connection)
        if left := [run.id for run in runs if run.state is StoredRunState.READY]:
            self._start(left)

    def _die(self, death: Death) -> None:
        self._ended.append((self._loop.time(), death))
        if death.how == "sleep":
            self._loop.skip(death.gap)
            self._began.append(self._loop.time())
            return
        for process in list(self._processes):
            if death.only_holder and not process.db.sends:
                continue
            if death.how == "kill":
                process.kill()
            else:
                process.stops.ask(Signals.SIGINT)

    def _start(self, run_ids: list[RunId]) -> None:
        processes.sweep_dead_processes(self._db)
        process = _Process(VirtualDatabase(self._path, self._commit_s), Stops())
        self._processes.append(process)
        self._began.append(self._loop.time())
        self._n_born += 1
        process.task = self._loop.create_task(self._live(process, run_ids, self._n_born))
        process.task.add_done_callback(lambda _: self._processes.remove(process))

    async def _live(self, process: _Process, run_ids: list[RunId], number: int) -> None:
        me = processes.register_process(process.db, "follower", now_ms=self._wall())

        def wires(row: RunRow, on_headers: Callable[[Any], Any]) -> Wire:
            seed = f"{self._story.name} {self._story.seed} {number}"
            way = Way(self._provider, self._loop, on_headers, seed)
            process.ways.append(way)
            return Wire(
                profile=BUILT_IN.profile(_PROVIDER),
                base_url="http://127.0.0.1",
                headers={},
                secrets=Secrets(),
                transport=way,
                account_key=_KEY,
                fill=_unfilled,
            )

        try:
            await session.run_session(
                process.db,
                {run_id: {} for run_id in run_ids},
                ways={run_id: {} for run_id in run_ids},
                call=CallOptions(max_wait_s=NO_END),
                wires=wires,
                stops=process.stops,
                listener=None,
                process=me,
            )
        except Killed:
            pass
        finally:
            if self._is_dead(process):
                me.lock.release()
            else:
                processes.unregister(process.db, me)

    @staticmethod
    def _is_dead(process: _Process) -> bool:
        return any(way._is_dead for way in process.ways) or process.task.cancelling() > 0  # type: ignore[union-attr]


def _unfilled(headers: Mapping[str, str]) -> Mapping[str, str]:
    return headers


def _load(db: Database, number: int, run: RunOf, now_ms: int) -> RunId:
    """Store a run as ``submit`` does; keys are unlike over all runs, and name theirs."""
    loader = Loader(
        db,
        name=f"run-{number}",
        uid=f"{number:05x}",
        provider=_PROVIDER,
        options_json="{}",
        priority=run.priority,
        now_ms=now_ms,
        loader_process_id=number,
    )
    with loader as begun:
        for start in range(0, run.n_jobs, 10_000):
            some = range(start, min(start + 10_000, run.n_jobs))
            begun.add([_line(number, job, run) for job in some])
        return begun.finish(b"%d" % number)


def _line(number: int, job: int, run: RunOf) -> JobLine:
    model = run.models[job % len(run.models)]
    key = f"{number}-{job}"
    body: dict[str, Any] = {
        "model": model, "max_tokens": 9, "messages": [], "metadata": {"user_id": key},
    }  # fmt: skip
    if run.words:
        # In another order each time around, so that sizes come in no pattern.
        n_words = run.words[(job * 7919 + job // len(run.words)) % len(run.words)]
        body["messages"] = [{"role": "user", "content": "word " * n_words}]
    return JobLine(
        key=key, model=model, body=msgspec.json.encode(body), shape=Shape.BODY, file="days.jsonl",
        line=job + 1,
    )  # fmt: skip
