"""batchrunner beside what people use instead: speed, cost, what a kill loses, how a limit is kept.

    python -m bench.peers [--jobs N] [--rounds N] [--only a,b] [--chart FILE]

Installs each tool into an environment of its own (once; kept in a cache folder), then runs all of
them on the same servers with the same jobs, in turns, each as a process of its own, and prints one
Markdown table with its footnotes. A tool that can't be installed or run has a dash and the reason.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from bench.common import print_machine
from bench.peers.bench import Bench, Sizes
from bench.peers.chart import draw
from bench.peers.install import cache_folder
from bench.peers.report import print_report
from bench.peers.table import PEERS


def main() -> None:
    """Measure, print and draw."""
    given = _parser().parse_args()
    chosen = PEERS if given.only is None else [peer for peer in PEERS if peer.name in given.only]
    sizes = Sizes(
        n=given.jobs,
        rounds=given.rounds,
        n_killed=min(given.jobs, given.killed),
        rpm=given.rpm,
        minutes=given.minutes,
        limit_s=given.timeout,
    )
    print_machine("sqlalchemy")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-peers-", dir=given.folder) as name:
        bench = Bench(Path(name), sizes, chosen)
        bench.install(given.cache)
        bench.measure()
    print_report(bench.outcomes, sizes)
    print(f"\nTook {(time.monotonic() - began) / 60:.0f} minutes.")
    if given.chart is not None:
        given.chart.write_text(draw(bench.outcomes))
        print(f"chart: {given.chart}", file=sys.stderr)


def _names(text: str) -> list[str]:
    names = text.split(",")
    known = [peer.name for peer in PEERS]
    if unknown := sorted(set(names) - set(known)):
        raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers", description=(__doc__ or "").partition("\n")[0]
    )
    add = parser.add_argument
    add("--only", type=_names, metavar="A,B", help="these tools alone (default: all)")
    add("--jobs", type=int, default=1_500, help="jobs of a run at full speed (default: 1500)")
    add("--rounds", type=int, default=3, help="runs and kills of each (default: 3)")
    add("--killed", type=int, default=1_000, help="jobs of a run that is killed (default: 1000)")
    add("--rpm", type=int, default=600, help="the limit, requests a minute (default: 600)")
    add("--minutes", type=int, default=2, help="how long under the limit; 0: not (default: 2)")
    add("--timeout", type=float, default=120, help="seconds for one run (default: 120)")
    add("--chart", type=Path, metavar="FILE", help="write the chart there, as SVG")
    add("--cache", type=Path, default=cache_folder(), help="where the tools are installed")
    add("--folder", type=Path, help="where the files go (default: temporary)")
    return parser


if __name__ == "__main__":
    main()
