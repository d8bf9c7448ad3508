"""Migrations: known to the program, reversible, and what the statements count on."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from batchrunner.app import Batchrunner
from batchrunner.errors import DatabaseError
from batchrunner.store import choose, runs, schema
from batchrunner.store.load import Loader
from batchrunner.store.sqlite.database import FileDatabase
from tests.unit.stored import NOW, line

#: The copy that an upgrade from the first version leaves.
COPY = f"jobs.db.before-{schema.REVISIONS[-1]}-0001"


def config(connection: sa.Connection | None = None) -> Config:
    """Return Alembic's settings, as the program makes them."""
    made = Config()
    made.set_main_option("script_location", str(schema.migrations_directory()))
    made.attributes["connection"] = connection
    return made


def shape(connection: sa.Connection) -> dict[str, str]:
    """Return the statements that the schema consists of."""
    return dict(
        connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'alembic_version'"
        ).all()  # type: ignore[arg-type]
    )


def released(path: Path) -> Path:
    """Make the database that the first version left: five of eight jobs answered."""
    connection = sqlite3.connect(path)
    connection.executescript((Path(__file__).parent / "stored_0001.sql").read_text())
    connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    return path


def test_first_version_is_what_0001_makes(tmp_path: Path) -> None:
    """The stored database has the schema of its migration, statement by statement."""
    kept = sqlite3.connect(released(tmp_path / "kept.db"))
    made = sa.create_engine(f"sqlite:///{tmp_path / 'made.db'}")
    with made.begin() as connection:
        schema.migrate(connection, "0001")
        expected = shape(connection)
    made.dispose()
    rows = kept.execute(
        "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name != 'alembic_version'"
    )
    assert dict(rows.fetchall()) == expected
    kept.close()


def test_database_of_the_first_version_goes_on(tmp_path: Path) -> None:
    """The next command upgrades it, says so, keeps the old one, and everything in it is there."""
    path = released(tmp_path / "jobs.db")
    told: list[str] = []
    app = Batchrunner(path, notice=told.append)
    before = sqlite3.connect(path)
    answers = before.execute("SELECT job_id, body FROM response").fetchall()
    before.close()
    assert (app.status().jobs.completed, app.status().jobs.pending) == (5, 3)
    copy = tmp_path / COPY
    assert told == [f"{path} was upgraded to this version's schema; the old one is kept as {copy}"]
    assert app.db_check() == []
    assert [row.output_text for row in app.jobs()][:2] == [
        "You said: ask k-1 end", "You said: ask k-2 end",
    ]  # fmt: skip
    kept = sqlite3.connect(copy)
    assert kept.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
    assert kept.execute("SELECT job_id, body FROM response").fetchall() == answers
    kept.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["jobs.db", COPY]


def test_upgrade_says_what_it_did(tmp_path: Path) -> None:
    """``db upgrade`` names the copy; a second one has nothing to do."""
    path = released(tmp_path / "jobs.db")
    app = Batchrunner(path)
    assert app.db_upgrade().endswith(f"the old one is kept as {tmp_path / COPY}")
    assert app.db_upgrade() == f"{path} is up to date"


def test_newer_schema_is_refused_by_upgrade_too(tmp_path: Path) -> None:
    """A database of a later version is never said to be up to date."""
    path = released(tmp_path / "jobs.db")
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(DatabaseError, match="newer version") as caught:
        Batchrunner(path).db_upgrade()
    assert caught.value.exit_code == 5


def test_copy_that_was_broken_off_is_not_taken_for_one(tmp_path: Path) -> None:
    """What a death left of a copy goes; only a whole one has the name of a copy."""
    path = released(tmp_path / "jobs.db")
    for name in ("jobs.db.upgrade.partial", "jobs.db.upgrade.partial-journal"):
        (tmp_path / name).write_bytes(b"half")
    Batchrunner(path).status()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["jobs.db", COPY]


def test_downgrade_writes_compressed_bodies_plainly(tmp_path: Path) -> None:
    """Going back to the first schema loses no body."""
    db = FileDatabase.open(tmp_path / "jobs.db", create=True)
    jobs = [line(f"k{n}", "the same words again and again " * 3) for n in range(20)]
    with Loader(
        db, name="run", uid="uid", provider="anthropic", options_json="{}", priority=0,
        now_ms=NOW, loader_process_id=1, is_compressed=True,
    ) as loader:  # fmt: skip
        loader.add(jobs)
        loader.finish(b"d")
    with db.write() as connection:
        assert connection.exec_driver_sql("SELECT min(codec) FROM payload").scalar() == 1
        command.downgrade(config(connection), "0001")
        bodies = connection.exec_driver_sql("SELECT body FROM payload ORDER BY job_id").scalars()
        assert list(bodies) == [job.body for job in jobs]


def test_program_knows_every_revision_in_order() -> None:
    """The literal table of revisions is what the directory holds, with one head."""
    scripts = ScriptDirectory.from_config(config())
    walked = [script.revision for script in scripts.walk_revisions()]
    assert tuple(reversed(walked)) == schema.REVISIONS
    assert scripts.get_current_head() == schema.REVISIONS[-1]


def test_down_and_up_again_gives_the_same_schema(tmp_path: Path) -> None:
    """Every step can be undone and done again."""
    db = FileDatabase.open(tmp_path / "jobs.db", create=True)
    with db.write() as connection:
        before = shape(connection)
        command.downgrade(config(connection), "base")
        assert shape(connection) == {}
        schema.migrate(connection)
        assert shape(connection) == before


@pytest.mark.parametrize("table", [choose.JOB, choose.PAYLOAD, choose.RESPONSE, runs._RUN], ids=str)
def test_tables_of_the_statements_have_the_columns_of_the_schema(
    tmp_path: Path, table: sa.TableClause
) -> None:
    """A column that is renamed in a migration is noticed here."""
    db = FileDatabase.open(tmp_path / "jobs.db", create=True)
    with db.read() as connection:
        columns = {row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table.name})")}
    assert columns == {column.name for column in table.columns}


def test_current_database_is_opened_without_alembic(tmp_path: Path) -> None:
    """Alembic costs its import only where there is something to migrate."""
    FileDatabase.open(tmp_path / "jobs.db", create=True)
    program = (
        "import sys; from pathlib import Path; from batchrunner.store.sqlite.database import FileDatabase;"
        f"FileDatabase.open(Path({str(tmp_path / 'jobs.db')!r}), create=True);"
        "print([m for m in sys.modules if m.startswith(('alembic', 'mako'))])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
