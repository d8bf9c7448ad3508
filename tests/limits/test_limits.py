"""Limits over days: the named stories, some of the others, and planners that the judge must find out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from batchrunner.core import slots
from batchrunner.core.admission import Ledger
from batchrunner.core.counting import Charge
from batchrunner.core.days import day_start, next_reset
from batchrunner.core.scope import ScopeLedger
from batchrunner.core.token_use import TokenUse
from batchrunner.engine import gate, planning, token_estimates
from batchrunner.store import scopes
from tests.limits.judge import BAR, judge
from tests.limits.provider import Weather
from tests.limits.stories import CLOCK_CHANGES, DAY, LEAPS, LOWER, NAMED, TOKENS, random_story
from tests.limits.world import Death, RunOf, Story, Told, play

BEGINS = CLOCK_CHANGES["Berlin 2026-03"].begins

#: An hour at 30 a minute, with a kill and another start in it.
MINUTES = Story(
    name="minutes", begins=BEGINS, days=0.04, told=((0.0, Told(rpm=30)),), runs=(RunOf(0.0, 2_000),),
    deaths=(Death(2_600.0, "kill", 2.0),),
)  # fmt: skip


@pytest.mark.parametrize("name", [*CLOCK_CHANGES, *LEAPS])
def test_day_is_exact_where_clocks_change(tmp_path: Path, name: str) -> None:
    """Days of 23, 23.5, 24.5 and 25 hours, and a leap day, see exactly their N, no more by the server's clock."""
    verdict = judge(play({**CLOCK_CHANGES, **LEAPS}[name], tmp_path))
    assert verdict.problems == []
    assert list(verdict.days.values()) == [100, 100]


#: Played with every change; the others are alike, and take some seconds each.
_SOON = ("sliding, no hints", "fixed, hints", "bucket, hints")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in _SOON else [pytest.mark.slow]) for name in LOWER],
)
def test_server_that_allows_less_than_told_is_lived_with(tmp_path: Path, name: str) -> None:
    """Nothing fails, hints are kept to, and most of what the server does allow is used."""
    played = play(replace(LOWER[name], days=0.012), tmp_path)
    verdict = judge(played)
    assert verdict.problems == []
    assert verdict.refused > 0
    assert played.n_completed > 0.5 * 40 * 0.012 * 1440


@pytest.mark.parametrize("name", NAMED)
def test_limits_hold_over_changes_and_restarts(tmp_path: Path, name: str) -> None:
    """No window and no day is passed, and what is allowed is used, whatever changes on the way."""
    verdict = judge(play(NAMED[name], tmp_path))
    assert verdict.problems == []
    assert verdict.fullest == 1.0


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if "kills" in name else [pytest.mark.slow]) for name in TOKENS],
)
def test_token_limits_hold_and_are_used(tmp_path: Path, name: str) -> None:
    """No minute holds more tokens than the limit by the server's count, over kills and changes; few are wasted."""
    verdict = judge(play(TOKENS[name], tmp_path))
    assert verdict.problems == []
    assert verdict.tokens_used is not None


@pytest.mark.slow
def test_neither_small_requests_starve_nor_large_ones(tmp_path: Path) -> None:
    """Of two runs, one of the smallest and one of the largest requests, each gets near half the tokens."""
    played = play(TOKENS["tokens, small beside large"], tmp_path)
    tokens = Counter[str]()
    for seen in played.log:
        tokens[seen.run] += seen.tokens
    small, large = tokens["1"], tokens["2"]
    assert min(small, large) >= 0.4 * (small + large)
    at = [seen.t for seen in played.log if seen.run == "2"]
    assert max(later - earlier for earlier, later in pairwise(at)) <= 130.0


@pytest.mark.parametrize("seed", range(2))
def test_any_story_keeps_its_limits(tmp_path: Path, seed: int) -> None:
    """Some hours of any limits, deaths, runs and servers."""
    assert judge(play(random_story(seed, 0.25), tmp_path)).problems == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(100, 110))
def test_any_days_keep_their_limits(tmp_path: Path, seed: int) -> None:
    """The same over three days each."""
    assert judge(play(random_story(seed, 3.0), tmp_path)).problems == []


def test_seed_gives_the_same_story_again(tmp_path: Path) -> None:
    """What is found can be looked at again: the same sends at the same instants."""
    story = replace(
        MINUTES, weather=Weather(refused=0.02, hinted=0.5, stalls=0.02),
        deaths=(Death(400.0, "kill", 3.0), Death(700.0, "stop", 30.0)), days=0.012,
    )  # fmt: skip
    logs = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        logs.append(play(story, tmp_path / name).log)
    assert logs[0] == logs[1]
    assert play(replace(story, seed=1), tmp_path).log != logs[0]


def test_minutes_limit_is_used(tmp_path: Path) -> None:
    """The story that the broken planners below are given is kept to, and used, by the right one."""
    verdict = judge(play(MINUTES, tmp_path))
    assert verdict.problems == []
    assert verdict.used is not None
    assert verdict.used > BAR
    assert verdict.stretch_s > 1_200


# --- planners that are wrong, each of which the judge must find out

Break = Callable[[pytest.MonkeyPatch], None]


