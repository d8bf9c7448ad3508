"""Days of limits in minutes: ``python -m tests.limits [--stories N] [--days D] [--seed S] [--named]``.

Plays the named stories and then random ones, each ``D`` days of simulated time, and prints what the
judge (:mod:`tests.limits.judge`) found as a Markdown table. ``--seed S --stories 1`` plays one of
them again, send for send. Exit code 1 where anything was found.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.limits.judge import Verdict, judge
from tests.limits.stories import CLOCK_CHANGES, LEAPS, LOWER, NAMED, TOKENS, random_story
from tests.limits.world import Story, play

_HEADINGS = (
    "story", "days", "deaths", "changes", "sends", "429", "fullest", "used", "judged for", "exact days",
    "found", "took",
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Play, print, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.limits", description=__doc__)
    parser.add_argument("--stories", type=int, default=12, help="random ones (default: 12)")
    parser.add_argument("--days", type=float, default=3.0, help="of each random one (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the first random one (default: 0)")
    parser.add_argument("--named", action=argparse.BooleanOptionalAction, default=True)
    given = parser.parse_args(argv)
    print(f"| {' | '.join(_HEADINGS)} |\n|:--{'|--:' * (len(_HEADINGS) - 1)}|", flush=True)
    n_found = 0
    days, began = 0.0, time.monotonic()
    for name, story in _stories(given.seed, given.stories, given.days, named=given.named):
        verdict, took_s = _judged(story)
        print(_row(name, story, verdict, took_s), flush=True)
        for problem in verdict.problems:
            print(f"    {name}: {problem}", file=sys.stderr, flush=True)
        n_found += len(verdict.problems)
        days += story.days
    print(f"\n{days:.1f} days in {(time.monotonic() - began) / 60:.1f} minutes; found: {n_found}.")
    return 1 if n_found else 0


def _stories(seed: int, n: int, days: float, *, named: bool) -> Iterator[tuple[str, Story]]:
    if named:
        yield from {**CLOCK_CHANGES, **LEAPS, **LOWER, **NAMED, **TOKENS}.items()
    for one in range(seed, seed + n):
        yield f"seed {one}", random_story(one, days)


def _judged(story: Story) -> tuple[Verdict, float]:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="limits-") as name:
        return judge(play(story, Path(name))), time.monotonic() - began


def _row(name: str, story: Story, verdict: Verdict, took_s: float) -> str:
    values = (
        name, f"{story.days:g}", f"{len(story.deaths)}", f"{len(story.told) - 1}", f"{verdict.sends:,}",
        f"{verdict.refused:,}", f"{verdict.fullest:.3f}",
        "" if verdict.used is None else f"{verdict.used:.4f}",
        f"{verdict.stretch_s / 3600:.1f} h", f"{len(verdict.days)}", f"{len(verdict.problems)}",
        f"{took_s:.0f} s",
    )  # fmt: skip
    return f"| {' | '.join(values)} |"


if __name__ == "__main__":
    sys.exit(main())
