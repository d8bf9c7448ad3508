"""The holder's living picture of the runs it drains.

Everything here is the in-memory side of what the database holds; the database wins whenever the
two could differ (a new holder starts from it alone).
"""

from __future__ import annotations

import asyncio
import shlex
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any, Final, Literal, Protocol

from batchrunner.core.adaptive import START, Adaptive
from batchrunner.core.admission import Blocked, Grant, ScopeLedger
from batchrunner.core.caps import MINUTE_MS, RPM
from batchrunner.core.expected import Expected
from batchrunner.core.warmth import Warmth
from batchrunner.engine.company import Company
from batchrunner.engine.handoff import Handoff
from batchrunner.engine.purse import Purse
from batchrunner.engine.streak import Streak
from batchrunner.engine.time_use import TimeUse
from batchrunner.engine.token_estimates import Ahead
from batchrunner.engine.wire import Wire
from batchrunner.models import (
    ErrorKind,
    JobCounts,
    JobId,
    JobState,
    ModelId,
    Reply,
    Request,
    RunId,
    Waiting,
)
from batchrunner.providers.pricing import Listed
from batchrunner.store.codecs import Answers
from batchrunner.store.holder import RunRow
from batchrunner.store.records import ClaimedJob, Delta, TimeSum
from batchrunner.views import RequestCounts

#: ``-c auto`` never allows less than the first, and never more than the last of them. Where a limit on
#: requests is known, as many as it can use go at once, up to the second: more has to prove itself.
AUTO_LEAST: Final = 8
AUTO_KNOWN: Final = 64
AUTO_MOST: Final = 1_000
#: ``-c auto`` has at most about so many bytes of requests in flight: all are in memory.
AUTO_BYTES: Final = 128 * 1024 * 1024


@dataclass(slots=True, kw_only=True, eq=False)
class Lane:
    """The jobs of one run that ask for one model: the unit that is claimed from."""

    model_id: ModelId
    model: str
    pool: ScopeLedger
    #: Whether jobs that were never held back may be left.
    fresh: bool = True
    #: Earliest instant (steady ms) at which a held-back retry is due; ``None``: there is none.
    next_due: float | None = None
    #: Whether retries go before fresh jobs: in turn, claim by claim.
    due_turn: bool = True
    #: Who was first after the last pause, and which that was. The first may find the only room there is.
    due_opened: bool = False
    pauses_seen: int = 0
    #: Why the last plan could not send from it.
    blocked: Blocked | None = None
    #: Its next jobs in the order of their claim, where a limit asks what they take; ``None``: to be
    #: looked up.
    ahead: deque[Ahead] | None = None
    #: When a retry falls due that is not among them.
    ahead_until: float | None = None
    #: Whether what they take was reckoned, since a limit asked for it.
    ahead_is_charged: bool = True
    #: What is in the provider's cache, in a run that goes in its order; ``None``: it does not.
    warmth: Warmth | None = None
    #: Since when a token limit holds its first job back (steady ms).
    held_since: float | None = None

    def forget_ahead(self) -> None:
        """Have the next jobs looked up anew: others may come before them."""
        self.ahead = self.ahead_until = None
        if self.warmth is not None:
            self.warmth.is_stalled = False

    def is_blocked(self, now: float) -> bool:
        """Whether nothing that is known lets it send yet, as the last plan found."""
        blocked = self.blocked
        return blocked is not None and (blocked.until is None or blocked.until > now)

    @property
    def is_stalled(self) -> bool:
        """Whether all its jobs wait for one that warms the cache."""
        return self.warmth is not None and self.warmth.is_stalled

    def is_ready(self, now: float) -> bool:
        """Whether it may have a job to claim at ``now``."""
        if self.is_stalled:
            return self.ahead_until is not None and self.ahead_until <= now
        return (
            self.fresh or bool(self.ahead) or (self.next_due is not None and self.next_due <= now)
        )


