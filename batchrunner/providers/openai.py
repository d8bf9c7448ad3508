"""OpenAI's API, and that of the servers that speak its language, as data.

The traps (PROVIDERS §2): a 429 is money, a day, a minute or a request that never fits, told by
``error.code`` before ``error.type`` before the text; a Responses answer with HTTP 200 can have
failed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from batchrunner.core.caching import AUTOMATIC
from batchrunner.core.classify import Answer
from batchrunner.core.counting import Counting, UpFront
from batchrunner.core.credentials import Credential
from batchrunner.core.prices import TIERS
from batchrunner.core.rules import Reset, Rule, words
from batchrunner.models import ErrorKind, Usage, Verdict
from batchrunner.providers.fixes import ADD_CREDIT_OPENAI, SHORTEN
from batchrunner.providers.profile import Body, Profile
from batchrunner.providers.salvage import salvage

__all__ = [
    "CHAT",
    "EMBEDDINGS",
    "OPENAI",
    "RULES",
    "bearer",
    "chat_path_for",
    "output_text",
    "read",
]

CHAT: Final = "/v1/chat/completions"
_RESPONSES: Final = "/v1/responses"
EMBEDDINGS: Final = "/v1/embeddings"

RULES: Final = (
    Rule(
        id="openai-spend-limit",
        statuses=("4xx",),
        codes=frozenset(
            {
                "organization_spend_limit_exceeded",
                "project_spend_limit_exceeded",
                "organization_usage_limit_exceeded",
                "billing_hard_limit_reached",
            }
        ),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.SPEND_LIMIT,
        account_wide=True,
        fix="Raise the limit in the provider's console, then: batchrunner resume",
    ),
    Rule(
        id="openai-no-credit",
        statuses=("4xx",),
        codes=frozenset({"insufficient_quota", "credit_balance_exhausted"}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.CREDIT,
        account_wide=True,
        fix=ADD_CREDIT_OPENAI,
    ),
    Rule(
        id="openai-other-organization",
        statuses=("4xx",),
        codes=frozenset({"mismatched_organization", "invalid_organization", "mismatched_project"}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.AUTHENTICATION,
        account_wide=True,
        says="The key is not one of the organization or project that the request names",
        fix="Correct or unset OPENAI_ORG_ID and OPENAI_PROJECT_ID, then: batchrunner resume",
    ),
    Rule(
        id="openai-larger-than-the-limit",
        statuses=(429,),
        codes=frozenset({"request_too_large"}),
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.REQUEST_TOO_LARGE,
        fix=SHORTEN,
    ),
    Rule(
        id="openai-flex-unavailable",
        statuses=(429,),
        message_re=words(r"resource[ _]unavailable"),
        verdict=Verdict.RETRY,
        kind=ErrorKind.OVERLOADED,
    ),
    Rule(
        id="openai-slow-down",
        statuses=(429, 503),
        codes=frozenset({"slow_down"}),
        verdict=Verdict.PAUSE,
        kind=ErrorKind.RATE_LIMITED,
        reset=Reset.NOT_SAID,
    ),
)


class _Details(msgspec.Struct):
    """``prompt_tokens_details``."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    #: DeepSeek's own word for what it read from its cache.
    prompt_cache_hit_tokens: int | None = None
    #: Not every server that speaks the language has the same in them.
    prompt_tokens_details: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    input_tokens_details: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Result(msgspec.Struct):
    model: str | None = None
    status: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    incomplete_details: _Incomplete | None = None
    service_tier: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode: Final = msgspec.json.Decoder(_Result).decode
_NO_DETAILS: Final = _Details()
_decode_details: Final = msgspec.json.Decoder(_Details).decode
_NULL: Final = b"null"


def read(body: bytes, path: str) -> Answer:  # noqa: ARG001  # one form for all paths
    """Read usage and presence of an error out of any answer of OpenAI's language."""
    try:
        result = _decode(body)
    except msgspec.ValidationError:
        result = salvage(body, _Result)
    usage = result.usage
    sent = got = None
    cached = None
    details = _NO_DETAILS
    if usage is not None:
        sent = usage.prompt_tokens if usage.prompt_tokens is not None else usage.input_tokens
        got = usage.output_tokens if usage.completion_tokens is None else usage.completion_tokens
        details = _details(usage.prompt_tokens_details)
        if details is _NO_DETAILS:
            details = _details(usage.input_tokens_details)
        cached = details.cached_tokens
        if cached is None:
            cached = usage.prompt_cache_hit_tokens
    reason = result.status
    if result.choices:
        reason = result.choices[0].finish_reason
    elif result.incomplete_details is not None:
        reason = result.incomplete_details.reason or reason
    return Answer(
        Usage(
            model=result.model,
            finish_reason=reason,
            input_tokens=sent,
            output_tokens=got,
            cache_read_tokens=cached,
            cache_write_tokens=details.cache_write_tokens,
            tier=None
            if result.service_tier is msgspec.UNSET
            else TIERS.get(bytes(result.service_tier)),
        ),
        result.status == "failed"
        or (result.error is not msgspec.UNSET and bytes(result.error) != _NULL),
    )


