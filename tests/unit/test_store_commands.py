"""What commands make of runs, processes and limits; counters always equal the jobs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batchrunner.errors import UsageError
from batchrunner.models import StoredRunState, Waiting, WaitingReason
from batchrunner.options import JobFilter, LimitOptions
from batchrunner.store import commands, holder
from batchrunner.store.asks import load_asks
from batchrunner.store.database import Database
from batchrunner.store.maintenance import backup, check, someone_sends
from batchrunner.store.runs import driver
from batchrunner.store.sqlite.database import FileDatabase
from batchrunner.store.stops import set_waiting
from tests.unit.stored import NOW, database, lines, load, put, run, states

MIXED = [(1, "completed"), (2, "failed"), (3, "cancelled"), (4, "running")]


@pytest.fixture
def db(tmp_path: Path) -> Database:
    """A fresh database."""
    return database(tmp_path)


def rows(db: Database, statement: str) -> list[tuple[object, ...]]:
    """Return what a statement reads."""
    with db.read() as connection:
        return driver(connection).execute(statement).fetchall()


def execute(db: Database, statement: str) -> None:
    """Write one statement."""
    with db.write() as connection:
        driver(connection).execute(statement)


def test_pause_stops_what_is_ready_and_lift_undoes_it(db: Database) -> None:
    """Pause is stored, says whether it did something, and resume forgets why the run stopped."""
    stored = run(db, load(db, lines(2)))
    assert commands.pause(db, stored)
    assert not commands.pause(db, stored)
    assert run(db, stored.id).state is StoredRunState.PAUSED
    execute(db, "UPDATE run SET stop_reason = 'paused', stop_detail = 'd'")
    assert commands.lift(db, stored) is StoredRunState.READY
    assert run(db, stored.id).stop_reason is None


def test_lift_leaves_a_cancelled_run(db: Database) -> None:
    """Resume does not undo cancel."""
    stored = run(db, load(db, lines(2)))
    commands.cancel(db, stored, now_ms=NOW)
    assert commands.lift(db, stored) is StoredRunState.CANCELLED


def test_cancel_gives_up_pending_jobs_only(db: Database) -> None:
    """What is in flight ends by itself; what ended stays; held-back retries are cancelled too."""
    stored = run(db, load(db, lines(6)))
    put(db, stored.id, MIXED)
    execute(db, "UPDATE job SET not_before = 5, wait_reason = 'retry' WHERE id & 255 = 6")
    assert commands.cancel(db, stored, now_ms=NOW) == 2
    assert states(db, stored.id) == [
        "completed", "failed", "cancelled", "running", "cancelled", "cancelled",
    ]  # fmt: skip
    now = run(db, stored.id)
    assert (now.state, now.finished_at) == (StoredRunState.CANCELLED, NOW)
    assert check(db) == []


def test_cancel_spans_many_transactions(db: Database) -> None:
    """A run larger than one transaction is cancelled whole."""
    stored = run(db, load(db, lines(4_500)))
    assert commands.cancel(db, stored, now_ms=NOW) == 4_500
    assert check(db) == []


@pytest.mark.parametrize(
    ("jobs", "pending"),
    [
        (JobFilter(), [2, 3, 5, 6]),
        (JobFilter(statuses=("failed",)), [2, 5, 6]),
        (JobFilter(statuses=("completed",)), [5, 6]),
        (JobFilter(errors=("server_error",)), [2, 5, 6]),
        (JobFilter(errors=("timeout",)), [5, 6]),
        (JobFilter(keys=("k3",)), [3, 5, 6]),
        (JobFilter(limit=1), [2, 5, 6]),
    ],
    ids=["all", "failed", "completed", "error", "other-error", "key", "limit"],
)
def test_retry_puts_back_what_was_chosen(db: Database, jobs: JobFilter, pending: list[int]) -> None:
    """Failed and cancelled jobs go back with attempts from 0; others are never touched."""
    stored = run(db, load(db, lines(6)))
    put(db, stored.id, MIXED)
    execute(db, "UPDATE run SET state = 'finished', finished_at = 1")
    commands.retry(db, stored, jobs)
    found = [seq for seq, state in enumerate(states(db, stored.id), 1) if state == "pending"]
    assert found == pending
    assert rows(db, "SELECT sum(attempts) FROM job WHERE state = 'pending'") == [(0,)]
    assert run(db, stored.id).state is StoredRunState.READY
    assert check(db) == []


def test_retry_keeps_the_fence(db: Database) -> None:
    """Claims only grow, so that an answer to an older claim can't settle the job."""
    stored = run(db, load(db, lines(2)))
    put(db, stored.id, [(1, "failed")])
    commands.retry(db, stored, JobFilter())
    assert rows(db, "SELECT attempts, claims FROM job ORDER BY id") == [(0, 1), (0, 0)]


