"""Places where a test may kill the process, so that every crash can be met on purpose.

``BATCHRUNNER_FAILPOINT=settle.inside:3`` ends the process with SIGKILL, as a power cut or the
kernel would, when it comes to that place for the third time. Without the variable :func:`hit`
does nothing and costs nothing that can be measured.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from typing import Final

__all__ = ["POINTS", "VARIABLE", "hit"]

VARIABLE: Final = "BATCHRUNNER_FAILPOINT"

#: Every place that has a name, with what has happened by then.
POINTS: Final[Mapping[str, str]] = {
    "create.made": "An empty database file is there, without a schema.",
    "create.migrated": "The schema is written, and not committed.",
    "upgrade.copied": "The copy of an older database is whole, and nothing is changed yet.",
    "upgrade.migrated": "The schema is brought up to date, and not committed.",
    "submit.chunk": "A chunk of jobs is committed, and the run is still invisible.",
    "submit.finish": "All jobs are stored, and the run is not visible yet.",
    "submit.finished": "The run is visible, and nobody asked for it yet.",
    "merge.chunk": "A part of --update is committed.",
    "merge.finish": "All of --update is committed, but for the run's new identity.",
    "retry.chunk": "Some of the jobs that retry chose are put back.",
    "cancel.chunk": "Some jobs of a cancelled run are cancelled.",
    "rescue.inside": "The sends of a dead process are marked, and its jobs not put back.",
    "rescue.committed": "The jobs of a dead process are pending again, and no run is taken up.",
    "claim.begin": "Permission is taken in memory, and no transaction has begun.",
    "claim.inside": "Jobs are claimed and booked, and not committed.",
    "claim.committed": "A claim is committed, and no sender has it yet.",
    "turn.begun": "A worker has the turn, and what others used; nothing is planned yet.",
    "send.before": "A request is about to go out, its first byte unwritten.",
    "send.answered": "An answer is read, and only this process's memory has it.",
    "settle.inside": "Answers are stored, and not committed.",
    "settle.committed": "Answers are committed, and nobody was told.",
    "end.before": "A run has nothing left to send, and does not say so yet.",
    "end.committed": "The end of a run is committed, and nobody was told.",
    "leave.before": "A worker has stored and given back everything, and is still in the list.",
    "close.before": "The log is about to be emptied into the database.",
    "close.emptied": "The log is emptied, and the connection still open.",
    "export.rows": "Rows of an export are about to be written to its temporary file.",
    "export.rename": "The temporary file is whole, and not renamed.",
    "export.renamed": "The export is in its place, and nothing was noted about it.",
    "prune.begun": "What a prune takes away is noted, and a run to be deleted is out of sight.",
    "prune.chunk": "Some jobs of a pruned run are gone, or their requests and answers are.",
    "prune.taken": "All that a prune takes away is gone, and the file is as large as before.",
    "prune.shrunk": "The file is shrunk, and the prune's note is still there.",
    "backup.copied": "A backup is copied, and does not have its name yet.",
    "copy.page": "A page of rows is copied to another database, and nobody can see it there.",
    "copy.copied": "All rows are copied, and nobody can see them; the source is as it was.",
    "copy.marked": "The source says where its work goes on, and nobody can see the copy yet.",
}


def _nothing(_name: str) -> None:
    """Do nothing: the program as people run it."""


def _armed(setting: str) -> Callable[[str], None]:
    """Return a ``hit`` that kills at what ``setting`` (``name`` or ``name:n``) says."""
    armed, _, number = setting.partition(":")
    if armed not in POINTS:
        raise ValueError(f"{VARIABLE}: there is no point {armed!r}")
    left = int(number or 1)

    def countdown(name: str) -> None:
        nonlocal left
        if name != armed:
            return
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return countdown


#: Called by name at each place of :data:`POINTS`.
hit: Final = _armed(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else _nothing
