"""What a person is shown: rows of the views, live progress, and events.

Field names are the JSON keys of CONTRACT §6. Instants are epoch milliseconds on the wall clock;
the command line turns them into RFC 3339 or into words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from batchrunner.models import JobCounts, RunState, Waiting


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """The live process that drains a run."""

    pid: int
    host: str
    user: str
    since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerView:
    """A live worker of a queue, and what it has of one run."""

    pid: int
    host: str
    user: str
    since: int
    #: When it was last heard of, by the server's clock, and how long ago that was.
    beat_at: int | None
    beat_age_ms: int
    #: What it was started with (``--tags``).
    tags: Sequence[str] = ()
    #: Jobs that it has claimed.
    in_flight: int = 0
    #: Jobs that it brought to an end.
    answered: int = 0
    #: Of all that workers brought to an end, those that are gone included; ``None``: nothing yet.
    share: float | None = None
    #: Why it leaves the run to others; ``None``: it does not.
    leaves: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCounts:
    """Sends of a run, by what became of them."""

    sent: int = 0
    retried: int = 0
    rate_limited: int = 0
    interrupted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitView:
    """One limit in force."""

    #: The account's name, or ``account/pool`` for a learned limit of a model's pool.
    scope: str
    #: ``rpm``, ``rpd``, ``min_interval``.
    limit: str
    #: ``None``: none.
    value: float | None
    #: ``flag``, ``header``, ``default``.
    source: str
    used: int | None
    remaining: int | None
    resets_at: int | None
    #: For day limits.
    zone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetView:
    """What is spent and left of one bound of ``[budget]``, over all runs of the database."""

    #: ``day`` or ``month``, of UTC.
    unit: str
    amount_usd: float
    #: What answers cost.
    spent_usd: float
    #: What requests may have cost whose answers were lost.
    lost_usd: float
    left_usd: float
    resets_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SaidView:
    """One of a provider's limits in its own words, from the headers of its last answer."""

    #: ``account/pool``.
    scope: str
    #: ``requests``, ``input-tokens`` …
    what: str
    limit: str | None
    remaining: str | None
    resets_at: int | None
    #: When the answer came.
    said_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageView:
    """What was used, told apart by those of the first five fields that are not ``None``."""

    #: A UTC day, ``2026-11-23``.
    day: str | None = None
    model: str | None = None
    run: str | None = None
    #: The organization that responses name, else the credential's fingerprint or what was typed.
    account: str | None = None
    provider: str | None = None
    requests: int
    #: Of these, those that were answered 429.
    rate_limited: int
    #: ``None``: no answer told any.
    input_tokens: int | None
    output_tokens: int | None
    #: ``None``: not known.
    cost_usd: float | None
    #: What of the input was read from providers' caches, and what was written to them.
    cache_read_tokens: int | None = 0
    cache_write_tokens: int | None = 0
    #: What that saved; below 0 where writing cost more than reading saved. ``None``: not known.
    cache_saved_usd: float | None = None
    #: Seconds in which a limit, a pause, an outage or a backoff held a run back, by cause, the longest
    #: first; ``None`` where rows are told apart by model: a run waits, not a model.
    waits: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """One run: a row of ``runs`` and the whole of ``status``."""

    id: str
    name: str
    state: RunState
    provider: str
    created_at: int
    started_at: int | None = None
    finished_at: int | None = None
    runner: Runner | None = None
    #: Who drains the queue that the run is on; none on a file.
    workers: Sequence[WorkerView] = ()
    #: What a worker needs to take the run (``--tags``).
    tags: Sequence[str] = ()
    jobs: JobCounts = JobCounts()
    requests: RequestCounts = RequestCounts()
    waiting: Waiting | None = None
    limits: Sequence[LimitView] = ()
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    requests_per_minute: float | None = None
    #: When it should be done.
    eta: int | None = None
    #: Jobs that a hold keeps back: model → message.
    holds: Mapping[str, str] = field(default_factory=dict)
    #: Sends whose answer was lost though the provider may have acted on them.
    maybe_executed: int = 0
    n_rejected: int = 0

    @property
    def why_left(self) -> Sequence[tuple[str, int]]:
        """Why no worker takes it though it is ready, and how many have that reason; the most frequent first."""
        if self.state is not RunState.READY or self.waiting is not None:
            return ()
        reasons = [worker.leaves for worker in self.workers if worker.leaves is not None]
        return Counter(reasons).most_common() if len(reasons) == len(self.workers) else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """One job with the CSV's columns."""

    key: str
    status: str
    attempts: int
    http_status: int | None = None
    error_kind: str | None = None
    error_message: str | None = None
    model: str | None = None
    output_text: str | None = None
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    latency_ms: int | None = None
    request_id: str | None = None
    started_at: int | None = None
    finished_at: int | None = None
    #: JSON object, as it was given.
    metadata: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendView:
    """One request on the wire: a row of the send log."""

    claim: int
    planned_at: int
    sent_at: int | None
    ended_at: int | None
    #: ``None`` while in flight.
    outcome: str | None
    kind: str | None
    http_status: int | None
    request_id: str | None
    message: str | None
    maybe_executed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetail:
    """One job whole: request, response, every send."""

    job: JobView
    method: str
    url: str | None
    #: ``None`` where it was pruned.
    request: bytes | None
    response: bytes | None
    sends: Sequence[SendView]
    not_before: int | None = None
    wait_reason: str | None = None
    #: Whether ``db prune --bodies`` took request and response away.
    is_pruned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Failures whose messages differ in nothing but what is each job's own."""

    count: int
    example_key: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorGroup:
    """Failures of one kind and status, or the jobs of a model that is held back."""

    kind: str
    http_status: int | None
    count: int
    #: Of the most frequent cause.
    example_key: str
    example_message: str
    fix: str
    first_at: int | None = None
    last_at: int | None = None
    #: The most frequent first, at most ten.
    causes: Sequence[Cause] = ()
    n_causes: int = 1
    #: The model whose jobs wait; ``None``: these jobs have failed.
    held_model: str | None = None


