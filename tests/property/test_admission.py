"""The ledger keeps every limit and wastes none, judged by code that shares nothing with it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.core.admission import (
    Blocked,
    Cap,
    DirtySlot,
    Grant,
    Ledger,
    ScopeLedger,
    SlotRow,
    effective_caps,
)
from batchrunner.core.caps import Limit
from batchrunner.core.pause import NO_PAUSE, begin
from batchrunner.models import ScopeId, WaitingReason
from tests.fakes.limit_servers import ACCOUNT, MINUTE, SERVERS, drive, most_in_a_window

POOL, OTHER_POOL = ScopeId(2), ScopeId(3)
POOLS = (POOL, OTHER_POOL)
START = 1_700_000_000_123.0
HOUR = 3_600_000.0
DAY = 24 * HOUR


def rpm(n: float | None, source: str = "flag") -> Cap:
    return Cap("rpm", n, None, source)


def rpd(n: float | None, zone: str = "UTC") -> Cap:
    return Cap("rpd", n, zone, "flag")


def interval(ms: float) -> Cap:
    return Cap("min_interval", ms, None, "flag")


class Disk:
    """What survives a crash: the rows of the scopes and of their slots."""

    def __init__(self) -> None:
        self.slots: dict[tuple[ScopeId, str, int, int], int] = {}
        self.scopes: dict[ScopeId, tuple[float, float]] = {}

    def save(self, ledger: Ledger) -> None:
        for row in ledger.take_dirty():
            self.slots[row.scope_id, row.unit, row.grain, row.slot] = row.n
        for scope in ledger.scopes.values():
            self.scopes[scope.id] = (scope.next_send_at, scope.stored_last_send_at)

    def load(self, caps: dict[ScopeId, Sequence[Cap]]) -> Ledger:
        ledger = Ledger()
        for scope_id in (ACCOUNT, *POOLS):
            next_send_at, last_send_at = self.scopes.get(scope_id, (0.0, 0.0))
            rows = [SlotRow(*key[1:], n) for key, n in self.slots.items() if key[0] == scope_id]
            ledger.add(
                ScopeLedger(
                    scope_id,
                    caps=caps.get(scope_id, ()),
                    slots=rows,
                    next_send_at=next_send_at,
                    last_send_at=last_send_at,
                )
            )
        return ledger


def fresh(*caps: Cap, pool_caps: Sequence[Cap] = ()) -> Ledger:
    return Disk().load({ACCOUNT: caps, POOL: pool_caps})


def jitter(seed: int, late_share: float = 0.0) -> Callable[[], float]:
    """Up to 25 ms late; the given share stalls for up to 3 s."""
    rand = random.Random(seed)
    return lambda: rand.uniform(70, 3000) if rand.random() < late_share else rand.uniform(0, 25)


SEGMENTS = st.lists(
    st.tuples(
        st.sampled_from([1, 2, 3, 10, 60, 250, 600, None]),
        st.floats(500, 100_000),
        st.booleans(),
        st.floats(0, 2_000),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(segments=SEGMENTS, seed=st.integers(0, 999), late_share=st.sampled_from([0.0, 0.05, 0.6]))
def test_window_never_holds_more_than_the_limit_over_crashes_and_changes(
    segments: list[tuple[int | None, float, bool, float]], seed: int, late_share: float
) -> None:
    """No minute holds more sends than the limit in force, over crashes, changes and two pools."""
    disk, now, sends = Disk(), START, []
    limits: list[int | None] = []
    # A limit that is removed would let an endless burst through: the pool keeps one.
    pool_caps = {POOL: [rpm(300)], OTHER_POOL: [rpm(300)]}
    ledger = disk.load({ACCOUNT: [rpm(segments[0][0])], **pool_caps})
    for n, length, crash, pause in segments:
        if crash:
            ledger = disk.load({ACCOUNT: [rpm(n)], **pool_caps})
        else:
            ledger[ACCOUNT].set_caps([rpm(n)])
        part = drive(
            ledger,
            POOLS,
            start=now,
            end=now + length,
            lateness=jitter(seed, late_share),
            commit=partial(disk.save, ledger),
        )
        sends += part
        limits += [n] * len(part)
        now += length + pause
    assert sends == sorted(sends)
    for i, (t, n) in enumerate(zip(sends, limits, strict=True)):
        if n is not None:
            assert sum(1 for u in sends[max(0, i - n) : i + 1] if u > t - MINUTE) <= n


@pytest.mark.parametrize(
    ("late_share", "share"), [(0.0, 0.985), (0.02, 0.97)], ids=["on-time", "some-stall"]
)
@pytest.mark.parametrize(("n", "minutes"), [(3, 60), (60, 40), (600, 20), (6000, 11)])
def test_allowance_is_used_and_no_server_refuses(
    n: int, minutes: int, late_share: float, share: float
) -> None:
    """While work waits 98.5 % of a limit is used (97 % if one send in 50 stalls), and no way of counting refuses a request."""
    sends = drive(
        fresh(rpm(n)),
        POOLS,
        start=START,
        end=START + minutes * MINUTE,
        lateness=jitter(1, late_share),
    )
    assert len(sends) >= share * n * minutes
    assert {name: refused(sends, n) for name, refused in SERVERS.items()} == dict.fromkeys(
        SERVERS, 0
    )


@pytest.mark.parametrize("delay", [100.0, 400.0])
def test_sends_that_are_always_late_lose_no_allowance(delay: float) -> None:
    """A slow way to the server shifts the sends and does not thin them out."""
    sends = drive(
        fresh(rpm(600)), POOLS, start=START, end=START + 12 * MINUTE, lateness=lambda: delay
    )
    assert len(sends) >= 0.985 * 600 * 12
    assert [refused(sends, 600) for refused in SERVERS.values()] == [0, 0, 0]


@pytest.mark.parametrize("n", [1, 2, 3, 1_000_000])
def test_extreme_limits_work(n: int) -> None:
    """One a minute and a million a minute are limits like others."""
    length = 5 * MINUTE if n < 10 else 2_000
    sends = drive(fresh(rpm(n)), POOLS, start=START, end=START + length, lateness=jitter(2))
    assert len(sends) >= 0.98 * n * length / MINUTE
    assert most_in_a_window(sends, MINUTE) <= n


DST_DAYS = [
    ("America/New_York", datetime(2025, 3, 8, 12, tzinfo=UTC), 3),
    ("America/New_York", datetime(2025, 11, 1, 12, tzinfo=UTC), 3),
    ("America/Sao_Paulo", datetime(2017, 10, 14, 12, tzinfo=UTC), 3),
    ("Africa/Cairo", datetime(2024, 4, 25, 12, tzinfo=UTC), 3),
    ("Asia/Beirut", datetime(2024, 10, 26, 12, tzinfo=UTC), 3),
]


@pytest.mark.parametrize(("zone", "noon", "days"), DST_DAYS)
def test_calendar_day_holds_exactly_its_limit(zone: str, noon: datetime, days: int) -> None:
    """Each day of the zone, be it of 23 or 25 hours, gets exactly its limit while work waits."""
    start = noon.timestamp() * 1000
    sends = drive(
        fresh(rpd(500, zone)),
        POOLS,
        start=start - 777,
        end=start + days * DAY,
        lateness=jitter(3),
        skew=777.0,
    )
    per_day = Counter(
        datetime.fromtimestamp((t + 777) / 1000, ZoneInfo(zone)).date() for t in sends
    )
    assert set(per_day.values()) == {500}
    assert len(per_day) == days + 1


def test_calendar_day_survives_a_crash() -> None:
    """What a day has used is known to the process that takes over."""
    disk = Disk()
    caps = {ACCOUNT: [rpd(500), rpm(600)]}
    ledger = disk.load(caps)
    start = datetime(2025, 6, 1, 10, tzinfo=UTC).timestamp() * 1000
    n_sent = 0
    for part in range(12):
        sends = drive(
            ledger,
            POOLS,
            start=start + part * HOUR,
            end=start + part * HOUR + 9_000,
            lateness=jitter(part),
            commit=partial(disk.save, ledger),
        )
        n_sent += len(sends)
        ledger = disk.load(caps)
    assert 500 - 12 * 11 <= n_sent <= 500  # a crash wastes at most what was booked ahead
    assert isinstance(
        ledger.reserve(ACCOUNT, POOL, start + 12 * HOUR, start + 12 * HOUR, 0), Blocked
    )


def test_rolling_day_holds_exactly_its_limit() -> None:
    """Any 24 hours hold the limit of a rolling day, and not fewer while work waits."""
    sends = drive(
        fresh(rpd(500, "rolling"), rpm(20)),
        POOLS,
        start=START,
        end=START + 3 * DAY,
        lateness=jitter(4),
    )
    assert most_in_a_window(sends, DAY) == 500
    assert len(sends) == 1500


@settings(max_examples=25, deadline=None)
@given(
    ms=st.floats(20, 5_000),
    seed=st.integers(0, 99),
    late_share=st.sampled_from([0.0, 0.1]),
    crash_after=st.floats(100, 20_000),
)
def test_min_interval_is_kept_exactly(
    ms: float, seed: int, late_share: float, crash_after: float
) -> None:
    """No two real sends of an account come closer than its interval, across pools and a crash."""
    disk, sends, now = Disk(), [], START
    for length in (crash_after, 20_000.0):
        ledger = disk.load({ACCOUNT: [interval(ms)]})
        sends += drive(
            ledger,
            POOLS,
            start=now,
            end=now + length,
            lateness=jitter(seed, late_share),
            commit=partial(disk.save, ledger),
        )
        now += length
    gaps = [b - a for a, b in pairwise(sends)]
    assert min(gaps) >= ms - 1e-3  # the fake clock reads like a date: floats of its size are coarse
    assert len(sends) >= 0.7 * 20_000 / (ms + 25) - 2


def test_pools_share_the_account_and_keep_their_own() -> None:
    """A send passes both levels: the account's limit over all pools, the pool's over its own."""
    ledger = fresh(rpm(600), pool_caps=[rpm(60, "header")])
    only_pool = drive(ledger, [POOL], start=START, end=START + MINUTE, lateness=jitter(5))
    assert len(only_pool) <= 60
    both = drive(
        fresh(rpm(600), pool_caps=[rpm(60, "header")]),
        POOLS,
        start=START,
        end=START + MINUTE,
        lateness=jitter(5),
    )
    assert 590 <= len(both) <= 600


def test_released_grant_may_be_used_again() -> None:
    """A grant that is given back takes nothing from the window or the day."""
    ledger = fresh(rpm(2), rpd(1))
    grant = ledger.reserve(ACCOUNT, POOL, START, START, 1_000)
    assert isinstance(grant, Grant)
    assert isinstance(ledger.reserve(ACCOUNT, POOL, START, START, 1_000), Blocked)
    ledger.release(grant)
    assert ledger.reserve(ACCOUNT, POOL, START, START, 1_000) == grant


def test_blocked_reserve_changes_nothing() -> None:
    """Asking in vain books nothing and leaves nothing to write."""
    ledger = fresh(rpm(1))
    assert isinstance(ledger.reserve(ACCOUNT, POOL, START, START, 1_000), Grant)
    ledger.take_dirty()
    for _ in range(3):
        assert isinstance(ledger.reserve(ACCOUNT, POOL, START, START, 1_000), Blocked)
    assert ledger.take_dirty() == []


@pytest.mark.parametrize(
    ("caps", "limit", "reason", "later_by"),
    [
        ([rpm(1)], "rpm", WaitingReason.RATE_LIMITED, 60_500),
        ([interval(30_000)], "min_interval", WaitingReason.RATE_LIMITED, 30_000),
        ([rpd(1, "rolling")], "rpd", WaitingReason.DAILY_LIMIT, DAY + 60_000),
        ([rpm(0)], "rpm", WaitingReason.RATE_LIMITED, None),
        ([rpd(0)], "rpd", WaitingReason.DAILY_LIMIT, None),
    ],
    ids=["rpm", "min_interval", "rolling", "rpm-0", "rpd-0"],
)
def test_blocked_says_which_limit_and_until_when(
    caps: list[Cap], limit: str, reason: WaitingReason, later_by: float | None
) -> None:
    """A wait names its limit, its reason and when to look again; 0 allowed is for ever."""
    ledger = fresh(*caps)
    ledger.reserve(ACCOUNT, POOL, START, START, 1_000)
    blocked = ledger.reserve(ACCOUNT, POOL, START, START, 1_000)
    assert isinstance(blocked, Blocked)
    assert (blocked.limit, blocked.reason, blocked.scope) == (limit, reason, ACCOUNT)
    if later_by is None:
        assert blocked.until is blocked.until_wall is None
    else:
        assert blocked.until is not None
        assert START < blocked.until <= START + later_by + 500


def test_nothing_is_planned_close_to_a_reset() -> None:
    """From 5 s before a reset to 5 s after it no send is planned."""
    midnight = datetime(2025, 6, 2, tzinfo=UTC).timestamp() * 1000
    ledger = fresh(rpd(1000))
    before = ledger.reserve(ACCOUNT, POOL, midnight - 5_001, midnight - 5_001, 1)
    after = ledger.reserve(ACCOUNT, POOL, midnight - 4_999, midnight - 4_999, 20_000)
    assert isinstance(before, Grant)
    assert isinstance(after, Grant)
    assert after.instant == midnight + 5_000


def test_pause_blocks_both_pools_or_one() -> None:
    """A pause of the account stops all its pools, one of a pool only that pool."""
    ledger = fresh()
    pause = begin(
        NO_PAUSE,
        until=int(START) + 90_000,
        reason=WaitingReason.OVERLOADED,
        detail="",
        now=START,
        wall=START,
    )
    ledger[POOL].pause = pause
    blocked = ledger.reserve(ACCOUNT, POOL, START, START, 1_000)
    assert isinstance(blocked, Blocked)
    assert (blocked.limit, blocked.reason) == ("pause", WaitingReason.OVERLOADED)
    assert blocked.until_wall == pytest.approx(START + 90_000, abs=2)
    assert isinstance(ledger.reserve(ACCOUNT, OTHER_POOL, START, START, 1_000), Grant)
    ledger[ACCOUNT].pause = pause
    assert isinstance(ledger.reserve(ACCOUNT, OTHER_POOL, START, START, 1_000), Blocked)


def test_rebook_is_refused_while_paused_and_gives_back() -> None:
    """A late send that finds a pause must not go, and its usage is given back."""
    ledger = fresh(rpd(1))
    grant = ledger.reserve(ACCOUNT, POOL, START, START, 0)
    assert isinstance(grant, Grant)
    ledger[POOL].pause = begin(
        NO_PAUSE,
        until=int(START) + 90_000,
        reason=WaitingReason.RATE_LIMITED,
        detail="",
        now=START,
        wall=START,
    )
    assert isinstance(ledger.rebook(grant, START + 500, START + 500), Blocked)
    assert isinstance(ledger.reserve(ACCOUNT, OTHER_POOL, START, START, 0), Grant)


def test_late_send_is_refused_by_a_limit_lowered_meanwhile() -> None:
    """A send that was booked under a higher limit is measured by the one in force when it goes."""
    ledger = fresh(rpm(600))
    grants = [ledger.reserve(ACCOUNT, POOL, START, START, 1_000) for _ in range(5)]
    ledger[ACCOUNT].set_caps([rpm(3)])
    assert isinstance(grants[4], Grant)
    assert isinstance(ledger.rebook(grants[4], START + 2_000, START + 2_000), Blocked)


def test_plan_falls_in_with_the_real_sends_after_a_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a stall the plan is put off once, so that the sends after it are not late one by one."""
    moves = []
    rebook = Ledger.rebook

    def counted(ledger: Ledger, grant: Grant, now: float, wall: float) -> Grant | Blocked:
        moves.append(now)
        return rebook(ledger, grant, now, wall)

    monkeypatch.setattr(Ledger, "rebook", counted)
    stalls = iter([0.0] * 20 + [1_500.0] * 3)
    drive(
        fresh(rpm(60)),
        POOLS,
        start=START,
        end=START + 10 * MINUTE,
        lateness=lambda: next(stalls, 0.0),
    )
    assert 3 <= len(moves) <= 12


