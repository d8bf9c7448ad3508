"""batchrunner in a rigged world: ``python -m tests.faults.rigged RIG.json WORDS…``.

The rig is a JSON object; each key is one thing that is not as it should be:

    "disk":   fields of :class:`tests.faults.sick_disk.Sickness`
    "clock":  a file with the wall clock's error in seconds, read at each look at the clock
    "boot":   a file with the name of this machine's boot: it is another one than it is
    "names":  {"host": NAME, "gone": FILE}: NAME is this machine, while FILE is not there
    "engine": {NAME: VALUE} constants of ``batchrunner.engine.lookout``, for shorter tests

Everything else is the real program: nothing of this ships with it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def _rig_disk(told: Mapping[str, Any]) -> None:
    from tests.faults.sick_disk import Sickness, install  # noqa: PLC0415 (only where it is sick)

    install(Sickness(**told))


def _rig_clock(error: str) -> None:
    true, path = time.time, Path(error)
    time.time = lambda: true() + float(path.read_text() or 0)
    time.time_ns = lambda: int(time.time() * 1e9)


def _rig_boot(name: str) -> None:
    from batchrunner import clock  # noqa: PLC0415 (the calendar comes first)

    vars(clock)["_BOOT"] = Path(name)


def _rig_names(told: Mapping[str, str]) -> None:
    true, gone = socket.getaddrinfo, Path(told["gone"])
    # uvloop asks the system by itself.
    os.environ["BATCHRUNNER_LOOP"] = "asyncio"

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host != told["host"]:
            return true(host, *args, **kwargs)
        if gone.exists():
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return true("127.0.0.1", *args, **kwargs)

    socket.getaddrinfo = getaddrinfo
    from aiohttp import connector  # noqa: PLC0415 (the rig comes first)

    # A name is kept for ten seconds; here a test would wait for their end.
    connector._DNSCacheTable.expired = lambda _table, _key: True


def _rig_engine(told: Mapping[str, Any]) -> None:
    from batchrunner.engine import lookout  # noqa: PLC0415 (the clock and the disk come first)

    vars(lookout).update(told)


_RIGS = {
    "disk": _rig_disk,
    "clock": _rig_clock,
    "boot": _rig_boot,
    "names": _rig_names,
    "engine": _rig_engine,
}


def main() -> None:
    """Rig the world and run the command."""
    rig, *words = sys.argv[1:]
    told = json.loads(rig)
    for name, set_up in _RIGS.items():
        if name in told:
            set_up(told[name])
    from batchrunner.__main__ import main as program  # noqa: PLC0415 (the world comes first)

    sys.argv = ["batchrunner", *words]
    program()


if __name__ == "__main__":
    main()
