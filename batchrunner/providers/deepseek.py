"""DeepSeek's API: OpenAI's language.

The traps (PROVIDERS §3.3): there is no limit a minute or a day, only one of requests in flight, so
that a 429 means *fewer at once*; while a request is queued the server sends empty lines, so that an answer
begins with white space and no silence ever ends it but ``--timeout``.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from batchrunner.core.caching import AUTOMATIC
from batchrunner.core.counting import AS_USED
from batchrunner.core.rules import Rule, words
from batchrunner.models import ErrorKind, Verdict
from batchrunner.providers import openai
from batchrunner.providers.fixes import OTHER_MODEL
from batchrunner.providers.openai import OPENAI

__all__ = ["DEEPSEEK", "RULES"]

RULES: Final = (
    Rule(
        id="deepseek-model",
        statuses=(400, 404),
        message_re=words(r"model not exist"),
        verdict=Verdict.HOLD_MODEL,
        kind=ErrorKind.MODEL_NOT_FOUND,
        fix=OTHER_MODEL,
    ),
    Rule(
        id="deepseek-too-many-at-once",
        statuses=(429,),
        verdict=Verdict.PAUSE,
        kind=ErrorKind.RATE_LIMITED,
        says="DeepSeek has as many requests in flight as it takes (-c N sends fewer)",
    ),
)

DEEPSEEK: Final = dataclasses.replace(
    OPENAI,
    counting=AS_USED,
    caching=AUTOMATIC,
    name="deepseek",
    title="DeepSeek",
    default_base_url="https://api.deepseek.com",
    base_url_env="DEEPSEEK_BASE_URL",
    key_envs=("DEEPSEEK_API_KEY",),
    base_rule="DeepSeek's base URL is https://api.deepseek.com.",
    day_zone="UTC",
    organization_header=None,
    request_id_headers=("x-ds-trace-id", "x-request-id"),
    rules=RULES,
    default_path_for=openai.chat_path_for,
    make_headers=openai.bearer,
    pool_of=lambda model: model,
)
