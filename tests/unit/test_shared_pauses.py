"""Pauses that workers set at once: what a provider asked one of them for holds for all, and to its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from batchrunner.core.admission import Ledger
from batchrunner.core.pause import PauseState, begin, lift, on_success, remaining_ms
from batchrunner.engine.scopes import Scopes
from batchrunner.models import WaitingReason
from batchrunner.store import scopes as statements
from batchrunner.store.runs import driver
from tests.unit.live_scene import NOW, HandClock
from tests.unit.stored import database

#: A 429 without a time, and its pause is over.
BEFORE = PauseState(
    set_at=int(NOW - 9_000), until=int(NOW - 8_000), generation=1, level=1, known_at=NOW - 9_000
)


def refused(pause: PauseState, seconds: float) -> PauseState:
    """Return the pause after a 429 that names a time."""
    return begin(
        pause,
        until=int(NOW + seconds * 1000),
        reason=WaitingReason.RATE_LIMITED,
        detail=f"{seconds} s",
        now=NOW,
        wall=NOW,
    )


class Worker:
    """One worker's picture of an account."""

    def __init__(self, folder: Path) -> None:
        ledger = Ledger()
        self.scopes = Scopes(ledger, HandClock(), lambda _text: None)
        with database(folder).write() as connection:
            conn = driver(connection)
            account = statements.scope_id(
                conn, kind="account", provider="p", key="a", parent_id=None
            )
            self.scope = self.scopes.load(conn, account, "UTC")

    def adopt(self, pause: PauseState) -> None:
        """Begin a turn in which that is stored."""
        reason = pause.reason.value if pause.reason else None
        self.scopes.adopt(
            statements.Standing(
                self.scope.id, 0.0, 0.0, pause.set_at, pause.until, reason, pause.detail,
                pause.generation, pause.level,
            )
        )  # fmt: skip

    @property
    def left_s(self) -> float:
        """How long nobody may send."""
        return remaining_ms(self.scope.pause, now=NOW, wall=NOW) / 1000


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    """One that knows what was stored last."""
    worker = Worker(tmp_path)
    worker.adopt(BEFORE)
    return worker


@pytest.mark.parametrize(
    "meanwhile",
    [
        pytest.param(lambda pause: pause, id="nothing"),
        pytest.param(lambda pause: on_success(pause, sent_at=NOW), id="answer"),
        pytest.param(lambda pause: refused(pause, 5), id="shorter-pause"),
        pytest.param(lift, id="lifted"),
    ],
)
def test_the_longer_pause_holds_whatever_came_here_meanwhile(
    worker: Worker, meanwhile: Callable[[PauseState], PauseState]
) -> None:
    """Another's Retry-After is neither forgotten for what this worker met beside it, nor stored over."""
    worker.scope.pause = meanwhile(worker.scope.pause)
    worker.adopt(refused(BEFORE, 60))
    assert worker.left_s == 60
    assert worker.scopes.take_changed() == []


def test_the_own_pause_holds_where_it_is_the_longer_one(worker: Worker) -> None:
    """Of two that were set at once it is stored over the other's."""
    worker.scope.pause = refused(worker.scope.pause, 60)
    worker.adopt(refused(BEFORE, 5))
    assert worker.left_s == 60
    (row,) = worker.scopes.take_changed()
    assert row.pause_until == NOW + 60_000


def test_a_send_is_stored_though_another_paused_meanwhile(worker: Worker) -> None:
    """The interval is kept from it: whoever takes over a pause forgets nothing of its own."""
    worker.scope.went(NOW, moved=False)
    worker.adopt(refused(BEFORE, 60))
    (row,) = worker.scopes.take_changed()
    assert (row.last_send_at, row.pause_until) == (NOW, NOW + 60_000)
