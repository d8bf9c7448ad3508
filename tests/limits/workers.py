"""Many workers, one limit, real time: ``python -m tests.limits.workers [--workers N] [--minutes M] …``.

Workers drain a queue on a PostgreSQL of their own against a provider that only counts; the judge
(:mod:`tests.limits.fleet_judge`) then looks at its log and at the database. One row of a Markdown table
a story; exit code 1 where anything was found. Two minutes show that no minute is passed; that what is
allowed is used wants eleven.

    --story rpm       so many requests a minute          itpm     so many input tokens a minute
            rolling   a day's requests, of any 24 h      day      of the zone whose midnight comes next
            both      requests and tokens
    --troubles        workers are killed, stopped, frozen for longer than their lease, and started
    --restarts        and the server is stopped and crashes
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from tests.fakes.postgres_server import programs, running_postgres
from tests.limits.counting_server import counting_server
from tests.limits.fleet import Fleet, Troubles
from tests.limits.fleet_judge import Limits, Verdict, judge

__all__ = ["STORIES", "play"]


class Story(NamedTuple):
    """Limits, and how long the prompts are (words)."""

    limits: Limits
    words: tuple[int, ...] = (3,)
    #: Whether more is waiting than a story can send.
    is_endless: bool = True


STORIES: Final = {
    "rpm": Story(Limits(rpm=1200)),
    "itpm": Story(Limits(itpm=60_000), (20, 60, 150, 400)),
    "both": Story(Limits(rpm=600, itpm=90_000), (20, 60, 150, 400)),
    "rolling": Story(Limits(rpd=400, zone="rolling")),
    "day": Story(Limits(rpd=400, zone="next")),
}

_HEADINGS = (
    "story", "workers", "minutes", "requests", "most in a minute", "used", "most tokens", "used",
    "deaths waste at most", "acts", "doubled", "marked", "found",
)  # fmt: skip


def play(
    name: str, n_workers: int, seconds: float, folder: Path, troubles: Troubles | None = None
) -> tuple[Verdict, Fleet]:
    """Play a story in an empty folder, on a server of its own, and judge it."""
    story = STORIES[name]
    limits = _in_the_next_zone(story.limits)
    binaries = programs()
    assert binaries is not None, "no PostgreSQL on this machine"
    with running_postgres(binaries) as server, counting_server(folder) as api:
        fleet = Fleet.on(folder, api, server)
        try:
            fleet.submit(
                int(_most_a_second(story) * (seconds + 30.0)), *_options(limits), words=story.words
            )
            fleet.start(n_workers)
            fleet.work(seconds, troubles)
            return judge(fleet, limits), fleet
        finally:
            fleet.house.clear_up()


def _most_a_second(story: Story) -> float:
    """Return how many jobs a second can be sent at most."""
    limits = story.limits
    if limits.rpd is not None:
        return 100.0
    rates = [limits.rpm / 60.0] if limits.rpm else []
    if limits.itpm:
        rates.append(limits.itpm / 60.0 / (0.7 * sum(story.words) / len(story.words)))
    return min(rates)


def _in_the_next_zone(limits: Limits) -> Limits:
    """Name the zone whose midnight comes next, where that is asked for."""
    if limits.zone != "next":
        return limits
    hours = 24 - (datetime.now(UTC).hour + 1)  # ahead of UTC by so much it is midnight then
    # POSIX counts westwards; there is none more than 14 hours ahead.
    zone = f"Etc/GMT-{hours}" if hours <= 12 else f"Etc/GMT+{24 - hours}"
    return Limits(rpd=limits.rpd, zone=zone)


def _options(limits: Limits) -> Sequence[str]:
    told = {"rpm": limits.rpm, "itpm": limits.itpm, "rpd": limits.rpd}
    words = [
        word for name, n in told.items() for word in (f"--{name}", "none" if n is None else str(n))
    ]
    return (*words, "--day-resets", limits.zone, "-c", "16")


def _row(name: str, n_workers: int, seconds: float, verdict: Verdict, fleet: Fleet) -> str:
    acts = " ".join(
        f"{sum(one.act == act for one in fleet.happened)} {act}"
        for act in ("kill", "stop", "freeze", "restart")
        if any(one.act == act for one in fleet.happened)
    )
    values = (
        name, str(n_workers), f"{seconds / 60:g}", f"{verdict.n_seen:,}", f"{verdict.most:,}",
        "" if verdict.used is None else f"{verdict.used:.4f}", f"{verdict.most_tokens:,}",
        "" if verdict.tokens_used is None else f"{verdict.tokens_used:.4f}",
        f"{verdict.wasted:.4f}" if acts else "", acts,
        str(verdict.doubled), str(verdict.marked), str(len(verdict.problems)),
    )  # fmt: skip
    return f"| {' | '.join(values)} |"


def main(argv: Sequence[str] | None = None) -> int:
    """Play, print, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.limits.workers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workers", type=int, action="append", help="repeatable [2, 4, 8]")
    parser.add_argument("--minutes", type=float, default=2.0, help="of each story [2]")
    parser.add_argument("--story", choices=STORIES, action="append", help="repeatable [all]")
    parser.add_argument("--troubles", type=float, metavar="S", help="an act each S seconds or so")
    parser.add_argument("--restarts", action="store_true", help="of the server, among the acts")
    parser.add_argument("--seed", type=int, default=0, help="of the troubles [0]")
    given = parser.parse_args(argv)
    print(time.strftime("%Y-%m-%d %H:%M"), f"load {_load()}\n")
    print(f"| {' | '.join(_HEADINGS)} |\n|:--{'|--:' * (len(_HEADINGS) - 1)}|", flush=True)
    n_found = 0
    troubles = None if given.troubles is None else Troubles(given.seed, given.troubles)
    if troubles is not None and given.restarts:
        troubles = troubles._replace(acts=(*troubles.acts, "restart"))
    for name in given.story or STORIES:
        for n_workers in given.workers or (2, 4, 8):
            with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
                verdict, fleet = play(name, n_workers, given.minutes * 60.0, Path(folder), troubles)
            print(_row(name, n_workers, given.minutes * 60.0, verdict, fleet), flush=True)
            for day, n in verdict.days.items():
                print(f"    {day}: {n}", flush=True)
            for problem in verdict.problems:
                print(f"    {problem}", file=sys.stderr, flush=True)
            n_found += len(verdict.problems)
    print(f"\nload {_load()}; found: {n_found}.")
    return 1 if n_found else 0


def _load() -> str:
    return Path("/proc/loadavg").read_text().split()[0] if Path("/proc/loadavg").exists() else "?"


if __name__ == "__main__":
    sys.exit(main())
