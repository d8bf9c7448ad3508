"""Clocks that jump and machines that sleep in mid-run: no window is passed, and no day counted twice."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.crash.judge import Judge
from tests.crash.scene import Scene, ended
from tests.fakes import ApiServer, running_server
from tests.faults.conftest import MakeScene
from tests.integration.house import until

#: Minutes of waiting: not a part of every run.
pytestmark = pytest.mark.slow

HOUR = 3_600.0
DAY = 24 * HOUR


class WallClock:
    """The wall clock of the processes of a scene, which can be set while they run."""

    def __init__(self, scene: Scene) -> None:
        """Take it over; it goes right at first."""
        self._path = scene.folder / "clock"
        self._write(0.0)
        rig = {"clock": str(self._path)}
        scene.program = ("-m", "tests.faults.rigged", json.dumps(rig))

    def _write(self, error_s: float) -> None:
        # Whoever reads meets the old one or the new one.
        new = self._path.with_suffix(".new")
        new.write_text(repr(error_s))
        new.replace(self._path)

    def jump(self, seconds: float) -> None:
        """Have it wrong by so much from now on."""
        self._write(seconds)

    def set(self, instant: str) -> None:
        """Set it to an instant, from where it goes on."""
        there = datetime.fromisoformat(instant).replace(tzinfo=UTC).timestamp()
        self._write(there - time.time())


def most_within(scene: Scene, seconds: float) -> int:
    """Return the most requests that came within so many seconds, by the server's steady clock."""
    times = sorted(seen.mono for seen in scene.requests())
    return max(sum(start <= at < start + seconds for at in times) for start in times)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(HOUR, id="+1h", marks=pytest.mark.slow),
        pytest.param(-HOUR, id="-1h"),
        pytest.param(DAY, id="+1d"),
        pytest.param(-DAY, id="-1d", marks=pytest.mark.slow),
    ],
)
def test_a_jump_of_the_clock_does_not_touch_a_minutes_limit(
    make_scene: MakeScene, error: float
) -> None:
    """A limit a minute is paced by a clock that never steps: no burst, no stop, each sent once."""
    scene = make_scene(n_jobs=40, options=["--rpm", "600"])
    clock = WallClock(scene)
    process = scene.start(*scene.submit_words())
    until(lambda: len(scene.requests()) >= 12, "a dozen requests")
    jumped = time.monotonic()
    clock.jump(error)
    done = ended(process)
    assert done.code == 0, done.err
    # Ten a second, and what the network may add.
    assert most_within(scene, 1.0) <= 12
    assert max(seen.mono for seen in scene.requests()) - jumped < 15.0
    assert set(scene.arrivals().values()) == {1}
    # A wall clock that was set back may have put ends before beginnings; nothing else is wrong.
    clock.jump(0.0)
    assert Judge(scene, stepped_ms=error * 1000.0).judge() == []


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(HOUR, id="+1h", marks=pytest.mark.slow),
        pytest.param(-HOUR, id="-1h", marks=pytest.mark.slow),
        pytest.param(-DAY, id="-1d"),
    ],
)
def test_a_jump_of_the_clock_gives_no_second_day(make_scene: MakeScene, error: float) -> None:
    """Any 24 hours hold what was allowed, whichever way the clock was set meanwhile."""
    scene = make_scene(
        n_jobs=14, options=["--rpd", "8", "--day-resets", "rolling", "--min-interval", "0.1"]
    )
    clock = WallClock(scene)
    process = scene.start(*scene.submit_words("--max-wait", "2s"))
    until(lambda: len(scene.requests()) >= 3, "three requests")
    clock.jump(error)
    done = ended(process)
    assert done.code == 3, done.err
    assert len(scene.requests()) == 8
    again = scene.run("resume", "--max-wait", "2s")
    assert again.code == 3, again.err
    assert len(scene.requests()) == 8


