"""Death at the named points: what was stored stays, what is sent again is bounded and marked.

The quick ones here run always; every point with every n is ``pytest -m slow tests/crash`` or
``python -m tests.crash.loop``.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import batchrunner
from batchrunner import failpoints
from tests.crash.loop import play
from tests.crash.random_kill import SITUATIONS, play_round
from tests.crash.scene import environment
from tests.crash.stories import STORIES

#: The deaths that need the most different repairs.
QUICK = [
    ("drain", "create.migrated:1"),
    ("drain", "claim.committed:2"),
    ("drain", "send.answered:3"),
    ("drain", "settle.inside:2"),
    ("drain", "close.before:1"),
    ("drain", "export.renamed:1"),
    ("daily", "claim.committed:2"),
    ("tokens", "claim.committed:2"),
    ("rescue", "rescue.inside:1"),
    ("copy", "copy.marked:1"),
    ("upgrade", "upgrade.copied:1"),
    ("upgrade", "upgrade.migrated:1"),
    ("prune", "prune.chunk:1"),
    ("prune", "prune.chunk:2"),
]
#: Passed once in a command, whatever its size.
ONCE = ("create.", "rescue.", "end.", "close.", "export.", "backup.", "upgrade.", "merge.finish",
        "copy.copied", "copy.marked", "prune.begun", "prune.taken", "prune.shrunk")  # fmt: skip
#: Passed once in that story: its one file is a chunk.
ONCE_IN = {"drain": ("submit.",)}
EVERY = [
    (story, f"{point}:{n}")
    for story, told in STORIES.items()
    if "file" in told.on
    for point in told.points
    for n in ((1,) if point.startswith((*ONCE, *ONCE_IN.get(story, ()))) else (1, 2))
]


def test_every_point_is_passed_by_the_program_and_by_a_story() -> None:
    """A point that an edit of the product dropped, or that no story visits, is noticed."""
    package = Path(batchrunner.__file__).parent
    sources = "".join(
        path.read_text() for path in package.rglob("*.py") if path.name != "failpoints.py"
    )
    used = set(re.findall(r'"([a-z]+\.[a-z]+)"', sources))
    assert set(failpoints.POINTS) - used == set()
    assert set(re.findall(r'\bhit\("([^"]+)"\)', sources)) <= set(failpoints.POINTS)
    told = {point for story in STORIES.values() for point in story.points}
    assert set(failpoints.POINTS) - told == set()


def test_points_are_nothing_unless_asked_for() -> None:
    """Without the variable a point is a function that does nothing."""
    assert failpoints.hit is failpoints._nothing


def test_process_dies_at_the_hit_that_was_named() -> None:
    """The n-th hit of the named point kills, as ``kill -9`` would; others don't count."""
    program = (
        "from batchrunner.failpoints import hit\n"
        "for n in range(9): hit('claim.inside'); hit('send.before'); print(n, flush=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(BATCHRUNNER_FAILPOINT="send.before:3"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "0\n1\n")


def test_unknown_point_is_refused() -> None:
    """A misspelt name does not pass for a crash test that never crashed."""
    with pytest.raises(ValueError, match="no point 'settle'"):
        failpoints._armed("settle:1")


@pytest.mark.parametrize(("story", "point"), QUICK)
def test_death_at_a_point(tmp_path: Path, story: str, point: str) -> None:
    """After a death every job is answered once, and the server's log agrees with the send log."""
    verdict = play(story, point, tmp_path)
    assert verdict.problems == []
    assert verdict.died


@pytest.mark.slow
def test_deaths_at_random_in_a_pause(tmp_path: Path) -> None:
    """A provider's pause outlives the process that was told of it."""
    assert play_round("pause", 4, tmp_path, deaths=2) == []


@pytest.mark.slow
@pytest.mark.parametrize(("story", "point"), EVERY)
def test_death_at_every_point(tmp_path: Path, story: str, point: str) -> None:
    """No point is an exception, the first time and the second."""
    verdict = play(story, point, tmp_path)
    assert verdict.problems == []
    assert verdict.died


@pytest.mark.slow
@pytest.mark.parametrize("point", STORIES["drain"].points)
def test_death_while_the_provider_is_faulty(tmp_path: Path, point: str) -> None:
    """With 429s, 529s, 500s and resets in between the same holds."""
    verdict = play("drain", f"{point}:1", tmp_path, server="faulty", seed=5)
    assert verdict.problems == []
    assert verdict.died


@pytest.mark.slow
@pytest.mark.parametrize("point", STORIES["drain"].points)
def test_death_while_bodies_are_compressed(tmp_path: Path, point: str) -> None:
    """What dictionaries are made of and when changes nothing: with enough answers for one of theirs."""
    verdict = play("drain", f"{point}:1", tmp_path, options=("--compress",), n_jobs=60)
    assert verdict.problems == []
    assert verdict.died


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_deaths_at_random(tmp_path: Path, situation: str) -> None:
    """At any time, process or group, submitting, sending, pausing or waiting, nothing is lost."""
    assert play_round(situation, 11, tmp_path) == []
