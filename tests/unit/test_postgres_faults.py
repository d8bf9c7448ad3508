"""What passes by itself is told from what never does: the one is waited for, the other ends at once."""

from __future__ import annotations

import socket
import ssl

import asyncpg
import pytest

from batchrunner.errors import AwayError, DatabaseError
from batchrunner.places import Server, place_of
from batchrunner.store.postgres.faults import translated

PASSING = [
    asyncpg.exceptions.AdminShutdownError("57P01"),
    asyncpg.exceptions.CrashShutdownError("57P02"),
    asyncpg.CannotConnectNowError("57P03"),
    asyncpg.ConnectionDoesNotExistError("08003"),
    asyncpg.TooManyConnectionsError("53300"),
    asyncpg.ReadOnlySQLTransactionError("25006"),
    asyncpg.IdleInTransactionSessionTimeoutError("25P03"),
    asyncpg.InterfaceError("connection is closed"),
    asyncpg.InternalClientError("in the middle"),
    asyncpg.TargetServerAttributeNotMatched("no primary"),
    ConnectionRefusedError(),
    ConnectionResetError(),
    TimeoutError(),
    socket.gaierror(),
    ssl.SSLEOFError(),
]
LASTING = [
    asyncpg.InvalidPasswordError("28P01"),
    asyncpg.InvalidCatalogNameError("3D000"),
    asyncpg.exceptions.DatabaseDroppedError("57P04"),
    asyncpg.InsufficientPrivilegeError("42501"),
    asyncpg.DiskFullError("53100"),
    asyncpg.OutOfMemoryError("53200"),
    asyncpg.DataCorruptedError("XX001"),
    asyncpg.IndexCorruptedError("XX002"),
    asyncpg.InternalServerError("XX000"),
    asyncpg.PostgresIOError("58030"),
    PermissionError(),
]


def _raised(error: Exception) -> DatabaseError:
    place = place_of("postgresql://db.example/jobs?user=batch")
    assert isinstance(place, Server)
    with pytest.raises(DatabaseError) as caught, translated(place):
        raise error
    return caught.value


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_what_passes_is_waited_for(error: Exception) -> None:
    """A server that is gone, not there yet, or another's: its connection is made anew."""
    away = _raised(error)
    assert isinstance(away, AwayError)
    assert not away.is_connected


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.SerializationError("40001"),
        asyncpg.DeadlockDetectedError("40P01"),
        asyncpg.QueryCanceledError("57014"),
        asyncpg.LockNotAvailableError("55P03"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_was_put_off_is_tried_again_at_once(error: Exception) -> None:
    """The connection stands: nobody waits."""
    away = _raised(error)
    assert isinstance(away, AwayError)
    assert away.is_connected


@pytest.mark.parametrize("error", LASTING, ids=lambda error: type(error).__name__)
def test_what_lasts_is_an_error_at_once(error: Exception) -> None:
    """A password, a right, a disk: waiting would not help."""
    assert not isinstance(_raised(error), AwayError)


def test_a_wrong_statement_is_left_alone() -> None:
    """It is a defect, and must not look like a server that is away."""
    place = place_of("postgresql://db.example/jobs?user=batch")
    assert isinstance(place, Server)
    for error in (asyncpg.UndefinedTableError("42P01"), asyncpg.exceptions._base.DataError("no")):
        with pytest.raises(type(error)), translated(place):
            raise error