@dataclass(slots=True, kw_only=True, eq=False)
class Claim:
    """One claimed job on its way through a sender."""

    run: LiveRun
    lane: Lane
    job: ClaimedJob
    request: Request
    grant: Grant
    #: The ledger's version when the grant was given.
    version: int
    #: Whether the grant is still booked in the ledger.
    is_booked: bool = True
    #: Real instants of the send, steady and wall ms; 0 until its first byte may be out.
    sent_at: float = 0.0
    sent_wall: int = 0


Fate = Literal["replied", "unsent", "interrupted"]


@dataclass(slots=True, kw_only=True, eq=False)
class Outcome:
    """What became of one claim."""

    claim: Claim
    fate: Fate
    reply: Reply | None = None
    ended_at: float = 0.0
    ended_wall: int = 0
    #: Why the answer is not what the run expects; ``None``: it is, or nothing is expected.
    unmet: str | None = None


@dataclass(slots=True, kw_only=True)
class CallLimits:
    """What one call that asked for a run brings: its bounds (in seconds), its configuration."""

    max_wait_s: float | None
    #: Steady ms at which ``--max-time`` ends.
    deadline: float | None = None
    #: What holds where the run's own options say nothing.
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Refused:
    """What one job's 429s tell of it, beside what became of the others meanwhile."""

    #: Refused so often in all, and so often with a success of another since the last time.
    n: int = 0
    n_alone: int = 0
    #: The run's successes and refusals at its first 429, its successes at its last.
    successes_before: int
    refusals_before: int
    successes_seen: int = -1


