"""What a server brings that a file does not: lost connections, restarts, passwords, other schemas."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from batchrunner.cli import main
from batchrunner.errors import AwayError, BusyError, DatabaseError, NoDatabaseError, UsageError
from batchrunner.models import RunId
from batchrunner.places import Server, place_of
from batchrunner.store.maintenance import check
from batchrunner.store.opening import open_database
from batchrunner.store.postgres import dialling, locks
from batchrunner.store.postgres.database import PgDatabase
from batchrunner.store.postgres.locks import MIGRATING, class_of
from batchrunner.store.postgres.schema import migrate
from batchrunner.store.processes import Role, register_process, sweep_dead_processes
from tests.fakes import ApiServer
from tests.fakes.postgres_server import PostgresServer, programs, running_postgres
from tests.integration.house import House, until
from tests.postgres.conftest import schema_of
from tests.unit import stored


def _place(url: str) -> Server:
    found = place_of(url)
    assert isinstance(found, Server)
    return found


@pytest.fixture
def place(tmp_path: Path, server: PostgresServer) -> Server:
    """An address with nothing at it."""
    return _place(server.url(schema_of(tmp_path)))


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that a test may stop."""
    binaries = programs()
    assert binaries is not None
    with running_postgres(binaries) as running:
        yield running


def answered(api: ApiServer) -> Counter[str]:
    """Return how often each job was answered."""
    return Counter(request.prompt for request in api.requests() if request.status == 200)


def test_a_file_becomes_rows_in_its_order(house: House, api: ApiServer) -> None:
    """From submit to CSV: each job is answered once and stands where it stood."""
    house.jobs(120)
    house.submit("--rpm", "none", "-c", "16", code=0)
    rows = house.csv()
    assert [row["key"] for row in rows] == [f"j{n}" for n in range(120)]
    assert {(row["status"], row["attempts"]) for row in rows} == {("completed", "1")}
    assert house.run("db", "check").code == 0


#: Each view, in every form that has statements of its own.
VIEWS = (
    ("status",), ("runs",), ("jobs",), ("jobs", "--status", "failed", "--limit", "2"), ("show", "jobs", "j0"),
    ("errors",), *(("export", "-f", name) for name in ("csv", "jsonl", "openai", "anthropic", "input")),
    ("export", "-f", "csv", "--columns", "key,metadata.*,request,response,output_text"),
    *(("usage", "--by", name) for name in ("day", "model", "run", "account")), ("usage", "--model", "sim-1"),
    ("limits",), ("explain",), ("explain", "jobs", "j0"), ("report", "jobs", "-o", "report.html"),
    ("plan", "--compare", "jobs"), ("db", "check"), ("db", "upgrade"),
)  # fmt: skip


