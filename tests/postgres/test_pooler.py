"""Behind pgbouncer, which gives a client another session for each transaction: the same promise."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrunner.places import place_of
from batchrunner.store.opening import open_database
from batchrunner.store.postgres.database import PgDatabase
from batchrunner.store.postgres.pooled import LeaseLock
from tests.fakes import ApiServer
from tests.fakes.pooler import Pooler, program, running_pooler
from tests.fakes.postgres_server import PostgresServer
from tests.fakes.switchboard import running_switchboard
from tests.integration.house import House, until
from tests.postgres.conftest import schema_of


def _pooler(server: PostgresServer, mode: str) -> Iterator[Pooler]:
    binary = program()
    if binary is None:
        # No wheel brings it; the test with a pooler of our own runs everywhere.
        pytest.skip("no pgbouncer on this machine: apt install pgbouncer")
    with running_pooler(binary, server, mode=mode, size=6) as pooler:
        yield pooler


@pytest.fixture(scope="module")
def transactions(server: PostgresServer) -> Iterator[Pooler]:
    """A pooler of transactions."""
    yield from _pooler(server, "transaction")


@pytest.fixture(scope="module")
def sessions(server: PostgresServer) -> Iterator[Pooler]:
    """A pooler of sessions."""
    yield from _pooler(server, "session")


@pytest.fixture
def pooled(house: House, transactions: Pooler, tmp_path: Path) -> House:
    """A house whose database is behind a pooler of transactions."""
    house.environ["BATCHRUNNER_DB"] = transactions.url(schema_of(tmp_path))
    house.environ["ANTHROPIC_API_KEY"] = "test"
    return house


def answered(api: ApiServer) -> Counter[str]:
    """Return how often each job was answered."""
    return Counter(request.prompt for request in api.requests() if request.status == 200)


def forget(server: PostgresServer, house: House) -> None:
    """Let all leases be over, as they are after 45 s in which nobody kept them."""
    schema = str(house.db).rpartition("=")[2]
    server.execute(f"UPDATE {schema}.lease SET until_at = 0")


@pytest.mark.slow
def test_everything_works_through_it(pooled: House, api: ApiServer) -> None:
    """Schema, COPY, drain, retries, views, export, prune: with prepared statements and settings of no session."""
    api.script([{"n": 2, "status": 500}, {"contains": "say j3;", "status": 400}])
    pooled.jobs(60, metadata={"row": 1})
    pooled.submit("-c", "8", code=1)
    assert len(answered(api)) == 59
    assert pooled.run("status", "--json").json["jobs"]["completed"] == 59
    rows = pooled.run("export", "-f", "jsonl").out.splitlines()
    assert len(rows) == 60
    assert pooled.run("db", "check").code == 0
    assert pooled.run("db", "prune", "-y", "--json").json["shrunk"]


def test_every_transaction_may_be_on_another_session(
    house: House, api: ApiServer, server: PostgresServer, tmp_path: Path
) -> None:
    """With a pooler that takes the next session each time: a run and its worker, and no session is told anything."""
    api.script([{"delay_s": 0.02}])
    with running_switchboard(server, size=5) as port:
        url = server.url(schema_of(tmp_path)).replace(f":{server.port}/", f":{port}/")
        house.environ |= {"BATCHRUNNER_DB": url, "ANTHROPIC_API_KEY": "test"}
        house.jobs(60)
        house.submit("--no-run", "-c", "4", code=0)
        house.run("worker", "--until-done")
        assert house.run("export", "-f", "csv").out.count("completed") == 60
    assert set(answered(api).values()) == {1}


@pytest.mark.slow
def test_a_pooler_of_sessions_is_as_good(
    house: House, api: ApiServer, sessions: Pooler, tmp_path: Path
) -> None:
    """What it refuses at the beginning of a session is told later."""
    house.environ["BATCHRUNNER_DB"] = sessions.url(schema_of(tmp_path))
    house.jobs(20)
    house.submit(code=0)
    assert set(answered(api).values()) == {1}


@pytest.mark.slow
def test_workers_share_a_run_through_it(
    pooled: House, api: ApiServer, transactions: Pooler
) -> None:
    """Three workers with less sessions than connections: no job goes twice, and no session keeps what it was told."""
    api.script([{"delay_s": 0.02}])
    pooled.jobs(200)
    pooled.submit("--no-run", "-c", "4", "--rpm", "6000", code=0)
    workers = [pooled.start("worker", "--until-done") for _ in range(3)]
    for worker in workers:
        worker.ended(0)
    assert pooled.run("status", "--json").json["jobs"]["completed"] == 200
    assert set(answered(api).values()) == {1}
    assert len(answered(api)) == 200
    assert pooled.run("db", "check").code == 0
    assert transactions.settings("synchronous_commit") == {"on"}
    assert transactions.settings("batchrunner.worker") <= {None, ""}


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [("worker", "--until-done", "--json"), ("resume", "--json")],
    ids=lambda words: words[0],
)
def test_a_killed_one_is_followed_when_its_lease_is_over(
    pooled: House, api: ApiServer, server: PostgresServer, words: tuple[str, ...]
) -> None:
    """kill -9 keeps its place for a lease; then another goes on, and what was in flight goes again, marked."""
    api.script([{"delay_s": 0.05}])
    pooled.jobs(80)
    pooled.submit("--no-run", "-c", "4", code=0)
    first = pooled.start(*words)
    first.sees("job.completed", 5)
    first.kill()
    second = pooled.start(*words)
    until(lambda: pooled.run("status", "--json").json["run"]["runner"], "it still seems to live")
    forget(server, pooled)
    second.ended(0)
    assert len(answered(api)) == 80
    told = pooled.run("status", "--json").json
    assert told["jobs"]["completed"] == 80
    assert answered(api).total() - 80 <= told["requests"]["interrupted"] <= 8


@pytest.mark.slow
def test_who_slept_through_its_lease_stores_nothing_more(
    pooled: House, api: ApiServer, server: PostgresServer
) -> None:
    """A sender that is stopped, taken for dead and woken says so, has overwritten nothing, and follows."""
    api.script([{"delay_s": 0.1}])
    pooled.jobs(60)
    first = pooled.start_submit("-c", "4")
    first.sees("job.completed", 5)
    first.send(signal.SIGSTOP)
    forget(server, pooled)
    second = pooled.start("resume", "--json")
    second.sees("job.completed", 2)
    first.send(signal.SIGCONT)
    assert "followed from here" in first.ended(0).err
    second.ended(0)
    told = pooled.run("status", "--json").json
    assert told["jobs"]["completed"] == 60
    assert answered(api).total() - 60 <= told["requests"]["interrupted"]
    assert pooled.run("db", "check").code == 0


@pytest.mark.parametrize("first", ["session", "lease"])
@pytest.mark.parametrize(
    ("one", "other", "both"),
    [(None, None, False), (7, None, False), (None, 8, False), (7, 8, True)],
    ids=["two alone", "a worker and one alone", "one alone and a worker", "two workers"],
)
def test_both_kinds_of_locks_see_each_other(
    tmp_path: Path, server: PostgresServer, transactions: Pooler, first: str,
    one: int | None, other: int | None, both: bool,
) -> None:  # fmt: skip
    """Of one that comes by a pooler and one that does not only one sends alone, and workers do together."""
    schema = schema_of(tmp_path)
    places = [place_of(where.url(schema)) for where in (server, transactions)]
    direct, behind = (open_database(place, create=True) for place in places)
    assert isinstance(direct, PgDatabase)
    assert isinstance(behind, PgDatabase)
    order = (direct, behind) if first == "session" else (behind, direct)
    locks = [
        db.sender_lock() if worker is None else db.worker_lock(worker)
        for db, worker in zip(order, (one, other), strict=True)
    ]
    assert isinstance(locks[order.index(behind)], LeaseLock)
    assert locks[0].try_acquire()
    assert all(db.is_sent_from() for db in order)
    assert locks[1].try_acquire() is both
    for lock in locks:
        lock.release()
    assert not any(db.is_sent_from() for db in order)
    assert locks[1].try_acquire()
    locks[1].release()


def test_who_hangs_in_a_transaction_is_ended(tmp_path: Path, transactions: Pooler) -> None:
    """What who sends begins there ends by itself, or one that sleeps in it would keep all others waiting."""
    db = open_database(place_of(transactions.url(schema_of(tmp_path))), create=True)
    assert isinstance(db, PgDatabase)
    lock = db.sender_lock()
    assert isinstance(lock, LeaseLock)
    assert lock.try_acquire()
    assert lock.connection is not None
    lock.connection.execute("BEGIN IMMEDIATE")
    said = lock.connection.execute("SELECT current_setting('idle_in_transaction_session_timeout')")
    assert said.fetchone() == ("15s",)
    lock.connection.execute("COMMIT")
    lock.release()
    assert transactions.settings("idle_in_transaction_session_timeout") == {"0"}


def test_leases_of_the_dead_do_not_pile_up(tmp_path: Path, server: PostgresServer) -> None:
    """What killed processes have left goes a day later; what is only just over may still be kept."""
    schema = schema_of(tmp_path)
    db = open_database(place_of(server.url(schema) + "&pooled=yes"), create=True)
    day = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint - 86400000"
    for holder, age in ((1, "- 1000"), (2, "+ 60000")):
        server.execute(f"INSERT INTO {schema}.lease VALUES ({holder}, 5000, 0, {day} {age})")
    db.process_lock().release()
    assert server.execute(f"SELECT holder FROM {schema}.lease") == [(2,)]


@pytest.mark.slow
def test_a_pooler_that_is_started_again_is_waited_for(
    pooled: House, api: ApiServer, transactions: Pooler
) -> None:
    """Its clients are broken off; who sends goes on with its lease, and nothing goes twice."""
    api.script([{"delay_s": 0.05}])
    pooled.jobs(80)
    running = pooled.start_submit("-c", "4")
    running.sees("job.completed", 10)
    transactions.stop()
    transactions.start()
    running.ended(0)
    assert len(answered(api)) == 80
    told = pooled.run("status", "--json").json
    assert answered(api).total() - 80 <= told["requests"]["interrupted"]


def test_what_is_said_of_a_pooler_holds(
    tmp_path: Path, server: PostgresServer, house: House
) -> None:
    """pooled=yes has leases without one, and is told as it was typed; another word is refused."""
    url = server.url(schema_of(tmp_path)) + "&pooled=yes"
    place = place_of(url)
    assert str(place).endswith("&pooled=yes")
    db = open_database(place, create=True)
    lock = db.process_lock()
    assert isinstance(lock, LeaseLock)
    assert db.is_alive(lock.name)
    lock.release()
    assert not db.is_alive(lock.name)
    house.run("runs", "--db", url.replace("yes", "maybe"), code=2)
