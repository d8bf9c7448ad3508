"""What a schema is to this program, and how it is built or brought up to date.

The migrations are those of SQLite; each statement passes :func:`.dialect.ddl`. One process migrates
at a time, in one transaction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from batchrunner.failpoints import hit
from batchrunner.store.postgres.additions import ADDITIONS
from batchrunner.store.postgres.connection import PgConnection
from batchrunner.store.postgres.dialect import ddl
from batchrunner.store.postgres.locks import MIGRATING, class_of
from batchrunner.store.schema import REVISIONS, Standing, upgrade

__all__ = ["migrate", "standing"]


def standing(connection: PgConnection, schema: str) -> Standing:
    """Tell what a schema is, from its tables and Alembic's version."""
    tables = {
        row[0]
        for row in connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = ?", (schema,)
        )
    }
    if not tables:
        return Standing.EMPTY
    if not {"alembic_version", "usage_slot", "meta"} <= tables:
        return Standing.FOREIGN
    row = connection.execute(_version_in(schema)).fetchone()
    if row is None or row[0] not in REVISIONS:
        return Standing.NEWER
    return Standing.CURRENT if row[0] == REVISIONS[-1] else Standing.OLDER


def _version_in(schema: str) -> str:
    # By its full name: without the right to use the schema the search path would not find it.
    return f'SELECT version_num FROM "{schema}".alembic_version'  # noqa: S608 (a checked name)


async def migrate(connect: Callable[[], Awaitable[asyncpg.Connection]], schema: str) -> None:
    """Build or upgrade the schema; whoever comes second finds it done."""
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        poolclass=NullPool,
        # Behind a pooler a name may be another client's, and what a session knows is a transaction's.
        connect_args={"prepared_statement_cache_size": 0, "prepared_statement_name_func": str},
    )

    @event.listens_for(engine.sync_engine, "before_cursor_execute", retval=True)
    def _spelled(*args: Any) -> tuple[str, Any]:
        _, _, statement, parameters, *_ = args
        return ddl(statement), parameters

    def build(connection: sa.Connection) -> None:
        lock = f"{class_of(schema)}, {MIGRATING}"
        connection.exec_driver_sql(f'SET LOCAL search_path = "{schema}"')
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({lock})")
        if connection.exec_driver_sql("SELECT to_regclass('alembic_version')").scalar() is not None:
            if connection.exec_driver_sql(_version_in(schema)).scalar() == REVISIONS[-1]:
                # Nothing is said again: it would lock tables that whoever came first works with.
                return
        elif connection.exec_driver_sql(f"SELECT to_regnamespace('\"{schema}\"')").scalar() is None:
            connection.exec_driver_sql(f'CREATE SCHEMA "{schema}"')
        upgrade(connection)
        for statement in ADDITIONS:
            connection.exec_driver_sql(statement)
        hit("create.migrated")

    try:
        async with engine.connect() as connection, connection.begin():
            await connection.run_sync(build)
    except sa.exc.DBAPIError as error:
        # What the driver's own errors mean is told in one place.
        driver_error = error.orig.__cause__ if error.orig is not None else None
        raise (driver_error or error) from error
    finally:
        await engine.dispose()