def test_retry_lets_held_models_go(db: Database) -> None:
    """A model that was missing is asked for again."""
    stored = run(db, load(db, lines(2)))
    execute(
        db, "INSERT INTO hold (run_id, model_id, kind, message, set_at) VALUES (1, 1, 'k', 'm', 1)"
    )
    commands.retry(db, stored, JobFilter())
    assert rows(db, "SELECT * FROM hold") == []


def test_retry_without_work_leaves_the_run_finished(db: Database) -> None:
    """Nothing to put back: the run stays what it is."""
    stored = run(db, load(db, lines(1)))
    put(db, stored.id, [(1, "completed")])
    execute(db, "UPDATE run SET state = 'finished', finished_at = 1")
    assert commands.retry(db, stored, JobFilter()) == 0
    assert run(db, stored.id).state is StoredRunState.FINISHED


def test_retry_refuses_a_key_the_run_does_not_have(db: Database) -> None:
    """A misspelt key is said, and nothing is put back."""
    stored = run(db, load(db, lines(3)))
    put(db, stored.id, [(1, "failed")])
    with pytest.raises(UsageError, match="no job 'k9'"):
        commands.retry(db, stored, JobFilter(keys=("k1", "k9")))
    assert states(db, stored.id)[0] == "failed"


def test_process_row_says_who_it_is_and_goes_with_its_asks(db: Database) -> None:
    """A process is seen while it is attached; its asks and its lock file go with it."""
    run_id = load(db, lines(1))
    process = commands.register_process(db, "follower", now_ms=NOW)
    commands.ask(db, run_id, process, {"concurrency": 3})
    commands.ask(db, run_id, process, {"concurrency": 4})
    assert rows(db, "SELECT pid, role, since FROM process") == [(os.getpid(), "follower", NOW)]
    assert rows(db, "SELECT run_id, options FROM ask") == [(run_id, '{"concurrency": 4}')]
    process = commands.set_role(db, process, "holder")
    assert rows(db, "SELECT role FROM process") == [("holder",)]
    commands.unregister(db, process)
    assert rows(db, "SELECT * FROM process") == rows(db, "SELECT * FROM ask") == []
    assert [path.name for path in db.path.parent.iterdir()] == ["jobs.db"]


def test_a_stops_date_keeps_nobody_from_taking_a_run_up(db: Database) -> None:
    """Until when it was to wait counts again once it was taken up, and waits as long as before."""
    run_id = load(db, lines(1))
    execute(db, "UPDATE run SET stop_reason = 'daily_limit', stop_until = 99")
    process = commands.register_process(db, "follower", now_ms=NOW)
    commands.ask(db, run_id, process, {"concurrency": 3})

    def waits_until() -> int | None:
        with db.read() as connection:
            (ask,) = load_asks(driver(connection))
        return ask.waits_until

    assert waits_until() is None
    with db.write() as connection:
        holder.take_up(driver(connection), run_id, process.id, wall=NOW)
        waiting = Waiting(reason=WaitingReason.DAILY_LIMIT, until=99, detail="d")
        set_waiting(driver(connection), run_id, waiting, cause="rpd", wall=NOW)
    assert waits_until() == 99
    commands.unregister(db, process)


