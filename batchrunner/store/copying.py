"""``db copy``: everything of a database, as it is, into another one that is empty.

Promises: rows have the ids and values they had; what is bound to a process (its row, its locks, what
it asks for) stays behind, so that a job which a crash left in flight is rescued there as it would
have been here. The copy is seen in one moment, whole and counted, or not at all. Nothing is sent from
the source, and nobody changes it, meanwhile; from then on it is marked (:mod:`.moved`).

Rows go in pages of bounded size by the same statements on both databases: a page is bounded by a look
at its keys and lengths, for a row may hold 32 MB.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from batchrunner.errors import BusyError, DatabaseError, UsageError
from batchrunner.failpoints import hit
from batchrunner.places import Place, shown
from batchrunner.store.database import Database
from batchrunner.store.driver import DUPLICATE, Cursor, DriverConnection, driver
from batchrunner.store.moved import MOVED, Moved, mark, refuse_moved, unmark
from batchrunner.store.processes import sweep_dead_processes
from batchrunner.store.receiving import receiving
from batchrunner.store.sharing import forget_dead
from batchrunner.views import CopyView

__all__ = ["LEFT", "TABLES", "Progress", "copy_to"]


class Progress(Protocol):
    """Is told how far a copy is."""

    def __call__(self, table: str, n: int, /, *, n_jobs: int) -> None:
        """Take the rows of a table that are copied so far, and how many jobs there are in all."""
        ...


class _Table(NamedTuple):
    name: str
    #: The column that its primary key begins with: pages are ranges of it.
    key: str
    #: Where its rows may be long: how long one is.
    length: str = "0"
    #: Which rows go.
    where: str = "1 = 1"
    order: str = ""


#: Every table that goes, what others refer to first.
TABLES: Final = (
    # Accounts before their pools, whatever their ids.
    _Table("scope", "id", order="parent_id IS NOT NULL, "),
    _Table("cap", "scope_id"),
    _Table("usage_slot", "scope_id"),
    _Table("model", "id"),
    _Table("run", "id"),
    _Table("hold", "run_id"),
    _Table("dictionary", "id", "length(bytes)"),
    _Table("job", "id"),
    _Table(
        "payload",
        "job_id",
        "length(body) + coalesce(length(headers), 0) + coalesce(length(metadata), 0)",
    ),
    _Table("response", "job_id", "coalesce(length(body), 0)"),
    _Table("send", "job_id"),
    _Table("usage_day", "day"),
    _Table("time_day", "run_id"),
    _Table("wait", "id"),
    # 'changes' counts what was committed to one database, 'sender' is who sent from it last.
    _Table("meta", "key", "length(value)", where=f"key NOT IN ('{MOVED}', 'changes', 'sender')"),
)
#: Tables that stay behind: who is attached, what they ask for and have had; the schema's own version.
LEFT: Final = frozenset({"process", "ask", "part", "worker_run", "lease", "alembic_version"})
#: What a column holds over there instead.
_INSTEAD: Final = {("run", "runner_id"): "NULL"}
#: What a person may change while nobody sends: pause, cancel, limits.
_CHANGEABLE: Final = ("run", "cap", "hold")

#: Rows and bytes of a page.
_ROWS: Final = 4_000
_BYTES: Final = 4 * 1024 * 1024


def copy_to(
    source: Database, to: Place, *, keep: bool, now_ms: int, progress: Progress
) -> CopyView:
    """Copy the database to ``to``, where there is none yet or an empty one.

    ``keep``: the source may be sent from on. Raises :class:`UsageError` where something is at ``to``,
    :class:`BusyError` where somebody is on either, :class:`DatabaseError`.
    """
    if source.name == shown(to) or (isinstance(to, Path) and source.is_part(to)):
        raise UsageError(
            f"{shown(to)} is the database itself, or belongs to it.", fix="Name another place."
        )
    mark_of = Moved(to=shown(to), at=now_ms)
    with (
        _alone_on(source, mark_of),
        receiving(to) as target,
        source.read() as connection,
    ):
        conn = driver(connection)
        seen = _changeable(conn)
        (n_jobs,) = conn.execute(
            "SELECT coalesce(sum(n_pending + n_running + n_completed + n_failed + n_cancelled), 0)"
            " FROM run"
        ).fetchone()
        (n_runs,) = conn.execute("SELECT count(*) FROM run WHERE state != 'loading'").fetchone()
        copied = {}
        for table in TABLES:
            tell = partial(progress, table.name, n_jobs=int(n_jobs))
            copied[table.name] = _copied(conn, target, table, tell)
        hit("copy.copied")
        # The mark comes before anybody can see the copy: a death in between leaves none to send from,
        # not two.
        with source.write() as writing:
            now = driver(writing)
            if _changeable(now) != seen:
                raise BusyError(
                    f"The database {source.name} was changed while it was copied (a pause, a limit).",
                    fix="Nothing was copied; give the same command again.",
                )
            if keep:
                unmark(now)
            else:
                mark(now, mark_of)
        hit("copy.marked")
    return CopyView(
        source=source.name,
        to=mark_of.to,
        runs=int(n_runs),
        jobs=int(n_jobs),
        rows={name: done.n for name, done in copied.items()},
        n_replaced=sum(done.n_replaced for done in copied.values()),
        is_kept=keep,
    )


@contextmanager
def _alone_on(source: Database, mark_of: Moved) -> Iterator[None]:
    """Keep everybody from sending from the source, and from storing jobs in it, within the context."""
    sender = source.sender_lock()
    if not sender.try_acquire():
        raise BusyError(
            f"A process sends from {source.name}; it would go on with what is copied.",
            fix="Stop it (Ctrl-C, and each worker), then give the same command again.",
        )
    try:
        sweep_dead_processes(source)
        own = source.process_lock()
        try:
            with source.write() as connection:
                conn = driver(connection)
                refuse_moved(conn, source.name, source.is_alive)
                if not isinstance(conn, sqlite3.Connection):
                    # No worker is there while nobody else may send.
                    forget_dead(conn, source.who_is_alive)
                _refuse_attached(conn, source.name)
                mark(conn, msgspec.structs.replace(mark_of, by=own.name))
            try:
                yield
            except BaseException:
                with suppress(DatabaseError), source.write() as connection:
                    unmark(driver(connection))
                raise
        finally:
            own.release(unlink=True)
    finally:
        sender.release(unlink=True)


def _refuse_attached(conn: DriverConnection, name: str) -> None:
    rows = conn.execute('SELECT pid, host, "user" FROM process ORDER BY since').fetchall()
    if rows:
        who = ", ".join(f"process {pid} of {user} on {host}" for pid, host, user in rows)
        raise BusyError(
            f"The database {name} is in use by {who}, which would go on with what is copied.",
            fix="Stop that, or wait until it is done, then give the same command again.",
        )


def _changeable(conn: DriverConnection) -> list[list[Any]]:
    """Return what a person may change while nobody sends."""
    return [
        conn.execute(f"SELECT * FROM {name} ORDER BY 1, 2").fetchall()  # noqa: S608 (constants)
        for name in _CHANGEABLE
    ]


class _Copied(NamedTuple):
    n: int
    #: Texts in which U+0000 was replaced.
    n_replaced: int


def _copied(
    source: DriverConnection, target: DriverConnection, table: _Table, tell: Callable[[int], None]
) -> _Copied:
    """Copy a table page by page. Raises :class:`DatabaseError` where it did not arrive whole."""
    there = _columns(target, table.name)
    columns = [name for name in _columns(source, table.name) if name in there]
    taken = [_INSTEAD.get((table.name, name), name) for name in columns]
    page_of = (
        f"SELECT {', '.join(taken)} FROM {table.name} WHERE {table.key} >= ? AND {table.key} <= ?"  # noqa: S608 (constants)
        f" AND {table.where} ORDER BY {table.order}{table.key}"
    )
    put = (
        f"INSERT INTO {table.name} ({', '.join(columns)})"  # noqa: S608 (constants)
        f" VALUES ({', '.join('?' * len(columns))})"
    )
    # A file holds any text.
    is_replacing = not isinstance(target, sqlite3.Connection)
    n = n_replaced = 0
    for first, last in _pages(source, table):
        rows = source.execute(page_of, (first, last)).fetchall()
        if is_replacing:
            n_replaced += sum(
                isinstance(cell, str) and "\0" in cell for row in rows for cell in row
            )
        try:
            target.executemany(put, rows)
        except DUPLICATE as error:
            raise DatabaseError(
                f"Two rows of {table.name} are the same over there ({error}).",
                fix="Where two keys differ by a character U+0000 alone, PostgreSQL can't tell them apart:"
                " keep that run in a file. Else look: batchrunner db check",
            ) from error
        n += len(rows)
        tell(n)
        hit("copy.page")
    (arrived,) = target.execute(
        f"SELECT count(*) FROM {table.name} WHERE {table.where}"  # noqa: S608 (constants)
    ).fetchone()
    if arrived != n:
        raise DatabaseError(
            f"{n} rows of {table.name} were copied, and {arrived} are there.",
            fix="Nothing was kept of the copy. Look whether it is sound: batchrunner db check",
        )
    return _Copied(n, n_replaced)


def _pages(conn: DriverConnection, table: _Table) -> Iterator[tuple[Any, Any]]:
    """Yield the first and the last key of each page; all rows of one key are in one page."""
    at = f"{table.key} > ? AND"
    lengths = (
        f"SELECT {table.key}, {table.length} FROM {table.name}"  # noqa: S608 (constants)
        f" WHERE {{}} {table.where} ORDER BY {table.order}{table.key} LIMIT {_ROWS}"
    )
    if table.order:
        # Few, and in an order of their own: one page.
        low, high = conn.execute(
            f"SELECT min({table.key}), max({table.key}) FROM {table.name}"  # noqa: S608 (constants)
        ).fetchone()
        if low is not None:
            yield low, high
        return
    rows = conn.execute(lengths.format("")).fetchall()
    while rows:
        first, size = rows[0][0], 0
        last = first
        for key, length in rows:
            if size and size + length > _BYTES and key != last:
                yield first, last
                first, size = key, 0
            size += length
            last = key
        yield first, last
        rows = conn.execute(lengths.format(at), (last,)).fetchall()


def _columns(conn: DriverConnection, table: str) -> list[str]:
    if isinstance(conn, sqlite3.Connection):
        rows: Cursor = conn.execute("SELECT name FROM pragma_table_info(?)", (table,))
    else:
        rows = conn.execute(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = current_schema() AND table_name = ? ORDER BY ordinal_position",
            (table,),
        )
    return [row[0] for row in rows]
