"""Where a database is: a file, or a schema on a PostgreSQL server.

A server is told by its scheme (``postgresql+asyncpg://``, ``postgresql://``, ``postgres://``). Its
password, if the address has one, is kept for the connection and never shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from batchrunner.errors import UsageError

__all__ = ["Place", "Server", "place_of", "shown"]

#: The schema where an address names none.
DEFAULT_SCHEMA: Final = "batchrunner"
_SCHEMES: Final = ("postgresql+asyncpg", "postgresql", "postgres")
#: What is a server and no file, and begins so, whatever comes after it.
_ADDRESS: Final = re.compile(r"(?i)^(postgres(?:ql)?(?:\+\w+)?)://")
#: Any other address: of a database that this is not, or of a file written as one. A path has one slash.
_FOREIGN: Final = re.compile(r"(?i)(?:^|/)(?:sqlite|mysql|file)(?:\+\w+)?:/")
#: What follows ``?`` that is not the driver's.
_OURS: Final = frozenset({"schema", "pooled"})
_YES_OR_NO: Final = {"yes": True, "no": False}
#: As PostgreSQL keeps a name that is not quoted.
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A schema of a PostgreSQL database."""

    #: What the driver connects to; it may hold a password.
    dsn: str
    schema: str
    #: The address as it may be shown, and typed again where it had no password.
    shown: str
    has_password: bool
    #: Whether a pooler is in between, where that is said; ``None``: it is found out.
    is_pooled: bool | None = None

    def __str__(self) -> str:
        """Return what may be shown."""
        return self.shown

    def __repr__(self) -> str:
        """Show no password either."""
        return f"Server({self.shown!r})"


Place = Path | Server


def shown(place: Place) -> str:
    """Return where a database is, for a person: an absolute path, or an address without password."""
    return str(place.absolute() if isinstance(place, Path) else place)


def place_of(said: str | Path) -> Place:
    """Return where a database is, as it was typed. Raises :class:`UsageError`."""
    text = str(said)
    found = _ADDRESS.match(text)
    if found is not None:
        return _server(text, found[1].lower())
    if _FOREIGN.search(text):
        # It may hold a password.
        raise UsageError(
            "The address that is named for the database is of no kind that is known: this version keeps it in a file,"
            " or on a PostgreSQL server.",
            fix="Name a file, without sqlite:// before it (--db jobs.db), or a server"
            " (--db postgresql+asyncpg://HOST/DATABASE?user=NAME)",
        )
    return Path(said)


def _server(text: str, scheme: str) -> Server:
    if scheme not in _SCHEMES:
        raise UsageError(
            f"--db {scheme}://…: batchrunner reaches PostgreSQL by asyncpg alone.",
            fix="Write postgresql+asyncpg://HOST:PORT/DATABASE?user=USER.",
        )
    try:
        parts = urlsplit(text)
    except ValueError:
        raise _unusable("[ and ] go around an IPv6 address alone, %5B and %5D elsewhere") from None
    netloc = parts.netloc.rpartition("@")[2]
    # Several are tried one after another.
    if any(not _is_host(host) for host in netloc.split(",")):
        raise _unusable("its port is no number")
    if "@" in parts.path:
        # Of what comes before it some would be shown.
        raise _unusable("a password is written with %2F for /, and a database with %40 for @")
    if not parts.path.strip("/"):
        raise _unusable("it names no database")
    options = parse_qsl(parts.query, keep_blank_values=True)
    schema = dict(options).get("schema", DEFAULT_SCHEMA)
    if not _NAME.fullmatch(schema) or schema.startswith("pg_"):
        raise _unusable(f"schema={schema} is no name of a schema (small letters, digits and _)")
    pooled = dict(options).get("pooled")
    if pooled is not None and pooled not in _YES_OR_NO:
        raise _unusable(f"pooled={pooled} is neither yes nor no")
    query = urlencode([(name, value) for name, value in options if name not in _OURS])
    is_secret = {name: "password" in name.lower() for name, _ in options}
    # Before the host it would look like a credential, and be taken out of messages.
    user = [] if parts.username is None else [("user", unquote(parts.username))]
    named = [*user, *options]
    shown_query = urlencode([pair for pair in named if not is_secret.get(pair[0])])
    return Server(
        dsn=urlunsplit(("postgresql", parts.netloc, parts.path, query, "")),
        schema=schema,
        # By hand: without a host the library leaves out the slashes that tell an address from a file.
        shown=f"postgresql+asyncpg://{netloc}{parts.path}{shown_query and '?'}{shown_query}",
        has_password=parts.password is not None or "password" in is_secret,
        is_pooled=_YES_OR_NO.get(pooled or ""),
    )


def _is_host(text: str) -> bool:
    try:
        urlsplit(f"//{text}").port  # noqa: B018 (it is looked at)
    except ValueError:
        return False
    return True


def _unusable(why: str) -> UsageError:
    return UsageError(
        f"The address of the database can't be used: {why}.",
        fix="Write postgresql+asyncpg://HOST:PORT/DATABASE?user=USER, with &schema=NAME for one of several queues.",
    )
