"""Death at the named points with the database on a server, of one process and of workers beside others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.loop import play
from tests.crash.random_kill import SITUATIONS, play_round
from tests.crash.stories import STORIES
from tests.fakes.postgres_server import PostgresServer

#: Each needs another repair; the others are played with the long ones.
QUICK = [("drain", "claim.committed:2"), ("beside", "end.committed:1")]
EVERY = [
    (name, f"{point}:1")
    for name, story in STORIES.items()
    if "server" in story.on
    for point in story.points_on("server")
]


@pytest.mark.parametrize(("story", "point"), QUICK)
def test_death_at_a_point(tmp_path: Path, server: PostgresServer, story: str, point: str) -> None:
    """After a death every job is answered once, and the provider's log agrees with the send log."""
    verdict = play(story, point, tmp_path, on=server)
    assert verdict.problems == []
    assert verdict.died


@pytest.mark.slow
@pytest.mark.parametrize(("story", "point"), EVERY)
def test_death_at_every_point(
    tmp_path: Path, server: PostgresServer, story: str, point: str
) -> None:
    """No point is an exception, for one process and for workers."""
    verdict = play(story, point, tmp_path, on=server)
    assert verdict.problems == []
    assert verdict.died


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("situation", [name for name, told in SITUATIONS.items() if not told.chore])
def test_deaths_at_random(tmp_path: Path, server: PostgresServer, situation: str) -> None:
    """At any time, process or group, submitting, sending, pausing or waiting, nothing is lost."""
    assert play_round(situation, 11, tmp_path, on=server) == []