def test_raised_limit_frees_at_once() -> None:
    """Neither the old window nor the old pace outlives a raised limit."""
    ledger = fresh(rpm(1))
    ledger.reserve(ACCOUNT, POOL, START, START, 0)
    assert isinstance(ledger.reserve(ACCOUNT, POOL, START, START, 1_000), Blocked)
    ledger[ACCOUNT].set_caps([rpm(600)])
    assert isinstance(ledger.reserve(ACCOUNT, POOL, START, START, 1_000), Grant)


def test_pace_survives_a_restart_in_which_caps_come_later() -> None:
    """A process that takes over keeps the pace of the one before, whenever it learns the caps."""
    disk = Disk()
    ledger = disk.load({ACCOUNT: [rpm(10)]})
    ledger.reserve(ACCOUNT, POOL, START, START, 0)
    disk.save(ledger)
    again = disk.load({})
    again[ACCOUNT].set_caps([rpm(10)])
    blocked = again.reserve(ACCOUNT, POOL, START, START, 1_000)
    assert isinstance(blocked, Blocked)
    assert blocked.until == pytest.approx(START + 6_050, abs=1)


def test_dirty_rows_are_absolute_and_can_be_put_back() -> None:
    """A failed commit loses no usage: its rows come again, with the counts of then."""
    ledger = fresh()
    ledger.reserve(ACCOUNT, POOL, START, START, 0)
    rows = ledger.take_dirty()
    assert sorted((row.scope_id, row.grain, row.n) for row in rows) == [
        (ACCOUNT, 250, 1),
        (ACCOUNT, 60_000, 1),
        (POOL, 250, 1),
        (POOL, 60_000, 1),
    ]
    assert ledger.take_dirty() == []
    ledger.put_back(rows)
    ledger.reserve(ACCOUNT, None, START, START, 0)
    again = {(row.scope_id, row.grain): row.n for row in ledger.take_dirty()}
    assert again[ACCOUNT, 250] == again[ACCOUNT, 60_000] == 2
    assert again[POOL, 250] == 1
    assert all(isinstance(row, DirtySlot) for row in rows)


