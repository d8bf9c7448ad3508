"""Days of a zone as instants, over every kind of clock change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrunner.core.days import check_zone, day_start, next_reset

HOUR = 3_600_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * 1000


@pytest.mark.parametrize(
    ("zone", "instant", "start", "reset", "hours"),
    [
        ("UTC", "2025-06-01T00:00:00Z", "2025-06-01T00:00:00Z", "2025-06-02T00:00:00Z", 24),
        ("UTC", "2025-06-01T23:59:59Z", "2025-06-01T00:00:00Z", "2025-06-02T00:00:00Z", 24),
        (
            "America/Los_Angeles",
            "2025-03-09T20:00:00Z",
            "2025-03-09T00:00:00-08:00",
            "2025-03-10T00:00:00-07:00",
            23,
        ),
        (
            "America/Los_Angeles",
            "2025-11-02T20:00:00Z",
            "2025-11-02T00:00:00-07:00",
            "2025-11-03T00:00:00-08:00",
            25,
        ),
        # Midnight does not exist: the clock jumps from 24:00 to 01:00.
        (
            "America/Sao_Paulo",
            "2017-10-15T12:00:00Z",
            "2017-10-15T01:00:00-02:00",
            "2017-10-16T00:00:00-02:00",
            23,
        ),
        (
            "Africa/Cairo",
            "2024-04-26T12:00:00Z",
            "2024-04-26T01:00:00+03:00",
            "2024-04-27T00:00:00+03:00",
            23,
        ),
        (
            "Asia/Beirut",
            "2024-03-31T12:00:00Z",
            "2024-03-31T01:00:00+03:00",
            "2024-04-01T00:00:00+03:00",
            23,
        ),
        # The hour before midnight comes twice, and both are the old day.
        (
            "Africa/Cairo",
            "2024-10-31T21:30:00Z",
            "2024-10-31T00:00:00+03:00",
            "2024-11-01T00:00:00+02:00",
            25,
        ),
        # The zone skipped 30 December whole.
        (
            "Pacific/Apia",
            "2011-12-29T20:00:00-10:00",
            "2011-12-29T00:00:00-10:00",
            "2011-12-31T00:00:00+14:00",
            24,
        ),
        (
            "Asia/Kathmandu",
            "2025-06-01T12:00:00Z",
            "2025-06-01T00:00:00+05:45",
            "2025-06-02T00:00:00+05:45",
            24,
        ),
    ],
)
def test_day_begins_and_ends(zone: str, instant: str, start: str, reset: str, hours: int) -> None:
    """A day runs from its first instant to that of the next day, whatever the clocks do."""
    wall = ms(instant)
    assert day_start(wall, zone) == ms(start)
    assert next_reset(wall, zone) == ms(reset)
    assert next_reset(wall, zone) - day_start(wall, zone) == hours * HOUR


@settings(max_examples=200, deadline=None)
@given(
    wall=st.floats(0, 4e12),
    zone=st.sampled_from(
        [
            "UTC",
            "America/New_York",
            "America/Sao_Paulo",
            "Africa/Cairo",
            "America/St_Johns",
            "Asia/Beirut",
            "Australia/Lord_Howe",
            "Pacific/Kiritimati",
            "Pacific/Apia",
        ]
    ),
)
def test_days_follow_one_another(wall: float, zone: str) -> None:
    """Every instant is in one day: it has begun, has not ended, and ends where the next begins."""
    start, reset = day_start(wall, zone), next_reset(wall, zone)
    assert start <= wall < reset
    assert day_start(start, zone) == start
    assert day_start(reset, zone) == reset
    assert next_reset(reset - 1, zone) == reset


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Sao_Paulo", "Africa/Cairo"])
def test_days_agree_with_the_calendar(zone: str) -> None:
    """Two instants an hour apart are in one day exactly if the zone's calendar says so."""
    info = ZoneInfo(zone)
    moment = datetime(2017, 1, 1, tzinfo=UTC)
    for _ in range(366 * 24):
        wall, later = moment.timestamp() * 1000, moment + timedelta(hours=1)
        same = moment.astimezone(info).date() == later.astimezone(info).date()
        assert (day_start(wall, zone) == day_start(wall + HOUR, zone)) is same
        moment = later


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"])
def test_check_zone_takes_what_exists(zone: str) -> None:
    """An IANA name is a zone."""
    check_zone(zone)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("europe/berlin", "Europe/Berlin"),
        ("Los Angeles", "America/Los_Angeles"),
        ("America/New_Yrok", "America/New_York"),
        ("Tokio", "Asia/Tokyo"),
    ],
)
def test_check_zone_names_what_was_meant(name: str, near: str) -> None:
    """A misspelt zone is refused with those that come near."""
    with pytest.raises(ValueError, match=near):
        check_zone(name)


@pytest.mark.parametrize("name", ["", "xyzzy", "../etc/passwd"])
def test_check_zone_refuses_nonsense(name: str) -> None:
    """A name that is like none is refused without a guess."""
    with pytest.raises(ValueError, match=r"no time zone$"):
        check_zone(name)
