"""The steady clock goes on over processes, wherever the calendar is set."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from batchrunner import clock
from batchrunner.clock import LastSeen, SystemClock
from batchrunner.store.runs import driver
from batchrunner.store.seen import go_on_from, last_seen
from batchrunner.store.sqlite.database import FileDatabase

NOW = 1_790_000_000.0
MINUTE, HOUR = 60_000.0, 3_600_000.0


class Machine(SimpleNamespace):
    """A machine's clocks, in seconds: its calendar, and the time since it was booted."""

    CLOCK_BOOTTIME = CLOCK_MONOTONIC = 0
    calendar: float
    ticks: float

    def time(self) -> float:
        """Return what the calendar says."""
        return self.calendar

    def clock_gettime(self, _: int) -> float:
        """Return the time since the boot."""
        return self.ticks

    def goes_on(self, seconds: float) -> None:
        """Let time pass."""
        self.calendar += seconds
        self.ticks += seconds

    def boots(self, name: str) -> None:
        """Begin to count anew."""
        self.ticks = 0.0
        self.boot.write_text(name)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return the machine whose clocks are read."""
    machine = Machine(calendar=NOW, ticks=1_000.0, boot=tmp_path / "boot")
    machine.boot.write_text("first")
    monkeypatch.setattr(clock, "time", machine)
    monkeypatch.setattr(clock, "_BOOT", machine.boot)
    return machine


def seen(of: SystemClock) -> LastSeen:
    """Return what a process leaves."""
    return LastSeen(of.now(), of.offset, of.boot)


@pytest.mark.parametrize("error", [3_600.0, -3_600.0], ids=["forward", "back"])
@pytest.mark.parametrize("in_its_life", [True, False])
def test_next_process_goes_on_wherever_the_calendar_was_set(
    machine: Machine, error: float, in_its_life: bool
) -> None:
    """A minute of a former process is still a minute ago for the next."""
    first = SystemClock()
    if in_its_life:
        machine.calendar += error
    left = seen(first)
    if not in_its_life:
        machine.calendar += error
    machine.goes_on(5.0)
    assert SystemClock(left).now() == pytest.approx(left.at + 5_000.0)


def test_another_boot_begins_at_the_later_of_calendar_and_last_time(machine: Machine) -> None:
    """What the machine counts begins anew with a boot."""
    left = seen(SystemClock())
    machine.boots("second")
    machine.goes_on(50.0)
    assert SystemClock(left).now() == pytest.approx(left.at + 50_000.0)
    machine.calendar -= 3_600.0
    assert SystemClock(left).now() == pytest.approx(left.at)


def test_machine_put_back_to_an_earlier_state_opens_no_window(machine: Machine) -> None:
    """The count of a virtual machine may go back, without a boot."""
    left = seen(SystemClock())
    machine.goes_on(-500.0)
    assert SystemClock(left).now() >= left.at


def test_steady_time_reads_like_a_date_again_where_nobody_sends(machine: Machine) -> None:
    """An hour after the last send nothing looks back; but who sends keeps its clock."""
    left = seen(SystemClock())
    machine.calendar += 1_800.0
    machine.goes_on(3_700.0)
    assert SystemClock(left).now() == pytest.approx(machine.calendar * 1000)
    assert SystemClock(left, is_alone=False).now() == pytest.approx(left.at + 3_700_000.0)


def test_system_without_a_name_for_its_boot_goes_by_the_calendar(
    machine: Machine, tmp_path: Path
) -> None:
    """As on macOS: the later of the calendar and the last time."""
    machine.boot.unlink()
    left = seen(SystemClock())
    machine.goes_on(9.0)
    assert SystemClock(left).now() == pytest.approx(left.at + 9_000.0)


def test_offset_is_stored_for_the_next_process(machine: Machine, tmp_path: Path) -> None:
    """Each process that begins finds what the one before it had, and changes nothing of it."""
    db = FileDatabase.open(tmp_path / "jobs.db", create=True)
    with db.write() as connection:
        first = go_on_from(driver(connection), is_alone=True)
    machine.calendar += 3_600.0
    machine.goes_on(2.0)
    with db.write() as connection:
        conn = driver(connection)
        stored = last_seen(conn)
        assert go_on_from(conn, is_alone=True).now() == pytest.approx(first.now())
        assert last_seen(conn) == stored
