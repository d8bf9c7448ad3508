"""Results on their way out: rows of a run in one of the formats, and the file that ``-o`` names."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

import msgspec

from batchrunner.errors import UsageError
from batchrunner.formats.atomic import atomic_file
from batchrunner.formats.columns import NAMES, named_metadata, needs_text
from batchrunner.formats.export import TABLES, format_of, write_rows
from batchrunner.formats.spreadsheets import LONGEST, Cells
from batchrunner.models import RunId
from batchrunner.options import JobFilter
from batchrunner.places import Place
from batchrunner.providers import Providers
from batchrunner.store import commands
from batchrunner.store import export as store_export
from batchrunner.store.database import Database
from batchrunner.store.opening import open_if_current
from batchrunner.store.runs import StoredRun, all_runs, stored_run
from batchrunner.store.sqlite.locks import is_part

__all__ = [
    "check_free",
    "check_log",
    "check_output",
    "refuse_database",
    "tell_pruned",
    "write_output",
    "write_run",
]

#: Formats whose rows have the answer's text.
_WITH_TEXT = (*TABLES, "jsonl")
#: Formats that are nothing without requests or answers.
_OF_BODIES = ("openai", "anthropic", "input")


def _tell_nobody(_text: str) -> None:
    """Say nothing."""


def write_run(
    db: Database,
    run: StoredRun,
    jobs: JobFilter,
    format_name: str,
    out: BinaryIO,
    *,
    providers: Providers,
    columns: Sequence[str] = (),
    excel: bool = False,
    tell: Callable[[str], None] = _tell_nobody,
) -> int:
    """Write the chosen jobs of a run in input order and return how many; streaming."""
    known = providers.profile(run.provider)
    has_text = needs_text(columns) if columns else format_name in _WITH_TEXT
    names: Sequence[str] = ()
    bare = named_metadata(columns)
    if bare is not None or (format_name in TABLES and not columns):
        names = store_export.metadata_names(db, run.id, jobs)
    for name in bare or ():
        _tell_unknown(name, names, tell)
    rows = store_export.export_rows(db, run.id, jobs, known.output_text if has_text else None)
    cells = Cells() if excel or format_name == "xlsx" else None
    n_rows = write_rows(
        rows, format_name, out, profile=known, metadata_names=names, columns=columns, cells=cells
    )
    if cells is not None and cells.n_cut:
        were = "cell was" if cells.n_cut == 1 else "cells were"
        tell(f"{cells.n_cut:,} {were} cut to the {LONGEST:,} characters that a spreadsheet holds")
    return n_rows


def _tell_unknown(name: str, names: Sequence[str], tell: Callable[[str], None]) -> None:
    """Say where a column is no field of anybody's: it may be misspelt, or of another run."""
    if name in names or name.partition(".")[0] in names:
        return
    near = get_close_matches(name, [*NAMES, *names], n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    tell(f"no job has a metadata field {name!r}, so that column is empty{hint}")


def tell_pruned(
    db: Database, run: StoredRun, jobs: JobFilter, format_name: str, tell: Callable[[str], None]
) -> None:
    """Say where chosen jobs have no request and answer any more; refuse formats made of these."""
    n = commands.n_pruned(db, run, jobs)
    if not n:
        return
    what = _without_bodies(n, run)
    if format_name in _OF_BODIES:
        raise UsageError(
            f"{what}; -f {format_name} is made of them.",
            fix=f"Export the columns: batchrunner export {shlex.quote(run.name)} -f csv",
            kind="pruned",
        )
    tell(f"{what}: columns made of them are empty")


def _without_bodies(n: int, run: StoredRun) -> str:
    jobs = "job" if n == 1 else "jobs"
    return f"{n:,} {jobs} of {run.name} lost request and answer to `db prune --bodies`"


def refuse_database(db: Database, output: Path) -> None:
    """Refuse an output that would take the place of the database in use, or of a file beside it."""
    if db.is_part(output):
        raise UsageError(
            f"-o {output}: the database is there, or what belongs to it; nothing is written over it.",
            fix="Name another file.",
        )


def check_log(database: Place, log: Path, others: Iterable[str | Path | None]) -> None:
    """Refuse a log that would be appended to the database, or to a file that the call reads or writes."""
    if isinstance(database, Path) and is_part(database, log):
        raise UsageError(
            f"--log-file {log}: the database is there, or what belongs to it; nothing is written into it.",
            fix="Name another file, for example --log-file batchrunner.log",
        )
    there = os.path.realpath(log)
    named = {os.path.realpath(other) for other in others if other is not None and str(other) != "-"}
    if there in named:
        why = "this call reads or writes that file"
    elif run := next((run for run, path in _outputs(database) if path == there), None):
        why = f"run {run} writes its results there"
    else:
        return
    raise UsageError(
        f"--log-file {log}: {why}; a log in it would spoil it.",
        fix="Name another file, for example --log-file batchrunner.log",
    )


def _outputs(database: Place) -> Iterator[tuple[str, str]]:
    """Yield the runs of a database that write their results somewhere, and where; nothing is upgraded."""
    db = open_if_current(database)
    if db is None:
        return
    with db.read() as connection:
        runs = all_runs(connection)
    for run in runs:
        if output := msgspec.json.decode(run.options).get("output"):
            yield run.name, os.path.realpath(output)


def check_free(output: str | Path, why: str = "") -> None:
    """Refuse ``-o FILE`` where a file is there already (``why`` is added), or no folder for it."""
    path = Path(output).absolute()
    if path.exists():
        raise UsageError(
            f"-o {output}: the file exists{why}.", fix="Name another file, or move that one away."
        )
    if not path.parent.is_dir():
        raise UsageError(f"-o {output}: there is no folder {path.parent}.", fix="Make it first.")


def check_output(db: Database, output: str | None, name: str) -> None:
    """Refuse ``-o FILE`` where its ending tells no format or it would replace another's file."""
    if output is None:
        return
    path = Path(output).absolute()
    refuse_database(db, path)
    format_of(path, None)
    if path.exists():
        with db.read() as connection:
            runs = all_runs(connection)
        for stored in runs:
            options = msgspec.json.decode(stored.options)
            if options.get("output") == str(path) and options.get("output_written"):
                return
    check_free(output, f", and run {name} did not write it")


def write_output(
    db: Database, run_id: RunId, *, providers: Providers, tell: Callable[[str], None]
) -> str | None:
    """Export to the run's ``-o FILE``, if it has one; return its path.

    An earlier export stays, and ``tell`` hears why, where requests and answers were pruned since.
    """
    stored = stored_run(db, run_id)
    options = msgspec.json.decode(stored.options)
    output = options.get("output")
    if not output:
        return None
    path = Path(output)
    check_output(db, output, stored.name)
    n_pruned = commands.n_pruned(db, stored, JobFilter())
    if n_pruned and path.exists():
        tell(
            f"{path} stays as it is: {_without_bodies(n_pruned, stored)}, and a new export would be"
            " without these; for what the database still has, name another file with -o"
        )
        return str(path)
    if not options.get("output_written"):
        # Before it is: a process that dies in between must know its own file again.
        options["output_written"] = True
        commands.store_options(
            db, run_id, msgspec.json.encode(options).decode(), priority=stored.priority
        )
    if n_pruned:
        tell(f"{_without_bodies(n_pruned, stored)}: what is made of them is empty in {path}")
    with atomic_file(path, force=True) as file:
        write_run(db, stored, JobFilter(), format_of(path, None), file, providers=providers)
    return str(path)
