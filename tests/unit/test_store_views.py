"""Views: counters, states told from locks, limits told from usage; never a scan."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from batchrunner.errors import UsageError
from batchrunner.models import RunState, Waiting, WaitingReason
from batchrunner.options import JobFilter
from batchrunner.store import commands, views
from batchrunner.store.database import Database
from batchrunner.store.export import export_rows, metadata_names
from batchrunner.store.processes import Process
from batchrunner.store.runs import HALTING, driver
from tests.unit.stored import NOW, database, line, lines, load, put, run

HALF_DAY = 12 * 3_600_000


@pytest.fixture
def db(tmp_path: Path) -> Database:
    """A fresh database."""
    return database(tmp_path)


def execute(db: Database, statement: str, values: tuple[object, ...] = ()) -> None:
    """Write one statement."""
    with db.write() as connection:
        driver(connection).execute(statement, values)


def take_up(db: Database) -> Process:
    """Let this process run every run."""
    process = commands.register_process(db, "holder", now_ms=NOW)
    execute(db, "UPDATE run SET runner_id = ?", (process.id,))
    return process


@pytest.mark.parametrize(
    ("stored", "stop", "live", "shown"),
    [
        ("ready", None, False, RunState.READY),
        ("ready", "max_time", False, RunState.READY),
        ("ready", "daily_limit", False, RunState.READY),
        *(("ready", reason.value, False, RunState.HALTED) for reason in sorted(HALTING)),
        ("ready", "spend_limit", False, RunState.HALTED),
        ("ready", None, True, RunState.RUNNING),
        ("ready", "daily_limit", True, RunState.WAITING),
        ("ready", "credit", True, RunState.WAITING),
        ("paused", "paused", False, RunState.PAUSED),
        ("paused", None, True, RunState.PAUSED),
        ("finished", None, False, RunState.FINISHED),
        ("cancelled", None, True, RunState.CANCELLED),
    ],
)
def test_state_is_told_from_the_lock(
    db: Database, stored: str, stop: str | None, live: bool, shown: RunState
) -> None:
    """Running and waiting mean a live process; a process that died shows at once."""
    load(db, lines(2))
    execute(db, "UPDATE run SET state = ?, stop_reason = ?, finished_at = 1", (stored, stop))
    process = take_up(db)
    if not live:
        process.lock.release()
    view = views.status(db, None, now_ms=NOW)
    assert view.state is shown
    assert (view.runner is not None) == live
    if live:
        assert view.runner is not None
        assert view.runner.pid == os.getpid()
        process.lock.release(unlink=True)


def test_dated_spend_limit_is_not_a_halt(db: Database) -> None:
    """A spend limit that ends by itself only waits for its date."""
    load(db, lines(1))
    execute(db, "UPDATE run SET stop_reason = 'spend_limit', stop_until = ?", (NOW + 1,))
    assert views.status(db, None, now_ms=NOW).state is RunState.READY


def test_status_shows_why_it_waits_and_what_was_sent(db: Database) -> None:
    """Counters, requests, tokens, the reason and the held models are all there."""
    run_id = load(db, lines(4))
    put(db, run_id, [(1, "completed"), (2, "failed")])
    execute(
        db,
        "UPDATE run SET stop_reason = 'daily_limit', stop_until = 5, stop_detail = 'd', n_sent = 7,"
        " n_retried = 2, n_rate_limited = 3, n_interrupted = 1, input_tokens = 10, started_at = 9",
    )
    execute(
        db, "INSERT INTO hold (run_id, model_id, kind, message, set_at) VALUES (1, 1, 'k', 'no', 1)"
    )
    view = views.status(db, "run", now_ms=NOW)
    assert view.waiting == Waiting(reason=WaitingReason.DAILY_LIMIT, until=5, detail="d")
    assert (view.jobs.pending, view.jobs.completed, view.jobs.failed) == (2, 1, 1)
    assert (view.requests.sent, view.requests.retried, view.requests.rate_limited) == (7, 2, 3)
    assert (view.input_tokens, view.output_tokens, view.started_at) == (10, None, 9)
    assert view.holds == {"m-1": "no"}
    assert view.eta is None


def test_runs_are_listed_newest_first_without_those_being_read(db: Database) -> None:
    """A run appears in the list when it is whole."""
    load(db, lines(1), "first", b"1")
    load(db, lines(1), "second", b"2")
    execute(db, "UPDATE run SET created_at = created_at + id")
    execute(
        db,
        "INSERT INTO run (id, uid, name, state, provider, created_at)"
        " VALUES (9, 'x', 'x', 'loading', 'p', 1)",
    )
    assert [view.name for view in views.runs(db, now_ms=NOW)] == ["second", "first"]


def test_status_never_looks_at_the_jobs(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's view costs the same for a million jobs: its statements touch no job table."""
    load(db, lines(3))
    seen: list[str] = []
    connect = sqlite3.connect

    def traced(*args: object, **kwargs: object) -> sqlite3.Connection:
        connection = connect(*args, **kwargs)  # type: ignore[call-overload]
        connection.set_trace_callback(seen.append)
        return connection  # type: ignore[no-any-return]

    monkeypatch.setattr(sqlite3, "connect", traced)
    views.status(db, None, now_ms=NOW)
    monkeypatch.undo()
    assert any("FROM run" in statement for statement in seen)
    for table in ("job", "payload", "response", "send"):
        assert not any(f"FROM {table}" in s or f"JOIN {table}" in s for s in seen), table


