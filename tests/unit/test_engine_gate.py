"""The gate: what is refused was never sent and gives its allowance back, once; late sends are moved."""

from __future__ import annotations

import asyncio

import pytest

from batchrunner.core.admission import Blocked, Cap, Grant
from batchrunner.core.counting import Charge
from batchrunner.core.pause import begin
from batchrunner.core.scope import ScopeLedger
from batchrunner.engine.live import LiveRun
from batchrunner.models import ModelId, ScopeId, Waiting, WaitingReason
from batchrunner.store.rescue import MAX_LATE_MS
from batchrunner.transport import Aborted
from tests.unit.live_scene import NOW, LiveScene

RPM = Cap("rpm", 600, None, "flag")
STOP = Waiting(reason=WaitingReason.PAUSED, until=None, detail="")


def stop(_scene: LiveScene, run: LiveRun) -> None:
    """Stop the run."""
    run.stop = STOP


def hold(_scene: LiveScene, run: LiveRun) -> None:
    """Hold its model."""
    run.holds[ModelId(1)] = ("model_not_found", "", "")


def pause(scene: LiveScene, _run: LiveRun) -> None:
    """Pause its pool."""
    scene.pool.pause = begin(
        scene.pool.pause, until=int(NOW) + 9_000, reason=WaitingReason.RATE_LIMITED, detail="",
        now=NOW, wall=NOW,
    )  # fmt: skip


def move(_scene: LiveScene, run: LiveRun) -> None:
    """Bind it to another account."""
    run.account = ScopeLedger(ScopeId(77))


def lapse(scene: LiveScene, _run: LiveRun) -> None:
    """Have others be allowed to take its job over."""
    scene.gate.lease_until = NOW - 1.0


def lose(scene: LiveScene, _run: LiveRun) -> None:
    """Have been cut off since it was claimed: others may have its job."""
    scene.gate.lease_until, scene.gate.void_before = NOW + 60_000, scene.clock.t + 1.0


@pytest.mark.parametrize("why", [stop, hold, pause, move, lapse, lose], ids=lambda f: f.__name__)
async def test_what_is_refused_gives_its_allowance_back_once(why: object) -> None:
    """A claim that may not go any more is refused at both doors, and its usage is given back exactly once."""
    scene = LiveScene(RPM)
    run = scene.run()
    kept, claim = scene.claim(run), scene.claim(run)
    scene.clock.t = claim.grant.instant
    assert scene.used() == (2, 2)
    why(scene, run)  # type: ignore[operator]
    assert await scene.gate.approach(claim) is False
    with pytest.raises(Aborted):
        await scene.gate.at_send(claim)
    with pytest.raises(Aborted):
        scene.gate.send_now(claim)
    (settle,) = scene.judge.judge(scene.unsent(claim))
    assert (settle.state, settle.outcome, settle.charged) == ("pending", None, 0)
    assert scene.used() == (1, 1)
    scene.judge.judge(scene.unsent(claim))
    assert scene.used() == (1, 1), "given back once"
    assert kept.is_booked
    assert claim.sent_at == 0


async def test_a_send_in_time_stays_in_its_slot() -> None:
    """A send at its instant goes as it was booked, and its instant is noted."""
    scene = LiveScene(RPM)
    claim = scene.claim(scene.run())
    await scene.gate.at_send(claim)
    assert (claim.sent_at, claim.grant.moved) == (NOW, False)
    assert scene.used() == (1, 1)


async def test_a_late_send_is_booked_where_it_really_goes() -> None:
    """A send that comes late asks for now, and stands in the slot of its real instant."""
    scene = LiveScene(RPM)
    claim = scene.claim(scene.run())
    booked = claim.grant.minute_slot
    scene.clock.t += 5_000
    await scene.gate.at_send(claim)
    assert claim.grant.moved
    assert claim.grant.minute_slot == booked + 20
    assert [slot for slot, n in scene.account.minute.counts.items() if n] == [booked + 20]
    assert scene.used() == (1, 1)


