"""What Gemini's errors mean.

The traps (PROVIDERS §3.1): a bad key is a 400; one 429 lists several violated quotas, and the one
that counts is told by ``quotaId``; a day's violation may come with a wait of seconds, which is wrong;
errors of the compatible endpoint are lists of one.
"""

from __future__ import annotations

from typing import Final

from batchrunner.core.rules import Reset, Rule, words
from batchrunner.models import ErrorKind, Verdict
from batchrunner.providers.fixes import OTHER_MODEL

__all__ = ["RULES"]

_KEY_FIX: Final = "Make a key at {page}, then: {set_key}"

RULES: Final = (
    Rule(
        id="gemini-not-on-this-tier",
        statuses=("4xx",),
        codes=frozenset({"resource_exhausted"}),
        body_re=words(r'limit: 0(?!\d|\.\d)|"quotaValue"\s*:\s*"?0"?\s*[,}]'),
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.PERMISSION,
        says="The project's tier gives this model no requests at all",
        fix="Turn billing on for the project, or give another model: batchrunner resume --set"
        " model=NAME",
    ),
    Rule(
        id="gemini-day",
        statuses=("4xx", "5xx"),
        body_re=words(r'"quotaId"\s*:\s*"[^"]*PerDay'),
        verdict=Verdict.WAIT_FOR_DAY,
        kind=ErrorKind.DAILY_LIMIT,
        # A day's violation has been seen with a delay of 38 s.
        reset=Reset.NEXT_DAY,
    ),
    Rule(
        # Capacity that all share, not the project's quota.
        id="gemini-shared-capacity",
        statuses=(429,),
        message_re=words(r"^resource exhausted\. please try again later"),
        verdict=Verdict.RETRY,
        kind=ErrorKind.OVERLOADED,
    ),
    Rule(
        id="gemini-exhausted",
        statuses=("4xx", "5xx"),
        codes=frozenset({"resource_exhausted"}),
        verdict=Verdict.PAUSE,
        kind=ErrorKind.RATE_LIMITED,
    ),
    Rule(
        id="gemini-key-expired",
        statuses=(400,),
        codes=frozenset({"api_key_invalid"}),
        message_re=words(r"expired"),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.AUTHENTICATION,
        account_wide=True,
        says="The key has expired",
        fix=_KEY_FIX,
    ),
    Rule(
        id="gemini-key",
        statuses=(400,),
        codes=frozenset({"api_key_invalid"}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.AUTHENTICATION,
        account_wide=True,
        says="The key is refused",
        fix=_KEY_FIX,
    ),
    Rule(
        id="gemini-two-credentials",
        statuses=(400,),
        message_re=words(r"multiple authentication credentials"),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.AUTHENTICATION,
        account_wide=True,
        fix="Leave other credentials out of -H, or use the address without /openai: batchrunner resume"
        " --base-url https://generativelanguage.googleapis.com/v1beta",
    ),
    Rule(
        id="gemini-key-kind",
        statuses=(401,),
        codes=frozenset({"access_token_type_unsupported"}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.AUTHENTICATION,
        account_wide=True,
        says="The address does not take this kind of key",
        fix="Use the base URL without /openai: batchrunner resume --base-url"
        " https://generativelanguage.googleapis.com/v1beta",
    ),
    Rule(
        id="gemini-key-leaked",
        statuses=(403,),
        message_re=words(r"reported as leaked"),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.AUTHENTICATION,
        account_wide=True,
        says="The key was made public and is blocked",
        fix=_KEY_FIX,
    ),
    Rule(
        id="gemini-service-off",
        statuses=(403,),
        codes=frozenset({"service_disabled", "api_key_service_blocked"}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        says="The key's project may not use the Gemini API",
        fix="Enable the Generative Language API for the project, and take the key's restrictions off"
        " it; then: batchrunner resume",
    ),
    Rule(
        id="gemini-no-free-tier",
        statuses=(400,),
        codes=frozenset({"failed_precondition"}),
        message_re=words(r"free tier|billing"),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        says="The free tier is not to be had in the country this machine connects from",
        fix="Turn billing on for the project in Google AI Studio, then: batchrunner resume",
    ),
    Rule(
        id="gemini-model",
        statuses=(404,),
        codes=frozenset({"not_found"}),
        message_re=words(r"\bmodels/|\bmodel\b"),
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.MODEL_NOT_FOUND,
        fix=OTHER_MODEL,
    ),
    Rule(
        id="gemini-model-form",
        statuses=(400,),
        message_re=words(r"unexpected model name format"),
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.MODEL_NOT_FOUND,
        fix=OTHER_MODEL,
    ),
)
