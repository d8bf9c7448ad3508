"""The power goes, at every moment and in every way: ``python -m tests.crash.power``.

A command is recorded (:mod:`tests.crash.recorder`) against a server that keeps a log. Then the disk
is put together as a power cut could have left it after each of its records: what a file was told
before its last sync is there; of what it was told since, all, nothing, or any of its sectors of 512
bytes, since disks and file systems reorder and tear what nobody waited for. Names are promised when
the folder is synced: until then a new file may be missing, and a deleted one back.

Every such disk is opened and judged: SQLite finds it whole, no answer is lost that a commit had
promised, and nothing had been sent that it doesn't know of. Some are also carried on, by the same
command or by ``resume``, against the same server, to the end, and judged as a crash is.

Why a replay and not a device that drops writes: it needs neither root nor a kernel module, so that it runs wherever the
tests do, each disk can be had again from its seed, and thousands are tried in a minute. What it
can't show: a disk or file system that breaks the promise of ``fsync`` itself.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.crash.judge import Judge
from tests.crash.recorder import LIBRARY, Record, records
from tests.crash.scene import Scene
from tests.fakes import SeenRequest, running_server

__all__ = ["TALES", "Outcome", "try_tale"]

#: What a disk writes at once or not at all (bytes).
SECTOR: Final = 512
#: The recorded server's log, beside the disks.
SEEN: Final = "seen.jsonl"
#: How likely a sector of what was not synced is there: nothing, some, most, all.
SHARES: Final = (0.0, 0.2, 0.5, 0.8, 1.0)


class Tale(NamedTuple):
    """What is recorded."""

    n_jobs: int
    words: tuple[str, ...] = ()
    server: Mapping[str, Any] = {"latency_s": 0.01}
    #: The log is emptied into the database in the middle, once it has so much.
    log_bytes: int = 200_000


TALES: Final[Mapping[str, Tale]] = {
    "submit": Tale(2_600, ("--no-run",)),
    "drain": Tale(300),
    "faulty": Tale(
        60, (),
        {"latency_s": 0.02, "rate_429": 0.1, "rate_500": 0.1, "rate_reset": 0.1, "retry_after_s": 1,
         "max_faults": 1},
    ),
}  # fmt: skip


@dataclass(slots=True)
class _File:
    """A file as the disk has it for certain, and what it was told since."""

    exists: bool = False
    content: bytearray = field(default_factory=bytearray)
    told: list[Record] = field(default_factory=list)

    def settle(self) -> None:
        """A sync came back: what was told is there."""
        exists, content = self.played(self.told)
        self.exists, self.content, self.told = exists, content, []

    @property
    def is_new(self) -> bool:
        """Whether the folder may not have its name yet."""
        return not self.exists or any(record.what == "delete" for record in self.told)

    def settle_name(self) -> None:
        """Its folder was synced: a deletion is for good, whatever it was told after."""
        deleted = [n for n, record in enumerate(self.told) if record.what == "delete"]
        if deleted:
            self.exists, self.content = False, bytearray()
            self.told = self.told[deleted[-1] + 1 :]

    def played(self, told: Sequence[Record]) -> tuple[bool, bytearray]:
        """Return the file after some of what it was told."""
        exists, content = self.exists, bytearray(self.content)
        for record in told:
            if record.what == "delete":
                exists, content = False, bytearray()
                continue
            exists = True
            if record.what == "truncate":
                del content[record.offset :]
                content.extend(bytes(record.offset - len(content)))
            else:
                content.extend(bytes(max(0, record.offset - len(content))))
                content[record.offset : record.offset + len(record.content)] = record.content
        return exists, content


class Disk:
    """The files of a recorded command, record by record."""

    def __init__(self) -> None:
        """Begin with none."""
        self._files: dict[str, _File] = {}

    def tell(self, record: Record) -> None:
        """Take the next record."""
        if record.what == "mark":
            return
        file = self._files.setdefault(record.name, _File())
        is_new = file.is_new
        if record.what == "sync":
            file.settle()
        else:
            file.told.append(record)
        # SQLite syncs the folder with the first sync of a log or journal it made.
        if (record.what == "sync" and is_new) or (record.what == "delete" and record.offset):
            for other in self._files.values():
                other.settle_name()

    @property
    def owes(self) -> bool:
        """Whether something was told that no sync has promised."""
        return any(file.told for file in self._files.values())

    def leave(self, folder: Path, rand: random.Random, share: float) -> None:
        """Write the files as a power cut could leave them; ``share`` of what is owed is there."""
        for name, file in self._files.items():
            exists, content = file.played(list(_torn(file.told, rand, share)))
            if exists:
                (folder / name).write_bytes(content)


def _torn(told: Sequence[Record], rand: random.Random, share: float) -> Iterator[Record]:
    """Yield what of these the disk had done: sectors on their own, the rest whole or not."""
    for record in told:
        if record.what != "write":
            if rand.random() < share:
                yield record
            continue
        for at in range(0, len(record.content), SECTOR):
            if rand.random() < share:
                piece = record.content[at : at + SECTOR]
                yield record._replace(offset=record.offset + at, content=piece)


class Stored(NamedTuple):
    """What a database knows."""

    #: The answers that count, by job.
    answers: Mapping[str, tuple[object, ...]]
    #: How often each job was claimed, which is at least how often it was sent.
    claims: Mapping[str, int]
    #: Whether the run is there and visible.
    is_ready: bool


_NOTHING: Final = Stored({}, {}, False)


def _stored(db: Path) -> tuple[Stored, list[str]]:
    """Open a database as the next command would, and look: what it knows, what is wrong with it."""
    if not db.exists() or not db.stat().st_size:
        return _NOTHING, []
    connection = sqlite3.connect(db)
    try:
        wrong = [
            f"integrity: {row[0]}"
            for row in connection.execute("PRAGMA integrity_check")
            if row[0] != "ok"
        ]
        wrong += [f"foreign key: {row}" for row in connection.execute("PRAGMA foreign_key_check")]
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'job'").fetchone():
            return _NOTHING, wrong
        answers = {
            key: tuple(answer)
            for key, *answer in connection.execute(
                "SELECT j.key, r.request_id, r.body FROM job j JOIN response r ON r.job_id = j.id"
                " WHERE j.state = 'completed'"
            )
        }
        claims = dict(connection.execute("SELECT key, claims FROM job"))
        ready = connection.execute("SELECT 1 FROM run WHERE state != 'loading'").fetchone()
        return Stored(answers, claims, ready is not None), wrong
    except sqlite3.DatabaseError as error:
        return _NOTHING, [f"not readable: {error}"]
    finally:
        connection.close()


@dataclass(slots=True)
class Outcome:
    """What a tale's disks came to."""

    records: int = 0
    syncs: int = 0
    disks: int = 0
    carried_on: int = 0
    problems: list[str] = field(default_factory=list)


