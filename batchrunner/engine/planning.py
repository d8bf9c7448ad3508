"""Who may send next: permission first, then the claim.

The planner walks the live runs by priority and, among equals, in turn, and takes permission after
permission from the ledger for the next second or so. What it returns is claimed in the next
transaction; no job sits claimed waiting for a limiter.

Where a limit counts tokens, permission is for one certain job: the next ones of a lane are looked up
first, and claimed by name. Their order is kept: a large job at the head waits, and nothing of its lane
goes before it. Other lanes do, for :data:`PATIENCE_MS`; then what they could take is left to it. A run
that had less than an equal share of the tokens of late need not wait so long, and goes first. So runs of equal priority
share the tokens, whatever the size of their jobs.

The same holds for runs that go in the order of the provider's cache: jobs whose start is not in it
yet wait for the one that warms it (:mod:`batchrunner.core.warmth`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from math import exp, inf
from typing import Final

from batchrunner.core.admission import Blocked, Grant, Ledger
from batchrunner.core.caps import MINUTE_MS, ROLLING, TOKEN_LIMITS, TPD
from batchrunner.core.counting import NO_TOKENS
from batchrunner.engine.live import Lane, LiveRun
from batchrunner.models import JobId, RunId, ScopeId
from batchrunner.store.records import Ask, Look

#: Permission is taken at most this far ahead: what a crash can waste, and a change must wait.
HORIZON_MS: Final = 1_000.0
#: So much of that a worker that has something out leaves to others: it has a turn with each answer, and
#: would have every slot before who has nothing, and a turn a second.
LEFT_MS: Final = HORIZON_MS / 4
#: No cycle claims more than this.
MAX_CLAIMS: Final = 512
#: Of a lane whose jobs' tokens matter so many are looked up at once.
AHEAD: Final = 64
#: A job that waited so long for tokens is overtaken by nobody who uses the same limit.
PATIENCE_MS: Final = 5_000.0


@dataclass(slots=True)
class LanePlan:
    """The permissions one lane got."""

    run: LiveRun
    lane: Lane
    #: The ledger's version when they were given.
    version: int
    grants: list[Grant] = field(default_factory=list)
    #: Which jobs they are for; empty: whichever come first.
    jobs: list[JobId] = field(default_factory=list)
    #: Whether the claim looks at retries that are due; only then does it say when the next one is.
    looks_due: bool = False

    def ask(self, now: float) -> Ask:
        """Return the claim these permissions allow."""
        n = len(self.grants)
        if self.jobs:
            return Ask(
                self.run.id, self.lane.model_id, n, codecs=self.run.codecs, jobs=tuple(self.jobs)
            )
        if self.run.is_sample:
            self.looks_due = True
            return Ask(
                self.run.id, self.lane.model_id, n, n, look_due=True, due_first=True, due_only=True,
                codecs=self.run.codecs,
            )  # fmt: skip
        self.looks_due = self.lane.next_due is not None and self.lane.next_due <= now
        if not self.looks_due:
            return Ask(self.run.id, self.lane.model_id, n, codecs=self.run.codecs)
        is_first = self._is_dues_turn()
        n_due = int(is_first) if n == 1 else (n + 1) // 2
        return Ask(
            self.run.id, self.lane.model_id, n, n_due, look_due=True, due_first=is_first,
            codecs=self.run.codecs,
        )  # fmt: skip

    def _is_dues_turn(self) -> bool:
        """Take turns claim by claim, and pause by pause in who is first when one is over."""
        lane = self.lane
        pauses = lane.pool.pause.generation + self.run.account.pause.generation
        if pauses != lane.pauses_seen:
            lane.pauses_seen = pauses
            lane.due_turn = lane.due_opened = not lane.due_opened
        turn, lane.due_turn = lane.due_turn, not lane.due_turn
        return turn


class Planner:
    """Takes permissions for live runs; remembers whose turn it is."""

    def __init__(self, ledger: Ledger) -> None:
        """Take the ledger that permissions come from."""
        self._ledger = ledger
        self._n_given = 0
        #: Which of all permissions a run had last: whose is longest ago comes first.
        self._last: dict[RunId, int] = {}
        #: Lanes of the last plan whose next jobs must be known before they get more.
        self.to_look_up: list[tuple[LiveRun, Lane]] = []
        #: Scopes whose tokens are left to the lane that waited longest for them.
        self._kept: dict[ScopeId, tuple[Lane, Blocked]] = {}
        #: Tokens that each run was granted of late, older ones counting less, and up to when.
        self._taken: dict[RunId, float] = {}
        self._taken_at = 0.0
        #: How many more each run may claim now.
        self._rooms: dict[RunId, int] = {}
        #: How long (ms) a claim takes to be committed: under a limit nothing is planned before it is.
        self.commit_ms = 0.0

    def plan(self, runs: Sequence[LiveRun], now: float, wall: float) -> list[LanePlan]:
        """Return the permissions of the next second or so, at most what the runs have room for."""
        plans: dict[tuple[int, int], LanePlan] = {}
        self._ledger.book_told()
        self.to_look_up.clear()
        self._kept.clear()
        self._rooms.clear()
        if self._taken:
            self._fade_taken(now)
        n_left = MAX_CLAIMS
        by_priority = sorted(runs, key=lambda run: -run.priority)
        for _, group in groupby(by_priority, key=lambda run: run.priority):
            turns = [turn for run in group if (turn := self._turns(run, now)) is not None]
            turns.sort(key=lambda turn: (_held_since(turn[1]), self._last.get(turn[0].id, 0)))
            if len(turns) == 1:
                n_left -= self._grant_free(turns[0], plans, now, wall, n_left)
            while turns and n_left:
                still: list[tuple[LiveRun, list[Lane], int]] = []
                is_shared = bool(self._taken) and len(turns) > 1
                if is_shared:
                    turns.sort(key=lambda turn: self._share_of(turn[0]))
                for run, lanes, room in turns:
                    if not n_left:
                        break
                    if is_shared and still and self._share_of(run) > 1.0:
                        # Whoever had less goes on first.
                        still.append((run, lanes, room))
                        continue
                    granted = self._grant(run, lanes, plans, now, wall)
                    n_left -= granted
                    if granted and room > 1:
                        still.append((run, lanes, room - 1))
                turns = still
        self._note_full(plans.values(), has_room=n_left > 0)
        return list(plans.values())

    def _note_full(self, plans: Collection[LanePlan], *, has_room: bool) -> None:
        """Note which runs would have been given more if more could be in flight."""
        for plan in plans:
            if plan.run.id in self._rooms:
                self._rooms[plan.run.id] -= len(plan.grants)
        for plan in plans:
            plan.run.is_full = not has_room or not self._rooms.get(plan.run.id, 1)

    def _turns(self, run: LiveRun, now: float) -> tuple[LiveRun, list[Lane], int] | None:
        for lane in run.lanes.values():
            lane.blocked = None
        run.review()
        room = run.room(now)
        if room > 0:
            run.is_full = False
            self._rooms[run.id] = room
        room = min(room, run.counts.pending)
        lanes = [
            lane
            for model_id, lane in run.lanes.items()
            if model_id not in run.holds and lane.is_ready(now)
        ]
        if len(lanes) > 1:
            lanes.sort(key=lambda lane: _held_since([lane]))
        return (run, lanes, room) if lanes and room > 0 else None

    def _grant_free(
        self,
        turn: tuple[LiveRun, list[Lane], int],
        plans: dict[tuple[int, int], LanePlan],
        now: float,
        wall: float,
        n_most: int,
    ) -> int:
        """Take all permissions at once for the only lane of the only run, if no limit is in force."""
        run, lanes, room = turn
        if len(lanes) != 1 or lanes[0].warmth is not None:
            return 0
        n = min(room, n_most)
        grant = self._ledger.reserve_free(run.account.id, lanes[0].pool.id, now, wall, n)
        if grant is None:
            return 0
        lane = lanes.pop()
        plans[run.id, lane.model_id] = LanePlan(run, lane, self._ledger.version, [grant] * n)
        return n

    def _grant(
        self,
        run: LiveRun,
        lanes: list[Lane],
        plans: dict[tuple[int, int], LanePlan],
        now: float,
        wall: float,
    ) -> int:
        """Take one permission for one of a run's lanes, in turn; return 0 where none has any."""
        while lanes:
            lane = lanes.pop(0)
            charge, counts = NO_TOKENS, self._ledger.counts_tokens(run.account.id, lane.pool.id)
            if counts or lane.warmth is not None:
                if not self._knows_next(run, lane, now, counts=counts):
                    continue
                if counts and (kept := self._kept_from(run, lane)):
                    lane.blocked = kept
                    continue
                assert lane.ahead
                charge = lane.ahead[0].charge
            at, wall_at, horizon = now, wall, HORIZON_MS
            if self.commit_ms and (run.account.limits or lane.pool.limits):
                at, wall_at = now + self.commit_ms, wall + self.commit_ms
                # No further ahead than others look, or they would find everything taken.
                horizon -= self.commit_ms
                if run.outstanding and self.commit_ms <= LEFT_MS:
                    horizon -= LEFT_MS
            grant = self._ledger.reserve(
                run.account.id, lane.pool.id, at, wall_at, horizon, charge=charge
            )
            if isinstance(grant, Blocked):
                lane.blocked = grant
                self._hold(run, lane, now)
                continue
            lane.held_since = None
            lanes.append(lane)
            key = (run.id, lane.model_id)
            if counts:
                self._taken[run.id] = self._taken.get(run.id, 0.0) + sum(charge)
            plan = plans.setdefault(key, LanePlan(run, lane, self._ledger.version))
            plan.grants.append(grant)
            if counts or lane.warmth is not None:
                assert lane.ahead
                job = lane.ahead.popleft()
                plan.jobs.append(job.job_id)
                if lane.warmth is not None:
                    lane.warmth.goes(job.job_id, job.start, now)
            self._n_given += 1
            self._last[run.id] = self._n_given
            return 1
        return 0

    def _knows_next(self, run: LiveRun, lane: Lane, now: float, *, counts: bool) -> bool:
        """Whether the next jobs of a lane are known; else they are looked up with the claims."""
        _forget_stale(lane, now, counts=counts)
        if lane.warmth is not None:
            if lane.warmth.is_stalled:
                return False
            while lane.ahead and not lane.warmth.may_go(lane.ahead[0].start, now):
                lane.ahead.popleft()
            if (
                lane.ahead
                and lane.warmth.n_leads >= run.in_flight_bound()
                and not lane.warmth.is_warm(lane.ahead[0].start, now)
            ):
                # One more would wait for a sender, and warm nothing meanwhile.
                lane.warmth.is_stalled = True
                return False
        if not lane.ahead:
            self.to_look_up.append((run, lane))
        return bool(lane.ahead)

    def looks(self, now: float) -> list[Look]:
        """Return what is to be looked up."""
        looks = []
        for run, lane in self.to_look_up:
            looks.append(_look(run, lane, now))
            lane.due_turn = not lane.due_turn
        return looks

    def look_of(self, run: LiveRun, lane: Lane, now: float) -> Look | None:
        """Return what tells the next jobs of a lane; ``None``: its claims are for whichever come first."""
        counts = self._ledger.counts_tokens(run.account.id, lane.pool.id)
        if not counts and lane.warmth is None:
            return None
        _forget_stale(lane, now, counts=counts)
        return _look(run, lane, now)

    def _kept_from(self, run: LiveRun, lane: Lane) -> Blocked | None:
        """Return what holds a lane back because another has waited for the same tokens for long."""
        for scope in (run.account.id, lane.pool.id):
            if (kept := self._kept.get(scope)) is not None and kept[0] is not lane:
                return kept[1]
        return None

    def _fade_taken(self, now: float) -> None:
        """Have tokens of a minute ago count a third of those of now."""
        left = exp((self._taken_at - now) / MINUTE_MS)
        self._taken_at = now
        self._taken = {run: n * left for run, n in self._taken.items() if n * left >= 1.0}

    def _share_of(self, run: LiveRun) -> float:
        """Return what a run had of the tokens that were granted of late, over an equal share of them."""
        taken = self._taken
        total = sum(taken.values())
        return (
            taken.get(run.id, 0.0) * (len(taken) + (run.id not in taken)) / total if total else 0.0
        )

    def _hold(self, run: LiveRun, lane: Lane, now: float) -> None:
        """Note that tokens hold a lane's first job back, and keep them for it.

        At once where it had less than its share of late, else once it waited long.
        """
        blocked = lane.blocked
        assert blocked is not None
        if blocked.limit not in TOKEN_LIMITS:
            return
        if lane.held_since is None:
            lane.held_since = now
        limits = self._ledger[blocked.scope].limits
        limit = next(limit for limit in limits if limit.name == blocked.limit)
        if limit.name == TPD and limit.zone != ROLLING:
            return  # what others take of today leaves the next day as it is
        if now - lane.held_since >= PATIENCE_MS or self._share_of(run) < 1.0:
            self._kept.setdefault(blocked.scope, (lane, blocked))


def _forget_stale(lane: Lane, now: float, *, counts: bool) -> None:
    """Forget the next jobs where another is due by now, or what they take was not reckoned."""
    is_due = lane.ahead_until is not None and now >= lane.ahead_until
    if is_due or (counts and not lane.ahead_is_charged):
        lane.forget_ahead()


def _look(run: LiveRun, lane: Lane, now: float) -> Look:
    return Look(
        run.id,
        lane.model_id,
        AHEAD,
        due_first=not lane.due_turn,
        due_only=run.is_sample,
        codecs=run.codecs,
        order=lane.warmth.order(now) if lane.warmth is not None else None,
    )


def _held_since(lanes: Sequence[Lane]) -> float:
    """Return since when tokens hold one of the lanes back; the longest comes first."""
    return min((lane.held_since for lane in lanes if lane.held_since is not None), default=inf)
