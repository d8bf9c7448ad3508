"""Which databases are ours, which schema they have, and how an older one is brought up to date.

Alembic is imported only where something is to be built or upgraded; a current database is told by
two look-ups. Migrations lie in the top-level ``migrations/`` of a checkout and in the package when
installed.
"""

from __future__ import annotations

import sqlite3
from enum import Enum
from pathlib import Path
from typing import Final

import sqlalchemy as sa

__all__ = ["APPLICATION_ID", "REVISIONS", "Standing", "migrate", "standing", "upgrade"]

#: ``PRAGMA application_id`` of our files: "brun".
APPLICATION_ID: Final = 0x6272756E
#: Every revision this program knows, oldest first; the last is the current schema.
REVISIONS: tuple[str, ...] = ("0001", "0002", "0003", "0004", "0005")


class Standing(Enum):
    """What a database file is to this program."""

    #: Nothing in it yet.
    EMPTY = "empty"
    CURRENT = "current"
    OLDER = "older"
    NEWER = "newer"
    #: Another application's.
    FOREIGN = "foreign"


def standing(connection: sqlite3.Connection) -> Standing:
    """Tell what a database is, from its application id and Alembic's version."""
    tables = {
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    }
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if not tables and application_id == 0:
        return Standing.EMPTY
    if application_id != APPLICATION_ID or "alembic_version" not in tables:
        return Standing.FOREIGN
    row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    if row is None or row[0] not in REVISIONS:
        return Standing.NEWER
    return Standing.CURRENT if row[0] == REVISIONS[-1] else Standing.OLDER


def migrations_directory() -> Path:
    """Return where the migrations lie: in the installed package, else in the checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


def migrate(connection: sa.Connection, revision: str = "head") -> None:
    """Build or upgrade an SQLite file within the connection's transaction."""
    upgrade(connection, revision)
    connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")


def upgrade(connection: sa.Connection, revision: str = "head") -> None:
    """Run the migrations within the connection's transaction."""
    from alembic import command  # noqa: PLC0415 -- costs 0.2 s that a current database never pays
    from alembic.config import Config  # noqa: PLC0415 -- as above

    config = Config()
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
