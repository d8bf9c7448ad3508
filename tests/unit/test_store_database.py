"""Opening a database: what is made, what is refused, what is left behind."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa

from batchrunner.errors import BusyError, DatabaseError, NoDatabaseError
from batchrunner.store import schema
from batchrunner.store.faults import DiskFullError
from batchrunner.store.runs import driver
from batchrunner.store.sqlite import building, connecting
from batchrunner.store.sqlite.connecting import PRAGMAS
from batchrunner.store.sqlite.database import FileDatabase
from batchrunner.store.sqlite.filesystem import network_file_system
from batchrunner.store.sqlite.locks import FileLock, ProcessLock, sender_lock_path, write_lock_path

NUMBERED = {"WAL": "wal", "FULL": 2, "ON": 1, "MEMORY": 2}


def files(directory: Path) -> list[str]:
    """Return the names in a directory."""
    return sorted(path.name for path in directory.iterdir())


def test_open_creates_a_private_file_and_nothing_else(tmp_path: Path) -> None:
    """A fresh database is one file that its owner alone can read, under any umask."""
    before = os.umask(0)
    try:
        db = FileDatabase.open(tmp_path / "jobs.db", create=True)
        with db.session() as session, session.transaction() as connection:
            driver(connection).execute("INSERT INTO meta VALUES ('a', '1')")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert set(modes) == {"jobs.db", "jobs.db-wal", "jobs.db-shm", "jobs.db.wlock"}
    assert set(modes.values()) == {0o600}
    assert files(tmp_path) == ["jobs.db"]


@pytest.mark.parametrize("first", ["reader", "writer"])
def test_close_leaves_one_file_whoever_closes_last(tmp_path: Path, first: str) -> None:
    """The log is emptied and removed by the last to close, a reader too."""
    db = FileDatabase.open(tmp_path / "jobs.db", create=True)
    reader, session = db.read(), db.session()
    connection = reader.__enter__()
    connection.exec_driver_sql("SELECT count(*) FROM meta").all()
    writing = session.__enter__()
    with writing.transaction() as other:
        driver(other).execute("INSERT INTO meta VALUES ('a', '1')")
    for context in (reader, session) if first == "reader" else (session, reader):
        context.__exit__(None, None, None)
    assert files(tmp_path) == ["jobs.db"]
    with db.read() as connection:
        assert connection.exec_driver_sql("SELECT value FROM meta").scalar() == "1"


def test_open_refuses_to_make_one_unasked(tmp_path: Path) -> None:
    """Without ``create`` the error names the path, --db and submit, and nothing is made."""
    path = tmp_path / "none.db"
    with pytest.raises(NoDatabaseError) as caught:
        FileDatabase.open(path, create=False)
    assert str(path) in caught.value.message
    assert "--db" in caught.value.fix
    assert "submit" in caught.value.fix
    assert caught.value.exit_code == 2
    assert files(tmp_path) == []


def test_open_completes_an_empty_file(tmp_path: Path) -> None:
    """A creation that died after making the file is made good by the next."""
    (tmp_path / "jobs.db").touch(mode=0o600)
    db = FileDatabase.open(tmp_path / "jobs.db", create=True)
    with db.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM run").scalar() == 0


def make_text(path: Path) -> None:
    """Write something that is no database."""
    path.write_bytes(b"hello world, this is no database at all\n" * 50)


def make_foreign(path: Path) -> None:
    """Write another program's database."""
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()


def make_newer(path: Path) -> None:
    """Write a database of a later version."""
    FileDatabase.open(path, create=True)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()


def make_damaged(path: Path) -> None:
    """Overwrite the pages of a good database."""
    FileDatabase.open(path, create=True)
    content = bytearray(path.read_bytes())
    content[100:8192] = b"\xff" * (8192 - 100)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        pytest.param(make_text, "not a batchrunner database", id="not-a-database"),
        pytest.param(make_foreign, "another program's", id="foreign"),
        pytest.param(make_newer, "newer version", id="newer"),
        pytest.param(make_damaged, "damaged", id="damaged"),
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_open_refuses_what_is_not_ours(
    tmp_path: Path, make: object, word: str, create: bool
) -> None:
    """A file that can't be used is left as it is, with a sentence that says why, exit code 5."""
    path = tmp_path / "jobs.db"
    make(path)  # type: ignore[operator]
    before = path.read_bytes()
    with pytest.raises(DatabaseError) as caught:
        FileDatabase.open(path, create=create)
    assert word in caught.value.message
    assert caught.value.fix
    assert caught.value.exit_code == 5
    assert path.read_bytes() == before


def test_open_refuses_a_directory(tmp_path: Path) -> None:
    """A directory is no database."""
    with pytest.raises(DatabaseError, match="is a directory"):
        FileDatabase.open(tmp_path, create=True)


