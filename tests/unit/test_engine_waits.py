"""What a run waits for, when it is looked at again, and why it stops."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace

import pytest

from batchrunner.core.admission import Blocked, Cap
from batchrunner.engine.live import LiveRun
from batchrunner.engine.stops import Stops
from batchrunner.engine.waits import DAILY_LEVEL, next_look, stop_reason, what_it_waits_for
from batchrunner.models import ModelId, ScopeId, WaitingReason
from tests.unit.live_scene import ACCOUNT, NOW, LiveScene

HOUR = 3_600_000.0


def lane_of(run: LiveRun, *, fresh: bool = True, next_due: float | None = None) -> LiveRun:
    """Say what is left in the run's lane."""
    lane = run.lanes[ModelId(1)]
    lane.fresh, lane.next_due = fresh, next_due
    return run


def blocked(run: LiveRun, limit: str, reason: WaitingReason, until: float | None) -> LiveRun:
    """Have the last plan have found no permission."""
    wall = None if until is None else int(until)
    run.lanes[ModelId(1)].blocked = Blocked(until, wall, reason, limit, ScopeId(ACCOUNT))
    return run


def test_nothing_pending_is_nothing_to_look_at() -> None:
    """While the last jobs are in flight the holder sleeps, though the lane was never seen empty."""
    run = LiveScene().run(pending=0)
    run.outstanding = 3
    assert next_look(run, NOW) > NOW + 24 * HOUR


@pytest.mark.parametrize(
    ("fresh", "next_due", "at"),
    [(True, None, NOW), (True, NOW + 50, NOW), (False, NOW + 50, NOW + 50), (False, NOW - 5, NOW)],
)
def test_work_is_looked_at_when_it_is_due(fresh: bool, next_due: float | None, at: float) -> None:
    """Fresh jobs are looked at now, a backoff at its end."""
    run = lane_of(LiveScene().run(), fresh=fresh, next_due=next_due)
    assert max(NOW, next_look(run, NOW)) == at


def test_a_blocked_lane_is_looked_at_a_little_before() -> None:
    """The claim is committed by the instant at which it may go."""
    run = blocked(LiveScene().run(), "pause", WaitingReason.RATE_LIMITED, NOW + 9_000)
    assert NOW + 8_000 <= next_look(run, NOW) < NOW + 9_000


def test_a_deadline_is_looked_at() -> None:
    """--max-time ends a wait."""
    run = lane_of(LiveScene().run(deadline=NOW + 700), fresh=False, next_due=NOW + HOUR)
    assert next_look(run, NOW) == NOW + 700
    assert stop_reason(run, NOW + 699, NOW) is None
    stop = stop_reason(run, NOW + 700, NOW)
    assert stop is not None
    assert stop.reason is WaitingReason.MAX_TIME


def test_pacing_and_backoff_are_no_waits_and_a_pause_is() -> None:
    """What a person is told are pauses, days and outages; not the pace of the minute."""
    scene = LiveScene(Cap("rpm", 3, None, "flag"), Cap("rpd", 5, None, "flag"))
    run = scene.run()
    assert what_it_waits_for(run, NOW, NOW) is None
    assert what_it_waits_for(lane_of(run, fresh=False, next_due=NOW + HOUR), NOW, NOW) is None
    lane_of(run)
    blocked(run, "rpm", WaitingReason.RATE_LIMITED, NOW + 20_000)
    assert what_it_waits_for(run, NOW, NOW) is None
    blocked(run, "rpd", WaitingReason.DAILY_LIMIT, NOW + HOUR)
    waiting = what_it_waits_for(run, NOW, NOW)
    assert waiting is not None
    assert (waiting.reason, waiting.until) == (WaitingReason.DAILY_LIMIT, int(NOW + HOUR))
    assert "5 requests" in waiting.detail
    run.outstanding = 1
    assert what_it_waits_for(run, NOW, NOW) is None, "something is on its way"


