"""What helps, in one sentence: against each kind of failure for ``errors``, and in providers' rules.

The sentences of rules are filled in by :mod:`batchrunner.core.classify`: ``{key}`` is the variable
that holds the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from batchrunner.models import ErrorKind

__all__ = [
    "ADD_CREDIT",
    "ADD_CREDIT_ANTHROPIC",
    "ADD_CREDIT_OPENAI",
    "NOT_A_SUBSCRIPTION",
    "OTHER_MODEL",
    "RAISE_LIMIT",
    "SHORTEN",
    "fix_of",
]

ADD_CREDIT: Final = "Add credit at the provider, then run resume."
ADD_CREDIT_ANTHROPIC: Final = (
    "Add credit in the Claude Console (Plans & Billing), then run resume. A Claude.ai subscription"
    " (Pro, Max, Team) is not API credit."
)
ADD_CREDIT_OPENAI: Final = (
    "Add credit at platform.openai.com (Billing), then run resume. A ChatGPT subscription is not API"
    " credit."
)
RAISE_LIMIT: Final = "Raise the limit in the provider's console, or wait; then run resume."
SHORTEN: Final = (
    "It asks for more than the whole limit: shorten it, or lower max_tokens; then submit with"
    " --update."
)
OTHER_MODEL: Final = "Check the model's name, then: batchrunner resume --set model=NAME"
#: For those who pay for a chat program and take that for the API.
NOT_A_SUBSCRIPTION: Final = (
    "A Claude.ai subscription (Pro, Max, Team) is not API credit: make an API key in the Claude"
    " Console (Settings, API keys), put it in {key}, then run resume."
)

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
