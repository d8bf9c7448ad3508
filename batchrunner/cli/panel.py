"""The live panel on a terminal: where the run stands, how fast, what it waits for, what failed.

Redrawn at most four times a second from the last picture, so that a countdown ticks while
nothing happens. When it closes nothing of it stays on the screen; the summary takes its place.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Self, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.text import Text

from batchrunner.cli.keyboard import Keyboard, be_stopped
from batchrunner.cli.lines import wall_ms
from batchrunner.cli.text import clock_time, duration, printable
from batchrunner.cli.turns import Tell, Turns, at_once_words, can_turn
from batchrunner.cli.words import Tally, eta_words, event_words, hint, pace, waiting_words
from batchrunner.models import RunState
from batchrunner.views import Event, Progress

REDRAWS_PER_SECOND: Final = 4
N_ERRORS: Final = 3
#: Runs that are shown at once; ``resume --all`` may drain more.
N_RUNS: Final = 3
_BAR_MOST: Final = 60
#: Signals that end a process where nobody takes them; a run takes all but the first while it lives.
_DEADLY: Final = (signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
#: Events after which no key means anything.
_ENDS: Final = frozenset({"run.finished", "run.halted"})

_STATE_STYLES: Final = {
    RunState.RUNNING: "bold green",
    RunState.WAITING: "bold yellow",
    RunState.HALTED: "bold red",
    RunState.PAUSED: "bold yellow",
    RunState.FINISHED: "bold green",
    RunState.CANCELLED: "bold red",
}
#: Part of the bar → its sign, its sign without Unicode, its style.
_PARTS: Final = {
    "done": ("█", "#", "green"),
    "failed": ("█", "x", "red"),
    "in_flight": ("▓", "+", "yellow"),
    "left": ("░", ".", "bright_black"),
}


class Panel:
    """A :class:`batchrunner.views.Listener` that draws."""

    def __init__(
        self,
        stream: TextIO,
        *,
        db_name: str,
        verbose: bool = False,
        wall: Callable[[], float] = wall_ms,
        console: Console | None = None,
        keys: int | None = None,
        tell: Tell | None = None,
        is_worker: bool = False,
    ) -> None:
        """Draw on ``stream``, a terminal; ``verbose`` writes each event above the panel.

        ``keys`` is the terminal on which + and - are typed, and ``tell`` changes what may be in
        flight of a run; ``None``: nobody types. A worker outlives its runs: what is over is drawn no more.
        """
        self._console = console or Console(file=stream, highlight=False, markup=False, emoji=False)
        self._db_name = db_name
        self._verbose = verbose
        self.wants_jobs = verbose
        self._wall = wall
        self._is_worker = is_worker
        self._latest: dict[str, Progress] = {}
        self._turns = Turns(tell, self.notice) if tell is not None else None
        self._keyboard = None
        if keys is not None and self._turns is not None:
            self._keyboard = Keyboard(keys, self._pressed, shown=self._shown)
        self._taken: dict[signal.Signals, Callable[[int, object], None]] = dict.fromkeys(
            _DEADLY, self._die
        )
        if self._keyboard is None:
            # Else the keyboard takes it, which has more to put back.
            self._taken[signal.SIGTSTP] = self._stop
        self._live = Live(
            console=self._console,
            get_renderable=self._picture,
            refresh_per_second=REDRAWS_PER_SECOND,
            transient=True,
            redirect_stdout=False,
        )

    def __enter__(self) -> Self:
        """Begin to draw; the cursor is hidden."""
        if threading.current_thread() is threading.main_thread():
            for signum, taken in self._taken.items():
                if signal.getsignal(signum) is signal.SIG_DFL:
                    signal.signal(signum, taken)
        self._live.start()
        if self._keyboard is not None:
            self._keyboard.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the panel away and show the cursor again."""
        try:
            if self._keyboard is not None:
                self._keyboard.__exit__()
        finally:
            self._live.stop()
            for signum, taken in self._taken.items():
                if signal.getsignal(signum) == taken:
                    signal.signal(signum, signal.SIG_DFL)

    def _die(self, signum: int, _frame: object) -> None:
        """Die of a signal that nobody else takes, as it would have it, with the terminal as it was."""
        signal.signal(signum, signal.SIG_DFL)
        try:
            if self._keyboard is not None:
                self._keyboard.leave()
            self._console.show_cursor()
        finally:
            os.kill(os.getpid(), signum)

    def _stop(self, signum: int, _frame: object) -> None:
        """Be stopped by Ctrl-Z, with the cursor back; go on when the shell says so."""
        self._shown(False)
        be_stopped(signum, self._stop)
        self._shown(True)

    def event(self, event: Event) -> None:
        """Write the event above the panel where events are wanted."""
        if self._keyboard is not None and event.event in _ENDS:
            # Signals are taken no more, soon: the terminal has to be itself by then.
            self._keyboard.want(False)
        if self._is_worker and event.event in _ENDS:
            self._latest = {key: kept for key, kept in self._latest.items() if key != event.run_id}
        if self._verbose:
            self.notice(f"{clock_time(self._wall())} {event.run_name}: {event_words(event)}")

    def notice(self, text: str) -> None:
        """Write one sentence above the panel."""
        self._console.print(Text(printable(text)))

    def progress(self, progress: Progress) -> None:
        """Keep the picture; the next redraw shows it."""
        # The newest last; a new dict, since the drawing thread may be walking the old one.
        others = {key: kept for key, kept in self._latest.items() if key != progress.run.id}
        self._latest = {**others, progress.run.id: progress}
        if self._keyboard is not None:
            self._keyboard.want(can_turn(progress))

    def _picture(self) -> Group:
        latest = list(self._latest.values())
        shown = latest[-N_RUNS:]
        if not shown:
            verb = "watching" if self._is_worker else "opening"
            return Group(_line(f"{verb} {self._db_name}", "dim"))
        blocks = [RunBlock(progress, self._wall()) for progress in shown]
        keys = [_line(words, "dim") for words in self._key_words(shown)]
        return Group(
            *blocks,
            _line(f"database {self._db_name}", "dim"),
            *keys,
            # Ctrl-C is for all of them.
            _line(hint(max(latest, key=lambda progress: progress.in_flight)), "dim"),
        )

    def _key_words(self, shown: Sequence[Progress]) -> Iterator[str]:
        """Say what the keys do, where they do something."""
        progress = shown[-1]
        if self._keyboard is None or not can_turn(progress):
            return
        whose = f" of {printable(progress.run.name)}" if len(shown) > 1 else ""
        yield f"+ and - change how many{whose} go at once, {at_once_words(progress)}"

    def _pressed(self, keys: str) -> None:
        shown = list(self._latest.values())
        if self._turns is not None and shown and can_turn(shown[-1]):
            self._turns.press(keys, shown[-1])

    def _shown(self, is_shown: bool) -> None:
        """Give the cursor back while the process is stopped."""
        self._console.show_cursor(not is_shown)


