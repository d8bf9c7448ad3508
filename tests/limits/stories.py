"""Stories to play: each change of the clocks, each way in which limits change, and any, by seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final, Literal
from zoneinfo import ZoneInfo

from tests.limits.provider import Bucket, DayCap, Fixed, Sliding, Weather, Window
from tests.limits.world import Death, RunOf, Story, Told

__all__ = ["CLOCK_CHANGES", "LEAPS", "LOWER", "NAMED", "TOKENS", "random_story"]

HOUR: Final = 3_600.0
DAY: Final = 86_400.0
ZONES: Final = ("America/Los_Angeles", "Europe/Berlin", "Australia/Lord_Howe")
#: The days on which the clocks of the zones change: by an hour, on Lord Howe by half of one.
_CHANGES: Final = {
    "America/Los_Angeles": ((2026, 3, 8), (2026, 11, 1)),
    "Europe/Berlin": ((2026, 3, 29), (2026, 10, 25)),
    "Australia/Lord_Howe": ((2026, 4, 5), (2026, 10, 4)),
}


def _noon_before(year: int, month: int, day: int, zone: str) -> float:
    """Return noon of the day before, in the zone."""
    noon = datetime(year, month, day, 12, tzinfo=ZoneInfo(zone))
    return (noon - timedelta(days=1)).timestamp()


def _over(name: str, date: tuple[int, int, int], zone: str, skew: float) -> Story:
    """Return three days around a date, of 100 requests each."""
    return Story(
        name=name,
        begins=_noon_before(*date, zone),
        days=3.0,
        told=((0.0, Told(rpm=60, rpd=100, zone=zone)),),
        runs=(RunOf(0.0, 1_000),),
        skew=skew,
        look_s=60.0,
    )


#: Our calendar and the provider's differ by up to 2 s, either way.
CLOCK_CHANGES: Final[Mapping[str, Story]] = {
    name: _over(name, date, zone, skew)
    for zone in ZONES
    for date, season, skew in zip(_CHANGES[zone], ("spring", "autumn"), (2_000.0, -2_000.0), strict=True)
    for name in (f"{zone.rpartition('/')[2]} {date[0]}-{date[1]:02}",)
}  # fmt: skip

LEAPS: Final[Mapping[str, Story]] = {
    "29 February 2028": _over("29 February 2028", (2028, 2, 29), "Europe/Berlin", 900.0),
    "no 29 February 2100": _over("no 29 February 2100", (2100, 2, 28), "America/Los_Angeles", -900.0),
}  # fmt: skip

_BEGINS: Final = datetime(2026, 6, 10, 9, 0, 0, tzinfo=ZoneInfo("UTC")).timestamp()


def _lower(name: str, windows: Callable[[], tuple[Window, ...]], *, hinted: float) -> Story:
    """Return a server that keeps 40 a minute where 60 was told."""
    return Story(
        name=name,
        begins=_BEGINS,
        days=0.06,
        told=((0.0, Told(rpm=60)),),
        runs=(RunOf(0.0, 6_000),),
        windows=windows,
        weather=Weather(hinted=hinted),
    )


def _server(window: Callable[..., Window], n: int) -> tuple[Window, ...]:
    return (window(n),)


#: The server's own limit is lower than what it was said to be.
LOWER: Final[Mapping[str, Story]] = {
    name: _lower(name, partial(_server, window, 40), hinted=hinted)
    for window in (Sliding, Fixed, Bucket)
    for hinted in (1.0, 0.0)
    for name in (f"{window.__name__.lower()}, {'hints' if hinted else 'no hints'}",)
}


def _plain_day() -> tuple[Window, ...]:
    return (DayCap(60, "America/Los_Angeles"),)


#: A free plan that is upgraded in the middle, and taken back.
_PLANS: Final = (
    (0.0, Told(rpm=3, rpd=100, zone="America/Los_Angeles", interval_s=0.5)),
    (6.0 * HOUR, Told(rpm=3, zone="America/Los_Angeles")),
    (8.0 * HOUR, Told(rpm=30, rpd=500, zone="America/Los_Angeles")),
    (8.1 * HOUR, Told(rpm=10, rpd=500, zone="America/Los_Angeles")),
    (22.0 * HOUR, Told(rpm=10, rpd=150, zone="America/Los_Angeles")),
)
NAMED: Final[Mapping[str, Story]] = {
    story.name: story
    for story in (
        Story(
            name="plans change", begins=_BEGINS, days=2.5, told=_PLANS, runs=(RunOf(0.0, 6_000),),
            look_s=30.0,
        ),
        Story(
            name="zones change", begins=_BEGINS, days=4.5,
            told=(
                (0.0, Told(rpm=60, rpd=100, zone="America/Los_Angeles")),
                (1.2 * DAY, Told(rpm=60, rpd=100, zone="Australia/Lord_Howe")),
                (1.9 * DAY, Told(rpm=60, rpd=100, zone="rolling")),
                (3.1 * DAY, Told(rpm=60, rpd=120, zone="Europe/Berlin")),
            ),
            runs=(RunOf(0.0, 1_000),), look_s=60.0,
        ),
        Story(
            name="rolling day", begins=_BEGINS, days=3.5,
            told=((0.0, Told(rpm=20, rpd=150, zone="rolling")),), runs=(RunOf(0.0, 2_000),),
            deaths=(Death(0.4 * DAY, "stop", 600.0), Death(1.01 * DAY, "stop", 60.0)), look_s=60.0,
        ),
        Story(
            name="plain 429 for a day", begins=_BEGINS, days=3.0,
            told=((0.0, Told(rpm=60, rpd=100, zone="America/Los_Angeles")),),
            runs=(RunOf(0.0, 1_000),), windows=_plain_day, weather=Weather(hinted=0.0), look_s=60.0,
        ),
        Story(
            name="limit is learned",
            begins=_BEGINS,
            days=0.022, told=((0.0, Told(rpm=40, learned=True)),),
            runs=(RunOf(0.0, 2_000),), windows=partial(_server, Sliding, 40), weather=Weather(named=40),
            deaths=(Death(700.0, "kill", 2.0), Death(1_500.0, "stop", 20.0)),
        ),
        *(
            Story(
                name=f"clock set {word}", begins=_BEGINS, days=0.03, told=((0.0, Told(rpm=3)),),
                runs=(RunOf(0.0, 500),), skew=skew, steps=((600.0, 0.0),), look_s=1.0,
                deaths=tuple(
                    Death(700.0 + 151.0 * n, "kill" if n % 2 else "stop", 1.0) for n in range(10)
                ),
            )
            for word, skew in (("forward", -HOUR * 1_000), ("back", HOUR * 1_000))
        ),
        Story(
            name="runs and deaths", begins=_BEGINS, days=0.11,
            told=((0.0, Told(rpm=20)), (0.9 * HOUR, Told(rpm=40)), (1.8 * HOUR, Told(rpm=10))),
            runs=(
                RunOf(0.0, 2_000, 0, ("claude-a", "claude-b")), RunOf(900.0, 400, 5),
                RunOf(1_000.0, 2_000, 0, ("claude-b", "claude-c")),
            ),
            deaths=(
                Death(600.0, "kill", 5.0), Death(2_100.0, "stop", 30.0, only_holder=True),
                Death(2_400.0, "kill", 2.0, only_holder=True), Death(4_000.0, "sleep", 900.0),
                Death(6_200.0, "stop", 600.0), Death(8_000.0, "kill", 1.0),
            ),
            weather=Weather(refused=0.002, hinted=0.5), look_s=10.0,
        ),
    )
}  # fmt: skip


#: Requests of a hundred words, of all sizes, and of two runs with the smallest and the largest.
_EQUAL: Final = RunOf(0.0, 6_000, words=(100,))
_ALL_SIZES: Final = RunOf(0.0, 6_000, words=(20, 60, 150, 400, 1_500))
_SMALL, _LARGE = RunOf(0.0, 20_000, words=(40,)), RunOf(30.0, 3_000, words=(1_500,))
#: Stories of input tokens a minute: stretches, deaths, and a change of the limit.
TOKENS: Final[Mapping[str, Story]] = {
    name: Story(
        name=name, begins=_BEGINS, days=0.05, told=told, runs=runs, deaths=deaths, look_s=1.0
    )
    for name, told, runs, deaths in (
        ("tokens, equal", ((0.0, Told(itpm=6_000)),), (_EQUAL,), ()),
        (
            "tokens, all sizes, kills", ((0.0, Told(itpm=12_000)),), (_ALL_SIZES,),
            (Death(1_000.0, "kill", 3.0), Death(1_400.0, "stop", 5.0), Death(1_900.0, "kill", 40.0)),
        ),
        (
            "tokens, lowered and raised",
            ((0.0, Told(itpm=12_000)), (1_300.0, Told(itpm=4_000)), (2_700.0, Told(itpm=20_000))),
            (_ALL_SIZES,), (),
        ),
        ("tokens, small beside large", ((0.0, Told(itpm=12_000)),), (_SMALL, _LARGE), ()),
        ("tokens and requests", ((0.0, Told(itpm=12_000, rpm=40)),), (_ALL_SIZES,), ()),
    )
}  # fmt: skip

_HOW: Final[tuple[Literal["stop", "kill", "sleep"], ...]] = ("stop", "kill", "kill", "sleep")


def random_story(seed: int, days: float) -> Story:
    """Return any story: the same for the same seed."""
    rand = random.Random(f"story {seed}")
    begins = datetime(
        rand.choice((2026, 2028)), rand.randint(1, 12), rand.randint(1, 28), rand.randint(0, 23),
        rand.randint(0, 59), tzinfo=ZoneInfo("UTC"),
    )  # fmt: skip
    if rand.random() < 0.4:
        zone = rand.choice(ZONES)
        begins = datetime.fromtimestamp(
            _noon_before(*rand.choice(_CHANGES[zone]), zone), begins.tzinfo
        )
    length = days * DAY
    told = [(0.0, _any_limits(rand))]
    for at in sorted(rand.uniform(0.0, length) for _ in range(rand.randint(0, 4))):
        told.append((at, _any_limits(rand)))
    deaths: list[Death] = []
    at = 0.0
    often = rand.choice((0.5, 4.0, 12.0)) * HOUR
    while (at := at + rand.expovariate(1 / often) + 30.0) < length and len(deaths) < 60:
        how = rand.choice(_HOW)
        gap = rand.choice((1.0, 5.0, 60.0, 600.0, 4 * HOUR)) * rand.uniform(0.5, 1.5)
        deaths.append(Death(at, how, gap, only_holder=rand.random() < 0.3))
        at += gap
    models = ("claude-a", "claude-b", "claude-c")
    runs = [RunOf(0.0, 40_000, 0, models[: rand.randint(1, 3)])]
    for _ in range(rand.randint(0, 3)):
        runs.append(
            RunOf(
                rand.uniform(60.0, length),
                rand.randint(1, 2_000),
                rand.choice((0, 0, 5)),
                models[:1],
            )
        )
    own: Callable[[], tuple[Window, ...]] = tuple
    if rand.random() < 0.25:
        window = rand.choice((Sliding, Fixed, Bucket))
        own = partial(_server, window, rand.choice((2, 8, 40)))
    return replace(
        Story(
            name="any", begins=begins.timestamp(), days=days, told=tuple(told), runs=tuple(runs),
            deaths=tuple(deaths), windows=own, skew=rand.uniform(-2_000.0, 2_000.0),
            weather=Weather(
                refused=rand.choice((0.0, 0.0, 0.0005, 0.01)), hinted=rand.choice((0.0, 0.5, 1.0))
            ),
            look_s=rand.choice((10.0, 30.0)),
        ),
        seed=seed,
    )  # fmt: skip


def _any_limits(rand: random.Random) -> Told:
    """Return limits that a day of can be played in seconds."""
    zone = rand.choice((*ZONES, "UTC", "rolling"))
    interval_s = rand.choice((0.0, 0.0, 0.0, 0.5, 7.0))
    rpm = rand.choice((1, 3, 10, 60, 240, None))
    rpd: int | None = rand.choice((1, 40, 500, 1_500))
    if rpm is not None and rpm <= 10 and rand.random() < 0.5:
        rpd = None
    return Told(rpm=rpm, rpd=rpd, zone=zone, interval_s=interval_s)
