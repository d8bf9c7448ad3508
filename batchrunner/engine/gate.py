"""The last look before a request goes out: its instant, pauses, and how late it is.

A sender passes the gate twice: before it takes a connection (:meth:`Gate.approach`) and, where a
limit is in force, again just before the header bytes are written (:meth:`Gate.at_send`), when a
cold proxy or a TLS handshake may have made it late. What is refused here was never sent, is
uncharged, and gives its allowance back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from math import inf
from typing import Any, Final

from aiolimiter import AsyncLimiter

from batchrunner.clock import Clock
from batchrunner.core.admission import LATE_MS, Blocked, Grant, Ledger, ScopeLedger
from batchrunner.core.caps import MINUTE_MS, RPM
from batchrunner.core.counting import NO_TOKENS, Charge
from batchrunner.core.pause import remaining_ms
from batchrunner.core.token_use import MINUTE_GRAIN
from batchrunner.engine.live import Claim
from batchrunner.failpoints import hit
from batchrunner.store.rescue import MAX_LATE_MS
from batchrunner.transport import Aborted

#: Nobody sleeps longer than this in one piece, so that a clock step is seen (seconds).
LONGEST_SLEEP_S: Final = 30.0
#: Two clocks tell a pause's end, so that it may differ by that much; its end is rounded up.
ROUNDING_MS: Final = 1.0


class Gate:
    """Holds senders back until they may send; one for all runs of a holder."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        charge_of: Callable[[Claim], Charge] = lambda _: NO_TOKENS,
    ) -> None:
        """Take the ledger that is asked, the clock that is read, and who knows a claim's tokens."""
        #: Moves a late send where the ledger is not this process's alone.
        self.rebook: (
            Callable[[Grant, Charge | None], Coroutine[Any, Any, Grant | Blocked]] | None
        ) = None
        #: A queue's worker sends until then (steady ms): later others may have taken over its jobs.
        self.lease_until = inf
        #: What was planned before that (steady ms) others may have been given: its worker was cut off.
        self.void_before = 0.0
        self._ledger = ledger
        self._charge_of = charge_of
        self._clock = clock
        self._sleepers: set[asyncio.Future[None]] = set()
        self._backstops: dict[int, tuple[float, AsyncLimiter]] = {}
        #: How often the backstop made a send wait; a test asserts that it hardly ever does.
        self.backstop_waits = 0

    def wake(self) -> None:
        """Wake every sleeper, to look again: a pause, a hold, a stop."""
        for sleeper in self._sleepers:
            if not sleeper.done():
                sleeper.set_result(None)

    async def approach(self, claim: Claim) -> bool:
        """Wait for the claim's instant; return False where it may not be sent any more."""
        while True:
            if self._refused(claim):
                return False
            ahead = claim.grant.instant - self._clock.now()
            if ahead <= 0:
                break
            await self._sleep(ahead / 1000.0)
        if limiter := self._backstop(claim.lane.pool, claim.run.account):
            if not limiter.has_capacity():
                self.backstop_waits += 1
            await limiter.acquire()
        return not self._refused(claim)

    async def at_send(self, claim: Claim) -> None:
        """Let the send out now, or raise :class:`Aborted`: called before its first byte.

        A late send takes a slot at the real instant, waits for one, or is refused.
        """
        last_void = self.void_before
        while True:
            now = self._clock.now()
            # A slot that it was moved to may lie beyond the time in which others were given its job.
            if self._refused(claim) or self.void_before != last_void:
                raise Aborted
            if (wait := self._ledger.may_send(claim.grant, now)) > 0:
                await self._sleep(wait / 1000.0)
                continue
            late = now - claim.grant.instant
            if late <= LATE_MS and claim.version == self._ledger.version:
                self._sent(claim, now)
                return
            if late > MAX_LATE_MS:
                raise Aborted
            charge = self._charge_by_now(claim)
            if self.rebook is None:
                self._moved(
                    claim, self._ledger.rebook(claim.grant, now, self._clock.wall(), charge)
                )
            else:
                await _seen_through(self.rebook(claim.grant, charge), partial(self._moved, claim))
            if not claim.is_booked:
                raise Aborted
            if (ahead := claim.grant.instant - self._clock.now()) > 0:
                await self._sleep(ahead / 1000.0)

    def _moved(self, claim: Claim, again: Grant | Blocked) -> None:
        """Note where a late send is booked by now; refused, it is booked nowhere."""
        if isinstance(again, Blocked):
            claim.is_booked = False
        else:
            claim.grant, claim.version = again, self._ledger.version

    def _charge_by_now(self, claim: Claim) -> Charge | None:
        """Return what a claim takes of the tokens if only now a limit asks for it."""
        grant = claim.grant
        if grant.charge != NO_TOKENS or not self._ledger.counts_tokens(grant.account, grant.pool):
            return None
        return self._charge_of(claim)

    def send_now(self, claim: Claim) -> None:
        """Book a send that no limit holds back at its real instant, or raise :class:`Aborted`."""
        if self._refused(claim):
            raise Aborted
        now = self._clock.now()
        if now >= (claim.grant.minute_slot + 1) * MINUTE_GRAIN:
            again = self._ledger.rebook(claim.grant, now, self._clock.wall())
            if isinstance(again, Blocked):
                claim.is_booked = False
                raise Aborted
            claim.grant = again
        hit("send.before")
        claim.sent_at = now
        claim.sent_wall = int(self._clock.wall())
        claim.run.sends.append(now)

    def _sent(self, claim: Claim, now: float) -> None:
        hit("send.before")
        self._ledger.sent(claim.grant, now)
        claim.sent_at = now
        claim.sent_wall = int(self._clock.wall())
        claim.run.sends.append(now)

    def _refused(self, claim: Claim) -> bool:
        run = claim.run
        if self.lease_until != inf and (
            self._clock.now() > self.lease_until or claim.grant.instant < self.void_before
        ):
            return True
        if run.is_stopping or claim.lane.model_id in run.holds:
            return True
        if claim.grant.account != run.account.id:
            # Another organization's meanwhile: that one is to be asked.
            return True
        if run.streak.is_outage and claim.grant.instant < run.streak.probe_at:
            # Claimed before the outage: only the probe goes.
            return True
        if run.account.pause.until is None and claim.lane.pool.pause.until is None:
            return False
        now, wall = self._clock.now(), self._clock.wall()
        # A claim whose instant is the end of the pause waits for it here.
        ahead = max(0.0, claim.grant.instant - now) + ROUNDING_MS
        return any(
            remaining_ms(scope.pause, now=now, wall=wall) > ahead
            for scope in (run.account, claim.lane.pool)
        )

    def _backstop(self, pool: ScopeLedger, account: ScopeLedger) -> AsyncLimiter | None:
        rates = [
            limit.n * 1000.0 / MINUTE_MS
            for scope in (pool, account)
            for limit in scope.limits
            if limit.name == RPM
        ]
        if not rates:
            return None
        # Never the binding limit: built to the pace itself it drifts by seconds (DESIGN).
        size = max(2.0, 1.25 * min(rates))
        kept = self._backstops.get(pool.id)
        if kept is None or kept[0] != size:
            kept = self._backstops[pool.id] = (size, AsyncLimiter(size, 1.0))
        return kept[1]

    async def _sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        sleeper = loop.create_future()
        self._sleepers.add(sleeper)
        handle = loop.call_later(min(seconds, LONGEST_SLEEP_S), _end, sleeper)
        try:
            await sleeper
        finally:
            handle.cancel()
            self._sleepers.discard(sleeper)


async def _seen_through(
    moving: Coroutine[Any, Any, Grant | Blocked], moved: Callable[[Grant | Blocked], None]
) -> None:
    """Wait for a turn in which a send is moved, and say what came of it, though the sender is cancelled.

    Broken off in between it would leave a transaction open, and its booking in both slots or in none.
    """
    turn = asyncio.create_task(moving)
    is_cancelled = False
    while not turn.done():
        try:
            await asyncio.wait([turn])
        except asyncio.CancelledError:
            is_cancelled = True
    moved(turn.result())
    if is_cancelled:
        raise asyncio.CancelledError


def _end(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
