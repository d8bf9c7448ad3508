"""The ledger's scopes and their rows: loaded at take-up, written through in the cycle.

Also what responses tell of them: limits that nobody typed, what others on the same key have used of
them, and the organization.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from batchrunner.clock import Clock
from batchrunner.core.admission import Cap, Ledger, ScopeLedger
from batchrunner.core.caps import DAILY, METERS, RPD, RPM, SOURCES, TPD, TYPED, pool_caps
from batchrunner.core.counting import AS_USED, Counting
from batchrunner.core.credentials import Secrets
from batchrunner.core.headers import LIMIT_HEADERS, LearnedLimit, learn_limits
from batchrunner.core.pause import PauseState, remaining_ms
from batchrunner.core.said import kept_headers
from batchrunner.core.skew import clock_skew_ms, skew_words
from batchrunner.engine.live import Claim, LiveRun
from batchrunner.models import Reply, ScopeId, WaitingReason
from batchrunner.store import scopes
from batchrunner.store.records import CapRow, ScopeRow
from batchrunner.store.runs import DriverConnection

_REFUSED: Final = 429


class Scopes:
    """Every scope that the live runs use."""

    def __init__(self, ledger: Ledger, clock: Clock, notice: Callable[[str], None]) -> None:
        """Take the ledger to fill, and whom to tell of contradictions."""
        self._ledger = ledger
        self._clock = clock
        self._notice = notice
        self._rows: dict[ScopeId, ScopeRow] = {}
        #: What was stored before what was taken last.
        self._before: dict[ScopeId, ScopeRow] = {}
        self._caps: dict[ScopeId, dict[tuple[str, str], Cap]] = {}
        self._in_force: dict[ScopeId, list[Cap]] = {}
        self._parents: dict[ScopeId, ScopeId | None] = {}
        self._zones: dict[ScopeId, str] = {}
        self.names: dict[ScopeId, str] = {}
        self.organizations: dict[ScopeId, str | None] = {}
        self._seen: dict[ScopeId, tuple[str | None, ...]] = {}
        #: Headers that one answer of a pool so far took for a day's limit.
        self._guessed: dict[ScopeId, tuple[str | None, ...]] = {}
        #: Headers about limits that came since they were last stored, the newest of each pool.
        self._said: dict[ScopeId, tuple[Mapping[str, str], Secrets]] = {}
        #: Once is enough: the clock is the machine's.
        self._is_clock_compared = False
        self._learned: list[CapRow] = []
        self._new_organizations: list[tuple[ScopeId, str]] = []
        #: Runs whose responses name another organization than their account's.
        self.rebinds: dict[LiveRun, str] = {}

    def load(
        self,
        conn: DriverConnection,
        scope: ScopeId,
        day_zone: str,
        counting: Counting = AS_USED,
    ) -> ScopeLedger:
        """Return a scope's ledger, loaded where it is not known yet; caps are always read anew."""
        state = scopes.load_scope(conn, scope)
        self._parents[scope] = state.parent_id
        self._zones[scope] = day_zone
        self._caps[scope] = {
            (name, source): Cap(name, value, zone, source)
            for name, value, zone, source in state.caps
        }
        if scope in self._ledger:
            self._put_in_force(scope)
            return self._ledger[scope]
        now, wall = self._clock.now(), self._clock.wall()
        usage = scopes.load_usage(conn, scope, now=int(now), wall=int(wall))
        ledger = ScopeLedger(
            scope,
            slots=usage,
            next_send_at=state.standing.next_send_at,
            last_send_at=state.standing.last_send_at,
            pause=_pause_of(state.standing, now),
            default_zone=day_zone,
            total_has_output=counting.total_has_output,
        )
        self._ledger.add(ledger)
        self._put_in_force(scope)
        self.names[scope] = state.key
        self.organizations[scope] = state.organization
        self._rows[scope] = _row(ledger)
        return ledger

    def adopt(self, state: scopes.Standing) -> None:
        """Take a scope's stored pace, and its pause unless one that was set here meanwhile lasts longer."""
        ledger = self._ledger[state.id]
        ledger.adopt_pace(state.next_send_at, state.last_send_at)
        before = self._rows[state.id]
        stored = (state.pause_generation, state.pause_until)
        if stored == (before.pause_generation, before.pause_until):
            return
        now, wall = self._clock.now(), self._clock.wall()
        theirs, ours = _pause_of(state, now), ledger.pause
        left = remaining_ms(theirs, now=now, wall=wall)
        # A provider may have asked both for a time: it is kept to. An answer here says nothing of theirs.
        if _row(ledger)[3:] == before[3:] or left > remaining_ms(ours, now=now, wall=wall):
            ledger.pause = theirs
            # What was sent here is stored with this turn all the same.
            self._rows[state.id] = _row(ledger)._replace(
                next_send_at=before.next_send_at, last_send_at=before.last_send_at
            )

    def is_rate_told(self, account: ScopeId) -> bool:
        """Whether a person said how many requests a minute the account has, or that none is known."""
        return self._typed(account, RPM) is not None

    def unstored(self) -> set[ScopeId]:
        """Return the scopes whose rows differ from what was last taken."""
        scopes = self._ledger.scopes.items()
        return {scope_id for scope_id, ledger in scopes if _row(ledger) != self._rows[scope_id]}

    def take_changed(self, of: Container[ScopeId] | None = None) -> list[ScopeRow]:
        """Return the rows that differ from what was last taken; ``of``: of these scopes alone."""
        changed = []
        for scope_id, ledger in self._ledger.scopes.items():
            if of is not None and scope_id not in of:
                continue
            row = _row(ledger)
            if row != self._rows[scope_id]:
                self._before[scope_id] = self._rows[scope_id]
                self._rows[scope_id] = row
                changed.append(row)
        return changed

    def put_back(self, rows: Iterable[ScopeRow]) -> None:
        """Take these rows, which were taken last, as not stored, because their commit failed."""
        for row in rows:
            self._rows[row.scope_id] = self._before[row.scope_id]

    def take_learned(self) -> tuple[list[CapRow], list[tuple[ScopeId, str]]]:
        """Return limits and organizations to store."""
        learned, self._learned = self._learned, []
        organizations, self._new_organizations = self._new_organizations, []
        return learned, organizations

    def take_said(self) -> list[tuple[ScopeId, bytes]]:
        """Return what providers said of their limits since it was last asked for, to store."""
        said, self._said = self._said, {}
        return [
            (scope, msgspec.json.encode(kept_headers(headers, secrets)))
            for scope, (headers, secrets) in said.items()
        ]

    def learn(self, claim: Claim, reply: Reply) -> None:
        """Take from a reply's headers what limits its pool has and whose they are."""
        headers = reply.headers
        if not self._is_clock_compared:
            self._compare_clock(headers)
        raw = tuple(headers.get(name) for name in LIMIT_HEADERS)
        if any(raw):
            self._said[claim.lane.pool.id] = (headers, claim.run.wire.secrets)
            if self._seen.get(claim.lane.pool.id) != raw or claim.lane.pool.limits:
                self._learn_limits(claim, reply, raw)
        organization = claim.run.wire.organization(reply)
        if organization is None or claim.run.row.options.get("account"):
            # Whose limits these are is what a person said, where somebody did.
            return
        account = claim.run.account.id
        known = self.organizations.get(account)
        if known is None:
            self.organizations[account] = organization
            self._new_organizations.append((account, organization))
            self.rebinds[claim.run] = organization
        elif known != organization:
            self.rebinds[claim.run] = organization

    def _compare_clock(self, headers: Mapping[str, str]) -> None:
        skew = clock_skew_ms(headers, wall=int(self._clock.wall()))
        if skew is None:
            return
        self._is_clock_compared = True
        if said := skew_words(skew):
            self._notice(said)

    def _learn_limits(self, claim: Claim, reply: Reply, raw: tuple[str | None, ...]) -> None:
        profile, pool = claim.run.wire.profile, claim.lane.pool
        learned = learn_limits(
            reply.headers,
            now_wall_ms=self._clock.wall(),
            requests_limit=profile.requests_limit,
            tokens_limit=profile.tokens_limit,
        )
        if not learned:
            return
        if self._seen.get(pool.id) != raw:
            self._put_learned_in_force(claim, learned, raw)
        if reply.status != _REFUSED:
            # A refusal says itself until when to wait.
            self._allow_for_others(claim, learned)

    def _put_learned_in_force(
        self, claim: Claim, learned: Sequence[LearnedLimit], raw: tuple[str | None, ...]
    ) -> None:
        profile, pool = claim.run.wire.profile, claim.lane.pool
        known = {RPD: profile.requests_limit, TPD: profile.tokens_limit}
        is_guess = any(limit.limit in DAILY and known[limit.limit] is None for limit in learned)
        if is_guess and self._guessed.get(pool.id) != raw:
            # That a limit is the day's is read off how fast it refills; one answer may mislead,
            # and would cost a day.
            self._guessed[pool.id] = raw
            return
        self._seen[pool.id] = raw
        caps = self._caps[pool.id]
        for limit in learned:
            caps[limit.limit, "header"] = Cap(limit.limit, limit.value, None, "header")
            self._learned.append(CapRow(pool.id, limit.limit, limit.value))
            self._tell_contradiction(claim, limit.limit, limit.value)
        self._put_in_force(pool.id)

    def _allow_for_others(self, claim: Claim, learned: Sequence[LearnedLimit]) -> None:
        """Count what the provider says is used and is not ours: other programs on the same key.

        Only of limits that are the provider's own; of what a person gave, nobody else takes a share.
        """
        pool = claim.lane.pool
        if not pool.limits:
            return
        # What was told before this answer came back is ours.
        self._ledger.book_told()
        own = {limit.name: limit.n for limit in pool.limits if limit.source == "header"}
        for limit in learned:
            if limit.remaining is not None and own.get(limit.limit) == limit.value:
                pool.allow_for_others(
                    limit.limit,
                    limit.value - limit.remaining,
                    sent_at=claim.sent_at,
                    sent_wall=claim.sent_wall,
                    now=self._clock.now(),
                    wall=self._clock.wall(),
                    free_at=limit.reset_at,
                )

    def _put_in_force(self, scope: ScopeId) -> None:
        """Give the ledger the caps that hold: what a person typed for the account wins over what
        its pools learned, *none* included."""
        caps = self._caps[scope]
        parent = self._parents[scope]
        account = self._caps[parent].values() if parent else ()
        in_force = pool_caps(caps.values(), account)
        if in_force != self._in_force.get(scope):
            self._in_force[scope] = in_force
            self._ledger.version += 1
            self._ledger[scope].set_caps(in_force, self._zones[scope])

    def _typed(self, account: ScopeId, name: str) -> Cap | None:
        """Return what a person said of a limit: typed, else in the configuration."""
        caps = self._caps[account]
        sources = (source for source in SOURCES if source in TYPED)
        return next((caps[name, source] for source in sources if (name, source) in caps), None)

    def _tell_contradiction(self, claim: Claim, name: str, value: float) -> None:
        typed = self._typed(claim.run.account.id, name)
        if typed is None or typed.value is None or name not in METERS:
            return
        if value < typed.value:
            self._notice(
                f"{claim.lane.model}: the provider says {name} is {value:g}, you said"
                f" {typed.value:g}; yours is kept to, so 429s may come. To follow the provider:"
                f" {_FOLLOW[typed.source].format(name=name)}"
            )


#: How a limit that a person said is left to the provider.
_FOLLOW: Final = {
    "flag": "batchrunner limits set {name}=auto",
    "config": 'write {name} = "auto" in the configuration',
}


def _pause_of(state: scopes.Standing, now: float) -> PauseState:
    return PauseState(
        set_at=state.pause_set_at,
        until=state.pause_until,
        reason=WaitingReason(state.pause_reason) if state.pause_reason else None,
        detail=state.pause_detail or "",
        generation=state.pause_generation,
        level=state.pause_level,
        # As if set now: it lasts its stored length at most, whatever the clock did since.
        known_at=now,
    )


def _row(scope: ScopeLedger) -> ScopeRow:
    pause = scope.pause
    return ScopeRow(
        scope.id,
        scope.next_send_at,
        scope.stored_last_send_at,
        pause.set_at,
        pause.until,
        pause.reason.value if pause.reason else None,
        pause.detail or None,
        pause.generation,
        pause.level,
    )
