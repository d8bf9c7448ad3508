"""A run that a prune takes from beside two that stay, and what must hold whenever it died.

Of the run that goes a part was answered, so that it leaves usage; its requests are large, so that
taking them away and rewriting the file last long enough to die in.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.crash.scene import Looked, Scene

__all__ = [
    "MARK",
    "add_old_run",
    "half_pruned",
    "last_prune",
    "prepare_prune",
    "prune_done",
    "prune_problems",
    "prune_words",
]

#: Stands in each request of a run that is pruned.
MARK: Final = "forget-these-words"

#: The run that goes: its jobs, those of them that are answered, and the length of a request.
_OLD_JOBS: Final = 1_200
_OLD_ANSWERED: Final = 40
_OLD_WORDS: Final = 24_000
#: The run that stays, with answers; the scene's own stays too, still to be sent.
_STAYS: Final = "stays"
_STAYING: Final = 60
#: What the file may have once all is gone (bytes); the requests that went were twenty times that.
_LARGEST: Final = 4_000_000

_OLD: Final = "SELECT id FROM run WHERE name = 'old'"
#: Whether any of its requests is there.
_WHOLE: Final = "SELECT 1 FROM job JOIN payload ON job_id = id WHERE key LIKE 'old-%' AND coalesce(codec, -1) != 0"
#: What a prune of another run must leave as it is.
_STAYED: Final = (
    "SELECT * FROM run WHERE name != 'old' AND state != 'loading' ORDER BY id",
    *(
        f"SELECT t.* FROM {table} t JOIN run ON run.id = t.{column} >> 32"
        " WHERE run.name != 'old' AND run.state != 'loading' ORDER BY 1"
        for table, column in (
            ("job", "id"), ("payload", "job_id"), ("response", "job_id"), ("send", "job_id"),
        )
    ),
)  # fmt: skip
#: What a prune of bodies must leave of its own run.
_BARE: Final = (
    "SELECT id, state, attempts, claims, error_kind FROM job WHERE key LIKE 'old-%' ORDER BY id",
    """SELECT job_id, metadata FROM payload WHERE job_id >> 32 = (SELECT id FROM run WHERE name = 'old')
    ORDER BY 1""",
    "SELECT * FROM send WHERE job_id >> 32 = (SELECT id FROM run WHERE name = 'old') ORDER BY 1",
)
#: What was used, whatever goes.
_USED: Final = (
    "SELECT day, sum(requests), sum(input_tokens), sum(output_tokens) FROM usage_day GROUP BY day ORDER BY 1",
    "SELECT scope_id, unit, slot, n FROM usage_slot WHERE grain = 60000 ORDER BY 1, 2, 3",
)


def add_old_run(scene: Scene, n_jobs: int, *, n_letters: int = 0, n_answered: int = 0) -> None:
    """Store a cancelled run beside the scene's, that a prune may take."""
    file = scene.folder / "old.jsonl"
    letters = random.Random(n_jobs)
    with file.open("w") as out:
        for n in range(n_jobs):
            more = letters.randbytes(n_letters // 2).hex()
            job = {
                "id": f"old-{n}", "prompt": f"{MARK} old-{n} {more}", "model": "sim-1",
                "metadata": {"row": n},
            }  # fmt: skip
            out.write(json.dumps(job) + "\n")
    words = ["--provider", "anthropic", "--base-url", scene.api.url]
    sent = ["--sample", str(n_answered)] if n_answered else ["--no-run"]
    for given, code in (
        (["submit", str(file), "--name", "old", *words, *sent], 3 if n_answered else 0),
        (["cancel", "old", "-y"], 0),
    ):
        done = scene.run(*given)
        assert done.code == code, done.err


def half_pruned(scene: Scene) -> Iterator[str]:
    """Tell what of a pruned run is there by half: a run by its jobs, a job by its bodies."""
    with scene.look() as connection:
        found = connection.execute("SELECT id, next_seq - 1 FROM run WHERE name = 'old'").fetchone()
        (n,) = connection.execute("SELECT count(*) FROM job WHERE key LIKE 'old-%'").fetchone()
        if found is not None and n != found[1]:
            yield f"a run that is shown has {n} of its {found[1]} jobs"
        (halves,) = connection.execute(
            "SELECT count(*) FROM payload WHERE (codec IS NOT NULL AND codec = 0) != (length(body) = 0)"
        ).fetchone()
        if halves:
            yield f"{halves} requests are gone by half"


def prepare_prune(scene: Scene) -> None:
    """Have a run that can go, and note what must stay."""
    if not (scene.folder / "stays.jsonl").exists():
        _add_staying(scene)
    with scene.look() as connection:
        is_there = connection.execute(_OLD).fetchone() is not None
        is_bare = not connection.execute(_WHOLE).fetchone()
    if is_there and is_bare:
        # Nothing of it is worth dying for any more.
        assert scene.run("db", "prune", "old", "-y").code == 0
        is_there = False
    if not is_there:
        # What a death left of the last one is out of sight: a run of that name is another one.
        add_old_run(scene, _OLD_JOBS, n_letters=_OLD_WORDS, n_answered=_OLD_ANSWERED)
        with scene.look() as connection:
            _note(scene, "bare", _digest(connection, _BARE))
            _note(scene, "used", _digest(connection, _USED))
            _note(scene, "stayed", _digest(connection, _STAYED))


def _add_staying(scene: Scene) -> None:
    file = scene.folder / "stays.in.jsonl"
    with file.open("w") as out:
        for n in range(_STAYING):
            job = {"id": f"stays-{n}", "prompt": f"keep stays-{n} end", "model": "sim-1"}
            out.write(json.dumps(job) + "\n")
    words = ["--name", _STAYS, "--provider", "anthropic", "--base-url", scene.api.url]
    for given in (
        ["submit", str(file), *words],
        ["export", _STAYS, "-f", "jsonl", "-o", str(scene.folder / "stays.jsonl")],
    ):
        done = scene.run(*given)
        assert done.code == 0, done.err


def prune_words(_scene: Scene, n: int) -> list[str]:
    """Return the words of a prune of the run, and of its bodies only, in turn."""
    return ["db", "prune", "old", "-y", *(["--bodies"] if n % 2 else [])]


def prune_problems(scene: Scene) -> Iterator[str]:
    """Tell what went that was not asked for, and what is there by half."""
    yield from half_pruned(scene)
    with scene.look() as connection:
        for name, statements in (("used", _USED), ("stayed", _STAYED)):
            if _digest(connection, statements) != _noted(scene, name):
                yield f"a prune that died changed what it should not: {name}"
        is_there = connection.execute(_OLD).fetchone() is not None
        if is_there and _digest(connection, _BARE) != _noted(scene, "bare"):
            yield "the jobs, metadata or sends of a run that is shown are not what they were"


def prune_done(scene: Scene) -> Iterator[str]:
    """Tell what a prune that ended by itself has left of what it was to take."""
    with scene.look() as connection:
        if connection.execute(_WHOLE).fetchone():
            yield "a prune that said it was done left requests of the run"
    yield from scene.unswept(MARK, _LARGEST + _OLD_JOBS * _OLD_WORDS)


def last_prune(scene: Scene) -> Iterator[str]:
    """Finish what the deaths broke off by a prune of nothing, then take the run; tell what is wrong."""
    yield from _ended_well(scene, "db", "prune", "--older-than", "30d", "-y")
    with scene.look() as connection:
        if connection.execute("SELECT 1 FROM meta WHERE key = 'prune'").fetchone():
            yield "a later prune did not finish what a death broke off"
        is_there = connection.execute(_OLD).fetchone() is not None
        (n,) = connection.execute("SELECT count(*) FROM job WHERE key LIKE 'old-%'").fetchone()
        if n != (_OLD_JOBS if is_there else 0):
            yield f"{n} jobs of the run are left, which is {'' if is_there else 'not '}shown"
    if is_there:
        yield from _ended_well(scene, "db", "prune", "old", "-y")
    yield from prune_problems(scene)
    yield from scene.unswept(MARK, _LARGEST)
    scene.n_forgotten = sum(MARK in seen.prompt for seen in scene.api.requests())
    again = scene.folder / "stays.again.jsonl"
    yield from _ended_well(scene, "export", _STAYS, "-f", "jsonl", "-o", str(again))
    if again.read_bytes() != (scene.folder / "stays.jsonl").read_bytes():
        yield "a run beside it exports other bytes than before"


def _ended_well(scene: Scene, *words: str) -> Iterator[str]:
    done = scene.run(*words)
    if done.code != 0:
        yield f"{' '.join(words)}: exit {done.code}: {done.err.strip()[-400:]}"


def _digest(connection: Looked, statements: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for statement in statements:
        for row in connection.execute(statement):
            digest.update(repr(row).encode())
    return digest.hexdigest()


def _note(scene: Scene, name: str, word: str) -> None:
    _noted_in(scene, name).write_text(word)


def _noted(scene: Scene, name: str) -> str:
    return _noted_in(scene, name).read_text()


def _noted_in(scene: Scene, name: str) -> Path:
    return scene.folder / f"noted.{name}"
