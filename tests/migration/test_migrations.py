"""Migrations: known to the program, reversible, and what the statements count on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from batchrunner.store import choose, runs, schema
from batchrunner.store.database import Database


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


def test_program_knows_every_revision_in_order() -> None:
    """The literal table of revisions is what the directory holds, with one head."""
    scripts = ScriptDirectory.from_config(config())
    walked = [script.revision for script in scripts.walk_revisions()]
    assert tuple(reversed(walked)) == schema.REVISIONS
    assert scripts.get_current_head() == schema.REVISIONS[-1]


def test_down_and_up_again_gives_the_same_schema(tmp_path: Path) -> None:
    """Every step can be undone and done again."""
    db = Database.open(tmp_path / "jobs.db", create=True)
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
    db = Database.open(tmp_path / "jobs.db", create=True)
    with db.read() as connection:
        columns = {row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table.name})")}
    assert columns == {column.name for column in table.columns}


def test_current_database_is_opened_without_alembic(tmp_path: Path) -> None:
    """Alembic costs its import only where there is something to migrate."""
    Database.open(tmp_path / "jobs.db", create=True)
    program = (
        "import sys; from pathlib import Path; from batchrunner.store.database import Database;"
        f"Database.open(Path({str(tmp_path / 'jobs.db')!r}), create=True);"
        "print([m for m in sys.modules if m.startswith(('alembic', 'mako'))])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