class RunBlock:
    """One run, drawn for the width there is."""

    def __init__(self, progress: Progress, now_ms: float) -> None:
        """Draw ``progress`` as of ``now_ms`` (wall)."""
        self._progress = progress
        self._now_ms = now_ms

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines, top to bottom."""
        progress, run = self._progress, self._progress.run
        tally = Tally.of(progress)
        head = Text(no_wrap=True, overflow="ellipsis")
        head.append(printable(run.name), "bold").append("  ")
        head.append(run.state, _STATE_STYLES.get(run.state, "bold"))
        yield head
        yield bar(tally, min(options.max_width, _BAR_MOST), is_ascii=options.ascii_only)
        yield _line(
            f"{tally.done:,} done, {tally.failed:,} failed, {tally.in_flight:,} in flight, "
            f"{tally.left:,} left"
        )
        yield _line(", ".join(self._pace()))
        if progress.following is not None:
            runner = progress.following
            yield Text(f"process {runner.pid} on {printable(runner.host)} sends; following it")
        if progress.draining and progress.in_flight:
            yield Text(f"finishing {progress.in_flight} in flight", style="yellow")
        if run.waiting is not None:
            word = "stops" if run.state is RunState.RUNNING else "waits"
            yield Text(f"{word}: {waiting_words(run.waiting, self._now_ms)}", style="yellow")
        for model, message in list(run.holds.items())[:N_ERRORS]:
            yield _line(f"held back: {printable(model)}: {printable(message)}", "yellow")
        for at, key, kind, message in progress.recent_errors[-N_ERRORS:]:
            yield _line(
                f"{clock_time(at)} {printable(key)} {printable(kind)}: {printable(message)}", "red"
            )

    def _pace(self) -> list[str]:
        eta = eta_words(self._progress.run, self._now_ms)
        words = [
            pace(self._progress),
            f"done about {eta}" if eta else "",
            f"{duration(self._progress.elapsed_s)} so far",
        ]
        return [word for word in words if word]


def bar(tally: Tally, columns: int, *, is_ascii: bool) -> Text:
    """Return the bar and its share: done, failed, in flight, left; 100% only when all is done."""
    cells = max(1, columns - len(" 100%"))
    total = max(1, tally.total)
    text = Text(no_wrap=True)
    reached, drawn = 0, 0
    for part, (sign, plain, style) in _PARTS.items():
        reached += getattr(tally, part)
        upto = cells if part == "left" else cells * reached // total
        text.append((plain if is_ascii else sign) * (upto - drawn), style)
        drawn = upto
    ended = tally.total - tally.left - tally.in_flight
    text.append(f" {100 * ended // total:>3}%", "bold")
    return text


def _line(words: str, style: str = "") -> Text:
    return Text(words, style=style, no_wrap=True, overflow="ellipsis")
