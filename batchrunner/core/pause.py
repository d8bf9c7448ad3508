"""What a 429 makes of a scope's pause.

A pause is the provider's word or an outage, never a wait for a cap of our own (which is derived
from the ledger). It ends by the wall clock, since that is what the provider named, but never lasts
longer than it was long when it was set or loaded: a clock set back does not stretch it.

``level`` counts the 429s in a row that named no time, and outlives the pause: only a success that
was sent after the pause began puts it back to 0. ``generation`` grows with every change that
sleepers must notice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from batchrunner.core.backoff import pause_delay_ms
from batchrunner.models import WaitingReason

#: Wake-ups are spread upwards over this share of the pause, at most so many ms.
SPREAD_SHARE: Final = 0.05
SPREAD_MAX_MS: Final = 2_000

#: A job has to be refused so often at least before it is thought to be the job.
OWN_REFUSALS: Final = 3
#: ... and with no more than this chance of being the unlucky one each time.
OWN_CHANCE: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseState:
    """The pause of one scope: the ``pause_*`` columns of its row, and when we knew of it."""

    #: Wall, ms; ``None`` (with ``until``): no pause was ever set, or it was lifted.
    set_at: int | None = None
    #: Wall, ms. A pause whose ``until`` has passed has ended by itself.
    until: int | None = None
    reason: WaitingReason | None = None
    detail: str = ""
    generation: int = 0
    level: int = 0
    #: Steady time at which it was set, or loaded by this process; never stored.
    known_at: float = 0.0


NO_PAUSE: Final = PauseState()


def remaining_ms(pause: PauseState, *, now: float, wall: float) -> float:
    """Return how long (ms) nobody may send yet; 0 where the pause has ended or there is none."""
    if pause.until is None or pause.set_at is None:
        return 0.0
    longest = pause.until - pause.set_at - (now - pause.known_at)
    return max(0.0, min(pause.until - wall, longest))


def begin(
    pause: PauseState,
    *,
    until: int,
    reason: WaitingReason,
    detail: str,
    now: float,
    wall: float,
) -> PauseState:
    """Return a pause until ``until`` (wall, ms); one that still lasts longer is left as it is."""
    if remaining_ms(pause, now=now, wall=wall) >= until - wall:
        return pause
    return replace(
        pause,
        set_at=int(wall),
        until=max(until, int(wall)),
        reason=reason,
        detail=detail,
        generation=pause.generation + 1,
        known_at=now,
    )


def on_rate_limited(
    pause: PauseState,
    *,
    sent_at: float,
    now: float,
    received_wall: float,
    hint_until_wall: int | None,
    rand: float,
    reason: WaitingReason = WaitingReason.RATE_LIMITED,
    detail: str = "",
) -> PauseState:
    """Return what a 429 makes of the pause.

    A time the server named is kept to; without one (or with one that has passed) the pause is twice
    the last. A 429 to a request that was sent before the pause began tells nothing new, unless it
    names a later time.

    Args:
        pause: the scope's pause as it stands.
        sent_at: steady time of the request's send.
        now: steady time of the receipt.
        received_wall: wall time of the receipt, on which a relative hint is anchored.
        hint_until_wall: the time the server named, wall ms; ``None``: none.
        rand: uniform in [0, 1); spreads wake-ups of several processes, upwards only.
        reason: why, as the person is shown it.
        detail: one sentence for the person.
    """
    stale = pause.set_at is not None and sent_at < pause.known_at
    hinted = hint_until_wall is not None and hint_until_wall > received_wall
    if stale and not hinted:
        return pause
    if hinted and hint_until_wall is not None:
        length, level = hint_until_wall - received_wall, pause.level
    else:
        length, level = float(pause_delay_ms(pause.level)), pause.level + 1
    spread = 0.0 if stale else rand * min(SPREAD_MAX_MS, SPREAD_SHARE * length)
    until = int(received_wall + length + spread) + 1
    return begin(
        replace(pause, level=level),
        until=until,
        reason=reason,
        detail=detail,
        now=now,
        wall=received_wall,
    )


def on_success(pause: PauseState, *, sent_at: float) -> PauseState:
    """Return the pause after a success: the backoff starts anew if it was sent after the pause."""
    if pause.level == 0 or sent_at < pause.known_at:
        return pause
    return replace(pause, level=0)


def is_own_refusal(n: int, *, successes: int, refusals: int) -> bool:
    """Tell whether a job that is refused again and again is itself the reason.

    Where many are refused, some are refused often and would still be served: a job is charged only
    when that can't be told from its luck. Its chance each time is taken to be the others' share.

    Args:
        n: how often it was refused while others succeeded after each.
        successes: of others, since it was refused for the first time.
        refusals: of others, since then.
    """
    share = (refusals + 1) / (refusals + successes + 2)
    return n > OWN_REFUSALS and share**n < OWN_CHANCE


def lift(pause: PauseState) -> PauseState:
    """Return no pause, because a person or a new credential ended it."""
    if pause.until is None:
        return pause
    return PauseState(generation=pause.generation + 1)