def test_a_person_stop_is_undone_and_no_other(db: Database) -> None:
    """Put back, or let go again, a run keeps why it stopped, but for a person's word."""
    stored = run(db, load(db, lines(2)))
    put(db, stored.id, [(1, "failed")])
    execute(db, "UPDATE run SET stop_reason = 'authentication', stop_detail = 'd'")
    commands.pause(db, stored)
    commands.lift(db, stored)
    commands.retry(db, stored, JobFilter())
    assert run(db, stored.id).stop_reason == "authentication"
    execute(db, "UPDATE run SET stop_reason = 'paused'")
    commands.retry(db, stored, JobFilter())
    assert run(db, stored.id).stop_reason is None


def test_unask_takes_one_ask_back(db: Database) -> None:
    """A process may want one run no more and stay attached."""
    run_id = load(db, lines(1))
    process = commands.register_process(db, "follower", now_ms=NOW)
    commands.ask(db, run_id, process, {})
    commands.unask(db, run_id, process)
    assert rows(db, "SELECT * FROM ask") == []
    assert len(rows(db, "SELECT * FROM process")) == 1
    process.lock.release(unlink=True)


def test_sweep_removes_dead_processes_only(db: Database) -> None:
    """The dead go, with their runs' runner and their files; the living stay."""
    load(db, lines(1))
    living = commands.register_process(db, "holder", now_ms=NOW)
    dead = commands.register_process(db, "follower", now_ms=NOW)
    dead.lock.release()
    with db.write() as connection:
        driver(connection).execute("UPDATE run SET runner_id = ?", (dead.id,))
    (db.path.parent / "jobs.db.p-1-stray").touch()
    assert commands.sweep_dead_processes(db) == 1
    assert rows(db, "SELECT id FROM process") == [(living.id,)]
    assert rows(db, "SELECT runner_id FROM run") == [(None,)]
    assert {path.name for path in db.path.parent.iterdir()} == {"jobs.db", living.lock.path.name}
    commands.unregister(db, living)


def test_scope_is_made_once(db: Database) -> None:
    """An account and its pools have one row each."""
    account = commands.scope_for(db, "anthropic", "work")
    pool = commands.scope_for(db, "anthropic", "work", pool="m")
    assert commands.scope_for(db, "anthropic", "work") == account
    assert commands.scope_for(db, "anthropic", "work", pool="m") == pool != account
    assert commands.scope_for(db, "openai", "work") not in (account, pool)


def test_limits_are_told_old_and_new(db: Database) -> None:
    """Every word a person says about a limit is answered with what it was and what it is."""
    scope = commands.scope_for(db, "anthropic", "work")

    def say(limits: LimitOptions) -> list[tuple[object, ...]]:
        changes = commands.store_limits(db, scope, limits, now_ms=NOW)
        return [(c.limit, c.old, c.new, c.is_change) for c in changes]

    assert say(LimitOptions()) == []
    assert say(LimitOptions(rpm=50, rpd=1000)) == [
        ("rpm", "auto", 50, True),
        ("rpd", "auto", 1000, True),
    ]
    assert say(LimitOptions(rpm=50)) == [("rpm", 50, 50, False)]
    assert say(LimitOptions(rpm="none", rpd="auto")) == [
        ("rpm", 50, "none", True),
        ("rpd", 1000, "auto", True),
    ]
    assert say(LimitOptions(min_interval_s=0.5)) == [("min_interval", "auto", 500, True)]
    assert say(LimitOptions(min_interval_s=0)) == [("min_interval", 500, "none", True)]
    (change,) = commands.store_limits(
        db, scope, LimitOptions(day_resets="Europe/Berlin"), now_ms=NOW
    )
    assert (change.limit, change.old_zone, change.new_zone) == ("day_resets", None, "Europe/Berlin")
    assert change.is_change


