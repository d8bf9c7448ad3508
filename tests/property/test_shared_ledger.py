"""Several ledgers over one store: together they keep every limit, and waste none."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence
from itertools import count

import pytest

from batchrunner.core.admission import (
    LATE_MS,
    Blocked,
    Cap,
    DirtySlot,
    Grant,
    Ledger,
    ScopeLedger,
    SlotRow,
)
from batchrunner.core.counting import Charge
from batchrunner.core.shared import SharedLedger
from batchrunner.models import ScopeId

ACCOUNT, POOL = ScopeId(1), ScopeId(2)
START = 1_700_000_000_123.0
MINUTE = 60_000.0


class Store:
    """What all see: rows with the number of the turn that wrote them, and the pace."""

    def __init__(self, caps: Sequence[Cap]) -> None:
        self.caps = caps
        self.rows: dict[tuple[ScopeId, str, int, int], int] = {}
        self.pace: dict[ScopeId, tuple[float, float]] = {}
        #: Keys in the order in which they were written.
        self.log: list[tuple[ScopeId, str, int, int]] = []


class Worker:
    """One ledger, and what it has sent."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.ledger = Ledger()
        for scope in (ACCOUNT, POOL):
            rows = [SlotRow(*key[1:], n) for key, n in store.rows.items() if key[0] == scope]
            self.ledger.add(
                ScopeLedger(scope, caps=store.caps if scope == ACCOUNT else (), slots=rows)
            )
        self._shared = SharedLedger(self.ledger)
        self._seen = 0
        self._is_doubting = False

    def begin(self) -> None:
        """Take what others have stored."""
        store, fresh = self._store, set(self._shared.fresh)
        changed = set(store.log[self._seen :])
        changed |= {key for key in store.rows if key[0] in fresh} if fresh else set()
        if self._is_doubting:
            changed, self._is_doubting = set(store.rows), False
        rows = [DirtySlot(*key, store.rows[key]) for key in changed if key in store.rows]
        self._shared.take(rows, (ACCOUNT, POOL))
        for scope, pace in store.pace.items():
            self.ledger[scope].adopt_pace(*pace)
        self._seen = len(store.log)

    def lose(self) -> None:
        """Have the store be another one, which may have less."""
        self._shared.doubt()
        self._is_doubting = True

    def end(self) -> None:
        """Store what is booked."""
        store = self._store
        rows = self.ledger.take_dirty()
        for row in rows:
            store.rows[row[:4]] = row.n
            store.log.append(row[:4])
        self._shared.stored(rows)
        for scope in (ACCOUNT, POOL):
            ledger = self.ledger[scope]
            store.pace[scope] = (ledger.next_send_at, ledger.stored_last_send_at)


def test_what_a_fail_over_has_lost_is_stored_again() -> None:
    """Where the store has less than was stored, who stored it counts on, and all others learn of it again."""
    store = Store([Cap("rpm", 60, None, "flag")])
    one, other = Worker(store), Worker(store)
    for worker in (one, other):
        worker.begin()
        for _ in range(3):
            assert isinstance(worker.ledger.reserve(ACCOUNT, POOL, START, START, MINUTE), Grant)
        worker.end()
    before = dict(store.rows)
    for key in list(store.rows)[1:]:
        # As a replica that was behind: one row is gone, others are there in part.
        store.rows[key] -= 1
    del store.rows[next(iter(before))]
    for worker in (one, other):
        worker.lose()
        worker.begin()
        worker.end()
    assert {key: store.rows[key] for key in before} == before
    one.begin()
    assert sum(one.ledger[ACCOUNT].minute.counts.values()) == 6


def test_what_is_counted_before_the_first_turn_is_stored_on_top() -> None:
    """A scope that was just loaded may be counted in at once (sends that went out as another account's)."""
    store = Store([Cap("rpm", 60, None, "flag")])
    one = Worker(store)
    one.begin()
    one.ledger[ACCOUNT].count(START, START, 3)
    one.end()
    other = Worker(store)
    other.ledger[ACCOUNT].count(START, START, 2)
    other.begin()
    assert sum(other.ledger[ACCOUNT].minute.counts.values()) == 5
    other.end()
    assert {n for key, n in store.rows.items() if key[0] == ACCOUNT} == {5}


