"""What PostgreSQL's and the network's errors mean for a person.

The one place where asyncpg's exceptions become :class:`~batchrunner.errors.DatabaseError`, and where
what passes by itself (:class:`~batchrunner.errors.AwayError`: gone, or not there yet) is told from what
never does. A wrong statement or a broken constraint is left alone: it is a defect, and must not look
like a sick server.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import asyncpg

from batchrunner.errors import AwayError, DatabaseError, ReplacedError
from batchrunner.places import Server
from batchrunner.store.faults import DiskFullError

__all__ = ["translated"]


class _AgainError(AwayError):
    """The server took a transaction back so that others could go on."""

    is_connected = True


class _Meaning(NamedTuple):
    what: str
    #: With ``{schema}`` where its name goes.
    fix: str
    #: :class:`AwayError`: it may pass, and is waited for where somebody can wait.
    error: type[DatabaseError] = DatabaseError


#: The first class that an exception is of.
_MEANINGS: Final[
    tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], _Meaning], ...]
] = (
    (
        asyncpg.InvalidAuthorizationSpecificationError,
        _Meaning(
            "lets this user in from nowhere like here",
            "Look at the user's name in --db, and at pg_hba.conf of the server.",
        ),
    ),
    (
        asyncpg.exceptions.DatabaseDroppedError,
        _Meaning("was dropped", "Make it anew, or name another with --db."),
    ),
    (
        asyncpg.InvalidCatalogNameError,
        _Meaning("does not exist", "Make it: createdb NAME, or name another with --db."),
    ),
    (
        asyncpg.InsufficientPrivilegeError,
        _Meaning(
            "does not allow this user to do that",
            "As the owner of the schema: GRANT USAGE ON SCHEMA {schema} TO USER; GRANT ALL ON ALL TABLES IN SCHEMA"
            " {schema} TO USER; GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO USER; where there is none yet, as that of"
            " the database: GRANT CREATE ON DATABASE NAME TO USER; an upgrade is its owner's: batchrunner db upgrade",
        ),
    ),
    (
        asyncpg.TooManyConnectionsError,
        _Meaning(
            "has no connection free",
            "End some, or raise max_connections; a process takes up to four.",
            AwayError,
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
        asyncpg.InsufficientResourcesError,
        _Meaning(
            "lacks memory or another means",
            # The connection stands, so that waiting for it would be over at once, again and again.
            "Look at the server's log, and at what else runs on it; a setting may be too small.",
        ),
    ),
    (
        asyncpg.ReadOnlySQLTransactionError,
        _Meaning(
            "is read-only, as a standby is",
            "Name the primary with --db, or add ?target_session_attrs=primary with all hosts.",
            AwayError,
        ),
    ),
    (
        asyncpg.CannotConnectNowError,
        _Meaning("is starting or stopping", "Give the same command again in a moment.", AwayError),
    ),
    (
        asyncpg.IdleInTransactionSessionTimeoutError,
        _Meaning(
            "did not hear from this process for too long",
            "It hung, or its machine slept; give the same command again.",
            AwayError,
        ),
    ),
    (
        # By keep_lease (see .additions).
        asyncpg.RaiseError,
        _Meaning(
            "has given this process's place to another, since it was not heard of for too long",
            "Follow the other with: batchrunner resume; or start this one again.",
            ReplacedError,
        ),
    ),
    (
        # By somebody, or after a time that a pooler keeps to.
        (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError),
        _Meaning(
            "has broken off what this process asked for",
            "Give the same command again; where a time is named, have it lengthened for this user.",
            _AgainError,
        ),
    ),
    (
        asyncpg.OperatorInterventionError,
        _Meaning(
            "has ended the connection",
            "It was restarted, or somebody ended it; give the same command again.",
            AwayError,
        ),
    ),
    (
        asyncpg.PostgresConnectionError,
        _Meaning(
            "has broken off the connection",
            "Look whether it runs (pg_isready), and give the same command again.",
            AwayError,
        ),
    ),
    (
        (asyncpg.DataCorruptedError, asyncpg.IndexCorruptedError),
        _Meaning("is damaged", "Look at the server's log, and go back to a backup."),
    ),
    (
        (asyncpg.PostgresSystemError, asyncpg.InternalServerError),
        _Meaning(
            "reports an error of its own",
            "Look at the server's log, and at its disk's health; everything committed is safe.",
        ),
    ),
    (
        (ssl.SSLEOFError, ssl.SSLZeroReturnError),
        _Meaning(
            "has broken off the connection",
            "Look whether it runs (pg_isready), and give the same command again.",
            AwayError,
        ),
    ),
    (
        asyncpg.InterfaceError,
        _Meaning(
            "has broken off the connection",
            "Look whether it runs (pg_isready), and give the same command again.",
            AwayError,
        ),
    ),
    (
        asyncpg.TransactionRollbackError,
        _Meaning(
            "has put off what this process wanted, since others want the same",
            "Give the same command again.",
            _AgainError,
        ),
    ),
    (
        asyncpg.TargetServerAttributeNotMatched,
        _Meaning(
            "has no host that can be written to",
            "Look which of its hosts is the primary (SELECT pg_is_in_recovery()).",
            AwayError,
        ),
    ),
    (
        # What the driver makes of a connection that ends in the middle of its words.
        asyncpg.InternalClientError,
        _Meaning(
            "has broken off the connection",
            "Look whether it runs (pg_isready), and give the same command again.",
            AwayError,
        ),
    ),
    (
        PermissionError,
        _Meaning("can't be reached", "Look at the permissions of its socket, and at --db."),
    ),
    (
        # Refused, reset, no such host, no answer in time.
        OSError,
        _Meaning(
            "can't be reached",
            "Look whether it runs (pg_isready), and at host and port in --db.",
            AwayError,
        ),
    ),
)


_CAUGHT: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
)


@contextmanager
def translated(place: Server) -> Iterator[None]:
    """Turn the errors of a block into :class:`DatabaseError`; others pass as they are."""
    try:
        yield
    except _CAUGHT as error:
        if isinstance(error, ValueError) and not isinstance(
            error, OSError | asyncpg.ClientConfigurationError
        ):
            # A value that does not fit its parameter.
            raise
        for kind, meaning in _MEANINGS:
            if isinstance(error, kind):
                why = str(error) or type(error).__name__
                raise meaning.error(
                    f"The database {place} {meaning.what} ({why}).",
                    fix=meaning.fix.replace("{schema}", place.schema),
                ) from error
        raise
