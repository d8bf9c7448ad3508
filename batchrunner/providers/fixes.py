"""What helps, in one sentence: against each kind of failure for ``errors``, and in providers' rules.

The sentences of rules are filled in as :class:`batchrunner.core.rules.Rule` says.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Final

from batchrunner.core.expected import CUT_SAYS, UNMET_SAYS
from batchrunner.core.wordings import FIELD_SAYS, MEANT, NO_API_SAYS, NOTHING_SAYS, OTHER_MODEL
from batchrunner.models import ErrorKind

__all__ = [
    "ADD_CREDIT",
    "ADD_CREDIT_ANTHROPIC",
    "ADD_CREDIT_OPENAI",
    "DEAR_SAYS",
    "NOT_A_SUBSCRIPTION",
    "OTHER_MODEL",
    "RAISE_LIMIT",
    "SAMPLING_SAYS",
    "SHORTEN",
    "fix_of",
]

ADD_CREDIT: Final = "Add credit at the provider, then: batchrunner resume"
ADD_CREDIT_ANTHROPIC: Final = (
    "A Claude.ai subscription (Pro, Max, Team) is not API credit. Add credit in the Claude Console"
    " (Plans & Billing), then: batchrunner resume"
)
ADD_CREDIT_OPENAI: Final = (
    "A ChatGPT subscription is not API credit. Add credit at platform.openai.com (Billing), then:"
    " batchrunner resume"
)
RAISE_LIMIT: Final = "Raise the limit in the provider's console, or wait; then: batchrunner resume"
SHORTEN: Final = (
    "It asks for more than the whole limit: shorten it, or lower max_tokens; then submit with"
    " --update."
)
#: For those who pay for a chat program and take that for the API.
NOT_A_SUBSCRIPTION: Final = (
    "A Claude.ai subscription (Pro, Max, Team) is not API credit. Make an API key at {page}, then:"
    " {set_key}"
)

#: How two of our messages begin.
SAMPLING_SAYS: Final = (
    "temperature, top_p and top_k are gone from API version 2026-10-21 and from some models"
)
DEAR_SAYS: Final = "The request may cost more than the credit that is left"

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


_MEANT: Final = re.compile(re.escape(MEANT).replace(re.escape("{base}"), r"(\S+)"))
#: How a message begins whose cause is known better than by its kind → what helps.
_KNOWN: Final[Mapping[str, str]] = {
    UNMET_SAYS: "see one with batchrunner show {run} JOB; ask more plainly for JSON, or correct the schema: "
    + _RETRY
    + " --expect-json SCHEMA",
    CUT_SAYS: "allow longer answers: " + _RETRY + " --set max_tokens=N",
    SAMPLING_SAYS: "take them out, and submit the file with --update; or, if a newer API version was"
    " asked for, ask for the older: " + _RETRY + " --api-version 2023-06-01",
    FIELD_SAYS: "take the field out and submit the mended file with --update, or replace it: "
    + _RETRY
    + " --set FIELD=VALUE",
    NOTHING_SAYS: "correct the address: " + _RETRY + " --base-url {base}",
    NO_API_SAYS: "correct the address: " + _RETRY + " --base-url {base}",
    DEAR_SAYS: "ask for less: " + _RETRY + " --set max_tokens=N; or add credit",
}


def fix_of(kind: ErrorKind, run: str, message: str = "") -> str:
    """Return what helps against failures of ``kind``, one of which said ``message``, in run ``run``."""
    known = (fix for start, fix in _KNOWN.items() if message.startswith(start))
    fix = next(known, _FIXES.get(kind, f"try them again: {_RETRY}"))
    meant = _MEANT.search(message)
    return fix.format(run=shlex.quote(run), kind=kind.value, base=meant[1] if meant else "URL")
