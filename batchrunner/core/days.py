"""Calendar days of a zone, as instants.

A day begins at the first instant whose local date is that day's: at midnight, or where the clocks
jump over midnight at the end of the jump. So days have 23, 24 or 25 hours, and a date that a zone
skipped has none. Instants are epoch milliseconds on the wall clock.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

_EPOCH = date(1970, 1, 1)
#: Offsets from UTC reach from -12 h to +14 h; a transition may add some.
_REACH_S = 30 * 3600


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


# What is forecast five years ahead is asked for again with every picture of a run.
@lru_cache(maxsize=8_192)
def _first_second(ordinal: int, zone: str) -> int:
    """Return the first second (epoch) of a date; for a skipped date, of the next one."""
    info = _zone(zone)
    wanted = date.fromordinal(ordinal)
    utc_midnight = (wanted - _EPOCH) // timedelta(seconds=1)
    seconds = range(utc_midnight - _REACH_S, utc_midnight + _REACH_S)
    # Asking what date an instant has is exact in every zone; building a midnight is not, as it
    # may not exist or may exist twice.
    return seconds[
        bisect_left(seconds, True, key=lambda s: datetime.fromtimestamp(s, info).date() >= wanted)
    ]


def _around(wall_ms: float, zone: str) -> tuple[int, ...]:
    """Return the first instants of yesterday, today, tomorrow and the day after (ms)."""
    today = datetime.fromtimestamp(wall_ms // 1000, UTC).astimezone(_zone(zone)).toordinal()
    return tuple(_first_second(today + day, zone) * 1000 for day in (-1, 0, 1, 2))


def day_start(wall_ms: float, zone: str) -> int:
    """Return the first instant (ms) of the day that ``wall_ms`` is in."""
    return max(start for start in _around(wall_ms, zone) if start <= wall_ms)


def next_reset(wall_ms: float, zone: str) -> int:
    """Return the first instant (ms) of the next day; always later than ``wall_ms``."""
    return min(start for start in _around(wall_ms, zone) if start > wall_ms)


def check_zone(name: str) -> None:
    """Refuse a name that is no IANA zone.

    Raises:
        ValueError: its message names zones that come near.
    """
    known = available_timezones()
    if name in known:
        return
    wanted = name.strip().lower().replace(" ", "_")
    by_word: dict[str, str] = {}
    for zone in sorted(known):
        by_word[zone.lower()] = zone
        by_word.setdefault(zone.rpartition("/")[2].lower(), zone)
    near = dict.fromkeys(by_word[word] for word in get_close_matches(wanted, by_word, cutoff=0.7))
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(f"{name!r} is no time zone{hint}")
