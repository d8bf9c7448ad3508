"""What outcomes make of jobs, pauses, streaks and stops."""

from __future__ import annotations

import pytest

from batchrunner.core.pause import remaining_ms
from batchrunner.engine.live import LiveRun
from batchrunner.models import Decision, ErrorKind, ModelId, Verdict, WaitingReason
from batchrunner.store.records import Settle
from tests.unit.live_scene import LiveScene

RATE_LIMITED = Decision(verdict=Verdict.PAUSE, kind=ErrorKind.RATE_LIMITED, message="slow down")
BROKEN = Decision(verdict=Verdict.RETRY, kind=ErrorKind.SERVER_ERROR, message="oops")
REFUSED = Decision(verdict=Verdict.FAIL_JOB, kind=ErrorKind.INVALID_REQUEST, message="no")


def meets(
    scene: LiveScene, run: LiveRun, decision: Decision | None, job: int = 0, status: int = 500
) -> list[Settle]:
    """Send a job and judge what came back (``None``: an answer)."""
    outcome = scene.replied(
        scene.claim(run, job), decision, status=200 if decision is None else status
    )
    run.outstanding -= 1
    return scene.judge.judge(outcome)


def pause_left(scene: LiveScene) -> float:
    """Return how long the pool's pause still lasts."""
    return remaining_ms(scene.pool.pause, now=scene.clock.t, wall=scene.clock.t)


@pytest.mark.parametrize("ends_in_ms", [None, -86_400_000, 0])
def test_a_day_whose_end_is_not_said_or_past_is_a_growing_pause(ends_in_ms: int | None) -> None:
    """A used-up day with no end, or one that is past, pauses for seconds and ever longer, and charges nobody."""
    scene = LiveScene()
    run = scene.run()
    lengths = []
    for _ in range(3):
        reset = None if ends_in_ms is None else int(scene.clock.t) + ends_in_ms
        full = Decision(
            verdict=Verdict.WAIT_FOR_DAY, kind=ErrorKind.DAILY_LIMIT, message="full", reset_at=reset
        )
        (settle,) = meets(scene, run, full, status=429)
        assert (settle.state, settle.charged, settle.wait_reason) == ("pending", 0, "daily_limit")
        assert scene.pool.pause.reason is WaitingReason.DAILY_LIMIT
        lengths.append(pause_left(scene))
        scene.clock.t += lengths[-1] + 1
    assert lengths[0] >= 5_000
    assert lengths[1] >= 1.8 * lengths[0]
    assert lengths[2] >= 1.8 * lengths[1]


def test_a_job_that_meets_429_again_goes_behind_the_others() -> None:
    """The second 429 of a job in a row puts it behind the jobs that were not tried; neither is charged."""
    scene = LiveScene()
    run = scene.run()
    (first,) = meets(scene, run, RATE_LIMITED, job=1, status=429)
    (again,) = meets(scene, run, RATE_LIMITED, job=1, status=429)
    assert (first.charged, first.not_before) == (0, 0)
    assert again.charged == 0
    assert 0 < again.not_before <= scene.clock.t


def test_a_429_is_the_jobs_own_where_only_it_keeps_meeting_it() -> None:
    """The fourth 429 of a job is charged where many others succeeded after each of the three before."""
    scene = LiveScene()
    run = scene.run()
    charged = []
    for _ in range(4):
        (settle,) = meets(scene, run, RATE_LIMITED, job=1, status=429)
        charged.append(settle.charged)
        for other in range(20):
            meets(scene, run, None, job=100 + other)
    assert charged == [0, 0, 0, 1]


def test_a_429_is_nobodys_own_where_others_meet_it_as_often() -> None:
    """A job is not charged for its bad luck, however often it is refused while others are served."""
    scene = LiveScene()
    run = scene.run()
    for turn in range(12):
        (settle,) = meets(scene, run, RATE_LIMITED, job=1, status=429)
        assert settle.charged == 0
        meets(scene, run, RATE_LIMITED, job=2 + turn, status=429)
        meets(scene, run, None, job=100 + turn)


def test_429s_while_nobody_succeeds_charge_nobody() -> None:
    """However often a job meets 429, without successes in between it is never charged."""
    scene = LiveScene()
    run = scene.run()
    for _ in range(12):
        (settle,) = meets(scene, run, RATE_LIMITED, job=1, status=429)
        assert settle.charged == 0
        scene.clock.t += pause_left(scene) + 1


def test_a_503_with_a_time_is_an_overload() -> None:
    """A pause says what it is for: a 503 that names a time is no rate limit."""
    scene = LiveScene()
    overloaded = Decision(
        verdict=Verdict.PAUSE,
        kind=ErrorKind.OVERLOADED,
        message="later",
        retry_at=int(scene.clock.t) + 60_000,
    )
    meets(scene, scene.run(), overloaded, status=503)
    assert scene.pool.pause.reason is WaitingReason.OVERLOADED
    assert pause_left(scene) >= 59_900