def _record(scene: Scene, trace: Path, tale: Tale) -> list[Record]:
    scene.program = ("-m", "tests.crash.recorder", str(trace), str(tale.log_bytes))
    done = scene.run(*scene.submit_words(*tale.words))
    if done.code != 0:
        raise AssertionError(f"the recorded command ended with {done.code}: {done.err}")
    return list(records(trace))


def try_tale(
    name: str,
    folder: Path,
    *,
    seed: int = 0,
    disks: int = 400,
    carried_on: int = 4,
    never_syncs: str | None = None,
) -> Outcome:
    """Record a tale, then look at so many disks and carry so many on.

    Half of the disks are of moments next to a sync, where an order that is wrong would show; the
    others are of any moment. ``never_syncs`` plays a program that does not sync that file.
    """
    tale, outcome, rand = TALES[name], Outcome(), random.Random(f"{name} {seed}")
    recorded = folder / "recorded"
    recorded.mkdir()
    with running_server(seed=seed, **tale.server) as api:
        scene = Scene(folder=recorded, api=api, n_jobs=tale.n_jobs)
        trace = [
            record
            for record in _record(scene, folder / "trace", tale)
            if (record.what, record.name) != ("sync", never_syncs)
        ]
        seen, port = scene.requests(), api.port
        shutil.copy(api.log_path, folder / SEEN)
    outcome.records = len(trace)
    outcome.syncs = sum(record.what == "sync" for record in trace)
    moments = _moments(trace, rand, disks)
    chosen = set(rand.sample(range(len(moments)), min(carried_on, len(moments))))
    disk, at, floor = Disk(), 0, _NOTHING
    for n, moment in enumerate(moments):
        for record in trace[at:moment]:
            disk.tell(record)
        at = moment
        when = trace[moment - 1].at
        arrived = [request for request in seen if request.mono < when]
        what = f"{name} seed {seed}, after record {moment} of {len(trace)}"
        with tempfile.TemporaryDirectory(dir=folder, prefix="sure-") as where:
            disk.leave(Path(where), rand, 0.0)
            floor, wrong = _stored(Path(where, scene.db.name))
            outcome.problems += [f"{what}, nothing owed kept: {word}" for word in wrong]
            outcome.problems += [f"{what}: {word}" for word in _unknown(arrived, floor)]
        share = rand.choice(SHARES)
        left = folder / f"left-{moment}-{n}"
        left.mkdir()
        disk.leave(left, rand, share)
        if rand.random() < 0.5:
            # The index of the log is no part of what is promised: anything may lie there.
            (left / f"{scene.db.name}-shm").write_bytes(rand.randbytes(32_768))
        outcome.disks += 1
        if n in chosen:
            outcome.carried_on += 1
            found = _carry_on(tale, left, port, arrived, seed)
        else:
            known, found = _stored(left / scene.db.name)
            found += _lost(floor, known)
            found += _unknown(arrived, known)
        outcome.problems += [f"{what}, {share:.0%} of what is owed kept: {word}" for word in found]
        if found:
            outcome.problems.append(f"kept: {left}")
        else:
            shutil.rmtree(left)
    return outcome