@pytest.mark.parametrize(("longest_s", "stops"), [(None, False), (3_601, False), (3_599, True)])
def test_a_wait_longer_than_the_call_may_wait_stops(longest_s: float | None, stops: bool) -> None:
    """--max-wait bounds one wait; --wait has no end."""
    scene = LiveScene(Cap("rpd", 5, None, "flag"))
    run = scene.run(max_wait_s=longest_s)
    blocked(run, "rpd", WaitingReason.DAILY_LIMIT, NOW + HOUR)
    stop = stop_reason(run, NOW, NOW)
    assert (stop is not None) is stops
    if stop is not None:
        assert (stop.reason, stop.until) == (WaitingReason.DAILY_LIMIT, int(NOW + HOUR))


@pytest.mark.parametrize(
    ("bound", "failed", "stops"),
    [("0", 0, False), ("0", 1, True), ("3", 2, False), ("3", 3, True), ("10%", 9, False),
     ("10%", 11, True)],
)  # fmt: skip
def test_failures_are_bounded(bound: str, failed: int, stops: bool) -> None:
    """--max-failures stops at N jobs or P % of the run, never before a job has failed."""
    run = LiveScene().run(pending=95)
    run.max_failures = bound
    run.counts = replace(run.counts, failed=failed)
    stop = stop_reason(run, NOW, NOW)
    assert (stop is not None and stop.reason is WaitingReason.MAX_FAILURES) is stops


def test_a_run_halts_when_only_held_models_are_left() -> None:
    """With other work, in flight or waiting for its backoff, a held model halts nothing."""
    run = LiveScene().run()
    run.holds[ModelId(1)] = ("permission", "not yours", "ask for it")
    run.outstanding = 1
    assert stop_reason(run, NOW, NOW) is None
    run.outstanding = 0
    stop = stop_reason(run, NOW, NOW)
    assert stop is not None
    assert (stop.reason, stop.fix) == (WaitingReason.PERMISSION, "ask for it")
    assert "not yours" in stop.detail


def test_a_run_with_nothing_left_never_stops_with_work_left() -> None:
    """A deadline that passes as the last answer comes stops nothing."""
    run = LiveScene().run(pending=0, deadline=NOW - 1)
    assert stop_reason(run, NOW, NOW) is None


async def test_the_first_signal_drains_and_a_second_ctrl_c_aborts() -> None:
    """One signal asks and gives the exit code; only another Ctrl-C aborts; every change wakes."""
    stops, woken = Stops(), []
    stops.watch(lambda: woken.append(1))
    assert not stops.asked
    stops.ask(signal.SIGINT)
    assert (stops.asked, stops.exit_code, stops.abort) == (True, 130, False)
    stops.ask(signal.SIGTERM)
    assert (stops.exit_code, stops.abort) == (130, False)
    stops.ask(signal.SIGINT)
    assert stops.abort
    assert len(woken) == 3


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
async def test_a_terminated_process_gives_up_after_its_time(
    monkeypatch: pytest.MonkeyPatch, signum: signal.Signals, code: int
) -> None:
    """SIGTERM and SIGHUP drain for a bounded time, then abort."""
    monkeypatch.setattr("batchrunner.engine.stops.DRAIN_S", 0.01)
    stops, woken = Stops(), asyncio.Event()
    stops.ask(signum)
    assert (stops.exit_code, stops.abort) == (code, False)
    stops.watch(woken.set)
    async with asyncio.timeout(5):
        await woken.wait()
    assert stops.abort


@pytest.mark.parametrize(("level", "is_told"), [(DAILY_LEVEL - 1, False), (DAILY_LEVEL, True)])
def test_bare_429s_without_end_look_like_a_daily_cap(level: int, is_told: bool) -> None:
    """After pauses longer than any minute's limit the message says what it looks like, and what to do."""
    scene = LiveScene()
    run = scene.run()
    scene.account.pause = replace(
        scene.account.pause,
        set_at=int(NOW),
        until=int(NOW + HOUR),
        reason=WaitingReason.RATE_LIMITED,
        detail="HTTP 429",
        level=level,
    )
    blocked(run, "pause", WaitingReason.RATE_LIMITED, NOW + HOUR)
    waiting = what_it_waits_for(run, NOW, NOW)
    assert waiting is not None
    assert waiting.detail.startswith("HTTP 429")
    assert ("daily cap" in waiting.detail) is is_told
    assert ("limits set rpd=" in waiting.fix) is is_told
