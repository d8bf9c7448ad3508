"""One address to examine, what it is examined with, and how its failures are written down."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from batchrunner.checkup.allowance import Allowance
from batchrunner.checkup.asking import Asked
from batchrunner.checkup.sheet import Sheet
from batchrunner.checkup.subject import Subject
from batchrunner.core.credentials import Secrets
from batchrunner.core.outcomes import HALTS
from batchrunner.core.wordings import ASK_DOCTOR
from batchrunner.errors import BatchrunnerError
from batchrunner.models import ErrorKind, ExitCode
from batchrunner.store.holder import RunRow
from batchrunner.views import CheckStatus, LimitView
from batchrunner.wiring import Wiring

__all__ = ["Case", "put_failure", "put_refusal"]

#: What goes by itself: a run waits for it.
_PASSING: Final = frozenset({ErrorKind.RATE_LIMITED, ErrorKind.DAILY_LIMIT, ErrorKind.OVERLOADED})
_LATER: Final = "Look again later; a run waits until there is room by itself."
_ELSE: Final = (
    "Run doctor again. If it stays, ask whoever runs that address, or the firewall or proxy before it;"
    " a run tries such requests again by itself."
)
#: What follows on a mend during a run; with --set it is the run's own.
_THEN_RESUME: Final = re.compile(
    r"([Tt])hen run resume|batchrunner resume(?=$|[.,;)]| --(?!set)|  #)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One address to examine, and what it is examined with."""

    subject: Subject
    #: ``None``: there is none that can be used.
    base_url: str | None
    #: One of several proxies, as it was said; ``None``: the first, if there is any.
    proxy: str | None
    environ: Mapping[str, str]
    wiring: Wiring
    #: Those that the wiring has found.
    secrets: Secrets
    #: What was said while the key was read; grows.
    notices: list[str]
    #: Account's key → the ledger's word.
    allowance: Callable[[str], Allowance]
    #: Account's key → the limits in force in the database.
    limits: Callable[[str], Sequence[LimitView]]
    is_live: bool

    @property
    def row(self) -> RunRow:
        """A run of no jobs that goes there."""
        return self.subject.row(self.base_url, self.proxy)


def put_failure(sheet: Sheet, check: str, asked: Asked, *, after: str = "") -> None:
    """Write down what a request met, in the words that a run would have for it."""
    assert asked.decision is not None
    kind, message = asked.decision.kind, asked.decision.message
    code = HALTS[kind].exit_code if kind is not None else ExitCode.NETWORK
    if code not in (ExitCode.REFUSED, ExitCode.NETWORK):
        code = ExitCode.NETWORK
    status = asked.reply.status if asked.reply is not None else None
    if status is not None and status >= 400 and str(status) not in message:
        message = f"HTTP {status}: {message}"
    # A list that does not come in time is no long answer.
    fix = "" if kind is ErrorKind.TIMEOUT else _for_doctor(asked.decision.fix)
    sheet.put(
        check,
        CheckStatus.WARN if kind in _PASSING else CheckStatus.FAIL,
        message + after,
        fix=fix or (_LATER if kind in _PASSING else _ELSE),
        took_ms=asked.took_ms,
        exit_code=code,
    )


def put_refusal(sheet: Sheet, check: str, error: BatchrunnerError) -> None:
    """Write down what is refused before anything is sent."""
    sheet.put(
        check,
        CheckStatus.FAIL,
        error.message,
        fix=_for_doctor(error.fix),
        exit_code=error.exit_code,
    )


def _for_doctor(fix: str) -> str:
    """Return a mend during a run as one for whoever examines the way."""
    return _THEN_RESUME.sub(
        lambda found: f"{found[1]}hen run doctor again" if found[1] else "batchrunner doctor",
        fix.replace(ASK_DOCTOR, ""),
    )
