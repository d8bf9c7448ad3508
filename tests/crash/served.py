"""A scene whose database is on a server, and how it is looked at: past the program, by the driver alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import Any

import asyncpg

from tests.crash.scene import Looked, Scene
from tests.fakes.postgres_server import PostgresServer, programs, running_postgres

__all__ = ["ServedScene", "a_server", "served"]

_numbers = count(1)
#: Locks and sessions that a program left: of its own database, since each scene has one.
_LEFT = """
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database =
    (SELECT oid FROM pg_database WHERE datname = current_database())"""


class _Rows:
    """What a statement returned, as ``sqlite3`` gives it."""

    def __init__(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._rows = iter(rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        return next(self._rows, None)


class _Look:
    """One snapshot of a database."""

    def __init__(self, runner: asyncio.Runner, connection: asyncpg.Connection) -> None:
        self._runner, self._connection = runner, connection

    def execute(self, sql: str, parameters: tuple[Any, ...] = (), /) -> _Rows:
        first, *others = sql.split("?")
        numbered = first + "".join(f"${n}{text}" for n, text in enumerate(others, 1))
        rows = self._runner.run(self._fetch(numbered, parameters))
        return _Rows([tuple(map(_plain, row)) for row in rows])

    async def _fetch(self, sql: str, parameters: tuple[Any, ...]) -> Any:
        return await self._connection.fetch(sql, *parameters)


def _plain(value: Any) -> Any:
    """Return sums as the numbers that they are of."""
    if not isinstance(value, Decimal):
        return value
    return int(value) if value == int(value) else float(value)


@dataclass(slots=True, kw_only=True)
class ServedScene(Scene):
    """Jobs to be sent from a database of their own on ``server``."""

    server: PostgresServer
    database: str

    @property
    def place(self) -> str:
        """The address."""
        return self.server.url("jobs", self.database)

    @property
    def is_begun(self) -> bool:
        """Whether there are tables."""
        with self.look() as connection:
            return self.has_tables(connection)

    @contextmanager
    def look(self) -> Iterator[Looked]:
        """Give a connection that only reads, in one snapshot."""
        with asyncio.Runner() as runner:
            connection = runner.run(self._connected())
            try:
                yield _Look(runner, connection)
            finally:
                runner.run(connection.close())

    async def _connected(self) -> asyncpg.Connection:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=self.server.port, user="tester", database=self.database,
            server_settings={"search_path": "jobs"},
        )  # fmt: skip
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        return connection

    def has_tables(self, connection: Looked) -> bool:
        """Whether the schema has its tables."""
        rows = connection.execute("SELECT 1 FROM pg_tables WHERE schemaname = 'jobs'")
        return rows.fetchone() is not None

    def broken(self, _connection: Looked) -> Iterator[str]:
        """Nothing: a server never lets go of its references, and has no file of ours to be damaged."""
        yield from ()

    def unswept(self, mark: str, _largest: int) -> Iterator[str]:
        """Tell what a prune has left of the words that it took; room is the server's own matter."""
        with self.look() as connection:
            (n,) = connection.execute(
                "SELECT count(*) FROM payload WHERE position(convert_to(?, 'UTF8') IN body) > 0",
                (mark,),
            ).fetchone()
        if n:
            yield f"words of a pruned run are left in {n} requests"

    def left_behind(self) -> list[str]:
        """Return what a clean end should have let go of."""
        with self.look() as connection:
            (n,) = connection.execute(_LEFT).fetchone()
        return [f"{n} locks"] if n else []


@contextmanager
def a_server() -> Iterator[PostgresServer]:
    """Run one for the length of the block."""
    binaries = programs()
    assert binaries is not None, (
        "no PostgreSQL on this machine: install it, or `pip install pgserver`"
    )
    with running_postgres(binaries) as server:
        yield server


@contextmanager
def served(server: PostgresServer, **fields: Any) -> Iterator[ServedScene]:
    """Have a scene on a server for the length of the block."""
    database = f"scene_{next(_numbers)}"
    server.execute(f"CREATE DATABASE {database}")
    try:
        yield ServedScene(server=server, database=database, **fields)
    finally:
        server.execute(f"DROP DATABASE {database} WITH (FORCE)")