class CheckStatus(StrEnum):
    """How one check of ``doctor`` came out."""

    OK = "ok"
    #: Nothing is broken, and something should be known or mended.
    WARN = "warn"
    #: A run would stop on this.
    FAIL = "fail"
    #: It could not be looked at; the detail says why.
    SKIP = "skip"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckView:
    """One check of ``doctor``."""

    check: str
    status: CheckStatus
    #: What was found, in a sentence.
    detail: str
    #: What to do; empty where nothing is to be done.
    fix: str = ""
    #: How long it took; ``None`` where it took no time of its own.
    took_ms: float | None = None
    #: Which of several addresses it is about; ``None``: this machine.
    base_url: str | None = None
    #: Which of several proxies leads there; ``None``: the only way, or the first.
    proxy: str | None = None
    #: What a failure makes ``doctor`` exit with (CONTRACT §4).
    exit_code: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLine:
    """What became of the jobs that ask for one model."""

    #: Empty: they name none.
    model: str
    jobs: int
    completed: int
    failed: int
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of a run's time."""

    at: int
    #: Sends that ended in it: with an answer, with the job's failure, with another try to come.
    completed: int
    failed: int
    again: int
    #: How many were under way, on average.
    in_flight: float
    #: How long none was, in seconds.
    idle_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """How long answers took, in milliseconds, right to 5 %."""

    p50: float
    p90: float
    p99: float
    longest: float
    #: (from, to, answers) on a logarithmic scale.
    bars: Sequence[tuple[float, float, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What went out and came back over a run's time."""

    began_at: int
    ended_at: int
    #: How long a span is.
    width_s: float
    spans: Sequence[Span]
    #: How long nothing was under way, in seconds.
    idle_s: float
    #: Kind or outcome → sends, the most frequent first.
    outcomes: Mapping[str, int]
    latencies: Latencies | None
    #: (key, milliseconds) of the answers that took longest.
    slowest: Sequence[tuple[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePart:
    """Time of a run that went into one cause."""

    #: One of :mod:`batchrunner.core.time_use`, and of which kind it is.
    cause: str
    kind: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitView:
    """A wait that was told, or a time in which nobody ran the run; alike ones close together are one."""

    cause: str
    #: What was told of it, in a sentence; may be empty.
    detail: str
    began_at: int
    #: ``None``: it goes on.
    ended_at: int | None
    #: How many there were, and how long they took in all.
    times: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeView:
    """A run's time and what it went into: the parts sum to the whole."""

    began_at: int
    #: The run's end, now, or up to when it is known.
    ended_at: int
    #: When the last process that ran it was last heard of, where it left without a word.
    died_at: int | None = None
    #: The largest first.
    parts: Sequence[TimePart]
    #: The longest first, at most ten.
    waits: Sequence[WaitView]
    n_waits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Why a run or a job is where it is, and what to do next."""

    #: A word: ``paused``, ``held``, ``retry``, ``daily_limit`` …
    reason: str
    #: One sentence.
    detail: str
    #: When it changes by itself; ``None``: not known, or only a person can.
    until: int | None = None
    #: A command, or what to mend before it.
    next: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A step in a job's life."""

    at: int
    what: str
    detail: str = ""
    took_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStory:
    """One job: why it is not done, and its life until now."""

    key: str
    status: str
    standing: Standing
    moments: Sequence[Moment]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainView:
    """Where a run's time went and why it is not done; the same of one job."""

    run: RunView
    standing: Standing
    #: ``None``: nobody has run it yet.
    time: TimeView | None
    #: What would have made it faster; empty where nothing would.
    advice: str = ""
    job: JobStory | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportView:
    """A run as one page."""

    run: RunView
    made_at: int
    models: Sequence[ModelLine]
    errors: Sequence[ErrorGroup]
    #: ``None``: nothing was sent.
    timeline: Timeline | None
    #: Where the time went; ``None``: nobody has run it.
    time: TimeView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedRun:
    """A run that a prune takes away, or whose requests and answers it takes."""

    id: str
    name: str
    #: Of which something goes.
    jobs: int
    #: How large their requests and answers are as they are stored.
    n_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunePlan:
    """What a prune would take away."""

    runs: Sequence[PrunedRun]
    #: Names of runs that ended too lately for ``--older-than``.
    younger: Sequence[str]
    #: Whether only requests and answers go.
    is_bodies: bool
    #: Whether an earlier prune was broken off: the next one finishes it.
    is_unfinished: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneView:
    """What a prune took away."""

    runs: Sequence[PrunedRun]
    is_bodies: bool
    #: The file's size before and after, in bytes.
    size_before: int
    size_after: int
    #: Whether the file is cut; otherwise somebody read it, and the next prune does so.
    is_shrunk: bool
    #: Copies of the database that still have one of these runs.
    copies: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyView:
    """What a copy of a database took along."""

    #: The two places, as they may be shown.
    source: str
    to: str
    runs: int
    jobs: int
    #: Rows of each table, as they were counted at both.
    rows: Mapping[str, int]
    #: Texts in which U+0000 was replaced, which PostgreSQL can't hold.
    n_replaced: int
    #: Whether the source may be sent from on.
    is_kept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyView:
    """Where a provider's key is found; never the key itself."""

    provider: str
    #: The variable, the key file or the keyring; ``None``: nowhere, or it can't be used.
    source: str | None
    is_usable: bool
    #: What a person should know of it.
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A live picture of a run for the panel; nothing in it is counted before its commit."""

    run: RunView
    in_flight: int
    #: Requests in flight at most: typed, or as found by now; 0 where another process sends.
    concurrency: int
    #: Sends allowed a minute by the tightest limit; ``None``: no limit known.
    allowed_per_minute: float | None
    elapsed_s: float
    #: Newest last: (wall ms, key, kind, message).
    recent_errors: Sequence[tuple[int, str, str, str]] = ()
    #: Set in a follower: the process that sends.
    following: Runner | None = None
    #: Set while a first Ctrl-C or a SIGTERM is finishing what is in flight.
    draining: bool = False
    #: Whether that bound is found by trying (``-c auto``).
    is_auto: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of ``submit --json``: ``event`` is a name of CONTRACT §6."""

    event: str
    at: int
    run_id: str
    run_name: str
    #: Further keys, ready for JSON.
    data: Mapping[str, Any] = field(default_factory=dict)


class Listener(Protocol):
    """Who watches a run."""

    #: Whether it wants the ``job.*`` events; most watchers only want the picture.
    wants_jobs: bool

    def event(self, event: Event) -> None:
        """Take one event, after its commit."""
        ...

    def progress(self, progress: Progress) -> None:
        """Take a picture of the run, about four times a second and at every change of state."""
        ...

    def notice(self, text: str) -> None:
        """Take one sentence for the person (limits old → new, a follower's wait …)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """How a call of ``submit``, ``resume`` or ``retry`` ended."""

    run: RunView
    exit_code: int
    #: Why it stopped with work left; ``None`` where nothing is left.
    waiting: Waiting | None = None
    #: Lines refused under ``--skip-invalid``.
    n_rejected: int = 0
    #: Where ``-o`` wrote the results.
    output: str | None = None
    #: How the other runs of the call ended, where it had several; this one ended worst.
    others: Sequence[RunResult] = ()