def drive(
    store: Store,
    n_workers: int,
    *,
    minutes: float,
    late_share: float,
    charge: Charge,
    seed: int,
    death_share: float = 0.01,
) -> list[float]:
    """Have workers take turns while work waits; one in some turns dies and begins anew."""
    rand = random.Random(seed)
    order, sends = count(), list[float]()
    workers = [Worker(store) for _ in range(n_workers)]
    queue: list[tuple[float, int, int, Grant]] = []
    end = START + minutes * MINUTE
    turns = [(START + n, n) for n in range(n_workers)]
    heapq.heapify(turns)
    while turns[0][0] < end:
        now, number = heapq.heappop(turns)
        while queue and queue[0][0] <= now:
            t, _, whose, grant = heapq.heappop(queue)
            worker = workers[whose]
            if t - grant.instant > LATE_MS:
                worker.begin()
                moved = worker.ledger.rebook(grant, t, t)
                worker.end()
                if isinstance(moved, Grant):
                    heapq.heappush(queue, (max(moved.instant, t), next(order), whose, moved))
                continue
            sends.append(t)
            worker.ledger.sent(grant, t)
        if rand.random() < death_share:
            # What it had booked stays booked, and is never sent.
            queue = [entry for entry in queue if entry[2] != number]
            heapq.heapify(queue)
            workers[number] = Worker(store)
        worker = workers[number]
        worker.begin()
        for _ in range(rand.randint(1, 64)):
            grant = worker.ledger.reserve(ACCOUNT, POOL, now, now, 1_000.0, charge=charge)
            if isinstance(grant, Blocked):
                break
            late = rand.uniform(70, 3_000) if rand.random() < late_share else rand.uniform(0, 25)
            heapq.heappush(queue, (grant.instant + late, next(order), number, grant))
        worker.end()
        heapq.heappush(turns, (now + rand.uniform(20, 400), number))
    return sends


def most_in(sends: Sequence[float], window: float) -> int:
    """Return the most sends in any window."""
    most, first = 0, 0
    for last, t in enumerate(sends):
        while sends[first] <= t - window:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize("n_workers", [1, 2, 4, 8])
@pytest.mark.parametrize("n", [3, 60, 600])
def test_no_window_is_over_whoever_sends(n: int, n_workers: int) -> None:
    """Any minute over all workers holds at most N, with sends that are late and workers that die."""
    store = Store([Cap("rpm", float(n), None, "flag")])
    sends = sorted(drive(store, n_workers, minutes=4, late_share=0.02, charge=Charge(0, 0), seed=n))
    assert most_in(sends, MINUTE) <= n


@pytest.mark.parametrize("n_workers", [2, 8])
def test_nothing_is_wasted_by_sharing(n_workers: int) -> None:
    """While nobody dies and nothing is late, the workers together use what one would."""
    n = 600
    store = Store([Cap("rpm", float(n), None, "flag")])
    sends = drive(
        store, n_workers, minutes=5, late_share=0.0, charge=Charge(0, 0), seed=1, death_share=0.0
    )
    assert most_in(sorted(sends), MINUTE) <= n
    assert len(sends) >= 0.98 * n * 5


def test_tokens_of_all_count_in_one_window() -> None:
    """A limit of tokens holds over all workers."""
    store = Store([Cap("itpm", 10_000.0, None, "flag")])
    sends = sorted(drive(store, 4, minutes=6, late_share=0.02, charge=Charge(100, 5), seed=7))
    assert most_in(sends, MINUTE) <= 100
    assert len(sends) >= 0.9 * 100 * 6


def test_what_is_booked_here_stays_when_others_have_stored() -> None:
    """Taking what others used neither loses nor doubles what is not stored yet."""
    store = Store([Cap("rpm", 10.0, None, "flag")])
    one, other = Worker(store), Worker(store)
    one.begin()
    one.ledger.reserve_free(POOL, None, START, START, 3)
    other.begin()
    other.ledger.reserve_free(POOL, None, START, START, 2)
    other.end()
    one.begin()
    one.end()
    slot = int(START // 250)
    assert store.rows[POOL, "requests", 250, slot] == 5
    other.begin()
    assert other.ledger[POOL].minute.counts[slot] == 5
