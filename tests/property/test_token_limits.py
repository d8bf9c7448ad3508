"""No window holds more tokens than its limit, and none are wasted, judged by code of its own."""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.core.admission import (
    LATE_MS,
    Blocked,
    Cap,
    Grant,
    Ledger,
    ScopeLedger,
    SlotRow,
)
from batchrunner.core.counting import NO_TOKENS, Charge
from batchrunner.models import ScopeId

ACCOUNT, POOL = ScopeId(1), ScopeId(2)
MINUTE = 60_000.0
START = 1_700_000_000_123.0
HORIZON = 1_000.0


class Sent(NamedTuple):
    """A send as the server saw it."""

    at: float
    charge: Charge


def drive(
    ledger: Ledger,
    charges: Iterator[Charge],
    *,
    seconds: float,
    start: float = START,
    lateness: Callable[[], float] = lambda: 0.0,
    pool: ScopeId | None = None,
) -> list[Sent]:
    """Send in order whatever the ledger lets through; a late send asks again."""
    sends: list[Sent] = []
    now, ends = start, start + seconds * 1_000
    charge = next(charges)
    while now < ends:
        plan = ledger.reserve(ACCOUNT, pool, now, now, HORIZON, charge=charge)
        if isinstance(plan, Blocked):
            assert plan.until is not None
            now = max(plan.until - HORIZON, now + 1)
            continue
        at = plan.instant + lateness()
        if at - plan.instant > LATE_MS:
            moved = ledger.rebook(plan, at, at)
            if isinstance(moved, Blocked):
                now = at
                continue
            plan, at = moved, max(at, moved.instant)
        ledger.sent(plan, at)
        sends.append(Sent(at, charge))
        charge = next(charges)
    return sorted(sends)


def most_in_a_window(amounts: Sequence[tuple[float, int]], window: float) -> int:
    """Return the most tokens that a half-open window holds of more than one send."""
    instants = [at for at, _ in amounts]
    most = 0
    for i, (at, _) in enumerate(amounts):
        inside = amounts[i : bisect_left(instants, at + window)]
        if len(inside) > 1:
            most = max(most, sum(n for _, n in inside))
    return most


def total(sends: Sequence[Sent]) -> list[tuple[float, int]]:
    return [(sent.at, sum(sent.charge)) for sent in sends]


@settings(max_examples=150, deadline=None)
@given(
    limits=st.dictionaries(
        st.sampled_from(["tpm", "itpm", "otpm"]), st.integers(50, 100_000), min_size=1
    ),
    rpm=st.none() | st.integers(5, 2_000),
    sizes=st.lists(st.tuples(st.integers(0, 40_000), st.integers(0, 9_000)), min_size=3),
    late=st.sampled_from([0.0, 20.0, 400.0, 3_000.0]),
    seed=st.integers(0, 9),
)
def test_no_window_passes_a_token_limit(
    limits: dict[str, int],
    rpm: int | None,
    sizes: list[tuple[int, int]],
    late: float,
    seed: int,
) -> None:
    """Whatever the sizes, limits and lateness: no 60 s hold more than N, but one send that alone is more."""
    rand = random.Random(seed)
    caps = [Cap(name, n, None, "flag") for name, n in limits.items()]
    if rpm is not None:
        caps.append(Cap("rpm", rpm, None, "flag"))
    ledger = Ledger([ScopeLedger(ACCOUNT, caps=caps)])

    def charges() -> Iterator[Charge]:
        # At least so much that some hundreds fill the window.
        least = max(limits.values()) // 300 + 1
        while True:
            chosen = Charge(*rand.choice(sizes))
            yield Charge(chosen.input + least, chosen.output + least)

    sends = drive(ledger, charges(), seconds=90, lateness=lambda: rand.uniform(0, late))
    assert sends
    amounts = {
        "tpm": total(sends),
        "itpm": [(sent.at, sent.charge.input) for sent in sends],
        "otpm": [(sent.at, sent.charge.output) for sent in sends],
    }
    for name, n in limits.items():
        assert most_in_a_window(amounts[name], MINUTE) <= n, name


