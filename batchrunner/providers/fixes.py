"""What helps against each kind of failure, in one sentence, for ``errors``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from batchrunner.models import ErrorKind

__all__ = ["fix_of"]

_RETRY: Final = "batchrunner retry {run} --error {kind}"

_FIXES: Final[Mapping[ErrorKind, str]] = {
    ErrorKind.INVALID_REQUEST: "mend the requests: submit the mended file with --update, or replace"
    " a field with " + _RETRY + " --set FIELD=VALUE",
    ErrorKind.REQUEST_TOO_LARGE: "shorten the requests or choose a model with a larger context, then"
    " submit the mended file with --update",
    ErrorKind.CONTENT_REFUSED: "the provider refuses this content; change the requests and submit"
    " the file with --update",
    ErrorKind.MODEL_NOT_FOUND: "name a model that exists: " + _RETRY + " --set model=NAME",
    ErrorKind.BAD_RESPONSE: "see one with batchrunner show {run} JOB; then " + _RETRY,
    ErrorKind.TIMEOUT: "give them longer: " + _RETRY + " --timeout 20m",
    ErrorKind.CANCELLED: "batchrunner retry {run} --status cancelled",
}


def fix_of(kind: ErrorKind, run: str) -> str:
    """Return what helps against failures of ``kind`` in run ``run``."""
    return _FIXES.get(kind, f"try them again: {_RETRY}").format(run=run, kind=kind.value)