def test_old_usage_is_dropped() -> None:
    """Memory does not grow with the length of a run."""
    ledger = fresh(rpm(60))
    drive(ledger, [POOL], start=START, end=START + 2 * HOUR, lateness=lambda: 0.0)
    assert len(ledger[ACCOUNT].minute.counts) < 4 * 240 + 100


def test_uses_show_what_is_left() -> None:
    """Views get used, remaining and the next reset of each limit in force."""
    noon = datetime(2025, 6, 1, 12, tzinfo=UTC).timestamp() * 1000
    ledger = fresh(rpm(2), rpd(10), interval(5))
    for _ in range(2):
        grant = ledger.reserve(ACCOUNT, POOL, noon, noon, 31_000)
        assert isinstance(grant, Grant)
    uses = {use.limit.name: use for use in ledger[ACCOUNT].uses(now=noon, wall=noon)}
    assert (uses["rpm"].used, uses["rpm"].remaining) == (2, 0)
    assert uses["rpm"].resets_at == pytest.approx(noon + 60_000, abs=501)
    assert (uses["rpd"].used, uses["rpd"].remaining) == (2, 8)
    assert uses["rpd"].resets_at == datetime(2025, 6, 2, tzinfo=UTC).timestamp() * 1000
    assert uses["min_interval"].used is None


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([rpm(50), rpm(90, "header")], [Limit("rpm", 50, "flag")]),
        ([rpm(50), rpm(20, "header")], [Limit("rpm", 50, "flag")]),
        ([rpm(20, "header")], [Limit("rpm", 20, "header")]),
        ([rpm(None), rpm(20, "header")], []),
        ([interval(0)], []),
        ([rpd(9, "rolling")], [Limit("rpd", 9, "flag", "rolling")]),
        ([Cap("rpd", 9, None, "header")], [Limit("rpd", 9, "header", "Asia/Tokyo")]),
        (
            [Cap("rpd", 9, "UTC", "header"), Cap("day_resets", None, "rolling", "flag")],
            [Limit("rpd", 9, "header", "rolling")],
        ),
    ],
    ids=["typed", "typed-above", "learned", "none", "no-gap", "zone", "default-zone", "typed-zone"],
)
def test_effective_caps_prefer_what_a_person_typed(rows: list[Cap], expected: list[Limit]) -> None:
    """A learned limit fills in only where nothing was typed."""
    assert list(effective_caps(rows, "Asia/Tokyo")) == expected
