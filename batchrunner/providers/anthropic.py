"""Anthropic's Messages API as data: addresses, headers, answers, and the rules of its errors.

The traps (PROVIDERS §1.4): a spent limit comes as 400 with a date in the text, as 402, and as 429
without ``retry-after``; the last fails until 00:00 UTC on the first of next month.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from batchrunner.core.caching import Caching
from batchrunner.core.classify import Answer
from batchrunner.core.counting import Counting
from batchrunner.core.credentials import Credential
from batchrunner.core.prices import TIERS
from batchrunner.core.rules import Reset, Rule, words
from batchrunner.core.wordings import OTHER_PLACE, REGION_SAYS
from batchrunner.models import ErrorKind, Usage, Verdict
from batchrunner.providers.fixes import (
    ADD_CREDIT_ANTHROPIC,
    NOT_A_SUBSCRIPTION,
    RAISE_LIMIT,
    SAMPLING_SAYS,
)
from batchrunner.providers.profile import Body, Profile
from batchrunner.providers.salvage import salvage

__all__ = ["ANTHROPIC", "RULES"]

_MESSAGES: Final = "/v1/messages"

RULES: Final = (
    Rule(
        id="anthropic-no-credit",
        statuses=("4xx",),
        body_re=words(r"credit balance is too low"),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.CREDIT,
        account_wide=True,
        fix=ADD_CREDIT_ANTHROPIC,
    ),
    Rule(
        id="anthropic-spend-limit-dated",
        statuses=(400, 429),
        body_re=words(
            r"reached your specified.{0,40}usage limits.*regain access on \d{4}-\d\d-\d\d"
        ),
        verdict=Verdict.WAIT_FOR_DAY,
        kind=ErrorKind.SPEND_LIMIT,
        account_wide=True,
        reset=Reset.HINT,
        fix=RAISE_LIMIT,
    ),
    Rule(
        id="anthropic-spend-limit",
        statuses=(400, 429),
        body_re=words(r"reached your specified.{0,40}usage limits"),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.SPEND_LIMIT,
        account_wide=True,
        fix=RAISE_LIMIT,
    ),
    Rule(
        id="anthropic-month-spent",
        statuses=(429,),
        codes=frozenset({"enforced_spend_limit_reached", "contract_spend_limit_reached"}),
        verdict=Verdict.WAIT_FOR_DAY,
        kind=ErrorKind.SPEND_LIMIT,
        account_wide=True,
        reset=Reset.NEXT_MONTH,
        fix=RAISE_LIMIT,
    ),
    Rule(
        id="anthropic-linked-spend-limit",
        statuses=("4xx",),
        codes=frozenset({"linked_organization_spend_limit_reached"}),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.SPEND_LIMIT,
        account_wide=True,
        fix=RAISE_LIMIT,
    ),
    Rule(
        id="anthropic-account-state",
        statuses=("4xx",),
        codes=frozenset(
            {
                "organization_on_hold",
                "cmek_key_disabled",
                "cmek_key_network_blocked",
                "organization_type_not_supported",
                "sandbox_egress_restricted",
            }
        ),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        fix="Settle the organization's state at the provider, then: batchrunner resume",
    ),
    Rule(
        id="anthropic-wrong-credential",
        statuses=("4xx",),
        body_re=words(
            r"only authorized for use with Claude Code"
            r"|OAuth (?:authentication|tokens?) (?:is|are) (?:currently )?not (?:allowed|supported)"
        ),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.AUTHENTICATION,
        account_wide=True,
        says="The token is that of a subscription, and the API does not take it",
        fix=NOT_A_SUBSCRIPTION,
    ),
    Rule(
        # The whole of what it says to an address in a country that is not served.
        id="anthropic-region",
        statuses=(403,),
        message_re=words(r"^request not allowed\W*$"),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.PERMISSION,
        account_wide=True,
        says=REGION_SAYS,
        fix=OTHER_PLACE,
    ),
    Rule(
        id="anthropic-version",
        statuses=(400,),
        message_re=words(r"anthropic-version"),
        verdict=Verdict.HALT_RUN,
        kind=ErrorKind.INVALID_REQUEST,
        account_wide=True,
        says="The API does not take the version that was asked for",
        fix="Ask for one that it has: batchrunner resume --api-version 2023-06-01",
    ),
    Rule(
        id="anthropic-removed-field",
        statuses=(400,),
        message_re=words(
            r"\b(?:temperature|top_p|top_k)\b.{0,80}(?:not (?:permitted|supported|allowed|available)"
            r"|no longer|removed|deprecated)"
            r"|(?:extra inputs|unsupported|unexpected|removed).{0,80}\b(?:temperature|top_p|top_k)\b"
        ),
        verdict=Verdict.FAIL_JOB,
        kind=ErrorKind.INVALID_REQUEST,
        says=SAMPLING_SAYS,
        fix="Take the fields out, and submit the file with --update; or, if a newer API version was"
        " asked for, ask for the older: batchrunner retry --api-version 2023-06-01",
    ),
)


class _Creation(msgspec.Struct):
    """``cache_creation``."""

    ephemeral_1h_input_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    #: Gateways put something else into them, or nothing.
    cache_creation: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    service_tier: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    speed: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Message(msgspec.Struct):
    type: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: _Usage | None = None
    #: The answer of ``count_tokens``.
    input_tokens: int | None = None
    error: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode: Final = msgspec.json.Decoder(_Message).decode
_decode_creation: Final = msgspec.json.Decoder(_Creation).decode
_NULL: Final = b"null"


def _read(body: bytes, path: str) -> Answer:  # noqa: ARG001  # one form for all paths
    try:
        message = _decode(body)
    except msgspec.ValidationError:
        message = salvage(body, _Message)
    if message.type == "error" or (
        message.error is not msgspec.UNSET and bytes(message.error) != _NULL
    ):
        return Answer(Usage(), True)
    usage = message.usage
    if usage is None:
        counted = message.input_tokens
        return Answer(
            Usage(model=message.model, input_tokens=counted, is_billed=counted is None), False
        )
    sent = usage.input_tokens
    if sent is not None:
        sent += (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0)
    return Answer(
        Usage(
            model=message.model,
            finish_reason=message.stop_reason,
            input_tokens=sent,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_input_tokens,
            cache_write_tokens=usage.cache_creation_input_tokens,
            cache_write_1h_tokens=_for_an_hour(usage.cache_creation),
            tier=_tier(usage),
        ),
        False,
    )


def _for_an_hour(creation: msgspec.Raw | msgspec.UnsetType) -> int | None:
    if creation is msgspec.UNSET:
        return None
    try:
        return _decode_creation(creation).ephemeral_1h_input_tokens
    except msgspec.ValidationError:
        return _salvaged(creation).ephemeral_1h_input_tokens


def _salvaged(creation: msgspec.Raw) -> _Creation:
    try:
        return salvage(creation, _Creation)
    except msgspec.ValidationError:
        return _Creation()


def _tier(usage: _Usage) -> str | None:
    for said in (usage.speed, usage.service_tier):
        if said is not msgspec.UNSET and (tier := TIERS.get(bytes(said))) is not None:
            return tier
    return None


class _Block(msgspec.Struct):
    type: str | None = None
    text: str | None = None


class _Content(msgspec.Struct):
    content: list[_Block] | None = None


_decode_content: Final = msgspec.json.Decoder(_Content).decode


def _output_text(body: bytes, path: str | None) -> str | None:  # noqa: ARG001
    try:
        content = _decode_content(body).content
    except (ValueError, RecursionError):
        return None
    if content is None:
        return None
    return "".join(block.text or "" for block in content if block.type == "text")


def _headers(
    credential: Credential | None, api_version: str | None, _environ: Mapping[str, str]
) -> dict[str, str]:
    headers = {"content-type": "application/json", "anthropic-version": api_version or ""}
    if credential is None:
        return headers
    if credential.source.startswith("ANTHROPIC_AUTH_TOKEN") or credential.value.startswith(
        "sk-ant-oat"
    ):
        return {**headers, "authorization": f"Bearer {credential.value}"}
    return {**headers, "x-api-key": credential.value}


#: What of a request its count depends on, and the endpoint for that takes.
_COUNTED: Final = (
    "model", "messages", "system", "tools", "tool_choice", "thinking", "output_config",
)  # fmt: skip


def _count(body: Body) -> tuple[str, Body] | None:
    if "messages" not in body:
        return None
    return f"{_MESSAGES}/count_tokens", {name: body[name] for name in _COUNTED if name in body}


_DATED: Final = re.compile(r"(?:-latest|[-@]\d{8})$")
#: All Opus 4.x share one limit, and so do all Sonnet 4.x.
_SHARED: Final = re.compile(r"^(claude-(?:opus|sonnet)-4)(?:[-.]\d{1,2})?$")


def _pool_of(model: str) -> str:
    name = _DATED.sub("", model)
    match = _SHARED.match(name)
    return f"{match[1]}.x" if match else name


#: Only what is marked is kept, and of some models only if it is longer than of most.
CACHING: Final = Caching(
    is_marked=True,
    least_of=(
        (re.compile(r"(?:opus|haiku)-4[-.]5|opus-4[-.]6"), 4_096),
        (re.compile(r"sonnet-4[-.]6|3[-.]5-haiku|3-haiku|haiku-3"), 2_048),
    ),
)

ANTHROPIC: Final = Profile(
    name="anthropic",
    title="Anthropic",
    default_base_url="https://api.anthropic.com",
    base_url_env="ANTHROPIC_BASE_URL",
    key_envs=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
    base_rule="Anthropic's base URL has no /v1 at its end: https://api.anthropic.com.",
    base_has_version=False,
    # Its pages are of 20 where nobody asks for more.
    models_path="/v1/models?limit=1000",
    needs_model=True,
    demands_max_tokens=True,
    allow_any_url=False,
    answers_json=True,
    default_api_version="2023-06-01",
    organization_header="anthropic-organization-id",
    counting=Counting(cache_reads=False, cache_reads_of=re.compile(r"3[-.]5-haiku|haiku-3[-.]5")),
    caching=CACHING,
    count=_count,
    rules=RULES,
    fixed_path=_MESSAGES,
    default_path_for=lambda _body: _MESSAGES,
    make_headers=_headers,
    read=_read,
    output_text=_output_text,
    pool_of=_pool_of,
)
