"""Who goes first where tokens are short: the order of a lane is kept, and nobody starves."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

import pytest

from batchrunner.core.admission import Cap
from batchrunner.core.counting import Charge
from batchrunner.engine.live import LiveRun
from batchrunner.engine.planning import PATIENCE_MS, Planner
from batchrunner.engine.token_estimates import Ahead
from batchrunner.models import JobId, ModelId
from tests.unit.live_scene import LiveScene

N = 10_000
TPM = Cap("tpm", N, None, "flag")


def next_jobs(run: LiveRun, sizes: Iterable[int]) -> None:
    """Have these sizes come next in the run's only lane, its jobs numbered from 1."""
    lane = run.lanes[ModelId(1)]
    lane.ahead = deque(Ahead(JobId(i), Charge(n, 0)) for i, n in enumerate(sizes, 1))


def planned(scene: LiveScene, planner: Planner, *runs: LiveRun) -> dict[int, list[int]]:
    """Plan once; return the jobs that got permission, by run."""
    plans = planner.plan(runs, scene.clock.t, scene.clock.t)
    for plan in plans:
        assert len(plan.jobs) == len(plan.grants)
    return {int(plan.run.id): [int(job) for job in plan.jobs] for plan in plans}


def test_permission_is_for_the_jobs_that_come_next_in_their_order() -> None:
    """As many as fit, by name, from the first on."""
    scene = LiveScene(TPM)
    run = scene.run()
    next_jobs(run, [4_000, 4_000, 4_000, 100])
    planner = Planner(scene.ledger)
    assert planned(scene, planner, run) == {1: [1, 2]}
    assert planned(scene, planner, run) == {}


def test_a_large_job_at_the_head_is_not_overtaken_by_its_lane() -> None:
    """Though the small one behind it would fit."""
    scene = LiveScene(TPM)
    run = scene.run()
    next_jobs(run, [6_000, 6_000, 10])
    planner = Planner(scene.ledger)
    assert planned(scene, planner, run) == {1: [1]}
    scene.clock.t += 30_000
    assert planned(scene, planner, run) == {}
    scene.clock.t += 31_000
    assert planned(scene, planner, run) == {1: [2, 3]}


def test_what_comes_next_is_looked_up_before_anything_is_given() -> None:
    """A lane whose next jobs are not known gets nothing yet, and is asked about; others go on."""
    scene = LiveScene(TPM)
    one, two = scene.run(1), scene.run(2)
    next_jobs(two, [10])
    planner = Planner(scene.ledger)
    assert planned(scene, planner, one, two) == {2: [1]}
    assert [look.run_id for look in planner.looks(scene.clock.t)] == [1, 2]


def test_without_a_token_limit_nothing_is_looked_up() -> None:
    """The usual claim stays what it was."""
    scene = LiveScene(Cap("rpm", 60, None, "flag"))
    planner, run = Planner(scene.ledger), scene.run()
    plans = planner.plan([run], scene.clock.t, scene.clock.t)
    assert plans
    assert not plans[0].jobs
    assert not planner.looks(scene.clock.t)


def drain(scene: LiveScene, sizes: dict[int, int], seconds: int) -> Counter[int]:
    """Let runs of endless jobs of one size each share a limit; return the tokens each sent."""
    runs = {run_id: scene.run(run_id) for run_id in sizes}
    planner, sent = Planner(scene.ledger), Counter[int]()
    for _ in range(seconds * 2):
        for run_id, run in runs.items():
            if not run.lanes[ModelId(1)].ahead:
                next_jobs(run, [sizes[run_id]] * 64)
        for run_id, jobs in planned(scene, planner, *runs.values()).items():
            sent[run_id] += sizes[run_id] * len(jobs)
        scene.clock.t += 500
    return sent


def test_small_jobs_of_another_run_do_not_starve_a_large_one() -> None:
    """A large job waits at most its patience and a window, though small ones would always fit."""
    sent = drain(LiveScene(TPM), {1: 100, 2: 9_000}, 600)
    assert sent[2] >= 9_000 * 600 / (60 + 60 + PATIENCE_MS / 1_000 + 5)
    assert sum(sent.values()) >= 0.6 * 10 * N


def test_large_jobs_of_another_run_do_not_starve_small_ones() -> None:
    """Small jobs go on beside large ones: while a large one is patient, and in what it leaves."""
    sent = drain(LiveScene(TPM), {1: 100, 2: 9_000}, 600)
    assert sent[1] >= 0.1 * 10 * N


@pytest.mark.parametrize("large", [1_500, 3_000, 6_000])
def test_runs_of_unlike_jobs_share_the_tokens_equally(large: int) -> None:
    """Of a run of small jobs and one of large ones each gets about half the tokens, and hardly any are lost."""
    sent = drain(LiveScene(TPM), {1: 500, 2: large}, 1_200)
    assert 0.4 <= sent[2] / sum(sent.values()) <= 0.6
    assert sum(sent.values()) >= 0.9 * 20 * N


def test_a_giant_gets_its_empty_window() -> None:
    """A job larger than the limit is sent though another run would fill the window for ever."""
    sent = drain(LiveScene(TPM), {1: 100, 2: 15_000}, 600)
    assert sent[2] >= 2 * 15_000
    assert sent[1] > 0


def test_a_higher_priority_is_not_kept_waiting_for_a_lower_ones_large_job() -> None:
    """What is left to a job that waited long is so for its equals and those below."""
    scene = LiveScene(TPM)
    low, high = scene.run(1), scene.run(2, priority=1)
    planner = Planner(scene.ledger)
    next_jobs(low, [5_000, 9_000])
    next_jobs(high, [10] * 64)
    assert planned(scene, planner, low) == {1: [1]}
    assert planned(scene, planner, low) == {}
    scene.clock.t += PATIENCE_MS + 1_000
    assert planned(scene, planner, low, high)[2]
