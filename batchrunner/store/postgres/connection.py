"""A connection over asyncpg with the few methods of :class:`~batchrunner.store.driver.DriverConnection`.

Parameters are made what the prepared statement asks for (0 and 1 for truths, text for JSON that
comes as bytes); rows come back as tuples, with numbers where PostgreSQL's sums are ``numeric``.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData

from batchrunner.store.driver import DuplicateError
from batchrunner.store.postgres.dialect import plain_insert, postgres

if TYPE_CHECKING:
    from batchrunner.store.postgres.portal import Portal

__all__ = ["PgConnection", "PgCursor", "PgReading"]

#: Prepared statements that a connection keeps.
_PREPARED: Final = 256
#: Rows that a statement of a view reads at a time: they may hold whole answers.
_PART: Final = 100
#: From so many rows on an insert is a COPY.
_COPY_ROWS: Final = 8
#: Words that belong to transactions, and have no parameters.
_CONTROL: Final = re.compile(r"(?:BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE|SET)\b")
#: What SQLAlchemy's statements of the views are compiled for; PostgreSQL tells the types.
_COMPILER: Final = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        value = value.decode()
    elif not isinstance(value, str):
        value = str(value)
    # PostgreSQL's text can't hold it.
    return value.replace("\x00", "\ufffd") if "\x00" in value else value


#: By the name of a parameter's type: what a value is made, where it is not ``None``.
_MADE: Final[dict[str, Callable[[Any], Any]]] = {
    "int8": int,
    "int4": int,
    "int2": int,
    "float8": float,
    "bool": bool,
    "text": _text,
    "varchar": _text,
    "json": _text,
    "bytea": lambda value: value.encode() if isinstance(value, str) else value,
}


def _number(value: Decimal) -> float:
    """Return a sum as SQLite would: whole where it is of whole numbers."""
    return int(value) if value.as_tuple().exponent == 0 else float(value)


class _Prepared(NamedTuple):
    statement: Any
    #: What each parameter is made.
    made: tuple[Callable[[Any], Any] | None, ...]
    names: tuple[str, ...]
    #: Places of columns that are ``numeric``.
    decimals: tuple[int, ...]


class PgCursor:
    """The rows that a statement brought, and how many it changed."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: Sequence[tuple[Any, ...]], rowcount: int) -> None:
        """Take both."""
        self._rows = iter(rows)
        self.rowcount = rowcount

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row, ``None`` where there is none."""
        return next(self._rows, None)

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return the rows that are left."""
        return list(self._rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows that are left."""
        return self._rows


class PgConnection:
    """A connection as the store's functions use it; one thread at a time."""

    def __init__(self, raw: asyncpg.Connection, portal: Portal, begins: Mapping[str, str]) -> None:
        """Wrap asyncpg's connection; ``begins``: what the store's words for a beginning are here."""
        self.raw = raw
        self._portal = portal
        #: What the store's words for transactions are; ``BEGIN ANEW`` is as the last began.
        self._words = dict(begins)
        self._prepared: OrderedDict[str, _Prepared] = OrderedDict()

    # --- as a driver's connection

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> PgCursor:
        """Execute a statement of the store."""
        return self._portal.call(self.execute_async(sql, parameters))

    def executemany(self, sql: str, parameters: Sequence[Sequence[Any]], /) -> None:
        """Execute a statement for each row of parameters: one trip, or a COPY."""
        if parameters:
            self._portal.call(self._execute_many(sql, parameters))

    def control(self, words: str) -> None:
        """Execute words that belong to a transaction, as they are."""
        self._portal.call(self.say(words))

    async def say(self, words: str) -> None:
        """As :meth:`control`, on the portal's thread."""
        await self.raw.execute(words)

    async def begun(self) -> None:
        """Know that asyncpg began a transaction."""

    @staticmethod
    def is_control(sql: str) -> bool:
        """Return whether a statement without parameters belongs to transactions."""
        return _CONTROL.match(sql) is not None

    async def execute_async(self, sql: str, parameters: Sequence[Any] = ()) -> PgCursor:
        """As :meth:`execute`, on the portal's thread."""
        if not parameters and self.is_control(sql):
            words = self._words.get(sql, sql)
            if sql.startswith("BEGIN"):
                self._words["BEGIN ANEW"] = f"ROLLBACK; {words.removeprefix('ROLLBACK; ')}"
            await self.say(words)
            return PgCursor((), 0)
        try:
            found = await self._prepare(postgres(sql))
            records = await found.statement.fetch(*_values(found, parameters))
        except asyncpg.UniqueViolationError as error:
            raise DuplicateError(str(error)) from error
        return PgCursor(_tuples(found, records), _count(found.statement.get_statusmsg()))

    async def _execute_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        try:
            insert = plain_insert(sql) if len(rows) >= _COPY_ROWS else None
            if insert is not None:
                found = await self._prepare(postgres(sql))
                await self.raw.copy_records_to_table(
                    insert.table,
                    records=[_values(found, row) for row in rows],
                    columns=insert.columns,
                )
                return
            found = await self._prepare(postgres(sql))
            await found.statement.executemany([_values(found, row) for row in rows])
        except asyncpg.UniqueViolationError as error:
            raise DuplicateError(str(error)) from error

    async def _prepare(self, sql: str) -> _Prepared:
        found = self._prepared.get(sql)
        if found is not None:
            self._prepared.move_to_end(sql)
            return found
        statement = await self.raw.prepare(sql)
        attributes = statement.get_attributes()
        found = _Prepared(
            statement,
            tuple(_MADE.get(type_.name) for type_ in statement.get_parameters()),
            tuple(attribute.name for attribute in attributes),
            tuple(n for n, attribute in enumerate(attributes) if attribute.type.name == "numeric"),
        )
        self._prepared[sql] = found
        if len(self._prepared) > _PREPARED:
            self._prepared.popitem(last=False)
        return found

    # --- for views

    def named(self, sql: str, parameters: Sequence[Any]) -> IteratorResult[Any]:
        """Execute a statement; its rows have names, as SQLAlchemy's have."""

        async def fetched() -> tuple[_Prepared, list[tuple[Any, ...]]]:
            found = await self._prepare(sql)
            records = await found.statement.fetch(*_values(found, parameters))
            return found, _tuples(found, records)

        found, rows = self._portal.call(fetched())
        return IteratorResult(SimpleResultMetaData(found.names), iter(rows))

    def streamed(self, sql: str, parameters: Sequence[Any]) -> IteratorResult[Any]:
        """As :meth:`named`, read in parts as they are asked for; in a transaction of asyncpg's."""

        async def opened() -> tuple[_Prepared, Any]:
            found = await self._prepare(sql)
            return found, await found.statement.cursor(*_values(found, parameters))

        found, cursor = self._portal.call(opened())

        def rows() -> Iterator[tuple[Any, ...]]:
            while some := self._portal.call(cursor.fetch(_PART)):
                yield from _tuples(found, some)

        return IteratorResult(SimpleResultMetaData(found.names), rows())


class _Raw(NamedTuple):
    """Where SQLAlchemy's connection has the driver's."""

    driver_connection: PgConnection


class PgReading:
    """What views ask of a connection (:class:`~batchrunner.store.driver.Connection`)."""

    def __init__(self, connection: PgConnection, *, is_streaming: bool = False) -> None:
        """Wrap a connection in a transaction; ``is_streaming``: one that asyncpg began."""
        self.connection = _Raw(connection)
        self._driver = connection
        self._is_streaming = is_streaming

    def execute(self, statement: sa.Executable, /) -> IteratorResult[Any]:
        """Execute a statement that SQLAlchemy made."""
        compiled = statement.compile(  # type: ignore[attr-defined]
            dialect=_COMPILER, compile_kwargs={"render_postcompile": True}
        )
        values = [compiled.params[name] for name in compiled.positiontup or ()]
        sql = _CASTS.sub(r"\1", str(compiled))
        if self._is_streaming:
            return self._driver.streamed(sql, values)
        return self._driver.named(sql, values)

    def exec_driver_sql(self, statement: str, parameters: Any = (), /) -> IteratorResult[Any]:
        """Execute a text of the store."""
        return self._driver.named(postgres(statement), parameters)

    def scalars(self, statement: sa.Executable, /) -> sa.ScalarResult[Any]:
        """Execute a statement and return the first column."""
        return self.execute(statement).scalars()

    def scalar(self, statement: sa.Executable, /) -> Any:
        """Execute a statement and return the first value, ``None`` where there is none."""
        return self.execute(statement).scalar()


#: SQLAlchemy takes a number for an INTEGER of four bytes; the columns tell better.
_CASTS: Final = re.compile(r"(\$\d+)::(?:BIGINT|INTEGER|VARCHAR|TEXT)")


def _values(found: _Prepared, parameters: Sequence[Any]) -> list[Any]:
    return [
        value if value is None or made is None else made(value)
        for value, made in zip(parameters, found.made, strict=True)
    ]


def _tuples(found: _Prepared, records: Sequence[Any]) -> list[tuple[Any, ...]]:
    if not found.decimals:
        return [tuple(record) for record in records]
    rows = []
    for record in records:
        row = list(record)
        for n in found.decimals:
            if row[n] is not None:
                row[n] = _number(row[n])
        rows.append(tuple(row))
    return rows


def _count(status: str | None) -> int:
    """Return the number of rows in ``UPDATE 5``; 0 where there is none."""
    word = (status or "").rpartition(" ")[2]
    return int(word) if word.isdigit() else 0
