"""Who may send next: priority, turns, and how retries and fresh jobs share a claim."""

from __future__ import annotations

from collections import Counter

import pytest

from batchrunner.core.admission import Cap
from batchrunner.core.pause import begin
from batchrunner.engine.live import LiveRun
from batchrunner.engine.planning import HORIZON_MS, LEFT_MS, LanePlan, Planner
from batchrunner.models import ModelId, WaitingReason
from tests.unit.live_scene import NOW, LiveScene


def plan(scene: LiveScene, planner: Planner, *runs: LiveRun) -> Counter[int]:
    """Plan once; return how many permissions each run got."""
    plans = planner.plan(runs, scene.clock.t, scene.clock.t)
    return Counter({int(p.run.id): len(p.grants) for p in plans})


def test_permissions_go_to_the_higher_priority_first() -> None:
    """While the higher run has room it gets every permission of a tight limit."""
    scene = LiveScene(Cap("rpm", 60, None, "flag"))
    planner, low, high = Planner(scene.ledger), scene.run(1), scene.run(2, priority=3)
    given: Counter[int] = Counter()
    for _ in range(20):
        given += plan(scene, planner, low, high)
        scene.clock.t += 1_000
    assert given[1] == 0
    assert given[2] >= 18


def test_what_the_higher_priority_has_no_room_for_goes_to_the_lower() -> None:
    """Permissions are not kept for a run whose concurrency is full."""
    scene = LiveScene()
    planner, low, high = Planner(scene.ledger), scene.run(1), scene.run(2, priority=3)
    high.outstanding = 16
    assert plan(scene, planner, low, high) == {1: 16}


@pytest.mark.parametrize("plans_a_permission", [1, 2, 3])
def test_equal_runs_take_turns_however_often_is_planned(plans_a_permission: int) -> None:
    """Two equal runs get the same number of permissions, also where most plans give none."""
    scene = LiveScene(Cap("rpm", 60, None, "flag"))
    planner, one, two = Planner(scene.ledger), scene.run(1), scene.run(2)
    given: Counter[int] = Counter()
    for _ in range(40 * plans_a_permission):
        given += plan(scene, planner, one, two)
        scene.clock.t += 1_010 / plans_a_permission
    assert sum(given.values()) >= 35
    assert abs(given[1] - given[2]) <= 1


def test_no_more_is_planned_than_there_is_room_or_work_for() -> None:
    """Permissions are bounded by twice the concurrency less what is out, and by pending jobs."""
    scene = LiveScene()
    planner, run = Planner(scene.ledger), scene.run(pending=100)
    assert plan(scene, planner, run) == {1: 16}
    run.outstanding = 13
    assert plan(scene, planner, run) == {1: 3}
    few = scene.run(2, pending=2)
    assert plan(scene, planner, few) == {2: 2}


def test_until_the_first_answer_one_goes_alone() -> None:
    """A run that has had no answer gets one permission, and no other before that is back."""
    scene = LiveScene()
    planner, run = Planner(scene.ledger), scene.run()
    run.proved = False
    assert plan(scene, planner, run) == {1: 1}
    run.outstanding = 1
    assert plan(scene, planner, run) == {}


def test_without_a_known_limit_four_go_and_the_ramp_is_kept_to() -> None:
    """With no limit known four go at first, whatever -c says, and as many are claimed ahead."""
    scene = LiveScene()
    planner, run = Planner(scene.ledger), scene.run(is_rate_told=False)
    assert plan(scene, planner, run) == {1: 8}
    assert run.in_flight_bound() == 4


def test_a_held_model_gets_nothing() -> None:
    """Permissions are not taken for jobs of a model that is held."""
    scene = LiveScene()
    planner, run = Planner(scene.ledger), scene.run()
    run.holds[ModelId(1)] = ("model_not_found", "no such model", "")
    assert plan(scene, planner, run) == {}
    assert scene.used() == (0, 0)