def test_ten_alike_stop_the_run_and_what_was_in_flight_goes_back_with_them() -> None:
    """The tenth like failure stops the run; like failures after it are put back too, others are not."""
    scene = LiveScene()
    run = scene.run()
    for n in range(1, 10):
        meets(scene, run, REFUSED, job=n, status=400)
        assert run.stop is None
    meets(scene, run, REFUSED, job=10, status=400)
    assert run.stop is not None
    assert run.stop.reason is WaitingReason.SAME_ERROR
    meets(scene, run, REFUSED, job=11, status=400)
    meets(scene, run, REFUSED, job=12, status=422)
    meets(scene, run, None, job=13)
    assert sorted(run.first_failures) == list(range(1, 12))


def test_one_answer_and_failures_never_stop_the_run() -> None:
    """After one success like failures are the jobs' own."""
    scene = LiveScene()
    run = scene.run()
    meets(scene, run, None)
    for _ in range(15):
        meets(scene, run, REFUSED, status=400)
    assert run.stop is None


def test_failures_before_a_success_are_charged_by_it() -> None:
    """A short streak waits unsettled, and a success charges each failure of it."""
    scene = LiveScene()
    run = scene.run()
    assert meets(scene, run, BROKEN, job=1) == []
    assert meets(scene, run, BROKEN, job=2) == []
    assert run.streak.n_open == 2
    settles = meets(scene, run, None, job=3)
    assert [(s.job_id, s.charged, s.state) for s in settles] == [
        (1, 1, "pending"),
        (2, 1, "pending"),
        (3, 1, "completed"),
    ]
    assert run.streak.is_calm
    assert run.streak.n_open == 0


def test_five_different_jobs_failing_are_an_outage_that_charges_nobody() -> None:
    """The fifth distinct job makes an outage: all go back uncharged, one probe at a time goes, then four."""
    scene = LiveScene()
    run = scene.run()
    for n in range(1, 5):
        assert meets(scene, run, BROKEN, job=n) == []
    settles = meets(scene, run, BROKEN, job=5)
    assert [(s.job_id, s.charged, s.outcome) for s in settles] == [
        (n, 0, "outage") for n in range(1, 6)
    ]
    assert run.streak.is_outage
    assert run.room(scene.clock.t) == 0
    scene.clock.t = run.streak.probe_at
    assert run.room(scene.clock.t) == 1
    assert [s.charged for s in meets(scene, run, None, job=6)] == [1]
    assert not run.streak.is_outage
    assert run.in_flight_bound() == 4, "the others feel their way back"


def test_the_same_job_failing_again_is_no_outage() -> None:
    """An outage takes distinct jobs."""
    scene = LiveScene()
    run = scene.run()
    for _ in range(8):
        assert meets(scene, run, BROKEN, job=1) == []
    assert not run.streak.is_outage


@pytest.mark.parametrize("concurrency", [1, 2, 4, 8])
def test_what_waits_for_a_streaks_end_counts_as_in_flight(concurrency: int) -> None:
    """Put off or claimed, a crash finds at most twice the concurrency; the oldest go back uncharged."""
    scene = LiveScene()
    run = scene.run()
    run.tell(concurrency)
    run.review()
    assert run.room(scene.clock.t) == 2 * concurrency
    given_back: list[int] = []
    for n in range(1, 5):
        given_back += [s.job_id for s in meets(scene, run, BROKEN, job=n) if not s.charged]
        assert run.streak.n_open + run.room(scene.clock.t) <= 2 * concurrency
    assert given_back == list(range(1, max(1, 5 - concurrency)))
    charged = [s.job_id for s in meets(scene, run, None, job=9) if s.charged]
    assert charged == [n for n in range(1, 5) if n not in given_back] + [9]


def test_a_streak_that_is_left_alone_is_charged_by_what_it_met() -> None:
    """Where nobody is left to tell, a 500 is charged and an overload is not."""
    scene = LiveScene()
    run = scene.run()
    busy = Decision(verdict=Verdict.RETRY, kind=ErrorKind.OVERLOADED, message="busy")
    meets(scene, run, BROKEN, job=1)
    meets(scene, run, busy, job=2, status=529)
    settles = scene.judge.flush_idle(run)
    assert [(s.job_id, s.charged) for s in settles] == [(1, 1), (2, 0)]
    assert run.streak.n_open == 0


def test_a_missing_model_is_held_once_and_charges_nobody() -> None:
    """The first answer that a model is missing holds it; the rest in flight go back uncharged."""
    scene = LiveScene()
    run = scene.run()
    missing = Decision(
        verdict=Verdict.HOLD_MODEL, kind=ErrorKind.MODEL_NOT_FOUND, message="no such model"
    )
    settles = [meets(scene, run, missing, status=404)[0] for _ in range(3)]
    assert {(s.state, s.charged, s.outcome) for s in settles} == {("pending", 0, "held")}
    assert list(run.holds) == [ModelId(1)]
    assert len(scene.judge.new_holds) == 1


def test_a_last_try_fails() -> None:
    """A charged failure with no try left fails its job for good."""
    scene = LiveScene()
    run = scene.run()
    meets(scene, run, None)
    odd = Decision(verdict=Verdict.RETRY, kind=ErrorKind.BAD_RESPONSE, message="?")
    outcome = scene.replied(scene.claim(run, attempts=3), odd)
    (settle,) = scene.judge.judge(outcome)
    assert (settle.state, settle.attempts) == ("pending", 4)
    (settle,) = scene.judge.judge(scene.replied(scene.claim(run, attempts=4), odd))
    assert (settle.state, settle.attempts, settle.error_kind) == ("failed", 5, "bad_response")
