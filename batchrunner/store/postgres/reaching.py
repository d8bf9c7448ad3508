"""Why a server can't be connected to: TLS, certificates, passwords, options of the address.

What only the making of a connection can meet, in words of its own; whatever else goes wrong has its
words in :mod:`.faults`. No message holds a password.
"""

from __future__ import annotations

import os
import shlex
import ssl
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import asyncpg

from batchrunner.errors import BatchrunnerError, DatabaseError, UsageError
from batchrunner.places import Server

__all__ = ["reaching"]

#: Files that the address or the environment may name: option → variable.
_FILES: Final = {
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslcrl": "PGSSLCRL",
    "passfile": "PGPASSFILE",
}
#: Bits of a file's mode that let others than its owner at it.
_OTHERS: Final = 0o077
_PGPASS_FIX: Final = (
    "Set PGPASSWORD, or keep it in ~/.pgpass (mode 0600): HOST:PORT:DATABASE:USER:PASSWORD"
)
_CA_FIX: Final = (
    "Have the file of its authority from whoever runs the server, and name it in the address:"
    " sslmode=verify-full&sslrootcert=FILE"
)
_ADDRESS_FIX: Final = (
    "Write postgresql+asyncpg://HOST:PORT/DATABASE?user=USER; after it schema, sslmode,"
    " sslrootcert, sslcert, sslkey, and settings of the server."
)


class _Distrust(NamedTuple):
    why: str
    fix: str


#: X509_V_ERR code → why a certificate is not trusted, what to do.
_DISTRUSTS: Final[Mapping[int, _Distrust]] = {
    9: _Distrust("it is not valid yet", "See whether this machine's date is right: date -u"),
    10: _Distrust(
        "it has expired",
        "See whether this machine's date is right (date -u); if it is, the server's certificate must be renewed.",
    ),
    **dict.fromkeys(
        (2, 18, 19, 20, 21), _Distrust("it is of an authority that is not trusted here", _CA_FIX)
    ),
    **dict.fromkeys(
        (62, 64),
        _Distrust(
            "it is for another name than the address has",
            "Name the host in --db as the certificate does.",
        ),
    ),
}


class _Refusal(NamedTuple):
    #: The first that an error is of and says holds.
    kinds: tuple[type[BaseException], ...]
    says: str
    #: What is wrong here is a wrong usage.
    error: type[DatabaseError | UsageError]
    what: str
    fix: str


_REFUSALS: Final = (
    _Refusal(
        (ssl.SSLError,), "[X509", UsageError,
        "A file of certificates that {place} or the environment names can't be used ({said}).",
        "Name files of certificates in PEM with sslrootcert, sslcert and sslkey.",
    ),
    _Refusal(
        (ssl.SSLError,), "", DatabaseError,
        "TLS with {place} failed ({said}).",
        "Look at the server's log, and whether its versions of TLS are new enough.",
    ),
    _Refusal(
        (ConnectionError,), "rejected SSL", DatabaseError,
        "The server of {place} has no TLS, and the address (or PGSSLMODE) demands it.",
        "Have it switched on there (ssl = on); on a network that you trust: sslmode=disable",
    ),
    _Refusal(
        (asyncpg.InvalidPasswordError,), "", DatabaseError,
        "The server of {place} {password} ({said}).", _PGPASS_FIX,
    ),
    _Refusal(
        (asyncpg.InvalidAuthorizationSpecificationError,), "certificate", DatabaseError,
        "The server of {place} wants a certificate of the user's ({said}).",
        "Name both files in the address: sslcert=FILE&sslkey=FILE (mode 0600)",
    ),
    _Refusal(
        (asyncpg.InvalidAuthorizationSpecificationError,), "no encryption", DatabaseError,
        "The server of {place} lets this user in by TLS alone, or not at all ({said}).",
        "Without sslmode=disable TLS is tried; else look at the user's name, and at pg_hba.conf there.",
    ),
    _Refusal(
        (asyncpg.ClientConfigurationError,), "root certificate", UsageError,
        "The certificate of {place} can't be checked: {said}.", _CA_FIX,
    ),
    _Refusal(
        (
            asyncpg.ClientConfigurationError, asyncpg.UndefinedObjectError,
            asyncpg.CantChangeRuntimeParamError, asyncpg.InvalidParameterValueError,
        ),
        "", UsageError,
        "The address {place} can't be used: {said}.",
        _ADDRESS_FIX,
    ),
    _Refusal(
        # The driver's own reading of numbers, files and names.
        (ValueError,), "", UsageError,
        "The address {place}, or a variable or file that is read beside it (PGPORT, PGHOST, ~/.pgpass),"
        " can't be used: {said}.",
        _ADDRESS_FIX,
    ),
)  # fmt: skip


@contextmanager
def reaching(place: Server) -> Iterator[None]:
    """Say what keeps a connection from being made within the context; others' errors pass as they are.

    Raises :class:`UsageError` for what is wrong here (the address, a file that it names), and
    :class:`DatabaseError` for what the server refuses or is not trusted with.
    """
    options = dict(parse_qsl(urlsplit(place.dsn).query))
    _check_files(options)
    with warnings.catch_warnings():
        # Of a ~/.pgpass that others may read, which is not taken: told where a password is missed.
        warnings.filterwarnings("ignore", message="password file", category=UserWarning)
        try:
            yield
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, ValueError) as error:
            meant = _meaning(error, place, options)
            if meant is None:
                raise
            raise meant from error


def _check_files(options: Mapping[str, str]) -> None:
    for option, variable in _FILES.items():
        said, by = (
            (options[option], f"{option} in --db")
            if option in options
            else (os.environ.get(variable), variable)
        )
        if said and not os.access(said, os.R_OK):
            why = "is not there" if not Path(said).exists() else "can't be read"
            raise UsageError(f"The file {said} {why} ({by}).", fix=f"Name another with {by}.")


def _meaning(
    error: BaseException, place: Server, options: Mapping[str, str]
) -> BatchrunnerError | None:
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        # It went away in the middle.
        return None
    # A hint of the driver's comes after what happened.
    said = str(error).partition(" HINT:")[0].rstrip(".")
    if isinstance(error, ssl.SSLCertVerificationError):
        why, fix = _DISTRUSTS.get(error.verify_code, _Distrust("OpenSSL refuses it", _CA_FIX))
        said = error.verify_message.rstrip(".")
        return DatabaseError(f"The certificate of {place} is not trusted: {why} ({said}).", fix=fix)
    for refusal in _REFUSALS:
        if isinstance(error, refusal.kinds) and refusal.says in said:
            password = _of_password(place, options) if "{password}" in refusal.what else ""
            what = refusal.what.format(place=place, said=said, password=password)
            return refusal.error(what, fix=refusal.fix)
    return None


def _of_password(place: Server, options: Mapping[str, str]) -> str:
    """Return what is to be said of the password that there was, or was not."""
    if place.has_password:
        return "refuses the password of the address"
    if os.environ.get("PGPASSWORD"):
        return "refuses the password of PGPASSWORD"
    named = options.get("passfile") or os.environ.get("PGPASSFILE")
    file = Path(named) if named else Path("~/.pgpass").expanduser()
    if not file.is_file():
        return "wants a password, and none was given"
    if file.stat().st_mode & _OTHERS:
        chmod = f"chmod 600 {shlex.quote(str(file))}"
        return f"wants a password, and {file} is not read, since others may read it: {chmod}"
    return f"refuses the password of {file}, or that has none for it"
