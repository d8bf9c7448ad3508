"""Rows into the database in few statements, as the driver at hand likes them.

SQLite gets statements of many rows each, since each step hands the interpreter's lock to and fro, and a
CHECK with IN builds its list once a statement; a driver that hands many rows over by itself gets them
as they are. A tail says what becomes of rows that are there already.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import Final, NamedTuple

from batchrunner.store.driver import DriverConnection

__all__ = ["Insert", "Rows", "Statement", "rows_of"]

#: A statement with its parameters, or with the rows of them.
Statement = tuple[str, Sequence[object]]
#: The head and the tail of an INSERT, and its rows.
Insert = tuple[str, str, Sequence[Sequence[object]]]
#: Rows of one INSERT, few sizes so that their statements stay prepared; the surplus is NULL.
_INSERT_SIZES: Final = (1, 4, 16, 64, 128, 256)


class Rows(NamedTuple):
    """Rows made ready for the driver at hand."""

    #: Statements with their parameters.
    single: Sequence[Statement]
    #: Statements with their rows, which the driver hands over by itself.
    many: Sequence[Statement]

    def insert(self, conn: DriverConnection) -> None:
        """Execute them in the transaction that is open."""
        for statement, values in self.single:
            conn.execute(statement, values)
        for statement, rows in self.many:
            conn.executemany(statement, rows)


def rows_of(inserts: Iterable[Insert], *, packs: bool, others: Sequence[Statement] = ()) -> Rows:
    """Return inserts as the driver likes them, and other statements after them.

    ``packs``: as statements of many rows each; the first column of a row is never NULL.
    """
    if packs:
        return Rows([*chain.from_iterable(map(_of_many, inserts)), *others], ())
    return Rows(others, [_of_each(*insert) for insert in inserts if insert[2]])


def _of_many(insert: Insert) -> Iterator[Statement]:
    head, tail, rows = insert
    most = _INSERT_SIZES[-1]
    for start in range(0, len(rows), most):
        some = rows[start : start + most]
        width = len(some[0])
        size = next(size for size in _INSERT_SIZES if size >= len(some))
        missing = (None,) * ((size - len(some)) * width)
        yield _insert(head, tail, width, size), [*chain.from_iterable(some), *missing]


def _of_each(head: str, tail: str, rows: Sequence[Sequence[object]]) -> Statement:
    return f"{head} VALUES ({', '.join('?' * len(rows[0]))}){tail}", rows


@cache
def _insert(head: str, tail: str, width: int, size: int) -> str:
    row = "(" + ", ".join("?" * width) + ")"
    rows = ", ".join([row] * size)
    return f"{head} SELECT * FROM (VALUES {rows}) WHERE column1 IS NOT NULL{tail}"  # noqa: S608
