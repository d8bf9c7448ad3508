"""What each kind of failure makes of a run that stops on it (DESIGN §3.4, CONTRACT §4 and §6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from batchrunner.models import ErrorKind, ExitCode, WaitingReason

__all__ = ["HALTS", "SAME_ERROR_JOBS", "Halt"]

#: So many distinct jobs ending alike, before any completed, stop the run.
SAME_ERROR_JOBS: Final = 10


class Halt(NamedTuple):
    """How a run stands that stopped with work left."""

    reason: WaitingReason
    #: ``True``: ``halted``, a person must mend something; ``False``: ``ready``, it may go on.
    halted: bool
    exit_code: int


_ACCOUNT: Final = ExitCode.REFUSED
_NETWORK: Final = ExitCode.NETWORK
_LEFT: Final = ExitCode.WORK_LEFT

#: Every kind. ``spend_limit`` is the undated one; a dated one within ``--max-wait`` is a wait.
HALTS: Final[Mapping[ErrorKind, Halt]] = {
    ErrorKind.AUTHENTICATION: Halt(WaitingReason.AUTHENTICATION, True, _ACCOUNT),
    ErrorKind.PERMISSION: Halt(WaitingReason.PERMISSION, True, _ACCOUNT),
    ErrorKind.CREDIT: Halt(WaitingReason.CREDIT, True, _ACCOUNT),
    ErrorKind.SPEND_LIMIT: Halt(WaitingReason.SPEND_LIMIT, True, _ACCOUNT),
    ErrorKind.MODEL_NOT_FOUND: Halt(WaitingReason.MODEL_NOT_FOUND, True, _ACCOUNT),
    ErrorKind.DNS: Halt(WaitingReason.NETWORK, True, _NETWORK),
    ErrorKind.CONNECTION: Halt(WaitingReason.NETWORK, True, _NETWORK),
    ErrorKind.TLS: Halt(WaitingReason.TLS, True, _NETWORK),
    ErrorKind.PROXY: Halt(WaitingReason.PROXY, True, _NETWORK),
    ErrorKind.REDIRECT: Halt(WaitingReason.REDIRECT, True, _NETWORK),
    ErrorKind.RATE_LIMITED: Halt(WaitingReason.RATE_LIMITED, False, _LEFT),
    ErrorKind.DAILY_LIMIT: Halt(WaitingReason.DAILY_LIMIT, False, _LEFT),
    ErrorKind.OVERLOADED: Halt(WaitingReason.OVERLOADED, False, _LEFT),
    ErrorKind.SERVER_ERROR: Halt(WaitingReason.OVERLOADED, False, _LEFT),
    ErrorKind.TIMEOUT: Halt(WaitingReason.OVERLOADED, False, _LEFT),
    ErrorKind.CONNECTION_RESET: Halt(WaitingReason.OVERLOADED, False, _LEFT),
    ErrorKind.INVALID_REQUEST: Halt(WaitingReason.SAME_ERROR, False, _LEFT),
    ErrorKind.REQUEST_TOO_LARGE: Halt(WaitingReason.SAME_ERROR, False, _LEFT),
    ErrorKind.CONTENT_REFUSED: Halt(WaitingReason.SAME_ERROR, False, _LEFT),
    ErrorKind.BAD_RESPONSE: Halt(WaitingReason.SAME_ERROR, False, _LEFT),
    ErrorKind.INTERRUPTED: Halt(WaitingReason.INTERRUPTED, False, ExitCode.INTERRUPT),
    ErrorKind.CANCELLED: Halt(WaitingReason.INTERRUPTED, False, _LEFT),
}
