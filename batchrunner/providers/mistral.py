"""Mistral's API: OpenAI's language with error objects of its own.

The traps (PROVIDERS §3.2): errors stand on top, not under ``error``, and a validation's under
``detail``; there is a limit a second, which the minute's header does not show, and one a month.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from batchrunner.core.counting import AS_USED
from batchrunner.core.rules import Reset, Rule, words
from batchrunner.models import ErrorKind, Verdict
from batchrunner.providers import openai
from batchrunner.providers.fixes import OTHER_MODEL, RAISE_LIMIT
from batchrunner.providers.openai import OPENAI

__all__ = ["MISTRAL", "RULES"]

RULES: Final = (
    Rule(
        id="mistral-model",
        statuses=(400, 404, 422),
        codes=frozenset({"invalid_model"}),
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.MODEL_NOT_FOUND,
        fix=OTHER_MODEL,
    ),
    Rule(
        id="mistral-month-spent",
        statuses=(429,),
        body_re=words(r"per month|monthly"),
        verdict=Verdict.WAIT_FOR_DAY,
        kind=ErrorKind.SPEND_LIMIT,
        account_wide=True,
        reset=Reset.NEXT_MONTH,
        fix=RAISE_LIMIT,
    ),
    Rule(
        id="mistral-capacity",
        statuses=(429,),
        codes=frozenset({"service_tier_capacity_exceeded"}),
        verdict=Verdict.PAUSE,
        kind=ErrorKind.OVERLOADED,
    ),
)

MISTRAL: Final = dataclasses.replace(
    OPENAI,
    counting=AS_USED,
    name="mistral",
    title="Mistral",
    default_base_url="https://api.mistral.ai/v1",
    base_url_env="MISTRAL_BASE_URL",
    key_envs=("MISTRAL_API_KEY",),
    base_rule="Mistral's base URL is https://api.mistral.ai/v1.",
    day_zone="UTC",
    organization_header=None,
    request_id_headers=("mistral-correlation-id", "x-kong-request-id", "x-request-id"),
    rules=RULES,
    default_path_for=openai.chat_path_for,
    make_headers=openai.bearer,
    pool_of=lambda model: model,
)