def _moments(trace: Sequence[Record], rand: random.Random, n: int) -> list[int]:
    """Choose so many moments, as the number of records that were made by then, in order."""
    near = [
        at
        for at in range(1, len(trace) + 1)
        if "sync" in {record.what for record in trace[max(0, at - 2) : at + 1]}
        or trace[at - 1].what in {"mark", "truncate", "delete"}
    ]
    anywhere = range(1, len(trace) + 1)
    return sorted([*rand.choices(near, k=n // 2), *rand.choices(anywhere, k=n - n // 2)])


def _lost(floor: Stored, known: Stored) -> Iterator[str]:
    """Say what a sync had promised and is not there."""
    for key, answer in floor.answers.items():
        if known.answers.get(key) != answer:
            yield f"the answer of {key} was promised, and is {known.answers.get(key)}"
    for key, n in floor.claims.items():
        if known.claims.get(key, 0) < n:
            yield f"{key} was claimed {n} times, and {known.claims.get(key, 0)} are known"
    if floor.is_ready and not known.is_ready:
        yield "the run was ready, and is not"


def _unknown(arrived: Sequence[SeenRequest], known: Stored) -> Iterator[str]:
    """Say what had been sent before the disk knew of it."""
    counts: dict[str, int] = {}
    for request in arrived:
        key = request.prompt.split()[1]
        counts[key] = counts.get(key, 0) + 1
    for key, n in counts.items():
        if known.claims.get(key, 0) < n:
            yield f"{key} had arrived {n} times, and {known.claims.get(key, 0)} claims are known"


def _carry_on(
    tale: Tale, left: Path, port: int, arrived: Sequence[SeenRequest], seed: int
) -> list[str]:
    """Go on from such a disk to the end, with the server back where it was, and judge."""
    log = left / "requests.jsonl"
    lines = (left.parent / SEEN).read_text().splitlines(keepends=True)
    log.write_text("".join(lines[: len(arrived)]))
    with running_server(port=port, log=log, seed=seed + 1, **tale.server) as api:
        return _finished(Scene(folder=left, api=api, n_jobs=tale.n_jobs))


def _finished(scene: Scene) -> list[str]:
    judge = Judge(scene)
    judge.died()
    done = scene.run(*scene.submit_words())
    if done.code != 0:
        judge.problems.append(f"exit {done.code}: {done.err.strip()[-400:]}")
    return judge.judge()


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tale", action="append", choices=TALES, help="only these")
    parser.add_argument("--disks", type=int, default=2_000, help="of each tale [2000]")
    parser.add_argument("--carry-on", type=int, default=40, help="of these [40]")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if LIBRARY is None:
        print("this Python has its SQLite inside, where nothing can be recorded")
        return 2
    n_bad = 0
    for tale in args.tale or TALES:
        began = time.monotonic()
        folder = Path(tempfile.mkdtemp(prefix="power-"))
        outcome = try_tale(tale, folder, seed=args.seed, disks=args.disks, carried_on=args.carry_on)
        took = time.monotonic() - began
        print(
            f"{tale}: {outcome.records} records, {outcome.syncs} syncs, {outcome.disks} disks,"
            f" {outcome.carried_on} carried on, {len(outcome.problems)} problems, {took:.0f} s"
        )
        for problem in outcome.problems[:20]:
            print(f"    {problem}")
        sys.stdout.flush()
        n_bad += len(outcome.problems)
        if not outcome.problems:
            shutil.rmtree(folder)
    return 1 if n_bad else 0


if __name__ == "__main__":
    sys.exit(main())
