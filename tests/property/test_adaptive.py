"""The bound on what is in flight: never outside its limits, and near the best for servers of many kinds."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.core.adaptive import START, Adaptive, Phase
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


def answered(
    bound: Adaptive, now: float, n_answered: int = 0, *, is_full: bool = True, took: float = 0.0
) -> None:
    """Let a request be answered that took so long (ms)."""
    bound.answered(now, sent_at=now - took, n_answered=n_answered, is_full=is_full)


def feed(bound: Adaptive, kind: str, value: object, now: float, n_answered: int) -> None:
    """Let one thing happen."""
    match kind:
        case "answered":
            answered(bound, now, n_answered + 1, is_full=bool(value))
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
    """Whatever happens it is at least 1, and grows where it held the run back, or to where it was before a trial."""
    bound = Adaptive(most=most, start=start, is_typed=is_typed)
    now, ceiling, n_answered = 1_000.0, most, 0
    assert 1 <= bound.bound <= most
    highest = bound.bound
    for times, (kind, value), took in events:
        for _ in range(times):
            before, was_trial = bound.bound, bound.phase is Phase.TRIAL
            feed(bound, kind, value, now, n_answered)
            n_answered += kind == "answered"
            ceiling = max(ceiling, bound.most)
            assert 1 <= bound.bound <= ceiling
            if bound.bound > before:
                assert bound.bound <= bound.most
                if was_trial and kind in ("answered", "troubled"):
                    assert bound.bound <= highest, "no further than it was"
                else:
                    assert kind != "troubled"
                    assert kind != "answered" or value is True, "only where it held the run back"
            highest = max(highest, bound.bound)
            now += took / times


@given(st.lists(st.floats(0.1, 5_000), min_size=1, max_size=400))
@settings(deadline=None, max_examples=50)
def test_it_grows_only_where_it_held_the_run_back(gaps: list[float]) -> None:
    """However fast answers come, a run that a limit or lack of jobs holds back gets no more."""
    bound, now = Adaptive(most=MOST), 0.0
    for gap in gaps:
        now += gap
        answered(bound, now, is_full=False)
        assert bound.bound == START


@given(typed=st.integers(1, 300), start=st.integers(1, 8))
@settings(deadline=None, max_examples=50)
def test_a_typed_bound_is_reached_and_then_left_alone(typed: int, start: int) -> None:
    """-c N is reached in so many answers, whether more in flight pays or not, and nothing is tried from then on."""
    bound = Adaptive(most=typed, start=start, is_typed=True)
    for n in range(typed):
        # Each answer later than the one before: to anybody who measures, more does not pay.
        answered(bound, float(n * n), n + 1)
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
    for n in range(5_000):
        now += 10
        answered(bound, now, n + 1)
    assert bound.bound == 40
    assert bound.is_settled


def test_one_burst_of_trouble_lowers_once() -> None:
    """Requests that were out when it was lowered do not lower it again."""
    bound = Adaptive(most=MOST, start=100)
    for n in range(30):
        bound.troubled(sent_at=0.0, now=10.0 + n, n_answered=0)
    assert bound.bound == 50
    for n in range(30):
        answered(bound, 50.0 + n, n + 1, is_full=False, took=60.0)
        assert bound.bound == 50


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
            answered(bound, float(n), n + 1)
    assert bound.bound == 100


def test_after_an_outage_the_way_up_is_felt_again() -> None:
    """Everybody comes back at once to a server that was away: four go, then twice as many a round, up to what there was."""
    bound = Adaptive(most=MOST, start=100)
    bound.outage_ended()
    assert bound.bound == START
    seen = []
    for n in range(110):
        answered(bound, float(n), n + 1)
        seen.append(bound.bound)
    assert max(seen) == 100
    assert seen[95] == 100, "one more for each answer"


def test_three_troubles_close_together_halve_at_once() -> None:
    """Where nothing is known of a server the third of three failures in a row halves what is in flight."""
    bound = Adaptive(most=MOST, start=64)
    lower = [bound.troubled(sent_at=n - 0.5, now=float(n), n_answered=0) for n in range(1, 4)]
    assert lower == [False, False, True]
    assert bound.bound == 32


def in_trial() -> Adaptive:
    """Return a bound that three troubles have halved, from 64, at the instant 3."""
    bound = Adaptive(most=MOST, start=64)
    for n in range(1, 4):
        bound.troubled(sent_at=n - 0.5, now=float(n), n_answered=0)
    return bound


def test_where_half_as_many_fail_as_often_nothing_is_lowered() -> None:
    """When a fifth fails with half as many in flight too, the bound is back within a few dozen requests, and stays."""
    bound, n_answered, seen = Adaptive(most=MOST, start=64), 0, []
    for n in range(1, 5_000):
        if n % 5 == 0:
            bound.troubled(sent_at=n - 0.5, now=float(n), n_answered=n_answered)
        else:
            n_answered += 1
            answered(bound, float(n), n_answered, is_full=False, took=0.5)
        seen.append(bound.bound)
    assert min(seen) == 32
    assert set(seen[100:]) == {64}


def test_where_fewer_fail_the_level_is_remembered() -> None:
    """When trouble ends with half as many in flight, it goes back up quickly to just below where it came, and no further."""
    bound = in_trial()
    seen = []
    for n in range(4, 200):
        answered(bound, float(n), n, took=0.5)
        seen.append(bound.bound)
    assert seen[6] == 32
    assert max(seen) == seen[60] == 60, "0.95 of what met trouble"


def test_what_stops_everybody_is_not_tried_again_soon() -> None:
    """After a 429 that paused everybody for 2 s no more than was taken is tried for a minute."""
    bound = Adaptive(most=MOST, start=32)
    assert bound.troubled(sent_at=0.5, now=1.0, n_answered=0, stops_ms=2_000.0)
    for n in range(11):
        bound.troubled(sent_at=0.5, now=2.0 + n, n_answered=0, stops_ms=2_000.0)
    highest = {False: 0, True: 0}
    for n_answered, now in enumerate(range(20, 120_000, 10), 1):
        answered(bound, float(now), n_answered, took=5.0)
        is_later = now > 60_000
        highest[is_later] = max(highest[is_later], bound.bound)
    assert highest[False] == 19
    assert highest[True] > 20


def test_an_outage_that_comes_again_at_once_is_answered_by_fewer() -> None:
    """Where the server goes away each time the old bound is reached, the way up ends a little earlier each time."""
    bound = Adaptive(most=MOST, start=100)
    highest = []
    for n in range(4):
        bound.outage_ended()
        for i in range(110):
            answered(bound, float(1_000 * n + i), 110 * n + i)
        highest.append(bound.bound)
    assert highest == [100, 95, 90, 85]


#: Server → how many in flight are best, of at most MOST.
BEST = {
    "steady": MOST,
    "queues beyond 4": 4,
    "queues beyond 48": 48,
    "slows down beyond 24": 24,
    "sheds beyond 5": 5,
    "sheds beyond 70": 70,
    "stalls beyond 70": 70,
    "429 beyond 20, stops 2 s": 20,
    "fails 2 % anyhow": MOST,
    "fails 5 % anyhow": MOST,
    "fails 20 % anyhow": MOST,
    "fails 40 % anyhow": MOST,
    "fails 60 % for 30 s": MOST,
    "is away for 30 s": MOST,
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
    assert found.troubles <= best.troubles + 0.05
    if name.startswith(("queues", "slows")) and BEST[name] >= 24:
        assert found.in_flight <= 2.7 * BEST[name], "more would only wait in line"