class TestLimits:
    """What is used of a limit, told from the slots."""

    @pytest.fixture
    def account(self, db: Database) -> int:
        """An account with a run."""
        load(db, lines(2))
        scope = commands.scope_for(db, "anthropic", "work")
        execute(db, "UPDATE run SET account_id = ?", (scope,))
        return scope

    @staticmethod
    def use(db: Database, scope: int, grain: int, at: int, n: int) -> None:
        """Book requests in the slot of an instant."""
        execute(
            db,
            "INSERT INTO usage_slot (scope_id, unit, grain, slot, n) VALUES (?, 'requests', ?, ?, ?)",
            (scope, grain, at // grain, n),
        )

    def test_minute_counts_the_last_sixty_seconds(self, db: Database, account: int) -> None:
        """Slots that ended a minute ago are free again; planned ones count."""
        commands.set_limit(db, account, "rpm", 10, now_ms=NOW)  # type: ignore[arg-type]
        self.use(db, account, 250, NOW - 61_000, 5)
        self.use(db, account, 250, NOW - 59_000, 3)
        self.use(db, account, 250, NOW + 500, 1)
        (view,) = views.limits(db, now_ms=NOW)
        assert (view.scope, view.limit, view.value, view.source) == ("work", "rpm", 10, "flag")
        assert (view.used, view.remaining) == (4, 6)
        assert view.resets_at is not None
        assert NOW < view.resets_at <= NOW + 1_500

    @pytest.mark.parametrize(
        ("zone", "used"),
        [("UTC", 2), ("rolling", 6), (None, 2)],
        ids=["zone", "rolling", "default"],
    )
    def test_day_follows_its_zone(
        self, db: Database, account: int, zone: str | None, used: int
    ) -> None:
        """A calendar day counts since midnight, a rolling one the last 24 hours."""
        midnight = NOW - NOW % 86_400_000 + 86_400_000
        now = midnight + HALF_DAY
        commands.set_limit(db, account, "rpd", 5, now_ms=NOW)  # type: ignore[arg-type]
        if zone:
            commands.set_limit(db, account, "day_resets", "none", zone=zone, now_ms=NOW)  # type: ignore[arg-type]
        self.use(db, account, 60_000, midnight - 2 * 86_400_000, 100)
        self.use(db, account, 60_000, midnight - 60_000, 4)
        self.use(db, account, 60_000, midnight, 2)
        (view,) = views.limits(db, now_ms=now)
        assert (view.used, view.remaining, view.zone) == (used, max(0, 5 - used), zone or "UTC")
        if zone != "rolling":
            assert view.resets_at == midnight + 86_400_000

    def test_person_outranks_the_header_and_none_is_shown(self, db: Database, account: int) -> None:
        """The strongest source is shown once; no limit is a row without a value."""
        execute(db, "INSERT INTO cap VALUES (?, 'rpm', 99, NULL, 'header', 1)", (account,))
        assert [(v.value, v.source) for v in views.limits(db, now_ms=NOW)] == [(99, "header")]
        commands.set_limit(db, account, "rpm", "none", now_ms=NOW)  # type: ignore[arg-type]
        assert [(v.value, v.source) for v in views.limits(db, now_ms=NOW)] == [(None, "flag")]

    def test_status_shows_those_of_its_account_and_pools(self, db: Database, account: int) -> None:
        """A run's limits are its account's and what its pools learned where nothing was typed."""
        commands.set_limit(db, account, "rpm", 9, now_ms=NOW)  # type: ignore[arg-type]
        pool = commands.scope_for(db, "anthropic", "work", pool="opus")
        execute(db, "INSERT INTO cap VALUES (?, 'rpd', 5, NULL, 'header', 1)", (pool,))
        execute(db, "INSERT INTO cap VALUES (?, 'rpm', 8, NULL, 'header', 1)", (pool,))
        other = commands.scope_for(db, "openai", "other")
        commands.set_limit(db, other, "rpm", 1, now_ms=NOW)
        view = views.status(db, None, now_ms=NOW)
        assert [(v.scope, v.value) for v in view.limits] == [("work", 9), ("work/opus", 5)]
        assert len(views.limits(db, now_ms=NOW)) == 3

    def test_pace_and_eta_are_shown_while_it_runs(self, db: Database, account: int) -> None:
        """What was sent in the last minute says when the rest should be done."""
        self.use(db, account, 250, NOW - 1_000, 4)
        assert views.status(db, None, now_ms=NOW).requests_per_minute is None
        process = take_up(db)
        view = views.status(db, None, now_ms=NOW)
        assert (view.requests_per_minute, view.eta) == (4, NOW + 30_000)
        commands.unregister(db, process)


def answer(body: bytes, path: str | None) -> str:
    """Stand in for a provider's text of an answer."""
    return f"{body.decode()} {path}"


def test_jobs_are_shown_in_input_order_with_their_columns(db: Database) -> None:
    """Text of an answer only where it is completed, message only where it is not."""
    run_id = load(db, [line("b"), line("a"), line("c", metadata={"x": 1})])
    put(db, run_id, [(1, "completed"), (2, "failed")])
    execute(
        db,
        "INSERT INTO scope (id, kind, provider, key) VALUES (1, 'account', 'p', 'k')",
    )
    for claim, sent in ((1, None), (2, NOW)):
        execute(
            db,
            "INSERT INTO send (job_id, claim, scope_id, planned_at, sent_at, outcome, maybe_executed)"
            " VALUES (?, ?, 1, ?, ?, 'retry', 1)",
            (run_id << 32 | 2, claim, NOW - 10 + claim, sent),
        )
    first, second, third = views.jobs(db, run(db, run_id), JobFilter(), answer)
    assert (first.key, first.output_text, first.error_message) == (
        "b",
        '{"text":"answer"} None',
        None,
    )
    assert (second.status, second.error_kind, second.http_status) == ("failed", "server_error", 500)
    assert (second.output_text, second.error_message) == (None, "went wrong")
    assert (second.started_at, first.started_at, third.started_at) == (NOW - 9, None, None)
    assert (third.metadata, third.model, third.finished_at) == (b'{"x": 1}', "m-1", None)
    detail = views.show(db, run(db, run_id), "a", answer)
    assert [(s.claim, s.sent_at, s.maybe_executed) for s in detail.sends] == [
        (1, None, True),
        (2, NOW, True),
    ]
    assert (detail.method, detail.url, detail.response) == ("POST", None, b'{"text":"answer"}')
    assert detail.request == line("a").body
    with pytest.raises(UsageError, match="no job 'z'"):
        views.show(db, run(db, run_id), "z")


@pytest.mark.parametrize(
    ("jobs", "keys"),
    [
        (JobFilter(), ["k1", "k2", "k3", "k4", "k5"]),
        (JobFilter(statuses=("failed", "completed")), ["k1", "k2"]),
        (JobFilter(errors=("server_error",)), ["k2"]),
        (JobFilter(keys=("k5", "k3")), ["k3", "k5"]),
        (JobFilter(limit=2), ["k1", "k2"]),
        (JobFilter(statuses=("pending",), limit=1), ["k4"]),
    ],
    ids=["all", "status", "error", "key", "limit", "status-limit"],
)
def test_filters_choose_alike_for_views_and_exports(
    db: Database, jobs: JobFilter, keys: list[str]
) -> None:
    """The same filter gives the same jobs in input order everywhere."""
    load(db, lines(3), "other", b"o")
    run_id = load(db, lines(5))
    put(db, run_id, [(1, "completed"), (2, "failed"), (3, "cancelled")])
    assert [view.key for view in views.jobs(db, run(db, run_id), jobs)] == keys
    assert [row.job.key for row in export_rows(db, run_id, jobs, None)] == keys


def test_export_pages_without_holding_a_transaction(db: Database) -> None:
    """An export of any length leaves the log free to be emptied between its pages."""
    run_id = load(db, lines(1_200))
    rows = export_rows(db, run_id, JobFilter(), None)
    first = next(rows)
    with db.session() as session:
        with session.transaction() as connection:
            driver(connection).execute("INSERT INTO meta VALUES ('a', '1')")
        busy, _, _ = session.driver().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0
    keys = [first.job.key, *(row.job.key for row in rows)]
    assert keys == [f"k{i}" for i in range(1, 1_201)]
    assert first.request == lines(1)[0].body


def test_metadata_names_come_in_first_seen_order(db: Database) -> None:
    """Columns are those of the chosen jobs, in the order in which they occur."""
    run_id = load(
        db,
        [
            line("a"),
            line("b", metadata={"z": 1, "a": {"n": [1]}}),
            line("c", metadata={"a": 2, "ü": 3}),
        ],
    )
    assert metadata_names(db, run_id, JobFilter()) == ["z", "a", "ü"]
    assert metadata_names(db, run_id, JobFilter(keys=("c",))) == ["a", "ü"]
    assert metadata_names(db, run_id, JobFilter(limit=1)) == []
    assert metadata_names(db, load(db, lines(3), "none", b"n"), JobFilter()) == []


def test_a_page_ends_where_bodies_grow_large(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large bodies are, a read holds so many bytes; all rows come once and in order all the same."""
    run_id = load(db, lines(200))
    reads = 0
    read_page = views._page

    def counted(result: Any) -> Sequence[Any]:
        nonlocal reads
        reads += 1
        rows = read_page(result)
        assert len(rows) <= 32
        return rows

    monkeypatch.setattr(views, "_page", counted)
    monkeypatch.setattr(views, "_PAGE_BYTES", 1_000)
    keys = [row.job.key for row in export_rows(db, run_id, JobFilter(), None)]
    assert keys == [one.key for one in lines(200)]
    assert reads >= 200 / 32
