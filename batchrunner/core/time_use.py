"""What a run's time goes into: one cause at a time, so that the parts sum to the whole.

A cause is what kept the next request from going out: a limit, a pause, an outage, a backoff, or that
all the requests which may be under way were. While nobody runs the run it is why nobody does.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from batchrunner.core.caps import METERS, MIN_INTERVAL, WORDS
from batchrunner.models import WaitingReason

__all__ = [
    "DIED",
    "HANDED_OVER",
    "OUTAGE",
    "OVER",
    "RETRY",
    "SENDING",
    "STALLED",
    "UNRECORDED",
    "WAITS",
    "Kind",
    "cause_words",
    "is_nobody",
    "kind_of",
    "stopped",
]


class Kind(StrEnum):
    """Of which kind a cause is."""

    #: Requests were under way, as many as may be or as there were.
    SENDING = "sending"
    #: A limit that is known: the account's or the pool's.
    LIMIT = "limit"
    #: The provider asked to wait.
    PAUSE = "pause"
    #: Nothing succeeded; one request at a time was tried.
    OUTAGE = "outage"
    #: The jobs left had failed before, and their backoff went on.
    RETRY = "retry"
    #: The money was used up for a while.
    BUDGET = "budget"
    #: No process ran it, or the process stood still.
    NOBODY = "nobody"
    #: Before this was recorded.
    UNKNOWN = "unknown"


#: Kinds that are waiting while somebody runs the run.
WAITS: Final = frozenset({Kind.LIMIT, Kind.PAUSE, Kind.OUTAGE, Kind.RETRY, Kind.BUDGET})

SENDING: Final = "sending"
RETRY: Final = "retry"
OUTAGE: Final = "outage"
STALLED: Final = "stalled"
UNRECORDED: Final = "unrecorded"
#: Before why a run stopped, as the cause of the time in which nobody ran it.
_STOPPED: Final = "stopped."
DIED: Final = f"{_STOPPED}died"
OVER: Final = f"{_STOPPED}over"
HANDED_OVER: Final = f"{_STOPPED}handed_over"

#: Causes but those of a stop: their kind, and what a person reads.
_CAUSES: Final[Mapping[str, tuple[Kind, str]]] = {
    SENDING: (Kind.SENDING, "sending: waiting for answers"),
    **{name: (Kind.LIMIT, f"limit of {WORDS[name]} ({name})") for name in METERS},
    MIN_INTERVAL: (Kind.LIMIT, "least time between two sends (min-interval)"),
    WaitingReason.RATE_LIMITED.value: (Kind.PAUSE, "pauses after 429s"),
    WaitingReason.DAILY_LIMIT.value: (Kind.PAUSE, "the provider's daily cap"),
    WaitingReason.SPEND_LIMIT.value: (Kind.PAUSE, "the provider's spend limit"),
    OUTAGE: (Kind.OUTAGE, "outage: provider or network"),
    RETRY: (Kind.RETRY, "backoff before retries"),
    WaitingReason.BUDGET.value: (Kind.BUDGET, "budget used up"),
    STALLED: (Kind.NOBODY, "the machine slept or stood still, or its database was away"),
    UNRECORDED: (Kind.UNKNOWN, "not recorded: before an upgrade"),
}
#: Why nobody ran it, where that is more than its reason's own name.
_STOPS: Final[Mapping[str, str]] = {
    "died": "its process was killed, or crashed",
    "over": "finished, until more was to be sent",
    "handed_over": "another process was to take it over",
    "paused": "paused by a person, or after its sample",
    "cancelled": "cancelled, until put back",
    "interrupted": "stopped by Ctrl-C or a signal",
    "max_time": "--max-time was over",
    "max_failures": "--max-failures was reached",
    "same_error": "every job failed alike",
    "rate_limited": "rate limited for longer than it might wait",
    "daily_limit": "the day's limit was used up",
    "budget": "no money was left to spend",
}


def stopped(reason: str) -> str:
    """Return the cause of the time after a stop for that reason."""
    return _STOPPED + reason


def kind_of(cause: str) -> Kind:
    """Return of which kind a stored cause is."""
    if cause.startswith(_STOPPED):
        return Kind.NOBODY
    return _CAUSES[cause][0] if cause in _CAUSES else Kind.PAUSE


def is_nobody(cause: str) -> bool:
    """Whether a wait of that cause is one in which no process had the run."""
    return cause.startswith(_STOPPED) or cause == UNRECORDED


def cause_words(cause: str) -> str:
    """Return a cause as a person reads it."""
    if cause.startswith(_STOPPED):
        reason = cause.removeprefix(_STOPPED)
        return f"nobody ran it: {_STOPS.get(reason, reason.replace('_', ' '))}"
    return _CAUSES[cause][1] if cause in _CAUSES else cause.replace("_", " ")
