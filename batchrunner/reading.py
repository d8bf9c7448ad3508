"""Files as jobs, before anything is made of them: lines read, checked, filled in.

Memory is flat: lines stream from the files. What is stored of them is told by
:mod:`batchrunner.intake`; a plan stores nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from batchrunner.errors import InputError, UsageError
from batchrunner.formats.detect import detect_provider, peek
from batchrunner.formats.faults import fault_of
from batchrunner.formats.lines import Fill, Notes, Rows, read_lines
from batchrunner.formats.sources import RawLine, open_lines
from batchrunner.models import JobLine, LineFault
from batchrunner.providers import Profile, Providers, detect
from batchrunner.store.runs import StoredRun

__all__ = ["LISTED", "Endless", "InterruptedIntakeError", "Order", "Reading", "name_of", "rows_of"]

#: Faults that are listed; the rest is counted.
LISTED: Final = 20


class InterruptedIntakeError(Exception):
    """A signal came while the file was read; nothing was stored."""


#: (a job) → why no bound on money can be kept for it.
Endless = Callable[[JobLine], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a person asked for: which files become which run, and how."""

    files: Sequence[str]
    stdin: BinaryIO | None
    provider: str | None
    #: Which there are.
    providers: Providers
    #: Where a provider's requests go, as far as anybody says; absolute addresses of plain HTTP
    #: lines are held to it.
    address: Callable[[Profile], str | None]
    fill: Fill
    name: str | None
    uid: str
    options_json: str
    priority: int
    is_new: bool
    is_update: bool
    skips_invalid: bool
    #: Whether the requests are kept compressed, of the run that they are taken into, if any.
    is_compressed: Callable[[Profile, StoredRun | None], bool]
    #: What tells of a job why no bound on money can be kept for it, empty where one can; ``None``: none is said.
    #: Of a provider, and of the run that the jobs are taken into.
    endless: Callable[[Profile, StoredRun | None], Endless | None] = lambda _known, _into: None
    #: How rows of data become prompts, and which field is the key.
    rows: Rows = field(default_factory=Rows)


def rows_of(template: str | None, key: str | None) -> Rows:
    """Return what ``--template`` and ``--key`` say; a template that is none is refused."""
    if template is None:
        return Rows(key=key)
    from batchrunner.formats.template import load_template  # noqa: PLC0415 (Jinja, only for rows)

    return Rows(template=load_template(template), key=key)