@pytest.mark.parametrize(
    ("begins", "jumps"),
    [
        # Autumn: 25 hours. Twice half past two, and the day goes on after 24 of them.
        ("2026-10-25T00:29:50", ["2026-10-25T01:30:00", "2026-10-25T22:30:00"]),
        # Spring: 23 hours.
        ("2027-03-28T00:59:50", ["2027-03-28T01:00:10", "2027-03-28T21:50:00"]),
    ],
    ids=["autumn", "spring"],
)
def test_a_day_of_another_length_is_one_day(
    make_scene: MakeScene, begins: str, jumps: Sequence[str]
) -> None:
    """Over both ends of summer time a day has its allowance once, and the next begins at midnight."""
    scene = make_scene(n_jobs=12, options=["--rpd", "6", "--day-resets", "Europe/Berlin"])
    clock = WallClock(scene)
    clock.set(begins)
    process = scene.start(*scene.submit_words())
    for jump in jumps:
        until(lambda: len(scene.requests()) >= 6, "the day's six requests")
        clock.set(jump)
        with pytest.raises(TimeoutError):
            _more_than(scene, 6, seconds=1.5)
        assert process.poll() is None, "it waits for the day's end"
    midnight = "2026-10-25T23:00:10" if "10-25" in begins else "2027-03-28T22:00:10"
    clock.set(midnight)
    done = ended(process)
    assert done.code == 0, done.err
    assert set(scene.arrivals().values()) == {1}


def _more_than(scene: Scene, n: int, *, seconds: float) -> None:
    """Wait until more requests than that came; ``TimeoutError`` where none did."""
    ends = time.monotonic() + seconds
    while len(scene.requests()) <= n:
        if time.monotonic() > ends:
            raise TimeoutError
        time.sleep(0.05)


def _asleep(scene: Scene, seconds: float, *more: str, after: int = 12) -> None:
    """Stop the process in mid-run for so long, with requests in flight, and let it go on to its end."""
    process = scene.start(*scene.submit_words(*more))
    until(lambda: len(scene.requests()) >= after, f"{after} requests", seconds=90)
    os.killpg(process.pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.killpg(process.pid, signal.SIGCONT)
    done = ended(process, 400.0)
    assert done.code == 0, done.err


@pytest.fixture(scope="module")
def slow() -> Iterator[ApiServer]:
    """A provider that takes half a second, so that some requests are always in flight."""
    with running_server(latency_s=0.5, latency_sigma=0.0) as server:
        yield server


def test_a_machine_that_sleeps_wakes_without_a_burst(
    make_scene: MakeScene, slow: ApiServer
) -> None:
    """After three seconds of sleep the pace is what it was, and what was answered meanwhile is stored."""
    scene = make_scene(api=slow, n_jobs=60, concurrency=16, options=["--rpm", "600"])
    _asleep(scene, 3.0)
    # Ten a second, the half second that real sends may run ahead after a stall, and the network.
    assert most_within(scene, 1.0) <= 16
    assert set(scene.arrivals().values()) == {1}
    assert Judge(scene).judge() == []


def test_a_sleep_longer_than_the_timeout_marks_what_it_cut(
    make_scene: MakeScene, slow: ApiServer
) -> None:
    """Requests whose time ran out asleep are answered all the same or marked as possibly sent."""
    scene = make_scene(api=slow, n_jobs=40, concurrency=8, options=["--rpm", "none"])
    _asleep(scene, 3.0, "--timeout", "2", after=16)
    assert Judge(scene).judge() == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seconds", [70.0, 180.0], ids=["70s", "3min"])
def test_a_machine_that_sleeps_for_minutes_passes_no_window(
    make_scene: MakeScene, slow: ApiServer, tmp_path: Path, seconds: float
) -> None:
    """With 30 requests a minute no minute has more, and no two are closer than the pace, after a long sleep too."""
    scene = make_scene(
        api=slow, n_jobs=75, concurrency=8, options=["--rpm", "30"], limits=[(30, 60.0)]
    )
    _asleep(scene, seconds, after=20)
    assert set(scene.arrivals().values()) == {1}
    assert Judge(scene).judge() == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("error", [HOUR, -HOUR, DAY, -DAY], ids=["+1h", "-1h", "+1d", "-1d"])
def test_a_jump_of_the_clock_passes_no_window(make_scene: MakeScene, error: float) -> None:
    """Over full minutes: 60 a minute stay 60, with a restart after the jump as well."""
    scene = make_scene(n_jobs=150, options=["--rpm", "60"], limits=[(60, 60.0)])
    clock = WallClock(scene)
    process = scene.start(*scene.submit_words())
    until(lambda: len(scene.requests()) >= 40, "forty requests", seconds=90)
    clock.jump(error)
    until(lambda: len(scene.requests()) >= 80, "eighty requests", seconds=120)
    process.send_signal(signal.SIGINT)
    assert ended(process).code == 130
    done = ended(scene.start("resume"), 400.0)
    assert done.code == 0, done.err
    clock.jump(0.0)
    assert Judge(scene, stepped_ms=None).judge() == []
