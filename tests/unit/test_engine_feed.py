"""What a listener is told: its own runs, job by job only if it wants to, in the contract's words."""

from __future__ import annotations

from typing import Any, cast

import pytest

from batchrunner.engine.feed import Feed, counts_json, rate_per_minute, rfc3339, waiting_json
from batchrunner.engine.live import LiveRun
from batchrunner.engine.roster import Roster
from batchrunner.models import JobCounts, ModelId, RunId, ScopeId, Waiting, WaitingReason
from batchrunner.store.records import Delta, Settle
from batchrunner.views import Event, Progress, Runner
from tests.unit.live_scene import NOW, HandClock, LiveScene


class Ear:
    """A listener that keeps what it hears."""

    def __init__(self, *, wants_jobs: bool = True) -> None:
        self.wants_jobs = wants_jobs
        self.events: list[Event] = []
        self.notices: list[str] = []

    def event(self, event: Event) -> None:
        self.events.append(event)

    def progress(self, progress: Progress) -> None:
        raise AssertionError("nobody shows a picture here")

    def notice(self, text: str) -> None:
        self.notices.append(text)

    @property
    def heard(self) -> list[str]:
        """The names of the events."""
        return [event.event for event in self.events]


def feed_to(ear: Ear) -> Feed:
    return Feed(ear, HandClock(), Runner(pid=1, host="h", user="u", since=0))


def settled(run: LiveRun, outcome: str | None, state: str = "completed") -> Settle:
    return Settle(
        job_id=cast("Any", 1), key="k1", attempts=1, started_at=int(NOW), claim=1,
        run_id=RunId(run.id), model_id=ModelId(1), account_id=ScopeId(1), pool_id=ScopeId(2),
        planned_at=int(NOW), state=state, outcome=outcome, ended_at=int(NOW) + 7,
    )  # fmt: skip


def roster_of(*runs: LiveRun) -> Roster:
    return cast("Roster", {run.id: run for run in runs})


def test_only_own_runs_are_told_of() -> None:
    """A process hears of the runs it asked for, never of others' that it sends."""
    scene, ear = LiveScene(), Ear()
    own, other = scene.run(1), scene.run(2, is_own=False)
    feed = feed_to(ear)
    for run in (own, other):
        feed.started(run)
        feed.settled([settled(run, "completed")], roster_of(own, other))
        run.waiting = Waiting(reason=WaitingReason.RATE_LIMITED, until=int(NOW), detail="wait")
        feed.waiting(run)
        run.waiting = None
        feed.waiting(run)
        feed.ended(run, None)
    assert ear.heard == [
        "run.started", "job.completed", "limit.waiting", "limit.resumed", "run.finished",
    ]  # fmt: skip
    assert {event.run_id for event in ear.events} == {"u1"}


@pytest.mark.parametrize(
    ("outcome", "state", "name"),
    [("completed", "completed", "job.completed"), ("failed", "failed", "job.failed"),
     ("retry", "pending", "job.retry"), ("rate_limited", "pending", None), (None, "pending", None)],
)  # fmt: skip
def test_charged_sends_are_events(outcome: str | None, state: str, name: str | None) -> None:
    """An answer, a failure and a retry are events with the job's fields; what charges nobody is none."""
    scene, ear = LiveScene(), Ear()
    run = scene.run()
    feed_to(ear).settled([settled(run, outcome, state)], roster_of(run))
    assert ear.heard == ([] if name is None else [name])
    if name is not None:
        (event,) = ear.events
        assert event.at == int(NOW) + 7
        assert (event.data["key"], event.data["status"], event.data["attempts"]) == ("k1", state, 1)
        assert "output_text" not in event.data


def test_who_wants_no_jobs_hears_of_none() -> None:
    """A watcher that shows only the picture costs nothing a job."""
    scene, ear = LiveScene(), Ear(wants_jobs=False)
    run = scene.run()
    feed_to(ear).settled([settled(run, "completed")], roster_of(run))
    assert ear.events == []


def test_a_stop_with_work_left_is_a_halt_that_says_why() -> None:
    """``run.halted`` carries the counts and the reason."""
    scene, ear = LiveScene(), Ear()
    stop = Waiting(reason=WaitingReason.CREDIT, until=None, detail="no credit", fix="pay")
    feed_to(ear).ended(scene.run(pending=4), stop)
    (event,) = ear.events
    assert event.event == "run.halted"
    said = {"reason": "credit", "until": None, "detail": "no credit", "fix": "pay"}
    assert event.data["waiting"] == said
    assert event.data["jobs"] == counts_json(JobCounts(pending=4))


def test_instants_are_rfc_3339_with_milliseconds() -> None:
    """Times are UTC with three digits; an unknown one is none."""
    assert rfc3339(1_795_406_706_007) == "2026-11-23T04:05:06.007Z"
    assert rfc3339(None) is None
    assert waiting_json(None) is None


def test_the_rate_is_that_of_all_who_send() -> None:
    """What other workers had answered since the last look counts, and what this one had does not twice."""
    run = LiveScene().run(pending=300)
    run.see(JobCounts(pending=150, running=30, completed=118, failed=2), NOW)
    run.move(Delta(pending=0, running=-30, completed=30))
    run.see(JobCounts(pending=150, completed=148, failed=2), NOW + 9_000)
    assert len(run.sends) == 120
    run.see(JobCounts(pending=300), NOW + 10_000)
    assert len(run.sends) == 120
    assert run.counts == JobCounts(pending=300)


def test_the_rate_is_that_of_the_last_minute() -> None:
    """Sends older than a minute do not count, and a young run is scaled up."""
    run = LiveScene().run()
    assert rate_per_minute(run, NOW) is None
    run.sends.extend(NOW + 100 * n for n in range(100))
    assert rate_per_minute(run, NOW + 10_000) == pytest.approx(600, rel=0.02)
    run.sends.extend(NOW + 100_000 + 1_000 * n for n in range(60))
    assert rate_per_minute(run, NOW + 160_000) == pytest.approx(60, rel=0.02)
