"""What holds a run's requests in flight: what was typed, what limits can use, memory, files, and trouble."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from batchrunner.core.admission import Cap
from batchrunner.engine.live import AUTO_BYTES, AUTO_KNOWN, AUTO_LEAST, AUTO_MOST, LiveRun
from batchrunner.engine.planning import Planner
from batchrunner.models import Decision, ErrorKind, Verdict
from tests.unit.live_scene import LiveScene

RATE_LIMITED = Decision(verdict=Verdict.PAUSE, kind=ErrorKind.RATE_LIMITED, message="slow down")


def retry(kind: ErrorKind) -> Decision:
    """Return what a failure of that kind means."""
    return Decision(verdict=Verdict.RETRY, kind=kind, message="oops")


def meets(scene: LiveScene, run: LiveRun, decision: Decision | None, *, status: int) -> None:
    """Send a job of its own and judge what came back."""
    outcome = scene.replied(scene.claim(run), decision, status=status)
    run.outstanding -= 1
    scene.judge.judge(outcome)


@pytest.mark.parametrize(
    "kind",
    [
        ErrorKind.OVERLOADED, ErrorKind.SERVER_ERROR, ErrorKind.TIMEOUT,
        ErrorKind.CONNECTION_RESET, ErrorKind.CONNECTION, ErrorKind.PROXY,
    ],
)  # fmt: skip
def test_three_failures_of_the_load_lower_what_is_in_flight(kind: ErrorKind) -> None:
    """Overloads, 5xx, timeouts and connections that are refused or break lower the bound, when three come together."""
    scene = LiveScene()
    run = scene.run()
    for n in range(3):
        assert run.in_flight_bound() == 8, n
        meets(scene, run, retry(kind), status=529)
    assert run.in_flight_bound() == 4
    assert run.allowed == 8, "what was typed is kept"


def test_a_name_that_is_not_found_is_none_of_the_loads() -> None:
    """DNS failures lower nothing."""
    scene = LiveScene()
    run = scene.run()
    for _ in range(4):
        meets(scene, run, retry(ErrorKind.DNS), status=500)
    assert run.adaptive.bound == 8


@pytest.mark.parametrize(
    ("cap", "n_used", "retry_after_ms", "bound"),
    [
        pytest.param(None, 0, None, 4, id="no limit is known"),
        pytest.param(None, 0, 2_000, 4, id="no limit is known, and the server says when"),
        pytest.param(10, 9, None, 8, id="the limit is used up"),
        pytest.param(6_000, 0, None, 4, id="the limit has much left"),
        pytest.param(6_000, 0, 2_000, 8, id="the limit has much left, but the server says when"),
    ],
)
def test_429s_lower_only_where_no_limit_explains_them(
    cap: int | None, n_used: int, retry_after_ms: int | None, bound: int
) -> None:
    """A 429 is the ledger's matter where a limit is used up or the server says when; else one is enough for fewer."""
    scene = LiveScene(*([Cap("rpm", cap, None, "flag")] if cap else []))
    run = scene.run()
    scene.account.count(scene.clock.t, scene.clock.t, n_used)
    hint = None if retry_after_ms is None else int(scene.clock.t) + retry_after_ms
    refused = RATE_LIMITED if hint is None else replace(RATE_LIMITED, retry_at=hint)
    meets(scene, run, refused, status=429)
    assert run.in_flight_bound() == bound


def test_few_in_flight_explain_no_429() -> None:
    """Where limits are known and hardly anything is in flight, a 429 is another's who uses the key."""
    scene = LiveScene(Cap("rpm", 6_000, None, "flag"))
    run = scene.run()
    run.tell(4)
    meets(scene, run, RATE_LIMITED, status=429)
    assert run.adaptive.bound == 4


def test_probes_of_an_outage_lower_nothing_further() -> None:
    """However long an outage lasts, what may be in flight after it is not forgotten."""
    scene = LiveScene()
    run = scene.run()
    for _ in range(5):
        meets(scene, run, retry(ErrorKind.OVERLOADED), status=529)
    assert run.streak.is_outage
    lowered = run.adaptive.bound
    for _ in range(10):
        scene.clock.t = run.streak.probe_at
        meets(scene, run, retry(ErrorKind.OVERLOADED), status=529)
    assert run.adaptive.bound == lowered
    scene.clock.t = run.streak.probe_at
    for _ in range(12):
        run.is_full = True
        meets(scene, run, None, status=200)
    assert run.in_flight_bound() == 8


