"""Short writing transactions on a connection that is not the sender's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from batchrunner.places import Server
from batchrunner.store.driver import Connection
from batchrunner.store.postgres.connection import PgConnection, PgReading
from batchrunner.store.postgres.faults import translated

__all__ = ["PgSession", "written"]

#: What ``PRAGMA data_version`` is: counted up by every transaction that writes but the sender's.
_COMMIT: Final = (
    "INSERT INTO meta (key, value) VALUES ('changes', '1') ON CONFLICT (key)"
    " DO UPDATE SET value = CAST(CAST(meta.value AS BIGINT) + 1 AS TEXT); COMMIT"
)
#: Tables with a row a job.
_LARGE: Final = ("job", "payload", "response", "send")


class PgSession:
    """One connection that writes in several short transactions.

    Each method tells by itself what went wrong: its user may be in no context of the database's.
    """

    def __init__(self, connection: PgConnection, place: Server) -> None:
        """Wrap a connection."""
        self._connection = connection
        self._place = place

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Run a block as one transaction, no other writing meanwhile."""
        with translated(self._place), written(self._connection):
            yield PgReading(self._connection)

    def relax(self) -> None:
        """Have commits be durable together with the first one after :meth:`insist`."""
        with translated(self._place):
            self._connection.execute("SET synchronous_commit = off")

    def insist(self) -> None:
        """Have each commit be durable when it returns."""
        with translated(self._place):
            self._connection.execute("SET synchronous_commit = on")

    def overwrite(self) -> None:
        """What is deleted is overwritten when its page is vacuumed and used again: the server's matter."""

    def refuse_full(self, n_doomed: int) -> None:
        """The server's disk is not ours to look at."""

    def shrink(self) -> bool:
        """Have the room of what was deleted be used again; it is not given back to the disk."""
        with translated(self._place):
            for table in _LARGE:
                self._connection.control(f'VACUUM (ANALYZE) "{self._place.schema}".{table}')
        return True

    def relieve(self) -> bool:
        """The server checkpoints by itself."""
        return True

    def checkpoint(self) -> None:
        """As :meth:`relieve`."""


@contextmanager
def written(connection: PgConnection) -> Iterator[None]:
    """Run a block as one transaction, alone, which those who look for changes see."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.control(_COMMIT)
    except BaseException:
        # A connection that broke has rolled back.
        with contextlib.suppress(Exception):
            connection.execute("ROLLBACK")
        raise
