"""Progress as stable lines, for logs, cron and pipes.

One line at the start, one at every change of state or wait, and at most one in ten seconds
between; a short wait that comes again and again is told as often. Lines are whole, never redrawn,
and begin with the local time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple, Self, TextIO

from batchrunner.cli.text import clock_time, plural, printable
from batchrunner.cli.words import (
    DRAINING_HINT,
    STOPPING_HINT,
    Tally,
    eta_words,
    event_words,
    pace,
    reason_words,
    waiting_words,
)
from batchrunner.models import RunState
from batchrunner.views import Event, Progress

EVERY_MS: Final = 10_000.0


def wall_ms() -> float:
    """Return the wall clock, epoch milliseconds."""
    return time.time() * 1000.0


class _Shown(NamedTuple):
    """What the last line of a run said, to tell a change."""

    state: str
    why: str
    is_draining: bool
    is_following: bool


class Lines:
    """A :class:`batchrunner.views.Listener` that writes lines."""

    def __init__(
        self,
        stream: TextIO,
        *,
        db_name: str,
        quiet: bool = False,
        verbose: bool = False,
        wall: Callable[[], float] = wall_ms,
    ) -> None:
        """Write to ``stream``; ``quiet`` leaves only halts, ``verbose`` adds each event."""
        self._stream = stream
        self._db_name = db_name
        self._quiet = quiet
        self._verbose = verbose
        self.wants_jobs = verbose
        self._wall = wall
        self._shown: dict[str, _Shown] = {}
        self._told_at: dict[str, float] = {}
        #: The last wait that was told of a run, and when.
        self._waited: dict[str, tuple[str, float]] = {}
        #: The runs whose wait was left out, so that its end is too.
        self._hushed: set[str] = set()

    def __enter__(self) -> Self:
        """Do nothing: a line needs no set-up."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing: a line needs no cleaning up."""

    def event(self, event: Event) -> None:
        """Write the event where events are wanted; a halt always."""
        if self._verbose or (self._quiet and event.event == "run.halted"):
            self._write(event.run_name, event_words(event))

    def notice(self, text: str) -> None:
        """Write one sentence."""
        if not self._quiet:
            self._stream.write(printable(text) + "\n")
            self._stream.flush()

    def progress(self, progress: Progress) -> None:
        """Write what changed, or where the run stands if ten seconds have passed."""
        if self._quiet:
            return
        run, now = progress.run, self._wall()
        shown = _Shown(
            run.state,
            reason_words(run.waiting) if run.waiting else "",
            progress.draining,
            progress.following is not None,
        )
        before = self._shown.get(run.id)
        if shown != before and self._is_again(progress, before, shown, now):
            self._shown[run.id] = shown
            return
        if shown != before:
            for line in self._changes(progress, before, shown, now):
                self._write(run.name, line)
        elif not 0 <= now - self._told_at[run.id] < EVERY_MS:
            self._write(run.name, standing(progress, now))
        else:
            return
        self._shown[run.id] = shown
        self._told_at[run.id] = now

    def _is_again(
        self, progress: Progress, before: _Shown | None, shown: _Shown, now: float
    ) -> bool:
        """Whether it is the short wait that was told within ten seconds, or the end of such a one."""
        run = progress.run
        if before is None or before[2:] != shown[2:]:
            return False
        if run.waiting is None:
            was_hushed = run.id in self._hushed
            self._hushed.discard(run.id)
            return was_hushed
        why, at = self._waited.get(run.id, ("", 0.0))
        until = run.waiting.until
        if (
            run.state is RunState.WAITING
            and shown.why == why
            and 0 <= now - at < EVERY_MS
            and until is not None
            and until - now < EVERY_MS
        ):
            self._hushed.add(run.id)
            return True
        self._hushed.discard(run.id)
        self._waited[run.id] = (shown.why, now)
        return False

    def _changes(
        self, progress: Progress, before: _Shown | None, shown: _Shown, now: float
    ) -> list[str]:
        run = progress.run
        lines = []
        if before is None:
            lines.append(f"{plural(run.jobs.total, 'job')}; database {self._db_name}")
        if progress.following and not (before and before.is_following):
            runner = progress.following
            lines.append(
                f"process {runner.pid} on {printable(runner.host)} sends; following it, and taking over when it ends"
            )
        if shown.is_draining and not (before and before.is_draining):
            lines.append(
                f"finishing {progress.in_flight} in flight. {DRAINING_HINT}"
                if progress.in_flight
                else STOPPING_HINT
            )
        if run.waiting is not None:
            # A run that is alive and has a reason to stand still is about to stop.
            word = "stopping" if run.state is RunState.RUNNING else run.state
            lines.append(f"{word}: {waiting_words(run.waiting, now)}")
        elif before is not None and before.state != run.state:
            lines.append(str(run.state))
        if before is None or run.state is RunState.RUNNING:
            lines.append(standing(progress, now))
        return lines or [standing(progress, now)]

    def _write(self, name: str, text: str) -> None:
        self._stream.write(f"{clock_time(self._wall())} {printable(name)}: {text}\n")
        self._stream.flush()


def standing(progress: Progress, now_ms: float) -> str:
    """Return ``120/200 done, 1 failed, 8 in flight, 58/min of 60, eta 12:03:00``."""
    tally = Tally.of(progress)
    parts = [f"{tally.done:,}/{tally.total:,} done"]
    if tally.failed:
        parts.append(f"{tally.failed:,} failed")
    parts.append(f"{tally.in_flight:,} in flight")
    parts += [words for words in (pace(progress),) if words]
    eta = eta_words(progress.run, now_ms)
    return ", ".join([*parts, f"eta {eta}"] if eta else parts)
