"""The keys that change how many requests of a run are in flight while it is watched."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal

from batchrunner.errors import BatchrunnerError
from batchrunner.models import RunState
from batchrunner.views import Progress

__all__ = ["Tell", "Turns", "at_once_words", "can_turn"]

#: Stores what may be in flight of a run (its id), and says what changed.
Tell = Callable[[str, "int | Literal['auto']"], str]

#: A key changes so much of what there is, at least one.
SHARE: Final = 10
#: For so long what was typed counts, not what is seen: the run takes it up in a moment (seconds).
SOON_S: Final = 1.5
#: Key → up or down; each with its neighbour, so that nobody needs Shift.
_UP_DOWN: Final = {"+": 1, "=": 1, "-": -1, "_": -1}
_AUTO: Final = "a"


def can_turn(progress: Progress) -> bool:
    """Whether keys change anything: this process sends the run, and is not about to stop."""
    is_live = progress.run.state in (RunState.RUNNING, RunState.WAITING)
    return is_live and progress.following is None and not progress.draining


def at_once_words(progress: Progress) -> str:
    """Return how many may be in flight, and the key for having that found by trying."""
    most = f"at most {progress.concurrency:,}"
    return f"{most} now, found by trying" if progress.is_auto else f"{most}; a: by trying"


class Turns:
    """Makes of keys what may be in flight, and has it stored."""

    def __init__(
        self,
        tell: Tell,
        notice: Callable[[str], None],
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take who stores it and whom to tell where that fails."""
        self._tell = tell
        self._notice = notice
        self._now = now
        #: What was typed last, for which run, and when.
        self._last: tuple[str, int, float] | None = None

    def press(self, keys: str, progress: Progress) -> None:
        """Take keys that were typed while ``progress`` was shown; those that mean nothing are left out."""
        found = [key for key in keys.lower() if key in _UP_DOWN or key == _AUTO]
        if not found:
            return
        run, now = progress.run.id, self._now()
        n: int | Literal["auto"] = progress.concurrency
        if self._last is not None and self._last[0] == run and now - self._last[2] < SOON_S:
            n = self._last[1]
        for key in found:
            if key == _AUTO:
                n = "auto"
            else:
                at = progress.concurrency if n == "auto" else n
                n = max(1, at + _UP_DOWN[key] * max(1, at // SHARE))
        self._last = None if n == "auto" else (run, n, now)
        try:
            self._tell(run, n)
        except BatchrunnerError as error:
            self._notice(f"{error.message} {error.fix}".strip())
