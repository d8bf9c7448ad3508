"""How the bodies of a run lie in the database: plain, or compressed with one of its dictionaries.

A row of ``payload`` or ``response`` names the dictionary its body was written with (``codec``;
NULL: plain; :data:`GONE`: the body was pruned), so that all kinds may lie in one run. A dictionary is never changed once it is
stored, and goes with its run.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from batchrunner.core.bodies import FEWEST, DamagedError, compressed, dictionary_of, restored
from batchrunner.errors import DatabaseError
from batchrunner.models import RunId
from batchrunner.store.driver import DriverConnection

__all__ = [
    "GONE",
    "Answers",
    "Codec",
    "DamagedBodyError",
    "Part",
    "codec_of_answers",
    "codecs_of",
    "made_codec",
    "plain_body",
    "register_plain",
]

#: ``codec`` of a body that ``db prune --bodies`` took away; dictionaries are counted from 1.
GONE: Final = 0

#: Whose bodies a dictionary is for.
Part = Literal["request", "response"]

_WORDS: Final[Mapping[Part, str]] = {"request": "request", "response": "answer"}


class DamagedBodyError(DatabaseError):
    """A compressed body can't be read back: the database is damaged."""

    default_kind = "damaged"


class Codec(NamedTuple):
    """A dictionary as it is stored."""

    id: int
    dictionary: bytes

    def row(self, body: bytes) -> tuple[bytes, int | None]:
        """Return a body's two columns, ``body`` and ``codec``."""
        small = compressed(body, self.dictionary)
        return (body, None) if small is None else (small, self.id)


class Answers:
    """How a live run's answers are written: plain, until enough were seen to make a dictionary."""

    def __init__(self, codec: Codec | None) -> None:
        """Go on with the run's dictionary, where it has one."""
        self.codec = codec
        self._seen: list[bytes] = []

    def see(self, bodies: Iterable[bytes]) -> Sequence[bytes] | None:
        """Look at more answers; return what a dictionary can be made of, once that is enough."""
        if self.codec is None:
            self._seen += bodies
            if len(self._seen) >= 2 * FEWEST:
                return self._seen
        return None

    def found(self, codec: Codec | None) -> None:
        """Use a dictionary that is committed from now on; ``None``: it could not be, look again."""
        self.codec = codec
        self._seen = []


def codecs_of(conn: DriverConnection, run_id: RunId) -> dict[int, bytes]:
    """Return the dictionaries of a run by their ids."""
    return dict(conn.execute("SELECT id, bytes FROM dictionary WHERE run_id = ?", (run_id,)))


def codec_of_answers(conn: DriverConnection, run_id: RunId) -> Codec | None:
    """Return the dictionary that a run's answers are written with, if it has one."""
    row = conn.execute(
        "SELECT id, bytes FROM dictionary WHERE run_id = ? AND part = 'response' ORDER BY id",
        (run_id,),
    ).fetchone()
    return Codec(*row) if row is not None else None


def made_codec(conn: DriverConnection, run_id: RunId, part: Part, bodies: Sequence[bytes]) -> Codec:
    """Store a dictionary made of a run's first bodies, and return it."""
    dictionary = dictionary_of(bodies)
    (made,) = conn.execute(
        "INSERT INTO dictionary (run_id, part, bytes) VALUES (?, ?, ?) RETURNING id",
        (run_id, part, dictionary),
    ).fetchone()
    return Codec(made, dictionary)


def plain_body(
    codecs: Mapping[int, bytes], codec: int | None, body: bytes, *, part: Part, key: str
) -> bytes:
    """Return a stored body as it was. Raises :class:`DamagedBodyError` with the job's key."""
    if codec is None:
        return body
    try:
        return restored(body, codecs[codec])
    except KeyError:
        raise damaged(part, key, f"its dictionary {codec} is missing") from None
    except DamagedError as error:
        raise damaged(part, key, str(error)) from error


def damaged(part: Part, key: str, why: str) -> DamagedBodyError:
    """Return the error for a body that can't be read back."""
    return DamagedBodyError(
        f"The database is damaged: the {_WORDS[part]} of job {key!r} can't be read back ({why}).",
        fix="Run `batchrunner db check`, which names every such job, and go back to a backup.",
    )


def register_plain(conn: sqlite3.Connection) -> Callable[[], None]:
    """Give SQL the function ``plain(key, codec, body)`` for requests on this connection.

    Returns what raises :class:`DamagedBodyError` afterwards, where the function met damage: SQLite
    would take an exception in it for a wrong statement.
    """
    codecs: dict[int, bytes] = {}
    met: list[DamagedBodyError] = []

    def plain(key: str, codec: int | None, body: bytes) -> bytes | None:
        if codec is not None and codec not in codecs:
            codecs.update(conn.execute("SELECT id, bytes FROM dictionary WHERE id = ?", (codec,)))
        try:
            return plain_body(codecs, codec, body, part="request", key=key)
        except DamagedBodyError as error:
            met.append(error)
            return None

    def refuse_damage() -> None:
        if met:
            raise met[0]

    conn.create_function("plain", 3, plain, deterministic=True)
    return refuse_damage