def test_senders_beyond_the_bound_are_sent_home_once() -> None:
    """When the bound falls, as many senders leave as are too many, before they take another claim."""

    async def sender(run: LiveRun) -> None:
        while await run.queue.take() is not None:
            pass

    async def scene() -> tuple[int, int]:
        run = LiveScene().run()
        for _ in range(8):
            task = asyncio.create_task(sender(run))
            run.senders.add(task)
            task.add_done_callback(run.sender_left)
        run.tell(3)
        run.send_home()
        run.send_home()
        run.queue.take_back()
        for _ in range(4):
            await asyncio.sleep(0)
        left = len(run.senders)
        for task in run.senders:
            task.cancel()
        return left, run.n_leaving

    assert asyncio.run(scene()) == (3, 0)


@pytest.mark.parametrize(
    ("latency_ms", "rpm", "bound"),
    [(1_000, 600, 15), (100, 60, AUTO_LEAST), (3_000, 600, 45), (60_000, 6_000, AUTO_KNOWN)],
)
def test_auto_has_in_flight_what_a_limit_can_use(latency_ms: float, rpm: int, bound: int) -> None:
    """With a known limit as many go as it can use by Little's law and half as many again; above 64 they prove themselves."""
    scene = LiveScene(Cap("rpm", rpm, None, "flag"))
    run = scene.run()
    run.tell("auto")
    run.latency_ms = latency_ms
    run.review()
    assert run.in_flight_bound() == bound


def test_refusals_say_nothing_of_how_long_answers_take() -> None:
    """A refusal comes at once: after many the room that a limit's answers need is what it was."""
    scene = LiveScene(Cap("rpm", 6_000, None, "flag"))
    run = scene.run()
    run.tell("auto")
    replies = [
        *[(None, 200, 390.0)] * 3,
        *[(RATE_LIMITED, 429, 2.0)] * 30,
        *[(retry(ErrorKind.SERVER_ERROR), 500, 2.0)] * 30,
    ]
    claims = [scene.claim(run) for _ in replies]
    for claim, (decision, status, took) in zip(claims, replies, strict=True):
        outcome = scene.replied(claim, decision, status=status)
        outcome.claim.sent_at = outcome.ended_at - took
        run.outstanding -= 1
        scene.judge.judge(outcome)
    assert run.latency_ms == 390.0
    run.review()
    assert run.adaptive.most == 59


@pytest.mark.parametrize(
    ("connections", "request_bytes", "most"),
    [
        (65_000, 1_000.0, AUTO_MOST),
        (300, 1_000.0, 300),
        (65_000, 2.0 * 1024 * 1024, AUTO_BYTES // (2 * 1024 * 1024)),
        (65_000, 1e9, AUTO_LEAST),
    ],
)
def test_auto_never_passes_files_and_memory(
    connections: int, request_bytes: float, most: int
) -> None:
    """However many answers come, auto stays within a thousand, the files that may be open, and memory for requests."""
    run = LiveScene().run(is_rate_told=False)
    run.tell("auto", connections)
    run.request_bytes = request_bytes
    for n in range(3_000):
        if n % 50 == 0:
            run.review()
        # Twice as many in flight, twice as fast: growing pays.
        now = 1_000.0 * n / max(1, run.adaptive.bound)
        run.adaptive.answered(now, sent_at=now - 1.0, n_answered=n, is_full=True)
    run.review()
    assert run.in_flight_bound() <= most
    assert run.adaptive.most == most


def test_what_is_typed_while_it_runs_holds_at_once() -> None:
    """-c typed beside the run is in force with the next plan; auto goes on from there."""
    run = LiveScene().run()
    for n in (40, 2, 12):
        run.tell(n)
        run.review()
        assert run.in_flight_bound() == n
    run.tell("auto")
    run.review()
    assert run.in_flight_bound() == 12


def test_a_run_is_full_only_where_the_bound_holds_it_back() -> None:
    """Full is a plan that could have claimed more, but for what may be in flight: not with few jobs, nor at a limit."""
    scene = LiveScene()
    planner = Planner(scene.ledger)
    for pending, is_full in ((1_000, True), (5, False)):
        run = scene.run(pending=pending)
        planner.plan([run], scene.clock.t, scene.clock.t)
        assert run.is_full is is_full
    limited = LiveScene(Cap("rpm", 6, None, "flag"))
    run = limited.run()
    Planner(limited.ledger).plan([run], limited.clock.t, limited.clock.t)
    assert not run.is_full
