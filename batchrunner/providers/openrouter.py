"""OpenRouter's API: OpenAI's language in front of many providers.

The traps (PROVIDERS §3.5): an HTTP 200 can carry an error, whose ``code`` is the true status; a 403 is
moderation, not the key; a 402 is an empty account, a key's own limit, too much in flight, or one
job that is too dear, told by ``metadata``; free models share a day, the UTC one, whose end stands in
epoch milliseconds.
"""

from __future__ import annotations

import dataclasses
from typing import Final

import msgspec

from batchrunner.core.caching import AUTOMATIC
from batchrunner.core.classify import Answer
from batchrunner.core.counting import AS_USED
from batchrunner.core.rules import Reset, Rule, words
from batchrunner.core.wordings import MAY_NOT_SAYS, OTHER_PLACE, REGION, REGION_SAYS
from batchrunner.models import ErrorKind, Verdict
from batchrunner.providers import openai
from batchrunner.providers.fixes import ADD_CREDIT, DEAR_SAYS, OTHER_MODEL
from batchrunner.providers.openai import OPENAI
from batchrunner.providers.salvage import salvage

__all__ = ["OPENROUTER", "RULES"]

RULES: Final = (
    Rule(
        id="openrouter-in-flight",
        statuses=(402,),
        codes=frozenset({"openrouter_in_flight_budget"}),
        verdict=Verdict.PAUSE,
        kind=ErrorKind.RATE_LIMITED,
        account_wide=True,
    ),
    Rule(
        id="openrouter-too-dear",
        statuses=(402,),
        codes=frozenset({"weight_exceeds_budget"}),
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.REQUEST_TOO_LARGE,
        says=DEAR_SAYS,
        fix="Lower max_tokens, or add credit; then: batchrunner retry",
    ),
    Rule(
        id="openrouter-key-limit",
        statuses=(402, 403),
        codes=frozenset({"openrouter_key_limit"}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.SPEND_LIMIT,
        account_wide=True,
        says="The key has used up the limit that was set for it",
        fix="Raise the key's limit at openrouter.ai/settings/keys, then: batchrunner resume",
    ),
    Rule(
        id="openrouter-credit",
        statuses=(402,),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.CREDIT,
        account_wide=True,
        fix=ADD_CREDIT,
    ),
    Rule(
        id="openrouter-free-day",
        statuses=(429,),
        body_re=words(r"free-models-per-day|openrouter_free_tier_daily|per-day"),
        verdict=Verdict.WAIT_FOR_DAY,
        kind=ErrorKind.DAILY_LIMIT,
        reset=Reset.HINT_OR_DAY,
    ),
    Rule(
        # Another's allowance, that all customers share.
        id="openrouter-upstream",
        statuses=(429,),
        codes=frozenset({"upstream_provider_shared_pool"}),
        verdict=Verdict.RETRY,
        kind=ErrorKind.OVERLOADED,
    ),
    Rule(
        id="openrouter-permission",
        statuses=(403,),
        codes=frozenset({"permission_denied"}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        says=MAY_NOT_SAYS,
        fix="Have the permission granted to the key, then: batchrunner resume; or give another:"
        " {set_key}",
    ),
    Rule(
        id="openrouter-region",
        statuses=(403,),
        message_re=REGION,
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        says=REGION_SAYS,
        fix=OTHER_PLACE,
    ),
    Rule(
        id="openrouter-moderation",
        statuses=(403,),
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.CONTENT_REFUSED,
        fix="Change what the job asks for, then submit with --update.",
    ),
    Rule(
        id="openrouter-data-policy",
        statuses=(404,),
        message_re=words(r"data policy|privacy settings|guardrail"),
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.PERMISSION,
        says="The account's privacy settings leave no provider for this model",
        fix="Change them at openrouter.ai/settings/privacy, or give another model: batchrunner resume"
        " --set model=NAME",
    ),
    Rule(
        id="openrouter-model",
        statuses=(404,),
        message_re=words(r"no endpoints found|no allowed providers"),
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.MODEL_NOT_FOUND,
        fix=OTHER_MODEL,
    ),
)


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Choices(msgspec.Struct):
    choices: list[_Choice] | None = None


_decode: Final = msgspec.json.Decoder(_Choices).decode


def _read(body: bytes, path: str) -> Answer:
    """Read an answer; one that broke off with ``finish_reason: "error"`` is an error."""
    answer = openai.read(body, path)
    try:
        choices = _decode(body).choices
    except msgspec.ValidationError:
        choices = salvage(body, _Choices).choices
    if choices and choices[0].finish_reason == "error":
        return Answer(answer.usage, True)
    return answer


OPENROUTER: Final = dataclasses.replace(
    OPENAI,
    counting=AS_USED,
    caching=AUTOMATIC,
    name="openrouter",
    title="OpenRouter",
    default_base_url="https://openrouter.ai/api/v1",
    base_url_env="OPENROUTER_BASE_URL",
    key_envs=("OPENROUTER_API_KEY",),
    base_rule="OpenRouter's base URL is https://openrouter.ai/api/v1.",
    day_zone="UTC",
    organization_header=None,
    request_id_headers=("x-generation-id", "x-request-id", "cf-ray"),
    rules=RULES,
    default_path_for=openai.chat_path_for,
    make_headers=openai.bearer,
    read=_read,
    # All free models share 20 requests a minute and one day.
    pool_of=lambda model: "free models" if model.endswith(":free") else model,
)
