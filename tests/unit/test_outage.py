"""Streaks of failures: who is charged, when the scope pauses, when the run halts."""

from __future__ import annotations

import pytest

from batchrunner.core.outage import FAULTS, Charge, Outage, Step
from batchrunner.models import ErrorKind, JobId, WaitingReason

NEVER_CHARGED = [
    ErrorKind.CONNECTION,
    ErrorKind.DNS,
    ErrorKind.PROXY,
    ErrorKind.OVERLOADED,
]
CHARGED = [ErrorKind.SERVER_ERROR, ErrorKind.TIMEOUT, ErrorKind.CONNECTION_RESET]


class Scene:
    """One outage with a clock: every failure is of a request sent just before."""

    def __init__(self, *, concurrency: int = 8, max_wait_ms: float | None = None) -> None:
        self.outage = Outage(max_wait_ms=max_wait_ms)
        self.concurrency = concurrency
        self.now = 1_000.0

    def answered(self) -> Scene:
        self.outage.on_answer()
        return self

    def fails(
        self,
        job: int,
        kind: ErrorKind = ErrorKind.SERVER_ERROR,
        *,
        unfinished: int = 1000,
        sent_ago: float = 10.0,
    ) -> Step:
        self.now += 100
        return self.outage.on_failure(
            JobId(job),
            kind,
            sent_at=self.now - sent_ago,
            now=self.now,
            concurrency=self.concurrency,
            unfinished=unfinished,
        )


def test_table_names_every_outage_kind() -> None:
    """The kinds of CONTRACT §5's outage, no more."""
    assert set(FAULTS) == {*NEVER_CHARGED, *CHARGED}
    assert Outage.is_fault(ErrorKind.TIMEOUT)
    assert not Outage.is_fault(ErrorKind.TLS)


@pytest.mark.parametrize(("concurrency", "k"), [(1, 5), (20, 5), (40, 10), (100, 25)])
@pytest.mark.parametrize("kind", [*NEVER_CHARGED, *CHARGED])
def test_k_distinct_jobs_make_an_outage(kind: ErrorKind, concurrency: int, k: int) -> None:
    """From max(5, concurrency/4) jobs on the scope pauses, and nobody is charged, then or later."""
    scene = Scene(concurrency=concurrency).answered()
    steps = [scene.fails(job, kind) for job in range(k)]
    assert [step.charge for step in steps[:-1]] == [Charge.LATER] * (k - 1)
    assert all(step.pause_ms is None for step in steps[:-1])
    assert (steps[-1].charge, steps[-1].pause_ms) == (Charge.NEVER, 5_000)
    assert scene.outage.is_open
    assert scene.outage.on_success() == ()


def test_one_job_that_fails_again_and_again_is_no_outage() -> None:
    """Only distinct jobs count; the job's failures are its own once another succeeds."""
    scene = Scene().answered()
    assert {scene.fails(7).charge for _ in range(20)} == {Charge.LATER}
    assert not scene.outage.is_open
    assert scene.outage.on_success() == (7,) * 20
    assert scene.outage.on_success() == ()


@pytest.mark.parametrize("kind", [*NEVER_CHARGED, *CHARGED])
def test_success_before_k_charges_the_streak(kind: ErrorKind) -> None:
    """A few failures between successes are the jobs' own, whatever the kind."""
    scene = Scene().answered()
    for job in (3, 1, 3, 2):
        scene.fails(job, kind)
    assert scene.outage.on_success() == (3, 1, 3, 2)


def test_success_starts_the_count_anew() -> None:
    """Failures before a success are not part of the next streak."""
    scene = Scene().answered()
    for job in range(4):
        scene.fails(job)
    scene.outage.on_success()
    for job in range(4, 8):
        assert scene.fails(job).pause_ms is None


def test_probes_go_from_five_seconds_to_five_minutes() -> None:
    """Each probe that fails doubles the wait for the next, until a success."""
    scene = Scene().answered()
    for job in range(4):
        scene.fails(job)
    pauses = [scene.fails(9).pause_ms for _ in range(8)]
    assert pauses == [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]
    scene.outage.on_success()
    assert not scene.outage.is_open
    assert [scene.fails(job).pause_ms for job in range(5)] == [None] * 4 + [5_000]


def test_requests_sent_before_the_outage_do_not_put_off_the_probe() -> None:
    """What was in flight when the scope paused tells nothing about the probe."""
    scene = Scene().answered()
    for job in range(5):
        scene.fails(job)
    stragglers = [scene.fails(job, sent_ago=5_000) for job in range(5, 20)]
    assert {(step.charge, step.pause_ms) for step in stragglers} == {(Charge.NEVER, None)}
    assert scene.fails(30).pause_ms == 10_000


@pytest.mark.parametrize("kind", CHARGED)
def test_last_jobs_are_charged_at_once(kind: ErrorKind) -> None:
    """Fewer than k unfinished jobs can't make an outage; the run must end."""
    scene = Scene().answered()
    step = scene.fails(1, kind, unfinished=4)
    assert (step.charge, step.pause_ms) == (Charge.NOW, None)
    assert scene.outage.on_success() == ()


@pytest.mark.parametrize("kind", NEVER_CHARGED)
def test_last_jobs_wait_where_nothing_succeeds(kind: ErrorKind) -> None:
    """Faults that are never charged pause the scope once all that is left has failed."""
    scene = Scene().answered()
    first, second = (scene.fails(job, kind, unfinished=2) for job in (1, 2))
    assert (first.charge, first.pause_ms) == (Charge.LATER, None)
    assert (second.charge, second.pause_ms) == (Charge.NEVER, 5_000)


@pytest.mark.parametrize("kind", [ErrorKind.CONNECTION, ErrorKind.DNS, ErrorKind.PROXY])
@pytest.mark.parametrize(
    ("max_wait_ms", "tries"), [(None, 60_000), (3_600_000.0, 60_000), (12_000.0, 12_000)]
)
def test_server_never_reached_halts_after_a_minute(
    kind: ErrorKind, max_wait_ms: float | None, tries: float
) -> None:
    """Before the first answer faults are retried for 60 s, or --max-wait if shorter, then halt."""
    scene = Scene(max_wait_ms=max_wait_ms)
    scene.now = 9e9  # however long the call has waited for something else
    began = scene.now + 100
    step = scene.fails(1, kind)
    while not step.halt:
        assert step.charge is Charge.NEVER
        assert step.pause_ms is not None
        scene.now += step.pause_ms - 100
        step = scene.fails(1, kind)
    assert scene.now - began == pytest.approx(tries, abs=100)
    assert step.charge is Charge.NEVER


@pytest.mark.parametrize("kind", [ErrorKind.CONNECTION, ErrorKind.DNS, ErrorKind.PROXY])
def test_server_once_reached_never_halts(kind: ErrorKind) -> None:
    """After an answer, even a bad one, the network is an outage to wait off."""
    scene = Scene()
    scene.fails(1, ErrorKind.OVERLOADED)
    for job in range(40):
        scene.now += 60_000
        assert not scene.fails(job, kind).halt


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (ErrorKind.OVERLOADED, WaitingReason.OVERLOADED),
        (ErrorKind.SERVER_ERROR, WaitingReason.OVERLOADED),
        (ErrorKind.CONNECTION, WaitingReason.NETWORK),
        (ErrorKind.DNS, WaitingReason.NETWORK),
        (ErrorKind.PROXY, WaitingReason.PROXY),
    ],
)
def test_wait_has_a_reason(kind: ErrorKind, reason: WaitingReason) -> None:
    """A person is told whether the server or the way to it is at fault."""
    assert Scene().fails(1, kind).reason is reason