@dataclass(slots=True, eq=False)
class LiveRun:
    """One run that this holder drains."""

    row: RunRow
    wire: Wire
    account: ScopeLedger
    limits: CallLimits
    #: Asked for by this very process, which reports its end.
    is_own: bool
    #: The process whose call's bounds it is drained under.
    asked_by: int
    lanes: dict[ModelId, Lane] = field(default_factory=dict)
    holds: dict[ModelId, tuple[str, str, str]] = field(default_factory=dict)
    counts: JobCounts = field(default_factory=JobCounts)
    requests: RequestCounts = field(default_factory=RequestCounts)
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    #: What its models cost, by the name asked for and the one that answered.
    prices: dict[tuple[ModelId, str | None], Listed] = field(default_factory=dict)
    #: The money it may spend (``--max-cost``); ``None``: nobody bounds it.
    purse: Purse | None = None
    priority: int = 0
    max_attempts: int = 5
    #: What answers have to be (``--expect-json``); ``None``: anything.
    expected: Expected | None = None
    #: ``-c``; :meth:`tell` changes it.
    concurrency: int | Literal["auto"] = "auto"
    #: How many connections this process may have open.
    connections: int = AUTO_MOST
    #: How many may be in flight, as far as trouble and trying tell.
    adaptive: Adaptive = field(default_factory=lambda: Adaptive(most=AUTO_MOST))
    #: Nothing but that bound kept the last plan from claiming more.
    is_full: bool = False
    #: How many bytes a request has, about.
    request_bytes: float = 0.0
    max_failures: str | None = None
    #: Only its sample goes out (``--sample``): jobs that are due, and no fresh ones.
    is_sample: bool = False
    #: It goes in the order of the provider's cache (``--cache-order``).
    is_cache_ordered: bool = False
    #: Jobs that have failed and whose failure is not committed yet.
    failing: int = 0
    #: A person said how many requests a minute, or that there is no such limit.
    is_rate_told: bool = False

    #: What its requests were compressed with, by id; none: all are plain.
    codecs: Mapping[int, bytes] = field(default_factory=dict)
    #: How its answers are kept compressed; ``None``: they are not.
    answers: Answers | None = None

    queue: Handoff[Claim] = field(default_factory=Handoff)
    senders: set[asyncio.Task[None]] = field(default_factory=set)
    #: Of them, those that were sent home and have not gone yet.
    n_leaving: int = 0
    #: Claimed and not yet back (sleeping, queued or on the wire).
    outstanding: int = 0
    #: On the wire.
    in_flight: int = 0

    #: A job was answered since this call began; until then one goes at a time.
    proved: bool = False
    streak: Streak = field(default_factory=Streak)
    #: How long answers took, an exponential mean in ms.
    latency_ms: float | None = None

    #: The first distinct failures while no job has ever completed: kind and status.
    first_failures: dict[JobId, tuple[ErrorKind, int | None]] = field(default_factory=dict)
    #: Jobs that met a 429 and have not succeeded since.
    refused: dict[JobId, Refused] = field(default_factory=dict)
    successes: int = 0
    #: 429s since this call began.
    refusals: int = 0

    #: Why it stops, or stopped, with work left.
    stop: Waiting | None = None
    #: Left to another process: nothing new of it goes out here.
    is_left: bool = False
    #: What it waits for while it lives.
    waiting: Waiting | None = None
    ended: bool = False
    started_at: float = 0.0
    #: Where its time goes.
    times: TimeUse = field(init=False)
    #: The other workers on it; ``None``: this process sends alone.
    company: Company | None = None
    #: Another worker has ended it, and stored why.
    is_ended_elsewhere: bool = False
    #: Who asked for it when it was let go here.
    askers: frozenset[int] = frozenset()
    #: This process tells the database how the run stands and where its time goes: of the workers that
    #: send it one does.
    tells: bool = True
    #: What it has told that the run waits for.
    told: Waiting | None = None
    recent_errors: deque[tuple[int, str, str, str]] = field(default_factory=lambda: deque(maxlen=5))
    #: Steady ms of recent sends, and of others' answers, for the rate shown.
    sends: deque[float] = field(default_factory=lambda: deque(maxlen=4096))

    def __post_init__(self) -> None:
        """Begin to count its time."""
        self.times = TimeUse(self.started_at)

    def take_times(self, now: float, wall: float) -> Sequence[TimeSum]:
        """Return what its time went into since it was last asked for, if that is to be stored here."""
        sums = self.times.take(self, now, wall)
        return sums if self.tells else ()

    def tell(self, concurrency: int | Literal["auto"], connections: int = AUTO_MOST) -> None:
        """Put ``-c`` in force, also while it runs; what more there is to try begins at what there is."""
        self.connections = connections
        if concurrency == self.concurrency:
            return
        self.concurrency = concurrency
        start = max(START, self.adaptive.bound)
        is_typed = concurrency != "auto"
        most = min(AUTO_MOST if concurrency == "auto" else concurrency, connections)
        self.adaptive = Adaptive(most=most, start=start, is_typed=is_typed)

    def review(self) -> None:
        """Hold the bound to what limits, memory and files allow by now; once a plan."""
        adaptive = self.adaptive
        if self.concurrency != "auto":
            adaptive.most = min(self.concurrency, self.connections)
            if self.knows_rate:
                adaptive.begin_at(adaptive.most)
            return
        most = min(AUTO_MOST, self.connections)
        if self.request_bytes:
            most = min(most, max(AUTO_LEAST, int(AUTO_BYTES / self.request_bytes)))
        rates = [
            limit.n / MINUTE_MS
            for scope in (self.account, *(lane.pool for lane in self.lanes.values()))
            for limit in scope.limits
            if limit.name == RPM
        ]
        if rates and self.latency_ms is not None:
            # Little's law, and half as much again: latencies vary and a late send wastes its instant.
            most = min(most, max(AUTO_LEAST, ceil(1.5 * min(rates) * self.latency_ms)))
        adaptive.most = most
        if rates:
            adaptive.begin_at(AUTO_KNOWN)

    def in_flight_bound(self) -> int:
        """Return how many requests may be in flight now."""
        if self.streak.is_outage or not self.proved:
            return 1
        return min(self.adaptive.bound, self.adaptive.most)

    @property
    def allowed(self) -> int:
        """How many a person has allowed in flight, or how many are found to help by now."""
        adaptive = self.adaptive
        if self.concurrency == "auto":
            return min(adaptive.bound, adaptive.most)
        return adaptive.most

    def send_home(self) -> None:
        """Have senders leave that are more than the bound, before they take another claim."""
        adaptive = self.adaptive
        n = len(self.senders) - self.n_leaving - min(adaptive.bound, adaptive.most)
        if n > 0:
            self.n_leaving += n
            self.queue.dismiss(n)

    def sender_left(self, task: asyncio.Task[None]) -> None:
        """Take note of a sender's end."""
        self.senders.discard(task)
        self.n_leaving = max(0, self.n_leaving - 1)

    @property
    def knows_rate(self) -> bool:
        """Whether a person or a response said how many requests a minute are allowed."""
        return self.is_rate_told or any(lane.pool.limits for lane in self.lanes.values())

    def room(self, now: float) -> int:
        """Return how many more jobs may be claimed.

        As many again as may be in flight are claimed ahead, so that no sender waits for a commit;
        fewer, where outcomes wait for the end of a streak: to a crash their jobs are in flight.
        """
        if self.streak.is_outage and now < self.streak.probe_at:
            return 0
        bound = self.in_flight_bound()
        ahead = 0 if self.streak.is_outage or not self.proved else bound
        room = bound + max(0, ahead - self.streak.n_open) - self.outstanding
        if self.company is not None:
            room = self.company.room(room, now)
        return room if self.purse is None else self.purse.room(room)

    def move(self, delta: Delta) -> None:
        """Take what a committed cycle changed into the counts."""
        jobs, sends = self.counts, self.requests
        self.counts = JobCounts(
            pending=jobs.pending + delta.pending,
            running=jobs.running + delta.running,
            completed=jobs.completed + delta.completed,
            failed=jobs.failed + delta.failed,
            cancelled=jobs.cancelled,
        )
        self.failing -= delta.failed
        self.requests = RequestCounts(
            sent=sends.sent + delta.sent,
            retried=sends.retried + delta.retried,
            rate_limited=sends.rate_limited + delta.rate_limited,
            interrupted=sends.interrupted + delta.interrupted,
        )
        if delta.input_tokens is not None:
            self.input_tokens = (self.input_tokens or 0) + delta.input_tokens
        if delta.output_tokens is not None:
            self.output_tokens = (self.output_tokens or 0) + delta.output_tokens
        if delta.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + delta.cost_usd

    def see(self, counts: JobCounts, now: float) -> None:
        """Take the counts of all who send it; what others had answered meanwhile is of the rate too."""
        n_others = counts.completed + counts.failed - self.counts.completed - self.counts.failed
        self.sends.extend([now] * min(n_others, self.sends.maxlen or 0))
        self.counts = counts

    @property
    def id(self) -> RunId:
        """The run's id."""
        return self.row.id

    @property
    def typed_name(self) -> str:
        """The run's name as a shell takes it, for the commands of fixes."""
        return shlex.quote(self.row.name)

    @property
    def is_stopping(self) -> bool:
        """Whether nothing new of it may go out."""
        return self.stop is not None or self.ended or self.is_left

    def add(self, state: JobState, n: int) -> None:
        """Move ``n`` jobs into (or out of) a state's count."""
        self.counts = replace(self.counts, **{state.value: getattr(self.counts, state.value) + n})


class WireFactory(Protocol):
    """Makes the way to a run's provider."""

    def __call__(self, row: RunRow, on_headers: Callable[[Claim], Awaitable[None]]) -> Wire:
        """Return it; raises ``RefusedError`` or ``UsageError`` where this process has no key.

        ``on_headers`` is asked right before a limited send's first byte.
        """
        ...
