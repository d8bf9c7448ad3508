"""The words of batchrunner as values: states, kinds, jobs, requests, replies and decisions.

Every value is frozen; those that are made for each send are msgspec structs, which cost a fifth of
a frozen dataclass. Instants (``*_at``) are epoch milliseconds, durations say their unit in
their name. Which clock an instant is on is said where it matters: *steady* time never steps
(minute windows, backoff), *wall* time is what a calendar shows (days, pauses); see
:mod:`batchrunner.clock`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NewType

import msgspec

RunId = NewType("RunId", int)
#: ``run id << 32 | seq``: the order of the primary key is the order of the input.
JobId = NewType("JobId", int)
ModelId = NewType("ModelId", int)
ScopeId = NewType("ScopeId", int)

#: Bits of a job id that hold its place in the run.
SEQ_BITS: Final = 32


def job_id(run_id: RunId, seq: int) -> JobId:
    """Return the id of the ``seq``-th job (from 1) of a run."""
    return JobId(run_id << SEQ_BITS | seq)


class JobState(StrEnum):
    """Where one job stands."""

    #: Waits to be claimed: at once, or from ``not_before`` on.
    PENDING = "pending"
    #: Claimed by the holder; after a crash the next holder rescues it to ``pending``.
    RUNNING = "running"
    #: Answered, and the answer is committed. Final.
    COMPLETED = "completed"
    #: Failed for good; ``retry`` puts it back.
    FAILED = "failed"
    #: Given up by a person; ``retry`` puts it back.
    CANCELLED = "cancelled"


class WaitReason(StrEnum):
    """Why a pending job has been sent before and waits again."""

    RETRY = "retry"
    RATE_LIMITED = "rate_limited"
    DAILY_LIMIT = "daily_limit"
    INTERRUPTED = "interrupted"


class StoredRunState(StrEnum):
    """What the database keeps of a run's state; the rest is told from locks."""

    #: Being read in: invisible to claims and views; swept when its loader died.
    LOADING = "loading"
    #: Has, or had when last looked at, work left.
    READY = "ready"
    #: A person stopped it; ``resume`` undoes that.
    PAUSED = "paused"
    #: Nothing is left to send.
    FINISHED = "finished"
    #: A person gave it up; ``retry`` undoes that.
    CANCELLED = "cancelled"


class RunState(StrEnum):
    """A run's state as views show it (CONTRACT §6)."""

    READY = "ready"
    RUNNING = "running"
    WAITING = "waiting"
    HALTED = "halted"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"


class ErrorKind(StrEnum):
    """What went wrong with a send, in the words of CONTRACT §7."""

    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    CREDIT = "credit"
    SPEND_LIMIT = "spend_limit"
    MODEL_NOT_FOUND = "model_not_found"
    INVALID_REQUEST = "invalid_request"
    REQUEST_TOO_LARGE = "request_too_large"
    CONTENT_REFUSED = "content_refused"
    RATE_LIMITED = "rate_limited"
    DAILY_LIMIT = "daily_limit"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    CONNECTION_RESET = "connection_reset"
    CONNECTION = "connection"
    DNS = "dns"
    TLS = "tls"
    PROXY = "proxy"
    REDIRECT = "redirect"
    BAD_RESPONSE = "bad_response"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"


class WaitingReason(StrEnum):
    """Why a run waits, or why it stopped with work left (``waiting.reason``)."""

    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    DAILY_LIMIT = "daily_limit"
    SPEND_LIMIT = "spend_limit"
    BUDGET = "budget"
    MAX_TIME = "max_time"
    MAX_FAILURES = "max_failures"
    SAME_ERROR = "same_error"
    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    CREDIT = "credit"
    MODEL_NOT_FOUND = "model_not_found"
    NETWORK = "network"
    TLS = "tls"
    PROXY = "proxy"
    REDIRECT = "redirect"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"


class ExitCode:
    """Exit codes of CONTRACT §4."""

    DONE: Final = 0
    SOME_FAILED: Final = 1
    USAGE: Final = 2
    WORK_LEFT: Final = 3
    REFUSED: Final = 4
    DATABASE: Final = 5
    NETWORK: Final = 6
    DEFECT: Final = 70
    HANGUP: Final = 129
    INTERRUPT: Final = 130
    TERMINATED: Final = 143