def test_every_view_is_there(
    house: House,
    api: ApiServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What shows a run in a file shows one on a server: no statement is understood by one alone."""
    api.script([{"n": 2, "status": 400}])
    house.jobs(3, metadata={"row": 1})
    house.submit("--rpm", "6000", code=1)
    monkeypatch.chdir(house.folder)
    monkeypatch.setenv("BATCHRUNNER_DB", house.db)
    codes = {words: main([*words]) for words in VIEWS}
    assert {words: code for words, code in codes.items() if code} == {}, capsys.readouterr().err


def test_a_killed_sender_loses_nothing(house: House, api: ApiServer) -> None:
    """After kill -9 the lock is free at once, and what was in flight goes again, marked."""
    api.script([{"delay_s": 0.05}])
    house.jobs(60)
    running = house.start_submit("-c", "4")
    running.sees("job.completed", 5)
    running.kill()
    assert house.status().runner is None
    house.resume(code=0)
    counts = house.counts()
    assert (counts.completed, counts.total) == (60, 60)
    assert house.run("db", "check").code == 0
    doubles = answered(api).total() - 60
    assert len(answered(api)) == 60
    assert doubles <= house.status().requests.interrupted <= 2 * 4


@pytest.mark.slow
def test_a_server_that_crashes_under_load_loses_no_answer(
    house: House, api: ApiServer, own_server: PostgresServer
) -> None:
    """What was counted before the crash is there after it; resume sends the rest."""
    house.environ["BATCHRUNNER_DB"] = own_server.url("crash")
    api.script([{"delay_s": 0.05}])
    house.jobs(80)
    running = house.start_submit("-c", "4", "--max-wait", "1s")
    running.sees("job.completed", 10)
    own_server.stop(signal.SIGQUIT)
    before = {event["key"] for event in running.ended(5).named("job.completed")}
    own_server.start()
    house.resume(code=0)
    shown = house.run("jobs", "--json").json["jobs"]
    assert {job["key"] for job in shown if job["status"] == "completed"} >= before
    assert len(shown) == 80


def test_an_address_that_was_shown_can_be_pasted(house: House) -> None:
    """The user stands behind it, where nothing takes it for a credential."""
    house.jobs(1)
    house.submit("--no-run", code=0)
    del house.environ["BATCHRUNNER_DB"]
    shown = str(place_of(house.db))
    assert "user=tester" in shown
    assert house.run("status", "--json", "--db", shown).json["database"] == shown


def test_nothing_left_names_the_place(house: House) -> None:
    """resume --all where there is nothing to do ends well and says where it looked."""
    house.run("init")
    done = house.run("resume", "--all")
    assert f"{place_of(house.db)} has no runs yet" in done.err


def test_nothing_there_names_the_place(house: House) -> None:
    """Only what creates a database makes a schema; others exit 2 and name where they looked."""
    done = house.run("status", "--json", code=2)
    assert done.error["kind"] == "no_database"
    assert "/postgres" in done.error["message"]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("postgresql+asyncpg://u:s3cret@127.0.0.1:1/x", "can't be reached"),
        (
            "postgresql+asyncpg://tester:s3cret@127.0.0.1:{port}/nowhere",
            "/nowhere?user=tester does not exist",
        ),
        ("postgresql+psycopg://u:s3cret@127.0.0.1/x", "asyncpg alone"),
        ("postgresql+asyncpg://u:s3cret@127.0.0.1/", "names no database"),
        ("postgresql+asyncpg://u:s3cret@127.0.0.1/x?schema=a-b", "no name of a schema"),
        ("postgresql+asyncpg://127.0.0.1:1/x?user=u&password=s3cret", "can't be reached"),
        (f"postgresql+asyncpg://u:s3cret@{'a' * 64}/x", "can't be used: "),
    ],
    ids=["unreachable", "no-database", "driver", "no-name", "schema", "query", "host"],
)
def test_what_is_wrong_is_said_without_the_password(
    house: House, server: PostgresServer, address: str, words: str
) -> None:
    """Each fault has its words, and no output has the password."""
    done = house.run("runs", "--db", address.format(port=server.port), code=None)
    assert done.code in (2, 5)
    assert words in done.err
    assert "s3cret" not in done.out + done.err


def test_a_password_in_a_configuration_is_refused(house: House) -> None:
    """It would lie about in a file that is shared."""
    del house.environ["BATCHRUNNER_DB"]
    (house.folder / "batchrunner.toml").write_text('db = "postgresql://u:s3cret@127.0.0.1/x"\n')
    done = house.run("runs", code=2)
    assert "PGPASSWORD" in done.err
    assert "s3cret" not in done.err


def test_two_that_begin_at_once_build_one_schema(place: Server) -> None:
    """Migrations run once, whoever comes second finds them done."""
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: open_database(place, create=True), range(4)))
    assert [check(db) for db in found] == [[]] * 4


def test_who_finds_it_built_locks_nothing(place: Server) -> None:
    """Who comes second to a migration waits for nobody who works already, nor does anybody for them."""
    db = PgDatabase.open_at(place, create=True)
    second = PgDatabase(place)

    def built() -> None:
        second._portal.call(migrate(second._dial, place.schema))

    with ThreadPoolExecutor(1) as pool, db.write() as connection:
        connection.exec_driver_sql("UPDATE process SET pid = 1")
        pool.submit(built).result(10)


def test_who_finds_it_just_upgraded_goes_on(
    place: Server, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that find an older schema at once one upgrades it; that it is at it, or on it then, is no error."""
    db = PgDatabase.open_at(place, create=True)
    version = f"{place.schema}.alembic_version"
    held = db.connect()
    held.execute(f"SELECT pg_advisory_lock({class_of(place.schema)}, {MIGRATING})")
    assert not db.is_anybody_on_it()
    db.disconnect(held)

    def upgraded(_: PgDatabase) -> bool:
        server.execute(f"UPDATE {version} SET version_num = '0005'")
        return True

    monkeypatch.setattr(PgDatabase, "is_anybody_on_it", upgraded)
    server.execute(f"UPDATE {version} SET version_num = '0004'")
    assert check(open_database(place, create=False)) == []


@pytest.mark.parametrize("more", ["", "&pooled=yes"], ids=["session", "pooled"])
def test_a_schema_may_be_called_as_a_word_of_sql(server: PostgresServer, more: str) -> None:
    """A queue called all, default or order is as good as any."""
    schema = "default" if more else "all"
    db = open_database(_place(server.url(schema) + more), create=True)
    assert check(db) == []
    with db.session() as session:
        assert session.shrink()
    server.execute(f'DROP SCHEMA "{schema}" CASCADE')


@pytest.mark.parametrize("more", ["", "&pooled=yes"], ids=["session", "pooled"])
def test_a_role_s_timeouts_are_not_a_queue_s(
    place: Server, server: PostgresServer, more: str
) -> None:
    """Who waits for others' transactions waits, whatever the server allows its users' statements."""
    db = PgDatabase.open_at(place, create=True)
    server.execute("CREATE ROLE hasty SUPERUSER LOGIN")
    for name in ("lock_timeout", "statement_timeout"):
        server.execute(f"ALTER ROLE hasty SET {name} = '50ms'")
    try:
        hasty = PgDatabase(_place(str(place).replace("tester", "hasty") + more))

        def write() -> None:
            with hasty.write():
                pass

        with ThreadPoolExecutor(1) as pool:
            with db.write() as connection:
                written = pool.submit(write)
                waiting = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                until(lambda: server.execute(waiting), "it waits")
                connection.exec_driver_sql("SELECT pg_sleep(0.2)")
            written.result(10)
        hasty.close()
    finally:
        server.execute("DROP ROLE hasty")


def test_who_hangs_while_it_writes_holds_up_nobody_for_long(
    place: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that is stopped in a short transaction loses it: without that all workers would stand still."""
    db = PgDatabase.open_at(place, create=True)
    with db.write() as connection:
        (within,) = connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").one()
    assert within == "15s"
    monkeypatch.setattr(locks, "_HANGS", locks._HANGS.replace(within, "50ms"))
    hanging = PgDatabase(place)

    def write() -> None:
        with db.write() as connection:
            connection.exec_driver_sql("INSERT INTO model (name) VALUES ('m')")

    def hang() -> None:
        with ThreadPoolExecutor(1) as pool, hanging.write() as connection:
            connection.exec_driver_sql("DELETE FROM hold")
            pool.submit(write).result(10)

    with pytest.raises(AwayError):
        hang()
    with db.read() as connection:
        assert connection.exec_driver_sql("SELECT name FROM model").all() == [("m",)]


def test_a_server_that_will_not_do_is_told_at_once(
    house: House, place: Server, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is too old, or does not hold every text, is not found out by a defect in the middle of work."""
    server.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    house.jobs(1)
    done = house.submit("--db", server.url("batchrunner", "latin"), code=5)
    assert "keeps text as LATIN1" in done.error["message"]
    assert "createdb -E UTF8" in done.error["fix"]
    monkeypatch.setattr(dialling, "_OLDEST", 1000)
    with pytest.raises(DatabaseError, match="1000 is the oldest"):
        open_database(place, create=True)


def test_a_variable_that_can_t_be_used_is_no_defect(house: House) -> None:
    """What the driver reads from the environment is told like what the address says."""
    environ = {"PGPORT": "abc", "BATCHRUNNER_DB": "postgresql://127.0.0.1/x"}
    done = house.run("runs", environ=environ, code=2)
    assert "PGPORT" in done.err
    assert "'abc'" in done.err


def test_older_newer_and_foreign_schemas_are_told_apart(
    place: Server, server: PostgresServer, tmp_path: Path
) -> None:
    """An older one is upgraded unless a process is on it; others are refused with what to do."""
    open_database(place, create=True)
    version = f"{place.schema}.alembic_version"
    for table in ("wait", "time_day"):
        server.execute(f"DROP TABLE {place.schema}.{table}")
    server.execute(f"UPDATE {version} SET version_num = '0004'")
    other = PgDatabase(place)
    lock = other.process_lock()
    with pytest.raises(BusyError, match="older schema"):
        open_database(place, create=False)
    lock.release()
    assert check(open_database(place, create=False)) == []
    assert server.execute(f"SELECT version_num FROM {version}") == [("0005",)]
    server.execute(f"UPDATE {version} SET version_num = '9999'")
    with pytest.raises(DatabaseError, match="newer version"):
        open_database(place, create=False)
    server.execute(f"DROP TABLE {place.schema}.usage_slot CASCADE")
    with pytest.raises(DatabaseError, match="another program"):
        open_database(place, create=True)


def test_an_unknown_schema_is_no_database(place: Server) -> None:
    """Who only looks creates nothing."""
    with pytest.raises(NoDatabaseError):
        open_database(place, create=False)


def test_a_lock_is_one_process_s_and_goes_with_its_connection(
    tmp_path: Path, server: PostgresServer
) -> None:
    """Two never hold the sender's lock; whose backend ends has lost it."""
    one, other = stored.database(tmp_path), PgDatabase(stored.place(tmp_path))  # type: ignore[arg-type]
    lock, second = one.sender_lock(), other.sender_lock()
    assert lock.try_acquire()
    assert not second.try_acquire()
    assert other.is_sent_from()
    database = str(stored.place(tmp_path)).partition("?")[0].rpartition("/")[2]
    server.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_locks WHERE objid = 1 AND locktype = 'advisory'"
        f" AND database = (SELECT oid FROM pg_database WHERE datname = '{database}')"
    )
    until(second.try_acquire, "the lock is free")
    second.release()
    lock.release()


async def test_a_commit_of_another_is_seen_by_who_sends(tmp_path: Path) -> None:
    """The number changes with each transaction of others, and not with the sender's own."""
    db = stored.database(tmp_path)
    async with db.writer() as writer:
        before = await writer.data_version()
        await writer.transact(lambda conn: conn.execute("DELETE FROM hold"))
        assert await writer.data_version() == before
        with db.write() as connection:
            connection.exec_driver_sql("INSERT INTO model (name) VALUES ('m')")
        assert await writer.data_version() == before + 1


async def test_a_transaction_that_fails_changes_nothing(tmp_path: Path) -> None:
    """Whatever it raises it is rolled back, and the next one goes on with the same connection."""
    db = stored.database(tmp_path)
    async with db.writer() as writer:

        def failing(conn: object) -> None:
            conn.execute("INSERT INTO model (name) VALUES ('m')")  # type: ignore[attr-defined]
            raise UsageError("no")

        for run in (writer.transact, writer.compute):
            with pytest.raises(UsageError):
                await run(failing)
        count = await writer.query(lambda conn: conn.execute("SELECT count(*) FROM model"))
        assert count.fetchone() == (0,)


def test_a_refused_file_leaves_a_queue_with_nothing_to_carry_on(house: House) -> None:
    """The schema stays where a submit is refused; ``resume --all`` finds nothing to do there, and that is well."""
    (house.folder / "jobs.jsonl").write_text("no job\n")
    assert "Nothing was stored" in house.submit(code=2).out
    done = house.run("resume", "--all")
    assert "has no runs yet" in done.err
    assert "postgresql" in done.err


def test_who_lives_is_asked_once_for_all(place: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker looks at all others each second: that costs a statement, not one a worker."""
    db = PgDatabase.open_at(place, create=True)
    roles: list[Role] = [*["worker"] * 5, *["follower"] * 4]  # type: ignore[list-item]
    attached = [register_process(db, role, now_ms=n) for n, role in enumerate(roles)]
    asked = []
    held = db._held
    monkeypatch.setattr(db, "_held", lambda: asked.append(1) or held())
    with db.read() as connection:
        assert len(db.workers(connection, []).of(RunId(1))) == 5
    assert sweep_dead_processes(db) == 0
    assert len(asked) == 2
    for process in attached[1:]:
        process.lock.release()
    with db.read() as connection:
        assert len(db.workers(connection, []).of(RunId(1))) == 1
    # Dead workers are told by the workers of the queue.
    assert sweep_dead_processes(db) == 4
    db.close()
