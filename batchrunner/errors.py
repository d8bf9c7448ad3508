"""The exception tree: every error a person can meet, with its exit code and its fix.

BatchrunnerError                what happened, why (``message``), what to do (``fix``)
├── UsageError            2     the command, its options, the environment
│   └── InputError        2     an input file: carries every faulty line
├── StoppedError          3     stopped with work left
├── RefusedError          4     the provider refuses this account
├── DatabaseError         5     the database can't be used
│   ├── NoDatabaseError   2     there is none where we looked
│   ├── BusyError         5     another process is on it
│   ├── AwayError         5     its server is gone, or not there yet: waiting may help
│   ├── LostTurnError     5     its server was away meanwhile: what was begun is not stored
│   └── ReplacedError     5     another process sends in this one's place
├── NetworkError          6     the provider can't be reached
└── DefectError          70     a defect in batchrunner itself
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from batchrunner.models import ExitCode, LineFault

__all__ = [
    "AwayError",
    "BatchrunnerError",
    "BusyError",
    "DatabaseError",
    "DefectError",
    "InputError",
    "LostTurnError",
    "NetworkError",
    "NoDatabaseError",
    "RefusedError",
    "ReplacedError",
    "StoppedError",
    "UsageError",
]


class BatchrunnerError(Exception):
    """An error with a message for a person, a fix, and an exit code."""

    exit_code: ClassVar[int] = ExitCode.DEFECT
    default_kind: ClassVar[str] = "defect"

    def __init__(self, message: str, *, fix: str = "", kind: str = "") -> None:
        """Store what happened and why, and what to do next."""
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.kind = kind or self.default_kind


class UsageError(BatchrunnerError):
    """The command, an option or the environment is wrong; nothing was stored."""

    exit_code = ExitCode.USAGE
    default_kind = "usage"


class InputError(UsageError):
    """An input file has lines that can't become jobs; nothing was stored."""

    default_kind = "input"

    def __init__(
        self,
        message: str,
        *,
        faults: Sequence[LineFault] = (),
        n_faults: int = 0,
        fix: str = "",
        kind: str = "",
    ) -> None:
        """Store the first faults (at most 20) and how many there are in all."""
        super().__init__(message, fix=fix, kind=kind)
        self.faults = tuple(faults)
        self.n_faults = n_faults or len(self.faults)


class StoppedError(BatchrunnerError):
    """A run stopped with work left, as it was told to."""

    exit_code = ExitCode.WORK_LEFT
    default_kind = "stopped"


class RefusedError(BatchrunnerError):
    """The provider refuses this account; jobs stay pending."""

    exit_code = ExitCode.REFUSED
    default_kind = "authentication"


class DatabaseError(BatchrunnerError):
    """The database is locked, damaged, newer, read-only or out of space."""

    exit_code = ExitCode.DATABASE
    default_kind = "database"


class NoDatabaseError(DatabaseError):
    """There is no database at the path that was looked at."""

    exit_code = ExitCode.USAGE
    default_kind = "no_database"


class BusyError(DatabaseError):
    """Another process uses the database in a way that excludes this command."""

    default_kind = "busy"


class AwayError(DatabaseError):
    """The database's server is gone, or not there yet; it may come back."""

    default_kind = "away"
    #: The connection stands: what was begun may be tried again at once.
    is_connected = False


class LostTurnError(DatabaseError):
    """The server was away and is back; what was begun before is not stored, and no more true."""


class ReplacedError(DatabaseError):
    """Another process has become the one that sends while this one was cut off."""

    default_kind = "busy"


class NetworkError(BatchrunnerError):
    """The provider can't be reached."""

    exit_code = ExitCode.NETWORK
    default_kind = "network"


class DefectError(BatchrunnerError):
    """A defect in batchrunner; the message names the file with the traceback."""
