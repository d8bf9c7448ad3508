"""Groq's API: OpenAI's language with rules of its own.

The traps (PROVIDERS §3.4): ``x-ratelimit-*-requests`` is always the day's and ``-tokens`` the
minute's; days are refilled evenly, so that a wait is minutes, not until midnight; a request larger
than a minute's tokens is a 413 with the code of a rate limit.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from batchrunner.core.caching import AUTOMATIC
from batchrunner.core.counting import Counting
from batchrunner.core.rules import Reset, Rule, words
from batchrunner.models import ErrorKind, Verdict
from batchrunner.providers import openai
from batchrunner.providers.fixes import SHORTEN
from batchrunner.providers.openai import OPENAI

__all__ = ["GROQ", "RULES"]

RULES: Final = (
    Rule(
        id="groq-larger-than-the-limit",
        statuses=(413,),
        codes=frozenset({"rate_limit_exceeded"}),
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.REQUEST_TOO_LARGE,
        fix=SHORTEN,
    ),
    Rule(
        # Its words may name the minute's tokens; that no request is left is the day's.
        id="groq-day",
        statuses=(429,),
        header=("x-ratelimit-remaining-requests", "0"),
        verdict=Verdict.WAIT_FOR_DAY,
        kind=ErrorKind.DAILY_LIMIT,
        reset=Reset.HINT,
    ),
    Rule(
        id="groq-capacity",
        statuses=(498,),
        verdict=Verdict.RETRY,
        kind=ErrorKind.OVERLOADED,
    ),
    Rule(
        id="groq-restricted",
        statuses=(400, 403),
        message_re=words(r"organization has been restricted"),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        says="Groq has restricted the organization",
        fix="Write to Groq's support; or give another organization's key: {set_key}",
    ),
    Rule(
        # The model wrote a tool call or JSON that is none; it may do better the next time.
        id="groq-written-badly",
        statuses=(400, 422),
        codes=frozenset({"tool_use_failed", "json_validate_failed"}),
        verdict=Verdict.RETRY,
        kind=ErrorKind.BAD_RESPONSE,
    ),
    Rule(
        id="groq-dependency",
        statuses=(424,),
        verdict=Verdict.RETRY,
        kind=ErrorKind.SERVER_ERROR,
    ),
)

GROQ: Final = dataclasses.replace(
    OPENAI,
    name="groq",
    title="Groq",
    default_base_url="https://api.groq.com/openai/v1",
    base_url_env="GROQ_BASE_URL",
    key_envs=("GROQ_API_KEY",),
    base_rule="Groq's base URL is https://api.groq.com/openai/v1.",
    day_zone="rolling",
    organization_header=None,
    request_id_headers=("x-request-id", "x-groq-request-id"),
    requests_limit="rpd",
    counting=Counting(cache_reads=False),
    caching=AUTOMATIC,
    rules=RULES,
    make_headers=openai.bearer,
    pool_of=lambda model: model,
)