@pytest.mark.parametrize("n_signals", [0, 1, 2])
async def test_a_send_that_is_given_up_while_it_is_moved_is_booked_nowhere(n_signals: int) -> None:
    """A worker's turn is seen through, however often its sender is cancelled meanwhile; what it booked goes back."""
    scene = LiveScene(RPM)
    run = scene.run()
    claim = scene.claim(run)
    # Booked in the same slot, and not to be given back in its place.
    scene.claim(run)
    is_begun, goes_on = asyncio.Event(), asyncio.Event()

    async def rebook(grant: Grant, charge: Charge | None) -> Grant | Blocked:
        is_begun.set()
        await goes_on.wait()
        return scene.ledger.rebook(grant, scene.clock.t, scene.clock.t, charge)

    scene.gate.rebook = rebook
    scene.clock.t += 5_000
    sending = asyncio.create_task(scene.gate.at_send(claim))
    await is_begun.wait()
    for _ in range(n_signals):
        sending.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    goes_on.set()
    (end,) = await asyncio.gather(sending, return_exceptions=True)
    assert isinstance(end, asyncio.CancelledError) is bool(n_signals)
    assert claim.grant.moved
    assert bool(claim.sent_at) is not bool(n_signals)
    scene.judge.judge(scene.unsent(claim))
    kept = [slot for slot, n in scene.account.minute.counts.items() if n]
    assert (scene.used(), kept) == ((1, 1), [int(NOW // 250)])


async def test_a_moved_send_does_not_go_once_its_worker_was_cut_off() -> None:
    """Moved to a slot beyond the time in which others may have been given its job, it is refused all the same."""
    scene = LiveScene(RPM)
    claim = scene.claim(scene.run())
    is_moved = asyncio.Event()

    async def rebook(grant: Grant, charge: Charge | None) -> Grant | Blocked:
        is_moved.set()
        at = scene.clock.t + 4_000
        return scene.ledger.rebook(grant, at, at, charge)

    scene.gate.rebook = rebook
    scene.clock.t += 5_000
    sending = asyncio.create_task(scene.gate.at_send(claim))
    await is_moved.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    assert claim.grant.moved
    scene.gate.lease_until, scene.gate.void_before = NOW + 60_000, scene.clock.t + 2_000
    scene.clock.t = claim.grant.instant
    scene.gate.wake()
    with pytest.raises(Aborted):
        await sending
    assert claim.sent_at == 0
    scene.judge.judge(scene.unsent(claim))
    assert scene.used() == (0, 0)


async def test_a_send_that_is_much_too_late_is_refused() -> None:
    """Past the bound that a rescue counts on nothing goes out any more."""
    scene = LiveScene(RPM)
    claim = scene.claim(scene.run())
    scene.clock.t += MAX_LATE_MS + 1
    with pytest.raises(Aborted):
        await scene.gate.at_send(claim)
    scene.judge.judge(scene.unsent(claim))
    assert scene.used() == (0, 0)


async def test_a_late_send_that_finds_no_place_is_refused_and_not_given_back_twice() -> None:
    """Where the window has filled up meanwhile a late send is refused; the others' places stay."""
    scene = LiveScene(Cap("rpm", 2, None, "flag"))
    run = scene.run()
    claim = scene.claim(run)
    scene.clock.t += 20_000
    scene.account.count(scene.clock.t, scene.clock.t, 2)
    with pytest.raises(Aborted):
        await scene.gate.at_send(claim)
    assert scene.used() == (2, 0)
    scene.judge.judge(scene.unsent(claim))
    assert scene.used() == (2, 0)


async def test_a_lowered_limit_is_asked_again_at_the_send() -> None:
    """A permission given under another limit asks anew, and is refused where the new one is used up."""
    scene = LiveScene(RPM)
    run = scene.run()
    first, second = scene.claim(run), scene.claim(run)
    await scene.gate.at_send(first)
    scene.account.set_caps([Cap("rpm", 1, None, "flag")])
    scene.ledger.version += 1
    scene.clock.t = second.grant.instant
    with pytest.raises(Aborted):
        await scene.gate.at_send(second)
    assert second.sent_at == 0


async def test_the_interval_holds_between_real_sends() -> None:
    """Of two sends at one moment the second waits for the interval, and is let out when it is over."""
    scene = LiveScene(Cap("min_interval", 400.0, None, "flag"))
    run = scene.run()
    first, second = scene.claim(run), scene.claim(run)
    assert second.grant.instant == NOW + 400
    scene.clock.t = NOW + 300
    await scene.gate.at_send(first)
    scene.clock.t = NOW + 400
    waits = asyncio.create_task(scene.gate.at_send(second))
    await asyncio.sleep(0)
    assert not waits.done()
    scene.clock.t = NOW + 701
    scene.gate.wake()
    await waits
    assert second.sent_at - first.sent_at == pytest.approx(401)


async def test_a_pause_wakes_what_sleeps_until_its_instant() -> None:
    """A send that waits for its instant looks again when something changed, and is refused."""
    scene = LiveScene(Cap("rpm", 1, None, "flag"))
    run = scene.run()
    scene.claim(run)
    later = scene.claim(run)
    assert later.grant.instant > NOW + 50_000
    waits = asyncio.create_task(scene.gate.approach(later))
    await asyncio.sleep(0)
    assert not waits.done()
    run.stop = STOP
    scene.gate.wake()
    assert await waits is False


async def test_the_backstop_never_binds_at_the_pace() -> None:
    """Sends at their planned instants find room in the backstop."""
    scene = LiveScene(Cap("rpm", 6_000, None, "flag"))
    run = scene.run()
    for _ in range(30):
        claim = scene.claim(run)
        scene.clock.t = max(scene.clock.t, claim.grant.instant)
        assert await scene.gate.approach(claim)
        await scene.gate.at_send(claim)
    assert scene.gate.backstop_waits == 0
