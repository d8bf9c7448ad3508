"""What a cycle works on and brings back: values between the engine and the store's statements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from batchrunner.core.admission import DirtySlot
from batchrunner.core.tokens import Seen
from batchrunner.core.warmth import Order
from batchrunner.models import JobId, ModelId, RunId, ScopeId, Usage
from batchrunner.store.codecs import Codec

__all__ = [
    "Apart",
    "Ask",
    "CapRow",
    "ClaimedJob",
    "Cycle",
    "CycleResult",
    "Delta",
    "Hold",
    "LaneClaim",
    "Look",
    "NextJobs",
    "ScopeRow",
    "Settle",
    "TimeSum",
]


class Settle(msgspec.Struct, kw_only=True):
    """One send's outcome, ready to be stored; instants are wall epoch ms."""

    job_id: JobId
    #: ``key``, ``attempts`` (after this one) and ``started_at`` are for whoever is told of it.
    key: str
    attempts: int
    started_at: int | None
    claim: int
    run_id: RunId
    model_id: ModelId
    account_id: ScopeId
    pool_id: ScopeId
    #: Steady ms.
    planned_at: int
    #: The job's next state; ``pending`` may carry ``not_before`` (steady) and ``wait_reason``.
    state: str
    charged: int = 0
    not_before: int = 0
    wait_reason: str | None = None
    error_kind: str | None = None
    finished_at: int | None = None
    #: The send log's word; ``None`` makes no row: no byte of it went out.
    outcome: str | None
    kind: str | None = None
    http_status: int | None = None
    request_id: str | None = None
    message: str | None = None
    sent_at: int | None = None
    ended_at: int | None = None
    maybe_executed: bool = False
    #: An attempt's answer replaces the stored one; a wait's does not.
    is_attempt: bool = False
    body: bytes | None = None
    model: str | None = None
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    #: What the answer said of itself, for what it cost.
    usage: Usage | None = None
    cost_usd: float | None = None
    #: What the provider's cache saved of it; below 0 where writing cost more.
    saved_usd: float | None = None
    #: What it may have cost where its answer was lost; ``None``: it was not, or nobody knows.
    lost_usd: float | None = None
    #: What was asked, where the answer was lost.
    request: bytes | None = None
    #: The model of a lost answer that nobody can price.
    uncounted: str | None = None
    latency_ms: int | None = None


_NONE: Final[Mapping[int, bytes]] = MappingProxyType({})


class Ask(NamedTuple):
    """How many jobs of one lane to claim: due retries first up to ``n_due``, fresh ones, due again."""

    run_id: RunId
    model_id: ModelId
    n: int
    n_due: int = 0
    #: Whether a due retry may exist at all (saves two statements where not).
    look_due: bool = False
    #: Whether the due go out before the fresh: where there is room for one, it is the first's.
    due_first: bool = False
    #: Whether fresh jobs stay where they are: a sample goes first.
    due_only: bool = False
    #: The run's dictionaries; none: every request of it is plain.
    codecs: Mapping[int, bytes] = _NONE
    #: Exactly these, in this order, as far as they are still pending; empty: whatever comes first.
    jobs: tuple[JobId, ...] = ()
    #: Whether there is money for a job, asked of each before it is claimed; ``None``: it is asked later.
    fits: Callable[[ClaimedJob], bool] | None = None


class Apart(NamedTuple):
    """What a worker on a shared queue has set apart of its runs' money, and what was lost of it."""

    kept: Mapping[RunId, float]
    lost: Mapping[RunId, float]


class Look(NamedTuple):
    """Which jobs of one lane come next? Asked where it matters what they will take."""

    run_id: RunId
    model_id: ModelId
    n: int
    #: Whether a retry that is due comes before the first fresh one.
    due_first: bool
    #: No fresh ones.
    due_only: bool = False
    codecs: Mapping[int, bytes] = _NONE
    #: Which starts' jobs come next, in a run that goes in the order of the provider's cache.
    order: Order | None = None


class NextJobs(NamedTuple):
    """What a ``Look`` saw: jobs in the order of their claim, with their requests."""

    jobs: list[tuple[JobId, bytes]]
    #: Earliest ``not_before`` in the lane, and the earliest that is not due yet (steady ms).
    next_due: int | None
    due_later: int | None
    #: With an order: the start of each of the jobs, and warm starts that no fresh job has any more.
    starts: Sequence[int] = ()
    gone: Sequence[int] = ()


