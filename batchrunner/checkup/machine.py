"""The checks of this machine: the database and the disk it lies on. They change neither."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from typing import Final

from batchrunner.checkup.probes import Stopwatch
from batchrunner.checkup.sheet import MACHINE, Sheet
from batchrunner.errors import DatabaseError
from batchrunner.models import ExitCode
from batchrunner.places import Place, Server, shown
from batchrunner.store.inspection import DatabaseFacts
from batchrunner.store.opening import inspect_at
from batchrunner.store.schema import Standing
from batchrunner.store.sqlite.filesystem import network_file_system
from batchrunner.views import CheckStatus, CheckView

__all__ = ["examine_machine"]

#: Below this a run may fill the disk before anybody looks.
LOW_BYTES: Final = 1_000_000_000
#: Below this nothing can be stored.
NO_BYTES: Final = 5_000_000
#: A log that the holder did not copy for long.
LARGE_WAL_BYTES: Final = 1_000_000_000
#: How long the database may be read for damage.
READ_S: Final = 10.0

_UNITS: Final = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))

_STANDINGS: Final[Mapping[Standing, tuple[CheckStatus, str, str]]] = {
    Standing.EMPTY: (
        CheckStatus.WARN,
        "is empty: whoever made it died before anything was in it",
        "batchrunner submit FILE fills it.",
    ),
    Standing.OLDER: (
        CheckStatus.WARN,
        "has an older schema; the next command upgrades it",
        "batchrunner db upgrade does it now.",
    ),
    Standing.NEWER: (
        CheckStatus.FAIL,
        "was written by a newer version of batchrunner",
        "Install that version or a later one, or name another database with --db.",
    ),
    Standing.FOREIGN: (
        CheckStatus.FAIL,
        "is another program's database",
        "Name another database with --db.",
    ),
}


async def examine_machine(place: Place) -> list[CheckView]:
    """Return the checks of the database at ``place`` and of its disk."""
    sheet = Sheet(None, MACHINE)
    watch = Stopwatch()
    try:
        facts = await asyncio.to_thread(inspect_at, place, within_s=READ_S)
    except DatabaseError as error:
        sheet.put(
            "database", CheckStatus.FAIL, error.message, fix=error.fix, took_ms=watch.ms,
            exit_code=error.exit_code,
        )  # fmt: skip
    else:
        _put_database(sheet, place, facts, watch.ms)
    _put_disk(sheet, place)
    return sheet.checks()


def _put_database(sheet: Sheet, place: Place, facts: DatabaseFacts | None, took_ms: float) -> None:
    if facts is None:
        _put_none_yet(sheet, place)
        return
    status, what, fix = CheckStatus.OK, "", ""
    if facts.network is not None:
        status = CheckStatus.FAIL
        what = f"lies on a network file system ({facts.network}), where locks can't be trusted"
        fix = "Choose a place on a local disk with --db."
    elif facts.standing in _STANDINGS:
        status, what, fix = _STANDINGS[facts.standing]
    elif facts.damage:
        status, what = CheckStatus.FAIL, f"is damaged: {facts.damage[0]}"
        fix = "Go back to a backup, or export what can be read: batchrunner export -o saved.csv"
    elif facts.wal_bytes > LARGE_WAL_BYTES:
        status = CheckStatus.WARN
        what = f"is sound, and its log (-wal) has grown to {size(facts.wal_bytes)}"
        fix = "Close what reads the database for long; the next run empties the log."
    else:
        what = "is sound" if facts.is_read_whole else f"opens (not read to its end in {READ_S:g} s)"
        runs = "1 run" if facts.n_runs == 1 else f"{facts.n_runs:,} runs"
        what += f", {size(facts.n_bytes)}, {runs}; {_users(facts)}"
        fix = "" if facts.is_read_whole else "batchrunner db check reads all of it."
    sheet.put(
        "database", status, f"{shown(place)} {what}", fix=fix, took_ms=took_ms,
        exit_code=ExitCode.DATABASE,
    )  # fmt: skip


def _users(facts: DatabaseFacts) -> str:
    if facts.holder is not None:
        return f"process {facts.holder.pid} ({facts.holder.user}) sends on it now"
    return "a process sends on it now" if facts.is_sent_from else "nobody sends on it"


def _put_none_yet(sheet: Sheet, place: Place) -> None:
    if isinstance(place, Server):
        sheet.put("database", CheckStatus.OK, f"there is none yet at {place}; submit makes it")
        return
    place = place.absolute()
    here = place.parent
    network = network_file_system(here) if here.is_dir() else None
    if not here.is_dir() or not os.access(here, os.W_OK) or network is not None:
        why = "is on a network file system, where locks can't be trusted"
        if network is None:
            why = "can't be written" if here.is_dir() else "does not exist"
        sheet.put(
            "database", CheckStatus.FAIL, f"there is none yet, and its folder {here} {why}",
            fix="Choose a place on a local disk that you may write to with --db.",
            exit_code=ExitCode.DATABASE,
        )  # fmt: skip
        return
    sheet.put("database", CheckStatus.OK, f"there is none yet at {place}; submit makes it")


def _put_disk(sheet: Sheet, place: Place) -> None:
    if isinstance(place, Server):
        sheet.put("disk", CheckStatus.SKIP, "the database is on a server, which has its own")
        return
    here = next(folder for folder in place.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(here).free
    status, fix = CheckStatus.OK, ""
    if free < LOW_BYTES:
        status = CheckStatus.FAIL if free < NO_BYTES else CheckStatus.WARN
        fix = "Free some space, or put the database elsewhere with --db; requests and answers are kept in it."
    sheet.put(
        "disk", status, f"{size(free)} free where the database is", fix=fix,
        exit_code=ExitCode.DATABASE,
    )  # fmt: skip


def size(n_bytes: float) -> str:
    """Return a number of bytes in words."""
    for unit, n in _UNITS:
        if n_bytes >= n:
            return f"{n_bytes / n:.1f} {unit}" if n_bytes < 10 * n else f"{n_bytes / n:,.0f} {unit}"
    return f"{n_bytes:.0f} bytes"
