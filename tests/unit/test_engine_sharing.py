"""A worker's turns, without a database: when they are due, and what a late send gets in one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from batchrunner.core.admission import Blocked, Cap
from batchrunner.engine.sharing import Sharing
from batchrunner.models import WaitingReason
from batchrunner.store.faults import DiskFullError
from batchrunner.transport import Aborted
from tests.unit.live_scene import LiveScene

#: More turns than a late send takes anywhere.
MANY = 10


class Nobody:
    """A connection to a queue on which nobody else has done anything."""

    rowcount = 1

    def execute(self, _sql: str, _parameters: object = ()) -> Nobody:
        """Find this worker's row and nothing else."""
        return self

    def fetchall(self) -> list[tuple[object, ...]]:
        """Return no rows."""
        return []

    def __iter__(self) -> Iterator[tuple[object, ...]]:
        """Yield none."""
        return iter(())


class SlowWriter:
    """A writer whose commits take their time."""

    n_losses = 0

    def __init__(self, scene: LiveScene, commit_ms: float) -> None:
        self._scene = scene
        self.is_full = False
        self._commit_ms = commit_ms
        self.n_turns = 0

    @asynccontextmanager
    async def turn(self, begin: Callable[[Any], Any], **_how: Any) -> AsyncIterator[Any]:
        """Begin with nothing that others did."""
        self.n_turns += 1
        assert self.n_turns < MANY, "it is late again each time"
        yield begin(Nobody())
        if self.is_full:
            raise DiskFullError("the disk is full")

    async def transact(self, _function: Callable[[Any], Any], **_how: Any) -> None:
        """Commit."""
        self._scene.clock.t += self._commit_ms


def sharing(scene: LiveScene, writer: SlowWriter) -> Sharing:
    """Return a worker's part, of a queue that nobody else uses."""
    scopes = SimpleNamespace(unstored=set, take_changed=lambda _of: [])
    purses = SimpleNamespace(look=lambda _conn, _runs: None, take=lambda _live, _money: None)
    foresight = SimpleNamespace(
        glances=lambda _runs: [], read=lambda _conn, _glances: [], take=lambda _glances, _jobs: None
    )
    return Sharing(
        cast("Any", writer), scene.ledger, cast("Any", scopes), scene.clock,
        worker=1, gate=scene.gate, purses=cast("Any", purses), foresight=cast("Any", foresight),
    )  # fmt: skip


async def test_a_late_send_goes_however_long_its_turn_takes() -> None:
    """Where a commit takes longer than a send may be late, it gets a slot that begins after its commit."""
    scene = LiveScene(Cap("rpm", 600, None, "flag"))
    claim = scene.claim(scene.run())
    writer = SlowWriter(scene, commit_ms=150.0)
    scene.gate.rebook = sharing(scene, writer).rebook
    scene.clock.t += 5_000
    await scene.gate.at_send(claim)
    assert writer.n_turns == 2
    assert claim.sent_at == claim.grant.instant == scene.clock.t
    assert scene.used() == (1, 1)


async def test_what_was_planned_before_the_server_was_away_is_not_sent_after_it() -> None:
    """Others may have been given it: a late send of it gets no slot, and one in time does not go either."""
    scene = LiveScene(Cap("rpm", 600, None, "flag"))
    run = scene.run()
    late, queued = scene.claim(run), scene.claim(run)
    writer = SlowWriter(scene, commit_ms=5.0)
    part = sharing(scene, writer)
    scene.gate.rebook = part.rebook
    async with part.turn([run]):
        pass
    scene.clock.t += 6_000
    part.cut_off()
    with pytest.raises(Aborted):
        # As far as it knows, others have its jobs by now.
        scene.gate.send_now(queued)
    writer.n_losses += 1
    assert isinstance(await part.rebook(late.grant, None), Blocked)
    assert scene.used() == (1, 1)
    with pytest.raises(Aborted):
        scene.gate.send_now(queued)
    scene.gate.send_now(scene.claim(run))


async def test_a_late_send_puts_off_no_turn_that_plans() -> None:
    """A limit that was changed is seen at once, whichever sends are moved for it before."""
    scene = LiveScene(Cap("rpm", 600, None, "flag"))
    run = scene.run(pending=0)
    late = scene.claim(run)
    part = sharing(scene, SlowWriter(scene, commit_ms=5.0))
    async with part.turn([run]):
        pass
    assert not part.is_due([run])
    scene.ledger.version += 1
    await part.rebook(late.grant, None)
    assert part.is_due([run])


async def test_how_long_a_moved_send_takes_is_not_how_long_a_claim_takes() -> None:
    """A late send's turn is the shorter one: by it the next claims would all be late again."""
    scene = LiveScene(Cap("rpm", 600, None, "flag"))
    run = scene.run()
    late = scene.claim(run)
    part = sharing(scene, SlowWriter(scene, commit_ms=100.0))
    decided_at = scene.clock.t
    scene.clock.t += 450.0
    part.stored([], decided_at=decided_at)
    await part.rebook(late.grant, None)
    assert part.takes == 450.0


async def test_far_from_the_server_a_turn_begins_before_there_is_room() -> None:
    """It is as long on its way to the decision as after it; near it, nobody begins so early."""
    scene = LiveScene(Cap("rpm", 600, None, "flag"))
    run = scene.run()
    (lane,) = run.lanes.values()
    part = sharing(scene, SlowWriter(scene, commit_ms=5.0))
    async with part.turn([run]):
        pass
    lane.blocked = Blocked(
        scene.clock.t + 1_000, None, WaitingReason.RATE_LIMITED, "rpm", run.account.id
    )
    assert not part.is_due([run])
    assert part.lead_ms == 500.0
    part.stored([], decided_at=scene.clock.t - 400.0)
    assert part.is_due([run])
    assert part.lead_ms == 1_300.0


async def test_a_late_send_that_is_refused_is_given_back_once() -> None:
    """Where the server was away and its disk is full as well: twice would be one request too many."""
    scene = LiveScene(Cap("rpm", 600, None, "flag"))
    run = scene.run()
    late, _ = scene.claim(run), scene.claim(run)
    writer = SlowWriter(scene, commit_ms=5.0)
    part = sharing(scene, writer)
    async with part.turn([run]):
        pass
    writer.n_losses, writer.is_full = 1, True
    assert isinstance(await part.rebook(late.grant, None), Blocked)
    assert scene.used() == (1, 1)
