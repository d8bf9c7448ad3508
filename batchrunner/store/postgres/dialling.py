"""A connection made: to the server, or to a pooler in between, which is found out by the first."""

from __future__ import annotations

from typing import Final

import asyncpg

from batchrunner.places import Server
from batchrunner.store.postgres.pooled import is_refused_by_pooler
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
    # Statements are short: compiling them costs more than it saves.
    "jit": "off",
}


class Dial:
    """Makes connections to one place."""

    def __init__(self, place: Server) -> None:
        """Take the address."""
        self._place = place
        #: Whether a pooler of transactions is in between; ``None``: not known yet.
        self.is_pooled = place.is_pooled

    async def __call__(self) -> asyncpg.Connection:
        """Connect. Raises what :func:`.reaching.reaching` says, and the driver's own errors."""
        with reaching(self._place):
            raw = await (self._found_out() if self.is_pooled is None else self._dialled())
        sound_out(raw)
        return raw

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
            self.is_pooled = await raw.fetchval("SHOW search_path") != self._place.schema
        return raw

    async def _dialled(self) -> asyncpg.Connection:
        settings = {**_SETTINGS, "search_path": self._place.schema}
        if self.is_pooled:
            settings = {"application_name": settings["application_name"]}
        # Without its cache asyncpg gives statements no names, which a pooler would mix up.
        return await asyncpg.connect(
            self._place.dsn, timeout=_CONNECT_S, statement_cache_size=0, server_settings=settings
        )
