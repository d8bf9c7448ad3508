"""A connection made: to the server, or to a pooler in between, which is found out by the first."""

from __future__ import annotations

from typing import Final

import asyncpg

from batchrunner.errors import DatabaseError
from batchrunner.places import Server
from batchrunner.store.postgres.pooled import STATEMENTS, is_refused_by_pooler
from batchrunner.store.postgres.reaching import reaching
from batchrunner.store.postgres.sockets import sound_out

__all__ = ["Dial"]

#: How long a connection may take to be made (seconds).
_CONNECT_S: Final = 15.0
#: What each session is told. A client whose machine is gone loses its locks after a minute.
_SETTINGS: Final = {
    "application_name": "batchrunner",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    # A lock is held by a session that says nothing.
    "idle_session_timeout": "0",
    **STATEMENTS,
}
#: Triggers are replaced as they stand from that version on.
_OLDEST: Final = 14
_ENCODING: Final = "UTF8"


class Dial:
    """Makes connections to one place."""

    def __init__(self, place: Server) -> None:
        """Take the address."""
        self._place = place
        #: Whether a pooler of transactions is in between; ``None``: not known yet.
        self.is_pooled = place.is_pooled

    @property
    def _search_path(self) -> str:
        # A schema may be called as a word of SQL.
        return f'"{self._place.schema}"'

    async def __call__(self) -> asyncpg.Connection:
        """Connect. Raises what :func:`.reaching.reaching` says, and the driver's own errors.

        Raises :class:`DatabaseError` where the server, or how it keeps text, is none to work with.
        """
        with reaching(self._place):
            raw = await (self._found_out() if self.is_pooled is None else self._dialled())
        try:
            self._refuse_unfit(raw)
            sound_out(raw)
        except BaseException:
            raw.terminate()
            raise
        return raw

    def _refuse_unfit(self, raw: asyncpg.Connection) -> None:
        major = raw.get_server_version().major
        if major < _OLDEST:
            raise DatabaseError(
                f"The server of {self._place} is PostgreSQL {major}, and {_OLDEST} is the oldest that will do.",
                fix=f"Have it upgraded, or name a server of version {_OLDEST} or later with --db.",
            )
        encoding = raw.get_settings().server_encoding
        if encoding != _ENCODING:
            raise DatabaseError(
                f"The database {self._place} keeps text as {encoding}, which does not hold every text.",
                fix=f"Make one that does, and name it with --db: createdb -E {_ENCODING} -T template0 NAME",
            )

    async def _found_out(self) -> asyncpg.Connection:
        """Connect for the first time, and see whether a session keeps what it is told."""
        try:
            raw = await self._dialled()
        except asyncpg.PostgresError as error:
            if not is_refused_by_pooler(error):
                raise
            self.is_pooled = True
            return await self._dialled()
        async with raw.transaction():
            self.is_pooled = await raw.fetchval("SHOW search_path") != self._search_path
        return raw

    async def _dialled(self) -> asyncpg.Connection:
        settings = {**_SETTINGS, "search_path": self._search_path}
        if self.is_pooled:
            settings = {"application_name": settings["application_name"]}
        # Without its cache asyncpg gives statements no names, which a pooler would mix up.
        return await asyncpg.connect(
            self._place.dsn, timeout=_CONNECT_S, statement_cache_size=0, server_settings=settings
        )