class ClaimedJob(NamedTuple):
    """A job that is now ``running``, with what is to be sent."""

    job_id: JobId
    key: str
    claim: int
    attempts: int
    #: When it was first sent (wall ms), where it was sent before.
    started_at: int | None
    method: str | None
    url: str | None
    headers: bytes | None
    body: bytes


class LaneClaim(NamedTuple):
    """What an ``Ask`` brought; fewer than asked means that the lane has no more now."""

    jobs: list[ClaimedJob]
    #: Whether the byte bound or want of money, not the lane's end, cut the claim.
    cut: bool
    #: Earliest ``not_before`` left in the lane (steady ms).
    next_due: int | None


class ScopeRow(NamedTuple):
    """What of a scope changes as it is used."""

    scope_id: ScopeId
    next_send_at: float
    last_send_at: float
    pause_set_at: int | None
    pause_until: int | None
    pause_reason: str | None
    pause_detail: str | None
    pause_generation: int
    pause_level: int


class CapRow(NamedTuple):
    """A limit that responses told of."""

    scope_id: ScopeId
    limit_name: str
    value: float | None


class Hold(NamedTuple):
    """A model that holds back the jobs of a run that ask for it."""

    run_id: RunId
    model_id: ModelId
    kind: str
    message: str
    fix: str


class TimeSum(NamedTuple):
    """Time of a run that went into one cause, to be added to a day's."""

    run_id: RunId
    #: UTC days since the epoch.
    day: int
    account_id: ScopeId
    #: One of :mod:`batchrunner.core.time_use`.
    cause: str
    ms: float


@dataclass(slots=True, kw_only=True)
class Cycle:
    """One transaction's work; :meth:`go_on_from` one that could not be stored."""

    wall: int
    #: Steady time.
    now: int
    #: Whether ``now`` is stored as last seen.
    is_seen: bool = True
    settles: Sequence[Settle] = ()
    asks: Sequence[Ask] = ()
    #: Planned instants (steady ms) of the sends, in the order of the asks.
    planned: Sequence[int] = ()
    usage: Sequence[DirtySlot] = ()
    scopes: Sequence[ScopeRow] = ()
    holds: Sequence[Hold] = ()
    learned: Sequence[CapRow] = ()
    #: Accounts and the organization that responses name for them.
    organizations: Sequence[tuple[ScopeId, str]] = ()
    #: What a pool's provider said last of its limits: the headers as a JSON object.
    said: Sequence[tuple[ScopeId, bytes]] = ()
    #: Lanes whose next jobs are to be known, after the claims.
    looks: Sequence[Look] = ()
    #: What answers taught of their models' tokens.
    seen_tokens: Sequence[tuple[str, Seen]] = ()
    #: Where the time of the runs went since it was last stored.
    times: Sequence[TimeSum] = ()
    #: What the answers of runs that keep them compressed are written with.
    codecs: Mapping[RunId, Codec] = field(default_factory=dict)
    #: On a shared queue: which worker this is, and what says, once jobs are claimed, what it has set apart.
    worker: int = 0
    apart: Callable[[], Apart] | None = None

    def go_on_from(self, kept: Cycle) -> None:
        """Store as well what a cycle had that could not be stored, but for its settles; its plan is void."""
        self.holds = [*kept.holds, *self.holds]
        self.learned = [*kept.learned, *self.learned]
        self.organizations = [*kept.organizations, *self.organizations]
        self.said = [*kept.said, *self.said]
        self.seen_tokens = [*kept.seen_tokens, *self.seen_tokens]
        self.times = [*kept.times, *self.times]
        self.codecs = {**kept.codecs, **self.codecs}


@dataclass(slots=True)
class Delta:
    """What a cycle changes of one run's counters."""

    pending: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    sent: int = 0
    retried: int = 0
    rate_limited: int = 0
    interrupted: int = 0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None

    def row(self, run_id: int) -> tuple[float | None, ...]:
        return (
            self.pending, self.running, self.completed, self.failed, self.sent, self.retried,
            self.rate_limited, self.interrupted, self.input_tokens, self.input_tokens,
            self.output_tokens, self.output_tokens, self.cost_usd, self.cost_usd, run_id,
        )  # fmt: skip


@dataclass(slots=True)
class CycleResult:
    """What the transaction did."""

    lanes: list[LaneClaim] = field(default_factory=list)
    #: In the order of the looks.
    next_jobs: list[NextJobs] = field(default_factory=list)
    #: Settles that no longer applied: their job had been claimed anew.
    lost: list[Settle] = field(default_factory=list)
    #: What changed of each run's counters.
    deltas: dict[int, Delta] = field(default_factory=dict)