def test_open_says_when_the_directory_is_missing(tmp_path: Path) -> None:
    """A missing directory is named as the reason, and as what to make; a file in its place is no directory."""
    with pytest.raises(NoDatabaseError) as caught:
        FileDatabase.open(tmp_path / "no way" / "jobs.db", create=True)
    assert caught.value.exit_code == 2
    assert f"there is no folder {tmp_path / 'no way'}." in caught.value.message
    assert f"mkdir -p '{tmp_path / 'no way'}'" in caught.value.fix
    (tmp_path / "file").touch()
    with pytest.raises(NoDatabaseError, match="is no folder"):
        FileDatabase.open(tmp_path / "file" / "jobs.db", create=True)
    for place in ("no way", "file"):
        with pytest.raises(NoDatabaseError, match=r"There is no database at .*/jobs\.db"):
            FileDatabase.open(tmp_path / place / "jobs.db", create=False)


def test_open_refuses_an_old_sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite before 3.35 is refused by name."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(DatabaseError, match=r"needs 3\.35\.0"):
        FileDatabase.open(tmp_path / "jobs.db", create=True)


def test_open_refuses_a_network_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No database is made where locks can't be trusted."""
    monkeypatch.setattr(building, "network_file_system", lambda _: "nfs4")
    with pytest.raises(DatabaseError, match="network file system"):
        FileDatabase.open(tmp_path / "jobs.db", create=True)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ("/dev/sda / ext4 rw 0 0", None),
        ("/dev/sda / ext4 rw 0 0\nsrv:/x {tmp} nfs4 rw 0 0", "nfs4"),
        ("/dev/sda / ext4 rw 0 0\nme@srv: {tmp}/a\\040b fuse.sshfs rw 0 0", "fuse.sshfs"),
        ("//srv/x / cifs rw 0 0\n/dev/sda {tmp} ext4 rw 0 0", None),
        ("srv:/x {tmp}/a nfs rw 0 0", None),
    ],
    ids=["local", "mount", "escaped", "local-inside", "other-directory"],
)
def test_network_file_system_is_told_by_the_nearest_mount(
    tmp_path: Path, table: str, found: str | None
) -> None:
    """The longest mount point that holds the directory decides."""
    mounts = tmp_path / "mounts"
    mounts.write_text(table.replace("{tmp}", str(tmp_path)) + "\n")
    (tmp_path / "a b").mkdir()
    assert network_file_system(tmp_path / "a b", mounts) == found
    assert network_file_system(tmp_path, tmp_path / "none") is None


@pytest.mark.parametrize(("name", "value"), PRAGMAS)
def test_every_connection_has_every_pragma(tmp_path: Path, name: str, value: str) -> None:
    """Readers and writers are told everything in the table."""
    db = FileDatabase.open(tmp_path / "jobs.db", create=True)
    expected = NUMBERED.get(value, value)
    with db.read() as connection:
        assert str(connection.exec_driver_sql(f"PRAGMA {name}").scalar()) == str(expected)
    with db.write() as connection:
        assert str(connection.exec_driver_sql(f"PRAGMA {name}").scalar()) == str(expected)


def test_read_cannot_write(tmp_path: Path) -> None:
    """A reading connection refuses a write."""
    db = FileDatabase.open(tmp_path / "jobs.db", create=True)
    with pytest.raises(DatabaseError), db.read() as connection:
        connection.exec_driver_sql("INSERT INTO meta VALUES ('a', '1')")


def test_read_is_one_snapshot(tmp_path: Path) -> None:
    """What is committed meanwhile is not seen before the next read."""
    db = FileDatabase.open(tmp_path / "jobs.db", create=True)
    with db.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM meta").scalar() == 0
        with db.write() as other:
            other.exec_driver_sql("INSERT INTO meta VALUES ('a', '1')")
        assert connection.exec_driver_sql("SELECT count(*) FROM meta").scalar() == 0


def test_read_within_a_write_does_not_wait_for_itself(tmp_path: Path) -> None:
    """A thread that writes may read beside it, and sees what was committed before."""
    db = FileDatabase.open(tmp_path / "jobs.db", create=True)
    with db.write() as connection:
        connection.exec_driver_sql("INSERT INTO meta VALUES ('a', '1')")
        with db.read() as reader:
            assert reader.exec_driver_sql("SELECT count(*) FROM meta").scalar() == 0
        assert write_lock_path(db.path).exists()
    assert files(tmp_path) == ["jobs.db"]


def test_write_is_undone_where_the_block_raises(tmp_path: Path) -> None:
    """A failed block leaves nothing, and no lock."""
    db = FileDatabase.open(tmp_path / "jobs.db", create=True)

    def fail() -> None:
        with db.write() as connection:
            connection.exec_driver_sql("INSERT INTO meta VALUES ('a', '1')")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not write_lock_path(db.path).exists()
    with db.write() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM meta").scalar() == 0


