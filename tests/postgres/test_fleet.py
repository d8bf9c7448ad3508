"""Limits over many workers, judged by the provider's own clock and the rows of the database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.postgres_server import PostgresServer
from tests.integration.house import until
from tests.limits.counting_server import Seen, counting_server
from tests.limits.fleet import Fleet, Happened, Troubles
from tests.limits.fleet_judge import Limits, Verdict, judge
from tests.limits.workers import play


@pytest.fixture
def fleet(tmp_path: Path, server: PostgresServer) -> Iterator[Fleet]:
    """A queue without workers."""
    with counting_server(tmp_path) as api:
        made = Fleet.on(tmp_path, api, server)
        yield made
        made.house.clear_up()
        server.execute("DROP SCHEMA fleet CASCADE")


def test_a_days_requests_are_those_of_all(fleet: Fleet) -> None:
    """Three workers that could send ten times as much send exactly a day's requests together."""
    fleet.submit(400, "--rpm", "none", "--rpd", "60", "--day-resets", "rolling", "-c", "16")
    fleet.start(3)
    until(lambda: fleet.n_left() == 340, "a day's requests are answered")
    fleet.work(1.0)
    verdict = judge(fleet, Limits(rpd=60))
    assert verdict.problems == []
    assert verdict.n_seen == 60


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("n_workers", [2, 4, 8])
@pytest.mark.parametrize("story", ["rpm", "itpm", "both"])
def test_no_minute_is_passed_and_few_are_wasted(tmp_path: Path, story: str, n_workers: int) -> None:
    """Two minutes at limits that all share: of requests, of tokens, of both."""
    verdict, _ = play(story, n_workers, 130.0, tmp_path)
    assert verdict.problems == []
    assert verdict.minutes == 2


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", range(2))
def test_limits_hold_while_workers_die(tmp_path: Path, seed: int) -> None:
    """Killed, stopped, frozen past their lease and started again, they pass no limit and lose nothing."""
    verdict, fleet = play("rpm", 4, 150.0, tmp_path, Troubles(seed, 8.0))
    assert verdict.problems == []
    assert {one.act for one in fleet.happened} > {"start", "kill", "stop"}


# --- the judge can fail


class _Told:
    """A fleet of which all is made up."""

    problems: tuple[str, ...] = ()

    def __init__(self, seen: list[Seen], rows: list[tuple[object, ...]], *acts: Happened) -> None:
        self.happened = acts
        self.api = self.server = self
        self.seen = lambda: seen
        self.execute = lambda _: rows


def _judged(
    seen: list[Seen], limits: Limits, *acts: Happened, rows: list[tuple[object, ...]] | None = None
) -> Verdict:
    if rows is None:
        rows = [(one.key, 1, 0, 1, 1, "completed") for one in seen]
    return judge(_Told(seen, rows, *acts), limits)  # type: ignore[arg-type]


def _paced(n: int, every_s: float, tokens: int = 10) -> list[Seen]:
    return [Seen(i * every_s, 1_795_000_000.0 + i * every_s, f"k{i}", tokens) for i in range(n)]


_ONE = [Seen(0.0, 0.0, "k0", 1)]
_TWICE = [Seen(0.0, 0.0, "k0", 1), Seen(1.0, 1.0, "k0", 1)]


@pytest.mark.parametrize(
    ("seen", "limits", "rows", "found"),
    [
        pytest.param(_paced(200, 0.98), Limits(rpm=60), None, "over: 62 requests", id="a minute"),
        pytest.param(_paced(130, 1.0), Limits(itpm=599), None, "over: 600 tokens", id="tokens"),
        pytest.param(_paced(9, 1.0), Limits(rpd=8), None, "over: 9 in a rolling day", id="a day"),
        pytest.param(_paced(9, 1.0), Limits(rpd=8, zone="UTC"), None, "over: 9 on", id="a date"),
        pytest.param(_paced(200, 1.05), Limits(rpm=60), None, "used: 0.9", id="waste"),
        pytest.param(_paced(200, 1.05), Limits(itpm=600), None, "used: 0.9", id="waste of tokens"),
        pytest.param(
            _TWICE, Limits(), [("k0", 1, 0, 1, 1, "completed")], "once: k0 arrived 2", id="no row"
        ),
        pytest.param(
            _TWICE, Limits(), [("k0", 2, 0, 1, 1, "completed")], "once: k0 arrived 2", id="unmarked"
        ),
        pytest.param(
            _ONE, Limits(), [("k0", 2, 0, 2, 2, "completed")], "once: k0 is", id="stored twice"
        ),
        pytest.param(
            _ONE, Limits(), [("k0", 1, 0, 0, 1, "completed")], "once: k0 is", id="by none"
        ),
    ],
)
def test_the_judge_finds_what_is_wrong(
    seen: list[Seen], limits: Limits, rows: list[tuple[object, ...]] | None, found: str
) -> None:
    """Each rule is broken once, and only that one is told."""
    (problem,) = _judged(seen, limits, rows=rows).problems
    assert problem.startswith(found)


def test_what_a_death_wastes_is_allowed_for() -> None:
    """A second's permissions of a worker that was killed are no waste of those that live."""
    seen = _paced(200, 1.04)
    assert _judged(seen, Limits(rpm=60)).problems != []
    acts = (Happened(1.0, "kill"), Happened(2.0, "kill"))
    assert _judged(seen, Limits(rpm=60), *acts).problems == []
