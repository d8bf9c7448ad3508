"""Work on a database that sends nothing, killed like everything else: export, backup, upgrade, prune.

Each has its words, and what must hold after any death: what was there before is whole, or the new
is; never half of either.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from alembic import command
from alembic.config import Config

from batchrunner.store import schema
from batchrunner.store.sqlite.database import FileDatabase
from tests.crash.pruning import last_prune, prepare_prune, prune_done, prune_problems, prune_words
from tests.crash.scene import Scene, looked_at

__all__ = [
    "CHORES",
    "Chore",
    "make_older",
    "upgrade_problems",
]

#: Tables and columns that 0002 added.
_NEW: Final = frozenset({"dictionary", "payload.codec", "response.codec"})


class Chore(NamedTuple):
    """One such piece of work."""

    #: Makes the database ready for it.
    prepare: Callable[[Scene], None]
    #: The words of its command, anew for each time.
    words: Callable[[Scene, int], list[str]]
    #: What is wrong after it ended or died.
    problems: Callable[[Scene], Iterator[str]]
    #: What is wrong, besides, after it ended by itself.
    done: Callable[[Scene], Iterator[str]] = lambda _: iter(())
    #: Does it for the last time, in peace, and tells what is wrong then.
    last: Callable[[Scene], Iterator[str]] = lambda _: iter(())
    #: How long it may live (seconds): killed at a random time up to this.
    longest_s: float = 0.25


def make_older(db: Path) -> None:
    """Give a database the schema of the first version, with everything in it."""
    config = Config()
    config.set_main_option("script_location", str(schema.migrations_directory()))
    with FileDatabase.open(db, create=False).write() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")


def upgrade_problems(scene: Scene) -> Iterator[str]:
    """Tell what is neither the old schema nor the new one, and which copy is not whole."""
    with looked_at(scene.db) as connection:
        version, has = _schema(connection)
    if has != (_NEW if version == schema.REVISIONS[-1] else frozenset()):
        yield f"the schema says {version}, and has {sorted(has)} of what 0002 added"
    for copy in scene.folder.glob(f"{scene.db.name}.before-*"):
        with looked_at(copy) as connection:
            version, has = _schema(connection)
            if version != "0001" or has:
                yield f"the copy {copy.name} is not the old database: {version}, {sorted(has)}"
            yield from _not_whole(connection, copy.name, len(scene.keys))


def _schema(connection: sqlite3.Connection) -> tuple[str, frozenset[str]]:
    (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    has = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    for table in ("payload", "response"):
        has |= {f"{table}.{row[1]}" for row in connection.execute(f"PRAGMA table_info({table})")}
    return version, frozenset(has & _NEW)


def _not_whole(connection: sqlite3.Connection, name: str, n_jobs: int) -> Iterator[str]:
    for (word,) in connection.execute("PRAGMA integrity_check"):
        if word != "ok":
            yield f"{name}: {word}"
    (n,) = connection.execute("SELECT count(*) FROM payload").fetchone()
    if n != n_jobs:
        yield f"{name} has {n} jobs of {n_jobs}"


def _nothing(_scene: Scene) -> None:
    """Have nothing to make ready."""


def _export_problems(scene: Scene) -> Iterator[str]:
    output = scene.folder / "mine.csv"
    if output.exists() and len(output.read_bytes().splitlines()) != len(scene.keys) + 1:
        yield "an export that is not whole has its name"


def _backup_problems(scene: Scene) -> Iterator[str]:
    for copy in scene.folder.glob("kept-*.db"):
        with looked_at(copy) as connection:
            yield from _not_whole(connection, copy.name, len(scene.keys))


CHORES: Final[Mapping[str, Chore]] = {
    "export": Chore(
        _nothing,
        lambda scene, _: [
            "export", scene.name, "-o", str(scene.folder / "mine.csv"), "--force",
        ],
        _export_problems,
    ),
    "backup": Chore(
        _nothing,
        lambda scene, n: ["db", "backup", str(scene.folder / f"kept-{n}.db")],
        _backup_problems,
    ),
    "upgrade": Chore(
        lambda scene: make_older(scene.db),
        lambda scene, n: ["db", "upgrade"] if n % 2 else ["status", scene.name],
        upgrade_problems,
    ),
    "prune": Chore(prepare_prune, prune_words, prune_problems, prune_done, last_prune, 0.6),
}  # fmt: skip