class Reading:
    """Reads one order: whose jobs they are, and the jobs."""

    def __init__(self, order: Order, *, is_stopped: Callable[[], bool]) -> None:
        """Take the order; nothing is read yet."""
        self._order = order
        self._is_stopped = is_stopped
        self._raw: RawLine | None = None
        self._notes = Notes()

    def provider(self) -> tuple[Profile, Iterator[RawLine]]:
        """Return the provider the order is for, and its lines, none lost."""
        first, lines = peek(self._lines(self._order.stdin))
        name = self._order.provider or detect_provider(first, detect, model=self._order.fill.model)
        if name is None:
            raise UsageError(
                "The lines do not say which provider they are for.",
                fix=f"Say it with --provider: {', '.join(self._order.providers.names)}.",
            )
        known = self._order.providers.profile(name)
        return known.at(self._order.address(known)), lines

    def _lines(self, stdin: BinaryIO | None) -> Iterator[RawLine]:
        return open_lines(
            self._order.files,
            stdin=stdin,
            tick=self._check_stopped,
            are_rows=self._order.rows.template is not None,
        )

    def _read(self, rules: Profile, lines: Iterator[RawLine]) -> Iterator[JobLine | LineFault]:
        return read_lines(
            self._noted(lines),
            rules,
            self._order.fill,
            base_url=self._order.address(rules),
            notes=self._notes,
            rows=self._order.rows,
        )

    def _held(
        self, values: Iterable[JobLine | LineFault], rules: Profile, into: StoredRun | None = None
    ) -> Iterator[JobLine | LineFault]:
        """Refuse the jobs that a bound on money can't be kept for; nothing is looked at without one."""
        why_of = self._order.endless(rules, into)
        if why_of is None:
            yield from values
            return
        for value in values:
            if isinstance(value, JobLine) and self._raw is not None and (why := why_of(value)):
                yield fault_of(self._raw, why)
            else:
                yield value

    def _noted(self, lines: Iterator[RawLine]) -> Iterator[RawLine]:
        """Remember the line that is being read, for the rejects file."""
        is_slow = self._order.rows.template is not None
        for raw in lines:
            if is_slow:
                # What a template does for a row may take seconds.
                self._check_stopped()
            if raw.n_swallowed and self._order.skips_invalid:
                raise _unbounded(raw)
            self._raw = raw
            yield raw

    def _place(self, fault: LineFault) -> tuple[int, int]:
        files = [*self._order.files]
        return (files.index(fault.file) if fault.file in files else len(files), fault.line)

    def _check_stopped(self) -> None:
        if self._is_stopped():
            raise InterruptedIntakeError

    def _refuse(self, n: int, first: Sequence[LineFault]) -> InputError:
        """Return what to raise for ``n`` lines that can't become jobs."""
        more = f"; the first {LISTED} follow" if n > LISTED else ""
        plural = "s" if n > 1 else ""
        return InputError(
            f"{n} line{plural} can't become jobs{more}. Nothing was stored.",
            faults=sorted(first, key=self._place),
            n_faults=n,
            fix=self._mend(first),
        )

    def _mend(self, first: Sequence[LineFault]) -> str:
        """Return what helps: where all that is shown has one cause, it is seldom the lines."""
        rows = self._order.rows
        reasons = " ".join(fault.reason for fault in first)
        if rows.template is not None and all("the template " in one.reason for one in first):
            optional = "; a field that may lack is {{ name | default('') }}"
            return (
                f"mend the template{optional if 'no such field' in reasons else ''}; or mend the lines, or leave"
                " them out with --skip-invalid"
            )
        if rows.key is not None and all("--key names" in one.reason for one in first):
            return "name another field with --key; or mend the lines, or leave them out with --skip-invalid"
        if all(one.reason.endswith(" can't be kept: nothing bounds its answer") for one in first):
            return (
                "say how many tokens an answer may have at most: submit it again with --max-tokens 1024; or write it in"
                " the lines"
            )
        if all(one.reason.startswith("--max-cost can't be kept: ") for one in first):
            return (
                "mend the lines, leave them out with --skip-invalid, or go without the bound: submit it again with"
                " --max-cost none"
            )
        names_stdin = "-" in self._order.files and rows.template is None
        if names_stdin and all("JSON" in one.reason for one in first):
            return (
                "standard input is JSONL; rows of CSV or TSV are read there with --template FILE, or from a file whose"
                " name ends in .csv or .tsv"
            )
        return "mend the lines, or leave them out with --skip-invalid"

    def _no_jobs(self) -> InputError:
        return InputError(
            f"There are no jobs in {', '.join(self._order.files)}. Nothing was stored.",
            fix="give a file with one JSON object a line, or one with rows under a heading",
        )


def _unbounded(raw: RawLine) -> InputError:
    """Return what to raise for a row that can't be left out alone: nobody knows where it ends."""
    return InputError(
        f"{raw.file}, line {raw.line}: {raw.reason}. Which of these lines are rows of"
        " their own can't be told, so that --skip-invalid can't leave the bad one out alone."
        " Nothing was stored.",
        fix=f"mend the quotes from line {raw.line} on: close what is opened, and write a quote"
        " within quotes twice",
    )


def name_of(files: Sequence[str]) -> str:
    """Return a run's name from its first file: without folder and endings."""
    first = files[0]
    if first == "-":
        return "stdin"
    name = Path(first).name
    for ending in (".gz", ".zst", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".tab"):
        if name.lower().endswith(ending) and len(name) > len(ending):
            name = name[: -len(ending)]
    # A name that begins so would be taken for an option.
    return name.lstrip("-") or "jobs"