@pytest.mark.parametrize("name", ["tpm", "itpm", "otpm"])
def test_nothing_of_a_token_limit_is_wasted(name: str) -> None:
    """With sizes known, over ten windows at least 98.5 % of the limit is used."""
    n = 100_000
    ledger = Ledger([ScopeLedger(ACCOUNT, caps=[Cap(name, n, None, "flag")])])
    rand = random.Random(4)

    def charges() -> Iterator[Charge]:
        while True:
            yield Charge(rand.randint(50, 600), rand.randint(50, 400))

    sends = drive(ledger, charges(), seconds=660)
    used = sum(
        {
            "tpm": sum(sent.charge),
            "itpm": sent.charge.input,
            "otpm": sent.charge.output,
        }[name]
        for sent in sends
        if sent.at < START + 10 * MINUTE
    )
    assert used >= 0.985 * 10 * n


def test_a_day_of_tokens_is_kept_and_used_up() -> None:
    """A calendar day's tokens are never passed, and what fits into the day goes."""
    cap = Cap("tpd", 50_000, "UTC", "flag")
    ledger = Ledger([ScopeLedger(ACCOUNT, caps=[cap])])
    charges = iter([Charge(900, 100)] * 1_000)
    sends = drive(ledger, charges, seconds=3 * 86_400, start=1_700_006_400_000.0)
    days: dict[int, int] = {}
    for sent in sends:
        days[int(sent.at // 86_400_000)] = days.get(int(sent.at // 86_400_000), 0) + sum(
            sent.charge
        )
    assert set(days.values()) == {50_000}


def _in_order(sizes: list[int]) -> Iterator[Charge]:
    yield from (Charge(n, 0) for n in sizes)
    while True:
        yield Charge(5_001, 0)


@pytest.mark.parametrize("name", ["tpm", "itpm", "tpd"])
def test_what_is_larger_than_the_limit_goes_alone(name: str) -> None:
    """A giant waits until nothing else counts, goes, and the next waits until it does not count."""
    cap = Cap(name, 1_000, "rolling", "flag")
    ledger = Ledger([ScopeLedger(ACCOUNT, caps=[cap])])
    window = 86_400_000.0 if name == "tpd" else MINUTE
    sizes = [100, 100, 5_000, 100, 100]
    sends = drive(ledger, _in_order(sizes), seconds=3 * window / 1_000)
    giant = next(sent for sent in sends if sent.charge.input == 5_000)
    others = [sent.at for sent in sends if sent.charge.input == 100]
    assert len(others) == 4
    assert all(abs(at - giant.at) >= window for at in others)
    # And for no longer than it must.
    assert giant.at - max(at for at in others if at < giant.at) < window + 61_000


def test_a_limit_of_no_tokens_lets_nothing_through() -> None:
    """``--tpm 0`` holds everything back, and says that only a change of it helps."""
    ledger = Ledger([ScopeLedger(ACCOUNT, caps=[Cap("tpm", 0, None, "flag")])])
    blocked = ledger.reserve(ACCOUNT, None, START, START, HORIZON, charge=Charge(1, 1))
    assert isinstance(blocked, Blocked)
    assert (blocked.until, blocked.limit) == (None, "tpm")


def reserve(ledger: Ledger, n_in: int, n_out: int = 0, at: float = START) -> Grant | Blocked:
    return ledger.reserve(ACCOUNT, POOL, at, at, HORIZON, charge=Charge(n_in, n_out))


def limited(n: int, name: str = "tpm") -> Ledger:
    return Ledger([ScopeLedger(ACCOUNT, caps=[Cap(name, n, None, "flag")]), ScopeLedger(POOL)])


def test_what_an_answer_left_over_is_free_at_once() -> None:
    """A reservation is corrected in the slot of its send: what was not used can be used."""
    ledger = limited(1_000)
    first = reserve(ledger, 500, 500)
    assert isinstance(first, Grant)
    assert isinstance(reserve(ledger, 1), Blocked)
    ledger.correct(first, Charge(480, 20))
    assert isinstance(reserve(ledger, 500), Grant)
    assert isinstance(reserve(ledger, 1), Blocked)


def test_an_underestimate_is_charged_at_once_and_waited_off() -> None:
    """What an answer took more counts from then on, though it passes the limit."""
    ledger = limited(1_000)
    first = reserve(ledger, 100)
    assert isinstance(first, Grant)
    ledger.correct(first, Charge(100, 5_000))
    blocked = reserve(ledger, 1, at=START + 5_000)
    assert isinstance(blocked, Blocked)
    assert blocked.until is not None
    assert blocked.until >= START + MINUTE


def test_a_send_given_back_gives_its_tokens_back() -> None:
    """Released or refused by a rebooking, nothing of it counts."""
    ledger = limited(1_000)
    first = reserve(ledger, 1_000)
    assert isinstance(first, Grant)
    ledger.release(first)
    assert isinstance(reserve(ledger, 1_000), Grant)


def test_tokens_told_without_a_limit_count_once_there_is_one() -> None:
    """A limit that comes into force knows what was used before it, and it is stored."""
    ledger = Ledger([ScopeLedger(ACCOUNT), ScopeLedger(POOL)])
    grant = ledger.reserve_free(ACCOUNT, POOL, START, START, 3)
    assert grant is not None
    for _ in range(3):
        ledger.correct(grant, Charge(300, 30))
    ledger.book_told()
    ledger[ACCOUNT].set_caps([Cap("tpm", 1_000, None, "flag")])
    assert isinstance(reserve(ledger, 11, at=START + 1_000), Blocked)
    assert isinstance(reserve(ledger, 10, at=START + 1_000), Grant)
    stored = {(row.scope_id, row.unit, row.grain): row.n for row in ledger.take_dirty()}
    assert stored[ACCOUNT, "input_tokens", 250] in {900, 910, 10}
    assert stored[POOL, "output_tokens", 60_000] == 90
    assert all(unit != "tokens" for _, unit, _ in stored)


def test_a_restart_counts_what_is_stored() -> None:
    """The rows of a ledger that crashed, reservations included, hold the next one back alike."""
    ledger = limited(1_000)
    assert isinstance(reserve(ledger, 700, 200), Grant)
    rows = [
        SlotRow(row.unit, row.grain, row.slot, row.n)
        for row in ledger.take_dirty()
        if row.scope_id == ACCOUNT
    ]
    again = Ledger(
        [
            ScopeLedger(ACCOUNT, caps=[Cap("tpm", 1_000, None, "flag")], slots=rows),
            ScopeLedger(POOL),
        ]
    )
    assert isinstance(reserve(again, 101, at=START + 2_000), Blocked)
    assert isinstance(reserve(again, 100, at=START + 2_000), Grant)


def test_a_provider_whose_total_is_the_input_counts_no_answers() -> None:
    """Where ``tpm`` counts input alone, answers of any length leave it as it is."""
    account = ScopeLedger(ACCOUNT, caps=[Cap("tpm", 1_000, None, "flag")], total_has_output=False)
    ledger = Ledger([account, ScopeLedger(POOL)])
    assert isinstance(reserve(ledger, 400, 9_000), Grant)
    assert isinstance(reserve(ledger, 600, 9_000), Grant)
    assert isinstance(reserve(ledger, 1, 0), Blocked)


def test_limits_of_other_units_do_not_hold_back_what_takes_none() -> None:
    """Where nothing of a limit is left, what takes nothing of it still goes."""
    ledger = limited(100, "otpm")
    assert isinstance(reserve(ledger, 5, 100), Grant)
    assert isinstance(reserve(ledger, 5, 1), Blocked)
    assert isinstance(reserve(ledger, 5, 0), Grant)
    assert isinstance(ledger.reserve(ACCOUNT, POOL, START, START, HORIZON, charge=NO_TOKENS), Grant)


def test_what_is_used_of_token_limits_is_shown() -> None:
    """Each limit's view has what is used and left of it, and when there is some again."""
    ledger = limited(1_000)
    assert isinstance(reserve(ledger, 600, 400), Grant)
    (use,) = ledger[ACCOUNT].uses(now=START, wall=START)
    assert (use.limit.name, use.used, use.remaining) == ("tpm", 1_000, 0)
    assert use.resets_at is not None
    assert MINUTE <= use.resets_at - START <= MINUTE + 750
