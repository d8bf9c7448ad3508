"""Which of several ways is taken, when it is left, and when it is taken again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrunner.core.nodes import (
    BAD_ANSWERS,
    FIRST_COOL_DOWN_MS,
    LONGEST_COOL_DOWN_MS,
    Nodes,
    Switch,
)
from batchrunner.models import JobId


def put_down(nodes: Nodes, index: int, now: float = 0.0) -> Switch | None:
    """Have a way fail as one that can't be reached."""
    return nodes.failed(index, JobId(1), now, at_once=True)


def test_the_first_is_preferred() -> None:
    """While all are up everybody takes the first."""
    nodes = Nodes(3)
    assert {nodes.choose(now) for now in range(100)} == {0}


def test_a_way_that_cannot_be_reached_is_left_at_once() -> None:
    """One refused connection moves everybody, and tells once."""
    nodes = Nodes(2)
    assert put_down(nodes, 0) == Switch(0, 1)
    assert nodes.choose(1.0) == 1
    assert put_down(nodes, 0, 1.0) is None, "what was in flight tells nothing new"


def test_one_poisonous_job_moves_nobody() -> None:
    """Bad answers move everybody only once several distinct jobs in a row met them."""
    nodes = Nodes(2)
    for _ in range(10):
        assert nodes.failed(0, JobId(7), 0.0, at_once=False) is None
    for job in range(1, BAD_ANSWERS - 1):
        assert nodes.failed(0, JobId(job), 0.0, at_once=False) is None
    assert nodes.failed(0, JobId(99), 0.0, at_once=False) == Switch(0, 1)


def test_a_success_in_between_begins_the_count_anew() -> None:
    """Bad answers count in a row only."""
    nodes = Nodes(2)
    for job in range(10):
        assert nodes.failed(0, JobId(job), 0.0, at_once=False) is None
        assert nodes.answered(0) is None
    assert nodes.choose(0.0) == 0


def test_one_request_tries_it_after_the_cool_down_and_brings_everybody_back() -> None:
    """After the cool-down exactly one goes to the preferred way; its success moves everybody back."""
    nodes = Nodes(2)
    put_down(nodes, 0)
    assert nodes.choose(FIRST_COOL_DOWN_MS - 1) == 1
    assert [nodes.choose(FIRST_COOL_DOWN_MS) for _ in range(3)] == [0, 1, 1]
    assert nodes.answered(0) == Switch(1, 0)
    assert nodes.choose(FIRST_COOL_DOWN_MS) == 0


def test_a_failed_try_doubles_the_cool_down() -> None:
    """Each try that fails is followed by twice the wait, to a bound."""
    nodes = Nodes(2)
    put_down(nodes, 0)
    now, waits = 0.0, []
    for _ in range(8):
        begun = now
        while nodes.choose(now) != 0:
            now += 500.0
        waits.append(now - begun)
        assert put_down(nodes, 0, now) is None
    assert waits[:3] == [FIRST_COOL_DOWN_MS, 2 * FIRST_COOL_DOWN_MS, 4 * FIRST_COOL_DOWN_MS]
    assert waits[-1] == LONGEST_COOL_DOWN_MS


def test_a_try_that_was_not_sent_lets_another_try() -> None:
    """A request called off before it went out does not keep the way untried for ever."""
    nodes = Nodes(2)
    put_down(nodes, 0)
    assert nodes.choose(FIRST_COOL_DOWN_MS) == 0
    nodes.unsent(0)
    assert nodes.choose(FIRST_COOL_DOWN_MS) == 0


def test_a_way_that_says_when_it_is_back_is_left_so_long() -> None:
    """A Retry-After longer than the cool-down is kept to, within the longest."""
    nodes = Nodes(2)
    nodes.failed(0, JobId(1), 0.0, at_once=True, until=60_000.0)
    assert nodes.choose(59_999.0) == 1
    assert nodes.choose(60_000.0) == 0
    nodes = Nodes(2)
    nodes.failed(0, JobId(1), 0.0, at_once=True, until=1e12)
    assert nodes.choose(LONGEST_COOL_DOWN_MS) == 0


def test_where_all_are_down_the_first_to_be_tried_is_taken() -> None:
    """An outage of all probes that which has been down the longest."""
    nodes = Nodes(2)
    assert put_down(nodes, 0, 0.0) == Switch(0, 1)
    assert put_down(nodes, 1, 100.0) is None, "there is nowhere to switch to"
    assert nodes.choose(200.0) == 0


@pytest.mark.parametrize(
    ("down", "tried", "expected"),
    [
        ((), {0}, 1),
        ((), {0, 1}, 2),
        ((1,), {0}, 2),
        ((1, 2), {0}, None),
        ((0, 1, 2), {0}, 1),
        ((), {0, 1, 2}, None),
    ],
)
def test_a_job_goes_where_it_has_not_failed(
    down: tuple[int, ...], tried: set[int], expected: int | None
) -> None:
    """The best way that is left; one that is down only where all are, and none at the end."""
    nodes = Nodes(3)
    for index in down:
        put_down(nodes, index)
    assert nodes.other(tried, 1.0) == expected


def test_a_job_tries_a_way_that_may_be_tried_again_and_renews_its_cool_down() -> None:
    """After the cool-down a job with nowhere else to go tries the way; its failure doubles the wait."""
    nodes = Nodes(2)
    put_down(nodes, 1)
    assert nodes.other({0}, FIRST_COOL_DOWN_MS - 1) is None
    assert nodes.other({0}, FIRST_COOL_DOWN_MS) == 1
    nodes.failed(1, JobId(2), FIRST_COOL_DOWN_MS, at_once=True)
    assert nodes.other({0}, 3 * FIRST_COOL_DOWN_MS - 1) is None
    assert nodes.other({0}, 3 * FIRST_COOL_DOWN_MS) == 1


@given(
    st.integers(1, 4),
    st.lists(
        st.tuples(
            st.integers(0, 3), st.sampled_from(["ok", "bad", "gone", "unsent"]), st.integers(0, 5)
        ),
        max_size=60,
    ),
)
def test_it_always_names_a_way_and_never_two_tries(
    n: int, story: list[tuple[int, str, int]]
) -> None:
    """Whatever happens there is a way to take, and a way that is down is tried by one at a time."""
    nodes, now = Nodes(n), 0.0
    for index, what, job in story:
        way, now = index % n, now + 3_000.0
        if what == "ok":
            nodes.answered(way)
        elif what == "unsent":
            nodes.unsent(way)
        else:
            nodes.failed(way, JobId(job), now, at_once=what == "gone")
        chosen = [nodes.choose(now) for _ in range(4)]
        assert all(0 <= one < n for one in chosen)
        up = [one for one in range(n) if nodes.is_up(one)]
        if up:
            assert chosen[-1] == up[0], "tries are one each; then the best that is up"
            tries = [one for one in chosen if one not in up]
            assert len(tries) == len(set(tries))
            for one in tries:
                nodes.unsent(one)
