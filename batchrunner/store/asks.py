"""What attached processes want drained, as the holder reads it and answers it.

Every function takes the writer's connection inside a transaction that somebody else began and will
commit.
What a process writes of its own asks is in :mod:`batchrunner.store.processes`.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from batchrunner.models import RunId
from batchrunner.store.driver import DriverConnection
from batchrunner.store.processes import STALE

__all__ = ["AskRow", "load_asks", "note_ask"]


class AskRow(NamedTuple):
    """An attached process that wants a run drained."""

    run_id: RunId
    process_id: int
    options: dict[str, Any]
    taken_by: int | None
    note: str | None
    lock_file: str
    #: Until when (wall ms) the run waits, as it was last known.
    waits_until: int | None


def load_asks(conn: DriverConnection) -> list[AskRow]:
    """Return what attached processes ask for, oldest process first."""
    asks = [
        AskRow(row[0], row[1], json.loads(row[2]), *row[3:])
        for row in conn.execute(
            "SELECT a.run_id, a.process_id, a.options, a.taken_by, a.note, p.lock_file,"
            " r.stop_until FROM ask a JOIN process p ON p.id = a.process_id"
            " JOIN run r ON r.id = a.run_id ORDER BY a.process_id"
        )
    ]
    return [
        ask._replace(waits_until=None) if ask.waits_until == ask.options.get(STALE) else ask
        for ask in asks
    ]


def note_ask(conn: DriverConnection, run_id: RunId, process_id: int, note: str) -> None:
    """Tell an asker why its run is not taken up."""
    conn.execute(
        "UPDATE ask SET note = ? WHERE run_id = ? AND process_id = ?", (note, run_id, process_id)
    )
