"""What share of a server's limit is used over real sockets, and how many 429 that costs.

    python -m bench.rates [--rpm N] [--minutes M] [--window sliding|fixed|bucket]

For each limit and each way to count it, the simulator runs as a process of its own, which shares no
code with the engine, and batchrunner is told the same limit. Work always waits. ``used`` is what
the server received in the minutes from the first request on, over what it would have allowed in
them; ``most in 60 s`` is the largest number in any sliding minute.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.common import (
    batchrunner,
    environment,
    print_machine,
    print_table,
    verdict,
    write_jobs,
)

BAR = 0.985
WINDOWS = ("sliding", "fixed", "bucket")
#: Limit → minutes.
MINUTES = {60: 3.0, 6_000: 1.25}
_WORK_LEFT = 3


class Kept(NamedTuple):
    """What one server saw."""

    n: int
    used: float
    most: int
    n_refused: int


@contextmanager
def simulator(log: Path, rpm: int, window: str) -> Iterator[str]:
    """Run the built-in provider as its own process; give its address."""
    with subprocess.Popen(
        [sys.executable, "-m", "batchrunner.providers.simulator", "--rpm", str(rpm),
         "--window", window, "--log", str(log)],
        env=environment(), stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        try:
            if not (url := process.stdout.readline().strip()):
                raise RuntimeError("the simulator did not start")
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


def measure(folder: Path, rpm: int, window: str, minutes: float) -> Kept:
    """Send for so many minutes and read what the server noted."""
    folder.mkdir()
    log = folder / "seen.jsonl"
    jobs = write_jobs(folder / "jobs.jsonl", int(rpm * (minutes + 1)) + 100, size=300)
    with simulator(log, rpm, window) as url:
        batchrunner(
            "submit", str(jobs), "--provider", "openai", "--base-url", f"{url}/v1",
            "--db", str(folder / "rates.db"), "--rpm", str(rpm),
            # The first request is a little later than the call.
            "--max-time", f"{minutes * 60 + 3:.0f}",
            codes=(_WORK_LEFT,),
        )  # fmt: skip
    seen = [json.loads(line) for line in log.read_bytes().splitlines()]
    return judge([line["t"] for line in seen], [line["status"] for line in seen], rpm, minutes)


def judge(times: list[float], statuses: list[int | None], rpm: int, minutes: float) -> Kept:
    """Count what was sent at ``times`` and answered with ``statuses``."""
    times = sorted(times)
    span_s = minutes * 60
    counted = [at for at in times if at < times[0] + span_s]
    # Up to the last request that was counted, else a run that ends early would look idle.
    if times[-1] < times[0] + span_s - 60 / rpm * 2 - 1:
        raise RuntimeError(f"sending ended after {times[-1] - times[0]:.0f} of {span_s:.0f} s")
    most = start = 0
    for end, at in enumerate(times):
        while times[start] <= at - 60:
            start += 1
        most = max(most, end - start + 1)
    refused = sum(status == 429 for status in statuses)
    if wrong := [status for status in statuses if status not in (200, 429)]:
        raise RuntimeError(f"the simulator answered {wrong[0]}")
    return Kept(len(counted), len(counted) / (rpm * minutes), most, refused)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.rates", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "--rpm", type=int, action="append", help="repeatable (default: 60 and 6000)"
    )
    parser.add_argument("--minutes", type=float, help="(default: 3 at 60 a minute, else 1.25)")
    parser.add_argument(
        "--window", choices=WINDOWS, action="append", help="repeatable (default: all)"
    )
    given = parser.parse_args()
    print_machine()
    windows = given.window or list(WINDOWS)
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-rates-") as name:
        for rpm in given.rpm or list(MINUTES):
            minutes = given.minutes or MINUTES.get(rpm, 1.25)
            # Slow limits leave the machine idle, so that their three servers run side by side.
            with ThreadPoolExecutor(len(windows) if rpm < 600 else 1) as pool:
                kept = list(
                    pool.map(
                        lambda window, rpm=rpm, minutes=minutes: measure(
                            Path(name) / f"{window}-{rpm}", rpm, window, minutes
                        ),
                        windows,
                    )
                )
            for window, seen in zip(windows, kept, strict=True):
                rows.append(
                    [
                        f"{rpm:,} a minute, {window}",
                        f"{minutes:g}",
                        f"{seen.n:,}",
                        f"**{seen.used:.4f}**",
                        verdict(seen.used, BAR),
                        f"{seen.most:,}",
                        str(seen.n_refused),
                        verdict(seen.n_refused, 0, at_most=True),
                    ]
                )
    print_table(["limit", "minutes", "requests", "used", "bar", "most in 60 s", "429", "bar"], rows)


if __name__ == "__main__":
    main()