def test_write_is_immediate_under_the_write_lock(tmp_path: Path) -> None:
    """A writing transaction excludes others before its first statement."""
    db = FileDatabase.open(tmp_path / "jobs.db", create=True)
    with db.write():
        assert not FileLock(write_lock_path(db.path)).try_acquire()
        other = sqlite3.connect(db.path, timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()


def test_write_says_that_another_kind_of_program_has_it_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that isn't ours to wait for ends in a sentence, exit code 5."""
    monkeypatch.setattr(connecting, "PRAGMAS", (("busy_timeout", "10"), *PRAGMAS[1:]))
    db = FileDatabase.open(tmp_path / "jobs.db", create=True)
    other = sqlite3.connect(db.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseError, match="another kind of program"), db.write():
        pass
    other.close()


def test_write_says_that_the_disk_is_full(tmp_path: Path) -> None:
    """Running out of space is an error of its own, and undoes the transaction."""
    db = FileDatabase.open(tmp_path / "jobs.db", create=True)

    def fill() -> None:
        with db.write() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
            connection.exec_driver_sql("INSERT INTO meta VALUES ('a', ?)", ("x" * 1_000_000,))

    with pytest.raises(DiskFullError) as caught:
        fill()
    assert "disk is full" in caught.value.message
    with db.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM meta").scalar() == 0


def test_defects_in_statements_are_not_blamed_on_the_database(tmp_path: Path) -> None:
    """A wrong statement stays what it is."""
    db = FileDatabase.open(tmp_path / "jobs.db", create=True)
    with pytest.raises(sa.exc.OperationalError, match="no such table"), db.read() as connection:
        connection.exec_driver_sql("SELECT * FROM nowhere")


@pytest.mark.parametrize("through", ["link", "relative"])
def test_locks_stand_beside_the_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, through: str
) -> None:
    """However the path is written, two processes on one file use the same locks."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    real = FileDatabase.open(tmp_path / "a" / "jobs.db", create=True)
    if through == "link":
        path = tmp_path / "b" / "link.db"
        path.symlink_to(real.path)
    else:
        monkeypatch.chdir(tmp_path / "b")
        path = Path("../a/jobs.db")
    assert FileDatabase.open(path, create=False).path == real.path


class TestUpgrade:
    """An older schema is brought up to date after a copy, never under a process that runs."""

    @pytest.fixture
    def older(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A database of today, and a program of tomorrow."""
        path = tmp_path / "jobs.db"
        db = FileDatabase.open(path, create=True)
        with db.write() as connection:
            connection.exec_driver_sql("INSERT INTO meta VALUES ('kept', 'yes')")
        migrations = tmp_path / "migrations"
        (migrations / "versions").mkdir(parents=True)
        source = schema.migrations_directory()
        versions = [f"versions/{path.name}" for path in (source / "versions").glob("0*.py")]
        for name in ("env.py", "script.py.mako", *versions):
            (migrations / name).write_text((source / name).read_text())
        (migrations / "versions" / "next.py").write_text(
            "from __future__ import annotations\nfrom alembic import op\n"
            f"revision = 'next'\ndown_revision = '{schema.REVISIONS[-1]}'\n"
            "def upgrade():\n    op.execute('CREATE TABLE added (x)')\n"
        )
        monkeypatch.setattr(schema, "migrations_directory", lambda: migrations)
        monkeypatch.setattr(schema, "REVISIONS", (*schema.REVISIONS, "next"))
        return path

    def test_keeps_a_copy_and_the_rows(self, older: Path) -> None:
        """The next command upgrades; the copy beside is the database as it was."""
        db = FileDatabase.open(older, create=False)
        with db.read() as connection:
            assert connection.exec_driver_sql("SELECT value FROM meta").scalar() == "yes"
            assert connection.exec_driver_sql("SELECT count(*) FROM added").scalar() == 0
        (copy,) = older.parent.glob("jobs.db.before-next*")
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        connection = sqlite3.connect(copy)
        assert connection.execute("SELECT value FROM meta").fetchall() == [("yes",)]
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() != [
            ("next",)
        ]
        connection.close()
        assert [p.name for p in older.parent.iterdir() if p.name.startswith("jobs.db.p")] == []

    @pytest.mark.parametrize("who", ["sender", "attached"])
    def test_is_refused_while_a_process_runs(self, older: Path, who: str) -> None:
        """A process that sends or follows keeps the schema it knows."""
        lock = FileLock(sender_lock_path(older)) if who == "sender" else None
        if lock is None:
            lock = ProcessLock.create(older)
        else:
            assert lock.try_acquire()
        with pytest.raises(BusyError) as caught:
            FileDatabase.open(older, create=False)
        assert caught.value.exit_code == 5
        lock.release(unlink=True)
        assert not list(older.parent.glob("jobs.db.before*"))
        FileDatabase.open(older, create=False)

    def test_is_undone_where_a_migration_fails(self, older: Path) -> None:
        """A failed migration leaves the database as it was."""
        broken = schema.migrations_directory() / "versions" / "next.py"
        broken.write_text(broken.read_text() + "    op.execute('NONSENSE')\n")
        with pytest.raises(sa.exc.OperationalError):
            FileDatabase.open(older, create=False)
        connection = sqlite3.connect(older)
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        connection.close()
        assert "added" not in tables