def _book(times: Callable[[int], int]) -> Break:
    """Have the n-th send booked so often."""

    def broken(monkeypatch: pytest.MonkeyPatch) -> None:
        right, n = ScopeLedger.book, 0

        def book(self: ScopeLedger, *args: Any, **more: Any) -> None:
            nonlocal n
            n += 1
            paced = self.next_send_at
            for _ in range(times(n)):
                right(self, *args, **more)
            if times(n) == 0:
                self.next_send_at = paced

        monkeypatch.setattr(ScopeLedger, "book", book)

    return broken


def _usage_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scopes, "load_usage", lambda *_, **__: [])


def _day_off_by(hours: float) -> Break:
    def broken(monkeypatch: pytest.MonkeyPatch) -> None:
        right_start, right_end = day_start, next_reset
        by = hours * 3_600_000
        monkeypatch.setattr(slots, "day_start", lambda t, zone: right_start(t - by, zone) + by)
        monkeypatch.setattr(slots, "next_reset", lambda t, zone: right_end(t - by, zone) + by)

    return broken


def _days_without_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Central Europe an hour ahead of UTC all year."""
    hour, day = 3_600_000, int(DAY) * 1000
    monkeypatch.setattr(slots, "day_start", lambda t, _: int((t + hour) // day * day - hour))
    monkeypatch.setattr(slots, "next_reset", lambda t, _: int((t + hour) // day * day - hour + day))


def _pauses_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchrunner.core.scope.remaining_ms", lambda *_, **__: 0.0)
    monkeypatch.setattr(gate, "remaining_ms", lambda *_, **__: 0.0)


def _all_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take turns whatever the priority."""
    right = planning.Planner.plan

    def plan(self: planning.Planner, runs: Any, now: float, wall: float) -> Any:
        kept = [(run, run.priority) for run in runs]
        for run in runs:
            run.priority = 0
        try:
            return right(self, runs, now, wall)
        finally:
            for run, priority in kept:
                run.priority = priority

    monkeypatch.setattr(planning.Planner, "plan", plan)


def _changes_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = ScopeLedger.set_caps

    def set_caps(self: ScopeLedger, caps: Any, *more: Any) -> None:
        if not self.limits:
            right(self, caps, *more)

    monkeypatch.setattr(ScopeLedger, "set_caps", set_caps)


def _tokens_by_half(monkeypatch: pytest.MonkeyPatch) -> None:
    right = TokenUse.book

    def book(self: TokenUse, minute: int, day: int, charge: Charge, sign: int = 1) -> None:
        right(self, minute, day, Charge(charge.input // 2, charge.output), sign)

    monkeypatch.setattr(TokenUse, "book", book)


def _tokens_not_corrected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reserve with a lot of air, and give nothing of it back."""
    monkeypatch.setattr(Ledger, "correct", lambda *_: None)
    monkeypatch.setattr(
        token_estimates, "reservation", lambda estimated, *_: Charge(2 * estimated.input, 9)
    )


_TWO_RUNS = replace(MINUTES, runs=(RunOf(0.0, 2_000), RunOf(60.0, 1_000, 5)), deaths=())
_LOWERED = replace(MINUTES, told=((0.0, Told(rpm=30)), (1_000.0, Told(rpm=10))), deaths=())
_REFUSED = replace(MINUTES, weather=Weather(refused=0.02), deaths=())
_SPRING, _AUTUMN = CLOCK_CHANGES["Berlin 2026-03"], CLOCK_CHANGES["Berlin 2026-10"]

BROKEN = {
    "one send in 20 not booked": (_book(lambda n: int(n % 40 not in (0, 1))), MINUTES, "over"),
    "sends booked twice": (_book(lambda n: 2), MINUTES, "used"),
    "usage forgotten at a restart": (_usage_forgotten, replace(MINUTES, told=((0.0, Told(rpm=30, rpd=900)),)), "over"),
    "a change of limits unseen": (_changes_unseen, _LOWERED, "over"),
    "a day an hour late": (_day_off_by(1.0), _SPRING, "used"),
    "a day an hour early": (_day_off_by(-1.0), _SPRING, "over"),
    "no summer time": (_days_without_changes, _SPRING, "used"),
    "no winter time": (_days_without_changes, _AUTUMN, "used"),
    "pauses forgotten": (_pauses_forgotten, _REFUSED, "hint"),
    "priority ignored": (_all_equal, _TWO_RUNS, "priority"),
    "half of the tokens not booked": (_tokens_by_half, TOKENS["tokens, all sizes, kills"], "tokens"),
    "what was reserved is never given back": (_tokens_not_corrected, TOKENS["tokens, equal"], "tokens"),
}  # fmt: skip


#: That the judge can fail is tried in every run; all the ways to, in the slow ones.
QUICK = "priority ignored"


@pytest.mark.parametrize(
    ("broken", "story", "found"),
    [
        pytest.param(*how, id=name, marks=[] if name == QUICK else pytest.mark.slow)
        for name, how in BROKEN.items()
    ],
)
def test_planner_that_is_wrong_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Break, story: Story, found: str
) -> None:
    """The judge can fail."""
    broken(monkeypatch)
    problems = judge(play(story, tmp_path)).problems
    assert any(problem.startswith(found) for problem in problems), problems
