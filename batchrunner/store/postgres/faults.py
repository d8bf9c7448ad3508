"""What PostgreSQL's and the network's errors mean for a person.

The one place where asyncpg's exceptions become :class:`~batchrunner.errors.DatabaseError`. A wrong
statement or a broken constraint is left alone: it is a defect, and must not look like a sick server.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import asyncpg

from batchrunner.errors import DatabaseError
from batchrunner.places import Server
from batchrunner.store.faults import DiskFullError

__all__ = ["translated"]


class _Meaning(NamedTuple):
    what: str
    #: With ``{schema}`` where its name goes.
    fix: str
    error: type[DatabaseError] = DatabaseError


#: The first class that an exception is of.
_MEANINGS: Final[tuple[tuple[type[BaseException], _Meaning], ...]] = (
    (
        asyncpg.InvalidPasswordError,
        _Meaning(
            "refuses the password",
            "Set PGPASSWORD, or keep it in ~/.pgpass (mode 0600).",
        ),
    ),
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        _Meaning(
            "lets this user in from nowhere like here",
            "Look at the user's name in --db, and at pg_hba.conf of the server.",
        ),
    ),
    (
        asyncpg.InvalidCatalogNameError,
        _Meaning("has no such database", "Make it: createdb NAME, or name another with --db."),
    ),
    (
        asyncpg.InsufficientPrivilegeError,
        _Meaning(
            "does not allow this user to do that",
            "As the owner of the schema: GRANT USAGE ON SCHEMA {schema} TO USER; GRANT ALL ON ALL TABLES IN SCHEMA"
            " {schema} TO USER; GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO USER; where there is none yet, as that of"
            " the database: GRANT CREATE ON DATABASE NAME TO USER;",
        ),
    ),
    (
        asyncpg.TooManyConnectionsError,
        _Meaning(
            "has no connection free",
            "End some, or raise max_connections; a process takes up to four.",
        ),
    ),
    (
        asyncpg.DiskFullError,
        _Meaning(
            "can't grow: its disk is full",
            "Free some space there and give the same command again; everything committed is safe.",
            DiskFullError,
        ),
    ),
    (
        asyncpg.ReadOnlySQLTransactionError,
        _Meaning(
            "is read-only, as a standby is",
            "Name the primary with --db, or add ?target_session_attrs=primary with all hosts.",
        ),
    ),
    (
        asyncpg.CannotConnectNowError,
        _Meaning("is starting or stopping", "Give the same command again in a moment."),
    ),
    (
        asyncpg.OperatorInterventionError,
        _Meaning(
            "has ended the connection",
            "It was restarted, or somebody ended it; give the same command again.",
        ),
    ),
    (
        asyncpg.PostgresConnectionError,
        _Meaning(
            "has broken off the connection",
            "Look whether it runs (pg_isready), and give the same command again.",
        ),
    ),
    (
        asyncpg.DataCorruptedError,
        _Meaning("is damaged", "Look at the server's log, and go back to a backup."),
    ),
    (
        asyncpg.ClientConfigurationError,
        _Meaning(
            "has an address that can't be used",
            "Write postgresql+asyncpg://HOST:PORT/DATABASE?user=USER.",
        ),
    ),
    (
        ssl.SSLError,
        _Meaning(
            "can't be trusted",
            "Name its CA in the address: ?sslmode=verify-full&sslrootcert=FILE.",
        ),
    ),
    (
        asyncpg.InterfaceError,
        _Meaning(
            "has broken off the connection",
            "Look whether it runs (pg_isready), and give the same command again.",
        ),
    ),
    (
        # Refused, reset, no such host, no answer in time.
        OSError,
        _Meaning(
            "can't be reached",
            "Look whether it runs (pg_isready), and at host and port in --db.",
        ),
    ),
)


@contextmanager
def translated(place: Server) -> Iterator[None]:
    """Turn the errors of a block into :class:`DatabaseError`; others pass as they are."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        for kind, meaning in _MEANINGS:
            if isinstance(error, kind):
                why = str(error) or type(error).__name__
                raise meaning.error(
                    f"The database {place} {meaning.what} ({why}).",
                    fix=meaning.fix.replace("{schema}", place.schema),
                ) from error
        raise
