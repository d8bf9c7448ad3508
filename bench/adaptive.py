"""Whether ``-c auto`` finds how many requests a server can use at once, beside the best fixed number.

    python -m bench.adaptive [--minutes M] [--sockets [--seconds S] [--turns N]]

On a fake clock, against servers of several kinds (:mod:`bench.virtual_servers`): constant latency, latency
that grows with the load, servers that shed at K in flight, and such that fail anyhow, for ever or for 30 s, each with
jobs that take all the same time and with jobs that do not. Every fixed number of a list is tried; ``found`` is the rate that
``auto`` had of the best one's, slow start included, the median and the worst of three seeds. ``later`` is the second half
alone. Nothing depends on the machine.

With ``--sockets`` the same over real sockets, by ``batchrunner submit`` against a server in a process of its
own: what it answered from five seconds on, in turns with fixed numbers. That shares its machine.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from batchrunner.core.adaptive import Adaptive
from bench.common import API_KEY, batchrunner, environment, print_machine, print_table, verdict
from bench.virtual_servers import SERVERS, Fixed, run
from tests.fakes.load_server import BIN_S, load_server

BAR: Final = 0.9
SPREADS: Final = (0.0, 0.5, 1.0)
SEEDS: Final = (1, 2, 3)
#: Nobody has more in flight here.
MOST: Final = 512
FIXED: Final = (1, 2, 4, 5, 6, 8, 16, 20, 24, 32, 48, 64, 70, 96, 128, 150, 192, 256, 300, 384, 512)
#: After so many more that brought no more answers no higher one is tried.
ENOUGH: Final = 2
#: Fixed numbers are compared over so long (ms): they have nothing to find.
FIXED_MS: Final = 60_000.0
#: A server → its options and the fixed numbers to try, what it was made for first.
SOCKETS: Final = {
    "constant latency, 0.5 s": ({"latency": 0.5}, (256, 128)),
    "works on 24, others wait": ({"latency": 0.2, "workers": 24}, (24,)),
    "sheds (529) beyond 40": ({"latency": 0.2, "sheds": 40}, (40,)),
    "refuses the 31st connection": ({"latency": 0.2, "refuses": 30}, (30,)),
    "fails 20 % anyhow, works on 40": ({"latency": 0.2, "workers": 40, "fails": 0.2}, (40, 64)),
    "the 31st connection waits": ({"latency": 0.2, "accepts": 30}, (30,)),
}
#: Slow start and imports are over by then (seconds from the first request).
COUNTS_FROM_S: Final = 5.0
#: They never run out.
N_JOBS: Final = 30_000
_WORK_LEFT: Final = 3


class Found(NamedTuple):
    """What one sender made of one virtual server."""

    whole: float
    later: float
    in_flight: float
    troubles: float


def best_of(name: str, spread: float) -> tuple[float, int]:
    """Return the best rate of a fixed number, and the least number that had nearly as much."""
    rates: dict[int, float] = {}
    n_in_vain = 0
    for n in FIXED:
        rate = run(SERVERS[name](random.Random(0), spread), Fixed(n), ends=FIXED_MS).rate
        n_in_vain = n_in_vain + 1 if rate < 1.01 * max(rates.values(), default=0.0) else 0
        rates[n] = rate
        if n_in_vain > ENOUGH:
            # From here on it only hammers, or queues.
            break
    best = max(rates.values())
    return best, min(n for n, rate in rates.items() if rate >= 0.99 * best)


def find(name: str, spread: float, seed: int, ms: float) -> Found:
    """Have ``auto`` send."""
    whole = run(SERVERS[name](random.Random(seed), spread), Adaptive(most=MOST), ends=ms)
    later = run(
        SERVERS[name](random.Random(seed), spread), Adaptive(most=MOST), ends=ms, counts_from=ms / 2
    )
    return Found(whole.rate, later.rate, later.in_flight, whole.troubles)


def virtual_row(case: tuple[str, float, float]) -> list[str]:
    """Return one row of the table on the fake clock."""
    name, spread, ms = case
    best, at = best_of(name, spread)
    found = [find(name, spread, seed, ms) for seed in SEEDS]
    whole = [one.whole / best for one in found]
    later = [one.later / best for one in found]
    return [
        name,
        f"{spread:g}",
        f"{best:.0f} at {at}",
        f"{statistics.median(whole):.2f} ({min(whole):.2f})",
        f"{statistics.median(later):.2f} ({min(later):.2f})",
        f"{statistics.median(one.in_flight for one in found):.0f}",
        f"{statistics.median(one.troubles for one in found):.2%}",
        verdict(statistics.median(later), BAR),
    ]


def simulate(minutes: float) -> None:
    """Print the table of the fake clock."""
    cases = [(name, spread, minutes * 60_000) for name in SERVERS for spread in SPREADS]
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(virtual_row, cases))
    print_table(
        ["server", "spread", "best fixed, a second", "found (worst)", "later (worst)", "in flight",
         "troubles", "bar"],
        rows,
    )  # fmt: skip


class Served(NamedTuple):
    """What a real server saw of one sender."""

    rate: float
    mean: float
    refused: float


def send(folder: Path, concurrency: str, seconds: float, options: dict[str, float]) -> Served:
    """Send for so long."""
    jobs = folder / "jobs.jsonl"
    with load_server(**options) as server:
        batchrunner(
            "submit", str(jobs), "--provider", "anthropic", "--base-url", server.url, "--model", "sim-1",
            "--db", str(folder / f"{concurrency}-{random.random()}.db"), "-c", concurrency,
            "--max-time", f"{seconds:.0f}",
            env={**environment(), "ANTHROPIC_API_KEY": API_KEY}, codes=(_WORK_LEFT,),
        )  # fmt: skip
        seen = server.seen()
    counted = seen["served"][int(COUNTS_FROM_S / BIN_S) : -int(1 / BIN_S)]
    n = sum(seen["served"])
    rate = sum(counted) / len(counted) / BIN_S
    return Served(rate, seen["mean"], seen["refused"] / max(1, n + seen["refused"]))


def socket_rows(folder: Path, seconds: float, turns: int) -> Iterator[list[str]]:
    """Send to each server, in turns, and yield rows."""
    with (folder / "jobs.jsonl").open("w") as out:
        out.writelines(f'{{"id": "j{i}", "prompt": "say {i}"}}\n' for i in range(N_JOBS))
    for name, (options, fixed) in SOCKETS.items():
        found: dict[str, list[Served]] = {}
        for _ in range(turns):
            for concurrency in ("auto", *map(str, fixed)):
                found.setdefault(concurrency, []).append(
                    send(folder, concurrency, seconds, options)
                )
        rates = {key: statistics.mean(one.rate for one in served) for key, served in found.items()}
        auto = rates.pop("auto")
        best = max(rates.values())
        yield [
            name,
            ", ".join(f"{rate:.0f} at {key}" for key, rate in rates.items()),
            f"{auto:.0f}",
            f"**{auto / best:.2f}**",
            f"{statistics.mean(one.mean for one in found['auto']):.0f}",
            f"{statistics.mean(one.refused for one in found['auto']):.2%}",
            verdict(auto / best, BAR),
        ]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=5.0, help="of the fake clock, a run")
    parser.add_argument("--sockets", action="store_true", help="over real sockets instead")
    parser.add_argument("--seconds", type=float, default=25.0, help="over sockets, a run")
    parser.add_argument("--turns", type=int, default=3, help="over sockets, runs of each number")
    asked = parser.parse_args()
    if not asked.sockets:
        simulate(asked.minutes)
        return
    print_machine()
    with tempfile.TemporaryDirectory(prefix="adaptive-") as folder:
        print_table(
            ["server", "fixed, a second", "auto, a second", "of the best", "in flight", "refused",
             "bar"],
            list(socket_rows(Path(folder), asked.seconds, asked.turns)),
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
