"""What a run's time goes into: told by what holds the next request back, and summed without a gap."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from batchrunner.core.admission import Blocked, Cap
from batchrunner.core.caps import METERS, MIN_INTERVAL
from batchrunner.core.pause import NO_PAUSE, begin
from batchrunner.core.time_use import (
    DIED,
    OUTAGE,
    RETRY,
    SENDING,
    STALLED,
    UNRECORDED,
    WAITS,
    Kind,
    cause_words,
    is_nobody,
    kind_of,
    stopped,
)
from batchrunner.engine.live import LiveRun
from batchrunner.engine.time_use import STALL_MS, TimeUse, cause_of
from batchrunner.models import (
    Decision,
    ErrorKind,
    JobCounts,
    ModelId,
    ScopeId,
    Verdict,
    Waiting,
    WaitingReason,
)
from tests.unit.live_scene import ACCOUNT, NOW, LiveScene

DAY = int(NOW // 86_400_000)


def blocked(run: LiveRun, limit: str, reason: WaitingReason = WaitingReason.RATE_LIMITED) -> None:
    """Have the last plan have found no permission."""
    run.lanes[ModelId(1)].blocked = Blocked(
        NOW + 9_000, int(NOW) + 9_000, reason, limit, ScopeId(ACCOUNT)
    )


def busy(run: LiveRun) -> None:
    """Have as many in flight as may be."""
    run.outstanding = run.in_flight = 8


def last_ones(run: LiveRun) -> None:
    """Have nothing left but what is in flight."""
    run.counts, run.outstanding, run.in_flight = JobCounts(running=2), 2, 2
    run.lanes[ModelId(1)].fresh = False


def backing_off(run: LiveRun) -> None:
    """Have only retries left, none of them due."""
    lane = run.lanes[ModelId(1)]
    lane.fresh, lane.next_due = False, NOW + 5_000


def other_lane(run: LiveRun) -> None:
    """Have one model's limit used up while another's jobs go out."""
    blocked(run, "rpm")
    lane = run.lanes[ModelId(1)]
    run.lanes[ModelId(2)] = type(lane)(model_id=ModelId(2), model="n", pool=lane.pool)
    run.outstanding = run.in_flight = 3


def no_money(run: LiveRun) -> None:
    """Have it wait for what no lane is blocked by."""
    run.waiting = Waiting(reason=WaitingReason.BUDGET, until=None, detail="used up")


def stopping(run: LiveRun) -> None:
    """Have it end while what is in flight finishes; the last plan is old by then."""
    blocked(run, "rpd", WaitingReason.DAILY_LIMIT)
    run.stop = Waiting(reason=WaitingReason.INTERRUPTED, until=None, detail="stopped")
    run.outstanding = run.in_flight = 1


@pytest.mark.parametrize(
    ("scene", "cause"),
    [
        (busy, SENDING),
        (last_ones, SENDING),
        (backing_off, RETRY),
        (other_lane, SENDING),
        (no_money, "budget"),
        (stopping, SENDING),
        (lambda run: blocked(run, "itpm"), "itpm"),
        (lambda run: blocked(run, "rpd", WaitingReason.DAILY_LIMIT), "rpd"),
        (lambda run: blocked(run, "pause"), "rate_limited"),
        (lambda run: blocked(run, "pause", WaitingReason.SPEND_LIMIT), "spend_limit"),
    ],
)
def test_cause_is_what_holds_the_next_request_back(
    scene: Callable[[LiveRun], None], cause: str
) -> None:
    """A limit, a pause, a backoff, the budget; sending, while as much is under way as may be."""
    run = LiveScene().run()
    scene(run)
    assert cause_of(run, NOW, NOW) == cause


@pytest.mark.parametrize(
    ("cap", "cause"),
    [
        (Cap("rpm", 6.0, None, "flag"), "rpm"),
        (Cap("min_interval", 9_000.0, None, "flag"), "min_interval"),
    ],
)
def test_claims_that_wait_for_their_instant_wait_for_the_limit(cap: Cap, cause: str) -> None:
    """What is claimed ahead under a slow pace is not under way, though it fills the room there is."""
    scene = LiveScene(cap)
    run = scene.run()
    scene.claim(run)
    scene.claim(run)
    run.outstanding, run.in_flight = 8, 1
    assert cause_of(run, scene.clock.now(), scene.clock.wall()) == cause
    run.in_flight = 8
    assert cause_of(run, scene.clock.now(), scene.clock.wall()) == SENDING


def test_the_last_second_of_a_wait_is_part_of_it() -> None:
    """What is claimed before a pause or a day is over, to go out then, does not end it."""
    scene = LiveScene()
    run = scene.run()
    now, wall = scene.clock.now(), scene.clock.wall()
    scene.pool.pause = begin(
        NO_PAUSE, until=int(wall) + 800, reason=WaitingReason.DAILY_LIMIT, detail="", now=now, wall=wall
    )  # fmt: skip
    scene.claim(run)
    assert cause_of(run, now, wall) == "daily_limit"
    scene.clock.t += 900
    assert cause_of(run, scene.clock.now(), scene.clock.wall()) == SENDING
    scene.pool.planned_at = scene.clock.t + 700
    run.times.turn("rpd", scene.clock.t, scene.clock.t)
    assert cause_of(run, scene.clock.now(), scene.clock.wall()) == "rpd"


def test_an_outage_comes_first() -> None:
    """While nothing succeeds the time is the outage's, whatever limits say."""
    scene = LiveScene()
    run = scene.run()
    blocked(run, "rpm")
    down = Decision(verdict=Verdict.RETRY, kind=ErrorKind.OVERLOADED, message="529")
    for _ in range(8):
        scene.judge.judge(scene.replied(scene.claim(run), down, status=529))
    assert run.streak.is_outage
    assert cause_of(run, scene.clock.now(), scene.clock.wall()) == OUTAGE


