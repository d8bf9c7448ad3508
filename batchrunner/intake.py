"""Files into a run: read, check, store, and tell whether the same content is here already.

A file is taken whole or not at all, unless the person asked to skip invalid lines. Memory is flat:
lines stream from the files into the database in chunks.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import msgspec

from batchrunner.core.credentials import redact
from batchrunner.errors import UsageError
from batchrunner.formats.identity import Digest
from batchrunner.formats.lines import Notes
from batchrunner.formats.sources import RawLine
from batchrunner.models import JobLine, LineFault, RunId
from batchrunner.options import JobFilter
from batchrunner.providers import Profile, pool_of
from batchrunner.reading import (
    LISTED,
    Order,
    Reading,
    name_of,
)
from batchrunner.store.commands import RETRIED, n_pruned
from batchrunner.store.database import Database
from batchrunner.store.load import Loader
from batchrunner.store.merge import Diff, compare, merge_update
from batchrunner.store.rescue import WorstOf
from batchrunner.store.runs import StoredRun, find_by_digest, find_by_name, free_name

__all__ = [
    "Intake",
    "Taken",
    "notices_of",
    "rejects_path",
]

#: Lines handed to the store at once, or fewer that are as long.
CHUNK: Final = 2_000
CHUNK_BYTES: Final = 16 * 1024 * 1024
#: A longer line is not repeated in the rejects file.
REPEATED: Final = 4 * 1024 * 1024


#: How each line of a rejects file begins, and how much of one is looked at.
_REJECTED: Final = re.compile(rb'\{"file":"(?:[^"\\]|\\.)*","line":\d+,"reason":"')
_BEGINNING: Final = 64 * 1024

#: What leads out of a folder, or is no part of a file's name.
_NOT_IN_NAMES: Final = re.compile(r"[/\\\x00-\x1f\x7f]|^\.+")


class Taken(NamedTuple):
    """What became of the files."""

    run_id: RunId
    name: str
    #: ``stored``: a new run; ``same``: the content is here, its run goes on; ``updated``.
    how: str
    n_jobs: int
    n_rejected: int
    diff: Diff | None
    warnings: Sequence[LineFault]
    n_warnings: int


@dataclass(slots=True)
class _Rejects:
    """Lines that were refused: the first few for the message, all of them for the rejects file."""

    path: Path | None
    #: Files that are being read, and are never written.
    inputs: Sequence[os.stat_result] = ()
    first: list[LineFault] = field(default_factory=list)
    n: int = 0
    file: BinaryIO | None = None

    def add(self, fault: LineFault, raw: bytes | None) -> None:
        self.n += 1
        if len(self.first) < LISTED:
            self.first.append(fault)
        if self.path is None:
            return
        if self.file is None:
            self.file = _rejects_file(self.path, self.inputs)
        is_told = not fault.is_secret and raw is not None and len(raw) <= REPEATED
        row = {
            "file": fault.file,
            "line": fault.line,
            "reason": fault.reason,
            "text": redact((raw or b"").decode("utf-8", "replace")) if is_told else None,
        }
        self.file.write(msgspec.json.encode(row) + b"\n")

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def _rejects_file(path: Path, inputs: Sequence[os.stat_result]) -> BinaryIO:
    """Open the rejects file for its owner alone; an earlier one is replaced, nothing else is."""
    try:
        with contextlib.suppress(FileNotFoundError):
            _refuse_others(path, inputs)
            path.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.fdopen(os.open(path, flags, 0o600), "wb")
    except OSError as error:
        raise UsageError(
            f"The rejected lines can't be written to {path}: {error.strerror}.",
            fix="Run it in a folder that you may write to, or leave --skip-invalid out.",
        ) from error


def _refuse_others(path: Path, inputs: Sequence[os.stat_result]) -> None:
    """Raise :class:`UsageError` where a file is there that rejected lines must not replace."""
    there = path.lstat()
    if any(os.path.samestat(there, read) for read in inputs):
        why = "is a file that is being read"
    elif not stat.S_ISREG(there.st_mode):
        why = "is there and is no file of ours"
    elif not _is_ours(path):
        why = "is there, and rejected lines are not what it holds"
    else:
        return
    raise UsageError(
        f"The rejected lines would go to {path}, which {why}. Nothing was stored.",
        fix="Move it away, or name the run otherwise with --name.",
    )


def _is_ours(path: Path) -> bool:
    """Whether a file begins as rejected lines do; one that a killed process left may be empty."""
    with path.open("rb") as file:
        start = file.read(_BEGINNING)
    return not start or _REJECTED.match(start) is not None


def rejects_path(name: str) -> Path:
    """Return where a run's rejected lines go: here, whatever the run is called."""
    return Path(f"{_NOT_IN_NAMES.sub('_', name)[:200]}.rejects.jsonl")


