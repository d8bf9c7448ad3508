"""How long to wait after a failure: pure functions of a count and a random number.

Three ladders, for three situations: a job's own failure (full jitter, so that jobs which failed
together do not come back together), a 429 that names no time, and an outage that is probed.
"""

from __future__ import annotations

from typing import Final

RETRY_BASE_MS: Final = 1_000
RETRY_CAP_MS: Final = 60_000
PAUSE_BASE_MS: Final = 5_000
PAUSE_CAP_MS: Final = 3_600_000
PROBE_BASE_MS: Final = 5_000
PROBE_CAP_MS: Final = 300_000

#: More doublings than any ladder has; keeps huge counts from making huge integers.
_MAX_DOUBLINGS: Final = 32


def _doubled(base: int, level: int, cap: int) -> int:
    return min(cap, base << min(max(level, 0), _MAX_DOUBLINGS))


def retry_delay_ms(attempt: int, rand: float) -> int:
    """Return the wait before a job's next try.

    Args:
        attempt: tries so far, from 1.
        rand: uniform in [0, 1); the wait is that share of 1 s doubled each try, at most 60 s.
    """
    return int(rand * _doubled(RETRY_BASE_MS, attempt - 1, RETRY_CAP_MS))


def pause_delay_ms(level: int) -> int:
    """Return the pause after the ``level``-th (from 0) 429 in a row that named no time: 5 s → 1 h."""
    return _doubled(PAUSE_BASE_MS, level, PAUSE_CAP_MS)


def probe_delay_ms(level: int) -> int:
    """Return the wait before the ``level``-th (from 0) probe of an outage: 5 s → 5 min."""
    return _doubled(PROBE_BASE_MS, level, PROBE_CAP_MS)