def test_one_limit_is_set_and_cleared(db: Database) -> None:
    """A single limit can be said and taken back."""
    scope = commands.scope_for(db, "anthropic", "work")
    assert commands.set_limit(db, scope, "rpm", 9, now_ms=NOW).new == 9
    assert commands.clear_limit(db, scope, "rpm").old == 9
    assert rows(db, "SELECT * FROM cap") == []


def test_options_of_a_run_are_replaced(db: Database) -> None:
    """What was typed at a later call is stored with the run."""
    run_id = load(db, lines(1))
    commands.store_options(db, run_id, '{"model":"m"}', priority=3)
    assert (run(db, run_id).options, run(db, run_id).priority) == ('{"model":"m"}', 3)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE run SET n_pending = 1, n_completed = 2", "counts 1 jobs pending, and has 3"),
        ("DELETE FROM payload WHERE job_id & 255 = 2", "job 'k2' of run run has no request"),
        (
            "UPDATE job SET state = 'completed', finished_at = 1 WHERE id & 255 = 1",
            "job 'k1' of run run is completed and has no answer",
        ),
        ("UPDATE run SET account_id = 77", "row 1 of run points to a row of scope"),
        (
            "INSERT INTO payload (job_id, shape, body) VALUES (99, 'body', '')",
            "request 99 belongs to no job",
        ),
    ],
    ids=["counter", "request", "answer", "reference", "orphan"],
)
def test_check_finds_what_is_wrong(db: Database, statement: str, problem: str) -> None:
    """Each invariant that is broken is a sentence that names the place."""
    load(db, lines(3))
    assert check(db) == []
    with db.session() as session:
        session.driver().execute("PRAGMA foreign_keys = OFF")
        with session.transaction() as connection:
            driver(connection).execute(statement)
    assert any(problem in found for found in check(db))


def test_check_finds_damage(db: Database) -> None:
    """Overwritten pages are reported, not raised."""
    load(db, lines(2_000))
    content = bytearray(db.path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 40_960] = b"\x5a" * 40_960
    db.path.write_bytes(content)
    assert any("damaged" in problem for problem in check(db))


def test_backup_is_the_database_as_it_stood(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup made while a transaction is open holds what was committed, alone and private."""
    # So long the note for `db prune` waits for that transaction, in vain.
    monkeypatch.setattr("batchrunner.store.sqlite.connecting._WRITE_LOCK_WAIT_S", 0.1)
    run_id = load(db, lines(50))
    process = commands.register_process(db, "holder", now_ms=NOW)
    copy = tmp_path / "out" / "copy.db"
    copy.parent.mkdir()
    with db.session() as session, session.transaction() as connection:
        driver(connection).execute("DELETE FROM run")
        backup(db, copy, now_ms=NOW)
    commands.unregister(db, process)
    assert [path.name for path in copy.parent.iterdir()] == ["copy.db"]
    assert copy.stat().st_mode & 0o777 == 0o600
    found = FileDatabase.open(copy, create=False)
    assert run(found, run_id).counts.pending == 50
    assert rows(found, "SELECT * FROM process") == []
    assert check(found) == []


def test_backup_refuses_to_overwrite(db: Database, tmp_path: Path) -> None:
    """An existing file stays as it is, a dangling link too."""
    there = tmp_path / "there"
    there.write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path in (there, tmp_path / "link"):
        with pytest.raises(UsageError, match="exists"):
            backup(db, path, now_ms=NOW)
    assert there.read_text() == "mine"
    with pytest.raises(UsageError, match="is no directory"):
        backup(db, tmp_path / "no" / "copy.db", now_ms=NOW)


def test_someone_sends_is_told_from_the_lock(db: Database) -> None:
    """Whether a process sends is asked of its lock."""
    assert not someone_sends(db)
    lock = db.sender_lock()
    assert lock.try_acquire()
    assert someone_sends(db)
    lock.release(unlink=True)
