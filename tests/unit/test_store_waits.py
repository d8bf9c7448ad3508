"""Waits and sums as they are stored: they account for all of a run's time, whatever ended when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batchrunner.core.time_use import DIED, OVER
from batchrunner.models import RunId, RunState, ScopeId, Waiting, WaitingReason
from batchrunner.store import explain, holder, scopes, waits
from batchrunner.store.database import Database
from batchrunner.store.records import TimeSum
from batchrunner.store.runs import driver
from batchrunner.store.stops import end_run, let_go, set_waiting
from batchrunner.store.views import run_view
from batchrunner.views import TimeView
from tests.unit.stored import NOW, database, lines, load, run

DAY = NOW // 86_400_000
FULL = Waiting(reason=WaitingReason.DAILY_LIMIT, until=NOW + 9_000, detail="the day is used up")


class Store:
    """A run in a database, and the statements of its life."""

    def __init__(self, tmp_path: Path) -> None:
        """Store a run that has an account."""
        self.db: Database = database(tmp_path)
        self.id: RunId = load(self.db, lines(2))
        with self.db.write() as connection:
            conn = driver(connection)
            self.account = scopes.scope_id(
                conn, kind="account", provider="anthropic", key="k", parent_id=None
            )
            holder.set_account(conn, self.id, self.account)

    def do(self, function: Any, *words: Any, **how: Any) -> None:
        """Call a function of the store in a transaction."""
        with self.db.write() as connection:
            function(driver(connection), self.id, *words, **how)

    def take_up(self, at: int) -> None:
        """Have a process take it up."""
        self.do(holder.take_up, 7, wall=NOW + at)

    def wait(self, at: int, waiting: Waiting | None = FULL, cause: str = "rpd") -> None:
        """Begin or end a wait."""
        self.do(set_waiting, waiting, cause=cause, wall=NOW + at)

    def end(self, at: int, stop: Waiting | None = None, *times: TimeSum) -> None:
        """Have its process end it."""
        self.do(end_run, stop, finished=stop is None, wall=NOW + at, times=times)

    def sum(self, cause: str, ms: float) -> TimeSum:
        """Return time that went into one cause."""
        return TimeSum(self.id, DAY, ScopeId(self.account), cause, ms)

    def time(self, state: RunState, at: int) -> TimeView:
        """Return where its time went."""
        found = explain.time_of(self.db, run(self.db, self.id), state, now_ms=NOW + at)
        assert found is not None
        return found

    def parts(self, state: RunState, at: int) -> dict[str, float]:
        """Return its parts in milliseconds."""
        return {part.cause: part.seconds * 1000 for part in self.time(state, at).parts}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A run that was never taken up."""
    return Store(tmp_path)


def test_nothing_is_told_of_a_run_that_nobody_ran(store: Store) -> None:
    """Its time begins when it is taken up, and not when it was stored or refused."""
    assert explain.time_of(store.db, run(store.db, store.id), RunState.READY, now_ms=NOW) is None
    store.end(500, Waiting(reason=WaitingReason.AUTHENTICATION, until=None, detail="no key"))
    store.take_up(900)
    assert store.parts(RunState.RUNNING, 5_000) == {}
    assert store.time(RunState.RUNNING, 5_000).waits == []


def test_an_orderly_life_is_accounted_for(store: Store) -> None:
    """Two calls with a stop between: the parts are what was told, and sum to the whole."""
    store.take_up(0)
    stop = Waiting(reason=WaitingReason.INTERRUPTED, until=None, detail="Ctrl-C")
    store.end(1_000, stop, store.sum("sending", 400.0), store.sum("rpm", 600.0))
    assert store.parts(RunState.READY, 3_000) == {
        "stopped.interrupted": 2_000, "rpm": 600, "sending": 400,
    }  # fmt: skip
    store.take_up(4_000)
    store.end(5_000, None, store.sum("sending", 1_000.0))
    time = store.time(RunState.FINISHED, 99_000)
    assert {part.cause: part.seconds for part in time.parts} == {
        "stopped.interrupted": 3.0, "sending": 1.4, "rpm": 0.6,
    }  # fmt: skip
    assert (time.began_at, time.ended_at) == (NOW, NOW + 5_000)
    (wait,) = time.waits
    assert (wait.cause, wait.detail, wait.seconds) == ("stopped.interrupted", "Ctrl-C", 3.0)


def test_a_run_that_is_put_back_was_over_in_between(store: Store) -> None:
    """From its end until somebody sends more of it nobody died, and nothing is missing."""
    store.take_up(0)
    store.end(1_000, None, store.sum("sending", 1_000.0))
    with store.db.write() as connection:
        driver(connection).execute("UPDATE run SET state = 'ready', finished_at = NULL")
    time = store.time(RunState.READY, 4_000)
    assert {part.cause: part.seconds for part in time.parts} == {OVER: 3.0, "sending": 1.0}
    assert time.died_at is None
    store.take_up(5_000)
    store.end(6_000, None, store.sum("sending", 1_000.0))
    assert store.parts(RunState.FINISHED, 9_000) == {OVER: 4_000, "sending": 2_000}


def test_a_death_in_a_wait_ends_it_when_it_was_last_known(store: Store) -> None:
    """From the last stored instant until somebody takes it up the process was dead, not waiting."""
    store.take_up(0)
    store.wait(100)
    store.do(lambda conn, _: waits.book(conn, [store.sum("rpd", 2_000.0)]))
    assert store.parts(RunState.WAITING, 2_500) == {"rpd": 2_500}
    assert store.parts(RunState.READY, 6_000) == {DIED: 4_000, "rpd": 2_000}
    store.take_up(7_000)
    time = store.time(RunState.RUNNING, 7_000)
    assert {part.cause: part.seconds for part in time.parts} == {DIED: 5.0, "rpd": 2.0}
    found = {wait.cause: (wait.began_at - NOW, (wait.ended_at or 0) - NOW) for wait in time.waits}
    assert found == {"rpd": (100, 2_000), DIED: (2_000, 7_000)}