class Intake(Reading):
    """Takes one order into a database."""

    def __init__(
        self,
        db: Database,
        order: Order,
        *,
        process_id: int,
        now_ms: int,
        is_gentle: Callable[[], bool],
        is_stopped: Callable[[], bool],
        worst_of: WorstOf,
        check: Callable[[Profile, StoredRun | None, Sequence[str], RunId], None],
    ) -> None:
        """Take the order; nothing is read before :meth:`take`.

        ``worst_of`` tells what requests may have cost that a crash left in flight. ``check`` is told
        whose jobs come, into which run, which models they ask for, and as which run they lie here until
        they are taken; what it raises refuses them.
        """
        super().__init__(order, is_stopped=is_stopped)
        self._db = db
        self._process_id = process_id
        self._now_ms = now_ms
        self._is_gentle = is_gentle
        self._worst_of = worst_of
        self._check = check
        self.name = order.name or name_of(order.files)

    def take(self) -> Taken:
        """Read, check and store; or find the run that has the same content.

        Raises :class:`InputError` with every faulty line (nothing is stored then), and
        :class:`UsageError` where the name is another content's.
        """
        rules, lines = self.provider()
        if not self._order.is_new and self._can_read_twice():
            same = self._find_same(rules, lines)
            if same is not None:
                return self._as_same(same)
            self._notes = Notes()
            lines = self._lines(None)
        return self._store(rules, lines)

    # --- finding the same content

    def _can_read_twice(self) -> bool:
        """Whether looking first is worth it: there are runs, and the files can be read again."""
        if any(name == "-" or not Path(name).is_file() for name in self._order.files):
            return False
        with self._db.read() as connection:
            row = connection.exec_driver_sql(
                "SELECT 1 FROM run WHERE state != 'loading' LIMIT 1"
            ).first()
        return row is not None

    def _find_same(self, rules: Profile, lines: Iterator[RawLine]) -> StoredRun | None:
        digest = Digest(rules.name)
        for n, value in enumerate(self._read(rules, lines)):
            if isinstance(value, JobLine):
                digest.add(value)
            elif not self._order.skips_invalid:
                return None
            if n % CHUNK == 0:
                self._check_stopped()
        return self._same(digest.digest())

    def _same(self, digest: bytes) -> StoredRun | None:
        """Return the run with this content, unless ``--update`` gives its requests back."""
        same = find_by_digest(self._db, digest)
        if same is None or not self._order.is_update or same.name != self.name:
            return same
        return None if n_pruned(self._db, same, JobFilter(), states=RETRIED) else same

    def _as_same(self, run: StoredRun) -> Taken:
        return Taken(
            run.id, run.name, "same", run.counts.total, run.n_rejected, None,
            self._notes.warnings, self._notes.n_warnings,
        )  # fmt: skip

    # --- storing

    def _store(self, rules: Profile, lines: Iterator[RawLine]) -> Taken:
        order = self._order
        taken_name = find_by_name(self._db, self.name)
        if order.is_new or taken_name is None:
            self.name = free_name(self._db, self.name)
            taken_name = None
        rejects = _Rejects(
            rejects_path(self.name) if order.skips_invalid else None, list(self._inputs())
        )
        digest = Digest(rules.name)
        try:
            with Loader(
                self._db,
                name=self.name,
                uid=order.uid,
                provider=rules.name,
                options_json=order.options_json,
                priority=order.priority,
                now_ms=self._now_ms,
                loader_process_id=self._process_id,
                gentle=self._is_gentle,
                is_compressed=order.is_compressed(rules, taken_name),
            ) as loader:
                values = self._held(self._read(rules, lines), rules, taken_name)
                self._load(loader, values, digest, rejects)
                return self._finish(loader, rules, digest.digest(), rejects, taken_name)
        finally:
            rejects.close()

    def _inputs(self) -> Iterator[os.stat_result]:
        """Yield what tells the files that are read; standard input may be one too."""
        for name in self._order.files:
            # A stream of a Python caller may have no descriptor.
            with contextlib.suppress(OSError, AttributeError):
                if name != "-":
                    yield Path(name).stat()
                elif self._order.stdin is not None:
                    yield os.fstat(self._order.stdin.fileno())

    def _load(
        self,
        loader: Loader,
        values: Iterator[JobLine | LineFault],
        digest: Digest,
        rejects: _Rejects,
    ) -> None:
        chunk: list[JobLine] = []
        raws: dict[tuple[str, int], bytes] = {}
        n_bytes = 0
        for value in values:
            if isinstance(value, LineFault):
                rejects.add(value, self._raw.data if self._raw else None)
                continue
            chunk.append(value)
            if rejects.path is not None and self._raw is not None:
                raws[value.file, value.line] = self._raw.data
            n_bytes += len(value.body)
            if len(chunk) >= CHUNK or n_bytes >= CHUNK_BYTES:
                self._add(loader, chunk, digest, rejects, raws)
                chunk, raws, n_bytes = [], {}, 0
        self._add(loader, chunk, digest, rejects, raws)

    def _add(
        self,
        loader: Loader,
        chunk: list[JobLine],
        digest: Digest,
        rejects: _Rejects,
        raws: dict[tuple[str, int], bytes],
    ) -> None:
        self._check_stopped()
        taken: set[tuple[str, int]] = set()
        for fault in loader.add(chunk) if chunk else ():
            taken.add((fault.file, fault.line))
            rejects.add(fault, raws.get((fault.file, fault.line)))
        for job in chunk:
            if not taken or (job.file, job.line) not in taken:
                digest.add(job)

    def _finish(
        self,
        loader: Loader,
        rules: Profile,
        digest: bytes,
        rejects: _Rejects,
        taken_name: StoredRun | None,
    ) -> Taken:
        order = self._order
        if rejects.n and not order.skips_invalid:
            raise self._refuse(rejects.n, rejects.first)
        if loader.n_jobs == 0:
            raise self._no_jobs()
        if not order.is_new and (same := self._same(digest)) is not None:
            return self._as_same(same)
        if taken_name is None or order.is_update:
            self._check(rules, taken_name, loader.models, loader.run_id)
        notes = self._notes
        if taken_name is None:
            run_id = loader.finish(digest, n_rejected=rejects.n)
            return Taken(
                run_id, self.name, "stored", loader.n_jobs, rejects.n, None,
                notes.warnings, notes.n_warnings,
            )  # fmt: skip
        if not order.is_update:
            raise self._name_taken(taken_name, compare(self._db, taken_name.id, loader.run_id))
        diff = merge_update(
            self._db, taken_name.id, loader.run_id,
            digest=digest, pool_of=pool_of, worst_of=self._worst_of,
        )  # fmt: skip
        return Taken(
            taken_name.id, taken_name.name, "updated", loader.n_jobs, rejects.n, diff,
            notes.warnings, notes.n_warnings,
        )  # fmt: skip

    def _name_taken(self, run: StoredRun, diff: Diff) -> UsageError:
        return UsageError(
            f"There is a run {run.name!r} with other content (jobs: {diff.same} the same,"
            f" {diff.changed} changed, {diff.new} new, {diff.gone} gone). Nothing was stored.",
            fix="take the file into that run with --update, name another with --name NAME, or make"
            " a new run beside it with --new",
            kind="name_taken",
        )


def notices_of(taken: Taken, *, is_paused: bool = False) -> Iterator[str]:
    """Yield what the person is told of an intake, a sentence each; ``is_paused``: its run is."""
    for warning in taken.warnings:
        yield (f"{warning.file}:{warning.line}: {warning.reason}")
    if taken.n_warnings > len(taken.warnings):
        n = taken.n_warnings - len(taken.warnings)
        yield (f"and {n:,} more warning{'s' if n > 1 else ''}")
    if taken.how == "same":
        goes_on = "is paused, and stays so" if is_paused else "goes on"
        yield (f"the same content is here already as run {taken.name}; it {goes_on}")
    if (diff := taken.diff) is not None:
        answered = (
            f" ({diff.changed_completed} of them already answered: they keep their answer)"
            if diff.changed_completed
            else ""
        )
        yield (
            f"{taken.name}: {diff.same} the same, {diff.changed} changed{answered},"
            f" {diff.new} new, {diff.gone} gone (kept)"
        )
    if taken.n_rejected:
        were = "line was" if taken.n_rejected == 1 else "lines were"
        yield (f"{taken.n_rejected:,} {were} left out; see {rejects_path(taken.name)}")
