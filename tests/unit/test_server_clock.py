"""The clock of all who send from a server goes on evenly, whoever's calendar is set meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from batchrunner import clock
from batchrunner.store import server_clock
from batchrunner.store.server_clock import ServerClock

HOUR = 3_600_000.0


class World:
    """A server's calendar, and the ticks of the machine that asks it."""

    def __init__(self) -> None:
        self.server = 1_700_000_000_000.0
        self.ticks = 5_000.0
        self.conn = sqlite3.connect(":memory:")
        self.conn.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT)")
        self.conn.create_function("server_now", 0, lambda: self.server)

    def passes(self, ms: float) -> None:
        """Let time pass for both."""
        self.server += ms
        self.ticks += ms

    def stores(self, key: str, value: float) -> None:
        """Have another process store something."""
        self.conn.execute("REPLACE INTO meta VALUES (?, ?)", (key, str(int(value))))

    def look(self, mine: ServerClock) -> None:
        """Look once, as a writer does."""
        _, is_set = mine.look(self.conn)
        if is_set:
            mine.mend(self.conn)

    @property
    def shift(self) -> int:
        """What all add to the server's clock."""
        row = self.conn.execute("SELECT value FROM meta WHERE key = 'clock_shift'").fetchone()
        return int(row[0]) if row else 0


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world whose clocks are ours."""
    made = World()
    look = server_clock._LOOK.partition(" CAST(extract")[0] + " server_now(), coalesce("
    look += "(SELECT value FROM meta WHERE key = 'clock_shift'), '0')"
    monkeypatch.setattr(server_clock, "_LOOK", look)
    for module in (clock, server_clock):
        monkeypatch.setattr(module, "ticks", lambda: made.ticks)
    yield made
    made.conn.close()


def test_it_is_the_servers(world: World) -> None:
    """Both times are what the server says, whatever this machine's calendar has."""
    mine = ServerClock(world.conn, is_alone=False)
    world.passes(1_000.0)
    assert mine.now() == mine.wall() == world.server


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_clock_that_is_set_shortens_and_stretches_nothing(world: World, step: float) -> None:
    """Steady time goes on by the ticks, for who notices and for all others; the calendar follows the server."""
    mine, other = (ServerClock(world.conn, is_alone=False) for _ in range(2))
    before = mine.now()
    world.passes(250.0)
    world.server += step
    for one in (mine, other):
        world.look(one)
        assert one.now() == before + 250.0
        assert one.wall() == world.server
    assert world.shift == -step
    late = ServerClock(world.conn, is_alone=False)
    assert late.now() == mine.now()


def test_a_machine_that_stood_still_moves_nobody(world: World) -> None:
    """Where others have stored a later time it is one's own ticks that are behind: they are caught up."""
    mine = ServerClock(world.conn, is_alone=False)
    world.server += 60_000.0
    world.stores("seen_at", world.server - 500.0)
    world.look(mine)
    assert world.shift == 0
    assert mine.now() == world.server


def test_it_never_steps_back(world: World) -> None:
    """Where the shift of all goes back it stands still until it has been caught up with."""
    mine = ServerClock(world.conn, is_alone=False)
    before = mine.now()
    world.stores("clock_shift", -2_000)
    world.look(mine)
    world.passes(500.0)
    assert mine.now() == before
    world.passes(2_000.0)
    assert mine.now() == before + 500.0


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_what_was_set_while_nobody_sent_opens_no_window_twice(world: World, step: float) -> None:
    """Who begins alone goes on from what the former one stored, by this machine's ticks where it can."""
    first = ServerClock(world.conn, is_alone=True)
    world.passes(30_000.0)
    world.stores("seen_at", first.now())
    world.passes(1_000.0)
    world.server += step
    assert ServerClock(world.conn, is_alone=True).now() == pytest.approx(first.now(), abs=1.0)