def test_a_death_while_sending_is_told(store: Store) -> None:
    """A process that left no word leaves time in which nobody ran it."""
    store.take_up(0)
    store.do(lambda conn, _: waits.book(conn, [store.sum("sending", 1_500.0)]))
    assert store.parts(RunState.RUNNING, 2_000) == {"sending": 1_500}
    store.take_up(3_500)
    assert store.parts(RunState.RUNNING, 3_500) == {DIED: 2_000, "sending": 1_500}


def test_waits_close_together_are_one_row(store: Store) -> None:
    """A pause of a second that comes again for an hour is one row, with how many and how long."""
    store.take_up(0)
    for n in range(50):
        store.wait(n * 2_000)
        store.wait(n * 2_000 + 1_000, None)
    (wait,) = store.time(RunState.RUNNING, 0).waits
    assert (wait.times, wait.seconds) == (50, 50.0)
    assert (wait.began_at - NOW, (wait.ended_at or 0) - NOW) == (0, 99_000)
    store.wait(99_000 + waits.TOGETHER_MS + 1)
    assert store.time(RunState.WAITING, 0).n_waits == 2


def test_a_wait_whose_end_moves_is_one(store: Store) -> None:
    """What is told anew of a wait, its end or its words, begins no other."""
    store.take_up(0)
    store.wait(100)
    later = Waiting(reason=FULL.reason, until=NOW + 50_000, detail="still used up")
    store.wait(300, later)
    (wait,) = store.time(RunState.WAITING, 1_100).waits
    assert (wait.times, wait.detail, wait.seconds, wait.ended_at) == (1, "still used up", 1.0, None)
    store.wait(500, FULL, "rate_limited")
    assert {w.cause: w.seconds for w in store.time(RunState.WAITING, 700).waits} == {
        "rpd": 0.4, "rate_limited": 0.2,
    }  # fmt: skip


def test_what_was_before_the_upgrade_is_said_to_be_unknown(store: Store) -> None:
    """Time that nothing was recorded of is no wait and nobody's stop."""
    store.take_up(0)
    with store.db.write() as connection:
        driver(connection).execute("DELETE FROM wait")
        driver(connection).execute(
            "INSERT INTO wait (run_id, cause, began_at, open_at) VALUES (?, 'unrecorded', ?, ?)",
            (store.id, NOW, NOW),
        )
    assert store.parts(RunState.READY, 4_000) == {"unrecorded": 4_000}
    store.take_up(5_000)
    assert store.parts(RunState.RUNNING, 6_000) == {"unrecorded": 5_000}


def test_a_clock_set_back_makes_no_time(store: Store) -> None:
    """Nothing is taken from what was counted, and no part is below 0."""
    store.take_up(0)
    store.wait(5_000)
    stop = Waiting(reason=WaitingReason.MAX_TIME, until=None, detail="over")
    store.end(1_000, stop, store.sum("rpd", 6_000.0))
    store.take_up(2_000)
    time = store.time(RunState.RUNNING, 2_000)
    assert [(part.cause, part.seconds) for part in time.parts] == [("rpd", 6.0)]
    assert all(wait.seconds >= 0 for wait in time.waits)


def test_waits_go_with_their_run_and_sums_stay(store: Store) -> None:
    """A run's id is not used again while its time is kept, though it sent nothing."""
    store.take_up(0)
    store.end(10, None, store.sum("outage", 10.0))
    with store.db.write() as connection:
        driver(connection).execute("DELETE FROM run WHERE id = ?", (store.id,))
    with store.db.read() as connection:
        conn = driver(connection)
        assert conn.execute("SELECT count(*) FROM wait").fetchone() == (0,)
        assert conn.execute("SELECT cause, ms FROM time_day").fetchall() == [("outage", 10.0)]
    assert load(store.db, lines(1), name="next", digest=b"e") == store.id + 1


@pytest.mark.parametrize("late", [None, FULL], ids=["no-wait", "wait"])
def test_what_a_run_waits_for_is_no_end_and_takes_none_back(
    store: Store, late: Waiting | None
) -> None:
    """A worker that tells how a run stands after another has ended it leaves the reason as it is."""
    store.take_up(0)
    stop = Waiting(reason=WaitingReason.MAX_FAILURES, until=None, detail="three have failed")
    store.end(1_000, stop)
    store.wait(1_100, late)
    with store.db.read() as connection:
        view = run_view(connection, store.db, run(store.db, store.id), now_ms=NOW + 2_000)
    assert view.waiting == stop
    assert store.time(RunState.READY, 2_000).waits[-1].ended_at is None


def test_who_leaves_a_run_that_another_has_finished_adds_no_time(store: Store) -> None:
    """It is accounted for to its end by whoever finished it."""
    store.take_up(0)
    store.end(1_000, None, store.sum("sending", 1_000.0))
    store.do(let_go, wall=NOW + 1_400, times=[store.sum("rpm", 900.0)])
    with store.db.read() as connection:
        told = connection.exec_driver_sql("SELECT cause, ms FROM time_day").all()
        waited = connection.exec_driver_sql(
            "SELECT cause FROM wait WHERE cause != ?", (OVER,)
        ).all()
    assert told == [("sending", 1_000.0)]
    assert waited == []
