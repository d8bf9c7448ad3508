"""The checks of one address in their order, each written down once. Pure.

The first check that fails ends what can be found out: those after it are skipped and name it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from batchrunner.core.credentials import Secrets
from batchrunner.models import ErrorKind, ExitCode
from batchrunner.transport.proxies import without_password
from batchrunner.views import CheckStatus, CheckView

__all__ = ["MACHINE", "PLACES", "WAY", "Sheet", "exit_code_of"]

#: Checks of the way to a provider, in the order in which a request meets what they look at.
WAY: Final = (
    "configuration",
    "key",
    "dns",
    "tcp",
    "proxy",
    "tls",
    "http",
    "authentication",
    "permission",
    "model",
    "live",
    "limits",
    "clock",
)
#: Checks of this machine.
MACHINE: Final = ("database", "disk")

#: In which check a failure of a request belongs.
PLACES: Final[Mapping[ErrorKind, str]] = {
    ErrorKind.DNS: "dns",
    ErrorKind.CONNECTION: "tcp",
    ErrorKind.PROXY: "proxy",
    ErrorKind.TLS: "tls",
    ErrorKind.AUTHENTICATION: "authentication",
    ErrorKind.PERMISSION: "permission",
    ErrorKind.CREDIT: "permission",
    ErrorKind.SPEND_LIMIT: "permission",
    ErrorKind.MODEL_NOT_FOUND: "model",
    ErrorKind.RATE_LIMITED: "limits",
    ErrorKind.DAILY_LIMIT: "limits",
}


class Sheet:
    """What was found at one address."""

    def __init__(
        self,
        base_url: str | None,
        names: Sequence[str],
        *,
        proxy: str | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        """Take the address, the proxy where there are several, and the checks there are, in order.

        What is known of ``secrets`` is left out of whatever is written down.
        """
        self._secrets = Secrets() if secrets is None else secrets
        self._base_url = base_url
        self._proxy = None if proxy is None else without_password(proxy)
        self._names = names
        self._found: dict[str, CheckView] = {}
        #: Why checks that nobody wrote down are skipped, from that check on.
        self._ends: list[tuple[int, str]] = []

    def put(
        self,
        check: str,
        status: CheckStatus,
        detail: str,
        *,
        fix: str = "",
        took_ms: float | None = None,
        exit_code: int = ExitCode.DONE,
    ) -> None:
        """Write one check down; after a failure the rest is skipped, save what is written down."""
        self._found[check] = CheckView(
            check=check,
            status=status,
            detail=self._secrets.hide(detail),
            fix=self._secrets.hide(fix),
            took_ms=took_ms,
            base_url=self._base_url,
            proxy=self._proxy,
            exit_code=exit_code if status is CheckStatus.FAIL else ExitCode.DONE,
        )
        if status is CheckStatus.FAIL:
            self.end(check, f"not reached: {check} failed")

    def has(self, check: str) -> bool:
        """Return whether a check is written down."""
        return check in self._found

    def has_failed(self, check: str) -> bool:
        """Return whether a check is written down as failed."""
        return check in self._found and self._found[check].status is CheckStatus.FAIL

    def end(self, check: str, why: str) -> None:
        """Have the checks after ``check`` skipped, save those written down, and say why."""
        self._ends.append((self._names.index(check), why))

    def checks(self) -> list[CheckView]:
        """Return every check in order."""
        return [
            self._found.get(name) or self._skipped(index, name)
            for index, name in enumerate(self._names)
        ]

    def _skipped(self, index: int, name: str) -> CheckView:
        before = (end for end in self._ends if end[0] <= index)
        why = max(before, default=(0, "not looked at"))[1]
        return CheckView(
            check=name,
            status=CheckStatus.SKIP,
            detail=why,
            base_url=self._base_url,
            proxy=self._proxy,
        )


def exit_code_of(checks: Sequence[CheckView]) -> int:
    """Return the exit code: that of the first check that failed."""
    failed = (check.exit_code for check in checks if check.status is CheckStatus.FAIL)
    return next(failed, ExitCode.DONE)