def test_time_is_summed_without_a_gap() -> None:
    """Each stretch goes to what was found at its begin; what is taken is all that went by."""
    run = LiveScene().run()
    times = TimeUse(NOW)
    times.turn("rpm", NOW + 100, NOW)
    times.turn("rpm", NOW + 350, NOW)
    times.turn(SENDING, NOW + 1_350, NOW)
    sums = times.take(run, NOW + 1_400, NOW)
    assert {(row.day, row.cause): row.ms for row in sums} == {
        (DAY, SENDING): 150.0, (DAY, "rpm"): 1_250.0,
    }  # fmt: skip
    assert {(row.run_id, row.account_id) for row in sums} == {(run.id, run.account.id)}
    assert times.take(run, NOW + 1_400, NOW) == []


def test_time_is_booked_to_its_day() -> None:
    """What ends on another day is that day's."""
    times = TimeUse(NOW)
    times.turn("rpd", NOW + 200, NOW)
    times.turn("rpd", NOW + 400, NOW + 86_400_000)
    days = {row.day: row.ms for row in times.take(LiveScene().run(), NOW + 400, NOW)}
    assert days == {DAY: 200.0, DAY + 1: 200.0}


def test_a_clock_that_stands_still_is_told() -> None:
    """A machine that slept did not wait for a limit, and did not send."""
    times = TimeUse(NOW)
    times.turn("rpm", NOW + STALL_MS + 1, NOW)
    times.turn("rpm", NOW + STALL_MS + 1 - 500, NOW)
    sums = times.take(LiveScene().run(), NOW + STALL_MS + 1, NOW)
    assert [(row.cause, row.ms) for row in sums] == [(STALLED, STALL_MS + 1)]


def test_every_cause_has_words_and_a_kind() -> None:
    """Limits, pauses, outages and backoffs are waits; nobody running it is none."""
    waits = {*METERS, MIN_INTERVAL, "rate_limited", "daily_limit", "spend_limit", OUTAGE, RETRY}
    others = {SENDING, STALLED, UNRECORDED, DIED, *(stopped(r) for r in WaitingReason)}
    assert {kind_of(cause) for cause in waits} <= WAITS
    assert {kind_of(cause) for cause in others}.isdisjoint(WAITS)
    assert kind_of(stopped("daily_limit")) is Kind.NOBODY
    assert all(is_nobody(stopped(reason)) for reason in WaitingReason)
    assert not any(map(is_nobody, waits))
    words = {cause_words(cause) for cause in waits | others}
    assert len(words) == len(waits | others)
    assert not any("_" in word for word in words)
