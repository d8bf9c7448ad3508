"""A holder's picture of runs without a database: for the tests of the engine's parts."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

from batchrunner.core.admission import Cap, Grant, Ledger, ScopeLedger
from batchrunner.core.counting import AS_USED
from batchrunner.engine.gate import Gate
from batchrunner.engine.judge import Judge
from batchrunner.engine.live import CallLimits, Claim, Lane, LiveRun, Outcome
from batchrunner.engine.streak import Streak
from batchrunner.models import (
    Decision,
    JobCounts,
    JobId,
    ModelId,
    Reply,
    Request,
    RunId,
    ScopeId,
    Verdict,
)
from batchrunner.store.holder import RunRow
from batchrunner.store.records import ClaimedJob

NOW = 1_790_000_000_000.0
ACCOUNT, POOL = ScopeId(1), ScopeId(2)
REQUEST = Request(method="POST", url="http://127.0.0.1/v1/x", headers={}, body=b"{}")


class HandClock:
    """A clock that a test moves; wall and steady time run together."""

    def __init__(self) -> None:
        """Start at a fine moment."""
        self.t = NOW

    def now(self) -> float:
        """Return steady time."""
        return self.t

    def wall(self) -> float:
        """Return wall time."""
        return self.t


class LiveScene:
    """One account with one pool, and runs that use it."""

    def __init__(self, *caps: Cap) -> None:
        """Put the account's limits in force."""
        self.clock = HandClock()
        self.account = ScopeLedger(ACCOUNT, caps=caps)
        self.pool = ScopeLedger(POOL)
        self.ledger = Ledger([self.account, self.pool])
        self.gate = Gate(self.ledger, self.clock)
        self.judge = Judge(self.ledger, self.clock, lambda: 0.5)
        #: What the next reply means.
        self.decision = Decision(verdict=Verdict.COMPLETE)
        self._n_claims = 0

    def run(
        self,
        run_id: int = 1,
        *,
        pending: int = 100,
        priority: int = 0,
        max_wait_s: float | None = None,
        deadline: float | None = None,
        is_own: bool = True,
        is_rate_told: bool = True,
    ) -> LiveRun:
        """Return a run of one model that has proved itself and may have 8 requests in flight."""
        counts = JobCounts(pending=pending)
        row = RunRow(
            id=RunId(run_id), uid=f"u{run_id}", name=f"run-{run_id}", state="ready",
            provider="http", account_id=ACCOUNT, options={}, priority=priority, counts=counts,
            n_rejected=0, created_at=int(NOW), started_at=None,
        )  # fmt: skip
        wire = SimpleNamespace(
            profile=SimpleNamespace(allow_any_url=False, request_id=lambda _headers: None),
            decide=lambda _reply, _request, *, wall, job: self.decision,
            clean=lambda reply: reply,
            request_id=lambda _reply: None,
            counting=AS_USED,
        )
        run = LiveRun(
            row=row,
            wire=cast("Any", wire),
            account=self.account,
            limits=CallLimits(max_wait_s=max_wait_s, deadline=deadline),
            is_own=is_own,
            asked_by=1,
            counts=counts,
            priority=priority,
            streak=Streak(max_wait_s),
            started_at=NOW,
        )
        run.proved, run.is_rate_told = True, is_rate_told
        run.tell(8)
        run.lanes[ModelId(1)] = Lane(model_id=ModelId(1), model="m", pool=self.pool)
        run.review()
        return run

    def claim(self, run: LiveRun, job: int = 0, *, attempts: int = 0) -> Claim:
        """Claim a job with a permission for now, or the next instant there is."""
        self._n_claims += 1
        number = job or self._n_claims
        grant = self.ledger.reserve(ACCOUNT, POOL, self.clock.t, self.clock.t, 120_000.0)
        assert isinstance(grant, Grant)
        claimed = ClaimedJob(
            JobId(number), f"k{number}", 1, attempts, None, None, None, None, b"{}"
        )
        run.outstanding += 1
        return Claim(
            run=run,
            lane=next(iter(run.lanes.values())),
            job=claimed,
            request=REQUEST,
            grant=grant,
            version=self.ledger.version,
        )

    def replied(
        self, claim: Claim, decision: Decision | None = None, *, status: int = 200
    ) -> Outcome:
        """Return the outcome of a claim sent a moment ago; ``decision`` is what it means."""
        self.decision = decision or Decision(verdict=Verdict.COMPLETE)
        claim.sent_at = claim.sent_at or self.clock.t
        claim.sent_wall = int(claim.sent_at)
        self.clock.t += 10
        return Outcome(
            claim=claim,
            fate="replied",
            reply=Reply(status=status),
            ended_at=self.clock.t,
            ended_wall=int(self.clock.t),
        )

    def unsent(self, claim: Claim) -> Outcome:
        """Return the outcome of a claim that the gate refused."""
        return Outcome(
            claim=claim, fate="unsent", ended_at=self.clock.t, ended_wall=int(self.clock.t)
        )

    def used(self) -> tuple[int, int]:
        """Return how many sends stand in the minute of account and pool."""
        return sum(self.account.minute.counts.values()), sum(self.pool.minute.counts.values())


def keys(claims: Sequence[Claim | None]) -> list[str | None]:
    """Return the claims' keys."""
    return [claim.job.key if claim else None for claim in claims]
