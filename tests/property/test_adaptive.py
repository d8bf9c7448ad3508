"""The bound on what is in flight: never outside its limits, and near the best for servers of many kinds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.core.adaptive import START, Adaptive
from bench.virtual_servers import SERVERS, Fixed, Server, run

MOST = 128
#: What happens to it: an answer (held back by the bound, or not), a trouble of a request that went out
#: so long ago (ms), an outage's end, a change of what the limits can use.
EVENTS = st.one_of(
    st.tuples(st.just("answered"), st.booleans()),
    st.tuples(st.just("troubled"), st.floats(0, 5_000)),
    st.tuples(st.just("outage"), st.none()),
    st.tuples(st.just("most"), st.integers(1, 200)),
    st.tuples(st.just("known"), st.integers(1, 200)),
)


def feed(bound: Adaptive, kind: str, value: object, now: float, n_answered: int) -> None:
    """Let one thing happen."""
    match kind:
        case "answered":
            bound.answered(now, is_full=bool(value))
        case "troubled":
            bound.troubled(sent_at=now - float(str(value)), now=now, n_answered=n_answered)
        case "outage":
            bound.outage_ended()
        case "most":
            bound.most = int(str(value))
        case "known":
            bound.begin_at(int(str(value)))


@given(
    events=st.lists(st.tuples(st.integers(1, 40), EVENTS, st.floats(0, 2_000)), max_size=60),
    most=st.integers(1, 200),
    start=st.integers(1, 64),
    is_typed=st.booleans(),
)
@settings(deadline=None)
def test_the_bound_stays_within_its_limits(
    events: list[tuple[int, tuple[str, object], float]], most: int, start: int, *, is_typed: bool
) -> None:
    """Whatever happens it is at least 1, grows by one an answer or an eighth a round, and never above what is allowed."""
    bound = Adaptive(most=most, start=start, is_typed=is_typed)
    now, ceiling, n_answered = 1_000.0, most, 0
    assert 1 <= bound.bound <= most
    for times, (kind, value), took in events:
        for _ in range(times):
            before = bound.bound
            feed(bound, kind, value, now, n_answered)
            n_answered += kind == "answered"
            ceiling = max(ceiling, bound.most)
            assert 1 <= bound.bound <= ceiling
            if bound.bound > before:
                assert bound.bound <= bound.most
                assert kind != "answered" or value is True, "only where it held the run back"
            if kind == "troubled":
                assert bound.bound <= before
            now += took / times


@given(st.lists(st.floats(0.1, 5_000), min_size=1, max_size=400))
@settings(deadline=None, max_examples=50)
def test_it_grows_only_where_it_held_the_run_back(gaps: list[float]) -> None:
    """However fast answers come, a run that a limit or lack of jobs holds back gets no more."""
    bound, now = Adaptive(most=MOST), 0.0
    for gap in gaps:
        now += gap
        bound.answered(now, is_full=False)
        assert bound.bound == START


@given(typed=st.integers(1, 300), start=st.integers(1, 8))
@settings(deadline=None, max_examples=50)
def test_a_typed_bound_is_reached_and_then_left_alone(typed: int, start: int) -> None:
    """-c N is reached in so many answers, whether more in flight pays or not, and nothing is tried from then on."""
    bound = Adaptive(most=typed, start=start, is_typed=True)
    for n in range(typed):
        # Each answer later than the one before: to anybody who measures, more does not pay.
        bound.answered(float(n * n), is_full=True)
    assert bound.bound == typed
    assert bound.is_settled


def test_a_typed_bound_is_lowered_by_trouble_and_comes_back() -> None:
    """With -c N a server that refuses for a while is met with fewer, and with N again once it does not."""
    bound, now = Adaptive(most=40, start=40, is_typed=True), 0.0
    for _ in range(5):
        now += 10
        bound.troubled(sent_at=now - 5, now=now, n_answered=0)
    assert bound.bound < 40
    assert not bound.is_settled
    for _ in range(5_000):
        now += 10
        bound.answered(now, is_full=True)
    assert bound.bound == 40
    assert bound.is_settled


def test_one_burst_of_trouble_lowers_once() -> None:
    """Requests that were out when it was lowered do not lower it again."""
    bound = Adaptive(most=MOST, start=100)
    for n in range(30):
        bound.troubled(sent_at=0.0, now=10.0 + n, n_answered=0)
    assert bound.bound == 70
    for n in range(30):
        bound.answered(50.0 + n, is_full=False)
        assert bound.bound == 70


def test_of_a_burst_what_was_not_refused_fits() -> None:
    """Where most of what is out is refused at once, as many stay as were not; a quarter, where nearly all fail."""
    for n_refused, left in ((60, 42), (99, 25)):
        bound = Adaptive(most=MOST, start=100)
        for n in range(n_refused):
            bound.troubled(sent_at=0.0, now=10.0 + n, n_answered=0)
        assert bound.bound == left


@pytest.mark.parametrize("is_typed", [True, False])
def test_a_single_failure_is_nobodys_load(*, is_typed: bool) -> None:
    """Failures that come one by one among many answers leave the bound, however many they are in the end."""
    bound = Adaptive(most=100, start=100, is_typed=is_typed)
    for n in range(10_000):
        if n % 50 == 0:
            assert not bound.troubled(sent_at=n - 0.5, now=float(n), n_answered=n)
        if not bound.is_settled:
            bound.answered(float(n), is_full=True)
    assert bound.bound == 100


def test_after_an_outage_the_way_up_is_felt_again() -> None:
    """Everybody comes back at once to a server that was away: four go, then twice as many a round, up to what there was."""
    bound = Adaptive(most=MOST, start=100)
    bound.outage_ended()
    assert bound.bound == START
    seen = []
    for n in range(110):
        bound.answered(float(n), is_full=True)
        seen.append(bound.bound)
    assert max(seen) == 100
    assert seen[95] == 100, "one more for each answer"


#: Server → how many in flight are best, of at most MOST.
BEST = {
    "steady": MOST,
    "queues beyond 4": 4,
    "queues beyond 48": 48,
    "slows down beyond 24": 24,
    "sheds beyond 5": 5,
    "sheds beyond 70": 70,
    "fails 2 % anyhow": MOST,
}


def make(name: str, spread: float) -> Server:
    """Return a server; the same each time."""
    return SERVERS[name](random.Random(f"{name} {spread}"), spread)


@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize("name", BEST)
def test_it_finds_within_a_tenth_of_the_best_fixed_bound(name: str, spread: float) -> None:
    """After slow start the answers a second are at least 0.9 of the best fixed bound's, for servers of every kind."""
    ends, counts_from = 200_000.0, 40_000.0
    best = run(make(name, spread), Fixed(BEST[name]), ends=ends, counts_from=counts_from)
    bound = Adaptive(most=MOST)
    found = run(make(name, spread), bound, ends=ends, counts_from=counts_from)
    assert found.rate >= 0.9 * best.rate
    assert found.troubles <= best.troubles + 0.03
    if name.startswith(("queues", "slows")) and BEST[name] >= 24:
        assert found.in_flight <= 2.7 * BEST[name], "more would only wait in line"