def _details(details: msgspec.Raw | msgspec.UnsetType) -> _Details:
    if details is msgspec.UNSET:
        return _NO_DETAILS
    try:
        return _decode_details(details)
    except msgspec.ValidationError:
        return _salvaged(details)


def _salvaged(details: msgspec.Raw) -> _Details:
    try:
        return salvage(details, _Details)
    except msgspec.ValidationError:
        return _NO_DETAILS


class _Part(msgspec.Struct):
    type: str | None = None
    text: str | None = None


class _ChatMessage(msgspec.Struct):
    content: str | list[_Part] | None = None


class _ChatChoice(msgspec.Struct):
    message: _ChatMessage | None = None
    #: The old completions endpoint.
    text: str | None = None


class _OutputItem(msgspec.Struct):
    type: str | None = None
    content: list[_Part] | None = None


class _Vector(msgspec.Struct):
    embedding: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Output(msgspec.Struct):
    choices: list[_ChatChoice] | None = None
    output: list[_OutputItem] | None = None
    data: list[_Vector] | None = None


_decode_output: Final = msgspec.json.Decoder(_Output).decode


def _parts(parts: list[_Part], kinds: tuple[str, ...]) -> str:
    return "".join(part.text or "" for part in parts if part.type in kinds)


def output_text(body: bytes, path: str | None) -> str | None:  # noqa: ARG001
    """Return the first choice's text, a response's output text, or the first vector as JSON."""
    try:
        result = _decode_output(body)
    except (ValueError, RecursionError):
        return None
    if result.choices:
        choice = result.choices[0]
        content = choice.message.content if choice.message is not None else choice.text
        return _parts(content, ("text",)) if isinstance(content, list) else content
    if result.output is not None:
        return "".join(_parts(item.content or [], ("output_text",)) for item in result.output)
    if result.data and result.data[0].embedding is not msgspec.UNSET:
        return bytes(result.data[0].embedding).decode()
    return None


def _default_path_for(body: Body) -> str:
    if "input" not in body or "messages" in body:
        return CHAT
    return EMBEDDINGS if "embed" in str(body.get("model", "")).lower() else _RESPONSES


def chat_path_for(body: Body) -> str:
    """Return the path of a bare body at a provider that has no Responses API."""
    return EMBEDDINGS if "input" in body and "messages" not in body else CHAT


def bearer(
    credential: Credential | None, _api_version: str | None, _environ: Mapping[str, str]
) -> dict[str, str]:
    """Return what most providers of OpenAI's language want: the key as a bearer."""
    headers = {"content-type": "application/json"}
    if credential is not None:
        headers["authorization"] = f"Bearer {credential.value}"
    return headers


def _headers(
    credential: Credential | None, _api_version: str | None, environ: Mapping[str, str]
) -> dict[str, str]:
    headers = bearer(credential, None, environ)
    for variable, name in (
        ("OPENAI_ORG_ID", "openai-organization"),
        ("OPENAI_PROJECT_ID", "openai-project"),
    ):
        if value := environ.get(variable, "").strip():
            headers[name] = value
    return headers


_DATED: Final = re.compile(r"-\d{4}-\d\d-\d\d$")

OPENAI: Final = Profile(
    name="openai",
    title="OpenAI",
    default_base_url="https://api.openai.com/v1",
    base_url_env="OPENAI_BASE_URL",
    key_envs=("OPENAI_API_KEY",),
    base_rule="OpenAI's base URL ends in /v1: https://api.openai.com/v1.",
    base_has_version=True,
    models_path="/v1/models",
    needs_model=True,
    demands_max_tokens=False,
    allow_any_url=False,
    answers_json=True,
    day_zone="rolling",
    organization_header="openai-organization",
    request_id_headers=("x-request-id", "request-id"),
    counting=Counting(up_front=UpFront.LARGER, refused=True),
    caching=AUTOMATIC,
    tokens_limit="tpm",
    rules=RULES,
    fixed_path=None,
    default_path_for=_default_path_for,
    make_headers=_headers,
    read=read,
    output_text=output_text,
    pool_of=lambda model: _DATED.sub("", model),
)