def test_a_paused_scope_says_why_and_until_when() -> None:
    """In a pause no permission is given, and the lane says what blocks it."""
    scene = LiveScene()
    planner, run = Planner(scene.ledger), scene.run()
    scene.pool.pause = begin(
        scene.pool.pause, until=int(NOW) + 60_000, reason=WaitingReason.OVERLOADED, detail="later",
        now=NOW, wall=NOW,
    )  # fmt: skip
    assert plan(scene, planner, run) == {}
    blocked = run.lanes[ModelId(1)].blocked
    assert blocked is not None
    assert (blocked.reason, blocked.limit) == (WaitingReason.OVERLOADED, "pause")
    assert blocked.until == pytest.approx(NOW + 60_000, abs=5)
    scene.clock.t = NOW + 60_000 - HORIZON_MS / 2
    assert plan(scene, planner, run) == {1: 16}, "planned ahead of the end, for the end"
    assert run.lanes[ModelId(1)].blocked is None


def test_retries_take_half_of_a_claim() -> None:
    """Of n permissions due retries take up to half, rounded up; none is looked for before it is due."""
    scene = LiveScene()
    run = scene.run()
    lane = run.lanes[ModelId(1)]
    grants = [scene.claim(run).grant for _ in range(5)]
    asked = LanePlan(run, lane, 0, grants).ask(NOW)
    assert (asked.n, asked.n_due, asked.look_due) == (5, 0, False)
    lane.next_due = NOW + 5
    assert LanePlan(run, lane, 0, grants).ask(NOW).look_due is False
    asked = LanePlan(run, lane, 0, grants).ask(NOW + 5)
    assert (asked.n, asked.n_due, asked.look_due) == (5, 3, True)


def test_with_one_permission_at_a_time_retries_and_fresh_jobs_alternate() -> None:
    """With n = 1 every second claim looks at retries first."""
    scene = LiveScene()
    run = scene.run()
    lane = run.lanes[ModelId(1)]
    lane.next_due = NOW
    grants = [scene.claim(run).grant]
    turns = [LanePlan(run, lane, 0, grants).ask(NOW).n_due for _ in range(4)]
    assert turns == [1, 0, 1, 0]


def test_nothing_is_planned_under_a_limit_before_its_claim_is_committed() -> None:
    """Its sends would all be late; nor further ahead than others look. Without a limit they go at once."""
    for caps, commit_ms, begins, n in (
        ((Cap("rpm", 6_000, None, "flag"),), 80.0, 80.0, 16),
        ((Cap("rpm", 600, None, "flag"),), 500.0, 500.0, 5),
        ((), 80.0, 0.0, 16),
    ):
        scene = LiveScene(*caps)
        planner = Planner(scene.ledger)
        planner.commit_ms = commit_ms
        (plans,) = planner.plan([scene.run()], NOW, NOW)
        assert plans.grants[0].instant == NOW + begins
        assert plans.grants[-1].instant <= NOW + HORIZON_MS
        assert len(plans.grants) == n


def test_a_worker_with_something_out_leaves_some_to_those_that_have_nothing() -> None:
    """Under a limit its plan ends before theirs; one that sends alone, or takes long to commit, leaves nothing."""
    for caps, commit_ms, is_out, ends, n in (
        ((Cap("rpm", 600, None, "flag"),), 80.0, True, HORIZON_MS - LEFT_MS, 7),
        ((Cap("rpm", 600, None, "flag"),), 80.0, False, HORIZON_MS, 10),
        ((Cap("rpm", 600, None, "flag"),), 500.0, True, HORIZON_MS, 5),
        ((Cap("rpm", 600, None, "flag"),), 0.0, True, HORIZON_MS, 10),
    ):
        scene = LiveScene(*caps)
        planner, run = Planner(scene.ledger), scene.run()
        planner.commit_ms, run.outstanding = commit_ms, int(is_out)
        (plans,) = planner.plan([run], NOW, NOW)
        assert NOW + ends - 110.0 < plans.grants[-1].instant <= NOW + ends
        assert len(plans.grants) == n
