"""How many connections this process may have open at once.

Each is an open file, and so are the database, its log and its locks: where the system allows too few,
fewer requests are in flight, so that there is always one left to store an answer with.
"""

from __future__ import annotations

import resource
from typing import Final

__all__ = ["RESERVE", "most_connections"]

#: What the database with its log and locks, the event loop, files and names looked up may need.
RESERVE: Final = 40
#: More than anybody has in flight; an endless limit is none to divide up.
ENOUGH: Final = 65_536


def most_connections() -> int:
    """Return how many connections may be open, at least 1; the soft limit is raised to the hard one first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (OSError, ValueError):
            # macOS has a lower limit of its own.
            most = soft
    return max(1, most - RESERVE)
