"""Each state a run or a job can be in has a sentence and a next step."""

from __future__ import annotations

import pytest

from batchrunner.core.caps import METERS, MIN_INTERVAL
from batchrunner.core.time_use import (
    DIED,
    OUTAGE,
    RETRY,
    SENDING,
    UNRECORDED,
    Kind,
    kind_of,
    stopped,
)
from batchrunner.explaining import _advice, _of_run
from batchrunner.models import JobCounts, RunState, Waiting, WaitingReason
from batchrunner.store.explain import Held
from batchrunner.views import Runner, RunView, TimePart, TimeView

NOW = 1_790_000_000_000
LIVE = (RunState.RUNNING, RunState.WAITING)
HELD = Held("m-9", "there is no such model", "batchrunner resume run --set model=NAME")


def view(state: RunState, waiting: Waiting | None = None, *, failed: int = 0) -> RunView:
    """Return a run in that state."""
    return RunView(
        id="u", name="my run", state=state, provider="http", created_at=NOW, started_at=NOW,
        runner=Runner(pid=1, host="h", user="u", since=NOW) if state in LIVE else None,
        jobs=JobCounts(pending=3, completed=4, failed=failed), waiting=waiting,
    )  # fmt: skip


@pytest.mark.parametrize("until", [NOW, None], ids=["dated", "undated"])
@pytest.mark.parametrize("fix", ["", "batchrunner resume 'my run' --wait"], ids=["no-fix", "fix"])
@pytest.mark.parametrize("reason", WaitingReason)
@pytest.mark.parametrize("state", RunState)
def test_every_state_has_a_sentence_and_a_next_step(
    state: RunState, reason: WaitingReason, fix: str, until: int | None
) -> None:
    """Whatever a run waits or stands for, one sentence says so and another what to do."""
    waiting = Waiting(reason=reason, until=until, detail="it is so", fix=fix)
    for is_dead in (False, True):
        told = _of_run(view(state, waiting), [HELD], is_dead=is_dead)
        assert told.detail.endswith((".", "!"))
        assert "batchrunner" in told.next or told.next.startswith("nothing is to be done")
    if state is RunState.WAITING and not fix and until is None:
        assert "by itself" not in told.next or "doctor" in told.next


@pytest.mark.parametrize("state", [s for s in RunState if s is not RunState.WAITING])
def test_a_run_that_waits_for_nothing_has_a_next_step_too(state: RunState) -> None:
    """Names are quoted in commands; what is held, failed or dead is told."""
    quiet = _of_run(view(state, failed=2), [], is_dead=False)
    assert "'my run'" in quiet.next
    if state is RunState.RUNNING:
        assert _of_run(view(state), [HELD], is_dead=False).next == HELD.fix
    if state is RunState.READY:
        dead = _of_run(view(state), [], is_dead=True)
        assert "ended without a word" in dead.detail
        assert "ended without a word" not in quiet.detail


@pytest.mark.parametrize(
    "cause",
    [*METERS, MIN_INTERVAL, "rate_limited", "daily_limit", "spend_limit", "budget",
     OUTAGE, RETRY, SENDING, DIED, stopped("paused")],
)  # fmt: skip
def test_every_cause_has_advice(cause: str) -> None:
    """What most of the time went into is what would make it faster, with a command or a place."""
    parts = [
        TimePart(cause=UNRECORDED, kind=Kind.UNKNOWN.value, seconds=50.0),
        TimePart(cause=cause, kind=kind_of(cause).value, seconds=40.0),
        TimePart(cause=SENDING, kind=Kind.SENDING.value, seconds=10.0),
    ]
    time = TimeView(began_at=NOW, ended_at=NOW + 100_000, parts=parts, waits=(), n_waits=0)
    words = _advice(view(RunState.FINISHED), time)
    assert words
    assert "{" not in words
    short = TimeView(
        began_at=NOW, ended_at=NOW, parts=[TimePart(cause=cause, kind="x", seconds=0.2)],
        waits=(), n_waits=0,
    )  # fmt: skip
    assert _advice(view(RunState.FINISHED), short) == ""
    assert _advice(view(RunState.FINISHED), None) == ""
