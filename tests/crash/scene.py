"""One database, one file of jobs, and the commands that are given and killed.

Commands run as processes of their own. A database that was left by a crash is only ever looked at
through a copy, since opening it would mend it. One on a server is :mod:`tests.crash.served`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from batchrunner.failpoints import VARIABLE
from tests.fakes import ApiServer, SeenRequest

__all__ = ["Done", "Looked", "Scene", "environment", "looked_at"]

#: Where ``tests`` is found by a program that runs elsewhere.
_HERE = str(Path(__file__).parents[2])
#: No command of a scene takes longer, whatever the machine does meanwhile (seconds).
LONGEST_S = 100.0


class Looked(Protocol):
    """A connection that only looks; statements are of the kind that both databases take."""

    def execute(self, sql: str, parameters: tuple[Any, ...] = (), /) -> Any:
        """Execute a statement; what is returned has ``fetchone``, and is iterated over."""


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def died(self) -> bool:
        """Whether it was killed, not ended by itself."""
        return self.code in (-signal.SIGKILL, 128 + signal.SIGKILL)


def environment(**more: str) -> dict[str, str]:
    """Return this process's environment with a credential, and no failpoint or proxy of its own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if "proxy" not in name.lower() and not name.startswith(("BATCHRUNNER_", "ANTHROPIC_"))
    }
    return {**kept, "ANTHROPIC_API_KEY": "sk-ant-crash", **more}


@contextmanager
def looked_at(db: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection to a copy of a database and its log or journal, as they lie there."""
    with tempfile.TemporaryDirectory(prefix="look-") as folder:
        copy = Path(folder, db.name)
        for suffix in ("", "-wal", "-journal"):
            source = db.with_name(db.name + suffix)
            if source.exists():
                shutil.copyfile(source, copy.with_name(copy.name + suffix))
        connection = sqlite3.connect(copy)
        try:
            yield connection
        finally:
            connection.close()


@dataclass(slots=True, kw_only=True)
class Scene:
    """Jobs ``PREFIX-1 … PREFIX-N``, to be sent to ``api`` from a database in ``folder``."""

    folder: Path
    api: ApiServer
    n_jobs: int = 24
    concurrency: int = 4
    #: How many processes may send at once.
    n_senders: int = 1
    prefix: str = "k"
    #: More options of ``submit``.
    options: Sequence[str] = ()
    #: Limits that hold over the whole scene: allowed sends, and seconds.
    limits: Sequence[tuple[int, float]] = ()
    #: The same of tokens.
    token_limits: Sequence[tuple[int, float]] = ()
    name: str = "run"
    #: Requests of runs that were pruned since: their usage stays, their rows of the send log go.
    n_forgotten: int = 0
    #: How Python is given the program.
    program: Sequence[str] = ("-m", "batchrunner")
    keys: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Write the file of jobs."""
        self.write_jobs(range(1, self.n_jobs + 1))

    @property
    def db(self) -> Path:
        """The database."""
        return self.folder / "jobs.db"

    @property
    def place(self) -> str:
        """The database, as a command is given it."""
        return str(self.db)

    @property
    def is_begun(self) -> bool:
        """Whether anything is stored."""
        return self.db.exists() and self.db.stat().st_size > 0

    @contextmanager
    def look(self) -> Iterator[Looked]:
        """Give a connection to the database as it lies there."""
        with looked_at(self.db) as connection:
            yield connection

    def has_tables(self, connection: Looked) -> bool:
        """Whether what is looked at has a schema."""
        found = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'job'").fetchone()
        return found is not None

    def broken(self, connection: Looked) -> Iterator[str]:
        """Tell what the database itself finds wrong."""
        for (word,) in connection.execute("PRAGMA integrity_check"):
            if word != "ok":
                yield f"integrity: {word}"
        for row in connection.execute("PRAGMA foreign_key_check"):
            yield f"foreign key: {row}"

    def unswept(self, mark: str, largest: int) -> Iterator[str]:
        """Tell what a prune has left of what it took: words, or room."""
        if mark.encode() in self.db.read_bytes():
            yield "words of a pruned run are left in the file"
        if (size := self.db.stat().st_size) > largest:
            yield f"the file has {size} bytes after a prune"

    @property
    def file(self) -> Path:
        """The file of jobs."""
        return self.folder / "jobs.jsonl"

    def write_jobs(self, numbers: Sequence[int], word: str = "ask") -> None:
        """Replace the file by jobs of these numbers."""
        self.keys = [f"{self.prefix}-{n}" for n in numbers]
        with self.file.open("w") as file:
            for key in self.keys:
                job = {"id": key, "prompt": f"{word} {key} end", "model": "sim-1"}
                file.write(json.dumps(job) + "\n")

    def submit_words(self, *more: str) -> list[str]:
        """Return the words of ``submit``."""
        return [
            "submit", str(self.file), "--name", self.name, "--provider", "anthropic",
            "--base-url", self.api.url, "-c", str(self.concurrency), *self.options, *more,
        ]  # fmt: skip

    def start(
        self, *words: str, point: str | None = None, shell: bool = False
    ) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, to die at ``point`` (``name:n``)."""
        command = [sys.executable, *self.program, "--db", self.place, "-q", *words]
        if shell:
            # A parent that stays: the group has two members.
            command = ["sh", "-c", '"$@"; exit $?', "sh", *command]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=environment(PYTHONPATH=_HERE, **({VARIABLE: point} if point else {})),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *words: str, point: str | None = None) -> Done:
        """Run a command to its end."""
        return ended(self.start(*words, point=point))

    def requests(self) -> list[SeenRequest]:
        """Return what the server saw of this scene, in order."""
        mark = f" {self.prefix}-"
        return [seen for seen in self.api.requests() if mark in seen.prompt]

    def arrivals(self) -> dict[str, int]:
        """Return how often each job was requested."""
        counts = dict.fromkeys(self.keys, 0)
        for seen in self.requests():
            key = seen.prompt.split()[1]
            counts[key] = counts.get(key, 0) + 1
        return counts

    def left_behind(self) -> list[str]:
        """Return the files beside the database that a clean end should have removed."""
        mine = {self.db.name, self.file.name}
        return sorted(
            path.name
            for path in self.folder.iterdir()
            if path.name not in mine
            and path.name.startswith(self.db.name)
            # Copies that an upgrade keeps.
            and ".before-" not in path.name
        )


def ended(process: subprocess.Popen[str], timeout_s: float = LONGEST_S) -> Done:
    """Wait for a command; one that does not end is killed, with its group, and told of."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"{process.args} did not end in {timeout_s:.0f} s:\n{err}") from None
    return Done(process.returncode, out, err)


def now_ms() -> int:
    """Return the wall clock, epoch milliseconds."""
    return int(time.time() * 1000)