class Verdict(StrEnum):
    """What a reply means for its job, its scope and its run."""

    #: Answered and billed.
    COMPLETE = "complete"
    #: The job's own bad luck: charge an attempt, try again later.
    RETRY = "retry"
    #: The scope is out of allowance: nobody sends until the pause ends; nothing is charged.
    PAUSE = "pause"
    #: As ``PAUSE``, until the provider's next reset (or a date it named).
    WAIT_FOR_DAY = "wait_for_day"
    #: This request will never succeed.
    FAIL_JOB = "fail_job"
    #: The model is missing or not permitted: hold back the jobs that ask for it.
    HOLD_MODEL = "hold_model"
    #: The account or the way to it must be mended first.
    HALT_RUN = "halt_run"


class Shape(StrEnum):
    """The form of an input line (CONTRACT §2)."""

    ANTHROPIC_BATCH = "params"
    OPENAI_BATCH = "url"
    PROMPT = "prompt"
    BODY = "body"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobLine:
    """One valid input line, with fill-ins made: a job as it will be sent."""

    key: str
    #: The model the job asks for; ``None`` where the request names none (plain HTTP).
    model: str | None
    #: The exact bytes of the request body; empty for none.
    body: bytes
    #: ``None`` stands for POST to the provider's default path.
    method: str | None = None
    url: str | None = None
    #: Extra headers of this job as a JSON object of strings (plain HTTP only).
    headers: bytes | None = None
    #: The line's own metadata as a JSON object; never sent.
    metadata: bytes | None = None
    shape: Shape
    #: Where the line came from, for messages.
    file: str
    #: Counted from 1 within ``file``, blank lines included.
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFault:
    """One reason why an input line is refused."""

    file: str
    line: int
    reason: str
    #: The start of the line, made printable; empty where it holds a credential.
    excerpt: str = ""
    #: The line holds a credential: nothing of it is shown or written down.
    is_secret: bool = False


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request, ready to be sent save for the credential."""

    method: str
    #: Absolute.
    url: str
    headers: Mapping[str, str]
    body: bytes
    #: Which of several ways to the provider it takes; ``None``: the best there is at the send.
    way: int | None = None
    #: The same at each of several base URLs, the preferred one first.
    addresses: Sequence[str] = ()


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A send that brought no complete answer, in our words."""

    kind: ErrorKind
    #: What happened, with the address, in one sentence; no secret in it.
    message: str
    #: False only where the request can't have been acted on (PROVIDERS §5).
    maybe_executed: bool
    #: What a person should do, where the place of the fault knows; else the rule's holds.
    fix: str = ""
    #: No try again mends it, only a person does.
    halts: bool = False


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What one send brought back: an HTTP answer, or a fault (then ``status`` is ``None``)."""

    status: int | None = None
    #: Asked for by names in lower case; from a server any case is found, the first of several.
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    body: bytes = b""
    fault: Fault | None = None
    #: The way that the request took, where there are several.
    way: int = 0


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer says it cost; ``None`` where it does not say."""

    model: str | None = None
    finish_reason: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    #: What of the input was read from the provider's cache.
    cache_read_tokens: int | None = None
    #: What of the input was written to it, and what of that for an hour.
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    #: How it was processed, where that has a price of its own (``core.prices.TIERS``).
    tier: str | None = None
    #: Whether it costs anything; counting tokens does not.
    is_billed: bool = True


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a reply means: the value that :func:`batchrunner.core.classify.classify` returns."""

    verdict: Verdict
    #: ``None`` only with ``COMPLETE``.
    kind: ErrorKind | None = None
    #: One line for a person, redacted, at most 500 characters.
    message: str = ""
    #: The earliest next try the server named, epoch ms on the wall clock; ``None``: no hint.
    retry_at: int | None = None
    #: For ``WAIT_FOR_DAY`` and dated spend limits: when the allowance comes back (wall, epoch ms).
    reset_at: int | None = None
    #: Whom a pause is for: ``True`` the whole account, ``False`` the model's pool.
    account_wide: bool = False
    #: With ``COMPLETE`` (and wherever an error still reports it).
    usage: Usage | None = None
    #: What a person should do, where the rule knows (account-level verdicts).
    fix: str = ""
    #: The base URL that was likely meant, where the address leads nowhere; empty: unknown.
    meant_base: str = ""
    #: Another way takes over: the job goes back uncharged, and it is no outage.
    elsewhere: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why a run waits, or why it stopped with work left."""

    reason: WaitingReason
    #: Epoch ms (wall); ``None`` where only a person can end it.
    until: int | None
    #: One sentence, redacted.
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCounts:
    """How many jobs of a run are in each state."""

    pending: int = 0
    running: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All jobs of the run."""
        return self.pending + self.running + self.completed + self.failed + self.cancelled
